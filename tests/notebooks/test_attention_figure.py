"""The drawings of Figure 3, of planted attention."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from attention_folder import ALIKE, EVEN, top_left, write_attention
from run_folder import SIDE, write_run

from editclip.errors import InputError
from editclip.report.attention_figure import (
    Measured,
    lifts,
    lifts_caption,
    local_exemplars,
    pictures,
    pictures_caption,
)
from editclip.report.files import read_samples


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run")
    write_run(run)
    write_attention(run)
    return run


@pytest.fixture(scope="module")
def measured(run: Path) -> Measured:
    return Measured.read(run / "attention" / "editclip")


def test_local_types_are_taken_in_turn_from_the_families() -> None:
    """Of each type the first exemplar whose edit is local; the second family's types stand together."""
    rows = [
        ("a1", "a", "f", 1.0), ("a2", "a", "f", 0.2), ("a3", "a", "f", 0.1), ("b", "b", "f", 0.1), ("c", "c", "f", 0.1),
        ("d", "d", "g", 0.7), ("e", "e", "g", 0.3), ("h", "h", "i", 0.4), ("j", "j", "g", 0.2),
    ]  # fmt: skip
    values = pd.DataFrame(rows, columns=["exemplar_id", "type", "family", "area"])
    assert local_exemplars(values, 3) == ["a2", "e", "h"]
    assert local_exemplars(values, 5) == ["a2", "b", "e", "j", "h"]
    assert local_exemplars(values, 99) == ["a2", "b", "c", "e", "j", "h"]
    assert local_exemplars(values[values["area"] > 0.5], 3) == []


def test_maps_lie_over_their_images_patch_by_patch(run: Path, measured: Measured) -> None:
    chosen = local_exemplars(measured.values, 8)
    assert chosen == ["01-colour_red-e0", "01-add_hat-e0"]
    figure = pictures(measured, run / "bench", read_samples(run / "bench"), chosen, "last")
    lines = np.array(figure.axes).reshape(2, 6)
    for cells, kind in zip(lines, ("colour_red", "add_hat"), strict=True):
        focused = top_left(ALIKE[kind])
        for cell, expected in zip(cells[3:], (EVEN, EVEN, focused), strict=True):
            _, laid_over = cell.get_images()
            assert np.asarray(laid_over.get_array()) == pytest.approx(expected)
            assert laid_over.get_clim() == (0, pytest.approx(focused.max())), "one scale a line"
            assert laid_over.get_extent() == [0, SIDE, SIDE, 0]
            assert laid_over.get_interpolation() == "nearest"
            assert [t.get_text() for t in cell.texts] == [f"{100 * value:.0f}" for value in expected.ravel()]
    assert [cell.get_xlabel() for cell in lines[0]] == [
        "",
        "",
        "25 % of image",
        "25 % inside",
        "25 % inside",
        "50 % inside",
    ]
    assert [cell.get_xlabel() for cell in lines[1, 2:]] == [
        "12 % of image",
        "12 % inside",
        "12 % inside",
        "38 % inside",
    ]
    assert "add hat" in lines[1, 0].get_ylabel()
    mean = pictures(measured, run / "bench", read_samples(run / "bench"), chosen[:1], "mean")
    assert np.asarray(mean.axes[5].get_images()[1].get_array()) == pytest.approx(EVEN)
    plt.close("all")


def test_lifts_are_drawn_with_their_intervals(run: Path, measured: Measured) -> None:
    summary = measured.summary
    figure = lifts(summary)
    names = [t.get_text() for t in figure.axes[0].get_yticklabels()]  # the second panel shares them
    assert names == ["all edits (6)", "local edits (4)", "global (2)", "colour (2)", "addition (2)"]
    for axes, head in zip(figure.axes, ("last", "mean"), strict=True):
        mine = summary[summary["head"] == head]
        drawn = {x for line in axes.lines[1:] for x in line.get_xdata()}
        wanted = mine.loc[mine["reading"].isin(("editclip", "clip_before", "clip_after")), "lift"]
        assert drawn == set(wanted)
        bars = [segment for lines in axes.collections for segment in lines.get_segments()]
        of_all = mine[(mine["scope"] == "all") & (mine["reading"] == "editclip")].iloc[0]
        assert any(bar[:, 0] == pytest.approx((of_all["low"], of_all["high"])) for bar in bars)
    plt.close("all")


def test_captions_say_how_coarse_the_maps_are(measured: Measured) -> None:
    for caption in (pictures_caption(measured, "last"), lifts_caption(measured)):
        assert (
            "2 × 2 patches, each 25 % of the image" in caption
            and "EditCLIP (editclip) and plain CLIP (clip)" in caption
        )
    assert "last head" in pictures_caption(measured, "last") and "95 %" in lifts_caption(measured)


def test_a_folder_that_lacks_something_is_refused(run: Path, tmp_path: Path) -> None:
    write_run(tmp_path)
    folder = write_attention(tmp_path)
    (folder / "maps.csv").write_text("exemplar_id,reading\n")
    with pytest.raises(InputError, match=r"maps\.csv lacks the column 'head'"):
        Measured.read(folder)
