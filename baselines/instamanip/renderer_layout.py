"""The layout of the renderer's weights, written, checked and loaded strictly.

`sizes.json`, `detokenizer.safetensors` and, as diffusers saves them, `unet/`, `vae/` and `scheduler/`.
"""

import json
from pathlib import Path

import torch
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from safetensors.torch import save_file

from baselines.instamanip.architecture import DetokenizerSizes
from baselines.instamanip.detokenizer import Detokenizer
from baselines.instamanip.weight_files import filled, read_json
from editclip import layouts
from editclip.config.section import Count, Section
from editclip.errors import InputError
from editclip.storage import write_json

SIZES, DETOKENIZER = "sizes.json", "detokenizer.safetensors"


class RendererSizes(Section):
    """What `sizes.json` of a renderer holds."""

    detokenizer: DetokenizerSizes
    """of the de-tokenizer"""
    slots: Count
    """features of an image"""
    feature_width: Count
    """of a feature"""


def empty_detokenizer(sizes: RendererSizes) -> Detokenizer:
    """The de-tokenizer of these sizes, with random weights."""
    return Detokenizer(sizes.detokenizer, sizes.slots, sizes.feature_width)


def save_renderer(folder: Path, sizes: RendererSizes, detokenizer: Detokenizer) -> None:
    """Write what diffusers does not: sizes and de-tokenizer."""
    write_json(folder / SIZES, sizes.model_dump(mode="json"))
    save_file({name: tensor.contiguous() for name, tensor in detokenizer.state_dict().items()}, folder / DETOKENIZER)


def load_detokenizer(folder: Path, dtype: torch.dtype = torch.float32) -> Detokenizer:
    """The de-tokenizer of a renderer's folder, frozen.

    Raises:
        InputError: it is missing, or a tensor of it is missing, superfluous or misshapen.
    """
    with torch.device("meta"):
        detokenizer = empty_detokenizer(read_json(folder / SIZES, RendererSizes))
    return filled(detokenizer, folder / DETOKENIZER, dtype)


def load_scheduler(folder: Path) -> EulerDiscreteScheduler:
    """The scheduler of a renderer's folder, or of Stable Diffusion XL's, as Euler's.

    Raises:
        InputError: it is missing or unreadable.
    """
    try:
        return EulerDiscreteScheduler.from_pretrained(str(folder), subfolder="scheduler", local_files_only=True)
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: its scheduler/ cannot be loaded ({error}); give a complete folder") from error


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
    load_detokenizer(folder)
    load_scheduler(folder)
    layouts.component(folder / "unet")
    layouts.component(folder / "vae")
