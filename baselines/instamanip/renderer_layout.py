"""The layout of the renderer's weights, written, checked and loaded strictly.

`sizes.json`, `vision.safetensors` (the tower), `detokenizer.safetensors`, `no_features.safetensors` (the features of
"no image", a constant of the tower, so that nobody loads 4 GB for it) and, as diffusers saves them, `unet/`, `vae/` and
`scheduler/`.
"""

import json
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from baselines.instamanip.architecture import DetokenizerSizes, VisionSizes
from baselines.instamanip.detokenizer import Detokenizer
from baselines.instamanip.vision import VisionTower
from baselines.instamanip.weight_files import read_json, tensors_one_by_one
from editclip import layouts
from editclip.checkpoints import load_strict
from editclip.config.section import Section
from editclip.errors import InputError
from editclip.storage import write_json

M = TypeVar("M", bound=nn.Module)
SIZES = "sizes.json"
VISION, DETOKENIZER, NO_FEATURES = (f"{part}.safetensors" for part in ("vision", "detokenizer", "no_features"))


class RendererSizes(Section):
    """What `sizes.json` of a renderer holds."""

    vision: VisionSizes
    """of the tower"""
    detokenizer: DetokenizerSizes
    """of the de-tokenizer"""


def save_renderer(folder: Path, sizes: RendererSizes, vision: VisionTower, detokenizer: Detokenizer) -> None:
    """Write what diffusers does not: sizes, tower, de-tokenizer and, computed in fp32, the features of "no image".

    The tower is in fp32 afterwards: many a CPU has no arithmetic in half precision.
    """
    write_json(folder / SIZES, sizes.model_dump(mode="json"))
    for name, module in ((VISION, vision), (DETOKENIZER, detokenizer)):
        save_file({key: tensor.contiguous() for key, tensor in module.state_dict().items()}, folder / name)
    with torch.no_grad():
        save_file({"features": vision.float().eval().no_features().contiguous()}, folder / NO_FEATURES)


def filled(module: M, file: Path, dtype: torch.dtype) -> M:
    """A module on the meta device with the tensors of a file, of type `dtype`, frozen and in evaluation mode.

    Raises:
        InputError: a tensor is missing, superfluous or misshapen.
    """
    load_strict(module, {name: tensor.to(dtype) for name, tensor in tensors_one_by_one(file)}, file)
    return module.requires_grad_(False).eval()


def load_vision(folder: Path, dtype: torch.dtype = torch.float32) -> VisionTower:
    """The tower of a renderer's folder, frozen.

    Raises:
        InputError: it is missing, or a tensor of it is missing, superfluous or misshapen.
    """
    sizes = read_json(folder / SIZES, RendererSizes)
    with torch.device("meta"):
        tower = VisionTower(sizes.vision)
    return filled(tower, folder / VISION, dtype)


def load_detokenizer(folder: Path, dtype: torch.dtype = torch.float32) -> Detokenizer:
    """The de-tokenizer of a renderer's folder, frozen; raises as `load_vision`."""
    sizes = read_json(folder / SIZES, RendererSizes)
    with torch.device("meta"):
        detokenizer = Detokenizer(sizes.detokenizer, sizes.vision.slots, sizes.vision.feature_width)
    return filled(detokenizer, folder / DETOKENIZER, dtype)


def load_no_features(folder: Path) -> Tensor:
    """The features of "no image", 1×slots×width, of a renderer's folder.

    Raises:
        InputError: they are missing or of another shape.
    """
    vision = read_json(folder / SIZES, RendererSizes).vision
    found = dict(tensors_one_by_one(folder / NO_FEATURES)).get("features")
    if found is None or found.shape != (1, vision.slots, vision.feature_width):
        raise InputError(f"{folder / NO_FEATURES} holds no features of the tower's shape; convert the weights again")
    return found


def canvas_side(folder: Path) -> int:
    """Side in pixels of the images that a renderer makes; exemplars are brought to it first, as in the release.

    Raises:
        InputError: the configs of UNet and VAE do not say it.
    """
    try:
        unet, vae = (json.loads((folder / part / "config.json").read_text("utf-8")) for part in ("unet", "vae"))
        return int(unet["sample_size"]) << (len(vae["block_out_channels"]) - 1)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder}: unet/ and vae/ have no configs of a renderer ({error}); convert it again"
        ) from error


def check_renderer(folder: Path) -> None:
    """Check a renderer's folder.

    Raises:
        InputError: a part is missing, unreadable or misshapen.
    """
    load_vision(folder)
    load_detokenizer(folder)
    load_no_features(folder)
    layouts.component(folder / "unet")
    layouts.component(folder / "vae")
