"""Control: the wanted image itself, where the benchmark knows it; samples without one are skipped."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editclip.editing import EditRequest

if TYPE_CHECKING:
    from PIL.Image import Image

LABEL = "Ground truth"
PAPER = ""
LICENSE = "Apache-2.0"
CONDITIONING = "none"
NEEDS = ("ground_truth",)
STAGES = ("edit",)
WEIGHTS = ()
RESOLUTION = None
GPU_GB = 0
DETERMINISTIC = True
TRAINED_ON = ()
OPTIONS: dict[str, Any] = {}


class GroundTruth:
    """Returns the answer."""

    def edit(self, requests: Sequence[EditRequest]) -> "list[Image]":
        """A copy of each wanted image."""
        return [request.require("ground_truth").copy() for request in requests]


def load(weights: Mapping[str, Path], options: Mapping[str, Any], device: str, stage: str) -> GroundTruth:
    """The control needs no weights, options or device."""
    return GroundTruth()
