"""Released weights as they are downloaded: files, shards and their index, mapped into memory."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from baselines.instamanip.weight_files import tensors_one_by_one
from editclip.checkpoints import load_torch
from editclip.errors import InputError

KINDS = {".safetensors": "model*.safetensors", ".bin": "pytorch_model*.bin"}


class Weights(NamedTuple):
    """Tensors by name, mapped into memory, and where they come from."""

    tensors: Mapping[str, Tensor]
    source: Path

    def under(self, prefix: str) -> dict[str, Tensor]:
        """Those whose names have a prefix, without it."""
        return {name.removeprefix(prefix): each for name, each in self.tensors.items() if name.startswith(prefix)}


def weight_shards(place: Path, prefix: str = "") -> list[Path]:
    """The weights files of a folder; a file is its own only one.

    Args:
        place: a file, or a folder as transformers and DeepSpeed write them.
        prefix: where the folder has an index, files that hold no name with this prefix are left out; they need not
            be there.

    Raises:
        InputError: there is none, or one that the index names is not there.
    """
    if place.is_file():
        return [place]
    for ending, pattern in KINDS.items():
        for index in sorted(place.glob(f"*{ending}.index.json")):
            try:
                files: Mapping[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
                shards = [place / file for file in sorted({files[name] for name in files if name.startswith(prefix)})]
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                raise InputError(f"{index} is no index of weights ({error!r}); download it again") from error
            for shard in shards:
                if not shard.is_file():
                    raise InputError(f"{shard} is missing, but {index.name} names it; download it")
            if shards:
                return shards
        if found := sorted(place.glob(pattern)):
            return found
    raise InputError(f"{place} holds no {' and no '.join(KINDS.values())}; give the released weights, file or folder")


def stored(places: Sequence[Path], prefix: str = "") -> Weights:
    """The tensors in files, or in the files of folders; `prefix` as `weight_shards`.

    Raises:
        InputError: a file is missing or unreadable, or two hold a tensor of the same name.
    """
    tensors: dict[str, Tensor] = {}
    for file in [file for place in places for file in weight_shards(place, prefix)]:
        new = (
            dict(tensors_one_by_one(file))  # which are mapped as well
            if file.suffix == ".safetensors"
            else load_torch(file, mapped=True)
        )
        if twice := sorted(tensors.keys() & new.keys()):
            raise InputError(f"{file}: another of the given files holds {twice[0]} as well; give each weight once")
        tensors |= new
    return Weights(tensors, places[0])


def cast(tensor: Tensor, dtype: torch.dtype, name: str, source: Path) -> Tensor:
    """A tensor of another type.

    Raises:
        InputError: it is not finite in it.
    """
    result = tensor.to(dtype)
    if not result.isfinite().all():
        raise InputError(f"{source}: tensor {name} is not finite in {dtype}; give --dtype float32 or sound weights")
    return result
