"""Which samples and exemplars the picture grids show, and how they are drawn."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from editclip.errors import InputError
from editclip.report import picture_choice, picture_grid

QUERIES = 3


def bench(families: Mapping[str, str], exemplars: int = 1) -> pd.DataFrame:
    """A manifest of edit types (type: family) with `QUERIES` queries each; a sample is type-exemplar-query."""
    rows = [
        {
            "sample_id": f"{kind}-e{e}-q{q}", "group": "01", "edit_type": kind, "family": family,
            "exemplar_id": f"{kind}-e{e}", "exemplar_before": f"{kind}-e{e}_0.png",
            "exemplar_after": f"{kind}-e{e}_1.png", "query": f"{kind}-q{q}_0.png", "instruction": f"make it {kind}",
        }
        for kind, family in families.items() for e in range(exemplars) for q in range(QUERIES)
    ]  # fmt: skip
    return pd.DataFrame(rows).set_index("sample_id")


def scored(values: Mapping[str, float]) -> pd.DataFrame:
    """Two seeds of EC2EC whose mean is the value, among scores of another metric and a failed one."""
    rows = [(sample, "ec2ec", value + shift, "ok") for sample, value in values.items() for shift in (-0.5, 0.5)]
    rows += [(sample, "clip", 1 - value, "ok") for sample, value in values.items()]
    frame = pd.DataFrame([*rows, ("lost", "ec2ec", "", "failed")], columns=["sample_id", "metric", "value", "status"])
    return frame.astype(str).sample(frac=1, random_state=0).assign(method="editclip")


def rising(samples: pd.DataFrame) -> pd.DataFrame:
    """Scores that rise by 0.01 from sample to sample."""
    return scored({str(sample): 0.01 * i for i, sample in enumerate(samples.index)})


FAMILIES = {"red": "colour", "blue": "colour", "hat": "addition", "snow": "style", "sketch": "style"}


def test_types_are_taken_in_turn_from_the_families_and_stand_by_family() -> None:
    """Scores rise with the query, so the median of three is number 1."""
    samples = bench(FAMILIES)
    scores = rising(samples)
    assert picture_choice.exemplar_rows(samples, scores, 3) == ["red-e0-q1", "hat-e0-q1", "snow-e0-q1"]
    assert picture_choice.exemplar_rows(samples, scores, 4) == ["red-e0-q1", "blue-e0-q1", "hat-e0-q1", "snow-e0-q1"]
    with pytest.raises(InputError, match="no EC2EC"):
        picture_choice.exemplar_rows(samples, scores.assign(status="failed"), 2)


def test_a_second_grid_shows_the_types_that_come_next() -> None:
    samples = bench(FAMILIES)
    scores = rising(samples)
    assert picture_choice.exemplar_rows(samples, scores, 3, skip=3) == ["blue-e0-q1", "sketch-e0-q1"]
    assert picture_choice.exemplar_rows(samples, scores, 3, skip=6) == []


def test_a_type_without_scores_is_passed_over_and_of_two_medians_it_is_the_lower() -> None:
    samples = bench(FAMILIES)
    scores = scored({"blue-e0-q0": 0.9, "blue-e0-q1": 0.2, "snow-e0-q2": 0.5})
    assert picture_choice.exemplar_rows(samples, scores, 10) == ["blue-e0-q1", "snow-e0-q2"]


def test_the_median_and_the_worst_are_those_of_all_samples_over_all_seeds() -> None:
    samples = bench({"red": "colour", "hat": "addition"})
    scores = scored(dict(zip(samples.index, (0.5, 0.3, 0.9, 0.3, 0.7, 0.8), strict=True)))
    assert picture_choice.median_sample(samples, scores) == "red-e0-q0"  # the third lowest of six
    found = picture_choice.worst(samples, scores, 3)
    assert list(found) == ["hat-e0-q0", "red-e0-q1", "red-e0-q0"]  # ties by name
    assert list(found.values()) == pytest.approx([0.3, 0.3, 0.5])


def test_one_exemplar_a_family_is_shown_that_of_the_median_mean() -> None:
    samples = bench({"red": "colour", "hat": "addition", "blue": "colour"}, exemplars=2)
    means = {"red-e0": 0.1, "red-e1": 0.7, "blue-e0": 0.4, "blue-e1": 0.9, "hat-e0": 0.6, "hat-e1": 0.5}
    spread = dict(zip(range(QUERIES), (-0.3, 0.3, 0.0), strict=True))  # no single query decides
    scores = scored({s: means[str(e)] + spread[int(str(s)[-1])] for s, e in samples["exemplar_id"].items()})
    assert picture_choice.median_exemplars(samples, scores, 5) == ["blue-e0", "hat-e1"]
    assert picture_choice.median_exemplars(samples, scores, 1) == ["blue-e0"]
    nameless = samples.assign(family="")
    assert picture_choice.median_exemplars(nameless, scores, 5) == ["red-e0", "hat-e1", "blue-e0"]


def test_the_gallery_shows_first_exemplars_of_types_in_turn() -> None:
    samples = bench(FAMILIES, exemplars=2)
    assert picture_choice.first_exemplars(samples, 4) == ["red-e0", "hat-e0", "snow-e0", "blue-e0"]
    assert picture_choice.first_exemplars(samples.assign(family=""), 2) == ["red-e0", "blue-e0"]


def test_an_exemplar_has_its_queries_each_with_its_output(tmp_path: Path) -> None:
    samples = bench({"red": "colour", "hat": "addition"}, exemplars=2)
    samples = samples.drop(index="red-e1-q2")
    folder = tmp_path / "edits" / "editclip" / "seed=1"
    folder.mkdir(parents=True)
    edits = [(sample, f"{sample}.png", "failed" if sample == "hat-e1-q1" else "ok") for sample in samples.index]
    pd.DataFrame(edits, columns=["sample_id", "file", "status"]).to_csv(folder / "edits.csv", index=False)
    titles, lines = picture_grid.exemplar_lines(tmp_path, samples, ["red-e1", "hat-e1"], 5, "editclip", 1)
    assert titles == ["exemplar\nbefore", "exemplar\nafter", *(["query", "output"] * QUERIES)]
    assert [line.caption for line in lines] == ["red", "hat"] and lines[0].detail == "make it red"
    names = [path and path.name for path in lines[1].images]
    assert names == ["hat-e1_0.png", "hat-e1_1.png", "hat-q0_0.png", "hat-e1-q0.png", "hat-q1_0.png", None,
                     "hat-q2_0.png", "hat-e1-q2.png"]  # fmt: skip
    assert len(lines[0].images) == 2 + 2 * 2  # it has two queries
    titles, lines = picture_grid.exemplar_lines(tmp_path, samples, ["red-e0"], 2)
    assert titles == ["exemplar\nbefore", "exemplar\nafter", "query", "query"]
    assert [path and path.name for path in lines[0].images][2:] == ["red-q0_0.png", "red-q1_0.png"]


def test_a_grid_fits_a_page_and_draws_nothing_where_a_line_ends(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png")
    Image.new("RGB", (512, 400)).save(tmp_path / "b.png")
    small, large = tmp_path / "a.png", tmp_path / "b.png"
    rows = [
        picture_grid.GridRow("edit_type", "make it so", (small, large, None)),
        picture_grid.GridRow("short", "", (small,)),
    ]
    drawn = picture_grid.grid(["one", "two-parts", "three"], rows, inputs=1)
    pictures = [axes for axes in drawn.axes if axes.axison]
    assert [len(axes.images) for axes in pictures] == [1, 1, 0, 1]
    assert [text.get_text() for text in pictures[2].texts] == ["no image"]
    assert pictures[1].get_title() == "two parts"
    assert [text.get_text() for text in drawn.axes[0].texts] == ["edit type", "“make it so”"]
    wide = picture_grid.grid([str(i) for i in range(10)], [picture_grid.GridRow("", "", (small,))])
    assert wide.get_figwidth() == pytest.approx(picture_grid.WIDTH)
    assert all(text.get_fontsize() >= 9 for axes in drawn.axes for text in (*axes.texts, axes.title))


def test_pixels_stay_pixels() -> None:
    small = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    large = picture_grid.enlarged(small, 128)
    assert large.shape == (128, 128, 3)
    assert (large[::16, ::16] == np.asarray(small)).all() and (large[15::16, 15::16] == np.asarray(small)).all()
    assert picture_grid.enlarged(Image.new("RGB", (512, 512))).shape == (512, 512, 3)
