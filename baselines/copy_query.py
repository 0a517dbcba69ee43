"""Control: the query, unedited. It keeps everything and edits nothing."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editclip.editing import EditRequest

if TYPE_CHECKING:
    from PIL.Image import Image

LABEL = "Copy of the query"
PAPER = ""
LICENSE = "Apache-2.0"
CONDITIONING = "none"
NEEDS = ()
STAGES = ("edit",)
WEIGHTS = ()
RESOLUTION = None
GPU_GB = 0
DETERMINISTIC = True
TRAINED_ON = ()
OPTIONS: dict[str, Any] = {}


class CopyQuery:
    """Returns each query as it is."""

    def edit(self, requests: Sequence[EditRequest]) -> "list[Image]":
        """A copy of each query."""
        return [request.query.copy() for request in requests]


def load(weights: Mapping[str, Path], options: Mapping[str, Any], device: str, stage: str) -> CopyQuery:
    """The control needs no weights, options or device."""
    return CopyQuery()
