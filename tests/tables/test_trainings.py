"""Rows that are several trainings of one method: planted scores are linear, so that every mean has a closed form."""

from pathlib import Path

import pandas as pd
import pytest
from run_folder import STATISTICS, make_table, planted_table, read

from editclip import stats
from editclip.config.section import checked
from editclip.report import claims
from editclip.report.claim_evidence import Evidence
from editclip.report.claim_rules import Claim
from editclip.report.results import RunResults

# As if IP2P and EditCLIP, planted 0.1 apart, were two trainings of one method, and so were two controls.
PAIRS = {"twice": ["ip2p", "editclip"], "controls": ["shuffled-editclip", "copy_query"]}
ROWS = {"rows": ["twice", "controls"], "trainings": PAIRS, "reference": "controls", "paper": None}
RULE = {"kind": "best", "table": "table1", "metrics": ["ec2ec"], "method": "Mine", "rivals": ["Theirs"],
        "families": None}  # fmt: skip
AHEAD = checked(Claim, {"text": "Mine is ahead.", "source": "Table 9", "scopes": ["micro"], "rule": RULE})


def test_a_row_is_the_mean_of_its_trainings(planted: Path, tmp_path: Path) -> None:
    out = make_table(planted, planted_table(**ROWS), tmp_path / "table")
    cells = pd.read_csv(out / "table1.csv", index_col="method")["ec2ec"]
    mean = 0.01 * 17 / 2  # over the 18 samples
    assert cells["twice"] == pytest.approx((0.2 + 0.3) / 2 + 0.05 + mean)  # seeds 0 and 1 add 0 and 0.1
    assert cells["controls"] == pytest.approx((0.1 + 0.0) / 2 + mean)
    full = pd.read_csv(out / "table1_full.csv", index_col=["scope", "method", "metric"])
    assert full.loc[("all", "twice", "ec2ec"), "seeds"].item() == 4
    assert full.loc[("all", "twice", "ec2ec"), "diff"].item() == pytest.approx(0.25)
    facts = pd.read_csv(out / "rows.csv", index_col="method")
    assert facts.loc["twice", "n_outputs"] == 4 * 18 and facts.loc["twice", "runtime_s_empty"] == "not timed"


def test_each_training_is_held_against_the_reference_of_its_number(planted: Path, tmp_path: Path) -> None:
    out = make_table(planted, planted_table(**ROWS), tmp_path / "table")
    found = pd.read_csv(out / "table1_trainings.csv")
    found = found[found["metric"] == "ec2ec"].set_index(["row", "training"])
    assert found["method"].tolist() == [name for names in PAIRS.values() for name in names]
    assert found.loc[("twice", 0), "diff"] == pytest.approx(0.2 + 0.05 - 0.1)
    assert found.loc[("twice", 1), "diff"] == pytest.approx(0.3 + 0.05 - 0.0)
    assert found.loc["controls", "diff"].isna().all()


def test_a_reference_that_was_trained_once_is_every_trainings(planted: Path, tmp_path: Path) -> None:
    rows = {"rows": ["twice", "copy_query"], "trainings": {"twice": PAIRS["twice"]}, "reference": "copy_query"}
    out = make_table(planted, planted_table(**rows, paper=None), tmp_path / "table")
    found = pd.read_csv(out / "table1_trainings.csv")
    found = found[(found["metric"] == "ec2ec") & (found["row"] == "twice")]
    assert found["diff"].tolist() == pytest.approx([0.25, 0.35])


def test_a_table_without_trainings_has_no_file_of_them(planted: Path, tmp_path: Path) -> None:
    assert not list(make_table(planted, planted_table(), tmp_path / "table").glob("*_trainings.csv"))


def shifted(results: RunResults, method: str, by: float) -> RunResults:
    """The results with the scores of a training, by the name of its method, shifted."""
    row = next(row for row, names in PAIRS.items() if method in names)
    number = PAIRS[row].index(method)
    mine = (results.scores["method"] == row) & (results.scores["training"] == number)
    results.scores.loc[mine, "value"] += by
    return results


def decided(results: RunResults, mine: str, theirs: str) -> dict[str, object]:
    """What is said of the claim that one row is ahead of another."""
    run = Evidence({"Mine": mine, "Theirs": theirs}, {"table1": results}, {}, stats.Settings(**STATISTICS))
    return claims.decide(AHEAD, run, "micro")


@pytest.mark.parametrize(
    ("shift", "verdict", "note"),
    [
        (0.0, "supported", ""),
        # a mean difference of 0.05 on every sample, but of the two trainings one has 0.15, the other -0.05
        (-0.4, "undecided at this n", "trainings disagree Theirs"),
        (-0.6, "undecided at this n", "trainings disagree Theirs"),  # -0.05, and again by the second alone
    ],
)
def test_a_claim_needs_every_training(planted: Path, shift: float, verdict: str, note: str) -> None:
    found = decided(shifted(read(planted, **ROWS), "editclip", shift), "twice", "controls")
    assert found["verdict"] == verdict and found["note"] == note


def test_a_verdict_says_on_how_many_trainings_it_rests(planted: Path) -> None:
    here = {"trained": ["editclip_ip2p"]}
    twice = read(planted, changes={"ip2p": here, "editclip": here}, **ROWS)
    assert decided(twice, "twice", "controls")["note"] == "several trainings of Mine"
    once = read(planted, changes={"editclip": here}, rows=["ip2p", "editclip"])
    assert decided(once, "editclip", "ip2p")["note"] == "one training of Mine"
