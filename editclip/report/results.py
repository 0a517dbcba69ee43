"""What the rows of a table have on disk (edits, scores, cards, seconds), read and checked against each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from editclip.config.tables import Table, TableMethod
from editclip.data.families import Families
from editclip.errors import InputError
from editclip.report.files import read_json, read_manifest, read_table, refuse_duplicates, samples_of

SCORE_COLUMNS = ("method", "sample_id", "metric", "value", "status", "reason", "image_sha256")
EDIT_COLUMNS = ("sample_id", "seed", "sha256", "seconds", "status", "reason")
RUNTIME_COLUMNS = ("sample_id", "repeat", "exemplar_queries", "prepare_seconds", "plan_seconds", "edit_seconds",
                   "load", "cores", "status", "reason")  # fmt: skip
STATUSES = ("ok", "undefined", "skipped", "failed")


@dataclass(frozen=True)
class ResultFolders:
    """The folders with the results of a table's rows.

    Attributes:
        bench: with manifest.csv.
        edits: by row and seed, with edits.csv.
        scores: by row and metric family, with card.json and seed=<s>.csv.
        runtime: by row, with runtime.csv; of the rows that were timed.
        families: of edits that the table is about, see `editclip.data.families`.
    """

    bench: Path
    edits: Mapping[tuple[str, int], Path]
    scores: Mapping[tuple[str, str], Path]
    runtime: Mapping[str, Path]
    families: Families = None

    @property
    def inputs(self) -> dict[str, Path]:
        """What a table is made of, by name, for its provenance."""
        inputs = {"bench": self.bench / "manifest.csv"}
        inputs |= {f"edits of {name}, seed {seed}": path / "edits.csv" for (name, seed), path in self.edits.items()}
        inputs |= {f"scores of {name}, {family}": path for (name, family), path in self.scores.items()}
        return inputs | {f"runtime of {name}": path for name, path in self.runtime.items()}

    @property
    def metric_families(self) -> list[str]:
        """Their names, sorted."""
        return sorted({family for _, family in self.scores})


def result_folders(
    table: Table, bench: Path, edits: Sequence[Path], scores: Sequence[Path], runtime: Sequence[Path] = ()
) -> ResultFolders:
    """Which of the folders holds what, by the last parts of their paths; those of other methods or seeds are left out.

    Args:
        table: whose rows are wanted.
        bench: the bench folder.
        edits: folders `<method>` of folders `seed=<s>`.
        scores: folders `<method>/<family>`.
        runtime: folders `<method>`.

    Raises:
        InputError: a row lacks the edits of a seed, or the scores of a family that another row has.
    """
    rows = table.of_rows
    of_edits = {path.name: path for path in edits}
    of_scores = {(path.parent.name, path.name): path for path in scores if path.parent.name in rows}
    families = sorted({family for _, family in of_scores})
    if not families:
        raise InputError(f"there are no scores of {', '.join(rows)} among the folders given as --scores")
    chosen: dict[tuple[str, int], Path] = {}
    for name, method in rows.items():
        for seed in method.seeds:
            if name not in of_edits or not (of_edits[name] / f"seed={seed}").is_dir():
                raise InputError(f"there is no folder {name}/seed={seed} in those given as --edits")
            chosen[name, seed] = of_edits[name] / f"seed={seed}"
        for family in families:
            if (name, family) not in of_scores:
                raise InputError(f"there is no folder {name}/{family} among those given as --scores")
    timed = {path.name: path for path in runtime if path.name in table.declaration.rows}
    return ResultFolders(bench, chosen, of_scores, timed, table.declaration.families)


@dataclass(frozen=True)
class RunResults:
    """Everything a table needs.

    Attributes:
        methods: the rows by name, in order.
        samples: those of the bench manifest that the table is about, indexed by sample_id, empty cells = "".
        scores: long frame of method, seed, sample_id, group, edit_type, family, metric, value (NaN unless status is
            "ok"), status, reason.
        edits: long frame of method, seed, sample_id, seconds, status, reason.
        runtime: one row per timed edit: method, sample_id, repeat, exemplar_queries, prepare_seconds, plan_seconds,
            edit_seconds, load, cores, status, reason; none of a method that was not timed.
        cards: the scoring card of each metric family, the same for every method.
    """

    methods: Mapping[str, TableMethod]
    samples: pd.DataFrame
    scores: pd.DataFrame
    edits: pd.DataFrame
    runtime: pd.DataFrame
    cards: Mapping[str, Mapping[str, Any]]


def read_results(methods: Mapping[str, TableMethod], folders: ResultFolders) -> RunResults:
    """Read and check the results of all rows.

    Args:
        methods: the rows by name, in order.
        folders: where their results are.

    Raises:
        InputError: something is missing, repeated, contradictory, or scored with another card.
    """
    manifest = read_manifest(folders.bench)
    samples = samples_of(manifest, folders.families)
    cards = {family: common_card(family, list(methods), folders.scores) for family in folders.metric_families}
    made = [_edits(*key, path, manifest, folders.families) for key, path in folders.edits.items()]
    edits = pd.concat(made, ignore_index=True)
    digests = edits.set_index(["method", "seed", "sample_id"])["sha256"].to_dict()
    parts = [
        _scores(name, seed, folders.scores[name, family], manifest, folders.families, digests)
        for name, method in methods.items()
        for family in folders.metric_families
        for seed in method.seeds
    ]
    scores = pd.concat(parts, ignore_index=True)
    scores = scores.join(samples[["group", "edit_type", "family"]], on="sample_id")
    timed = [_runtime(name, folder, manifest) for name, folder in folders.runtime.items()]
    runtime = pd.concat(timed) if timed else pd.DataFrame(columns=["method", *RUNTIME_COLUMNS])
    return RunResults(methods, samples, scores, edits.drop(columns="sha256"), runtime, cards)


def common_card(family: str, names: Sequence[str], scores: Mapping[tuple[str, str], Path]) -> dict[str, Any]:
    """The scoring card of a metric family that all methods share.

    Args:
        family: of metrics.
        names: of the methods.
        scores: folders by method and family.

    Raises:
        InputError: two methods have different cards, so that they are not comparable, or one has none.
    """
    first = names[0]
    reference = read_json(scores[first, family] / "card.json")
    for name in names[1:]:
        card = read_json(scores[name, family] / "card.json")
        for key in sorted(reference.keys() | card.keys()):
            if reference.get(key) != card.get(key) or (key in reference) != (key in card):
                raise InputError(
                    f"scoring cards of {family} differ in {key!r}: {first} has {reference.get(key)!r}, {name} "
                    f"has {card.get(key)!r}; score both with the same settings"
                )
    return reference


def _edits(method: str, seed: int, folder: Path, manifest: pd.DataFrame, families: Families) -> pd.DataFrame:
    path = folder / "edits.csv"
    frame = read_table(path, EDIT_COLUMNS)
    refuse_duplicates(frame, ["sample_id"], path)
    samples = samples_of(manifest, families)
    _refuse_other_samples(frame, samples, manifest, path)
    frame = frame[frame["sample_id"].isin(samples.index)].copy()
    timed = (frame["status"] == "ok") & (frame["seconds"] != "")  # nobody knows how long a stranger's edits took
    frame["seconds"] = _numbers(frame["seconds"], timed, path, "seconds")
    frame = frame.assign(method=method, seed=seed)
    return frame[["method", "seed", "sample_id", "seconds", "status", "reason", "sha256"]]


def _runtime(method: str, folder: Path, manifest: pd.DataFrame) -> pd.DataFrame:
    path = folder / "runtime.csv"
    frame = read_table(path, RUNTIME_COLUMNS)
    unknown = frame.loc[~frame["sample_id"].isin(manifest.index), "sample_id"]
    if len(unknown):
        raise InputError(f"{path} names sample {unknown.iloc[0]!r}, which the bench lacks: make it again")
    for name in ("exemplar_queries", "prepare_seconds", "plan_seconds", "edit_seconds", "load", "cores"):
        frame[name] = _numbers(frame[name], frame["status"] == "ok", path, name)
    return frame[list(RUNTIME_COLUMNS)].assign(method=method)


def read_scores(
    method: str, seed: int, folder: Path, manifest: pd.DataFrame, families: Families = None
) -> pd.DataFrame:
    """The scores of one method, metric family and repetition, of some families of edits.

    Args:
        method: its name.
        seed: of the repetition.
        folder: of the method's scores of the family.
        manifest: of the bench, the whole, indexed by sample_id.
        families: of edits, see `editclip.data.families`.

    Returns:
        method, seed, sample_id, metric, value (NaN unless status is "ok"), status, reason, image_sha256.

    Raises:
        InputError: the file is missing, is of another method, or lacks, repeats or contradicts something.
    """
    path = folder / f"seed={seed}.csv"
    frame = read_table(path, SCORE_COLUMNS)
    refuse_duplicates(frame, ["sample_id", "metric"], path)
    other = frame.loc[frame["method"] != method, "method"]
    if len(other):
        raise InputError(f"{path} row {other.index[0] + 2} is of method {other.iloc[0]!r}: score {method} again")
    samples = samples_of(manifest, families)
    for metric, rows in frame.groupby("metric"):
        _refuse_other_samples(rows, samples, manifest, path, f" for metric {metric!r}")
    frame = frame[frame["sample_id"].isin(samples.index)].copy()
    unknown = frame.loc[~frame["status"].isin(STATUSES), "status"]
    if len(unknown):
        row = unknown.index[0] + 2
        raise InputError(f"{path} row {row}: status {unknown.iloc[0]!r} is none of {', '.join(STATUSES)}")
    frame["value"] = _numbers(frame["value"], frame["status"] == "ok", path, "value")
    columns = ["method", "seed", "sample_id", "metric", "value", "status", "reason", "image_sha256"]
    return frame.assign(seed=seed)[columns]


def _scores(
    method: str, seed: int, folder: Path, manifest: pd.DataFrame, families: Families, digests: Mapping[Any, str]
) -> pd.DataFrame:
    frame = read_scores(method, seed, folder, manifest, families)
    now = [digests[method, seed, sample] for sample in frame["sample_id"]]
    stale = frame[(frame["status"] == "ok") & (frame["image_sha256"] != now)]
    if len(stale):
        path, sample = folder / f"seed={seed}.csv", stale["sample_id"].iloc[0]
        raise InputError(f"{path}: sample {sample} was scored on another image than edits.csv names: score it again")
    return frame.drop(columns="image_sha256")


def _numbers(column: "pd.Series[str]", wanted: "pd.Series[bool]", path: Path, name: str) -> "pd.Series[float]":
    """Finite numbers where `wanted`, NaN elsewhere."""
    numbers = pd.to_numeric(column.where(wanted), errors="coerce")
    bad = column[wanted & ~numbers.abs().lt(float("inf"))]
    if len(bad):
        raise InputError(f"{path} row {bad.index[0] + 2}: {name} {bad.iloc[0]!r} of an ok row is not a finite number")
    return numbers


def _refuse_other_samples(
    frame: pd.DataFrame, samples: pd.DataFrame, manifest: pd.DataFrame, path: Path, where: str = ""
) -> None:
    """Refuse a file that lacks one of `samples`, or has one that the whole manifest has not."""
    unknown = frame.loc[~frame["sample_id"].isin(manifest.index), "sample_id"]
    if len(unknown):
        raise InputError(f"{path}{where} names sample {unknown.iloc[0]!r}, which the bench lacks: make it again")
    missing = samples.index.difference(pd.Index(frame["sample_id"]))
    if len(missing):
        raise InputError(f"{path}{where} lacks sample {missing[0]!r} ({len(missing)} in all): make it again")
