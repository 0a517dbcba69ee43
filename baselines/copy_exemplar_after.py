"""Control: the exemplar's edited image, whatever the query. It shows the edit and keeps nothing of the query."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editclip.editing import EditRequest

if TYPE_CHECKING:
    from PIL.Image import Image

LABEL = "Copy of the exemplar's result"
PAPER = ""
LICENSE = "Apache-2.0"
CONDITIONING = "none"
NEEDS = ("exemplar",)
STAGES = ("edit",)
WEIGHTS = ()
RESOLUTION = None
GPU_GB = 0
DETERMINISTIC = True
TRAINED_ON = ()
OPTIONS: dict[str, Any] = {}


class CopyExemplarAfter:
    """Returns the first pair's image after the edit."""

    def edit(self, requests: Sequence[EditRequest]) -> "list[Image]":
        """A copy of each exemplar's image after the edit."""
        return [request.exemplar.after.copy() for request in requests]


def load(weights: Mapping[str, Path], options: Mapping[str, Any], device: str, stage: str) -> CopyExemplarAfter:
    """The control needs no weights, options or device."""
    return CopyExemplarAfter()
