"""A table is about some families of edits, and about no others."""

from pathlib import Path

import pandas as pd
import pytest
from run_folder import EXEMPLARS, METHODS, QUERIES, TYPES, make_table, planted_table, read, score

from editclip.errors import InputError
from editclip.report.files import read_numbers, read_samples

SET_APART = "add_hat"  # the last type of the planted run, of the family that has to be named


@pytest.fixture
def apart(run: Path) -> Path:
    """The planted run, with that type set apart."""
    _change(run / "bench" / "manifest.csv", lambda frame: frame.assign(family=_families(frame)))
    return run


def _families(frame: pd.DataFrame) -> "pd.Series[str]":
    return frame["family"].mask(frame["edit_type"] == SET_APART, "multi")


def _change(path: Path, change) -> None:  # type: ignore[no-untyped-def]
    change(pd.read_csv(path, dtype=str, keep_default_na=False)).to_csv(path, index=False)


def _keep(run: Path, methods: list[str], apart: bool) -> None:
    """Leave only the edits and scores of the type that is set apart, or only those of the others."""
    for method in methods:
        for path in [*run.glob(f"edits/{method}/*/edits.csv"), *run.glob(f"scores/{method}/*/*.csv")]:
            _change(path, lambda frame: frame[frame["sample_id"].str.contains(SET_APART) == apart])


def test_a_table_is_the_same_with_and_without_edits_that_it_does_not_name(apart: Path, tmp_path: Path) -> None:
    with_them = make_table(apart, planted_table(), tmp_path / "with")
    _keep(apart, list(METHODS), apart=False)
    _change(apart / "bench" / "manifest.csv", lambda frame: frame[frame["edit_type"] != SET_APART])
    without = make_table(apart, planted_table(), tmp_path / "without")
    files = [path.name for path in with_them.iterdir() if path.name != "provenance.json"]
    assert len(files) > 5 and all((with_them / name).read_bytes() == (without / name).read_bytes() for name in files)


def test_a_table_of_the_family_has_its_means_alone(apart: Path, tmp_path: Path) -> None:
    _keep(apart, ["copy_query"], apart=True)  # which edited for this table alone
    rows = ["editclip", "copy_query"]
    folder = make_table(apart, planted_table("own", rows, families=["multi"]), tmp_path / "own")
    full = read_numbers(folder / "own_full.csv", ["scope", "method", "metric", "mean", "n"])
    mine = full[(full["scope"] == "all") & (full["metric"] == "ec2ec")].set_index("method")
    last = range((len(TYPES) - 1) * EXEMPLARS * QUERIES, len(TYPES) * EXEMPLARS * QUERIES)
    for method in rows:
        seeds = METHODS[method][2]
        values = [score(method, "ec2ec", sample, seed) for sample in last for seed in seeds]
        assert mine.loc[method, "mean"] == pytest.approx(sum(values) / len(values))
        assert mine.loc[method, "n"] == EXEMPLARS * QUERIES
    assert set(full.loc[full["scope"] == "family", "scope_value"]) == {"multi"}


def test_families_may_be_taken_together(apart: Path) -> None:
    results = read(apart, families=["colour", "multi"])
    assert set(results.samples["edit_type"]) == {"colour_red", SET_APART} == set(results.scores["edit_type"])
    assert set(read_samples(apart / "bench")["edit_type"]) == {"colour_red", "to_night"}
    assert set(read_samples(apart / "bench", ["multi"])["edit_type"]) == {SET_APART}


def test_a_row_that_did_not_edit_what_the_table_is_about_is_refused(apart: Path) -> None:
    _keep(apart, ["copy_query"], apart=True)
    with pytest.raises(
        InputError, match=r"copy_query/seed=0/edits\.csv lacks sample '01-colour_red-e0-q0' \(12 in all\)"
    ):
        read(apart)
    with pytest.raises(
        InputError, match='the benchmark has no edits of the family "style": it has global, colour, multi'
    ):
        read(apart, families=["style"])
