"""The evidence for a table's claims, evidence.csv, as an HTML table: claim, value with interval, bar, verdict.

Columns: claim, group (a heading above its rows), estimate, low, high (its interval), n, bar (what the value is held
against), met and note. A cell may be empty, and the texts of bar and n are shown as they are.
"""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from editclip.errors import InputError
from editclip.report.files import read_table

COLUMNS = ("claim", "group", "estimate", "low", "high", "n", "bar", "met", "note")
VERDICTS = {"yes": ("met", "✓ met"), "no": ("missed", "✗ not met"), "": ("open", "–")}
MINUS = "−"


def _numbers(row: Mapping[Any, str], path: Path) -> dict[str, str]:
    """Estimate and bounds of a row with the same decimals, three below 10, fewer above; "" stays empty.

    Raises:
        InputError: one of them is no number.
    """
    values = {}
    for name, text in ((name, row[name]) for name in ("estimate", "low", "high") if row[name]):
        try:
            values[name] = float(text)
        except ValueError:
            raise InputError(f"{path}: {name} is {text!r} for {row['claim']!r}, which is no number") from None
    largest = max(map(abs, values.values()), default=0)
    decimals = sum(largest < bound for bound in (10, 100, 1000))
    texts = {name: f"{value:.{decimals}f}".replace("-", MINUS) for name, value in values.items()}
    return {"estimate": "", "low": "", "high": "", **texts}


def evidence_html(path: Path, level: float) -> str:
    """The table of `path`, the evidence of a table, of class "evidence"; its style is in the page's style sheet.

    Where there is no claim, a sentence says so.

    Args:
        path: the file.
        level: confidence level of its intervals.

    Raises:
        InputError: the file lacks a column, or a cell is not what its column says.
    """
    rows, group = [], None
    for row in read_table(path, COLUMNS).to_dict("records"):
        if row["group"] != group:
            group = row["group"]
            rows.append(f'<tr class="group"><th colspan="5">{escape(group)}</th></tr>')
        if row["met"] not in VERDICTS:
            raise InputError(f"{path}: met is {row['met']!r} for {row['claim']!r}; use yes, no or nothing")
        kind, verdict = VERDICTS[row["met"]]
        numbers = _numbers(row, path)
        value = f"<b>{numbers['estimate']}</b>"
        if numbers["low"] or numbers["high"]:
            value += f" <small>[{numbers['low']}, {numbers['high']}]</small>"
        claim = escape(row["claim"]) + (f"<small>{escape(row['note'])}</small>" if row["note"] else "")
        cells = f"<td>{claim}</td><td>{value}</td><td>{escape(row['n'])}</td><td>{escape(row['bar'])}</td>"
        rows.append(f'<tr class="{kind}">{cells}<td>{verdict}</td></tr>')
    if not rows:
        return "<p>No claim follows from these rows.</p>"
    names = ("Claim", f"Value [{100 * level:g} % interval]", "n", "Bar", "Verdict")
    head = "".join(f"<th>{name}</th>" for name in names)
    return f'<table class="evidence"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
