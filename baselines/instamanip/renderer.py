"""The renderer: the features of the wanted image and the image to edit become the edit.

The stock pipeline of SDXL's InstructPix2Pix without text encoders, given the de-tokenizer's context and pooled
embedding; its null condition is the features of "no image".
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from diffusers import StableDiffusionXLInstructPix2PixPipeline
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from PIL import Image
from torch import Tensor

from baselines.instamanip.detokenizer import Detokenizer
from baselines.instamanip.renderer_layout import load_detokenizer, load_scheduler
from baselines.instamanip.vision_layout import load_no_features
from editclip.errors import InputError
from editclip.guidance import without_cancelled_rows
from editclip.patch_vae import PatchVAE, load_vae
from editclip.pipeline_parts import load_unet


class Sampling(NamedTuple):
    """How an edit is sampled."""

    num_inference_steps: int
    guidance_scale: float
    image_guidance_scale: float


class Renderer:
    """The networks of one renderer.

    Args:
        detokenizer: features to conditions.
        unet: SDXL-style UNet that takes noisy and condition latents.
        vae: its VAE.
        scheduler: Euler, with the noise schedule and prediction type of the UNet.
        no_features: features of "no image", 1×slots×width.
    """

    def __init__(
        self,
        detokenizer: Detokenizer,
        unet: UNet2DConditionModel,
        vae: PatchVAE | AutoencoderKL,
        scheduler: EulerDiscreteScheduler,
        no_features: Tensor,
    ) -> None:
        self.detokenizer, self.no_features = detokenizer.eval(), no_features
        self.pipeline = StableDiffusionXLInstructPix2PixPipeline(
            vae=vae,
            text_encoder=None,
            text_encoder_2=None,
            tokenizer=None,
            tokenizer_2=None,
            unet=unet.eval(),
            scheduler=scheduler,
            add_watermarker=False,  # else it depends on what happens to be installed
        )
        self.pipeline.set_progress_bar_config(disable=True)

    @classmethod
    def load(cls, folder: Path, vision: Path, device: str, dtype: torch.dtype) -> "Renderer":
        """The renderer of a weights folder, with the features of "no image" from the tower's, `vision`.

        Raises:
            InputError: a part is missing, unreadable or misshapen, or the two do not fit each other.
        """
        detokenizer, no_features = load_detokenizer(folder, dtype).to(device), load_no_features(vision)
        slots, width = detokenizer.latents.shape[1], detokenizer.proj_in.in_features
        if no_features.shape[1:] != (slots, width):
            raise InputError(
                f"{folder} renders {slots} features of width {width}, but {vision} sees {no_features.shape[1]} of "
                f"width {no_features.shape[2]}; give the two that were trained together"
            )
        vae = load_vae(folder / "vae")
        if "force_upcast" not in vae.config:  # which the pipeline reads: SDXL's VAE overflows in float16
            vae.register_to_config(force_upcast=False)
        return cls(
            detokenizer,
            load_unet(folder, dtype).to(device),
            vae.to(device, dtype).requires_grad_(False).eval(),
            load_scheduler(folder),
            no_features.to(device, dtype),
        )

    @property
    def side(self) -> int:
        """Of the images it renders, in pixels."""
        return int(self.pipeline.default_sample_size * self.pipeline.vae_scale_factor)

    @torch.no_grad()
    def conditions(self, features: Tensor) -> dict[str, Tensor]:
        """What the pipeline is given for features B×slots×width: context and pooled embedding, and the null ones."""
        given = features.to(self.no_features)
        (context, pooled), (no_context, no_pooled) = map(self.detokenizer, (given, self.no_features))
        return {
            "prompt_embeds": context,
            "pooled_prompt_embeds": pooled,
            "negative_prompt_embeds": no_context.expand_as(context),
            "negative_pooled_prompt_embeds": no_pooled.expand_as(pooled),
        }

    @torch.no_grad()
    def render(
        self, features: Tensor, queries: Sequence[Image.Image], sampling: Sampling, generators: list[torch.Generator]
    ) -> np.ndarray:
        """The edits as pixels B×side×side×3 in [0, 1].

        Args:
            features: of the wanted images, B×slots×width.
            queries: the images to edit, RGB; others than side×side are resized.
            sampling: steps and guidance.
            generators: one an image, on the CPU.
        """
        scales = sampling.guidance_scale, sampling.image_guidance_scale
        with without_cancelled_rows(self.pipeline.unet, *scales), self._vae_put_back():
            output = self.pipeline(
                image=[
                    query.convert("RGB").resize((self.side, self.side), Image.Resampling.BICUBIC) for query in queries
                ],
                height=self.side,
                width=self.side,
                generator=generators,
                output_type="np",
                **self.conditions(features),
                **sampling._asdict(),
            )
        pixels: np.ndarray = output.images
        return pixels

    @contextmanager
    def _vae_put_back(self) -> Iterator[None]:
        """Within it the pipeline may cast the VAE to fp32; it does not cast it back when it fails."""
        try:
            yield
        finally:
            self.pipeline.vae.to(self.no_features.dtype)
