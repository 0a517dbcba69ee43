"""InstaManip: a language model reads instruction, exemplars and query, and foretells the edit for SDXL to render.

As released, with the instruction; `baselines.instamanip_no_text` is without. See docs/methods/instamanip.md.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from baselines.instamanip.editor import Learner, Painter

LABEL = "InstaManip"
PAPER = "https://arxiv.org/abs/2412.01027"
LICENSE = "none stated (code, weights); parts under the LLaMA 2, Tongyi Qianwen and CreativeML OpenRAIL++-M licences"
CONDITIONING = "exemplar"
NEEDS = ("exemplar", "instruction")
STAGES = ("prepare", "plan", "edit")
WEIGHTS = ("instamanip", "instamanip_renderer", "instamanip_vision")
RESOLUTION = None
GPU_GB = 64  # 61 GB of weights in float32, half of that in float16
DETERMINISTIC = True
TRAINED_ON = ("timbrooks/instructpix2pix-clip-filtered",)
OPTIONS = {
    "num_inference_steps": 50,  # official script
    "guidance_scale": 7.5,  # official pipeline's default, which the script keeps
    "image_guidance_scale": 1.5,  # the same
    "plan_batch_size": 8,  # ours; official one by one
    "precision": "float32",  # official float16
}


def load(weights: Mapping[str, Path], options: Mapping[str, Any], device: str, stage: str) -> "Learner | Painter":
    """The language model with its tower to prepare and plan, the renderer to edit.

    Raises:
        InputError: an option is out of range, the weights are incomplete or do not fit each other, or memory is short.
    """
    from baselines.instamanip.editor import load_stage

    return load_stage(weights, options, device, stage, text="instruction")
