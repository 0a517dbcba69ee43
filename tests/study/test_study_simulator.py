"""The published worth of the coefficients: its simulation is right, and the document shows what was measured."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats as reference

from editclip import stats
from editclip.study.coefficients import coefficients
from editclip.study.resampling import cluster_weights

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import study_simulator as simulator  # noqa: E402

MEASURED = ROOT / "docs" / "study_simulator.csv"


def test_studies_have_the_published_size() -> None:
    """4712 comparisons, 25 types, 124 queries (EditCLIP, arXiv 2503.20318)."""
    size = simulator.SIZES["paper, 25 types"]
    assert size.items * len(simulator.OTHERS) == 4712 and sum(size.types) == 124 and len(size.types) == 25
    micro = simulator.SIZES["micro, 80 types"]
    assert micro.items == sum(micro.types) * micro.exemplars * micro.seeds
    assert len(simulator.worlds()) == len(simulator.SIZES) * len(simulator.EFFECTS) * len(simulator.SIGNALS)


def test_simulated_scores_and_votes_have_the_declared_moments() -> None:
    """Means of Table 1, sd 0.15, correlation 0.5 between two outputs of a sample, published win rates, known r."""
    world = simulator.World("paper, 124 queries", "few", 0.3)
    random = np.random.default_rng(0)
    drawn = [simulator.study(world, random) for _ in range(60)]
    table = simulator.published()
    within = []
    for number, other in enumerate(simulator.OTHERS):
        first, second = (np.concatenate([s[number][side][:, 0] for s in drawn]) for side in (0, 1))
        won = np.concatenate([s[number].won for s in drawn])
        assert first.mean() == pytest.approx(table["ec2ec"][simulator.OURS], abs=0.01)
        assert second.mean() == pytest.approx(table["ec2ec"][other], abs=0.01)
        assert second.std() == pytest.approx(simulator.SPREAD, rel=0.03)
        assert np.corrcoef(first, second)[0, 1] == pytest.approx(simulator.SHARED, abs=0.03)
        assert won.mean() == pytest.approx(table["wr_edit"][other], abs=0.01)
        within.append(np.corrcoef(first - second, won)[0, 1])
        rate = table["wr_edit"][other]
        expected = 0.3 * reference.norm.pdf(reference.norm.ppf(rate)) / np.sqrt(rate * (1 - rate))
        assert within[-1] == pytest.approx(expected, abs=0.015)
    assert simulator.truth(0.3, 1178, 1) == pytest.approx(np.tanh(np.mean(np.arctanh(within))), abs=0.01)


def test_a_simulated_study_is_judged_as_the_product_judges_it() -> None:
    world = simulator.World("micro, 80 types", "many", 0.3)
    settings = stats.Settings(200, simulator.LEVEL, 0)
    pairs = simulator.study(world, np.random.default_rng(0))
    parts = []
    for other, votes in zip(simulator.OTHERS, pairs, strict=True):
        part = pd.DataFrame({"first_m": votes.first[:, 0], "second_m": votes.second[:, 0], "won": votes.won})
        parts.append(part.assign(first=simulator.OURS, second=other, cluster=votes.codes, seed=0))
    frame = pd.concat(parts, ignore_index=True).assign(question="edit", item_id=lambda t: t.index)
    frame["sample_id"] = frame["item_id"]
    table = coefficients(frame, ["m"], settings).set_index("statistic")
    found = simulator.judged(pairs, cluster_weights(80, settings))
    assert table.loc["within", ["estimate", "low", "high"]].tolist() == pytest.approx(
        [found[name] for name in ("within", "low", "high")]
    )
    assert table.loc["d1", "estimate"] == pytest.approx(found["d1"])


def test_method_means_alone_make_the_papers_coefficient_and_nothing_within() -> None:
    """Paper's Table 2: EC2EC, edit question, 0.372."""
    found = simulator.row(simulator.World("paper, 25 types", "few", 0.0), 100, 200, 1)
    assert 0.34 < found["d1"] < 0.40
    assert abs(found["within"]) < 0.01 and found["holds_zero"] > 0.88


def test_the_interval_covers_a_known_correlation() -> None:
    found = simulator.row(simulator.World("micro, 80 types", "many", 0.3), 100, 200, 1)
    assert found["within"] == pytest.approx(found["true"], abs=0.01)
    assert found["coverage"] > 0.88 and found["alarms"] < 0.13


def test_the_measured_worth_is_what_the_document_claims() -> None:
    rows = pd.read_csv(MEASURED)
    assert (rows["studies"] >= 1000).all() and len(rows) == len(simulator.worlds())
    assert rows["coverage"].between(0.93, 0.97).all()
    null = rows[rows["signal"] == 0]
    assert (1 - null["holds_zero"]).between(0.035, 0.065).all() and null["d1"].between(0.35, 0.39).all()
    document = (ROOT / "docs" / "judging-metrics.md").read_text(encoding="utf-8")
    assert simulator.documented(document, rows) == document
