"""The drawings of what encoders attend to (Figure 3). They only draw: every number comes from `metrics.attention`.

A map is drawn patch by patch, as coarse as it is; between patches nothing is interpolated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import patheffects
from matplotlib.figure import Figure
from PIL import Image

from editclip.metrics.attention_shares import HEADS, MAPS, READINGS, SUMMARY, VALUES, is_local
from editclip.report.figures import BAND, COLOURS, INK, LINE, MARKERS, SOFT
from editclip.report.files import read_json, read_table

COUNTED = 16  # patches of a map, up to which each is labelled with its percentage
SIDES = ("before", "after")
UNDER = {"clip_before": "before", "clip_after": "after", "editclip": "after"}  # the image that a map is laid over
TITLES = {"clip_before": "CLIP,\nimage before", "clip_after": "CLIP,\nimage after", "editclip": "EditCLIP,\nboth"}
NAMES = {reading: title.replace(",\n", ": ") for reading, title in TITLES.items()}
OF_HEADS = {"last": "last head", "mean": "mean over heads"}
LOOKS: dict[str, dict[str, Any]] = {
    reading: {"color": COLOURS[i], "marker": MARKERS[i]} for i, reading in enumerate(reversed(READINGS))
}


@dataclass(frozen=True)
class Measured:
    """What the stage measured of one edit encoder.

    Attributes:
        folder: of the stage.
        facts: attention.json.
        values: attention.csv.
        maps: maps.csv.
        summary: summary.csv.
    """

    folder: Path
    facts: Mapping[str, Any]
    values: pd.DataFrame
    maps: pd.DataFrame
    summary: pd.DataFrame

    @classmethod
    def read(cls, folder: Path) -> "Measured":
        """Read the folder of one encoder.

        Raises:
            InputError: a file is missing or incomplete.
        """
        facts = read_json(folder / "attention.json", ("encoder", "clip", "level", "patches"))
        values = _read(folder / "attention.csv", VALUES, ("share", "area", "lift"))
        maps = _read(folder / "maps.csv", MAPS, ("row", "column", "attention"))
        return cls(folder, facts, values, maps, _read(folder / "summary.csv", SUMMARY, ("lift", "low", "high", "n")))

    @property
    def grain(self) -> str:
        """How coarse EditCLIP's maps are, in words."""
        rows, columns = self.facts["patches"]["editclip"]
        return f"{rows} × {columns} patches, each {100 / (rows * columns):.3g} % of the image"

    def attention(self, exemplar: str, reading: str, head: str) -> np.ndarray:
        """One map, rows×columns."""
        mine = self.maps[(self.maps["exemplar_id"] == exemplar) & (self.maps["reading"] == reading)]
        return mine[mine["head"] == head].pivot(index="row", columns="column", values="attention").to_numpy()

    def mask(self, exemplar: str) -> np.ndarray:
        """The mask of an exemplar's edit, H×W booleans."""
        with Image.open(self.folder / "masks" / f"{exemplar}.png") as image:
            return np.asarray(image.convert("L")) > 0


def _read(path: Path, columns: Sequence[str], numbers: Sequence[str]) -> pd.DataFrame:
    """A CSV file, `numbers` of its columns as floats (empty cells NaN); names that look like numbers stay texts."""
    frame = read_table(path, columns)
    return frame.assign(**{name: pd.to_numeric(frame[name]).astype(float) for name in numbers})


def local_exemplars(values: pd.DataFrame, count: int) -> list[str]:
    """The exemplars that the figure shows, by rule: nobody picks.

    Types are taken in turn from the families, both in the order of the file, which is the benchmark's, until there are
    `count`, and of each the first exemplar whose edit is local; what has no local edit is passed over. They are sorted
    by family.

    Args:
        values: attention.csv.
        count: at most.
    """
    local = values[is_local(values["area"])].drop_duplicates("type")
    place = pd.Series(pd.factorize(local["family"])[0], index=local.index)
    turn = local.groupby("family", sort=False).cumcount()
    taken = local.assign(turn=turn, place=place).sort_values(["turn", "place"], kind="stable")[:count]
    return taken.sort_values("place", kind="stable")["exemplar_id"].tolist()


def pictures(measured: Measured, bench: Path, samples: pd.DataFrame, chosen: Sequence[str], head: str) -> Figure:
    """A line an exemplar: before, after, the mask of its edit, and the maps of the three readings.

    A map lies over a grey copy of its image with the mask's outline; all maps of a line have one scale of colours, from
    0 to the highest of them. Below the mask stands its area, below a map its share inside the mask.

    Args:
        measured: of one encoder.
        bench: its folder.
        samples: its manifest.
        chosen: exemplars, at least one.
        head: one of `HEADS`.
    """
    titles = ["before", "after", "edit", *(TITLES[reading] for reading in READINGS)]
    size = (10.0, 0.75 + 1.62 * len(chosen))
    figure, axes = plt.subplots(len(chosen), len(titles), figsize=size, squeeze=False, layout="constrained")
    first = samples.drop_duplicates("exemplar_id").set_index("exemplar_id")
    values = measured.values[measured.values["head"] == head].set_index(["exemplar_id", "reading"])
    for cells, exemplar in zip(axes, chosen, strict=True):
        images = {side: _rgb(bench / str(first.loc[exemplar, f"exemplar_{side}"])) for side in SIDES}
        mask = measured.mask(exemplar)
        for cell, image in zip(cells, [*images.values(), 255 * np.stack(3 * [mask], axis=-1)], strict=False):
            cell.imshow(image, interpolation="nearest")
        maps = {reading: measured.attention(exemplar, reading, head) for reading in READINGS}
        highest = max(found.max() for found in maps.values())
        for cell, (reading, found) in zip(cells[len(SIDES) + 1 :], maps.items(), strict=True):
            _overlay(cell, images[UNDER[reading]], mask, found, highest)
        numbers = values.loc[exemplar].loc[list(READINGS)]
        below = [f"{100 * numbers['area'].iloc[0]:.0f} % of image"]
        below += [f"{100 * share:.0f} % inside" for share in numbers["share"]]
        for cell, text in zip(cells, ["", "", *below], strict=True):
            _bare(cell, text)
        name = str(first.loc[exemplar, "edit_type"]).replace("_", " ")
        cells[0].set_ylabel(fill(name, 13), fontsize=9.5, rotation=0, ha="right", va="center", color=INK)
    for cell, title in zip(axes[0], titles, strict=True):
        cell.set_title(title, fontsize=10, loc="center", pad=5)
    return figure


def _rgb(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _bare(axes: "matplotlib.axes.Axes", below: str) -> None:
    """A picture without axes, with a text below it."""
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.set_xlabel(below, fontsize=9.5, labelpad=2)
    for spine in axes.spines.values():
        spine.set(visible=True, color=LINE, linewidth=0.8)


def _overlay(
    axes: "matplotlib.axes.Axes", image: np.ndarray, mask: np.ndarray, attention: np.ndarray, highest: float
) -> None:
    """One map over its image, patch by patch, with the outline of the mask."""
    height, width = mask.shape
    place: dict[str, Any] = {"extent": (0, width, height, 0), "interpolation": "nearest"}
    axes.imshow(image.mean(axis=-1), cmap="gray", vmin=0, vmax=255, **place)
    axes.imshow(attention, cmap="inferno", vmin=0, vmax=highest, alpha=0.62, **place)
    across, down = np.arange(width) + 0.5, np.arange(height) + 0.5
    axes.contour(across, down, mask.astype(float), [0.5], colors="white", linewidths=1.3)
    if attention.size > COUNTED:
        return
    rows, columns = attention.shape
    edge = [patheffects.withStroke(linewidth=2, foreground="black")]
    for (row, column), value in np.ndenumerate(attention):
        middle = ((column + 0.5) * width / columns, (row + 0.5) * height / rows)
        axes.annotate(f"{100 * value:.0f}", middle, ha="center", va="center", fontsize=9.5, color="white",
                      path_effects=edge)  # fmt: skip


def lifts(summary: pd.DataFrame) -> Figure:
    """How much more of the attention lies inside edits than their area: a panel a head, a band a scope.

    The dotted line stands for attention that is spread evenly over the image.

    Args:
        summary: summary.csv.
    """
    scopes = summary.drop_duplicates(["scope", "scope_value"])
    labels = [_scope_label(scope) for scope in scopes.to_dict("records")]
    size = (10.0, 1.2 + 0.52 * len(scopes))
    figure, panels = plt.subplots(1, len(HEADS), figsize=size, sharex=True, sharey=True, layout="constrained")
    for axes, head in zip(panels, HEADS, strict=True):
        axes.axvline(0, color=SOFT, linewidth=1.2, linestyle=":", zorder=1)
        for place in range(0, len(scopes), 2):
            axes.axhspan(place - 0.5, place + 0.5, color=BAND, zorder=0)
        for number, (reading, look) in enumerate(LOOKS.items()):
            mine = summary[(summary["reading"] == reading) & (summary["head"] == head)]
            mine = scopes[["scope", "scope_value"]].merge(mine, "left", ["scope", "scope_value"])
            heights = np.arange(len(scopes)) + 0.25 * (number - 1)
            axes.hlines(heights, mine["low"], mine["high"], color=look["color"], linewidth=2, zorder=3)
            axes.plot(mine["lift"], heights, linestyle="none", markersize=6, zorder=4, **look)
        axes.set_title(OF_HEADS[head].capitalize())
        axes.set_xlabel("share of attention inside the edit − its area", fontsize=9.5)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="x", labelsize=9.5)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_ylim(len(scopes) - 0.5, -0.5)
        axes.set_yticks(range(len(scopes)), labels, fontsize=9.5, color=INK)
    lines = [matplotlib.lines.Line2D([], [], linewidth=2, **look) for look in LOOKS.values()]
    figure.legend(lines, [NAMES[reading] for reading in LOOKS], loc="outside upper left", ncols=3, fontsize=9.5)
    return figure


def _scope_label(scope: Mapping[Any, Any]) -> str:
    """A scope and how many exemplars it has."""
    name = {"all": "all edits", "local": "local edits"}.get(scope["scope"], scope["scope_value"])
    return f"{name} ({scope['n']:.0f})"


def pictures_caption(measured: Measured, head: str) -> str:
    """What `pictures` shows, as a sentence or two."""
    facts = measured.facts
    return (
        f"Attention of the class token in the last block, {OF_HEADS[head]}: EditCLIP ({facts['encoder']}) and "
        f"plain CLIP ({facts['clip']}) on local edits, one type of each family in turn. White: outline of the edit. "
        f"A map has {measured.grain}; numbers on it are percent, colours of a row have one scale."
    )


def lifts_caption(measured: Measured) -> str:
    """What `lifts` shows, as a sentence or two."""
    facts = measured.facts
    return (
        f"Share of the attention of EditCLIP ({facts['encoder']}) and plain CLIP ({facts['clip']}) inside "
        f"the edit, less the edit's area: 0 is attention spread evenly. Intervals of {100 * facts['level']:g} % are "
        f"over edit types drawn like these, numbers in brackets count exemplars; maps have {measured.grain}."
    )
