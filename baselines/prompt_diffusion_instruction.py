"""Prompt Diffusion told the edit in words beside the exemplar, as its demos do with captions: not exemplar-only."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from baselines.prompt_diffusion.editor import PairHints

LABEL = "Prompt Diffusion (with instruction)"
PAPER = "https://arxiv.org/abs/2305.01115"
LICENSE = "Apache-2.0 (code), none stated (weights, derived from CreativeML OpenRAIL-M)"
CONDITIONING = "exemplar"
NEEDS = ("exemplar", "instruction")
STAGES = ("prepare", "edit")
WEIGHTS = ("prompt_diffusion",)
RESOLUTION = None
GPU_GB = 8
DETERMINISTIC = True
TRAINED_ON = ("timbrooks/instructpix2pix-clip-filtered",)
OPTIONS = {  # as baselines.prompt_diffusion, whose text mode is fixed here
    "num_inference_steps": 100,
    "guidance_scale": 9.0,
    "precision": "float32",
}


def load(weights: Mapping[str, Path], options: Mapping[str, Any], device: str, stage: str) -> "PairHints":
    """The method in the text mode "instruction".

    Raises:
        InputError: an option is out of range, or the weights are incomplete or do not fit each other.
    """
    from baselines.prompt_diffusion.editor import load_editor

    return load_editor(weights["prompt_diffusion"], options, device, stage, text="instruction")
