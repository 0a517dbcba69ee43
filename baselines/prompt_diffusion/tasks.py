"""What Prompt Diffusion is trained on: a query, an exemplar pair that shows the task, and the answer.

The release learnt six tasks, an image from one of its maps and back (edges, segmentation, depth; https://arxiv.org/
abs/2305.01115, section 3.1), and never saw an edit. Its annotators (HED, Uniformer, MiDaS) are large networks; the maps
here are computed from the pixels, one for each of the three kinds: contours, flat regions, smooth shading.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from editclip.data.triplets import Triplets
from editclip.training.draws import Draws
from editclip.training.exemplars import Batch

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


class Episode(NamedTuple):
    """B examples: exemplar pairs and queries with their answers, uint8 B×3×R×R, and the text that goes with each."""

    before: Tensor
    after: Tensor
    query: Tensor
    answer: Tensor
    texts: Sequence[str]


def _luminance(images: Tensor) -> Tensor:
    """B×1×R×R in [0, 255]."""
    return (images.float() * images.new_tensor(LUMA, dtype=torch.float)[:, None, None]).sum(1, keepdim=True)


def _blurred(values: Tensor, share: int) -> Tensor:
    """Box blur over 1/share of the side (an odd number of pixels), without darkening at the border."""
    radius = max(1, values.shape[-1] // (2 * share))
    padded = functional.pad(values, (radius,) * 4, mode="replicate")
    return functional.avg_pool2d(padded, 2 * radius + 1, stride=1)


def _grey(values: Tensor) -> Tensor:
    return values.clamp(0, 255).round().byte().expand(-1, 3, -1, -1)


def edge_map(images: Tensor) -> Tensor:
    """Contours, white on black: largest colour difference across each pixel, slightly blurred.

    Args:
        images: uint8 B×3×R×R; the map has the same type and shape.
    """
    padded = functional.pad(images.float(), (1, 1, 1, 1), mode="replicate")
    across = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]).abs()
    down = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]).abs()
    return _grey(_blurred(torch.maximum(across, down).amax(1, keepdim=True), 16))


def colour_map(images: Tensor) -> Tensor:
    """Flat regions: each channel of the blurred image at one of two levels, so that eight colours remain.

    The levels are the quarter points, not black and white, so that the map's latents vary no more than an image's.
    """
    return torch.where(_blurred(images.float(), 16) > 127.5, 191, 64).byte()


def luminance_map(images: Tensor) -> Tensor:
    """Smooth shading: blurred luminance, dark where the image is bright."""
    return _grey(255 - _blurred(_luminance(images), 8))


MAPS: dict[str, Callable[[Tensor], Tensor]] = {
    "edge map": edge_map,
    "flat colour map": colour_map,
    "luminance map": luminance_map,
}


def map_task(images: Tensor, kind: str, inverse: bool) -> tuple[Tensor, Tensor]:
    """(asked, answered) of images: from a map back to the image (`inverse`), or from an image to its map."""
    made = MAPS[kind](images)
    return (made, images) if inverse else (images, made)


def map_episode(batch: Batch, triplets: Triplets, draws: Draws) -> Episode:
    """One of the six tasks for each row, all equally likely.

    As in the release, exemplars are made from images before an edit, queries from images after one, and the text is
    the image's caption, or the map's name where the map is the answer.
    """
    kinds = list(MAPS)
    drawn = draws.integers(2 * len(kinds)).tolist()
    parts, texts = [], []
    for row, task in enumerate(drawn):
        kind, inverse = kinds[task // 2], task % 2 == 1
        sides = torch.stack([batch.exemplars.original[row], batch.pairs.edited[row]])
        asked, answered = map_task(sides, kind, inverse)
        parts.append(torch.stack([asked[0], answered[0], asked[1], answered[1]]))
        texts.append(triplets.edited_prompts[int(batch.pairs.indices[row])] if inverse else kind)
    before, after, query, answer = torch.stack(parts, dim=1)
    return Episode(before, after, query, answer, texts)


def edit_episode(batch: Batch, triplets: Triplets, draws: Draws) -> Episode:
    """An edit and another pair that shows the same edit (not in the release); the text is the wanted caption."""
    texts = [triplets.edited_prompts[row] for row in batch.pairs.indices.tolist()]
    return Episode(batch.exemplars.original, batch.exemplars.edited, batch.pairs.original, batch.pairs.edited, texts)
