"""The evidence for a table's claims, evidence.csv, as an HTML table: claim, value with interval, bar, verdict.

Columns: claim, group (a heading above its rows), family (of edits, of which the claim is made; "" = of all), estimate,
low, high (its interval), n, bar (what the value is held against), met and note. A cell may be empty, and the texts of
bar and n are shown as they are. The rows of a claim's families follow its own, under which they are folded.
"""

from collections.abc import Mapping
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

from editclip.errors import InputError
from editclip.report.files import read_table

COLUMNS = ("claim", "group", "family", "estimate", "low", "high", "n", "bar", "met", "note")
VERDICTS = {"yes": ("met", "✓ met"), "no": ("missed", "✗ not met"), "": ("open", "–")}
MINUS = "−"


def _number(row: Mapping[Any, str], name: str, path: Path) -> float:
    try:
        return float(row[name])
    except ValueError:
        raise InputError(f"{path}: {name} is {row[name]!r} for {row['claim']!r}, which is no number") from None


def _numbers(row: Mapping[Any, str], path: Path) -> dict[str, str]:
    """Estimate and bounds of a row with the same decimals, three below 10, fewer above; "" stays empty.

    Raises:
        InputError: one of them is no number.
    """
    values = {name: _number(row, name, path) for name in ("estimate", "low", "high") if row[name]}
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
    claims = read_table(path, COLUMNS).to_dict("records")
    for in_family, found in groupby(claims, key=lambda row: row["family"] != ""):
        if in_family:
            rows.append(_folded(list(found), path))
            continue
        for row in found:
            if row["group"] != group:
                group = row["group"]
                rows.append(f'<tr class="group"><th colspan="5">{escape(group)}</th></tr>')
            rows.append(_row(row, row["claim"], path))
    if not rows:
        return "<p>No claim follows from these rows.</p>"
    head = (
        f'<tr><th class="claim">Claim</th><th class="value">Value [{100 * level:g} % interval]</th>'
        '<th class="n">n</th><th class="bar">Bar</th><th>Verdict</th></tr>'
    )
    return f'<table class="evidence"><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table>'


def _row(row: Mapping[Any, str], name: str, path: Path) -> str:
    """A claim as a row of the table, called `name`."""
    if row["met"] not in VERDICTS:
        raise InputError(f"{path}: met is {row['met']!r} for {row['claim']!r}; use yes, no or nothing")
    kind, verdict = VERDICTS[row["met"]]
    numbers = _numbers(row, path)
    value = f"<b>{numbers['estimate']}</b>"
    if numbers["low"] or numbers["high"]:
        value += f" <small>[{numbers['low']}, {numbers['high']}]</small>"
    claim = escape(name) + (f"<small>{escape(row['note'])}</small>" if row["note"] else "")
    cells = f'<td class="claim">{claim}</td><td class="value">{value}</td>'
    cells += f'<td class="n">{escape(row["n"])}</td><td class="bar">{escape(row["bar"])}</td>'
    return f'<tr class="{kind}">{cells}<td>{verdict}</td></tr>'


def _folded(families: list[Mapping[Any, str]], path: Path) -> str:
    """The families of a claim, lowest first, under a line that names how many there are and those that miss a bar."""
    ordered = sorted(families, key=lambda row: _number(row, "estimate", path))
    missed = [row["family"] for row in ordered if row["met"] == "no"]
    summary = f"{len(ordered)} families" + (f", not met: {', '.join(missed)}" if missed else "")
    rows = "".join(_row(row, row["family"], path) for row in ordered)
    inner = f'<table class="evidence"><tbody>{rows}</tbody></table>'
    return (
        f'<tr class="families"><td colspan="5"><details><summary>{escape(summary)}</summary>{inner}</details></td></tr>'
    )
