"""Prompt Diffusion: in-context learning by a ControlNet that sees a pair of images and a query.

Its released weights learnt to turn images into maps and back, from pairs that show the task; they never saw an edit.
Here the exemplar's two sides are the pair. See docs/methods/prompt-diffusion.md.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from baselines.prompt_diffusion.editor import PairHints

LABEL = "Prompt Diffusion"
PAPER = "https://arxiv.org/abs/2305.01115"
LICENSE = "Apache-2.0 (code), none stated (weights, derived from CreativeML OpenRAIL-M)"
CONDITIONING = "exemplar"
NEEDS = ("exemplar",)
STAGES = ("prepare", "edit")
WEIGHTS = ("prompt_diffusion",)
RESOLUTION = None
GPU_GB = 8
DETERMINISTIC = True
TRAINED_ON = ("timbrooks/instructpix2pix-clip-filtered",)
OPTIONS = {
    "num_inference_steps": 100,  # official notebook and evaluation script
    "guidance_scale": 9.0,  # the same; without effect where text is none
    "text": "none",  # or quality, pair_cfg: none adds nothing that is not in the exemplar
    "precision": "float32",  # official; or float16, as the diffusers port
}


def load(weights: Mapping[str, Path], options: Mapping[str, Any], device: str, stage: str) -> "PairHints":
    """The method with the weights that learnt maps.

    Raises:
        InputError: an option is out of range, or the weights are incomplete or do not fit each other.
    """
    from baselines.prompt_diffusion.editor import load_editor

    return load_editor(weights["prompt_diffusion"], options, device, stage)
