"""What encoders made of the triplets' test split, as files: the features that stages without torch go on from."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from editclip.errors import InputError
from editclip.storage import write_json

FEATURES, LISTED = "features.safetensors", "features.json"
PARTS = ("edits", "texts")


@dataclass(frozen=True)
class Features:
    """Edits N×D and distinct instructions T×D of one encoder, float64, at length 1 (an edit of length 0 stays 0)."""

    edits: NDArray[np.float64]
    texts: NDArray[np.float64]


@dataclass(frozen=True)
class Encoded:
    """What several encoders made of one split.

    Attributes:
        texts: the T distinct instructions, sorted.
        encoders: features by name of the encoder, first the one that the others are compared with.
    """

    texts: list[str]
    encoders: dict[str, Features]


def write_features(folder: Path, encoders: Mapping[str, Features], texts: Sequence[str]) -> None:
    """Write features.safetensors, float32 under `<encoder>/edits` and `<encoder>/texts`, and features.json.

    Edits are in the order of the split, texts in that of `texts`; features.json says both, and the encoders' order.
    """
    arrays = {f"{name}/{part}": getattr(found, part) for name, found in encoders.items() for part in PARTS}
    save_file({key: np.ascontiguousarray(values, np.float32) for key, values in arrays.items()}, folder / FEATURES)
    write_json(folder / LISTED, {"encoders": list(encoders), "texts": list(texts)})


def read_features(folder: Path) -> Encoded:
    """What `write_features` wrote, back at length 1 in float64.

    Raises:
        InputError: a file is missing.
    """
    for name in (FEATURES, LISTED):
        if not (folder / name).is_file():
            raise InputError(f"{folder / name} is missing: run editclip.metrics.representation again")
    listed = json.loads((folder / LISTED).read_text(encoding="utf-8"))
    arrays = load_file(folder / FEATURES)
    encoders = {
        name: Features(*(_unit(arrays[f"{name}/{part}"].astype(np.float64)) for part in PARTS))
        for name in listed["encoders"]
    }
    return Encoded(listed["texts"], encoders)


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows at length 1; those of length 0 stay."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)
