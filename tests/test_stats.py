"""The bootstrap against scipy and closed forms, its structure, and Holm's adjustment against a worked example."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats as reference

from editclip import stats

RESAMPLES = 4000


def crossed(sizes: dict[str, tuple[int, int]]) -> pd.DataFrame:
    """All exemplars x queries of each type; ids repeat from type to type."""
    rows = [(t, f"e{e}", f"q{q}") for t, (r, c) in sizes.items() for e in range(r) for q in range(c)]
    return pd.DataFrame(rows, columns=["type", "exemplar", "query"])


BENCH = crossed({"night": (4, 3), "red": (3, 5), "hat": (2, 2)})


def values(samples: pd.DataFrame, columns: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(len(samples), columns))


def test_a_weight_is_the_product_of_an_exemplars_and_a_querys_multiplicity() -> None:
    weights = stats.draws(BENCH, 50, 0, types=False)
    assert weights.shape == (50, len(BENCH))
    for rows in BENCH.groupby("type").indices.values():
        exemplars, queries = (BENCH[name].iloc[rows].nunique() for name in ("exemplar", "query"))
        grid = weights[:, rows].reshape(50, exemplars, queries)
        of_exemplar, of_query = grid.mean(axis=2), grid.mean(axis=1)
        np.testing.assert_allclose(grid, of_exemplar[:, :, None] * of_query[:, None, :], atol=1e-12)
        for multiplicity, units in ((of_exemplar, exemplars), (of_query, queries)):
            drawn = multiplicity * (units - 1) / units  # n - 1 units are drawn
            np.testing.assert_allclose(drawn, drawn.round(), atol=1e-12)
            np.testing.assert_allclose(drawn.sum(axis=1), units - 1)


def test_types_keep_their_share_or_are_resampled_whole() -> None:
    sizes = BENCH.groupby("type", sort=False).size()
    kept = pd.DataFrame(stats.draws(BENCH, 50, 0, types=False).T).groupby(BENCH["type"], sort=False).sum()
    np.testing.assert_allclose(kept, np.tile(sizes.to_numpy()[:, None], 50))
    resampled = pd.DataFrame(stats.draws(BENCH, 50, 0, types=True).T).groupby(BENCH["type"], sort=False)
    assert (resampled.nunique() == 1).all(axis=None)
    drawn = resampled.first() * 2 / 3  # two of the three types
    np.testing.assert_allclose(drawn, drawn.round(), atol=1e-12)
    np.testing.assert_allclose(drawn.sum(), 2)


def test_draws_follow_the_seed_and_the_samples_order() -> None:
    first = stats.draws(BENCH, 20, 3, types=False)
    np.testing.assert_array_equal(first, stats.draws(BENCH, 20, 3, types=False))
    assert (first != stats.draws(BENCH, 20, 4, types=False)).any()


def test_with_one_query_the_standard_error_is_scipys_bootstrap_corrected_for_n_minus_1() -> None:
    """scipy draws n of n, so its variance lacks the factor n / (n - 1)."""
    samples = crossed({"night": (8, 1)})
    y = values(samples)[:, 0]
    ours = stats.means(y, stats.draws(samples, 20000, 0, types=False)).std()
    scipy = reference.bootstrap((y,), np.mean, n_resamples=20000, rng=np.random.default_rng(1)).standard_error
    assert ours == pytest.approx(scipy * np.sqrt(8 / 7), rel=0.03)  # Monte-Carlo error of either: 0.5 %


def test_with_one_query_the_interval_is_students() -> None:
    """One-way, n units: mean +- t(n - 1) s / sqrt(n)."""
    samples = crossed({"night": (8, 1)})
    y = values(samples)[:, 0]
    freedom = stats.degrees_of_freedom(y, samples, types=False)
    assert freedom == pytest.approx([7])
    low, high = stats.interval(y, stats.draws(samples, 20000, 0, types=False), 0.9, freedom)
    student = reference.t.interval(0.9, 7, y.mean(), reference.sem(y))
    assert (low[0], high[0]) == pytest.approx(student, abs=0.03 * (student[1] - student[0]))


def test_the_standard_error_is_that_of_a_loop_over_draws() -> None:
    y = values(BENCH)[:, 0]
    weights = stats.draws(BENCH, 300, 0, types=False)
    by_hand = [sum(w * v for w, v in zip(row, y, strict=True)) / sum(row) for row in weights]
    low, high = stats.interval(y, weights, 0.95)
    assert (high - low) / 2 == pytest.approx(reference.norm.ppf(0.975) * np.std(by_hand))
    assert (high + low) / 2 == pytest.approx(y.mean())


def test_the_variance_of_the_draws_is_the_sum_of_the_parts_that_have_degrees_of_freedom() -> None:
    """E.g. exemplar means a_i of one 4 x 3 type: the part is sum (a_i - a)^2 / 3 / 4, as in a two-way ANOVA."""
    samples = crossed({"night": (4, 3)})
    y = values(samples).reshape(4, 3)
    exemplar, query = y.mean(axis=1), y.mean(axis=0)
    rest = y - exemplar[:, None] - query[None, :] + y.mean()
    parts = [exemplar.var(ddof=1) / 4, query.var(ddof=1) / 3, (rest**2).sum() / 6 / 12]
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 3 + parts[1] ** 2 / 2 + parts[2] ** 2 / 6)
    assert stats.degrees_of_freedom(y.ravel(), samples, types=False) == pytest.approx([freedom])
    spread = stats.means(y.ravel(), stats.draws(samples, 40000, 0, types=False)).var()
    assert spread == pytest.approx(sum(parts), rel=0.04)


def test_resampled_types_give_students_interval_of_the_type_means() -> None:
    samples = crossed({name: (2, 3) for name in "abcdef"})
    y = values(samples)[:, 0] + np.repeat(np.arange(6), 6)
    of_types = y.reshape(6, 6).mean(axis=1)
    freedom = stats.degrees_of_freedom(y, samples, types=True)
    assert freedom == pytest.approx([5])
    low, high = stats.interval(y, stats.draws(samples, 20000, 0, types=True), 0.95, freedom)
    student = reference.t.interval(0.95, 5, of_types.mean(), reference.sem(of_types))
    assert (low[0], high[0]) == pytest.approx(student, abs=0.03 * (student[1] - student[0]))


def test_columns_are_independent_and_a_value_that_is_missing_counts_nowhere() -> None:
    y = values(BENCH, 3)
    y[[0, 5, 20], 1] = np.nan
    weights = stats.draws(BENCH, RESAMPLES, 0, types=False)
    freedom = stats.degrees_of_freedom(y, BENCH, types=False)
    low, high = stats.interval(y, weights, 0.95, freedom)
    known = ~np.isnan(y[:, 1])
    assert (low[1] + high[1]) / 2 == pytest.approx(y[known, 1].mean())
    alone = stats.interval(y[known, 1], weights[:, known], 0.95, freedom[1])
    assert (low[1], high[1]) == pytest.approx((alone[0][0], alone[1][0]))
    assert low[2] == pytest.approx(stats.interval(y[:, 2], weights, 0.95, freedom[2])[0][0])


def test_what_has_no_replication_has_no_interval() -> None:
    single = crossed({"night": (1, 1), "red": (1, 1)})
    low, high = stats.interval([1.0, 2.0], stats.draws(single, 100, 0, types=False), 0.95)
    assert np.isnan(low).all() and np.isnan(high).all()
    y = np.full((len(BENCH), 3), np.nan)
    y[3, 1] = 1  # one value
    y[:12, 2] = values(BENCH)[:12, 0]  # one type
    for types in (False, True):
        freedom = stats.degrees_of_freedom(y, BENCH, types=types)
        low, _ = stats.interval(y, stats.draws(BENCH, 100, 0, types=types), 0.95, freedom)
        assert np.isnan(low).tolist() == [True, True, types]


def test_one_exemplar_leaves_the_queries_to_resample() -> None:
    samples = crossed({"night": (1, 6)})
    y = values(samples)[:, 0]
    assert stats.degrees_of_freedom(y, samples, types=False) == pytest.approx([5])
    low, high = stats.interval(y, stats.draws(samples, RESAMPLES, 0, types=False), 0.95, 5)
    assert low[0] < y.mean() < high[0]


def test_a_constant_has_an_interval_without_width() -> None:
    y = np.zeros(len(BENCH))
    weights = stats.draws(BENCH, 100, 0, types=False)
    low, high = stats.interval(y, weights, 0.95, stats.degrees_of_freedom(y, BENCH, types=False))
    assert low == high == [0]


def test_a_paired_difference_is_the_interval_of_the_difference_on_shared_samples() -> None:
    y = values(BENCH, 4)
    y[0, 0] = y[1, 2] = np.nan
    ours, theirs = y[:, :2], y[:, 2:]
    weights = stats.draws(BENCH, RESAMPLES, 0, types=False)
    freedom = stats.degrees_of_freedom(ours - theirs, BENCH, types=False)
    found = stats.paired(ours, theirs, weights, 0.95, freedom)
    low, high = stats.interval(ours - theirs, weights, 0.95, freedom)
    np.testing.assert_allclose([found.low, found.high], [low, high])
    np.testing.assert_allclose(found.diff, np.nanmean(ours - theirs, axis=0))
    assert found.n.tolist() == [len(BENCH) - 2, len(BENCH)]


def test_p_is_below_0_05_just_where_the_interval_leaves_out_0() -> None:
    weights = stats.draws(BENCH, RESAMPLES, 0, types=False)
    y = values(BENCH, 60) + np.linspace(-1, 1, 60)
    freedom = stats.degrees_of_freedom(y, BENCH, types=False)
    found = stats.paired(y, np.zeros_like(y), weights, 0.95, freedom)
    significant = found.p < 0.05
    assert 10 < significant.sum() < 50
    np.testing.assert_array_equal(significant, (found.low > 0) | (found.high < 0))


def test_p_has_a_floor_and_is_1_where_methods_agree() -> None:
    weights = stats.draws(BENCH, 99, 0, types=False)
    y = values(BENCH)[:, 0]
    assert stats.paired(y + 100, y, weights, 0.95).p == pytest.approx([1 / 100])
    assert stats.paired(y, y, weights, 0.95).p == pytest.approx([1])
    assert np.isnan(stats.paired(y * np.nan, y, weights, 0.95).p).all()


def test_holm_on_a_worked_example() -> None:
    """Three tests 0.01, 0.03, 0.04: 3 x 0.01, 2 x 0.03, max(0.06, 1 x 0.04); an absent test does not count."""
    assert stats.holm([0.03, np.nan, 0.01, 0.04]) == pytest.approx([0.06, np.nan, 0.03, 0.06], nan_ok=True)
    assert stats.holm([0.6, 0.7]).tolist() == [1, 1]
    assert stats.holm([]).tolist() == []
