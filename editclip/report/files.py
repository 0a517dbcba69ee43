"""Read what a run left on disk, text files all, into checked frames.

Only pandas is used, not the bench loader: a table is made of text files, and a change of image code must not remake it.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from editclip.data.families import Families, chosen
from editclip.errors import InputError

SAMPLE_COLUMNS = ("sample_id", "group", "edit_type", "family", "exemplar_id", "query_id", "exemplar_before",
                  "exemplar_after", "query", "instruction", "ground_truth")  # fmt: skip


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


def read_json(path: Path, keys: Sequence[str] = ()) -> dict[str, Any]:
    """A JSON object from a file, with all of `keys`.

    Raises:
        InputError: the file is missing, holds something else or lacks a key.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run the stage that writes it") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not JSON ({error}): make it again") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} holds a {type(value).__name__}, not an object: make it again")
    for key in keys:
        if key not in value:
            raise InputError(f"{path} lacks {key!r}: make it again")
    return value


def read_judgement_facts(folder: Path, keys: Sequence[str]) -> dict[str, Any]:
    """judgement.json of a study's judgements, with all of `keys`; see `read_json`."""
    return read_json(folder / "judgement.json", keys)


def read_samples(bench: Path, families: Families = None) -> pd.DataFrame:
    """The samples of some families in the manifest of a bench folder, indexed by sample_id.

    Args:
        bench: the folder.
        families: which, see `editclip.data.families`.

    Raises:
        InputError: the manifest is missing, lacks a column or repeats a sample, or has no such samples.
    """
    return samples_of(read_manifest(bench), families)


def samples_of(manifest: pd.DataFrame, families: Families) -> pd.DataFrame:
    """The samples of some families in a whole manifest.

    Raises:
        InputError: there are none.
    """
    return manifest.loc[chosen(manifest["family"].tolist(), [families], "the benchmark")]


def read_manifest(bench: Path) -> pd.DataFrame:
    """The whole manifest of a bench folder, indexed by sample_id.

    Raises:
        InputError: it is missing, lacks a column or repeats a sample.
    """
    path = bench / "manifest.csv"
    frame = read_table(path, SAMPLE_COLUMNS)
    refuse_duplicates(frame, ["sample_id"], path)
    return frame.set_index("sample_id")


def read_record(run: Path) -> dict[str, Any]:
    """The effective config of a run, which it records in config.yaml.

    Raises:
        InputError: the file is missing or lacks a section.
    """
    path = run / "config.yaml"
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run the stage that writes it") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML ({error}): make it again") from error
    for section in ("run", "statistics", "weights", "methods", "tables"):
        if not isinstance(config, dict) or not isinstance(config.get(section), dict):
            raise InputError(f"{path} has no section {section!r}: make it again")
    return config


def refuse_duplicates(frame: pd.DataFrame, key: list[str], path: Path) -> None:
    """Refuse a file with two rows of one `key`."""
    repeated = frame[frame.duplicated(key)]
    if len(repeated):
        what = ", ".join(f"{k} {repeated[k].iloc[0]!r}" for k in key)
        raise InputError(f"{path} row {repeated.index[0] + 2} repeats {what}: keep one row of each")
