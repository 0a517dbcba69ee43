"""Files of a weights folder: JSON, tensors one by one, and whether they fit into the memory that is free."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import psutil
import torch
from pydantic import BaseModel
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from editclip.checkpoints import load_strict
from editclip.config.section import checked
from editclip.errors import InputError

S = TypeVar("S", bound=BaseModel)
M = TypeVar("M", bound=nn.Module)


def read_json(file: Path, kind: type[S]) -> S:
    """A JSON file of a weights folder as a section.

    Raises:
        InputError: it is missing, no JSON, or holds something else.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read ({error}); fetch or convert the weights again") from error
    try:
        return checked(kind, values)
    except InputError as error:
        raise InputError(f"{file}: {error}") from error


def tensors_one_by_one(file: Path) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a safetensors file in turn, so that only one at a time is in memory twice.

    Raises:
        InputError: it is no such file.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118  # no mapping
                yield name, opened.get_tensor(name)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{file} cannot be read ({error}); fetch or convert the weights again") from error


def check_tensors(module: nn.Module, files: Sequence[Path], source: Path) -> None:
    """Check by the files' headers alone that they hold exactly the tensors of a module, which is on the meta device.

    Raises:
        InputError: a file is unreadable, or a tensor is missing, superfluous or misshapen.
    """
    shapes = {name: shape for file in files for name, shape in _shapes(file).items()}
    load_strict(module, {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}, source)


def filled(module: M, file: Path, dtype: torch.dtype) -> M:
    """A module on the meta device with the tensors of a file, of type `dtype`, frozen and in evaluation mode.

    Raises:
        InputError: a tensor is missing, superfluous or misshapen.
    """
    load_strict(module, {name: tensor.to(dtype) for name, tensor in tensors_one_by_one(file)}, file)
    return module.requires_grad_(False).eval()


def check_memory(files: Sequence[Path], device: str, dtype: torch.dtype, purpose: str) -> None:
    """Refuse, before anything is loaded, what does not fit into the memory that is free.

    Args:
        files: safetensors files that will be in memory together; only their headers are read.
        device: "cpu" or "cuda".
        dtype: that they are loaded as.
        purpose: what they are loaded for, e.g. "planning".

    Raises:
        InputError: the weights alone need more than is free.
    """
    refuse_memory(sum(math.prod(s) for file in files for s in _shapes(file).values()), device, dtype, purpose)


def refuse_memory(values: int, device: str, dtype: torch.dtype, purpose: str) -> None:
    """Refuse so many values of a type if they do not fit into the memory that is free; see `check_memory`.

    Raises:
        InputError: they do not.
    """
    needed = dtype.itemsize * values
    present = torch.cuda.mem_get_info()[0] if device == "cuda" else psutil.virtual_memory().available
    if needed > present:
        halved = ", or take half precision" if dtype.itemsize > 2 else ""
        raise InputError(
            f"{purpose} InstaManip needs {needed / 1e9:.1f} GB on the {device} for its weights alone, and "
            f"{present / 1e9:.1f} GB are free; free some, take a larger machine{halved}"
        )


def _shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors in a safetensors file, of which only the header is read.

    Raises:
        InputError: it is no such file.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise InputError(f"{file} cannot be read ({error}); fetch or convert the weights again") from error
