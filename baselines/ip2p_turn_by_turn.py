"""InstructPix2Pix told the parts of an edit one after the other: each turn edits what the turn before has made.

See docs/methods/ip2p-turn-by-turn.md.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editclip.editing import Editor, EditRequest, noise_seed

if TYPE_CHECKING:
    from PIL.Image import Image

LABEL = "InstructPix2Pix (turn by turn)"
PAPER = "https://arxiv.org/abs/2211.09800"
LICENSE = "MIT (code), CreativeML OpenRAIL-M (weights)"
CONDITIONING = "text"
NEEDS = ("instructions",)
STAGES = ("edit",)
WEIGHTS = ("ip2p",)
RESOLUTION = None
GPU_GB = 8
DETERMINISTIC = True
TRAINED_ON = ("timbrooks/instructpix2pix-clip-filtered",)
OPTIONS = {  # as baselines.ip2p, in every turn
    "num_inference_steps": 50,
    "guidance_scale": 7.5,
    "image_guidance_scale": 1.5,
    "precision": "float32",
}


class TurnByTurn:
    """An editor of single instructions, given those of an edit in turn."""

    def __init__(self, editor: Editor) -> None:
        self._editor = editor

    def edit(self, requests: Sequence[EditRequest]) -> "list[Image]":
        """What the last turn makes of each query. The turns of a batch are made together, as long as there are any."""
        told = [request.require("instructions") for request in requests]
        images = [request.query for request in requests]
        for turn in range(max(map(len, told))):
            going = [i for i, instructions in enumerate(told) if turn < len(instructions)]
            asked = [_turn(requests[i], images[i], told[i][turn], turn) for i in going]
            for i, image in zip(going, self._editor.edit(asked), strict=True):
                images[i] = image
        return images


def _turn(request: EditRequest, image: "Image", instruction: str, turn: int) -> EditRequest:
    """What the editor is asked in a turn: the first has the request's own seed, so that it alone is a plain edit."""
    seed = noise_seed(request.seed, "turn", turn) if turn else request.seed
    return dataclasses.replace(request, query=image, instruction=instruction, seed=seed)


def load(weights: Mapping[str, Path], options: Mapping[str, Any], device: str, stage: str) -> TurnByTurn:
    """`baselines.ip2p` with the pipeline from the diffusers folder `weights["ip2p"]`.

    Raises:
        InputError: a guidance scale at which the pipeline leaves guidance out.
    """
    from baselines.ip2p import load as load_ip2p

    return TurnByTurn(load_ip2p(weights, options, device, stage))
