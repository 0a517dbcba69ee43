"""Prompt Diffusion's network: a ControlNet that sees an exemplar pair and a query, on diffusers' own parts.

Wang et al., In-Context Learning Unlocked for Diffusion Models (https://arxiv.org/abs/2305.01115), section 3.2. The
tensors have the names of the released folder zhendongw/prompt-diffusion-diffusers, `controlnet/` and `unet/`.
"""

import functools
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from diffusers.models.controlnets.controlnet import ControlNetConditioningEmbedding, ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from editclip.errors import InputError
from editclip.pipeline_parts import load_part

PAIR_CHANNELS, QUERY_CHANNELS = 6, 3  # RGB of both sides of the exemplar, RGB of the query


class PairEncoder(ControlNetConditioningEmbedding):
    """The stock hint encoder, run by `encode` alone.

    The stock ControlNet passes its hint through this module at every step. Hints depend on neither step nor text, so
    they come here encoded already and pass unchanged.
    """

    def encode(self, pair: Tensor) -> Tensor:
        """Hint B×C×h×w of exemplar pairs B×6×H×W in [-1, 1]."""
        return super().forward(pair)

    def forward(self, conditioning: Tensor) -> Tensor:
        """The hint itself."""
        return conditioning


class PairQueryControlNet(ControlNetModel):
    """diffusers' ControlNet with one hint encoder for the exemplar pair and one for the query.

    The arguments are those of `ControlNetModel`, with `conditioning_channels` = 6. With n entries in
    `conditioning_embedding_out_channels`, both encoders halve the image n - 1 times, as the VAE must.
    """

    # The stock signature stays visible: diffusers reads the config's keys from it.
    @functools.wraps(ControlNetModel.__init__)  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        width, channels = self.config.block_out_channels[0], self.config.conditioning_embedding_out_channels
        self.controlnet_cond_embedding = PairEncoder(width, self.config.conditioning_channels, channels)
        self.controlnet_query_cond_embedding = ControlNetConditioningEmbedding(width, QUERY_CHANNELS, channels)

    @classmethod
    def beside(cls, unet: UNet2DConditionModel, hint_channels: tuple[int, ...]) -> Self:
        """The start of a training: `unet`'s encoder and middle block copied, zero convolutions around them."""
        return cls.from_unet(
            unet, conditioning_embedding_out_channels=hint_channels, conditioning_channels=PAIR_CHANNELS
        )

    @property
    def reduction(self) -> int:
        """Pixels of an image's side to one of a hint's."""
        return 2 ** (len(self.config.conditioning_embedding_out_channels) - 1)

    def pair_hint(self, pair: Tensor) -> Tensor:
        """Hint B×C×h×w of exemplar pairs B×6×H×W in [-1, 1]; zeros stand for no pair."""
        return self.controlnet_cond_embedding.encode(pair)

    def query_hint(self, query: Tensor) -> Tensor:
        """Hint B×C×h×w of queries B×3×H×W in [-1, 1]."""
        return self.controlnet_query_cond_embedding(query)


class Networks(NamedTuple):
    """The two networks of the release, which belong together: the UNet's decoder is trained with the ControlNet."""

    unet: UNet2DConditionModel
    controlnet: PairQueryControlNet

    def denoise(self, noisy: Tensor, timesteps: Tensor, text: Tensor, hint: Tensor) -> Tensor:
        """The UNet's output B×C×h×w.

        Args:
            noisy: latents B×C×h×w.
            timesteps: B timesteps, or one for all.
            text: text states B×77×D.
            hint: sum of pair hint and query hint, B×M×h×w.
        """
        residuals, middle = self.controlnet(noisy, timesteps, text, hint, return_dict=False)
        return self.unet(
            noisy, timesteps, text, down_block_additional_residuals=residuals, mid_block_additional_residual=middle
        ).sample

    def check(self, vae_reduction: int, source: str | Path) -> None:
        """Refuse networks that do not fit a VAE.

        Raises:
            InputError: hints would have another size than latents.
        """
        if self.controlnet.reduction != vae_reduction:
            raise InputError(
                f"{source}: the hint encoders reduce an image {self.controlnet.reduction} times, but the VAE "
                f"{vae_reduction} times; give conditioning_embedding_out_channels (in a recipe, hint_channels) "
                f"{vae_reduction.bit_length()} entries"
            )


def load_networks(folder: str | Path, dtype: torch.dtype = torch.float32) -> Networks:
    """The networks in `unet/` and `controlnet/` of a folder in the released layout.

    Raises:
        InputError: one is not there, or a tensor is missing, superfluous or misshapen.
    """
    unet = load_part(UNet2DConditionModel, folder, "unet", dtype)
    return Networks(unet, load_controlnet(folder, dtype))


def load_controlnet(folder: str | Path, dtype: torch.dtype = torch.float32) -> PairQueryControlNet:
    """The network in `controlnet/` of a folder in the released layout.

    Raises:
        InputError: it is not there, a tensor is missing, superfluous or misshapen, or it takes no pair.
    """
    controlnet = load_part(PairQueryControlNet, folder, "controlnet", dtype)
    if controlnet.config.conditioning_channels != PAIR_CHANNELS:
        raise InputError(
            f"{folder}: its ControlNet takes {controlnet.config.conditioning_channels} hint channels, not the "
            f"{PAIR_CHANNELS} of an exemplar pair; give Prompt Diffusion's weights"
        )
    return controlnet
