"""A Stable Diffusion text-to-image pipeline folder as an editor by inversion uses it: images, texts and UNet calls.

Latents are those of the VAE's mode, in single precision whatever the networks compute in, because noise maps are
differences of nearly equal numbers. What the UNet's output means is left to the caller's scheduler, which has the
folder's `prediction_type`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils.torch_utils import randn_tensor
from PIL.Image import Image
from torch import Tensor

import editclip.patch_vae  # noqa: F401  # diffusers loads a class of ours only when its module is imported
from editclip.errors import InputError


class TextToImage:
    """The pipeline's parts, frozen.

    Args:
        pipeline: Stable Diffusion, on its device.
        multiple: sides of images must be multiples of so many pixels of the latent.
    """

    def __init__(self, pipeline: StableDiffusionPipeline, multiple: int = 1) -> None:
        for module in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
            module.requires_grad_(False).eval()
        self._pipeline = pipeline
        self.unet, self._vae = pipeline.unet, pipeline.vae
        self._side = multiple * pipeline.vae_scale_factor

    @classmethod
    def load(cls, folder: Path, device: str, precision: str, multiple: int = 1) -> "TextToImage":
        """The pipeline in `folder`, without safety checker, computing in `precision`."""
        pipeline = StableDiffusionPipeline.from_pretrained(
            folder, safety_checker=None, requires_safety_checker=False, local_files_only=True
        )
        pipeline.set_progress_bar_config(disable=True)
        return cls(pipeline.to(device, getattr(torch, precision)), multiple)

    @property
    def noise_schedule(self) -> Mapping[str, Any]:
        """The folder's scheduler config, from which another scheduler of the same schedule and prediction is made."""
        return self._pipeline.scheduler.config

    def latents(self, images: Sequence[Image]) -> Tensor:
        """Scaled latents B×C×h×w of images of one size: the mode of the VAE's posterior.

        Raises:
            InputError: a side does not fit the latent.
        """
        pixels = torch.from_numpy(np.stack([np.asarray(image.convert("RGB")) for image in images]))
        if pixels.shape[1] % self._side or pixels.shape[2] % self._side:
            raise InputError(f"images are {images[0].size} pixels; make both sides multiples of {self._side}")
        scaled = (pixels.permute(0, 3, 1, 2).float() / 127.5 - 1).to(self._vae.device, self._vae.dtype)
        return self._vae.encode(scaled).latent_dist.mode().float() * self._vae.config.scaling_factor

    def pixels(self, latents: Tensor) -> np.ndarray:
        """Images of scaled latents, B×H×W×3 in [0, 1]."""
        decoded = self._vae.decode(latents.to(self._vae.dtype) / self._vae.config.scaling_factor).sample
        return decoded.float().div(2).add(0.5).clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()

    def texts(self, prompts: Sequence[str]) -> Tensor:
        """The prompts' token states B×L×D; longer ones than the text encoder's context are cut with a warning."""
        return self._pipeline.encode_prompt(list(prompts), self.unet.device, 1, False)[0]

    def token_counts(self, prompts: Sequence[str]) -> list[int]:
        """Tokens of each prompt within the context, without its start and end token."""
        tokenizer = self._pipeline.tokenizer
        ids = tokenizer(list(prompts), max_length=tokenizer.model_max_length, truncation=True).input_ids
        return [len(tokens) - 2 for tokens in ids]

    def output(self, latents: Tensor, timesteps: Tensor, states: Tensor) -> Tensor:
        """The UNet's output B×C×h×w for noisy latents, in single precision.

        Args:
            latents: B×C×h×w.
            timesteps: one, or B.
            states: token states B×L×D.
        """
        dtype, device = self.unet.dtype, self.unet.device
        return self.unet(latents.to(dtype), timesteps.to(device), encoder_hidden_states=states.to(dtype)).sample.float()

    def guided(
        self, latents: Tensor, timesteps: Tensor, null: Tensor, states: Tensor | None, guidance_scale: float
    ) -> Tensor:
        """Null output + guidance_scale · (output for `states` - null output); what cancels is not computed.

        Args:
            latents: B×C×h×w.
            timesteps: B.
            null: token states of the empty text, 1×L×D.
            states: token states B×L×D; None, the null output alone.
            guidance_scale: weight of the text.
        """
        nothing = null.expand(len(latents), -1, -1)
        if states is None or guidance_scale == 0:
            return self.output(latents, timesteps, nothing)
        if guidance_scale == 1:
            return self.output(latents, timesteps, states)
        both = self.output(latents.repeat(2, 1, 1, 1), timesteps.repeat(2), torch.cat([nothing, states]))
        without, told = both.chunk(2)
        return without + guidance_scale * (told - without)


def drawn_noise(clean: Tensor, count: int, generators: list[torch.Generator]) -> Tensor:
    """Noise of `count` timesteps, in descending order, for latents B×C×h×w: count×B×C×h×w.

    It is drawn from the smallest timestep upwards, as EF-DDPM's and LEDITS++'s codes do, so that which steps are
    skipped does not change the noise of the others.
    """
    drawn = [randn_tensor(clean.shape, generators, clean.device, clean.dtype) for _ in range(count)]
    return torch.stack(drawn[::-1])
