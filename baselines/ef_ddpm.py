"""EF-DDPM: the edit-friendly inversion of DDPM's noise space (Huberman-Spiegelglas et al., 2024).

Each noisy version of the query is drawn by itself, and what the sampler would have to add at each step to pass through
all of them becomes its noise map: sampled with these maps under another caption, the query changes to fit it. Written
from the method's description; docs/methods/ef-ddpm.md numbers what differs from the released script.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editclip.editing import PRECISIONS, EditRequest, noise_generators, to_images
from editclip.errors import InputError

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from torch import Tensor

    from editclip.text_to_image import TextToImage

LABEL = "EF-DDPM"
PAPER = "https://arxiv.org/abs/2304.06140"
LICENSE = "Apache-2.0 (this code), CreativeML OpenRAIL-M (weights)"
CONDITIONING = "text"
NEEDS = ("options.source", "options.target")
STAGES = ("edit",)
WEIGHTS = ("text_to_image",)
RESOLUTION = None  # the official script squashes to 512
GPU_GB = 12  # ours, an estimate for 512 px: not measured
DETERMINISTIC = True
TRAINED_ON = ("LAION-2B-en", "laion-aesthetics v2 5+")  # Stable Diffusion 1's model card
OPTIONS = {
    # Sources, unless another is named: defaults of the official main_run.py in its mode our_inv.
    "source": "empty",  # text of the inversion: empty, as where the official example list names none; or caption_before
    "target": "caption_after",  # text of the edit; the method's are captions. Or instruction, which is ours
    "num_inference_steps": 100,  # --num_diffusion_steps
    "skip": 36,  # --skip: noisiest steps that are left out; more of them keep more of the query
    "source_guidance_scale": 3.5,  # --cfg_src; without effect with an empty source
    "guidance_scale": 15.0,  # --cfg_tar
    "keep_last_noise": False,  # the official code sets the last step's noise map to zero; True reconstructs exactly
    "inversion_batch_size": 32,  # ours: steps and images of one UNet call of the inversion; official one step
    "precision": "float32",  # official; or float16, bfloat16: of the networks, not of the noise maps
}
_TEXTS = {"source": ("empty", "caption_before"), "target": ("caption_after", "instruction")}


class EFDDPM:
    """Inverts the query and samples it anew under the target text.

    Args:
        model: the text-to-image model.
        options: all of the card's `OPTIONS`.
    """

    def __init__(self, model: "TextToImage", options: Mapping[str, Any]) -> None:
        from diffusers import DDIMScheduler

        self.model, self.options = model, options
        self.scheduler = DDIMScheduler.from_config(
            model.noise_schedule,  # whose prediction type it keeps
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
            timestep_spacing="leading",
        )
        self.scheduler.set_timesteps(options["num_inference_steps"])
        self.timesteps: Tensor = self.scheduler.timesteps[options["skip"] :]

    def edit(self, requests: Sequence[EditRequest]) -> "list[Image]":
        """Edit a batch, each query by its own texts and noise."""
        import torch

        target = [request.require(self.options["target"]) for request in requests]
        source = None
        if self.options["source"] != "empty":
            source = [request.require(self.options["source"]) for request in requests]
        with torch.inference_mode():
            clean = self.model.latents([request.query for request in requests])
            start, maps = self.invert(clean, source, noise_generators(requests))
            return to_images(self.model.pixels(self.sample(start, maps, target)))

    def invert(
        self, clean: "Tensor", source: Sequence[str] | None, generators: "list[torch.Generator]"
    ) -> "tuple[Tensor, Tensor]":
        """Noise maps that lead from noisy latents back to the clean ones.

        The noisy latents of the T steps that are not skipped do not depend on each other, so that few calls of the
        UNet serve all of them.

        Args:
            clean: scaled latents B×C×h×w.
            source: B texts, or None for no text.
            generators: B sources of noise.

        Returns:
            The noisy latents at the first of the steps, B×C×h×w, and the noise map of each, T×B×C×h×w.
        """
        import torch

        from editclip.text_to_image import drawn_noise

        steps, count = len(self.timesteps), len(clean)
        times = self.timesteps.repeat_interleave(count)
        noise = drawn_noise(clean, steps, generators).flatten(0, 1)
        noisy = self.scheduler.add_noise(clean.repeat(steps, 1, 1, 1), noise, times)
        null, told = self.model.texts([""]), None if source is None else self.model.texts(source).repeat(steps, 1, 1)
        size, scale = self.options["inversion_batch_size"], self.options["source_guidance_scale"]
        outputs = torch.cat(
            [
                self.model.guided(noisy[part], times[part], null, None if told is None else told[part], scale)
                for part in (slice(first, first + size) for first in range(0, len(noisy), size))
            ]
        ).unflatten(0, (steps, count))
        path = [*noisy.unflatten(0, (steps, count)), clean]
        maps = torch.zeros_like(outputs)
        for step, time in enumerate(self.timesteps):
            mean = self._step(outputs[step], time, path[step], torch.zeros_like(clean))
            maps[step] = (path[step + 1] - mean) / self._deviation(time)
        if not self.options["keep_last_noise"]:
            maps[-1] = 0
        return path[0], maps

    def sample(self, start: "Tensor", maps: "Tensor", target: Sequence[str]) -> "Tensor":
        """Clean latents B×C×h×w under B target texts, from what `invert` returned."""
        null, told = self.model.texts([""]), self.model.texts(target)
        latents = start
        for time, noise in zip(self.timesteps, maps, strict=True):
            times = time.expand(len(latents))
            output = self.model.guided(latents, times, null, told, self.options["guidance_scale"])
            latents = self._step(output, time, latents, noise)
        return latents

    def _step(self, output: "Tensor", time: "Tensor", latents: "Tensor", noise: "Tensor") -> "Tensor":
        """One step of DDPM's sampler, which is DDIM's with η = 1 (https://arxiv.org/abs/2010.02502, equation 12)."""
        return self.scheduler.step(output, time, latents, eta=1.0, variance_noise=noise).prev_sample

    def _deviation(self, time: "Tensor") -> "Tensor":
        """Standard deviation of the noise that the step adds, in the scheduler's own rounding, shape 1."""
        import torch

        nothing = torch.zeros(1, device=self.model.unet.device)
        return self._step(nothing, time, nothing, nothing + 1)


def load(weights: Mapping[str, Path], options: Mapping[str, Any], device: str, stage: str) -> EFDDPM:
    """EF-DDPM on the text-to-image folder `weights["text_to_image"]`.

    Raises:
        InputError: an option is out of its range.
    """
    from editclip.text_to_image import TextToImage

    _check(options)
    return EFDDPM(TextToImage.load(weights["text_to_image"], device, options["precision"]), options)


def _check(options: Mapping[str, Any]) -> None:
    """Refuse options outside their range before anything is loaded.

    Raises:
        InputError: one is.
    """
    for name, allowed in {**_TEXTS, "precision": PRECISIONS}.items():
        if options[name] not in allowed:
            raise InputError(f"{name} {options[name]!r} must be one of {', '.join(allowed)}")
    steps = options["num_inference_steps"]
    if not 1 <= steps <= 500:
        raise InputError(f"num_inference_steps {steps} must be from 1 to 500")
    if not 0 <= options["skip"] < steps:
        raise InputError(f"skip {options['skip']} must be at least 0 and below num_inference_steps {steps}")
    for name in ("source_guidance_scale", "guidance_scale"):
        if options[name] < 0:
            raise InputError(f"{name} {options[name]} must not be negative")
    if options["inversion_batch_size"] < 1:
        raise InputError(f"inversion_batch_size {options['inversion_batch_size']} must be at least 1")
