"""The metric families: what a config calls them, the class that computes each, the weights that it reads.

Nothing of theirs is imported here, so that the workflow can read the list, and a score that is already known be shown,
without torch.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from editclip.metrics.scores import Family, Setting


@dataclass(frozen=True)
class Source:
    """Where a family is: its module, the class in it that takes a `scores.Setting`, and names of weights folders."""

    module: str
    name: str
    weights: tuple[str, ...] = ()

    def build(self, setting: "Setting") -> "Family":
        """The family itself, with its models loaded.

        Raises:
            InputError: the setting lacks weights.
        """
        builder: Callable[[Setting], Family] = getattr(importlib.import_module(self.module), self.name)
        return builder(setting)


FAMILIES = {
    "lpips": Source("editclip.metrics.lpips", "LPIPS"),
    "clip": Source("editclip.metrics.clip", "ClipScores", ("clip",)),
    "editclip": Source("editclip.metrics.editclip", "EditClipScores", ("editclip",)),
    "ground_truth": Source("editclip.metrics.ground_truth", "GroundTruthScores"),
}
