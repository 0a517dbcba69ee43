"""InstaManip shown exemplars without the instruction, which its released weights never met in training.

See docs/methods/instamanip.md.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from baselines.instamanip.editor import Learner, Painter

LABEL = "InstaManip (no instruction)"
PAPER = "https://arxiv.org/abs/2412.01027"
LICENSE = "none stated (code, weights); parts under the LLaMA 2, Tongyi Qianwen and CreativeML OpenRAIL++-M licences"
CONDITIONING = "exemplar"
NEEDS = ("exemplar",)
STAGES = ("prepare", "plan", "edit")
WEIGHTS = ("instamanip", "instamanip_renderer", "instamanip_vision")
RESOLUTION = None
GPU_GB = 64
DETERMINISTIC = True
TRAINED_ON = ("timbrooks/instructpix2pix-clip-filtered",)
OPTIONS = {  # as baselines.instamanip
    "num_inference_steps": 50,
    "guidance_scale": 7.5,
    "image_guidance_scale": 1.5,
    "text": "dropped",  # as the training code drops it, quotes and all; or empty_quotes, as the script with no words
    "plan_batch_size": 8,
    "precision": "float32",
}


def load(weights: Mapping[str, Path], options: Mapping[str, Any], device: str, stage: str) -> "Learner | Painter":
    """The language model with its tower to prepare and plan, the renderer to edit.

    Raises:
        InputError: an option is out of range, the weights are incomplete or do not fit each other, or memory is short.
    """
    from baselines.instamanip.editor import check_silent, load_stage

    check_silent(options["text"])
    return load_stage(weights, options, device, stage, text=options["text"])
