"""The drawings of nearest edits and of the map, of a planted folder."""

from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from planted_retrieval import ROWS, write_planted

from editclip.errors import InputError
from editclip.report import figures, retrieval_figures
from editclip.report.retrieval_figures import ALL, Retrieved, read_retrieved


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Retrieved:
    run = tmp_path_factory.mktemp("run")
    return read_retrieved(write_planted(run))


@pytest.fixture(autouse=True)
def styled() -> Iterator[None]:
    figures.style()
    yield
    plt.close("all")


def titles(figure: Figure) -> list[str]:
    return [axes.get_title(loc="left") for axes in figure.axes]


def test_every_query_stands_before_its_neighbours(found: Retrieved) -> None:
    figure = retrieval_figures.neighbours(found, ["1", "7"])
    assert len(figure.axes) == 2 * 2 * (1 + 3)  # of two queries, pictures and texts, the query and three neighbours
    assert [len(axes.images) for axes in figure.axes] == ([2] * 4 + [0] * 4) * 2
    shown = titles(figure)
    assert shown[:4] == ["colour", "1.  ✓ 1.00", "2.  ✓ 1.00", "3.  ✗ 0.95"]
    assert shown[8] == "style" and shown[9].startswith("1.  · ")
    texts = [axes.texts[0].get_text().replace("\n", " ") for axes in figure.axes[4:8]]
    assert texts == ["“make a”", "✓ 1.00 “do a”", "✓ 0.99 “make a”", "✗ 0.79 “do b”"]


def test_right_and_wrong_differ_by_more_than_colour(found: Retrieved) -> None:
    figure = retrieval_figures.neighbours(found, ["1"])
    frames = [axes.patches[0] for axes in figure.axes[1:4]]
    assert [frame.get_linestyle() for frame in frames] == ["-", "-", "--"]
    assert len({frame.get_edgecolor() for frame in frames}) == 2
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert [text.split()[0] for text in said] == ["✓", "✗", "·"]


def test_the_hardest_family_is_on_top_below_all(found: Retrieved) -> None:
    """Precision at 1 is 3/5 for colour and 1 for size; style has a single pair."""
    figure = retrieval_figures.by_family(found)
    edits, instructions = figure.axes
    assert [text.get_text() for text in edits.get_yticklabels()] == [ALL, "colour", "size", "style"]
    drawn = edits.lines[0].get_xdata()
    assert np.array(drawn[:3]) == pytest.approx([5 / 7, 3 / 5, 1]) and np.isnan(drawn[3])
    assert instructions.lines[0].get_xdata()[0] == pytest.approx(7 / 8)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["editclip", "clip", "chance"]


def test_precision_is_drawn_against_every_k(found: Retrieved) -> None:
    edits, instructions = retrieval_figures.by_rank(found).axes
    assert edits.lines[0].get_ydata() == pytest.approx([5 / 7, 5 / 7, 6 / 7])
    assert edits.get_xticks().tolist() == instructions.get_xticks().tolist() == [1, 2, 3]


def test_the_map_shows_every_pair_once_and_a_panel_a_family(found: Retrieved) -> None:
    figure = retrieval_figures.edit_map(found)
    assert sum(len(points.get_offsets()) for points in figure.axes[0].collections) == len(ROWS)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["colour", "size", "style"]
    panels = retrieval_figures.family_maps(found)
    assert titles(panels) == ["colour", "size", "style"]
    assert [[len(points.get_offsets()) for points in axes.collections] for axes in panels.axes] == [
        [3, 5], [6, 2], [7, 1],
    ]  # fmt: skip


def test_pairs_without_families_are_one_map(found: Retrieved) -> None:
    bare = Retrieved(**(vars(found) | {"places": found.places.assign(family="")}))
    assert titles(retrieval_figures.family_maps(bare)) == [ALL]
    assert retrieval_figures.edit_map(bare).legends == []


def test_no_two_of_ten_families_look_the_same() -> None:
    assert len({tuple(retrieval_figures._look(i).values()) for i in range(49)}) == 49


def test_a_folder_that_lacks_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"queries\.csv is missing"):
        read_retrieved(tmp_path)
