"""Nearest edits and instructions of planted features, whose neighbours can be read off their angles."""

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import planted_retrieval
import pytest
from PIL import Image
from planted_retrieval import CONFIG, ROWS, STATISTICS, TEXTS, arguments, encoders, write_representation, write_triplets

from editclip.data.triplets import Split
from editclip.errors import InputError
from editclip.metrics import retrieval
from editclip.metrics.encoded import Features, read_features, write_features
from editclip.metrics.ranking import bounded, chosen, others_ranked, precision, ranked
from editclip.metrics.retrieval import flat_map, write_retrieval


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the stage makes of the planted features."""
    place = tmp_path_factory.mktemp("planted")
    given = arguments(write_triplets(place / "triplets"), write_representation(place / "features"), place / "out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", given)
        retrieval.main()
    return place / "out"


def read(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / f"{name}.csv", dtype={"family": str}, keep_default_na=False)


def test_features_come_back_in_their_order_at_length_1(tmp_path: Path) -> None:
    given = {"z": Features(np.array([[3.0, 4.0], [0.0, 0.0]]), np.eye(2)), "a": Features(np.eye(2), np.eye(2))}
    write_features(tmp_path, given, ["make", "do"])
    found = read_features(tmp_path)
    assert list(found.encoders) == ["z", "a"] and found.texts == ["make", "do"]
    assert found.encoders["z"].edits == pytest.approx(np.array([[0.6, 0.8], [0.0, 0.0]]))
    assert found.encoders["z"].edits.dtype == np.float64


def test_of_equal_cosines_the_wrong_place_comes_first() -> None:
    found = ranked(np.array([[0.5, 0.9, 0.5, 0.5]]), np.array([[True, False, False, True]]))
    assert found.places.tolist() == [[1, 2, 0, 3]]
    assert found.right.tolist() == [[False, False, True, True]]
    assert found.cosines.tolist() == [[0.9, 0.5, 0.5, 0.5]]


def test_no_row_is_its_own_neighbour() -> None:
    cosines = np.array([[1.0, 1.0, 0.2], [1.0, 1.0, 0.3], [0.2, 0.3, 1.0]])
    found = others_ranked(cosines, np.ones((3, 3), bool))
    assert found.places.tolist() == [[1, 2], [0, 2], [1, 0]]
    assert np.isfinite(found.cosines).all() and cosines[0, 0] == 1.0


def test_precision_is_out_of_as_many_as_could_be_right() -> None:
    right = np.array([[True, False, True, False], [False, False, True, False], [False] * 4])
    found, _ = precision(right, 4)
    assert found[0].tolist() == [1, 1 / 2, 1, 1]  # two are right
    assert found[1].tolist() == [0, 0, 1, 1]  # one is
    assert np.isnan(found[2]).all(), "none is"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_chance_is_the_mean_over_all_orders(count: int) -> None:
    orders = np.array(list(itertools.permutations([True] * count + [False] * (4 - count))))
    found, chance = precision(orders, 3)
    assert chance == pytest.approx(np.tile(found.mean(axis=0), (len(orders), 1)))


def test_bounds_of_a_single_edit_are_unknown_and_of_equal_values_have_no_width() -> None:
    values = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 0.0]])
    mean, low, high = bounded(values, np.array([0, 0, 1]), STATISTICS)
    assert mean == pytest.approx([1, 1 / 3])
    assert low[0] == high[0] == pytest.approx(1) and low[1] < 1 / 3 < high[1]
    assert np.isnan(bounded(values, np.zeros(3, int), STATISTICS)[1]).all()


def test_queries_are_the_medians_of_their_families() -> None:
    families = ["b", "b", "b", "b", "a", "a", "a", "c"]
    shares = np.array([0.9, 0.1, 0.5, 0.5, np.nan, 0.3, 0.2, np.nan])
    assert chosen(families, shares, 3) == [6, 2, 7]  # a's lower median; b's, the first of two; c has no other
    assert chosen(families, shares, 2) == [6, 2]
    assert chosen(families, shares, 4) == [6, 5, 2, 7]  # a's both rows with a share
    assert chosen(families, shares, 100) == [6, 5, 1, 2, 3, 0, 7]


def test_the_summary_counts_what_the_angles_say(folder: Path) -> None:
    """Pairs of a and c are nearest to one another; b's at 20° is nearer to a, b's at 60° to c, whose two come first.

    So at rank 1 five of seven pairs are right, at rank 3 also b's at 60°; d has a single pair and does not count. Of
    eight instructions only that of b's at 20° is farther than others.
    """
    found = read(folder, "summary").set_index(["encoder", "task", "family", "k"])
    assert found.loc[("editclip", "edits", ""), "estimate"].astype(float).tolist() == pytest.approx(
        [5 / 7, 5 / 7, 6 / 7]
    )
    assert found.loc[("editclip", "edits", "colour", 1), "estimate"] == pytest.approx(3 / 5)
    assert found.loc[("editclip", "edits", "size", 1), "estimate"] == 1
    assert found.loc[("editclip", "instructions", "", 1), "estimate"] == pytest.approx(7 / 8)
    assert set(found.loc[("editclip", "edits"), "n"].groupby("family").first().items()) == {
        ("", 7), ("colour", 5), ("size", 2),
    }  # fmt: skip
    assert found.loc[("editclip", "instructions", "", 1), "n"] == 8
    # Of the 7 others 2 are right for each of three pairs, 1 for each of four.
    assert found.loc[("editclip", "edits", "", 1), "chance"] == pytest.approx((3 * 2 / 7 + 4 / 7) / 7)


def test_an_encoder_for_which_all_is_the_same_finds_nothing(folder: Path) -> None:
    found = read(folder, "summary").set_index(["encoder", "task", "family", "k"])
    assert (
        found.loc[("clip", "edits", "", 1), "estimate"] == found.loc[("clip", "instructions", "", 1), "estimate"] == 0
    )
    assert found.loc[("editclip - clip", "edits", "", 1), "estimate"] == pytest.approx(5 / 7)
    assert found.loc[("editclip - clip", "edits", "", 1), "chance"] == 0


def test_intervals_hold_their_estimate_and_are_empty_for_a_single_edit(folder: Path) -> None:
    found = read(folder, "summary")
    alone = found["family"].isin(["size", "style"])
    assert (found.loc[alone, ["low", "high"]] == "").all(axis=None)
    low, mean, high = (found.loc[~alone, name].astype(float) for name in ("low", "estimate", "high"))
    assert (low <= mean + 1e-9).all() and (mean <= high + 1e-9).all() and high.max() <= 1


def test_the_nearest_of_each_query_are_listed_with_their_verdict(folder: Path) -> None:
    queries = read(folder, "queries")
    assert queries["query"].tolist() == [1, 5, 7]  # the median of 3, 0, 1, 2, 4 by precision; the first of two; alone
    assert queries["others"].tolist() == [2, 1, 0]
    edits = read(folder, "edits")
    first = edits[edits["query"] == 1]
    assert first["row"].tolist() == [0, 2, 3] and first["right"].tolist() == ["yes", "yes", "no"]
    assert first["cosine"].tolist() == pytest.approx(np.cos(np.radians([2, 3, 18])).tolist())
    assert first["instruction"].tolist() == ["do a", "do a", "do b"]
    assert edits.loc[edits["query"] == 7, "right"].tolist() == [""] * 3, "nothing could be right"
    instructions = read(folder, "instructions")
    first = instructions[instructions["query"] == 1]
    assert first["text"].tolist() == ["do a", "make a", "do b"] and first["right"].tolist() == ["yes", "yes", "no"]
    assert instructions.loc[instructions["query"] == 7, "right"].tolist() == ["yes", "no", "no"]


def test_the_pictures_are_those_of_the_rows_that_are_listed(folder: Path) -> None:
    shown = {1, 5, 7, *read(folder, "edits")["row"]}
    assert {path.name for path in (folder / "images").iterdir()} == {
        f"{row}_{side}.png" for row in shown for side in ("before", "after")
    }
    for row in shown:
        for i, side in enumerate(("before", "after")):
            with Image.open(folder / "images" / f"{row}_{side}.png") as image:
                assert image.size == (8, 8) and image.getpixel((0, 0)) == (20 * (row + i),) * 3


def test_large_pictures_are_made_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planted_retrieval, "png", lambda row, png=planted_retrieval.png: png(row, side=300))
    retrieval.write_pictures(tmp_path / "images", Split(write_triplets(tmp_path / "triplets"), "test"), [4])
    with Image.open(tmp_path / "images" / "4_after.png") as image:
        assert image.size == (retrieval.LARGEST, retrieval.LARGEST)


def test_the_facts_count_pairs_and_say_the_perplexity(folder: Path) -> None:
    facts = json.loads((folder / "retrieval.json").read_text())
    assert (facts["reference"], facts["pairs"], facts["edits"], facts["alone"], facts["instructions"]) == (
        "editclip", len(ROWS), 4, 1, len(TEXTS),
    )  # fmt: skip
    assert facts["perplexity"] == pytest.approx(7 / 3), "a third of the other pairs"
    places = read(folder, "map")
    assert places["family"].tolist() == [row[1] for row in ROWS] and places[["x", "y"]].notna().all(axis=None)


def test_what_is_near_stays_near_on_the_map_which_is_the_same_each_time() -> None:
    random = np.random.default_rng(0)
    edits = np.repeat(np.eye(3, 8), 10, axis=0) + 0.05 * random.normal(size=(30, 8))
    places, used = flat_map(edits, 5)
    assert used == 5
    away = np.linalg.norm(places[:, None] - places, axis=2) + np.diag([np.inf] * 30)
    assert (away.argmin(axis=1) // 10 == np.arange(30) // 10).all()
    assert (flat_map(edits, 5)[0] == places).all()


def test_data_without_ids_and_families_takes_instructions_for_edits(tmp_path: Path) -> None:
    split = Split(write_triplets(tmp_path / "triplets"), "test")
    split.edit_ids = split.families = None
    (tmp_path / "out").mkdir()
    write_retrieval(tmp_path / "out", split, write_representation(tmp_path / "features"), CONFIG, STATISTICS)
    found = read(tmp_path / "out", "summary")
    assert set(found["family"]) == {""}
    assert set(found.loc[found["task"] == "edits", "n"]) == {6}, "'make a' and 'do d' stand once"
    assert len(read(tmp_path / "out", "queries")) == CONFIG.queries


def test_features_that_are_missing_or_of_other_triplets_are_refused(tmp_path: Path) -> None:
    split = Split(write_triplets(tmp_path / "triplets"), "test")
    with pytest.raises(InputError, match=r"features\.safetensors is missing: run editclip\.metrics\.representation"):
        write_retrieval(tmp_path, split, tmp_path, CONFIG, STATISTICS)
    source = write_representation(tmp_path / "features")
    with pytest.raises(InputError, match="was measured on other triplets"):
        write_retrieval(tmp_path, Split(write_triplets(tmp_path / "few", 5), "test"), source, CONFIG, STATISTICS)
    split.edit_prompts[0] = "another"
    with pytest.raises(InputError, match="was measured on other triplets"):
        write_retrieval(tmp_path, split, source, CONFIG, STATISTICS)


def test_too_few_pairs_make_no_map() -> None:
    with pytest.raises(InputError, match="the test split has 3 pairs: give 4 or more for a map"):
        flat_map(encoders()["editclip"].edits[:3], 2)
