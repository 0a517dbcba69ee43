"""The logs of the models that a run trained, and their curves: training loss and what was measured on held-out data."""

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import matplotlib.ticker
import pandas as pd
from matplotlib.figure import Figure

from editclip.report.figures import COLOURS, SOFT

VALIDATION = "validation/"
SUMMARY = ("Model", "Steps", "Training loss", "Held out")
# Axis of a validation metric: the first whose word its name has, else the name itself.
UNITS = {"loss": "", "recall": "share", "cosine": "cosine", "psnr": "dB", "rank": "rank (1 = right one first)"}


@dataclass(frozen=True)
class Panel:
    """One set of axes: the series share a unit."""

    title: str
    unit: str
    series: Mapping[str, "pd.Series[float]"]  # by label, indexed by step


def read_logs(weights: Path, names: Iterable[str]) -> dict[str, pd.DataFrame]:
    """The training log of every set of weights that was trained here, by name: step, loss and other columns.

    Args:
        weights: the run's folder of weights.
        names: the sets that the run's config names, in the order in which they are shown.
    """
    logs = {}
    for name in names:
        path = weights / name / "logs" / "metrics.jsonl"
        if not path.is_file() or path.is_symlink():  # linked: trained elsewhere
            continue
        log = pd.read_json(path, lines=True)
        if {"step", "loss"} <= set(log.columns) and len(log) > 1:
            logs[name] = log
    return logs


def loss_labels(weights: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """What the training loss of every set of weights is, for the axis of its curve: the `LOSS` of its kind, or "loss".

    Args:
        weights: the section of the run's config.
    """
    labels = {}
    for name, entry in weights.items():
        try:
            labels[name] = str(importlib.import_module(str(entry.get("kind"))).LOSS)
        except (ImportError, AttributeError):  # a kind that this checkout does not have, or that is not trained
            labels[name] = "loss"
    return labels


def summary(logs: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Where each model ended: columns `SUMMARY`, as texts."""
    rows = []
    for name, log in logs.items():
        held = [c for c in log.columns if c.startswith(VALIDATION) and log[c].notna().any()]
        ends = [f"{c.removeprefix(VALIDATION).replace('_', ' ')} {log[c].dropna().iloc[-1]:.3g}" for c in held]
        loss = f"{log['loss'].dropna().iloc[-1]:.3g}"
        rows.append((name.replace("_", " "), str(log["step"].max()), loss, ", ".join(ends) or "–"))
    return pd.DataFrame(rows, columns=list(SUMMARY))


def panels(name: str, log: pd.DataFrame, loss: str = "loss") -> list[Panel]:
    """What is drawn of one model: the loss, with the held-out one where there is one, then each unit's metrics.

    Args:
        name: of the model.
        log: its training log.
        loss: what its loss is.
    """
    values = log.set_index("step")
    held = [c for c in values.columns if c.startswith(VALIDATION) and values[c].notna().any()]
    by_unit: dict[str, dict[str, pd.Series[float]]] = {"": {"training": values["loss"].dropna()}}
    for column in held:
        label = column.removeprefix(VALIDATION)
        unit = next((unit for word, unit in UNITS.items() if word in label), label)
        label = label.replace("loss", "held out", 1) if unit == "" else label
        by_unit.setdefault(unit, {})[label.replace("_", " ")] = values[column].dropna()
    title = name.replace("_", " ")
    losses = Panel(f"{title}: loss", loss, by_unit.pop(""))
    curved = {u: series for u, series in by_unit.items() if max(map(len, series.values())) > 1}
    return [losses, *(Panel(f"{title}: held out", unit, series) for unit, series in curved.items())]


def curves(logs: Mapping[str, pd.DataFrame], losses: Mapping[str, str]) -> Figure:
    """Training and validation curves of every model, one panel per model and unit.

    Args:
        logs: what `read_logs` gives, at least one.
        losses: what `loss_labels` gives.
    """
    drawn = [panel for name, log in logs.items() for panel in panels(name, log, losses.get(name, "loss"))]
    count = min(3, len(drawn))
    rows = -(-len(drawn) // count)
    figure, grid = plt.subplots(rows, count, figsize=(4.2 * count, 2.7 * rows), squeeze=False, layout="constrained")
    figure.get_layout_engine().set(h_pad=0.12)
    for axes in grid.flat[len(drawn) :]:
        axes.axis("off")
    for axes, panel in zip(grid.flat, drawn, strict=False):
        _draw(axes, panel)
    return figure


def _draw(axes: "matplotlib.axes.Axes", panel: Panel) -> None:
    for i, (label, values) in enumerate(panel.series.items()):
        marker = "" if label == "training" else "o"  # measured at few steps
        axes.plot(values.index, values, color=COLOURS[i % len(COLOURS)], marker=marker, markersize=4, label=label)
    values = pd.concat(list(panel.series.values()))
    if values.min() > 0 and values.max() > 20 * values.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(matplotlib.ticker.StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    axes.set_xlim(left=0)
    axes.set_title(panel.title)
    axes.set_xlabel("training step", fontsize=8.5)
    axes.set_ylabel(panel.unit, fontsize=8.5)
    axes.tick_params(labelsize=8.5)
    if len(panel.series) > 3:  # too many to fit beside the lines
        axes.legend(fontsize=7.5, labelcolor=SOFT, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    elif "training" not in panel.series or len(panel.series) > 1:
        axes.legend(fontsize=7.5, labelcolor=SOFT)
