"""The inversion and the guided sampling of LEDITS++, for a batch of queries with a concept each."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import DPMSolverMultistepScheduler
from diffusers.pipelines.ledits_pp.pipeline_leditspp_stable_diffusion import compute_noise
from torch import Tensor

from baselines.ledits_pp.masks import attention_mask, noise_mask, recorded
from editclip.text_to_image import TextToImage, drawn_noise

_ATTENTION_ALONE = 800  # timestep above which diffusers' pipeline leaves the noise mask out


@dataclass(frozen=True)
class Settings:
    """How to sample.

    Attributes:
        steps: that are sampled.
        skip: share of them that is added at the noisy end of the schedule and left out.
        scale: weight of the concept.
        threshold: quantile of the masks, 0 to 1.
        attention: whether the mask of attention is used as well as that of the noise.
        keep_last_noise: whether the solver ends at timestep 0, with noise, instead of without any.
        inversion_batch_size: rows of one UNet call of the inversion.
    """

    steps: int
    skip: float
    scale: float
    threshold: float
    attention: bool
    keep_last_noise: bool
    inversion_batch_size: int


class Sampler:
    """The stochastic DPM-Solver++ of second order, both ways.

    Args:
        model: the text-to-image model.
        settings: how to sample.
    """

    def __init__(self, model: TextToImage, settings: Settings) -> None:
        self.model, self.settings = model, settings
        self.scheduler = DPMSolverMultistepScheduler.from_config(
            model.noise_schedule,  # whose prediction type it keeps
            algorithm_type="sde-dpmsolver++",
            solver_order=2,
            timestep_spacing="leading",
            final_sigmas_type="sigma_min" if settings.keep_last_noise else "zero",
            # Else the last of few steps is of first order when it is sampled, but not when its noise map is made.
            lower_order_final=not settings.keep_last_noise,
        )

    def _timesteps(self) -> Tensor:
        """The kept timesteps, descending; forgets what the solver remembers of an earlier image."""
        self.scheduler.set_timesteps(int(self.settings.steps * (1 + self.settings.skip)))
        return self.scheduler.timesteps[-self.settings.steps :]

    def invert(self, clean: Tensor, generators: list[torch.Generator]) -> tuple[Tensor, Tensor]:
        """Noise maps that lead from noisy latents back to the clean ones, without text.

        Without `keep_last_noise` the last step adds none: the last map is zero, and the way back not exact.

        Args:
            clean: scaled latents B×C×h×w.
            generators: B sources of noise.

        Returns:
            The noisy latents at the first of the T kept steps, B×C×h×w, and the noise map of each, T×B×C×h×w.
        """
        timesteps, count = self._timesteps(), len(clean)
        noise = drawn_noise(clean, len(timesteps), generators)
        path = [self.scheduler.add_noise(clean, n, t.expand(count)) for n, t in zip(noise, timesteps, strict=True)]
        noisy, times, null = torch.cat(path), timesteps.repeat_interleave(count), self.model.texts([""])
        size = self.settings.inversion_batch_size
        parts = [slice(first, first + size) for first in range(0, len(noisy), size)]
        outputs = torch.cat([self.model.guided(noisy[part], times[part], null, None, 0) for part in parts])
        maps = torch.zeros_like(noise)
        for step, (time, output) in enumerate(zip(timesteps, outputs.split(count), strict=True)):
            below = path[step + 1] if step + 1 < len(path) else clean
            maps[step], _ = compute_noise(self.scheduler, below, path[step], time, output, 1.0)
        return path[0], maps

    def sample(self, start: Tensor, maps: Tensor, concepts: Sequence[str]) -> Tensor:
        """Clean latents B×C×h×w with B concepts added, from what `invert` returned."""
        timesteps, count, settings = self._timesteps(), len(start), self.settings
        counts, shape = self.model.token_counts(concepts), (start.shape[-2], start.shape[-1])
        states = torch.cat([self.model.texts([""]).expand(count, -1, -1), self.model.texts(concepts)])
        latents, pixels = start, shape[0] // 4 * (shape[1] // 4)
        with recorded(self.model.unet, pixels) if settings.attention else contextlib.nullcontext() as seen:
            for time, noise in zip(timesteps, maps, strict=True):
                output = self.model.output(latents.repeat(2, 1, 1, 1), time, states)
                null, told = output.chunk(2)
                change = settings.scale * (told - null)
                mask = torch.ones_like(change[:, :1])
                if seen is not None:
                    mask = attention_mask(seen.concept(counts), shape, settings.threshold)
                if seen is None or time <= _ATTENTION_ALONE:
                    mask = mask * noise_mask(change, settings.threshold)
                latents = self.scheduler.step(null + change * mask, time, latents, variance_noise=noise).prev_sample
        return latents
