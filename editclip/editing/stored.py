"""Tensors on their way from one stage to the next: a folder of safetensors and the CSV table that lists them."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from editclip.editing.work import Done, Row, place, read_rows, write_rows
from editclip.errors import InputError

if TYPE_CHECKING:
    import torch

COLUMNS = ("file", "sha256", "seconds", "status", "reason")


@dataclass(frozen=True)
class Undone:
    """Why there are no tensors: status ("failed" or "skipped") and reason."""

    status: str
    reason: str


@dataclass(frozen=True)
class TensorTable:
    """What a stage leaves for the later ones.

    Attributes:
        name: of the table, `<name>.csv`, of the option `--<name>` that takes its folders, and of its part of the cache.
        owner: whose the tensors of a row are: "exemplar" or "sample", which the column `<owner>_id` names.
    """

    name: str
    owner: str

    def write(self, folder: Path, found: Mapping[str, Done | Undone]) -> None:
        """Fill `folder` with `<id>.safetensors` and the table; a result without tensors has a row without a file."""
        rows = []
        for identifier, result in found.items():
            row: Row = dict.fromkeys(COLUMNS, "") | {f"{self.owner}_id": identifier}
            if isinstance(result, Undone):
                row |= {"status": result.status, "reason": result.reason}
            else:
                row |= {"status": "ok", "sha256": result.sha256, "seconds": result.seconds}
                if result.file is not None:
                    row["file"] = f"{identifier}.safetensors"
                    place(result.file, folder / row["file"])
            rows.append(row)
        write_rows(folder / f"{self.name}.csv", (f"{self.owner}_id", *COLUMNS), rows)

    def read(self, folders: Sequence[Path]) -> dict[str, Row]:
        """The rows of all folders by exemplar or sample, with `file` made a path (or "").

        Raises:
            InputError: a table is missing, or an exemplar or sample stands in two of them.
        """
        result: dict[str, Row] = {}
        for folder in folders:
            for row in read_rows(folder / f"{self.name}.csv"):
                identifier = row[f"{self.owner}_id"]
                if identifier in result:
                    raise InputError(f"{folder / self.name}.csv repeats {self.owner} {identifier}: give a shard once")
                result[identifier] = row | {"file": folder / row["file"] if row["file"] else ""}
        return result

    def row(self, rows: Mapping[str, Row], identifier: str) -> Row:
        """The row of an exemplar or sample.

        Raises:
            InputError: it has none.
        """
        if identifier not in rows:
            raise InputError(
                f"{self.owner} {identifier} is in none of the --{self.name} folders; give those of all shards"
            )
        return rows[identifier]


PREPARED = TensorTable("prepared", "exemplar")
PLANNED = TensorTable("planned", "sample")


def load_tensors(row: Row | None) -> "Mapping[str, torch.Tensor]":
    """The tensors of one row, on the CPU and the caller's own; none without a row, as without that stage, or a file."""
    return {k: t.clone() for k, t in _tensors(row["file"], row["sha256"]).items()} if row and row["file"] else {}


@functools.lru_cache(maxsize=1024)  # mapped files, whose pages the system drops when it needs the memory
def _tensors(file: Path, sha256: str) -> "Mapping[str, torch.Tensor]":
    """The tensors in a file, read once for all samples and seeds as long as its digest stays."""
    from safetensors.torch import load_file

    return load_file(file)
