"""What a method returns, checked before it counts as an edit."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from editclip.editing import EditRequest

if TYPE_CHECKING:
    from PIL.Image import Image


def refuse_unusable(images: "Sequence[Image]", requests: Sequence[EditRequest]) -> None:
    """Refuse outputs that are not one RGB image of the query's size for each request.

    Raises:
        ValueError: their number, a mode or a size is another.
    """
    if len(images) != len(requests):
        raise ValueError(f"the method returned {len(images)} images for {len(requests)} requests")
    for image, request in zip(images, requests, strict=True):
        if image.mode != "RGB" or image.size != request.query.size:
            raise ValueError(f"the method returned {image.mode} {image.size}, not RGB {request.query.size}")
