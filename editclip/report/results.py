"""Read what a run left on disk (manifest, scores, edits, cards) into checked frames.

Only pandas is used, not the bench loader: a table is made of text files, and a change of image code must not remake it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from editclip.errors import InputError

SCORE_COLUMNS = ("method", "sample_id", "metric", "value", "status", "reason", "image_sha256")
EDIT_COLUMNS = ("sample_id", "seed", "sha256", "seconds", "status", "reason")
RUNTIME_COLUMNS = ("sample_id", "exemplar_queries", "prepare_seconds", "edit_seconds", "status", "reason")
SAMPLE_COLUMNS = ("sample_id", "group", "edit_type", "family", "exemplar_id", "query_id", "exemplar_before",
                  "exemplar_after", "query", "instruction", "ground_truth")  # fmt: skip
STATUSES = ("ok", "undefined", "skipped", "failed")


@dataclass(frozen=True)
class Method:
    """One row of a table: its name, what it is conditioned on ("text", "exemplar", "none"), whose exemplars it gets
    ("own", "shuffled") and its seeds.
    """

    name: str
    conditioning: str
    exemplars: str
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class RunResults:
    """Everything a table needs.

    Attributes:
        methods: rows, in config order.
        samples: the bench manifest, indexed by sample_id, empty cells = "".
        scores: long frame of method, seed, sample_id, group, edit_type, family, metric, value (NaN unless status is
            "ok"), status, reason.
        edits: long frame of method, seed, sample_id, seconds, status, reason.
        runtime: one row a timed edit: method, sample_id, exemplar_queries, prepare_seconds, edit_seconds, status,
            reason; none of a method that was not timed.
        cards: the scoring card of each metric family, the same for every method.
    """

    methods: tuple[Method, ...]
    samples: pd.DataFrame
    scores: pd.DataFrame
    edits: pd.DataFrame
    runtime: pd.DataFrame
    cards: Mapping[str, Mapping[str, Any]]


def read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """A CSV file as strings (empty cells stay ""), with all of `columns`.

    Raises:
        InputError: the file is missing, is no CSV, or lacks a column.
    """
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run the stage that writes it") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a CSV file ({error}): make it again") from error
    missing = [c for c in columns if c not in frame.columns]
    if missing:
        raise InputError(f"{path} lacks the column {missing[0]!r} (it has {', '.join(frame.columns)}): make it again")
    return frame


def read_numbers(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """`read_table` with every column of numbers as floats (empty cells NaN); columns with any text stay text."""
    frame = read_table(path, columns)
    for name in frame.columns:
        filled = frame[name] != ""
        values = pd.to_numeric(frame[name].where(filled), errors="coerce")
        if values[filled].notna().all():
            frame[name] = values.astype(float)
    return frame


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        InputError: the file is missing or holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run the stage that writes it") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not JSON ({error}): make it again") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} holds a {type(value).__name__}, not an object: make it again")
    return value


def read_samples(bench: Path) -> pd.DataFrame:
    """The manifest of a bench folder, indexed by sample_id.

    Raises:
        InputError: the manifest is missing, lacks a column or repeats a sample.
    """
    path = bench / "manifest.csv"
    frame = read_table(path, SAMPLE_COLUMNS)
    _refuse_duplicates(frame, ["sample_id"], path)
    return frame.set_index("sample_id")


def read_run(
    config: Mapping[str, Any],
    bench: Path,
    scores: Path,
    edits: Path,
    runtime: Sequence[Path] = (),
    table: str = "table1",
) -> RunResults:
    """Read and check all methods that `config` puts into `table`.

    Args:
        config: `methods`, a list of {name, exemplars, seeds (null: the run's), tables}, and `seeds`, the run's seeds.
        bench: folder with manifest.csv.
        scores: folder of <method>/<family>/{card.json, seed=<s>.csv}.
        edits: folder of <method>/seed=<s>/{method.json, edits.csv}.
        runtime: a folder <method>/ with runtime.csv for each method that was timed.
        table: name of the table.

    Raises:
        InputError: something is missing, repeated, contradictory, or scored with another card.
    """
    samples = read_samples(bench)
    entries = [m for m in config["methods"] if table in m["tables"]]
    if not entries:
        raise InputError(f"no method of the config has {table!r} among its tables: add one")
    methods = tuple(_method(m, config["seeds"], edits) for m in entries)
    families = sorted({p.parent.name for m in methods for p in (scores / m.name).glob("[!.]*/card.json")})
    if not families:
        raise InputError(f"{scores} has no scores of {', '.join(m.name for m in methods)}: run the metrics first")
    cards = {f: _common_card(f, methods, scores) for f in families}
    made = pd.concat([_edits(m, s, samples, edits) for m in methods for s in m.seeds], ignore_index=True)
    digests = made.set_index(["method", "seed", "sample_id"])["sha256"].to_dict()
    parts = [_scores(m, s, f, samples, digests, scores) for m in methods for f in families for s in m.seeds]
    long = pd.concat(parts, ignore_index=True)
    long = long.join(samples[["group", "edit_type", "family"]], on="sample_id")
    timed = (
        pd.concat([_runtime(folder, samples) for folder in runtime])
        if runtime
        else pd.DataFrame(columns=["method", *RUNTIME_COLUMNS])
    )
    return RunResults(methods, samples, long, made.drop(columns="sha256"), timed, cards)


def _method(entry: Mapping[str, Any], seeds: Sequence[int], edits: Path) -> Method:
    own = tuple(int(s) for s in (entry["seeds"] or seeds))
    card = read_json(edits / entry["name"] / f"seed={own[0]}" / "method.json")
    if "conditioning" not in card:
        raise InputError(f"method.json of {entry['name']} lacks 'conditioning': run its edits again")
    return Method(entry["name"], str(card["conditioning"]), str(entry["exemplars"]), own)


def _common_card(family: str, methods: Sequence[Method], scores: Path) -> dict[str, Any]:
    """The scoring card that all methods share; two rows with different cards are not comparable."""
    first = methods[0].name
    reference = read_json(scores / first / family / "card.json")
    for method in methods[1:]:
        card = read_json(scores / method.name / family / "card.json")
        for key in sorted(reference.keys() | card.keys()):
            if reference.get(key) != card.get(key) or (key in reference) != (key in card):
                raise InputError(
                    f"scoring cards of {family} differ in {key!r}: {first} has {reference.get(key)!r}, {method.name} "
                    f"has {card.get(key)!r}; score both with the same settings"
                )
    return reference


def _edits(method: Method, seed: int, samples: pd.DataFrame, edits: Path) -> pd.DataFrame:
    path = edits / method.name / f"seed={seed}" / "edits.csv"
    frame = read_table(path, EDIT_COLUMNS)
    _refuse_duplicates(frame, ["sample_id"], path)
    _refuse_other_samples(frame, samples, path)
    timed = (frame["status"] == "ok") & (frame["seconds"] != "")  # nobody knows how long a stranger's edits took
    frame["seconds"] = _numbers(frame["seconds"], timed, path, "seconds")
    frame = frame.assign(method=method.name, seed=seed)
    return frame[["method", "seed", "sample_id", "seconds", "status", "reason", "sha256"]]


def _runtime(folder: Path, samples: pd.DataFrame) -> pd.DataFrame:
    path = folder / "runtime.csv"
    frame = read_table(path, RUNTIME_COLUMNS)
    unknown = frame.loc[~frame["sample_id"].isin(samples.index), "sample_id"]
    if len(unknown):
        raise InputError(f"{path} names sample {unknown.iloc[0]!r}, which the bench lacks: make it again")
    for name in ("exemplar_queries", "prepare_seconds", "edit_seconds"):
        frame[name] = _numbers(frame[name], frame["status"] == "ok", path, name)
    return frame[list(RUNTIME_COLUMNS)].assign(method=folder.name)


def _scores(
    method: Method, seed: int, family: str, samples: pd.DataFrame, digests: Mapping[Any, str], scores: Path
) -> pd.DataFrame:
    path = scores / method.name / family / f"seed={seed}.csv"
    frame = read_table(path, SCORE_COLUMNS)
    _refuse_duplicates(frame, ["sample_id", "metric"], path)
    other = frame.loc[frame["method"] != method.name, "method"]
    if len(other):
        raise InputError(f"{path} row {other.index[0] + 2} is of method {other.iloc[0]!r}: score {method.name} again")
    for metric, rows in frame.groupby("metric"):
        _refuse_other_samples(rows, samples, path, f" for metric {metric!r}")
    unknown = frame.loc[~frame["status"].isin(STATUSES), "status"]
    if len(unknown):
        row = unknown.index[0] + 2
        raise InputError(f"{path} row {row}: status {unknown.iloc[0]!r} is none of {', '.join(STATUSES)}")
    frame["value"] = _numbers(frame["value"], frame["status"] == "ok", path, "value")
    now = [digests[method.name, seed, sample] for sample in frame["sample_id"]]
    stale = frame[(frame["status"] == "ok") & (frame["image_sha256"] != now)]
    if len(stale):
        sample = stale["sample_id"].iloc[0]
        raise InputError(f"{path}: sample {sample} was scored on another image than edits.csv names: score it again")
    return frame.assign(seed=seed)[["method", "seed", "sample_id", "metric", "value", "status", "reason"]]


def _numbers(column: "pd.Series[str]", wanted: "pd.Series[bool]", path: Path, name: str) -> "pd.Series[float]":
    """Finite numbers where `wanted`, NaN elsewhere."""
    numbers = pd.to_numeric(column.where(wanted), errors="coerce")
    bad = column[wanted & ~numbers.abs().lt(float("inf"))]
    if len(bad):
        raise InputError(f"{path} row {bad.index[0] + 2}: {name} {bad.iloc[0]!r} of an ok row is not a finite number")
    return numbers


def _refuse_duplicates(frame: pd.DataFrame, key: list[str], path: Path) -> None:
    repeated = frame[frame.duplicated(key)]
    if len(repeated):
        what = ", ".join(f"{k} {repeated[k].iloc[0]!r}" for k in key)
        raise InputError(f"{path} row {repeated.index[0] + 2} repeats {what}: keep one row of each")


def _refuse_other_samples(frame: pd.DataFrame, samples: pd.DataFrame, path: Path, where: str = "") -> None:
    unknown = frame.loc[~frame["sample_id"].isin(samples.index), "sample_id"]
    if len(unknown):
        raise InputError(f"{path}{where} names sample {unknown.iloc[0]!r}, which the bench lacks: make it again")
    missing = samples.index.difference(pd.Index(frame["sample_id"]))
    if len(missing):
        raise InputError(f"{path}{where} lacks sample {missing[0]!r} ({len(missing)} in all): make it again")
