"""Votes are checked against the study, and raters are left out by the study's rules and no others."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from study_toys import called, write_run, write_study

from editclip.config.studies import Exclusion
from editclip.errors import InputError
from editclip.study import votes
from editclip.study.votes import Sheet, read_study, read_votes

MOMENT = "2025-03-26T12:00:00+01:00"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Sheet:
    run = tmp_path_factory.mktemp("run")
    write_run(run)
    return read_study(write_study(run))


def given(study: Sheet, raters: tuple[str, ...] = ("anna",), **change: Any) -> pd.DataFrame:
    """Attentive votes: all prefer the first method of an item; columns may be changed."""
    rows = [
        {
            "item_id": item_id, "rater": rater, "question": question, "left": item["left"], "right": item["right"],
            "choice": "left" if item["left"] == item["first"] else "right", "seconds": "30", "submitted_at": MOMENT,
        }
        for item_id, item in study.items.iterrows() for rater in raters for question in ("edit", "preserves")
    ]  # fmt: skip
    return pd.DataFrame(rows).assign(**change)


def write(folder: Path, frame: pd.DataFrame) -> Path:
    path = folder / "votes.csv"
    frame.to_csv(path, index=False)
    return path


def test_votes_that_count_are_those_on_pairs(study: Sheet, tmp_path: Path) -> None:
    kept, raters = read_votes(write(tmp_path, given(study, ("anna", "bert"))), study)
    kinds = study.items["kind"]
    trials = int((kinds == "catch").sum())
    assert trials == 5 and set(kept["item_id"].map(kinds)) == {"pair"} and len(kept) == 2 * 2 * 48
    assert (kept["chosen"] == kept["item_id"].map(study.items["first"])).all()
    assert kept["seconds"].dtype == float and kept["seconds"].eq(30).all()
    assert list(raters.columns) == list(votes.RATER_COLUMNS)
    assert raters.values.tolist() == [[name, 96, trials, trials, 30.0, ""] for name in ("anna", "bert")]


@pytest.mark.parametrize(("wrong", "left_out"), [(0, False), (1, False), (2, True), (5, True)])  # of 5; 75 % are 3.75
def test_who_misses_catch_trials_is_left_out(study: Sheet, tmp_path: Path, wrong: int, left_out: bool) -> None:
    frame = given(study, ("anna", "bert"))
    trials = study.items.index[study.items["kind"] == "catch"][:wrong]
    missed = frame["item_id"].isin(trials) & (frame["rater"] == "bert") & (frame["question"] == "edit")
    frame.loc[missed, "choice"] = frame.loc[missed, "choice"].map({"left": "right", "right": "left"})
    kept, raters = read_votes(write(tmp_path, frame), study)
    assert set(kept["rater"]) == ({"anna"} if left_out else {"anna", "bert"})
    bert = raters.set_index("rater").loc["bert"]
    assert bert["catch_right"] == 5 - wrong
    assert bert["excluded"] == (f"{5 - wrong} of 5 catch trials right, less than 75%" if left_out else "")


@pytest.mark.parametrize(("right", "trials"), [(55, 100), (7, 25), (28, 50), (3, 4)])
def test_who_gets_just_the_share_of_catch_trials_asked_for_stays(right: int, trials: int) -> None:
    """0.55 × 100 and the like are a little more than the whole number in floats."""
    rule = Exclusion(catch_right=right / trials, median_seconds=0.0)
    rater = {"catch_votes": trials, "catch_right": right, "median_seconds": 30.0}
    assert votes._reason(rater, rule) == ""
    assert votes._reason(rater | {"catch_right": right - 1}, rule) != ""


def test_the_other_question_of_a_catch_trial_counts_for_nothing(study: Sheet, tmp_path: Path) -> None:
    frame = given(study)
    other = frame["question"] == "preserves"
    frame.loc[other, "choice"] = frame.loc[other, "choice"].map({"left": "right", "right": "left"})
    _, raters = read_votes(write(tmp_path, frame), study)
    assert raters["catch_right"].tolist() == [5] and raters["excluded"].tolist() == [""]


def test_who_has_met_no_catch_trial_is_not_judged_by_them(study: Sheet, tmp_path: Path) -> None:
    frame = given(study)
    kept, raters = read_votes(write(tmp_path, frame[frame["item_id"].map(study.items["kind"]) == "pair"]), study)
    assert raters["catch_votes"].tolist() == [0] and len(kept) == 96


def test_who_is_too_fast_in_the_median_is_left_out(study: Sheet, tmp_path: Path) -> None:
    frame = given(study, ("anna", "bert", "cleo"))
    frame.loc[frame["rater"] == "bert", "seconds"] = "1.5"
    few = frame["item_id"].isin(study.items.index[:20])  # of 53
    frame.loc[(frame["rater"] == "cleo") & few, "seconds"] = "0"
    kept, raters = read_votes(write(tmp_path, frame), study)
    assert set(kept["rater"]) == {"anna", "cleo"}
    assert raters.set_index("rater")["median_seconds"].to_dict() == {"anna": 30, "bert": 1.5, "cleo": 30}
    assert raters.set_index("rater").at["bert", "excluded"] == "a median of 1.5 s an item, less than 2 s"


def test_both_reasons_are_said_and_nobody_left_is_an_error(study: Sheet, tmp_path: Path) -> None:
    frame = given(study, seconds="1")
    frame["choice"] = frame["choice"].map({"left": "right", "right": "left"})
    said = r"all 1 raters are left out .* 0 of 5 catch trials right, less than 75%; a median of 1 s"
    with pytest.raises(InputError, match=said):
        read_votes(write(tmp_path, frame), study)


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("item_id", "item-99", "item_id 'item-99' is no item of the study"),
        ("rater", "", "rater is empty: name the one who voted"),
        ("question", "edits", "question 'edits' is unknown (did you mean \"edit\"?): write one of edit, preserves"),
        ("choice", "lft", "choice 'lft' is unknown (did you mean \"left\"?): write one of left, right"),
        ("left", "our", "left 'our' is no method of the study (did you mean \"ours\"?)"),
        ("right", "", "right '' is no method of the study"),
        ("left", "SWAPPED", "but the study shows"),
        ("seconds", "-1", "seconds '-1' is not a number from 0 on"),
        ("seconds", "fast", "seconds 'fast' is not a number from 0 on"),
        ("seconds", "", "seconds '' is not a number"),
        ("seconds", "inf", "seconds 'inf' is not a number"),
        ("seconds", "nan", "seconds 'nan' is not a number"),
        ("submitted_at", "2025-03-26T12:00:00", "has no time zone: write it like 2025-03-26T12:00:00+00:00"),
        ("submitted_at", "26.3.2025", "is no time in ISO 8601: write it like"),
        ("submitted_at", "", "is no time in ISO 8601"),
    ],
)
def test_a_wrong_value_is_named_with_file_and_row(
    study: Sheet, tmp_path: Path, column: str, value: str, expected: str
) -> None:
    frame = given(study)
    frame.loc[7, column] = frame.loc[7, "right"] if value == "SWAPPED" else value
    path = write(tmp_path, frame)
    with pytest.raises(InputError) as refusal:
        read_votes(path, study)
    assert f"{path} row 9" in str(refusal.value) and expected in str(refusal.value), refusal.value
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("column", votes.VOTE_COLUMNS)
def test_a_missing_column_is_named(study: Sheet, tmp_path: Path, column: str) -> None:
    path = write(tmp_path, given(study).rename(columns={column: f"{column}s"}))
    with pytest.raises(InputError) as refusal:
        read_votes(path, study)
    assert f'{path} lacks the column {column!r} (did you mean "{column}s"?)' in str(refusal.value)


def test_a_vote_counts_once(study: Sheet, tmp_path: Path) -> None:
    frame = given(study)
    path = write(tmp_path, pd.concat([frame, frame.iloc[[3]]]))
    with pytest.raises(
        InputError, match=f"row {len(frame) + 2} repeats rater 'anna', item_id .*, question 'preserves'"
    ):
        read_votes(path, study)


def test_no_votes_and_no_file_are_said(study: Sheet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no vote"):
        read_votes(write(tmp_path, given(study)[:0]), study)
    with pytest.raises(InputError, match=r"nowhere.csv is missing"):
        read_votes(tmp_path / "nowhere.csv", study)


def test_more_columns_and_other_orders_do_no_harm(study: Sheet, tmp_path: Path) -> None:
    frame = given(study, ("anna", "bert"))
    mixed = frame.sample(frac=1, random_state=0).assign(comment="fine")[["comment", *reversed(frame.columns)]]
    (kept, raters), (again, others) = (read_votes(write(tmp_path, f), study) for f in (frame, mixed))
    order = ["item_id", "rater", "question"]
    pd.testing.assert_frame_equal(
        kept.sort_values(order, ignore_index=True), again.sort_values(order, ignore_index=True)
    )
    pd.testing.assert_frame_equal(raters, others)


def test_the_stage_takes_in_what_people_have_voted(study: Sheet, tmp_path: Path) -> None:
    frame = given(study, ("anna", "bert")).assign(comment="fine")
    path, out = write(tmp_path, frame), tmp_path / "votes" / "exemplar"
    called(votes.main, "--study", study.folder, "--votes", path, "--out", out)
    written = pd.read_csv(out / "votes.csv", dtype=str, keep_default_na=False)
    pd.testing.assert_frame_equal(written, frame[list(votes.VOTE_COLUMNS)].astype(written.dtypes))
    facts = json.loads((out / "votes.json").read_text())
    assert facts == {"origin": "human", "study": "exemplar", "votes": len(frame), "raters": 2, "items": 53}
    frame.loc[0, "choice"] = "both"
    with pytest.raises(InputError, match="row 2: choice 'both' is unknown"):
        called(votes.main, "--study", study.folder, "--votes", write(tmp_path, frame), "--out", tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("study.csv", ("pair,", "pear,"), "kind 'pear' is none of pair, catch"),
        ("study.csv", ("expected", "wanted"), "lacks the column 'expected'"),
        ("study.json", ('"exclude"', '"excluded"'), "no design with the rules of exclusion"),
        ("study.json", ('"catch_right": 0.75', '"catch_right": 75'), "design.exclude.catch_right: 75"),
    ],
)
def test_a_damaged_study_is_refused(
    study: Sheet, tmp_path: Path, name: str, change: tuple[str, str], expected: str
) -> None:
    for file in ("study.csv", "study.json"):
        text = (study.folder / file).read_text()
        (tmp_path / file).write_text(text.replace(*change, 1) if file == name else text)
    with pytest.raises(InputError) as refusal:
        read_study(tmp_path)
    assert expected in str(refusal.value)
