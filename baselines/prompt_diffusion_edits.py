"""Prompt Diffusion trained on pairs of the same edit: `baselines.prompt_diffusion` with other weights.

No such weights are released. The row tells how much of Prompt Diffusion's result is due to never having seen an edit.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from baselines.prompt_diffusion.editor import PromptDiffusion

LABEL = "Prompt Diffusion (trained on edits)"
PAPER = "https://arxiv.org/abs/2305.01115"
LICENSE = "Apache-2.0 (code)"
CONDITIONING = "exemplar"
NEEDS = ("exemplar",)
WEIGHTS = ("prompt_diffusion_edits",)
RESOLUTION = None
GPU_GB = 8
DETERMINISTIC = True
TRAINED_ON = ("timbrooks/instructpix2pix-clip-filtered",)
OPTIONS = {  # as baselines.prompt_diffusion
    "num_inference_steps": 100,
    "guidance_scale": 9.0,
    "text": "none",
    "precision": "float32",
}


def load(weights: Mapping[str, Path], options: Mapping[str, Any], device: str) -> "PromptDiffusion":
    """The method with the weights that learnt edits.

    Raises:
        InputError: an option is out of range, or the weights are incomplete or do not fit each other.
    """
    from baselines.prompt_diffusion.editor import load_editor

    return load_editor(weights["prompt_diffusion_edits"], options, device)
