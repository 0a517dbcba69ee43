"""The figures of the ablations alone: the same queries edited by every arm, and maps over guidance.

They only draw: every number comes from the table of the ablation.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from editclip.report import picture_choice, picture_grid
from editclip.report.columns import column
from editclip.report.figures import ACCENT, DIRECTIONS, SOFT
from editclip.report.files import read_samples


def first_trainings(config: Mapping[str, Any], table: str) -> dict[str, str]:
    """The method whose edits are shown for each row of a table: itself, or the first of its trainings.

    Args:
        config: the run's effective config.
        table: name of the table.
    """
    declared = config["tables"][table]
    trainings = declared.get("trainings", {})
    return {row: trainings.get(row, [row])[0] for row in declared["rows"]}


def pictures(
    run: Path, config: Mapping[str, Any], table: str, facts: pd.DataFrame, types: int
) -> tuple[list[str], list[picture_grid.GridRow]]:
    """Titles and lines of a picture grid with an output of each row of the table.

    Samples are chosen by the EC2EC of the table's reference, as for the grid of the methods.

    Args:
        run: folder of the run.
        config: its effective config.
        table: name of the table.
        facts: its rows.csv.
        types: number of edit types.
    """
    shown = first_trainings(config, table)
    seeds = {row: config["methods"][method]["seeds"] or config["run"]["seeds"] for row, method in shown.items()}
    own = facts.assign(
        method=facts["method"].map(shown), seeds=[" ".join(map(str, seeds[row])) for row in facts["method"]]
    )
    samples = read_samples(run / "bench")
    reference = config["tables"][table]["reference"]
    scores, seed = picture_choice.grid_reference(run, own, shown.get(reference))
    chosen = picture_choice.exemplar_rows(samples, scores, types)
    titles, rows = picture_grid.grid_rows(run, samples, chosen, list(shown.values()), seed)
    names = {method: row for row, method in shown.items()}
    return [names.get(title, title) for title in titles], rows


def guidance_maps(full: pd.DataFrame, config: Mapping[str, Any], metrics: Sequence[str]) -> Figure:
    """A map a metric over edit guidance (down) and image guidance (across), the mean in each cell.

    Args:
        full: <table>_full.csv of a table whose rows differ in guidance alone.
        config: the run's effective config, which has the scales.
        metrics: the maps, in order, at least one.
    """
    rows = full[full["scope"] == "all"]
    options = {method: config["methods"][method]["options"] for method in rows["method"].unique()}
    scales = rows.assign(
        edit=[options[method]["guidance_scale"] for method in rows["method"]],
        image=[options[method]["image_guidance_scale"] for method in rows["method"]],
    )
    figure, panels = plt.subplots(1, len(metrics), figsize=(0.6 + 2.7 * len(metrics), 3.1), squeeze=False,
                                  layout="constrained")  # fmt: skip
    for axes, metric in zip(panels.flat, metrics, strict=True):
        wide = scales[scales["metric"] == metric].pivot(index="edit", columns="image", values="mean")
        better, decimals = column(metric).better, min(column(metric).decimals or 2, 3)
        palette = sns.light_palette(ACCENT, as_cmap=True, reverse=better < 0)
        sns.heatmap(wide, annot=True, fmt=f".{decimals}f", cmap=palette, linewidths=2, linecolor="white", cbar=False,
                    ax=axes, annot_kws={"size": 11})  # fmt: skip
        axes.set_title(f"{column(metric).label}\n{DIRECTIONS[better]}", fontsize=11)
        axes.set_xlabel("image guidance", fontsize=10, color=SOFT)
        axes.set_ylabel("edit guidance" if axes is panels.flat[0] else "", fontsize=10, color=SOFT)
        axes.tick_params(length=0, labelsize=10)
    return figure


def guidance_pictures(
    run: Path, config: Mapping[str, Any], rows: Sequence[str], sample: str
) -> tuple[list[str], list[picture_grid.GridRow]]:
    """Titles and lines of a picture grid of one sample: a line an edit guidance, a column an image guidance.

    Args:
        run: folder of the run.
        config: its effective config.
        rows: methods that differ in guidance alone.
        sample: sample_id.
    """
    samples = read_samples(run / "bench")
    options = {row: config["methods"][row]["options"] for row in rows}
    scales = {(float(o["guidance_scale"]), float(o["image_guidance_scale"])): row for row, o in options.items()}
    images = sorted({image for _, image in scales})
    lines = []
    for edit in sorted({edit for edit, _ in scales}):
        methods = [scales[edit, image] for image in images]
        seed = min(set.intersection(*(set(config["methods"][m]["seeds"] or config["run"]["seeds"]) for m in methods)))
        _, (line,) = picture_grid.grid_rows(run, samples, [sample], methods, seed, [f"edit guidance {edit:g}"])
        lines.append(line)
    titles, _ = picture_grid.grid_rows(run, samples, [sample], list(rows)[:1], 0)
    return [*titles[:3], *(f"image guidance {image:g}" for image in images), *titles[4:]], lines


def chosen_for_guidance(run: Path, facts: pd.DataFrame, reference: str) -> str:
    """The sample that is shown at every guidance: of all, the one of median EC2EC of the reference."""
    scores, _ = picture_choice.grid_reference(run, facts, reference)
    return picture_choice.median_sample(read_samples(run / "bench"), scores)
