"""Coefficients of metrics against votes: scipy's and numpy's numbers, closed forms, degenerate studies, refusals."""

import time

import numpy as np
import pandas as pd
import pytest
from scipy import stats as reference

from editclip import stats
from editclip.errors import InputError
from editclip.study import resampling
from editclip.study.coefficients import COLUMNS, DIFFERENCES, STATISTICS, coefficients, differences

SETTINGS = stats.Settings(resamples=2000, level=0.95, seed=0)
METRICS = ["ec2ec", "lpips"]


def study(types: int = 12, votes: int = 3, seed: int = 0, methods: str = "abcd", signal: float = 0.5) -> pd.DataFrame:
    """Votes on the first of `methods` against each other one, of two queries a type, two seeds; one question.

    The methods' qualities, metrics and shares of votes differ; the first metric says something of the single output,
    the second does not and has some scores twice.
    """
    random = np.random.default_rng(seed)
    rows = []
    quality = {m: -0.4 * i for i, m in enumerate(methods)}
    of_outputs: dict[tuple[str, str, int], tuple[float, float]] = {}
    for kind in range(types):
        for query in range(2):
            sample = f"s{kind}-{query}"
            for other in methods[1:]:
                repeat = int(random.integers(2))
                scores = []
                for method in (methods[0], other):
                    key = (method, sample, repeat)
                    fresh = (quality[method] + random.normal(), round(quality[method] + random.normal(), 1))
                    scores.append(of_outputs.setdefault(key, fresh))
                lead = scores[0][0] - scores[1][0]
                for rater in range(votes):
                    row = {"item_id": f"{sample}-{other}", "rater": f"r{rater}", "question": "edit", "seed": repeat}
                    row |= {"first": methods[0], "second": other, "won": int(signal * lead + random.normal() > 0)}
                    row |= {"cluster": f"t{kind}", "sample_id": sample, "query_id": f"q{kind}-{query}"}
                    row |= {f"first_{name}": value for name, value in zip(METRICS, scores[0], strict=True)}
                    rows.append(row | {f"second_{name}": value for name, value in zip(METRICS, scores[1], strict=True)})
    return pd.DataFrame(rows)


def row(table: pd.DataFrame, **where: str) -> pd.Series:
    """The one row of a table with these values."""
    for name, value in where.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def by_hand(votes: pd.DataFrame, metric: str) -> dict[str, float]:
    """Every statistic as its definition reads, votes and outputs in loops, correlations by scipy."""
    first, second = votes[f"first_{metric}"].to_numpy(), votes[f"second_{metric}"].to_numpy()
    won = votes["won"].to_numpy()
    lead, side = first - second, np.where(won == 1, 1, -1)
    found = {"d1": reference.pearsonr([*lead, *-lead], [*side, *-side])[0]}
    found["d2"] = reference.pearsonr(lead, won)[0]
    found["d3"] = reference.pearsonr([*first, *second], [*won, *(1 - won)])[0]
    score: dict[object, float] = {}
    chosen: dict[object, list[int]] = {}
    for vote in votes.to_dict("records"):
        for place, value in (("first", vote["won"]), ("second", 1 - vote["won"])):
            key = (vote[place], vote["sample_id"], vote["seed"])
            score[key] = vote[f"{place}_{metric}"]
            chosen.setdefault(key, []).append(value)
    found["d4"] = reference.pearsonr([score[k] for k in score], [np.mean(chosen[k]) for k in score])[0]
    z, weights = [], []
    for other in votes["second"].unique():
        rows = (votes["second"] == other).to_numpy()
        found[f"within {other}"] = reference.pearsonr(lead[rows], won[rows])[0]
        z.append(np.arctanh(found[f"within {other}"]))
        weights.append(rows.sum() - 3)
    found["within"] = np.tanh(np.average(z, weights=weights))
    found["accuracy"] = np.mean([0.5 if d == 0 else float((d > 0) == (s > 0)) for d, s in zip(lead, side, strict=True)])
    better = lead * side
    found["auc"] = reference.mannwhitneyu(better, -better).statistic / len(better) ** 2
    return found


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("seed", [0, 1])
def test_estimates_are_what_the_definitions_give_in_scipy(metric: str, seed: int) -> None:
    votes = study(seed=seed)
    table, expected = coefficients(votes, METRICS, SETTINGS), by_hand(votes, metric)
    assert tuple(table.columns) == COLUMNS
    for name in STATISTICS:
        mine = row(table, metric=metric, statistic=name)
        assert mine["estimate"] == pytest.approx(expected[name], abs=1e-9)
        assert mine["low"] < mine["estimate"] < mine["high"] and mine["note"] == ""
        assert (mine["votes"], mine["items"], mine["clusters"]) == (len(votes), len(votes) // 3, 12)
    for other in "bcd":
        mine = row(table, metric=metric, statistic="within_pair", pair=f"a–{other}")
        assert mine["estimate"] == pytest.approx(expected[f"within {other}"], abs=1e-9)
        assert mine["votes"] == (votes["second"] == other).sum()


def test_null_is_the_statistic_of_the_methods_means_over_outputs() -> None:
    votes = study()
    shown = pd.concat(
        votes[[side, "sample_id", "seed", f"{side}_ec2ec"]].set_axis(["method", "sample", "seed", "score"], axis=1)
        for side in ("first", "second")
    ).drop_duplicates(["method", "sample", "seed"])
    means = shown.groupby("method")["score"].mean()
    flat = votes.assign(first_ec2ec=votes["first"].map(means), second_ec2ec=votes["second"].map(means))
    table = coefficients(votes, ["ec2ec"], SETTINGS).set_index("statistic")
    with np.errstate(all="ignore"), pytest.warns(reference.ConstantInputWarning):
        expected = by_hand(flat, "ec2ec")
    for name in ("d1", "d2", "d3", "d4", "accuracy", "auc"):
        assert table.loc[name, "null"] == pytest.approx(expected[name], abs=1e-9)
    assert table.loc[["within", "within_pair"], "null"].isna().all()


def test_from_means_is_what_shuffling_scores_within_methods_leaves() -> None:
    """Pearson's numerator is linear in the scores, so the mean over shuffles is that of the methods' means."""
    votes = study(types=30, signal=1.0)
    table = coefficients(votes, ["ec2ec"], SETTINGS).set_index("statistic")
    random = np.random.default_rng(0)
    shuffled = []
    for _ in range(300):
        lead = np.zeros(len(votes))
        for sign, side in ((1, "first"), (-1, "second")):
            for rows in votes.groupby(side).indices.values():
                lead[rows] += sign * random.permutation(votes[f"{side}_ec2ec"].to_numpy()[rows])
        side = 2 * votes["won"].to_numpy() - 1
        shuffled.append((lead * side).sum() / np.sqrt((lead**2).sum() * len(votes)))
    assert table.loc["d1", "from_means"] == pytest.approx(np.mean(shuffled), abs=0.02)
    assert table.loc["d1", "estimate"] > table.loc["d1", "from_means"] + 0.1


def test_four_votes_have_closed_forms() -> None:
    """One pair, leads 1, 2, 3, 4, the last two won: d1 = (3 + 4 - 1 - 2) / sqrt(30 · 4), d2 = 0.5 / sqrt(1.25 / 4)."""
    votes = pd.DataFrame({"first_m": [1.0, 2, 3, 4], "second_m": 0.0, "won": [0, 0, 1, 1]})
    votes = votes.assign(item_id=list("wxyz"), question="edit", first="a", second="b", cluster=list("wxyz"), seed=0)
    votes["sample_id"] = list("wxyz")
    table = coefficients(votes, ["m"], SETTINGS).set_index("statistic")["estimate"]
    assert table["d1"] == pytest.approx(4 / np.sqrt(120))
    assert table["d2"] == table["within"] == table["within_pair"] == pytest.approx(0.5 / np.sqrt(1.25 * 0.25))
    assert table["accuracy"] == 0.5
    assert table["auc"] == pytest.approx(12 / 16)  # u = -1, -2, 3, 4: of the 16 sums u + u' twelve are above 0


def test_the_interval_of_independent_votes_is_fishers() -> None:
    """One vote a cluster: z ± 1.96 / sqrt(n - 3), for bivariate normal data; a vote is none, but r is small."""
    random = np.random.default_rng(1)
    n = 400
    votes = pd.DataFrame({"first_m": random.normal(size=n), "second_m": 0.0, "won": random.integers(2, size=n)})
    names = [f"s{i}" for i in range(n)]
    votes = votes.assign(item_id=names, question="edit", first="a", second="b", cluster=names, sample_id=names, seed=0)
    mine = row(coefficients(votes, ["m"], SETTINGS), statistic="within")
    half = reference.norm.ppf(0.975) / np.sqrt(n - 3)
    assert np.arctanh(mine["high"]) - np.arctanh(mine["estimate"]) == pytest.approx(half, rel=0.06)
    assert np.arctanh(mine["high"]) + np.arctanh(mine["low"]) == pytest.approx(2 * np.arctanh(mine["estimate"]))


def test_copies_of_votes_in_a_cluster_leave_the_interval() -> None:
    """Ten times the votes, none of them news: the interval stays, where that of independent votes would shrink."""
    votes = study()
    once, copied = (coefficients(v, METRICS, SETTINGS) for v in (votes, pd.concat([votes] * 10, ignore_index=True)))
    rest = ~once["statistic"].isin(["within"])  # whose weights are votes - 3
    for name in ("estimate", "low", "high"):
        np.testing.assert_allclose(once.loc[rest, name], copied.loc[rest, name], atol=1e-9)


def test_every_draw_is_the_statistic_of_the_resampled_clusters() -> None:
    """Draws of five of six clusters, built by copying rows, give the standard error that the interval has."""
    votes = study(types=6)
    settings = stats.Settings(resamples=150, level=0.95, seed=3)
    clusters = sorted(votes["cluster"].unique())
    weights = resampling.cluster_weights(6, settings)[1:] * 5 / 6
    drawn = []
    for multiplicities in weights.round().astype(int):
        own = dict(zip(clusters, multiplicities, strict=True))
        parts = [votes[votes["cluster"] == c].assign(sample_id=lambda v, i=i: v["sample_id"] + f"/{i}")
                 for c in clusters for i in range(own[c])]  # fmt: skip
        drawn.append(by_hand(pd.concat(parts), "ec2ec"))
    table = coefficients(votes, ["ec2ec"], settings).set_index("statistic")
    for name in ("d1", "d2", "d3", "d4"):
        error = np.std(np.arctanh([d[name] for d in drawn]))
        half = (np.arctanh(table.loc[name, "high"]) - np.arctanh(table.loc[name, "low"])) / 2
        assert half == pytest.approx(reference.t.ppf(0.975, 5) * error)
    error = np.std([d["accuracy"] for d in drawn])
    assert table.loc["accuracy", "high"] - table.loc["accuracy", "estimate"] == pytest.approx(
        reference.t.ppf(0.975, 5) * error
    )
    auc_error = (table.loc["auc", "high"] - table.loc["auc", "estimate"]) / reference.t.ppf(0.975, 5)
    assert auc_error == pytest.approx(np.std([d["auc"] for d in drawn]))


def test_votes_without_a_score_do_not_count() -> None:
    votes = study()
    holes = votes.copy()
    holes.loc[[0, 1, 2, 50], "second_ec2ec"] = np.nan
    table, expected = coefficients(holes, METRICS, SETTINGS), by_hand(votes.drop([0, 1, 2, 50]), "ec2ec")
    for name in STATISTICS:
        mine = row(table, metric="ec2ec", statistic=name)
        assert mine["votes"] == len(votes) - 4
        assert mine["estimate"] == pytest.approx(expected[name], abs=1e-9)
    assert row(table, metric="lpips", statistic="d1")["votes"] == len(votes)
    both = differences(holes, METRICS, SETTINGS)
    other = by_hand(votes.drop([0, 1, 2, 50]), "lpips")
    for name in STATISTICS:
        mine = row(both, statistic=name)
        assert mine["votes"] == len(votes) - 4
        assert mine["diff"] == pytest.approx(expected[name] - other[name], abs=1e-9)


def test_a_difference_is_significant_just_where_its_interval_leaves_out_0() -> None:
    tables = [differences(study(seed=s, signal=s / 20), METRICS, SETTINGS) for s in range(12)]
    table = pd.concat(tables)
    assert tuple(table.columns) == DIFFERENCES
    significant = table["p"] < 0.05
    assert 10 < significant.sum() < len(table) - 10
    np.testing.assert_array_equal(significant, (table["low"] > 0) | (table["high"] < 0))
    assert ((table["low"] <= table["diff"]) & (table["diff"] <= table["high"])).all()


def test_a_metric_differs_from_its_copy_by_nothing() -> None:
    votes = study().assign(first_copy=lambda v: v["first_ec2ec"], second_copy=lambda v: v["second_ec2ec"])
    table = differences(votes, ["ec2ec", "copy"], SETTINGS)
    assert (table["diff"] == 0).all() and (table["p"] == 1).all() and (table["low"] == 0).all()


def test_holms_family_are_the_tests_of_a_statistic() -> None:
    votes = pd.concat([study(), study(seed=5).assign(question="preserves")])
    votes = votes.assign(first_third=votes["first_lpips"] ** 3, second_third=votes["second_lpips"] ** 3)
    table = differences(votes, [*METRICS, "third"], SETTINGS)
    assert len(table) == 2 * 3 * len(STATISTICS)
    for _, group in table.groupby("statistic"):
        assert group["p_holm"].to_numpy() == pytest.approx(stats.holm(group["p"]))


def test_results_follow_the_seed_and_not_the_order_of_votes() -> None:
    votes = study()
    first = coefficients(votes, METRICS, SETTINGS)
    pd.testing.assert_frame_equal(first, coefficients(votes, METRICS, SETTINGS))
    mixed = coefficients(votes.sample(frac=1, random_state=0), METRICS, SETTINGS)
    key = ["metric", "statistic", "pair"]
    pd.testing.assert_frame_equal(first.set_index(key).sort_index(), mixed.set_index(key).sort_index())
    other = coefficients(votes, METRICS, stats.Settings(2000, 0.95, 1))
    assert (first["low"] != other["low"]).any()


def test_a_pair_with_one_sided_votes_is_left_out_with_a_word() -> None:
    votes = study()
    votes.loc[votes["second"] == "d", "won"] = 1
    table = coefficients(votes, METRICS, SETTINGS)
    alone = row(table, metric="ec2ec", statistic="within_pair", pair="a–d")
    assert np.isnan(alone["estimate"]) and alone["note"] == "all votes are alike"
    together = row(table, metric="ec2ec", statistic="within")
    assert together["note"] == "left out: a–d (all votes are alike)"
    rest = row(coefficients(votes[votes["second"] != "d"], METRICS, SETTINGS), metric="ec2ec", statistic="within")
    assert together["estimate"] == pytest.approx(rest["estimate"])
    assert row(table, metric="ec2ec", statistic="d1")["note"] == ""
    counts = ["votes", "items", "clusters"]
    assert together[counts].tolist() == rest[counts].tolist() == [96 * 3 // 2, 96 // 2, 12], "of two pairs of three"
    assert (differences(votes, METRICS, SETTINGS).set_index("statistic")["votes"].to_dict()) == {
        name: 144 if name == "within" else 216 for name in STATISTICS
    }


def test_the_counts_of_within_are_those_of_the_pairs_it_combines() -> None:
    """A pair on two more types of its own, whose votes are one-sided: its votes, items and types are not in within."""
    votes = study()
    lone = study(types=14)
    lone = lone[(lone["second"] == "d") & lone["cluster"].isin(["t12", "t13"])].assign(second="e", won=1)
    table = coefficients(pd.concat([votes, lone], ignore_index=True), ["ec2ec"], SETTINGS)
    assert row(table, statistic="within")[["votes", "items", "clusters"]].tolist() == [216, 72, 12]
    assert row(table, statistic="d1")[["votes", "items", "clusters"]].tolist() == [228, 76, 14]
    none = row(coefficients(votes.assign(won=1), ["ec2ec"], SETTINGS), statistic="within")
    assert none[["votes", "items", "clusters"]].tolist() == [0, 0, 0]


@pytest.mark.parametrize("order", [["ec2ec", "flat"], ["flat", "ec2ec"]])
def test_two_metrics_are_compared_within_the_pairs_that_both_can_use(order: list[str]) -> None:
    votes = study()
    votes = votes.assign(first_flat=votes["first_lpips"], second_flat=votes["second_lpips"])
    votes.loc[votes["second"] == "d", ["first_flat", "second_flat"]] = 0.5
    table = differences(votes, order, SETTINGS)
    mine, rest = row(table, statistic="within"), votes[votes["second"] != "d"]
    expected = row(differences(rest, order, SETTINGS), statistic="within")
    one, other = (by_hand(rest, name)["within"] for name in order)
    assert mine["diff"] == pytest.approx(one - other) == pytest.approx(expected["diff"])
    assert mine["votes"] == len(rest) and mine["note"] == "left out: a–d (the scores are all the same)"
    alone = row(coefficients(votes, ["ec2ec"], SETTINGS), statistic="within")
    assert alone["votes"] == len(votes) and alone["note"] == "", "by itself it has all pairs"


def test_one_sided_votes_have_no_correlation_but_an_accuracy() -> None:
    table = coefficients(study(methods="ab").assign(won=1), ["ec2ec"], SETTINGS).set_index("statistic")
    for name in ("d2", "within"):
        assert np.isnan(table.loc[name, "estimate"]) and "all votes are alike" in table.loc[name, "note"]
    assert table.loc[["d1", "d3", "d4", "auc"], "estimate"].notna().all()
    assert 0 < table.loc["accuracy", "estimate"] < 1 and table.loc["accuracy", "note"] == ""


def test_a_constant_metric_is_undefined_and_its_accuracy_a_half() -> None:
    votes = study().assign(first_flat=0.3, second_flat=0.3)
    table = coefficients(votes, ["flat"], SETTINGS).set_index("statistic")
    for name in ("d1", "d2", "d3", "d4", "within"):
        assert table.loc[name, ["estimate", "low", "high", "null", "from_means"]].isna().all()
        assert table.loc[name, "note"] != ""
    for name in ("accuracy", "auc"):
        assert table.loc[name, ["estimate", "null"]].tolist() == pytest.approx([0.5] * 2)
        assert table.loc[name, ["low", "high"]].isna().all() and "the same in every cluster" in table.loc[name, "note"]
    compared = differences(votes, ["ec2ec", "flat"], SETTINGS).set_index("statistic")
    assert compared.loc["within", ["diff", "low", "p", "p_holm"]].isna().all()
    assert "the scores are all the same" in compared.loc["within", "note"]
    assert compared.loc["accuracy", "low"] < compared.loc["accuracy", "diff"] < compared.loc["accuracy", "high"]


def test_votes_that_always_agree_with_a_metric_have_no_interval() -> None:
    votes = study().assign(won=lambda v: (v["first_ec2ec"] > v["second_ec2ec"]).astype(int))
    mine = row(coefficients(votes, ["ec2ec"], SETTINGS), statistic="accuracy")
    assert mine["estimate"] == 1 and np.isnan(mine["low"]) and "no interval" in mine["note"]


def test_one_cluster_has_estimates_without_intervals() -> None:
    votes = study().assign(cluster="all")
    table = coefficients(votes, ["ec2ec"], SETTINGS)
    assert table["estimate"].notna().all() and table["low"].isna().all() and table["high"].isna().all()
    assert (table["note"] == "one cluster: no interval").all()
    assert (differences(votes, METRICS, SETTINGS)["note"] == "one cluster: no interval").all()


def test_fewer_than_four_votes_are_nothing() -> None:
    table = coefficients(study()[:3], ["ec2ec"], SETTINGS)
    assert table[["estimate", "low", "high"]].isna().all(axis=None)
    assert table["note"].str.contains("3 votes, fewer than 4").all()
    unscored = study().assign(first_ec2ec=np.nan)
    table = coefficients(unscored, ["ec2ec"], SETTINGS)
    assert table["estimate"].isna().all() and (table["votes"] == 0).all()
    assert (table["note"] == "0 votes, fewer than 4").all()


def test_no_votes_are_no_rows() -> None:
    assert tuple(coefficients(study()[:0], METRICS, SETTINGS).columns) == COLUMNS
    assert differences(study()[:0], METRICS, SETTINGS).empty


def test_a_correlation_that_hangs_on_one_cluster_has_no_interval() -> None:
    """The only vote for the second method lies in one of 24 clusters: every third draw is without it."""
    votes = study(types=24, methods="ab").assign(won=1)
    votes.loc[5, "won"] = 0
    table = coefficients(votes, ["ec2ec"], SETTINGS)
    mine = row(table, statistic="within_pair")
    assert -1 < mine["estimate"] < 1 and np.isnan(mine["low"])
    assert "of the draws: no interval" in mine["note"]
    together = row(table, statistic="within")
    assert np.isnan(together["estimate"])
    assert together["note"] == "left out: a–b (votes other than the commonest in 1 of 24 clusters)"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v.rename(columns={"cluster": "clusters"}), "lack the column 'cluster' (did you mean \"clusters\"?)"),
        (lambda v: v.drop(columns="first_lpips"), "lack the column 'first_lpips'"),
        (lambda v: v.assign(won=[2, *v["won"][1:]]), "row 2 has won 2"),
        (lambda v: v.assign(first_lpips=["high", *v["first_lpips"][1:]]), "row 2 has first_lpips 'high'"),
        (lambda v: v.assign(second_lpips=[np.inf, *v["second_lpips"][1:]]), "row 2 has second_lpips inf"),
        (lambda v: v.assign(cluster=["other", *v["cluster"][1:]]), "sample 's0-0' lies in two clusters"),
    ],
)
def test_wrong_comparisons_are_refused_in_one_sentence(change: object, words: str) -> None:
    with pytest.raises(InputError) as refusal:
        coefficients(change(study()), METRICS, SETTINGS)  # type: ignore[operator]
    assert words in str(refusal.value) and "\n" not in str(refusal.value)


def test_ten_thousand_draws_of_a_whole_study_take_seconds() -> None:
    votes = study(types=80, votes=5)
    assert len(votes) == 2400
    votes = votes.assign(first_third=votes["first_lpips"] ** 3, second_third=votes["second_lpips"] ** 3)
    start = time.process_time()
    settings = stats.Settings(10_000, 0.95, 0)
    coefficients(votes, [*METRICS, "third"], settings)
    differences(votes, [*METRICS, "third"], settings)
    assert time.process_time() - start < 5
