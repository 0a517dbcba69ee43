"""How the picture grids are drawn.

Small images are enlarged by whole factors with nearest-neighbour interpolation, so a pixel stays a pixel.
`editclip.report.picture_choice` has the rules that choose what they show.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from editclip.report.figures import INK, LINE, SOFT
from editclip.report.files import read_table

MINIMUM_SIDE = 128  # px on paper: smaller frames are enlarged
# Inches: of a grid that is read on a page, of its labels and titles, and of the least and the largest picture. A gap is
# in widths of a picture.
WIDTH, LABELS, HEAD, SIDES, GAP = 10.5, 1.6, 0.7, (0.8, 1.15), 0.18
LEADING = 10.8  # points from line to line of a text of 9 points


def enlarged(image: Image.Image, minimum: int = MINIMUM_SIDE) -> np.ndarray:
    """RGB pixels of `image`, enlarged by the smallest whole factor that makes its short side at least `minimum` px."""
    factor = max(1, -(-minimum // min(image.size)))
    size = (image.width * factor, image.height * factor)
    return np.asarray(image.convert("RGB").resize(size, Image.Resampling.NEAREST))


@dataclass(frozen=True)
class GridRow:
    """One line of a grid: a caption, a smaller second line and one image or None per column.

    A line may have fewer images than the grid has columns: nothing is drawn in the others, and where an image is None,
    it says that there is none.
    """

    caption: str
    detail: str
    images: tuple[Path | None, ...]


def grid_rows(
    run: Path,
    samples: pd.DataFrame,
    chosen: Sequence[str],
    methods: Sequence[str],
    seed: int,
    captions: Sequence[str] | None = None,
) -> tuple[list[str], list[GridRow]]:
    """Column titles and lines of the grid: exemplar before and after, query, the methods' outputs, ground truth.

    A method without that seed shows its first one; an output that does not exist leaves a gap. A line is called by its
    edit type, after its caption where `captions` has one for each of `chosen`.
    """
    outputs = {m: _outputs(run / "edits" / m, seed) for m in methods}
    truth = bool((samples.loc[list(chosen), "ground_truth"] != "").any())
    titles = ["exemplar\nbefore", "exemplar\nafter", "query", *methods, *(["ground truth"] if truth else [])]
    lines = []
    for sample, caption in zip(chosen, captions or [""] * len(chosen), strict=True):
        row = {name: str(samples.loc[sample, name]) for name in samples.columns}
        inputs = [row["exemplar_before"], row["exemplar_after"], row["query"]]
        images = [*(run / "bench" / name for name in inputs), *(outputs[m].get(sample) for m in methods)]
        if truth:
            images.append(run / "bench" / row["ground_truth"] if row["ground_truth"] else None)
        name = f"{caption}\n{row['edit_type']}" if caption else row["edit_type"]
        lines.append(GridRow(name, row["instruction"], tuple(images)))
    return titles, lines


def exemplar_lines(
    run: Path, samples: pd.DataFrame, exemplars: Sequence[str], most: int, method: str | None = None, seed: int = 0
) -> tuple[list[str], list[GridRow]]:
    """Column titles and lines of a grid of exemplars: before and after, then each query, with its output after it.

    Args:
        run: folder of the run.
        samples: manifest indexed by sample_id.
        exemplars: exemplar_ids, a line each.
        most: queries of a line, the first of the manifest, if there are so many.
        method: whose outputs are shown; None = nobody's.
        seed: the outputs' seed; see `grid_rows`.
    """
    outputs = _outputs(run / "edits" / method, seed) if method else {}
    lines = []
    for exemplar in exemplars:
        mine = samples[samples["exemplar_id"] == exemplar].head(most)
        first = mine.iloc[0]
        images: list[Path | None] = [run / "bench" / first[name] for name in ("exemplar_before", "exemplar_after")]
        for sample, query in mine["query"].items():
            images += [run / "bench" / query, *([outputs.get(str(sample))] if method else [])]
        lines.append(GridRow(first["edit_type"], first["instruction"], tuple(images)))
    columns = max(len(line.images) for line in lines) - 2
    names = ["query", "output"] if method else ["query"]
    return ["exemplar\nbefore", "exemplar\nafter", *(names * (columns // len(names)))], lines


def _outputs(folder: Path, seed: int) -> dict[str, Path]:
    wanted = folder / f"seed={seed}"
    if not wanted.is_dir():
        wanted = min(folder.glob("seed=*"), key=lambda p: int(p.name.removeprefix("seed=")), default=wanted)
    edits = read_table(wanted / "edits.csv", ("sample_id", "file", "status"))
    edits = edits[edits["status"] == "ok"]
    return {s: wanted / f for s, f in zip(edits["sample_id"], edits["file"], strict=True)}


def grid(titles: Sequence[str], rows: Sequence[GridRow], inputs: int = 3, groups: int | None = None) -> Figure:
    """Draw a grid.

    Args:
        titles: of the columns.
        rows: its lines, at least one.
        inputs: number of columns at the left that stand apart, which the methods get.
        groups: the columns after them stand in groups of so many; None = all together.
    """
    starts = [inputs, *range(inputs + groups, len(titles), groups)] if groups else [inputs]
    side = float(np.clip((WIDTH - LABELS) / (len(titles) + GAP * len(starts)), *SIDES))
    places, widths = [], list[float]()  # of the pictures among the columns, the gaps between them included
    for column in range(len(titles)):
        widths += [GAP] * (column in starts)
        places.append(len(widths))
        widths.append(1)
    size = (LABELS + side * sum(widths), HEAD + side * len(rows))
    margins = {"left": LABELS / size[0], "right": 1, "top": 1 - HEAD / size[1], "bottom": 0}
    figure, axes = plt.subplots(len(rows), len(widths), figsize=size, squeeze=False, width_ratios=widths,
                                gridspec_kw={"wspace": 0.05, "hspace": 0.05, **margins})  # fmt: skip
    for line in axes.flat:
        line.axis("off")
    for row, line in zip(rows, axes, strict=True):
        for path, place in zip(row.images, places, strict=False):
            _picture(line[place], path)
        _label(line[0], row, side)
    for title, place in zip(titles, places, strict=True):
        text = "\n".join(_wrapped(title.replace("-", " "), 10))
        axes[0, place].set_title(text, fontsize=9, loc="center", pad=6)
    return figure


def _wrapped(text: str, width: int) -> list[str]:
    """The lines of a name or a text, of `width` characters at most."""
    return [part for line in text.replace("_", " ").splitlines() for part in wrap(line, width)]


def _label(axes: "matplotlib.axes.Axes", row: GridRow, side: float) -> None:
    """Caption and detail of a line, left of its first picture and as high as it, in middle height together."""
    most = max(3, int(side * 72 / LEADING))  # lines that fit
    caption = _wrapped(row.caption, 20)[: most - 1]
    left = most - len(caption)
    detail = wrap(f"“{row.detail}”", 22, max_lines=left, placeholder=" …") if row.detail else []
    top = (len(caption) + len(detail)) * LEADING / 2
    for lines, height, weight, colour in (
        (caption, top, "bold", INK),
        (detail, top - len(caption) * LEADING, "normal", SOFT),
    ):
        axes.annotate("\n".join(lines), (0, 0.5), (-8, height), xycoords="axes fraction", textcoords="offset points",
                      ha="right", va="top", fontsize=9, linespacing=1.2, weight=weight, color=colour)  # fmt: skip


def _picture(axes: "matplotlib.axes.Axes", path: Path | None) -> None:
    axes.axis("on")
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set(visible=True, color=LINE, linewidth=0.8)
    if path is None:
        axes.text(0.5, 0.5, "no image", ha="center", va="center", fontsize=9, color=SOFT, transform=axes.transAxes)
        return
    with Image.open(path) as image:
        small = min(image.size) < MINIMUM_SIDE
        axes.imshow(enlarged(image), interpolation="none" if small else "antialiased")
