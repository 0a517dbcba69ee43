"""What every metric family shares: the four outcomes of a score, the edits to score, the long table of values.

A score is `ok` with a finite value, or it has no value and says why: `undefined` (the formula has no answer here),
`skipped` (an input that the metric needs does not exist) or `failed` (there is no edited image). Nothing becomes a 0
or a NaN, so that a missing value never enters a mean unnoticed.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from editclip import stage
from editclip.data.bench import Bench, Sample
from editclip.errors import InputError
from editclip.storage import file_digest

COLUMNS = ("method", "sample_id", "metric", "value", "status", "reason", "image_sha256")


@dataclass(frozen=True)
class Score:
    """One metric of one edit. `value` is finite when `status` is "ok", else None with a `reason`."""

    status: str
    value: float | None = None
    reason: str = ""

    @classmethod
    def ok(cls, value: float) -> "Score":
        """A value.

        Raises:
            ValueError: it is not finite; the caller should have found out why and said `undefined`.
        """
        if not math.isfinite(value):
            raise ValueError(f"a score must be finite, not {value}")
        return cls("ok", float(value))

    @classmethod
    def undefined(cls, reason: str) -> "Score":
        """The formula has no answer for these images."""
        return cls("undefined", None, reason)

    @classmethod
    def skipped(cls, reason: str) -> "Score":
        """The benchmark lacks an input that the metric, or the method, needs."""
        return cls("skipped", None, reason)

    @classmethod
    def failed(cls, reason: str) -> "Score":
        """There is no edited image though there should be one."""
        return cls("failed", None, reason)


@dataclass(frozen=True)
class Edit:
    """One output of a method: an image on disk (`path`, `sha256`), or the `problem` every metric of it gets."""

    sample: Sample
    path: Path | None = None
    sha256: str = ""
    problem: Score | None = None


class Family(Protocol):
    """A metric family. `score` returns one `{metric: Score}` with all of `metrics` for each edit that has an image.

    Its class takes a `Setting`.
    """

    metrics: tuple[str, ...]

    def card(self) -> dict[str, Any]:
        """The family's part of the scoring card."""
        ...

    def score(self, edits: Sequence[tuple[Sample, Path]]) -> list[dict[str, Score]]:
        """Scores of (sample, image file) pairs."""
        ...


@dataclass(frozen=True)
class Setting:
    """What a family is built from: its config section, the benchmark, weights folders, batch size and torch device."""

    config: Any
    bench: Bench
    weights: Mapping[str, Path]
    batch_size: int
    device: str

    def weight(self, name: str) -> Path:
        """Folder of the weights `name`.

        Raises:
            InputError: it was not given or is not a folder.
        """
        folder = self.weights.get(name)
        if folder is None or not folder.is_dir():
            raise InputError(f"this metric family needs the weights folder {name!r}: give --weights {name}=FOLDER")
        return folder


def read_frame(path: Path, resolution: int) -> Image.Image:
    """An image file as RGB in the canonical frame.

    Raises:
        InputError: unreadable, or not `resolution` px square.
    """
    try:
        with Image.open(path) as image:
            frame = image.convert("RGB")
    except OSError as error:
        raise InputError(f"cannot read the image {path} ({error}): remove it and run the method again") from error
    if frame.size != (resolution, resolution):
        raise InputError(f"{path} is {frame.width}×{frame.height} px: an edit must be {resolution}×{resolution}")
    return frame


def _edit(sample: Sample, row: Mapping[str, str] | None, folder: Path) -> Edit:
    if row is None:
        return Edit(sample, problem=Score.failed("no row in edits.csv"))
    if row["status"] != "ok":
        outcome = Score.skipped if row["status"] == "skipped" else Score.failed
        return Edit(sample, problem=outcome(row["reason"] or f"the edit is marked {row['status']!r}"))
    path = folder / row["file"]
    if not row["file"] or not path.is_file():
        return Edit(sample, problem=Score.failed("the image file is missing"))
    sha256 = file_digest(path)
    if row["sha256"] != sha256:
        raise InputError(f"{path} is not the image that edits.csv recorded (sha256 differs): run the method again")
    return Edit(sample, path, sha256)


def read_edits(folder: Path, bench: Bench, shard: tuple[int, int] = (0, 1)) -> list[Edit]:
    """The edits of one method and seed, one for every sample of the benchmark, or of its shard, and in its order.

    Args:
        folder: holds `edits.csv` and the images.
        bench: the benchmark; a sample without a row counts as failed.
        shard: (k, n), the k-th of n parts of the samples, counted from 0; the others' images are not read.

    Raises:
        InputError: no edits.csv, a missing column, a repeated or unknown sample, or an image changed since it was made.
    """
    table = folder / "edits.csv"
    if not table.is_file():
        raise InputError(f"{table} does not exist: run the method for this seed first")
    with table.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = {"sample_id", "file", "sha256", "status", "reason"} - set(reader.fieldnames or ())
        if missing:
            raise InputError(f"{table} lacks the columns {sorted(missing)}")
        rows: dict[str, dict[str, str]] = {}
        for row in reader:
            if row["sample_id"] in rows:
                raise InputError(f"{table} has two rows for sample {row['sample_id']!r}: remove one")
            rows[row["sample_id"]] = row
    unknown = sorted(rows.keys() - {sample.sample_id for sample in bench.whole})
    if unknown:
        raise InputError(f"{table} names sample {unknown[0]!r}, which benchmark {bench.name!r} does not have")
    return [_edit(sample, rows.get(sample.sample_id), folder) for sample in stage.part(bench.samples, shard)]


def score_edits(family: Family, edits: Sequence[Edit]) -> list[dict[str, Score]]:
    """`{metric: Score}` of each edit; one without an image gets its problem as the score of every metric."""
    results = iter(family.score([(edit.sample, edit.path) for edit in edits if edit.path is not None]))
    return [dict.fromkeys(family.metrics, edit.problem) if edit.problem else next(results) for edit in edits]


def write_scores(path: Path, method: str, edits: Sequence[Edit], results: Sequence[Mapping[str, Score]]) -> None:
    """Write the long table: one row for each edit and metric, value empty unless the status is ok."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for edit, scores in zip(edits, results, strict=True):
            for metric, score in scores.items():
                value = "" if score.value is None else repr(score.value)
                row = (method, edit.sample.sample_id, metric, value, score.status, score.reason, edit.sha256)
                writer.writerow(row)


def card(family: Family, bench: Bench) -> dict[str, Any]:
    """The scoring card: all that must be equal in every row of a table for the rows to be comparable."""
    origins = sorted({sample.text_origin for sample in bench.whole if sample.text_origin})
    return {
        "metrics": list(family.metrics),
        "bench": {"name": bench.name, "digest": bench.digest, "resolution": bench.resolution, "texts": origins},
        **family.card(),
    }
