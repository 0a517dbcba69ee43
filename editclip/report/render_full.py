"""Render a full table in readable pieces, and a table beside the paper's."""

from collections.abc import Hashable
from typing import Any

import pandas as pd

from editclip.report.beside_paper import sign_sentence
from editclip.report.columns import column, title
from editclip.report.render import (
    NO_VALUE,
    cell,
    half_intervals,
    head_label,
    heading,
    latex_table,
    latex_text,
    markdown_table,
    plain_html,
)


def pivots(
    summary: pd.DataFrame, reference: str | None, level: float, votes: str = "none"
) -> list[tuple[str, str, pd.DataFrame]]:
    """The full table as readable pieces (title, label, texts); `votes` says whose the win rates are.

    First the whole bench, metrics × methods: means with half of their interval, differences from the reference row,
    the spread over seeds (of seconds, over repeats). Then, per scope and metric, scope values × methods as means.
    Intervals of the latter and those for a population of types stand in the CSV.
    """
    whole = summary[summary["scope"] == "all"]
    half, names = half_intervals(whole), whole["metric"]
    means = [cell(mean, name) + _half(h, name) for name, mean, h in zip(names, whole["mean"], half, strict=True)]
    pieces = [
        (f"Whole bench: mean ± half of the {100 * level:g} % interval", "full", _pivot(whole, means, "metric", votes))
    ]
    compared = whole[whole["diff"].notna()]
    if len(compared):
        texts = [_difference(row, level) for row in compared.to_dict("records")]
        sentence = f"Whole bench: difference from {reference} on the same samples, * where p_holm < {1 - level:.2g}"
        pieces.append((sentence, "differences", _pivot(compared, texts, "metric")))
    repeated = whole[whole["seed_sd"].notna()]
    if len(repeated):
        texts = [cell(sd, name) for name, sd in zip(repeated["metric"], repeated["seed_sd"], strict=True)]
        sentence = "Whole bench: standard deviation over seeds, of seconds over repeats"
        pieces.append((sentence, "seeds", _pivot(repeated, texts, "metric")))
    for scope in ("family", "type"):
        for metric in summary["metric"].unique():
            rows = summary[(summary["scope"] == scope) & (summary["metric"] == metric)]
            if len(rows):
                means = [cell(m, metric) for m in rows["mean"]]
                pieces.append(
                    (f"{column(metric).label} per {scope}", f"{metric}-{scope}", _pivot(rows, means, "scope_value"))
                )
    return pieces


def _half(half: float, name: str) -> str:
    return f" ± {cell(half, name)}" if pd.notna(half) else ""


def _difference(row: dict[Hashable, Any], level: float) -> str:
    """A paired difference with its sign, half of its interval and a star where it is significant."""
    name = row["metric"]
    text = cell(row["diff"], name)
    sign = "" if text.startswith("−") or not float(text) else "+"
    return sign + text + _half((row["diff_high"] - row["diff_low"]) / 2, name) + " *" * bool(row["p_holm"] < 1 - level)


def _pivot(rows: pd.DataFrame, texts: list[str], index: str, votes: str = "none") -> pd.DataFrame:
    wide = rows.assign(text=texts).pivot(index=index, columns="method", values="text")
    wide = wide.loc[rows[index].unique(), rows["method"].unique()].fillna(NO_VALUE)
    if index == "metric":
        wide.index = pd.Index([head_label(m, votes) for m in wide.index])
    name = "Metric" if index == "metric" else str(rows["scope"].iloc[0]).capitalize()
    return wide.rename_axis(name).rename_axis(None, axis=1).reset_index()


def full_markdown(
    name: str, summary: pd.DataFrame, reference: str | None, notice: str | None, level: float, votes: str = "none"
) -> str:
    """The full table of table `name` in Markdown, one section per piece."""
    pieces = pivots(summary, reference, level, votes)
    sections = [f"## {piece}\n\n{markdown_table(cells)}\n" for piece, _, cells in pieces]
    return heading(f"{title(name)}, full", notice) + "".join(sections)


def full_latex(
    name: str, summary: pd.DataFrame, reference: str | None, notice: str | None, level: float, votes: str = "none"
) -> str:
    """The full table of table `name` in LaTeX, one `table*` per piece."""
    tables = []
    for piece, label, cells in pivots(summary, reference, level, votes):
        texts = cells.map(_arrows_to_latex)
        head = [latex_text(c) for c in cells.columns]
        tables.append(latex_table(texts, head, f"{piece}." + (f" {notice}" if notice else ""), f"{name}-{label}"))
    return "\n".join(tables)


def _arrows_to_latex(text: str) -> str:
    return latex_text(text).replace("↑", r"$\uparrow$").replace("↓", r"$\downarrow$")


def versus_cells(versus: pd.DataFrame) -> pd.DataFrame:
    """Ours beside the paper's, as texts: one row per method, one column per metric, "ours (paper)"."""
    numbers = zip(versus["metric"], versus["ours"], versus["paper"], strict=True)
    pairs = [f"{cell(ours, name)} ({cell(paper, name)})" for name, ours, paper in numbers]
    wide = versus.assign(pair=pairs).pivot(index="method", columns="metric", values="pair")
    wide = wide.loc[versus["method"].unique(), versus["metric"].unique()]
    wide.columns = pd.Index([head_label(m) for m in wide.columns])
    return wide.rename_axis("Method").reset_index()


def versus_markdown(name: str, versus: pd.DataFrame, notice: str | None) -> str:
    """Ours beside the paper's in Markdown, with the share of differences from EditCLIP that have the paper's sign."""
    text = heading(f"{title(name)} beside the paper's", notice)
    if versus.empty:
        return text + "No method of this run stands in the paper's table.\n"
    return f"{text}Each cell: ours (paper).\n\n{markdown_table(versus_cells(versus))}\n{sign_sentence(versus)}\n"


def versus_html(versus: pd.DataFrame) -> str:
    """Ours beside the paper's in HTML."""
    return plain_html(versus_cells(versus))
