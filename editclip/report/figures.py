"""The charts of the notebooks. They only draw: every number comes from the tables.

A method has one colour and one marker in every chart of a run; controls are grey.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from editclip.errors import InputError
from editclip.report.columns import column
from editclip.report.figure_folder import DPI, add_caption
from editclip.report.render_headline import controls
from editclip.storage import atomic_file

INK, SOFT, LINE, BAND = "#1f2430", "#6b7280", "#d7dae0", "#f5f6f8"
ACCENT = "#2f6fb0"
GREY = "#8a909c"  # controls
# Okabe and Ito's colours, told apart by colour-blind readers too (Wong, Nature Methods 8:441, 2011), without the yellow
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
# Unit of a metric: that of the first entry its name starts with
UNITS = {"s_visual_dist": "1 − cosine", "s_visual": "cosine", "clip": "cosine", "ec2": "cosine", "lpips": "distance",
         "mse": "squared error", "psnr": "dB", "ssim": "similarity", "closer": "share",
         "sharpness": "log2 of a ratio", "detail": "correlation"}  # fmt: skip
UNDATED_PNG: dict[str, None] = {"Software": None}  # what matplotlib would write of itself and the time
UNDATED_PDF: dict[str, None] = {"Creator": None, "Producer": None, "CreationDate": None}
SIGNIFICANT = 0.05  # convention
DIRECTIONS = {1: "higher is better", -1: "lower is better", 0: ""}


def style() -> None:
    """One look for all figures."""
    sns.set_theme(context="notebook", style="white", font="DejaVu Sans", rc={
        "figure.dpi": 100, "savefig.dpi": DPI, "text.color": INK, "axes.labelcolor": SOFT, "axes.edgecolor": LINE,
        "axes.titleweight": "bold", "axes.titlesize": 11, "axes.titlelocation": "left", "xtick.color": SOFT,
        "ytick.color": SOFT, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
        "grid.color": "#eceef2", "legend.frameon": False})  # fmt: skip


def save(figure: Figure, path: Path, caption: str | None = None) -> Path:
    """Write `figure` as PNG, and as PDF beside it, and close it.

    Both depend on the drawing only: the same figure has the same bytes at any time.

    Args:
        figure: the drawing.
        path: of the PNG.
        caption: what is seen, as a sentence, which the report shows below the picture.

    Returns:
        `path`.
    """
    for place, metadata in ((path, UNDATED_PNG), (path.with_suffix(".pdf"), UNDATED_PDF)):
        with atomic_file(place) as temporary:
            figure.savefig(temporary, bbox_inches="tight", facecolor="white", metadata=metadata)
    plt.close(figure)
    if caption is not None:
        add_caption(path, caption)
    return path


@dataclass(frozen=True)
class Look:
    """How a method is drawn."""

    colour: str
    marker: str
    control: bool

    @property
    def point(self) -> dict[str, Any]:
        """Arguments of `plot` for its marker: full for methods, open for controls."""
        return {"marker": self.marker, "color": self.colour, "markersize": 5 if self.control else 5.5,
                "markerfacecolor": "white" if self.control else self.colour}  # fmt: skip


def looks(facts: pd.DataFrame) -> dict[str, Look]:
    """The look of every row of rows.csv, by method, in the table's order."""
    counts, result = {False: 0, True: 0}, {}
    for method in facts["method"]:
        control = method in controls(facts)
        i = counts[control]
        counts[control] += 1
        result[method] = Look(GREY if control else COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)], control)
    return result


def measured(full: pd.DataFrame, scope: str, metrics: Sequence[str]) -> list[str]:
    """Those of `metrics` that have a value somewhere in `scope` of <table>_full.csv."""
    known = full.loc[(full["scope"] == scope) & full["mean"].notna(), "metric"]
    return [metric for metric in metrics if (known == metric).any()]


def overall(full: pd.DataFrame, methods: Mapping[str, Look], metrics: Sequence[str]) -> Figure:
    """Mean and interval of every method over the whole bench: one panel per metric, one line per method.

    Args:
        full: <table>_full.csv; without its columns low and high, only the means are drawn.
        methods: what `looks` gives; the lines, in order.
        metrics: the panels, in order, at least one.
    """
    count = min(4, len(metrics))
    rows = -(-len(metrics) // count)
    size = (1.6 + 2.5 * count, rows * (1.15 + 0.3 * len(methods)))
    figure, panels = plt.subplots(rows, count, figsize=size, squeeze=False, sharey=True, layout="constrained")
    heights = {method: float(i) for i, method in enumerate(methods)}
    for axes in panels.flat[len(metrics) :]:
        axes.axis("off")
    for axes, metric in zip(panels.flat, metrics, strict=False):
        mine = full[(full["scope"] == "all") & (full["metric"] == metric)]
        for method, look in methods.items():
            _whiskers(axes, mine[mine["method"] == method], heights, "method", look)
        _name(axes, metric)
        axes.set_ylim(len(methods) - 0.4, -0.6)
        axes.set_yticks(list(heights.values()), [m.replace("_", " ") for m in heights], fontsize=9)
    for first in panels[:, 0]:
        for text, look in zip(first.get_yticklabels(), methods.values(), strict=True):
            text.set_color(GREY if look.control else INK)
    return figure


def differences(
    full: pd.DataFrame,
    methods: Mapping[str, Look],
    reference: str,
    metrics: Sequence[str],
    trainings: pd.DataFrame | None = None,
) -> Figure:
    """Difference of every method from the reference over the whole bench: a panel a metric, a line a method.

    A full marker is the difference with its interval for these edit types, a star its Holm-adjusted p below
    `SIGNIFICANT`; small open markers are the single trainings.

    Args:
        full: <table>_full.csv.
        methods: what `looks` gives; the lines, in order, the reference left out.
        reference: the row that differences are taken from.
        metrics: the panels, in order, at least one.
        trainings: <table>_trainings.csv, where rows were trained several times.
    """
    whole = full[full["scope"] == "all"]
    others = {method: look for method, look in methods.items() if method != reference}
    count = min(2, len(metrics))
    lines = -(-len(metrics) // count)
    size = (2.2 + 3.6 * count, lines * (1.3 + 0.42 * len(others)))
    figure, panels = plt.subplots(lines, count, figsize=size, squeeze=False, sharey=True, layout="constrained")
    for axes in panels.flat[len(metrics) :]:
        axes.axis("off")
    for axes, metric in zip(panels.flat, metrics, strict=False):
        found = whole[whole["metric"] == metric].set_index("method")
        axes.axvline(0, color=GREY, linewidth=1, zorder=1)
        for place, (method, look) in enumerate(others.items()):
            row = found.loc[method]
            if place % 2 == 0:
                axes.axhspan(place - 0.5, place + 0.5, color=BAND, zorder=0)
            axes.hlines(place, row["diff_low"], row["diff_high"], color=look.colour, linewidth=2, zorder=3)
            axes.plot(row["diff"], place, zorder=4, **look.point)
            if row["p_holm"] < SIGNIFICANT:
                axes.annotate("*", (row["diff"], place), (0, 4), textcoords="offset points", ha="center", fontsize=13)
            if trainings is not None:
                each = trainings[(trainings["row"] == method) & (trainings["metric"] == metric)]["diff"]
                axes.plot(each, [place + 0.28] * len(each), linestyle="none", marker=look.marker, markersize=4.5,
                          color=look.colour, markerfacecolor="white", zorder=4)  # fmt: skip
        axes.set_title(column(metric).label)
        direction = DIRECTIONS[column(metric).better] or "nearer to 0 is better"
        axes.set_xlabel(f"difference from {reference.replace('_', ' ')} ({direction})", fontsize=9)
        axes.set_ylim(len(others) - 0.4, -0.6)
        axes.set_yticks(range(len(others)), [method.replace("_", " ") for method in others], fontsize=10, color=INK)
        axes.grid(visible=False, axis="y")
        axes.locator_params(axis="x", nbins=5)
    return figure


def by_scope(
    full: pd.DataFrame, methods: Mapping[str, Look], scope: str, metrics: Sequence[str], most: int | None = None
) -> Figure:
    """Mean and interval per edit type or family: one panel per metric, one band per type, in it one line per method.

    Bands are sorted by the mean of the methods (not the controls) in the first metric, the hardest on top. Controls
    share the last line of a band.

    Args:
        full: <table>_full.csv; without its columns low and high, only the means are drawn.
        methods: what `looks` gives.
        scope: "type" or "family".
        metrics: the panels, in order.
        most: draw no more bands than these, the hardest; None = all.

    Raises:
        InputError: the table lacks one of the metrics in that scope.
    """
    if missing := set(metrics) - set(measured(full, scope, metrics)):
        raise InputError(f"the full table has no rows of {min(missing)!r} per {scope}: score that metric first")
    shown = full[(full["scope"] == scope) & full["mean"].notna()]
    rivals = [m for m, look in methods.items() if not look.control] or list(methods)
    first = shown[(shown["metric"] == metrics[0]) & shown["method"].isin(rivals)].groupby("scope_value")["mean"].mean()
    values = [str(v) for v in first.sort_values(ascending=column(metrics[0]).better >= 0, kind="stable").index]
    values += [v for v in shown["scope_value"].unique() if v not in values]  # what no method has, a control may
    shown, values = shown[shown["scope_value"].isin(values[:most])], values[:most]
    lanes = {m: (len(rivals) if look.control else rivals.index(m)) for m, look in methods.items()}
    step = 1 / (max(lanes.values()) + 1.8)
    size = (2.2 + 3.6 * len(metrics), 1.3 + 0.135 * len(values) / step)
    figure, panels = plt.subplots(1, len(metrics), figsize=size, squeeze=False, sharey=True, layout="constrained")
    for axes, metric in zip(panels.flat, metrics, strict=True):
        mine = shown[shown["metric"] == metric]
        for i in range(0, len(values), 2):
            axes.axhspan(i - 0.5, i + 0.5, color=BAND, zorder=0)
        for method, look in methods.items():
            shift = (lanes[method] - max(lanes.values()) / 2) * step
            heights = {value: i + shift for i, value in enumerate(values)}
            _whiskers(axes, mine[mine["method"] == method], heights, "scope_value", look)
        _name(axes, metric)
        axes.grid(visible=False, axis="y")
        axes.set_ylim(len(values) - 0.5, -0.5)
        axes.set_yticks(range(len(values)), [fill(v.replace("_", " "), 24) for v in values], fontsize=9, color=INK)
    _key(figure, methods)
    return figure


def _whiskers(
    axes: "matplotlib.axes.Axes", rows: pd.DataFrame, heights: Mapping[str, float], key: str, look: Look
) -> None:
    """One method's points with their intervals (where the table has them) at the height of each row's `key`."""
    rows = rows[rows["mean"].notna()].reindex(columns=[key, "mean", "low", "high"])
    y = [heights[value] for value in rows[key]]
    order = 2 if look.control else 4
    axes.hlines(y, rows["low"], rows["high"], color=look.colour, linewidth=1.2 if look.control else 1.8, zorder=order)
    axes.plot(rows["mean"], y, linestyle="none", zorder=order + 1, **look.point)


def _name(axes: "matplotlib.axes.Axes", metric: str) -> None:
    """Title and axis of a metric's panel."""
    axes.set_title(column(metric).label)
    unit = next((unit for start, unit in UNITS.items() if metric.startswith(start)), "")
    axes.set_xlabel(", ".join(filter(None, (unit, DIRECTIONS[column(metric).better]))), fontsize=8.5)
    axes.tick_params(axis="x", labelsize=8.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.locator_params(axis="x", nbins=5)


def _key(figure: Figure, methods: Mapping[str, Look]) -> None:
    """Which colour and marker is which method, above the panels."""
    lines = [matplotlib.lines.Line2D([], [], linewidth=1.5, **look.point) for look in methods.values()]
    names = [m.replace("_", " ") for m in methods]
    figure.legend(lines, names, loc="outside upper left", ncols=min(6, len(names)), fontsize=9)


def heat_map(full: pd.DataFrame, metric: str, methods: Sequence[str] | None = None) -> Figure:
    """A heat map of `metric`, edit types (grouped by family) down and methods across, the mean in each cell.

    Args:
        full: <table>_full.csv.
        metric: a metric of it.
        methods: columns, in order; all by default.

    Raises:
        InputError: the table has no such metric per type.
    """
    rows = full[(full["scope"] == "type") & (full["metric"] == metric)]
    if rows.empty:
        raise InputError(f"the full table has no rows of {metric!r} per type: score that metric first")
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
