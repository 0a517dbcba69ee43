"""Control: the query, unedited. It keeps everything and edits nothing."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editclip.editing import EditRequest, Exemplar

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

LABEL = "Copy of the query"
PAPER = ""
LICENSE = "Apache-2.0"
CONDITIONING = "none"
NEEDS = ()
WEIGHTS = ()
RESOLUTION = None
GPU_GB = 0
DETERMINISTIC = True
TRAINED_ON = ()
OPTIONS: dict[str, Any] = {}


class CopyQuery:
    """Returns each query as it is."""

    def prepare(self, exemplar: Exemplar) -> "dict[str, torch.Tensor]":
        """Nothing depends on the exemplar."""
        return {}

    def edit(self, requests: Sequence[EditRequest]) -> "list[Image]":
        """A copy of each query."""
        return [request.query.copy() for request in requests]


def load(weights: Mapping[str, Path], options: Mapping[str, Any], device: str) -> CopyQuery:
    """The control needs no weights, options or device."""
    return CopyQuery()
