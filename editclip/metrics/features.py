"""Encode every distinct image, pair and text once, and keep the features in the content-keyed cache.

Over the full benchmark one method has about 7,000 distinct images where metric-by-metric encoding would see 38,000,
and the queries and exemplars are the same for all methods. Features stay in fp32: a direction is a difference of two
nearly equal vectors, which half precision would drown in rounding.
"""

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Self, TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tqdm import tqdm

from editclip.provenance import code_digest
from editclip.storage import atomic_file, cache_folder, digest, file_digest

Item = TypeVar("Item")


class Store:
    """Tensors under content keys, in one safetensors file a batch; jobs may share a folder, files are only added.

    Args:
        folder: from `storage.cache_folder`, keyed by all that determines a value besides the item itself.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of(cls, kind: str, *, module: str, encoder: str, batch_size: int, device: str, size: int | None = None) -> Self:
        """The store of what one encoder makes of items of one kind.

        Args:
            kind: of items: "image", "edit", "text", "lpips".
            module: the metric family, whose code decides the values.
            encoder: digest of the encoder's weights.
            batch_size: items in a batch; kernels are chosen by shape.
            device: "cpu" or "cuda".
            size: side to which the family brings images, if it is the family that decides it.
        """
        return cls(cache_folder("features", kind, encoder, code_digest(module), batch_size, device, size))

    def load(self, keys: Collection[str]) -> dict[str, torch.Tensor]:
        """Those of `keys` that are stored."""
        wanted, found = set(keys), {}
        for path in sorted(self.folder.glob("[!.]*.safetensors")):  # a dot: being written
            with safe_open(path, framework="pt") as file:
                for key in wanted.intersection(file.keys()):
                    found[key] = file.get_tensor(key)
            wanted -= found.keys()
        return found

    def save(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Store a batch, atomically."""
        own = {key: tensor.detach().float().cpu().clone() for key, tensor in tensors.items()}  # no shared storage
        with atomic_file(self.folder / f"{digest(sorted(own))[:24]}.safetensors") as path:
            save_file(own, path)


def encode(
    items: Mapping[str, Item],
    encoder: Callable[[list[Item]], torch.Tensor],
    store: Store,
    *,
    batch_size: int,
    label: str,
) -> dict[str, torch.Tensor]:
    """Features of `items`, encoding only what `store` does not have.

    Every batch has exactly `batch_size` items, the last one filled up with repeats: kernels are chosen by shape, so
    with one shape a feature has the same bits whatever else was encoded with it.

    Args:
        items: what to encode, by content key.
        encoder: `list of B items -> B×D` features.
        store: where features are looked up and kept.
        batch_size: items in a batch.
        label: shown on the progress bar.

    Returns:
        `{key: D}` fp32 tensors on the CPU.
    """
    features = store.load(items)
    missing = [key for key in items if key not in features]
    with torch.inference_mode(), tqdm(total=len(missing), desc=label, disable=not missing) as bar:
        for start in range(0, len(missing), batch_size):
            keys = missing[start : start + batch_size]
            filled = [keys[i % len(keys)] for i in range(batch_size)]
            batch = encoder([items[key] for key in filled]).float().cpu()
            fresh = dict(zip(keys, batch, strict=False))
            store.save(fresh)
            features.update(fresh)
            bar.update(len(keys))
    return features


@functools.lru_cache(maxsize=1 << 16)
def _file_key(path: Path, changed_ns: int, size: int) -> str:
    return file_digest(path)


def image_key(path: Path) -> str:
    """Content key of an image file; read again only when the file changed."""
    facts = path.stat()
    return _file_key(path, facts.st_mtime_ns, facts.st_size)


def pair_key(before: Path, after: Path) -> str:
    """Content key of an ordered pair of image files."""
    return digest(image_key(before), image_key(after))


def text_key(text: str) -> str:
    """Content key of a text."""
    return digest(text)


def distinct(paths: Sequence[Path]) -> dict[str, Path]:
    """Image files by content key: equal files count once."""
    return {image_key(path): path for path in paths}
