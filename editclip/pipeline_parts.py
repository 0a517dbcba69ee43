"""Networks of a pipeline folder, loaded strictly; apart from the sampler, so that a training may import them alone."""

from pathlib import Path
from typing import TypeVar

import torch
from diffusers import ModelMixin
from diffusers import UNet2DConditionModel as UNet

from editclip.errors import InputError

P = TypeVar("P", bound=ModelMixin)


def load_part(kind: type[P], folder: str | Path, part: str, torch_dtype: torch.dtype = torch.float32) -> P:
    """Load one network of a pipeline folder, the subfolder `part`, strictly.

    Raises:
        InputError: it is not there, or a tensor is missing, superfluous or misshapen.
    """
    try:
        network, info = kind.from_pretrained(
            str(folder), subfolder=part, dtype=torch_dtype, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{folder}: its {part}/ cannot be loaded ({error}); give a complete pipeline folder."
        ) from error
    for problem in ("missing_keys", "unexpected_keys"):
        if info[problem]:
            name = sorted(info[problem])[0]
            raise InputError(f"{folder}/{part}: {problem.replace('_', ' ')}, e.g. {name}; give the complete weights.")
    return network


def load_unet(folder: str | Path, torch_dtype: torch.dtype = torch.float32) -> UNet:
    """The UNet of a pipeline folder; see `load_part`."""
    return load_part(UNet, folder, "unet", torch_dtype)
