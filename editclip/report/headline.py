"""Table 1 in HTML with the interval of every mean below it, and plain tables, for the page and the notebooks."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from editclip.report import render
from editclip.report.columns import CLIP_DIR, HEADLINE, column

TEMPLATES = Path(__file__).parent / "templates"


@functools.cache
def templates() -> jinja2.Environment:
    """The HTML templates of the report."""
    loader = jinja2.FileSystemLoader(TEMPLATES)
    return jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)


def headline_metrics(table: pd.DataFrame) -> dict[str, str]:
    """Which metric of the full table stands in a column of table1.csv; for clip_dir the notes say it."""
    notes = set("; ".join(table["notes"]).split("; "))
    direction = [metric for metric, equation in CLIP_DIR.items() if f"clip_dir={equation}" in notes]
    return {**HEADLINE, **({"clip_dir": direction[0]} if direction else {})}


def intervals(table: pd.DataFrame, full: pd.DataFrame) -> dict[tuple[str, str], tuple[float, float]]:
    """Bounds of each cell of table1.csv by (method, column), for those that have them in table1_full.csv."""
    whole = full[full["scope"] == "all"].reindex(columns=["method", "metric", "low", "high"]).dropna()
    bounds = {(r["method"], r["metric"]): (float(r["low"]), float(r["high"])) for r in whole.to_dict("records")}
    metrics = headline_metrics(table)
    cells = [(method, name) for method in table["method"] for name in metrics]
    return {cell: bounds[key] for cell in cells if (key := (cell[0], metrics[cell[1]])) in bounds}


def headline_html(table: pd.DataFrame, full: pd.DataFrame) -> Markup:
    """Table 1 with intervals; columns without any value and the notes are left out, controls have class "control".

    Args:
        table: table1.csv.
        full: table1_full.csv; where it has no columns low and high, the table has no intervals.
    """
    kept = [c for c in table.columns if c != "notes" and table[c].notna().any()]
    head = [{"text": column(c).label + render.ARROWS[column(c).better], "title": column(c).meaning} for c in kept]
    bounds = intervals(table, full)
    shown, best = render.display(table[kept]), render.best_cells(table)
    rows = []
    controls = table.apply(render.is_control, axis=1)
    for i, method in enumerate(table["method"]):
        cells = [_cell(shown[c].iloc[i], bool(best[c].iloc[i]), c, bounds.get((method, c))) for c in kept]
        rows.append({"kind": "control" if controls.iloc[i] else "method", "cells": cells})
    return Markup(templates().get_template("table1.html.j2").render(head=head, rows=rows))


def _cell(text: str, best: bool, name: str, bounds: tuple[float, float] | None) -> Mapping[str, Any]:
    edges = [column(name).text(bound).replace("-", "−") for bound in bounds or ()]
    return {"text": text, "best": best, "interval": f"[{', '.join(edges)}]" if edges else ""}


def plain_table(cells: pd.DataFrame) -> Markup:
    """Texts as an HTML table without emphasis."""
    mark = pd.DataFrame(False, index=cells.index, columns=cells.columns)
    return Markup(render.html_table(cells, [""] * cells.shape[1], mark, ["method"] * len(cells)))
