"""The drawings of what is nearest to edits, and of the map of all. They only draw: every number comes from a stage.

That stage is `editclip.metrics.retrieval`, whose output folder is read here.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from editclip.report.figures import BAND, COLOURS, GREY, INK, LINE, MARKERS, SOFT
from editclip.report.files import read_json, read_table
from editclip.report.picture_grid import enlarged

TASKS = {"edits": "Nearest pairs: of the same edit", "instructions": "Nearest instructions: wordings of the edit"}
ALL = "all families"


@dataclass(frozen=True)
class Verdict:
    """How a neighbour that is right, wrong or neither is marked: by sign, colour and line."""

    sign: str
    colour: str
    line: str
    meaning: str


VERDICTS = {
    "yes": Verdict("✓", COLOURS[0], "-", "right: of the query's edit"),
    "no": Verdict("✗", COLOURS[1], "--", "wrong: of another edit"),
    "": Verdict("·", GREY, ":", "no other pair is of the query's edit"),
}


@dataclass(frozen=True)
class Retrieved:
    """A run's folder retrieval/.

    Attributes:
        images: folder of the pictures.
        queries: queries.csv, indexed by query.
        edits: edits.csv.
        instructions: instructions.csv.
        summary: summary.csv.
        places: map.csv.
        facts: retrieval.json.
    """

    images: Path
    queries: pd.DataFrame
    edits: pd.DataFrame
    instructions: pd.DataFrame
    summary: pd.DataFrame
    places: pd.DataFrame
    facts: dict[str, Any]


def read_retrieved(folder: Path) -> Retrieved:
    """Read what the stage wrote; numbers of rows and texts stay texts.

    Raises:
        InputError: a file is missing or lacks a column.
    """

    def read(name: str, texts: Sequence[str], numbers: Sequence[str]) -> pd.DataFrame:
        frame = read_table(folder / f"{name}.csv", [*texts, *numbers])
        return frame.assign(**{column: pd.to_numeric(frame[column]) for column in numbers})

    return Retrieved(
        folder / "images",
        read("queries", ["query", "family", "instruction"], []).set_index("query"),
        read("edits", ["query", "row", "right"], ["rank", "cosine"]),
        read("instructions", ["query", "text", "right"], ["rank", "cosine"]),
        read("summary", ["encoder", "task", "family"], ["k", "estimate", "low", "high", "n", "chance"]),
        read("map", ["family"], ["x", "y"]),
        read_json(folder / "retrieval.json"),
    )


def neighbours(found: Retrieved, queries: Sequence[str]) -> Figure:
    """Each query with its nearest pairs, before and after, and below them the nearest instructions.

    Args:
        found: of the run.
        queries: rows of the split that stand in queries.csv.
    """
    most = int(found.edits["rank"].max())
    rows = 2 * len(queries)
    size = (1.65 * (1 + most), 0.5 + 2.05 * len(queries))
    figure, grid = plt.subplots(
        rows, 1 + most, figsize=size, squeeze=False, height_ratios=[1.2, 0.85] * len(queries), layout="constrained"
    )
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.02, wspace=0.02, hspace=0.02)
    for axes in grid.flat:
        axes.axis("off")
    for query, pictures, texts in zip(queries, grid[::2], grid[1::2], strict=True):
        about = found.queries.loc[query]
        _pair(pictures[0], found.images, query)
        pictures[0].set_title(fill(str(about["family"]), 20) or "query", fontsize=10, loc="left", color=INK)
        _text(texts[0], fill(f"“{about['instruction']}”", 24), INK)
        for near in _of(found.edits, query):
            _pair(pictures[near["rank"]], found.images, near["row"], VERDICTS[near["right"]])
            _verdict(pictures[near["rank"]], near)
        for near in _of(found.instructions, query):
            verdict = VERDICTS[near["right"]]
            said = f"{verdict.sign} {near['cosine']:.2f} “{near['text']}”"
            _text(texts[near["rank"]], fill(said, 24, max_lines=4, placeholder=" …"), verdict.colour)
    _explain(figure, {*found.edits["right"], *found.instructions["right"]})
    return figure


def _of(frame: pd.DataFrame, query: str) -> list[dict[Hashable, Any]]:
    """The neighbours of a query."""
    return frame[frame["query"] == query].to_dict("records")


def _pair(axes: "matplotlib.axes.Axes", images: Path, row: str, verdict: Verdict | None = None) -> None:
    """The images of a pair side by side, each in a square as encoders see it, in a frame that says the verdict."""
    for left, name in ((0, "before"), (1.06, "after")):
        with Image.open(images / f"{row}_{name}.png") as image:
            axes.imshow(enlarged(image), interpolation="nearest", extent=(left, left + 1, 0, 1))
    look = {"edgecolor": verdict.colour, "linestyle": verdict.line, "linewidth": 2.4} if verdict else {
        "edgecolor": LINE, "linewidth": 1}  # fmt: skip
    axes.add_patch(plt.Rectangle((-0.06, -0.06), 2.18, 1.12, fill=False, clip_on=False, **look))
    axes.set(xlim=(-0.08, 2.14), ylim=(-0.08, 1.08), aspect="equal")


def _verdict(axes: "matplotlib.axes.Axes", near: Mapping[Hashable, Any]) -> None:
    """Rank, cosine and sign of a neighbour above its pictures."""
    verdict = VERDICTS[near["right"]]
    said = f"{near['rank']}.  {verdict.sign} {near['cosine']:.2f}"
    axes.set_title(said, fontsize=10, loc="left", color=verdict.colour)


def _text(axes: "matplotlib.axes.Axes", text: str, colour: str) -> None:
    axes.text(0.02, 1, text, va="top", fontsize=9, color=colour, transform=axes.transAxes)


def _explain(figure: Figure, verdicts: set[str]) -> None:
    """What frames and signs mean, above all."""
    shown = [verdict for key, verdict in VERDICTS.items() if key in verdicts]
    frames = [plt.Rectangle((0, 0), 1, 1, fill=False, edgecolor=v.colour, linestyle=v.line, linewidth=2) for v in shown]
    names = [f"{verdict.sign} {verdict.meaning}" for verdict in shown]
    figure.legend(frames, names, loc="outside upper left", ncols=len(shown), fontsize=9.5)


def by_family(found: Retrieved) -> Figure:
    """Precision at 1 with its interval: a panel a task, a band a family, in it a line an encoder.

    The family that is hardest for the first encoder is on top, below all families together; a dotted line is chance.
    """
    mine = found.summary[(found.summary["k"] == 1) & found.summary["encoder"].isin(found.facts["encoders"])]
    first = mine[(mine["encoder"] == found.facts["reference"]) & (mine["task"] == "edits") & (mine["family"] != "")]
    names = ["", *first.sort_values("estimate", kind="stable")["family"]]
    names += sorted(set(mine["family"]) - set(names))  # families of edits with a single pair each
    figure, panels = _panels(0.9 + 0.16 * len(names) * (1 + len(found.facts["encoders"])), sharey=True)
    step = 1 / (1 + len(found.facts["encoders"]))
    for axes, task in zip(panels, TASKS, strict=True):
        rows = mine[mine["task"] == task]
        for i in range(0, len(names), 2):
            axes.axhspan(i - 0.5, i + 0.5, color=BAND, zorder=0)
        for lane, encoder in enumerate(found.facts["encoders"]):
            of_encoder = rows[rows["encoder"] == encoder].set_index("family").reindex(names)
            heights = np.arange(len(names)) + (lane + 1 - (len(found.facts["encoders"]) + 1) / 2) * step
            axes.hlines(heights, of_encoder["low"], of_encoder["high"], color=_look(lane)["color"], linewidth=1.8)
            axes.plot(of_encoder["estimate"], heights, linestyle="none", markersize=5.5, **_look(lane))
        chance = rows.drop_duplicates("family").set_index("family")["chance"].reindex(names)
        centres = np.arange(len(names))
        axes.vlines(chance, centres - 0.5, centres + 0.5, color=SOFT, linewidth=1.2, linestyle=":")
        axes.set_xlim(0, 1)
        axes.set_xlabel("share at rank 1, higher is better", fontsize=9)
        axes.grid(visible=False, axis="y")
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    panels[0].set_yticks(range(len(names)), [name or ALL for name in names], fontsize=9.5, color=INK)
    _key(figure, found)
    return figure


def by_rank(found: Retrieved) -> Figure:
    """Precision at k over the whole split, with its interval, against k: a panel a task, a line an encoder."""
    figure, panels = _panels(3.4)
    for axes, task in zip(panels, TASKS, strict=True):
        rows = found.summary[(found.summary["task"] == task) & (found.summary["family"] == "")]
        for i, encoder in enumerate(found.facts["encoders"]):
            mine = rows[rows["encoder"] == encoder]
            places = mine["k"] + (i - (len(found.facts["encoders"]) - 1) / 2) * 0.08
            axes.vlines(places, mine["low"], mine["high"], color=_look(i)["color"], linewidth=1.8)
            axes.plot(places, mine["estimate"], markersize=5.5, linewidth=1.2, **_look(i))
        chance = rows[rows["encoder"] == found.facts["reference"]]
        axes.plot(chance["k"], chance["chance"], color=SOFT, linewidth=1.2, linestyle=":")
        axes.set_xticks(chance["k"])
        axes.set_ylim(0, 1)
        axes.set_xlabel("k, the number of nearest that are looked at", fontsize=9)
    panels[0].set_ylabel("precision at k, higher is better", fontsize=9)
    _key(figure, found)
    return figure


def _panels(height: float, **more: Any) -> tuple[Figure, list["matplotlib.axes.Axes"]]:
    """A figure with one panel a task."""
    figure, panels = plt.subplots(1, len(TASKS), figsize=(9.6, height), layout="constrained", **more)
    for axes, title in zip(panels, TASKS.values(), strict=True):
        axes.set_title(title, fontsize=10.5)
        axes.tick_params(labelsize=9)
        axes.tick_params(axis="y", length=0)
    return figure, list(panels)


def _look(number: int) -> dict[str, Any]:
    """Colour and marker of the encoder or family with this number: 49 differ."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": MARKERS[(number + number // len(COLOURS)) % len(MARKERS)],
    }


def _key(figure: Figure, found: Retrieved) -> None:
    """Which colour and marker is which encoder, above the panels."""
    encoders = found.facts["encoders"]
    lines = [matplotlib.lines.Line2D([], [], linewidth=1.5, markersize=5.5, **_look(i)) for i in range(len(encoders))]
    lines.append(matplotlib.lines.Line2D([], [], color=SOFT, linewidth=1.2, linestyle=":"))
    names = [*(name.replace("_", " ") for name in encoders), "chance"]
    figure.legend(lines, names, loc="outside upper left", ncols=len(names), fontsize=9.5)


def _families(found: Retrieved) -> dict[str, dict[str, Any]]:
    """Colour and marker of every family, by name."""
    return {family: _look(i) for i, family in enumerate(sorted(set(found.places["family"])))}


def edit_map(found: Retrieved) -> Figure:
    """Every pair at its place on the map, by colour and marker of its family; the key is below."""
    looks = _families(found)
    figure, axes = plt.subplots(figsize=(8, 8.2), layout="constrained")
    for family, look in looks.items():
        mine = found.places[found.places["family"] == family]
        axes.scatter(mine["x"], mine["y"], s=26, linewidths=0.4, edgecolors="white", label=family, **look)
    _bare(axes)
    if set(looks) != {""}:
        figure.legend(loc="outside lower center", ncols=min(5, len(looks)), fontsize=10, markerscale=1.6)
    return figure


def family_maps(found: Retrieved) -> Figure:
    """The same map once for each family, whose pairs stand out of the others: a panel a family."""
    looks = _families(found)
    count = min(4, len(looks))
    rows = -(-len(looks) // count)
    figure, grid = plt.subplots(rows, count, figsize=(2.4 * count, 2.6 * rows), squeeze=False, layout="constrained")
    for axes in grid.flat[len(looks) :]:
        axes.axis("off")
    for axes, (family, look) in zip(grid.flat, looks.items(), strict=False):
        mine = found.places["family"] == family
        others = found.places[~mine]
        axes.scatter(others["x"], others["y"], s=4, color=LINE, linewidths=0)
        axes.scatter(found.places["x"][mine], found.places["y"][mine], s=16, linewidths=0.3, edgecolors="white", **look)
        axes.set_title(family or ALL, fontsize=10.5)
        _bare(axes)
    return figure


def _bare(axes: "matplotlib.axes.Axes") -> None:
    """A map has no axes to read: only what is near what means something."""
    axes.set(xticks=[], yticks=[], aspect="equal", adjustable="datalim")
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set(visible=True, color=LINE)
