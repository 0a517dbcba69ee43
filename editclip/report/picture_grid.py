"""The picture grids: which samples they show, by rule, and how they are drawn.

Small images are enlarged by whole factors with nearest-neighbour interpolation, so a pixel stays a pixel.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from editclip.errors import InputError
from editclip.report.figures import LINE, SOFT
from editclip.report.files import read_table

MINIMUM_SIDE = 128  # px on paper: smaller frames are enlarged


def enlarged(image: Image.Image, minimum: int = MINIMUM_SIDE) -> np.ndarray:
    """RGB pixels of `image`, enlarged by the smallest whole factor that makes its short side at least `minimum` px."""
    factor = max(1, -(-minimum // min(image.size)))
    size = (image.width * factor, image.height * factor)
    return np.asarray(image.convert("RGB").resize(size, Image.Resampling.NEAREST))


def grid_reference(run: Path, facts: pd.DataFrame, wanted: str | None) -> tuple[pd.DataFrame, int]:
    """EditCLIP scores, over all its seeds, of the method by which the grid's samples are chosen, and its first seed.

    Args:
        run: folder of the run.
        facts: rows.csv of a table.
        wanted: that method; where it is None or has no EC2EC, the first method that is conditioned on something and has
            some, else the first that has some.

    Raises:
        InputError: no method has any.
    """
    seeds_of = dict(zip(facts["method"], facts["seeds"].str.split(), strict=True))
    conditioned = facts.loc[facts["conditioning"] != "none", "method"].tolist()
    for name in dict.fromkeys([wanted or "", *conditioned, *seeds_of]):
        folder = run / "scores" / name / "editclip"
        seeds = [seed for seed in sorted(map(int, seeds_of.get(name, []))) if (folder / f"seed={seed}.csv").is_file()]
        columns = ("sample_id", "metric", "value", "status")
        scores = [read_table(folder / f"seed={seed}.csv", columns) for seed in seeds]
        if any(((frame["metric"] == "ec2ec") & (frame["status"] == "ok")).any() for frame in scores):
            return pd.concat(scores, ignore_index=True), seeds[0]
    raise InputError(f"no method in {run / 'scores'} has EC2EC scores: run the editclip metrics first")


def mean_ec2ec(scores: pd.DataFrame) -> "pd.Series[float]":
    """EC2EC of the reference method by sample, the mean over its seeds.

    Args:
        scores: what `grid_reference` gives.

    Raises:
        InputError: the method has no EC2EC at all.
    """
    valid = scores[(scores["metric"] == "ec2ec") & (scores["status"] == "ok")]
    if valid.empty:
        raise InputError("the reference method of the grid has no EC2EC score: score it first")
    return valid.assign(value=valid["value"].astype(float)).groupby("sample_id")["value"].mean()


def extremes(samples: pd.DataFrame, scores: pd.DataFrame) -> dict[str, tuple[str, float]]:
    """The best, median and worst sample of the reference method in EC2EC, with that value: nobody picks.

    Values are means over the method's seeds; of two medians it is the lower, and ties go by id.

    Args:
        samples: manifest indexed by sample_id.
        scores: what `grid_reference` gives.

    Raises:
        InputError: the reference method has no EC2EC at all.
    """
    means = mean_ec2ec(scores)
    ranked = sorted(set(means.index) & set(samples.index), key=lambda s: (means[s], s))
    places = {"best": -1, "median": (len(ranked) - 1) // 2, "worst": 0}
    return {name: (ranked[i], float(means[ranked[i]])) for name, i in places.items()}


def exemplar_rows(samples: pd.DataFrame, scores: pd.DataFrame, count: int) -> list[str]:
    """The samples that the grid shows, by rule: nobody picks.

    Edit types are taken in turn from the families (both in manifest order) until there are `count`; of each type, the
    sample with the median EC2EC of the reference method (mean over seeds; the lower of two medians, ties by id).

    Args:
        samples: manifest indexed by sample_id.
        scores: what `grid_reference` gives.
        count: number of types.

    Raises:
        InputError: the reference method has no EC2EC at all.
    """
    means = mean_ec2ec(scores)
    types: dict[str, list[tuple[str, str]]] = {}
    scored = samples[samples.index.isin(means.index)]
    for row in scored.drop_duplicates(["group", "edit_type"]).to_dict("records"):
        types.setdefault(row["family"], []).append((row["group"], row["edit_type"]))
    turns = [kinds[i] for i in range(max(map(len, types.values()))) for kinds in types.values() if i < len(kinds)]
    rank = {family: i for i, family in enumerate(types)}
    chosen = []
    for group, kind in turns[:count]:
        mine = scored[(scored["group"] == group) & (scored["edit_type"] == kind)]
        ranked = sorted(mine.index, key=lambda s: (means[s], s))
        chosen.append(ranked[(len(ranked) - 1) // 2])
    return sorted(chosen, key=lambda s: rank[str(samples.loc[s, "family"])])


@dataclass(frozen=True)
class GridRow:
    """One line of the grid: a caption, a smaller second line and one image or None per column."""

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


def _outputs(folder: Path, seed: int) -> dict[str, Path]:
    wanted = folder / f"seed={seed}"
    if not wanted.is_dir():
        wanted = min(folder.glob("seed=*"), key=lambda p: int(p.name.removeprefix("seed=")), default=wanted)
    edits = read_table(wanted / "edits.csv", ("sample_id", "file", "status"))
    edits = edits[edits["status"] == "ok"]
    return {s: wanted / f for s, f in zip(edits["sample_id"], edits["file"], strict=True)}


def grid(titles: Sequence[str], rows: Sequence[GridRow], inputs: int = 3) -> Figure:
    """Draw the picture grid; the first `inputs` columns are what the methods get and stand apart."""
    gap = 0.18
    widths = [1.0] * inputs + [gap] + [1.0] * (len(titles) - inputs)
    size = (1.55 + 1.12 * len(titles), 0.7 + 1.12 * len(rows))
    figure, axes = plt.subplots(len(rows), len(widths), figsize=size, squeeze=False, width_ratios=widths,
                                gridspec_kw={"wspace": 0.05, "hspace": 0.06})  # fmt: skip
    for i, row in enumerate(rows):
        axes[i, inputs].axis("off")
        cells = [*axes[i, :inputs], *axes[i, inputs + 1 :]]
        for title, path, cell in zip(titles, row.images, cells, strict=True):
            _picture(cell, path)
            if i == 0:
                cell.set_title(fill(title.replace("_", " ").replace("-", " "), 12), fontsize=9, loc="center", pad=6)
        place = {"xycoords": "axes fraction", "ha": "right"}
        label = "\n".join(fill(line, 20) for line in row.caption.replace("_", " ").splitlines())
        cells[0].annotate(label, (-0.12, 0.56), va="bottom", fontsize=9, weight="bold", **place)
        detail = fill(f"“{row.detail}”", 24) if row.detail else ""
        cells[0].annotate(detail, (-0.12, 0.5), va="top", fontsize=7.5, color=SOFT, **place)
    return figure


def _picture(axes: "matplotlib.axes.Axes", path: Path | None) -> None:
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set(visible=True, color=LINE, linewidth=0.8)
    if path is None:
        axes.text(0.5, 0.5, "no image", ha="center", va="center", fontsize=8, color=SOFT, transform=axes.transAxes)
        return
    with Image.open(path) as image:
        axes.imshow(enlarged(image), interpolation="nearest")
