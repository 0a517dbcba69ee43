"""InstructPix2Pix: edits by an instruction in words; the exemplar is not used.

The stock diffusers pipeline in the set-up of Brooks et al. (2023), with one noise generator an image, so that an
image does not depend on its batch.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editclip.editing import EditRequest, check_pipeline_options, noise_generators, to_images

if TYPE_CHECKING:
    from diffusers import StableDiffusionInstructPix2PixPipeline
    from PIL.Image import Image

LABEL = "InstructPix2Pix"
PAPER = "https://arxiv.org/abs/2211.09800"
LICENSE = "MIT (code), CreativeML OpenRAIL-M (weights)"
CONDITIONING = "text"
NEEDS = ("instruction",)
STAGES = ("edit",)
WEIGHTS = ("ip2p",)
RESOLUTION = None
GPU_GB = 8
DETERMINISTIC = True
TRAINED_ON = ("timbrooks/instructpix2pix-clip-filtered",)
OPTIONS = {
    "num_inference_steps": 50,  # as EditCLIP's evaluation script, so that rows have equal steps; official preset: 100
    "guidance_scale": 7.5,  # text guidance of the official command line and of the diffusers pipeline
    "image_guidance_scale": 1.5,  # the same sources
    "precision": "float32",  # or float16: the released weights' half precision, for speed on a GPU
}


class InstructPix2Pix:
    """The stock pipeline, given one instruction and one generator an image."""

    def __init__(self, pipeline: "StableDiffusionInstructPix2PixPipeline", options: Mapping[str, Any]) -> None:
        self._pipeline = pipeline
        self._settings = {key: value for key, value in options.items() if key != "precision"}

    def edit(self, requests: Sequence[EditRequest]) -> "list[Image]":
        """Edit a batch by its instructions; longer ones than the text encoder's context are cut with a warning."""
        from editclip.guidance import without_cancelled_rows

        scales = self._settings["guidance_scale"], self._settings["image_guidance_scale"]
        with without_cancelled_rows(self._pipeline.unet, *scales):
            output = self._pipeline(
                prompt=[request.require("instruction") for request in requests],
                # Other modes than RGB are read wrongly in silence: four channels are taken for latents.
                image=[request.query.convert("RGB") for request in requests],
                generator=noise_generators(requests),
                output_type="np",
                **self._settings,
            )
        return to_images(output.images)


def load(weights: Mapping[str, Path], options: Mapping[str, Any], device: str, stage: str) -> InstructPix2Pix:
    """The pipeline from the diffusers folder `weights["ip2p"]`, without safety checker (as in the paper's comparison).

    Raises:
        InputError: a guidance scale at which the pipeline leaves guidance out.
    """
    import torch
    from diffusers import StableDiffusionInstructPix2PixPipeline

    import editclip.patch_vae  # noqa: F401  # diffusers loads a class of ours only when its module is imported

    check_pipeline_options(options)
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(
        weights["ip2p"],
        safety_checker=None,
        requires_safety_checker=False,
        local_files_only=True,
    )
    pipeline.set_progress_bar_config(disable=True)
    return InstructPix2Pix(pipeline.to(device, getattr(torch, options["precision"])), options)
