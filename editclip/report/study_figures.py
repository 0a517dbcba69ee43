"""The charts of a judged study. They only draw: every number comes from `editclip.study.judgements`."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from editclip.report.columns import column
from editclip.report.figures import COLOURS, GREY, INK, MARKERS, SOFT

QUESTIONS = {"edit": "Edit quality", "preserves": "Preservation"}
STATISTICS = {
    "d1": ("Pooled, as in Table 2", "Pearson, symmetrised (D1)", 0.0),
    "within": ("Within pairs of methods", "Pearson, Fisher mean", 0.0),
    "accuracy": ("Votes foretold", "share of votes", 0.5),
}
BINS = 8  # quantiles of a metric's differences


def _questions(frame: pd.DataFrame) -> list[str]:
    return [question for question in QUESTIONS if (frame["question"] == question).any()]


def _look(number: int) -> dict[str, Any]:
    """Colour and marker of the metric or pair with this number."""
    return {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}


def _rows(axes: "matplotlib.axes.Axes", names: Sequence[str]) -> None:
    """One line a name, top to bottom."""
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_yticks(range(len(names)), names, fontsize=9.5, color=INK)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8.5)
    axes.spines["left"].set_visible(False)
    axes.locator_params(axis="x", nbins=5)


def coefficients(frame: pd.DataFrame, origin: str) -> Figure:
    """How well each metric follows the votes: a row a question, a panel a statistic, a line a metric.

    A dark tick is the part of a correlation that the methods' means make, an open diamond what they give alone; the
    dotted line stands for no agreement.

    Args:
        frame: coefficients.csv.
        origin: whose votes they are.
    """
    metrics, questions = list(frame["metric"].unique()), _questions(frame)
    size = (10.5, 0.9 + len(questions) * (0.9 + 0.42 * len(metrics)))
    figure, panels = plt.subplots(
        len(questions), len(STATISTICS), figsize=size, squeeze=False, sharey=True, sharex="col", layout="constrained"
    )
    for row, question in zip(panels, questions, strict=True):
        for axes, (statistic, (title, unit, nothing)) in zip(row, STATISTICS.items(), strict=True):
            mine = frame[(frame["question"] == question) & (frame["statistic"] == statistic)].set_index("metric")
            mine = mine.reindex(metrics)
            axes.axvline(nothing, color=SOFT, linewidth=1, linestyle=":", zorder=1)
            heights = np.arange(len(metrics))
            axes.hlines(heights, mine["low"], mine["high"], color=COLOURS[0], linewidth=2, zorder=3)
            axes.plot(mine["estimate"], heights, "o", color=COLOURS[0], markersize=6, zorder=4)
            axes.plot(mine["null"], heights, "D", color=GREY, markerfacecolor="white", markersize=5.5, zorder=2)
            axes.plot(mine["from_means"], heights, "|", color=INK, markersize=13, markeredgewidth=2, zorder=5)
            _rows(axes, [column(metric).label for metric in metrics])
            axes.set_title(f"{QUESTIONS[question]}: {title[0].lower()}{title[1:]}", fontsize=9.5)
            axes.set_xlabel(f"{unit} ({origin})", fontsize=8.5)
    point = matplotlib.lines.Line2D([], [], color=COLOURS[0], marker="o", linewidth=2)
    null = matplotlib.lines.Line2D([], [], color=GREY, marker="D", markerfacecolor="white", linestyle="none")
    part = matplotlib.lines.Line2D([], [], color=INK, marker="|", markersize=11, markeredgewidth=2, linestyle="none")
    names = ["metric of every output", "the part that the methods' means make", "the means alone"]
    figure.legend([point, part, null], names, loc="outside upper left", ncols=3, fontsize=9)
    return figure


def pairs(frame: pd.DataFrame, origin: str) -> Figure:
    """The coefficient of each pair of methods: a panel a question, a band a pair, in it a line a metric.

    Args:
        frame: coefficients.csv.
        origin: whose votes they are.
    """
    mine = frame[frame["statistic"] == "within_pair"]
    metrics, names, questions = list(mine["metric"].unique()), list(mine["pair"].unique()), _questions(mine)
    size = (10.5, 1.2 + 0.34 * len(names) * max(2, len(metrics)))
    figure, panels = plt.subplots(
        1, len(questions), figsize=size, squeeze=False, sharex=True, sharey=True, layout="constrained"
    )
    step = 0.8 / max(2, len(metrics))
    for axes, question in zip(panels.flat, questions, strict=True):
        axes.axvline(0, color=SOFT, linewidth=1, linestyle=":", zorder=1)
        for i, metric in enumerate(metrics):
            rows = mine[(mine["question"] == question) & (mine["metric"] == metric)].set_index("pair").reindex(names)
            heights = np.arange(len(names)) + (i - (len(metrics) - 1) / 2) * step
            axes.hlines(heights, rows["low"], rows["high"], color=_look(i)["color"], linewidth=1.8, zorder=3)
            axes.plot(rows["estimate"], heights, linestyle="none", markersize=5.5, zorder=4, **_look(i))
        _rows(axes, names)
        axes.set_title(QUESTIONS[question])
        axes.set_xlabel(f"Pearson of the metric's difference and the vote ({origin}), within the pair", fontsize=8.5)
    _key(figure, metrics)
    return figure


def win_rates(frame: pd.DataFrame, origin: str) -> Figure:
    """Share of the votes that a pair's first method won: a panel a question, a line a pair.

    Args:
        frame: preferences.csv.
        origin: whose votes they are.
    """
    named = frame.assign(pair=frame["first"] + " over " + frame["second"])
    names, questions = list(named["pair"].unique()), _questions(named)
    size = (10.5, 1.0 + 0.42 * len(names))
    figure, panels = plt.subplots(1, len(questions), figsize=size, squeeze=False, sharey=True, layout="constrained")
    for axes, question in zip(panels.flat, questions, strict=True):
        rows = named[named["question"] == question].set_index("pair").reindex(names)
        heights = np.arange(len(names))
        axes.axvline(50, color=SOFT, linewidth=1, linestyle=":", zorder=1)
        axes.hlines(heights, 100 * rows["low"], 100 * rows["high"], color=COLOURS[0], linewidth=2, zorder=3)
        axes.plot(100 * rows["win_rate"], heights, "o", color=COLOURS[0], markersize=6, zorder=4)
        _rows(axes, names)
        axes.set_xlim(0, 100)
        axes.set_title(QUESTIONS[question])
        axes.set_xlabel(f"% of votes ({origin})", fontsize=8.5)
    return figure


def differences_and_votes(comparisons: pd.DataFrame, metrics: Sequence[str], origin: str) -> Figure:
    """Share of votes for a pair's first method against the difference of a metric: a row a question, a panel a metric.

    Every pair of methods has its own line, of its differences' quantiles: lines that rise mean that the metric follows
    the votes within pairs; lines that are flat at different heights, that it only tells the methods apart.

    Args:
        comparisons: comparisons.csv.
        metrics: the panels, in order.
        origin: whose votes they are.
    """
    questions = _questions(comparisons)
    couples = list(dict.fromkeys(zip(comparisons["first"], comparisons["second"], strict=True)))
    size = (1.2 + 3.4 * len(metrics), 0.8 + 2.9 * len(questions))
    figure, panels = plt.subplots(
        len(questions), len(metrics), figsize=size, squeeze=False, sharey=True, sharex="col", layout="constrained"
    )
    for row, question in zip(panels, questions, strict=True):
        for axes, metric in zip(row, metrics, strict=True):
            axes.axhline(50, color=SOFT, linewidth=1, linestyle=":", zorder=1)
            for i, (first, second) in enumerate(couples):
                mine = comparisons[(comparisons["question"] == question) & (comparisons["first"] == first)
                                   & (comparisons["second"] == second)]  # fmt: skip
                difference = mine[f"first_{metric}"] - mine[f"second_{metric}"]
                found = pd.DataFrame({"x": difference, "won": mine["won"]}).dropna()
                if found.empty:
                    continue
                bins = found.groupby(pd.qcut(found["x"], BINS, duplicates="drop"), observed=True).mean()
                axes.plot(bins["x"], 100 * bins["won"], markersize=4.5, linewidth=1.3, **_look(i))
            axes.set_title(f"{QUESTIONS[question]}: {column(metric).label}", fontsize=10)
            axes.set_ylim(-3, 103)
            axes.tick_params(labelsize=8.5)
            axes.set_xlabel("difference of the two outputs", fontsize=8.5)
        row[0].set_ylabel(f"% of votes for the first ({origin})", fontsize=8.5)
    lines = [matplotlib.lines.Line2D([], [], **_look(i)) for i in range(len(couples))]
    figure.legend(lines, [f"{first} over {second}" for first, second in couples], loc="outside upper left",
                  ncols=min(4, len(couples)), fontsize=9)  # fmt: skip
    return figure


def _key(figure: Figure, metrics: Sequence[str]) -> None:
    """Which colour and marker is which metric, above the panels."""
    lines = [matplotlib.lines.Line2D([], [], **_look(i)) for i in range(len(metrics))]
    figure.legend(lines, [column(metric).label for metric in metrics], loc="outside upper left", ncols=len(metrics),
                  fontsize=9)  # fmt: skip
