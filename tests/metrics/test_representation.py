"""Retrieval and same-edit AUC against scikit-learn's ranking and loops written out here."""

import csv
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from metric_toys import photo, write_clip

from editclip.config.run import Statistics
from editclip.data.triplets import Triplets
from editclip.errors import InputError
from editclip.metrics import representation
from editclip.metrics.representation import Features, measures, recalled, weighted_auc

STATISTICS = Statistics(resamples=1000, level=0.95, seed=0)


def plain_auc(scores: np.ndarray, edits: np.ndarray, often: np.ndarray) -> float:
    """Pairs of pairs counted one by one."""
    wins = total = 0.0
    rows = range(len(edits))
    pairs = [(i, j) for i in rows for j in rows if i < j]
    for i, j in (p for p in pairs if edits[p[0]] == edits[p[1]]):
        for k, m in (p for p in pairs if edits[p[0]] != edits[p[1]]):
            weight = often[edits[i]] * often[edits[k]] * often[edits[m]]
            wins += weight * ((scores[i, j] > scores[k, m]) + (scores[i, j] == scores[k, m]) / 2)
            total += weight
    return wins / total


def symmetric(seed: int, count: int) -> np.ndarray:
    values = np.random.default_rng(seed).integers(0, 6, (count, count)).astype(float)  # few levels, so that some tie
    return values + values.T


def test_area_under_the_curve_equals_counting_pairs_one_by_one() -> None:
    edits = np.array([0, 0, 0, 1, 1, 2, 2, 3])
    weights = np.array([[1, 1, 1, 1], [2, 0, 1, 1], [0.5, 3, 1.5, 0]], dtype=float)
    scores = symmetric(1, len(edits))
    expected = [plain_auc(scores, edits, often) for often in weights]
    assert weighted_auc(scores, edits, weights) == pytest.approx(expected, abs=1e-12)


def test_area_is_undefined_without_two_pairs_of_one_edit() -> None:
    assert np.isnan(weighted_auc(symmetric(2, 3), np.array([0, 1, 2]), np.ones((1, 3)))).all()


def test_a_tie_with_a_wrong_text_is_a_miss() -> None:
    scores = np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.3]])
    right = np.array([[True, False], [True, False], [False, True]])
    assert recalled(scores, right).tolist() == [True, False, True]


def test_measures_of_features_made_by_hand() -> None:
    """Two edits, "a" with two wordings, in the plane: every value can be read off the angles."""
    angle = np.radians
    texts = np.stack([(np.cos(t), np.sin(t)) for t in angle([0, 10, 90])])  # a, another a, b
    edits = np.stack([(np.cos(t), np.sin(t)) for t in angle([8, 1, 80, 30])])
    names, told = ["a", "a", "b", "b"], np.array([0, 1, 2, 2])
    rows = measures({"one": Features(edits, texts), "two": Features(edits, texts)}, names, told, STATISTICS)
    found = {(row["encoder"], row["measure"]): row for row in rows}
    assert found["one", "retrieval_edit"]["estimate"] == 0.75  # 30° is nearer to both a's than to b
    assert found["one", "retrieval_edit"]["chance"] == pytest.approx((2 + 2 + 1 + 1) / 4 / 3)
    assert found["one", "retrieval_wording"]["estimate"] == 0.25  # 8° goes to the wording at 10°, 1° to the one at 0°
    assert found["one", "instruction_cosine"]["estimate"] == pytest.approx(np.cos(angle(80)))
    # Same edit: 7° and 50° apart; different: 72, 22, 79, 29. The first beats all four, the second two of them.
    assert found["one", "same_edit_auc"]["estimate"] == pytest.approx(6 / 8)


def test_encoders_share_the_draws() -> None:
    random = np.random.default_rng(0)
    same = Features(random.normal(size=(24, 4)), random.normal(size=(6, 4)))
    told = np.arange(24) % 6
    rows = measures({"one": same, "two": same}, [f"e{i}" for i in told], told, STATISTICS)
    difference = next(row for row in rows if row["encoder"] == "one - two")
    assert (difference["estimate"], difference["low"], difference["high"]) == (0, 0, 0)
    area = next(row for row in rows if row["measure"] == "same_edit_auc")
    assert area["low"] < area["estimate"] < area["high"]


def test_one_edit_alone_is_refused() -> None:
    features = Features(np.eye(2), np.eye(2))
    with pytest.raises(InputError, match="all 2 held-out pairs are of one edit"):
        measures({"one": features}, ["a", "a"], np.array([0, 1]), STATISTICS)


def test_stage_measures_the_test_split(tmp_path, monkeypatch) -> None:
    def png(seed: int) -> bytes:
        buffer = io.BytesIO()
        photo(seed).save(buffer, "PNG")
        return buffer.getvalue()

    triplets = tmp_path / "triplets"
    triplets.mkdir()
    for split, count in (("train", 2), ("validation", 2), ("test", 9)):
        rows = [
            {"original_prompt": "x", "original_image": {"bytes": png(i), "path": None}, "edit_prompt": f"do {i % 3}",
             "edited_prompt": "y", "edited_image": {"bytes": png(100 + i % 3), "path": None}, "edit_id": f"e{i % 3}"}
            for i in range(count)
        ]  # fmt: skip
        pq.write_table(pa.Table.from_pylist(rows), triplets / f"{split}-00000-of-00001.parquet")
    editclip, clip = write_clip(tmp_path / "editclip", 6, 0), write_clip(tmp_path / "clip", 3, 1)
    (clip / "logs").mkdir()
    (clip / "logs" / "cost.json").write_text('{"seconds": 90, "of": "cores"}')
    monkeypatch.setattr(
        "sys.argv",
        ["representation", "--triplets", str(triplets), "--encoders", f"editclip={editclip}", f"clip={clip}",
         "--statistics", STATISTICS.model_dump_json(), "--threads", "1", "--out", str(tmp_path / "out")],
    )  # fmt: skip
    opened: list[int] = []
    monkeypatch.setattr(representation, "Triplets", lambda *given: opened.append(given[2]) or Triplets(*given))
    representation.main()
    assert opened == [32], "both encoders see images of 32 px"
    with (tmp_path / "out" / "representation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["n"] for row in rows if row["measure"] == "retrieval_edit"} == {"9"}
    trained = [(row["encoder"], row["estimate"]) for row in rows if row["measure"] == "core_minutes"]
    assert trained == [("clip", "1.5")]
    assert {row["encoder"] for row in rows} == {"editclip", "clip", "editclip - clip"}
    for row in rows:
        if row["low"]:
            assert float(row["low"]) <= float(row["estimate"]) <= float(row["high"])
