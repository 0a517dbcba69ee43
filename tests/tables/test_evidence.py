"""The claims of a run with planted scores, whose differences are constants."""

import json
from pathlib import Path

import pandas as pd
import pytest
from run_folder import config, write_run

from editclip.report import evidence


@pytest.fixture
def claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """evidence.csv of the planted run, indexed by claim."""
    write_run(tmp_path)
    measured = [
        ("editclip", "retrieval_edit", 0.75, 0.71, 0.79, 1000, 0.004),
        ("clip", "retrieval_edit", 0.08, 0.05, 0.12, 1000, 0.004),
        ("editclip", "instruction_cosine", 0.88, "", "", 575, ""),
    ]
    columns = ["encoder", "measure", "estimate", "low", "high", "n", "chance"]
    pd.DataFrame(measured, columns=columns).to_csv(tmp_path / "representation.csv", index=False)
    settings = config(tmp_path / "none.csv")
    settings["methods"] = [m | {"options": {}} for m in settings["methods"]]
    arguments = {"config": json.dumps(settings), "representation": tmp_path, "out": tmp_path / "evidence.csv"}
    arguments |= {name: tmp_path / name for name in ("bench", "scores", "edits")}
    flags = [word for name, value in arguments.items() for word in (f"--{name}", str(value))]
    monkeypatch.setattr("sys.argv", ["evidence", *flags])
    evidence.main()
    return pd.read_csv(tmp_path / "evidence.csv", index_col="claim")


def test_paired_differences_of_own_and_foreign_exemplars_and_of_the_copy(claims: pd.DataFrame) -> None:
    # Scores are offset + 0.1·seed (+ sample); seeds 0 and 1 against seed 0 add 0.05, and PSNR is ten times that.
    expected = {
        "EC2EC: editclip above shuffled-editclip": 0.3 - 0.1 + 0.05,
        "PSNR: editclip above shuffled-editclip": 10 * (0.3 - 0.1 + 0.05),
        "PSNR inside: editclip above copy_query": 0.3 + 0.05,
        "PSNR inside: ip2p above copy_query": 0.2 + 0.05,
    }
    found = claims[claims["group"] == "Above its controls"]
    assert found["estimate"].to_dict() == pytest.approx(expected)
    assert (found["low"] <= found["estimate"] + 1e-9).all() and (found["met"] == "yes").all()
    assert set(found["n"]) == {18}


def test_shares_have_intervals_within_bounds_and_only_the_whole_has_a_bar(claims: pd.DataFrame) -> None:
    found = claims[claims["group"].str.startswith("Closer")]
    assert found.loc["editclip", "estimate"] == pytest.approx(0.3 + 0.05 + 0.01 * 8.5)  # mean of 18 samples
    assert found.loc["editclip", "met"] == "no"
    assert {"editclip (global)", "editclip (colour)", "ip2p (addition)"} <= set(found.index)
    assert found["bar"].notna().sum() == 2
    assert found["low"].min() >= 0 and found["high"].max() <= 1


def test_the_bar_of_retrieval_is_editclips(claims: pd.DataFrame) -> None:
    found = claims[claims["group"] == "Representation"]
    barred = found[found["met"].notna()]
    assert list(barred["met"]) == ["yes"] and barred.index[0].endswith("wordings: editclip")
    assert found["note"].tolist()[:2] == ["chance 0.004", "chance 0.004"]
    assert found["low"].isna().sum() == 1, "a maximum has no interval"
