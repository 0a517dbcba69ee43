"""The claims of a run with planted scores, whose differences are constants."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from run_folder import arguments, planted_table, write_run

from editclip.errors import InputError
from editclip.report import tables

BARS = [{"metric": "closer", "at_least": 0.7, "rows": ["ip2p", "editclip"]}]
ENCODER_BARS = [{"measure": "retrieval_edit", "at_least": 0.7, "encoder": "editclip"}]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The planted run with measured representations."""
    write_run(tmp_path)
    measured = [
        ("editclip", "retrieval_edit", 0.75, 0.71, 0.79, 1000, 0.004),
        ("clip", "retrieval_edit", 0.08, 0.05, 0.12, 1000, 0.004),
        ("editclip", "instruction_cosine", 0.88, "", "", 575, ""),
    ]
    columns = ["encoder", "measure", "estimate", "low", "high", "n", "chance"]
    (tmp_path / "representation").mkdir()
    pd.DataFrame(measured, columns=columns).to_csv(tmp_path / "representation" / "representation.csv", index=False)
    return tmp_path


def made(run: Path, *more: object, **declared: Any) -> pd.DataFrame:
    """The evidence of a table (see `planted_table`), indexed by claim."""
    declared = {"bars": BARS, "representation": None} | declared
    out = run / "tables" / "table1"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["tables", *arguments(run, planted_table(**declared), out, *more)])
        tables.main()
    return pd.read_csv(out / "evidence.csv", index_col="claim")


@pytest.fixture
def claims(run: Path) -> pd.DataFrame:
    """The evidence with bars for rows and encoders."""
    return made(run, "--representation", run / "representation", representation=ENCODER_BARS)


def test_paired_differences_of_own_and_foreign_exemplars_and_of_the_copy(claims: pd.DataFrame) -> None:
    # Scores are offset + 0.1·seed (+ sample); seeds 0 and 1 against seed 0 add 0.05, and PSNR is ten times that.
    expected = {
        "EC2EC: editclip above shuffled-editclip": 0.3 - 0.1 + 0.05,
        "PSNR: editclip above shuffled-editclip": 10 * (0.3 - 0.1 + 0.05),
        **{f"{name}: editclip above copy_query": 0.3 + 0.05 for name in ("EC2EC", "PSNR inside")},
        **{f"{name}: ip2p above copy_query": 0.2 + 0.05 for name in ("EC2EC", "PSNR inside")},
        "PSNR: editclip above copy_query": 10 * (0.3 + 0.05),
        "PSNR: ip2p above copy_query": 10 * (0.2 + 0.05),
    }
    found = claims[claims["group"] == "Above its controls"]
    assert found["estimate"].to_dict() == pytest.approx(expected)
    assert (found["low"] <= found["estimate"] + 1e-9).all() and (found["met"] == "yes").all()
    assert set(found["n"]) == {18}


def closer(claims: pd.DataFrame) -> pd.DataFrame:
    """The claims about closeness, indexed by row and family ("" = the whole bench)."""
    found = claims[claims["group"].str.startswith("Closer")].fillna({"family": ""})
    return found.set_index("family", append=True)


def test_shares_have_intervals_within_bounds_and_only_the_whole_has_a_bar(claims: pd.DataFrame) -> None:
    found = closer(claims)
    assert found.loc[("editclip", ""), "estimate"] == pytest.approx(0.3 + 0.05 + 0.01 * 8.5)  # mean of 18 samples
    assert found.loc[("editclip", ""), "met"] == "no"
    assert {("editclip", "global"), ("editclip", "colour"), ("ip2p", "addition")} <= set(found.index)
    assert found["bar"].notna().sum() == 2
    assert found["low"].min() >= 0 and found["high"].max() <= 1


def test_intervals_are_over_types(claims: pd.DataFrame) -> None:
    """Type means of a row are 0.06 apart, so that three types have a standard error of 0.06/√3 and 2 degrees."""
    found = closer(claims).loc[("editclip", "")]
    half = 4.302653 * 0.06 / 3**0.5  # t quantile of 97.5 % with 2 degrees of freedom
    assert found["estimate"] - found["low"] == pytest.approx(half, rel=0.1)  # 1,000 draws


def test_a_family_misses_its_bar_with_the_upper_end_of_its_interval(run: Path) -> None:
    """Of editclip, the families' means are 0.375, 0.435 and 0.495 and their intervals some hundredths wide."""
    bar = {**BARS[0], "families": {"at_least": 0.5, "hard": ["colour"]}}
    found = closer(made(run, bars=[bar])).loc["editclip"]
    assert sorted(found["estimate"].drop("")) == pytest.approx([0.375, 0.435, 0.495])
    judged = found.drop("").drop("colour")
    assert (judged["met"] == (judged["high"] >= 0.5).map({True: "yes", False: "no"})).all()
    assert set(judged["met"]) == {"yes", "no"} and set(judged["bar"]) == {"interval reaches 0.5"}
    assert found.loc["colour", "note"] == "declared hard" and pd.isna(found.loc["colour", "met"])


def test_a_bar_may_be_set_for_the_difference_from_another_row_as_a_range(run: Path) -> None:
    bars = [
        {"metric": "psnr_inside", "minus": "ip2p", "at_least": 0.05, "at_most": 0.15, "rows": ["editclip"]},
        {"metric": "psnr_inside", "minus": "copy_query", "at_least": 0, "at_most": 0.1, "rows": ["editclip"]},
    ]
    found = made(run, bars=bars)
    found = found[found["group"] == "Held against a bar"]
    assert list(found.index) == ["PSNR inside: editclip minus ip2p", "PSNR inside: editclip minus copy_query"]
    assert found["estimate"].tolist() == pytest.approx([0.1, 0.35])
    assert found["met"].tolist() == ["yes", "no"] and found["bar"].iloc[0] == "at least 0.05, at most 0.15"


def test_the_bar_of_retrieval_is_editclips(claims: pd.DataFrame) -> None:
    found = claims[claims["group"] == "Representation"]
    barred = found[found["met"].notna()]
    assert list(barred["met"]) == ["yes"] and barred.index[0].endswith("wordings: editclip")
    assert found["note"].tolist()[:2] == ["chance 0.004", "chance 0.004"]
    assert found["low"].isna().sum() == 1, "a maximum has no interval"


def test_without_a_declared_representation_there_are_no_claims_about_it(run: Path) -> None:
    assert "Representation" not in set(made(run)["group"])
    assert made(run, "--representation", run / "representation", representation=[])["bar"].notna().sum() > 0
    with pytest.raises(InputError, match="give --representation FOLDER"):
        made(run, representation=[])


def test_a_shuffled_row_with_other_weights_is_no_control(run: Path) -> None:
    other = {"editclip": {"weights": {"editclip_ip2p": "editclip_ip2p"}}}
    other["shuffled-editclip"] = {"weights": {"editclip_ip2p": "lambda_0"}}
    assert not made(run, changes=other).index.str.contains("above shuffled").any()
    other["shuffled-editclip"] = other["editclip"]
    assert made(run, changes=other).index.str.contains("above shuffled").sum() == 2


def test_a_bar_may_be_set_for_any_metric_and_row_as_a_floor_or_a_ceiling(run: Path) -> None:
    """Means are offset + 0.085 + 0.05 over seeds 0 and 1: ip2p 0.335, the copy 0.085."""
    bars = [
        {"metric": "lpips_alex", "at_most": 0.1, "rows": ["ip2p", "copy_query"]},
        {"metric": "lpips_alex", "at_most": 0.5, "rows": ["editclip"]},
    ]
    found = made(run, bars=bars)
    held = found[found["group"] == "Held against a bar"]
    assert held["bar"].tolist() == ["at most 0.1", "at most 0.5", "at most 0.1"]
    assert held["met"].tolist() == ["no", "yes", "yes"]
    assert held["estimate"].tolist() == pytest.approx([0.335, 0.435, 0.085])
    assert found.loc[found["group"].str.startswith("Closer"), "bar"].isna().all()


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"bars": [{"metric": "closr", "at_least": 0.7, "rows": ["ip2p"]}]}, '"closr".*not scored.*mean "closer"'),
        ({"representation": [ENCODER_BARS[0] | {"encoder": "clp"}]}, "retrieval_edit of clp, which was not measured"),
    ],
)
def test_a_bar_for_what_was_not_measured_is_refused(run: Path, declared: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        made(run, "--representation", run / "representation", **declared)
