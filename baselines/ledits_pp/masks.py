"""Where a concept acts: masks from the UNet's cross-attention and from the concept's own change of the output."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from diffusers import UNet2DConditionModel
from diffusers.pipelines.ledits_pp.pipeline_leditspp_stable_diffusion import (
    LEDITSCrossAttnProcessor,
    LeditsGaussianSmoothing,
)
from torch import Tensor
from torch.nn import functional

from editclip.errors import InputError


class AttentionMaps:
    """What cross-attention layers of one size looked at in the UNet's last call.

    Args:
        pixels: of the maps that are kept.
    """

    def __init__(self, pixels: int) -> None:
        self._pixels, self._seen = pixels, list[Tensor]()

    def __call__(self, attention: Tensor, is_cross: bool, place_in_unet: str, editing_prompts: int, PnP: bool) -> None:  # noqa: N803
        """Keep a layer's attention, (rows·heads)×pixels×tokens, as diffusers' processor hands it over."""
        if attention.shape[1] == self._pixels:
            self._seen.append(attention)

    def concept(self, counts: Sequence[int]) -> Tensor:
        """Attention to each concept, mean over layers and heads and sum over its tokens: B×pixels; empties the store.

        Args:
            counts: tokens of the B concepts, whose rows are the last B of the UNet's 2 B.

        Raises:
            InputError: no layer has maps of this size.
        """
        if not self._seen:
            raise InputError(
                f"the UNet has no cross-attention of {self._pixels} pixels, a quarter of the latent's side, from which "
                "the attention mask is made; set mask: noise"
            )
        rows = 2 * len(counts)
        maps = torch.cat([seen.unflatten(0, (rows, -1))[len(counts) :] for seen in self._seen], dim=1).float().mean(1)
        self._seen.clear()
        places = torch.arange(maps.shape[-1], device=maps.device)
        last = torch.tensor(counts, device=maps.device)[:, None]
        own = (places >= 1) & (places <= last)  # the first is the start token
        return (maps * own[:, None]).sum(-1)


@contextmanager
def recorded(unet: UNet2DConditionModel, pixels: int) -> Iterator[AttentionMaps]:
    """Within it, the cross-attention on the UNet's way down and up is recorded; afterwards it has its processors back.

    Args:
        unet: of Stable Diffusion's layout.
        pixels: of the maps that are kept.
    """
    before, store = dict(unet.attn_processors), AttentionMaps(pixels)
    watched = {
        name: LEDITSCrossAttnProcessor(store, name.partition("_")[0], pnp=False, editing_prompts=1)
        for name in before
        if "attn2" in name and not name.startswith("mid_block")
    }
    unet.set_attn_processor({**before, **watched})
    try:
        yield store
    finally:
        unet.set_attn_processor(before)


def attention_mask(attention: Tensor, shape: tuple[int, int], threshold: float) -> Tensor:
    """M¹ of the paper's equation 12, B×1×h×w of 0 and 1: where attention, smoothed, reaches its quantile.

    Args:
        attention: B×(h/4 · w/4).
        shape: (h, w) of the latent.
        threshold: the quantile, 0 to 1.
    """
    height, width = shape
    maps = attention.view(-1, 1, height // 4, width // 4)
    smooth = LeditsGaussianSmoothing(maps.device)(functional.pad(maps, (1, 1, 1, 1), mode="reflect"))
    return functional.interpolate(_at_least(smooth, threshold), shape)


def noise_mask(change: Tensor, threshold: float) -> Tensor:
    """M² of the same, B×1×h×w: where a change of the output B×C×h×w, summed over channels, reaches its quantile."""
    return _at_least(change.abs().sum(1, keepdim=True), threshold)


def _at_least(maps: Tensor, threshold: float) -> Tensor:
    """1 where maps B×1×h×w reach their own quantile, else 0."""
    quantile = torch.quantile(maps.flatten(1), threshold, dim=1)
    return (maps >= quantile[:, None, None, None]).to(maps)
