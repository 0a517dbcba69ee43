"""The layouts of weights folders: each function checks one, tensor by tensor.

Raises:
    InputError: by each of them, when a file or tensor is missing, unreadable or misshapen.
"""

import json
from pathlib import Path
from typing import Any

from editclip.errors import InputError


def clip(folder: Path) -> None:
    """A CLIP folder with 3 input channels."""
    from editclip.model import Clip

    Clip.load(folder)


def editclip(folder: Path) -> None:
    """A CLIP folder with 6 input channels."""
    from editclip.model import EditCLIP

    EditCLIP.load(folder)


def component(folder: Path) -> None:
    """One network of diffusers, or our patch VAE."""
    _check_loaded(folder, _diffusers_class(folder))


def pipeline(folder: Path) -> None:
    """A Stable Diffusion style pipeline: UNet, VAE and text encoder."""
    from transformers import CLIPTextModel

    component(folder / "unet")
    component(folder / "vae")
    _check_loaded(folder / "text_encoder", CLIPTextModel)


def editclip_ip2p(folder: Path) -> None:
    """A UNet, the projection of edit tokens and, unless it is the release, the conditioning it was trained with."""
    from editclip.conditioning import Conditioning
    from editclip.projection import ImageProjModel

    component(folder / "unet")
    ImageProjModel.load(folder)
    Conditioning.load(folder)


def _check_loaded(folder: Path, model_class: Any) -> None:
    """Load `folder` strictly as `model_class`.

    Raises:
        InputError: unreadable, or a tensor is missing or has another shape than the folder's config says.
    """
    try:
        _, info = model_class.from_pretrained(
            folder, output_loading_info=True, ignore_mismatched_sizes=True, local_files_only=True
        )
    except Exception as error:  # whatever the libraries raise for an unreadable file, the user gets one sentence
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"weights folder {folder} cannot be loaded as {model_class.__name__}: {reason}") from error
    for name in sorted(info["missing_keys"]):
        raise InputError(f"weights folder {folder} lacks the tensor {name}; fetch or convert the weights again")
    for name, stored, wanted in sorted(info["mismatched_keys"]):
        raise InputError(
            f"weights folder {folder}: the tensor {name} has shape {tuple(stored)}, "
            f"but its config asks for {tuple(wanted)}; fetch or convert the weights again"
        )


def _diffusers_class(folder: Path) -> Any:
    """The class that a diffusers component's config.json names: one of diffusers, or our patch VAE."""
    import diffusers

    from editclip.patch_vae import PatchVAE

    try:
        name = json.loads((folder / "config.json").read_text(encoding="utf-8"))["_class_name"]
        return PatchVAE if name == "PatchVAE" else getattr(diffusers, name)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise InputError(f"weights folder {folder} has no config.json that names a diffusers class") from error
