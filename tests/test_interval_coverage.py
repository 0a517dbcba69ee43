"""The published coverage of the intervals: its simulation is right, and the document shows what was measured."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import interval_coverage as benchmark  # noqa: E402

MEASURED = ROOT / "docs" / "interval_coverage.csv"


def test_top_bench_x_has_its_published_size() -> None:
    """25 types, 257 exemplars, 124 queries, 1277 samples, 32 to 60 a type (EditCLIP, arXiv 2503.20318, section 4.2)."""
    sizes = np.array(benchmark.BENCHES["TOP-Bench-X"])
    products = sizes.prod(axis=1)
    assert len(sizes) == 25 and sizes.sum(axis=0).tolist() == [257, 124]
    assert products.sum() == 1277 and products.min() == 32 and products.max() <= 60


@pytest.mark.parametrize("distribution", list(benchmark.DISTRIBUTIONS))
def test_effects_have_mean_0_and_the_declared_variances(distribution: str) -> None:
    """Var(value) = type + exemplar + query + rest; two samples share the type's and the exemplar's, or the query's."""
    world = benchmark.World("one type, 4 × 3", "mixed", distribution, "none")
    values, types = world.values(world.samples(), 40000, np.random.default_rng(0))
    own = values - types
    exemplar, query, rest = (spread**2 for spread in benchmark.EFFECTS["mixed"])
    assert values.mean() == pytest.approx(0, abs=0.01)
    assert np.var(types[0]) == pytest.approx(benchmark.TYPE_SPREAD**2, rel=0.05)
    assert np.cov(own[0], own[0])[0, 1] == pytest.approx(exemplar + query + rest, rel=0.05)
    assert np.cov(own[0], own[1])[0, 1] == pytest.approx(exemplar, abs=0.02)  # one exemplar, two queries
    assert np.cov(own[0], own[3])[0, 1] == pytest.approx(query, abs=0.02)  # two exemplars, one query
    assert np.cov(own[0], own[4])[0, 1] == pytest.approx(0, abs=0.02)


def test_the_intervals_of_the_tables_cover_better_than_percentiles() -> None:
    world = benchmark.World("one type, 4 × 3", "queries", "normal", "none")
    rows = {r["interval"]: r["coverage"] for r in benchmark.coverage(world, benchmark.BLOCK, 200, 0)}
    assert rows["percentile, n of n"] < rows["percentile, n − 1 of n"] < rows["table"]
    assert 0.88 < rows["table"] < 0.99


def test_the_document_shows_what_was_measured() -> None:
    document = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")
    assert benchmark.published(document, pd.read_csv(MEASURED)) == document
