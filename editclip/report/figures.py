"""The drawings of the notebooks and the report. They only draw: every number comes from the tables.

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
import seaborn as sns
from matplotlib.figure import Figure
from PIL import Image

from editclip.errors import InputError
from editclip.report.columns import column
from editclip.report.results import read_table

MINIMUM_SIDE = 128  # px on paper: smaller frames are enlarged
INK, SOFT, LINE = "#1f2430", "#6b7280", "#d7dae0"
ACCENT = "#2f6fb0"


def style() -> None:
    """One look for all figures."""
    sns.set_theme(context="notebook", style="white", font="DejaVu Sans", rc={
        "figure.dpi": 100, "savefig.dpi": 160, "text.color": INK, "axes.labelcolor": SOFT, "axes.edgecolor": LINE,
        "axes.titleweight": "bold", "axes.titlesize": 11, "axes.titlelocation": "left", "xtick.color": SOFT,
        "ytick.color": SOFT, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
        "grid.color": "#eceef2", "legend.frameon": False})  # fmt: skip


def save(figure: Figure, path: Path) -> Path:
    """Write `figure` as PNG (bytes depend on the drawing only) and close it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight", facecolor="white", metadata={"Software": None})
    plt.close(figure)
    return path


def enlarged(image: Image.Image, minimum: int = MINIMUM_SIDE) -> np.ndarray:
    """RGB pixels of `image`, enlarged by the smallest whole factor that makes its short side at least `minimum` px."""
    factor = max(1, -(-minimum // min(image.size)))
    size = (image.width * factor, image.height * factor)
    return np.asarray(image.convert("RGB").resize(size, Image.Resampling.NEAREST))


def per_type(full: pd.DataFrame, metric: str, methods: Sequence[str] | None = None) -> Figure:
    """A heat map of `metric`, edit types (grouped by family) down and methods across, the mean in each cell.

    Args:
        full: table1_full.csv.
        metric: a metric of it.
        methods: columns, in order; all by default.

    Raises:
        InputError: the table has no such metric per type.
    """
    rows = full[(full["scope"] == "type") & (full["metric"] == metric)]
    if rows.empty:
        raise InputError(f"table1_full.csv has no rows of {metric!r} per type: score that metric first")
    wide = rows.pivot(index="scope_value", columns="method", values="mean")
    wide = wide[list(methods or rows["method"].unique())].dropna(axis=1, how="all")
    better, decimals = column(metric).better, min(column(metric).decimals or 2, 2)
    wide = wide.loc[wide.mean(axis=1).sort_values(ascending=better >= 0, kind="stable").index]  # the hardest on top
    figure, axes = plt.subplots(figsize=(2.6 + 0.92 * wide.shape[1], 1.5 + 0.36 * len(wide)))
    palette = sns.light_palette(ACCENT, as_cmap=True, reverse=better < 0)
    sns.heatmap(wide.round(decimals) + 0.0, annot=True, fmt=f".{decimals}f", cmap=palette, linewidths=2,
                linecolor="white", cbar=False, ax=axes, annot_kws={"size": 9})  # fmt: skip
    arrow = {1: "higher is better", -1: "lower is better", 0: ""}[better]
    axes.set_title(f"{column(metric).label} per edit type ({arrow})", pad=12)
    axes.set(xlabel="", ylabel="")
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set_xticks(axes.get_xticks(), [fill(m.replace("_", " "), 11) for m in wide.columns], rotation=0, fontsize=9)
    axes.set_yticks(axes.get_yticks(), [t.replace("_", " ") for t in wide.index], rotation=0, fontsize=9)
    return figure


def grid_reference(run: Path, table: pd.DataFrame, wanted: str) -> tuple[pd.DataFrame, int]:
    """EditCLIP scores, over all its seeds, of the method by which the grid's samples are chosen, and its first seed.

    Args:
        run: folder of the run.
        table: table1.csv.
        wanted: that method; where the run lacks it, the first that is conditioned on something, else the first.

    Raises:
        InputError: its scores are missing.
    """
    methods = table["method"].tolist()
    conditioned = table.loc[table["conditioning"] != "none", "method"].tolist()
    folder = run / "scores" / (wanted if wanted in methods else [*conditioned, *methods][0]) / "editclip"
    seeds = sorted(int(path.stem.removeprefix("seed=")) for path in folder.glob("seed=*.csv"))
    if not seeds:
        raise InputError(f"{folder} has no scores: run the editclip metrics of this method first")
    columns = ("sample_id", "metric", "value", "status")
    return pd.concat([read_table(folder / f"seed={seed}.csv", columns) for seed in seeds], ignore_index=True), seeds[0]


def exemplar_rows(samples: pd.DataFrame, scores: pd.DataFrame, count: int) -> list[str]:
    """The samples that the grid shows, by rule: nobody picks.

    Edit types are taken in turn from the families (both in manifest order) until there are `count`; of each type, the
    sample with the median EC2EC of the reference method (mean over seeds; the lower of two medians, ties by id).

    Args:
        samples: manifest indexed by sample_id.
        scores: long scores of the reference method, with metric "ec2ec".
        count: number of types.

    Raises:
        InputError: the reference method has no EC2EC at all.
    """
    valid = scores[(scores["metric"] == "ec2ec") & (scores["status"] == "ok")]
    means = valid.assign(value=valid["value"].astype(float)).groupby("sample_id")["value"].mean()
    types: dict[str, list[tuple[str, str]]] = {}
    scored = samples[samples.index.isin(means.index)]
    for row in scored.drop_duplicates(["group", "edit_type"]).to_dict("records"):
        types.setdefault(row["family"], []).append((row["group"], row["edit_type"]))
    if not types:
        raise InputError("the reference method of the grid has no EC2EC score: score it first")
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
    run: Path, samples: pd.DataFrame, chosen: Sequence[str], methods: Sequence[str], seed: int
) -> tuple[list[str], list[GridRow]]:
    """Column titles and lines of the grid: exemplar before and after, query, the methods' outputs, ground truth.

    A method without that seed shows its first one; an output that does not exist leaves a gap.
    """
    made = {m: _outputs(run / "edits" / m, seed) for m in methods}
    truth = bool((samples.loc[list(chosen), "ground_truth"] != "").any())
    titles = ["exemplar\nbefore", "exemplar\nafter", "query", *methods, *(["ground truth"] if truth else [])]
    lines = []
    for sample in chosen:
        row = {name: str(samples.loc[sample, name]) for name in samples.columns}
        given = [row["exemplar_before"], row["exemplar_after"], row["query"]]
        images = [*(run / "bench" / g for g in given), *(made[m].get(sample) for m in methods)]
        if truth:
            images.append(run / "bench" / row["ground_truth"] if row["ground_truth"] else None)
        lines.append(GridRow(row["edit_type"], row["instruction"], tuple(images)))
    return titles, lines


def _outputs(folder: Path, seed: int) -> dict[str, Path]:
    wanted = folder / f"seed={seed}"
    if not wanted.is_dir():
        wanted = min(folder.glob("seed=*"), key=lambda p: int(p.name.removeprefix("seed=")), default=wanted)
    made = read_table(wanted / "edits.csv", ("sample_id", "file", "status"))
    made = made[made["status"] == "ok"]
    return {s: wanted / f for s, f in zip(made["sample_id"], made["file"], strict=True)}


def grid(titles: Sequence[str], rows: Sequence[GridRow], given: int = 3) -> Figure:
    """Draw the picture grid; the first `given` columns are what the methods get and stand apart."""
    gap = 0.18
    widths = [1.0] * given + [gap] + [1.0] * (len(titles) - given)
    size = (1.55 + 1.12 * len(titles), 0.7 + 1.12 * len(rows))
    figure, axes = plt.subplots(len(rows), len(widths), figsize=size, squeeze=False, width_ratios=widths,
                                gridspec_kw={"wspace": 0.05, "hspace": 0.06})  # fmt: skip
    for i, row in enumerate(rows):
        axes[i, given].axis("off")
        cells = [*axes[i, :given], *axes[i, given + 1 :]]
        for title, path, cell in zip(titles, row.images, cells, strict=True):
            _picture(cell, path)
            if i == 0:
                cell.set_title(fill(title.replace("_", " ").replace("-", " "), 12), fontsize=9, loc="center", pad=6)
        place = {"xycoords": "axes fraction", "ha": "right"}
        label = fill(row.caption.replace("_", " "), 20)
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


def training_curves(logs: dict[str, pd.DataFrame]) -> Figure:
    """Loss against step, one panel per trained model: raw values pale, their running mean on top.

    Args:
        logs: frames with columns step and loss, by name of the weights.
    """
    columns, rows = 3, -(-len(logs) // 3)
    figure, panels = plt.subplots(rows, columns, figsize=(11, 2.5 * rows), squeeze=False, layout="constrained")
    for axes in panels.flat[len(logs) :]:
        axes.axis("off")
    for axes, (name, log) in zip(panels.flat, logs.items(), strict=False):
        smooth = log["loss"].rolling(max(1, len(log) // 20), min_periods=1, center=True).mean()
        axes.plot(log["step"], log["loss"], color=ACCENT, alpha=0.25, linewidth=0.8)
        axes.plot(log["step"], smooth, color=ACCENT, linewidth=1.8)
        if log["loss"].min() > 0 and log["loss"].max() > 20 * log["loss"].min():
            axes.set_yscale("log")
        axes.set(title=name.replace("_", " "))
        axes.tick_params(labelsize=8)
        axes.set_xlabel("step", fontsize=8)
    return figure
