"""LEDITS++: noise maps of the query under a second-order solver, and guidance by a concept within a mask it finds
(Brack et al., 2024).

On the parts of diffusers' pipeline (its solver, noise maps, attention processor and smoothing), because that pipeline
itself takes one image at a time, four latent channels, and sides that are multiples of 32; docs/methods/ledits-pp.md
numbers what differs from it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editclip.editing import PRECISIONS, EditRequest, noise_generators, to_images
from editclip.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

    from baselines.ledits_pp.sampling import Sampler

LABEL = "LEDITS++"
PAPER = "https://arxiv.org/abs/2311.16711"
LICENSE = "Apache-2.0 (this code and diffusers), CreativeML OpenRAIL-M (weights)"
CONDITIONING = "text"
NEEDS = ("options.concept",)
STAGES = ("edit",)
WEIGHTS = ("text_to_image",)
RESOLUTION = None  # the research code squashes to 512
GPU_GB = 12  # ours, an estimate for 512 px: not measured
DETERMINISTIC = True
TRAINED_ON = ("LAION-2B-en", "laion-aesthetics v2 5+")  # Stable Diffusion 1's model card
OPTIONS = {
    # The text that is added as the one concept: the target caption, as the authors are reported to do on TEdBench++. Or
    # instruction, which is ours: the method's concepts are names of things, and a caption is the nearest to one.
    "concept": "caption_after",
    # Sources, unless another is named: the example of diffusers' pipeline and of the official repository.
    "num_inference_steps": 50,  # num_inversion_steps
    "skip": 0.1,  # share of the steps that are added at the noisy end and left out; more keep more of the query
    "edit_guidance_scale": 10.0,
    "edit_threshold": 0.75,  # quantile below which a mask leaves pixels out: a quarter stays; global edits need less
    "mask": "intersect",  # attention and noise, diffusers' default; or noise, that of the official repository
    # False, diffusers' pipeline: the solver ends without noise, so that its last noise map is zero and nothing is
    # reconstructed exactly. True, as the official repository asks for research: it ends at timestep 0, with noise.
    "keep_last_noise": False,
    "inversion_batch_size": 32,  # ours: steps and images of one UNet call of the inversion; diffusers one step
    "precision": "float32",  # ours; diffusers' example float16: of the networks, not of the noise maps
}


class LEDITSPP:
    """Inverts the query and samples it anew with its concept added."""

    def __init__(self, sampler: "Sampler", concept: str) -> None:
        self.sampler, self._concept = sampler, concept

    def edit(self, requests: Sequence[EditRequest]) -> "list[Image]":
        """Edit a batch, each query by its own concept, masks and noise."""
        import torch

        concepts = [request.require(self._concept) for request in requests]
        with torch.inference_mode():
            clean = self.sampler.model.latents([request.query for request in requests])
            start, maps = self.sampler.invert(clean, noise_generators(requests))
            return to_images(self.sampler.model.pixels(self.sampler.sample(start, maps, concepts)))


def load(weights: Mapping[str, Path], options: Mapping[str, Any], device: str, stage: str) -> LEDITSPP:
    """LEDITS++ on the text-to-image folder `weights["text_to_image"]`.

    Raises:
        InputError: an option is out of its range, or the UNet has no attention that the mask could be read from.
    """
    from baselines.ledits_pp.sampling import Sampler, Settings
    from editclip.text_to_image import TextToImage

    _check(options)
    # Maps of attention are read at a quarter of the latent's side.
    model = TextToImage.load(weights["text_to_image"], device, options["precision"], multiple=4)
    settings = Settings(
        steps=options["num_inference_steps"],
        skip=options["skip"],
        scale=options["edit_guidance_scale"],
        threshold=options["edit_threshold"],
        attention=options["mask"] == "intersect",
        keep_last_noise=options["keep_last_noise"],
        inversion_batch_size=options["inversion_batch_size"],
    )
    return LEDITSPP(Sampler(model, settings), options["concept"])


def _check(options: Mapping[str, Any]) -> None:
    """Refuse options outside their range before anything is loaded.

    Raises:
        InputError: one is.
    """
    choices = {"concept": ("caption_after", "instruction"), "mask": ("intersect", "noise"), "precision": PRECISIONS}
    for name, allowed in choices.items():
        if options[name] not in allowed:
            raise InputError(f"{name} {options[name]!r} must be one of {', '.join(allowed)}")
    for name, low, high in (
        ("num_inference_steps", 2, 400),
        ("skip", 0, 1),
        ("edit_threshold", 0, 1),
        ("inversion_batch_size", 1, 10**6),
    ):
        if not low <= options[name] <= high:
            raise InputError(f"{name} {options[name]} must be from {low} to {high}")
    if options["edit_guidance_scale"] < 0:
        raise InputError(f"edit_guidance_scale {options['edit_guidance_scale']} must not be negative")
