"""Training pairs with the exemplars that show their edit."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from editclip.training import diffusion, loop


class Batch(NamedTuple):
    """Training pairs and, row by row, the exemplar pairs that show their edit."""

    pairs: diffusion.Batch
    exemplars: diffusion.Batch


def exemplar_draw(draw: Callable[[int], Tensor], edits: Sequence[str] | None, seed: int) -> Callable[[int], Tensor]:
    """Extend batches of pairs (B) by their exemplars to B×2 row numbers.

    Args:
        draw: step → rows of the training pairs.
        edits: name of every row's edit: the exemplar is another row with the same name, or the pair itself where
            there is no other. None: always the pair itself.
        seed: seed of the choice.
    """
    if edits is None:
        return lambda step: draw(step)[:, None].expand(-1, 2)
    number = {name: i for i, name in enumerate(sorted(set(edits)))}
    edit = torch.tensor([number[name] for name in edits])
    order = edit.argsort(stable=True)  # the rows of one edit stand together
    sizes = edit.bincount()
    starts = sizes.cumsum(0) - sizes
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order)) - starts[edit[order]]

    def pairs(step: int) -> Tensor:
        rows = draw(step)
        size = sizes[edit[rows]]
        uniform = torch.rand(len(rows), generator=loop.seeded(seed, "exemplar", step), dtype=torch.double)
        shift = 1 + (uniform * (size - 1)).long()
        return torch.stack([rows, order[starts[edit[rows]] + (place[rows] + shift) % size]], dim=1)

    return pairs


def mirrored(images: Tensor, flips: Tensor) -> Tensor:
    """Images B×3×R×R, those with true `flips` (B) mirrored horizontally."""
    return torch.where(flips.to(images.device)[:, None, None, None], images.flip(-1), images)
