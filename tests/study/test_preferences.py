"""Preferences against scipy, closed forms and published worked examples."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats as reference

from editclip import stats
from editclip.study.preferences import (
    AGREEMENT,
    PREFERENCES,
    agreement,
    alpha,
    bradley_terry,
    preferences,
    sign_test,
    strengths,
)  # fmt: skip

SETTINGS = stats.Settings(resamples=2000, level=0.95, seed=0)


def votes(outcomes: dict[tuple[str, str], list[str]], question: str = "edit", types: int = 4) -> pd.DataFrame:
    """A row a vote: of each pair the items in turn, an item a text of its raters' votes, 1 for the first."""
    rows = []
    for (first, second), items in outcomes.items():
        for number, answers in enumerate(items):
            for rater, won in enumerate(answers):
                left = number % 2 == 0
                rows.append({
                    "item_id": f"{first}-{second}-{number}", "rater": f"r{rater}", "question": question, "first": first,
                    "second": second, "won": int(won), "cluster": f"t{number % types}",
                    "choice": "left" if (won == "1") == left else "right",
                })  # fmt: skip
    return pd.DataFrame(rows)


TWO = votes({("a", "b"): ["111", "110", "011", "100", "111", "101", "000", "110"]})  # 15 of 24 votes, 6 of 8 items


def test_a_pair_has_its_win_rate_wilsons_interval_and_counts() -> None:
    row = preferences(TWO, SETTINGS, "human").iloc[0]
    n, share, z = 24, 15 / 24, reference.norm.ppf(0.975)
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)  # Wilson 1927, equation in Agresti and Coull 1998
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    assert tuple(row.index) == PREFERENCES
    assert row[["question", "first", "second", "votes", "items", "raters", "origin"]].tolist() == [
        "edit", "a", "b", 24, 8, 3, "human",
    ]  # fmt: skip
    assert row["win_rate"] == pytest.approx(share)
    assert row[["wilson_low", "wilson_high"]].tolist() == pytest.approx([middle - half, middle + half])


def test_the_papers_win_rate_has_the_published_wilson_interval() -> None:
    """Table 1's IP2P, 55.64 %, were its 4712 votes split evenly over four baselines: 52.8 to 58.5 %, p = 1.3e-4."""
    row = preferences(votes({("editclip", "ip2p"): ["1"] * 655 + ["0"] * 523}), SETTINGS, "human").iloc[0]
    assert row[["wilson_low", "wilson_high"]].tolist() == pytest.approx([0.528, 0.585], abs=1e-3)
    assert row["p"] == pytest.approx(1.3e-4, rel=0.1)


def test_items_not_votes_are_the_trials_of_the_exact_test() -> None:
    """6 of 8 majorities for the first: 2 (1 + 8 + 28) / 2^8 = 0.2890625, however many of the 24 votes."""
    assert preferences(TWO, SETTINGS, "human").loc[0, "p"] == pytest.approx(74 / 256)
    assert sign_test(pd.concat([TWO, TWO.assign(rater="again")])) == pytest.approx(74 / 256)


def test_tied_items_are_no_trials() -> None:
    tied = votes({("a", "b"): ["10", "01", "11", "11", "11"]})
    assert sign_test(tied) == pytest.approx(2 / 8)
    assert sign_test(tied.iloc[:4]) == 1


def test_holms_family_are_all_pairs_and_questions() -> None:
    outcomes = {("a", "b"): ["1"] * 7, ("a", "c"): ["1"] * 5 + ["0"]}
    both = pd.concat([votes(outcomes), votes(outcomes, "preserves")], ignore_index=True)
    table = preferences(both, SETTINGS, "human")
    assert table[["question", "second"]].to_numpy().tolist() == [
        ["edit", "b"], ["edit", "c"], ["preserves", "b"], ["preserves", "c"],
    ]  # fmt: skip
    strong, weak = 2 / 2**7, 2 * 7 / 2**6
    assert table["p"].tolist() == pytest.approx([strong, weak, strong, weak])
    assert table["p_holm"].tolist() == pytest.approx([4 * strong, 2 * weak, 4 * strong, 2 * weak])


def test_the_interval_resamples_clusters() -> None:
    """Four types of six votes each, shares 1, 1, 0, 2/3: the standard error of a mean of four."""
    table = votes({("a", "b"): ["111", "111", "000", "110"] * 2})
    row = preferences(table, stats.Settings(20_000, 0.95, 0), "human").iloc[0]
    shares = np.array([1, 1, 0, 2 / 3])
    half = reference.t.ppf(0.975, 3) * shares.std(ddof=1) / 2  # n - 1 of n units: the unbiased variance of their mean
    expected = [max(shares.mean() - half, 0), min(shares.mean() + half, 1)]
    assert row[["low", "high"]].tolist() == pytest.approx(expected, abs=0.02)
    crowded = preferences(pd.concat([table] * 20, ignore_index=True), SETTINGS, "human").iloc[0]
    assert crowded["wilson_high"] - crowded["wilson_low"] < 0.1 < crowded["high"] - crowded["low"]


@pytest.mark.parametrize("outcomes", [["111"] * 6, ["000"] * 6])
def test_votes_without_any_scatter_have_wilsons_interval_alone(outcomes: list[str]) -> None:
    row = preferences(votes({("a", "b"): outcomes}), SETTINGS, "human").iloc[0]
    assert row[["low", "high"]].isna().all() and 0.1 < row["wilson_high"] - row["wilson_low"] < 0.2


def test_one_cluster_has_no_interval() -> None:
    row = preferences(TWO.assign(cluster="one"), SETTINGS, "human").iloc[0]
    assert row[["low", "high"]].isna().all()


def test_the_strengths_of_two_methods_are_half_the_log_odds_each() -> None:
    found = strengths(TWO)
    assert found["a"] == pytest.approx(np.log(15 / 9) / 2, abs=1e-10)
    assert found["a"] + found["b"] == pytest.approx(0, abs=1e-12)


def test_the_strengths_of_a_star_are_the_log_odds_against_its_middle() -> None:
    """One method against each other one, as in the paper: each pair has a parameter of its own, so odds are met."""
    table = preferences(votes({("a", "b"): ["11110"], ("a", "c"): ["10"], ("a", "d"): ["100"]}), SETTINGS, "human")
    odds = table["strength_first"] - table["strength_second"]
    assert odds.tolist() == pytest.approx([np.log(4), 0, np.log(1 / 2)], abs=1e-10)


def test_strengths_meet_the_likelihoods_own_equations() -> None:
    """At the maximum every method is expected to win as often as it did (Bradley and Terry 1952)."""
    wins = np.random.default_rng(0).integers(1, 40, (6, 6)) * (1 - np.eye(6))
    found = bradley_terry(wins)
    chance = 1 / (1 + np.exp(found - found[:, None]))
    np.testing.assert_allclose(((wins + wins.T) * chance).sum(axis=1), wins.sum(axis=1), atol=1e-8)
    assert found.sum() == pytest.approx(0, abs=1e-10)


def test_published_strengths_of_baseball_teams() -> None:
    """American League 1987 (Agresti, Categorical Data Analysis, table 10.10): strengths relative to Baltimore."""
    teams = ["Milwaukee", "Detroit", "Toronto", "New York", "Boston", "Cleveland", "Baltimore"]
    wins = np.array([
        [0, 7, 9, 7, 7, 9, 11], [6, 0, 7, 5, 11, 9, 9], [4, 6, 0, 7, 7, 8, 12], [6, 8, 6, 0, 6, 7, 10],
        [6, 2, 6, 7, 0, 7, 12], [4, 4, 5, 6, 6, 0, 6], [2, 4, 1, 3, 1, 7, 0],
    ])  # fmt: skip
    found = dict(zip(teams, bradley_terry(wins), strict=True))
    relative = [found[team] - found["Baltimore"] for team in teams]
    assert relative == pytest.approx([1.581, 1.436, 1.294, 1.248, 1.108, 0.684, 0], abs=6e-4)


def test_a_method_that_won_everything_gets_half_a_vote_against_it() -> None:
    assert strengths(votes({("a", "b"): ["11111"]}))["a"] == pytest.approx(np.log(5.5 / 0.5) / 2, abs=1e-10)
    found = strengths(votes({("a", "b"): ["1111"], ("a", "c"): ["1100"]}))
    assert np.isfinite(list(found.values())).all() and found["a"] - found["b"] == pytest.approx(np.log(9), abs=1e-9)


def test_methods_that_were_never_compared_have_no_strengths() -> None:
    assert np.isnan(bradley_terry([[0, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 2], [0, 0, 3, 0]])).all()


def test_alpha_is_that_of_krippendorffs_worked_examples() -> None:
    """Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), A (two coders) and C (four coders)."""
    one = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0]
    other = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    binary = [[(a == value) + (b == value) for value in (0, 1)] for a, b in zip(one, other, strict=True)]
    assert alpha(binary) == pytest.approx(0.095, abs=5e-4)
    coders = ("123321412...", "1233224125.3", ".3332342251.", "12332441251.")
    units = list(zip(*coders, strict=True))
    assert alpha([[unit.count(value) for value in "12345"] for unit in units]) == pytest.approx(0.743, abs=5e-4)


def test_agreement_is_on_the_sides_that_raters_chose() -> None:
    """All raters of every item agree: 1, although every vote is for the same method; and chance gives about 0."""
    assert agreement(votes({("a", "b"): ["11"] * 20}))["alpha"].tolist() == [1.0]
    random = np.random.default_rng(0)
    chance = votes({("a", "b"): ["".join(map(str, random.integers(0, 2, 3))) for _ in range(2000)]})
    found = agreement(chance)
    assert abs(found.loc[0, "alpha"]) < 0.03 and tuple(found.columns) == AGREEMENT
    assert found.loc[0, ["question", "votes", "items", "raters"]].tolist() == ["edit", 6000, 2000, 3]


def test_agreement_needs_two_votes_on_an_item_and_two_answers() -> None:
    assert agreement(votes({("a", "b"): ["1", "0", "1"]}))["alpha"].isna().all()
    assert agreement(votes({("a", "b"): ["11"]}))["alpha"].isna().all()
