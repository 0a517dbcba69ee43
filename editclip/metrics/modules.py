"""EC2T and EC2EC as torchmetrics metrics, for use outside the benchmark.

Images are PIL images, uint8 tensors B×3×H×W, or float tensors B×3×H×W in [0, 1] (rounded to 8 bit, so that a value
does not depend on the form in which the same image came). Any size: both images are squashed to the encoder's.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchmetrics import Metric

from editclip.errors import InputError
from editclip.metrics.formulas import cosine
from editclip.model import EditCLIP

Images = Sequence[Image.Image] | Tensor


def to_uint8(images: Images) -> Images:
    """Images as the encoder takes them: float tensors in [0, 1] become uint8, others stay.

    Raises:
        InputError: float values outside [0, 1]; scaling them would be a guess.
    """
    if not isinstance(images, Tensor) or not images.is_floating_point():
        return images
    if not (images.min() >= 0 and images.max() <= 1):
        low, high = float(images.min()), float(images.max())
        raise InputError(f"float images lie in [{low:.3g}, {high:.3g}]; give [0, 1], or uint8 in 0…255")
    return (images * 255).round().to(torch.uint8)


class _EditMetric(Metric):
    """Mean of per-edit cosines, with EditCLIP loaded from a weights folder.

    Args:
        weights: EditCLIP weights folder.
        device: where the encoder runs.
        kwargs: torchmetrics' own options.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, weights: str | Path, device: str | torch.device = "cpu", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.encoder = EditCLIP.load(weights, device)
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def _edit(self, before: Images, after: Images) -> Tensor:
        return self.encoder.encode_edit(to_uint8(before), to_uint8(after)).float().cpu()

    def _add(self, values: Sequence[float]) -> None:
        self.total += sum(values)
        self.count += len(values)

    def compute(self) -> Tensor:
        """Mean over all edits seen.

        Raises:
            InputError: none was seen.
        """
        if self.count == 0:
            raise InputError(f"{type(self).__name__} has seen no edit: call update first")
        return self.total / self.count


class EC2T(_EditMetric):
    """EditCLIP-to-text similarity: mean of cos(f(before, after), g(instruction)), a raw cosine in [−1, 1]."""

    def update(self, before: Images, after: Images, instructions: Sequence[str]) -> None:
        """Add B edits before → after and what each should have done.

        Raises:
            InputError: the counts differ.
        """
        if isinstance(instructions, str) or len(instructions) != len(before):
            raise InputError("EC2T needs a list with one instruction for each edit")
        edits, texts = self._edit(before, after), self.encoder.encode_text(instructions).float().cpu()
        self._add([cosine(edit, text) for edit, text in zip(edits, texts, strict=True)])


class EC2EC(_EditMetric):
    """EditCLIP-to-EditCLIP similarity: mean of cos(f(exemplar pair), f(query, output)), a raw cosine in [−1, 1]."""

    def update(self, exemplar_before: Images, exemplar_after: Images, query: Images, output: Images) -> None:
        """Add B edits query → output and the exemplar pair that showed each the way.

        Raises:
            InputError: the counts differ.
        """
        if len(exemplar_before) != len(query):
            raise InputError("EC2EC needs one exemplar pair for each edit")
        shown, edits = self._edit(exemplar_before, exemplar_after), self._edit(query, output)
        self._add([cosine(first, second) for first, second in zip(shown, edits, strict=True)])
