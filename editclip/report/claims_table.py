"""The verdicts on the paper's claims, claims.csv, as an HTML table: claim, effect with interval, n, bar, verdict.

It has the class of the evidence table, whose style it shares: a table where there is room, a list on a phone. The
claims of one source stand together under its name.
"""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from editclip.errors import InputError
from editclip.report.claims import COLUMNS, NOT_SUPPORTED, NOT_TESTABLE, SUPPORTED, UNDECIDED, tally
from editclip.report.files import read_table

SHOWN = {
    SUPPORTED: ("met", "✓ supported"),
    NOT_SUPPORTED: ("missed", "✗ not supported"),
    UNDECIDED: ("open", "undecided"),
    NOT_TESTABLE: ("open", "not testable"),
}
WIDTHS = (42, 21, 8, 12, 17)  # percent of the page: verdicts are longer here than in the evidence


def claims_html(path: Path) -> str:
    """How many claims have which verdict, and the table of `path`, of class "evidence".

    Args:
        path: claims.csv.

    Raises:
        InputError: the file lacks a column, or a cell is not what its column says.
    """
    claims = read_table(path, COLUMNS)
    return f"<p>{escape(tally(claims['verdict']))}</p>{table_html(claims, path)}"


def table_html(claims: pd.DataFrame, path: Path) -> str:
    """The table of some claims.

    Args:
        claims: rows of claims.csv, as texts.
        path: of that file, for messages.

    Raises:
        InputError: a cell is not what its column says.
    """
    rows, source = [], None
    for row in claims.to_dict("records"):
        if row["source"] != source:
            source = row["source"]
            rows.append(f'<tr class="group"><th colspan="5">{escape(source)}</th></tr>')
        rows.append(_row(row, path))
    columns = "".join(f'<col style="width: {width}%">' for width in WIDTHS)
    head = (
        '<tr><th class="claim">Claim</th><th class="value">Effect [interval]</th><th class="n">n</th>'
        '<th class="bar">Bar</th><th>Verdict</th></tr>'
    )
    return (
        f'<table class="evidence"><colgroup>{columns}</colgroup>'
        f"<thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"
    )


def _row(row: Mapping[Any, str], path: Path) -> str:
    """A claim as a row of the table; its rule and note stand below it in small print."""
    if row["verdict"] not in SHOWN:
        raise InputError(f"{path}: the verdict of {row['id']} is {row['verdict']!r}; use one of {', '.join(SHOWN)}")
    kind, verdict = SHOWN[row["verdict"]]
    small = "".join(f"<small>{escape(text)}</small>" for text in (row["rule"], row["note"]) if text)
    effect, low, high = (_number(row, name, path) for name in ("effect", "low", "high"))
    value = f"<b>{effect}</b>" + (f" <small>[{low}, {high}]</small>" if low else "") if effect else ""
    cells = f'<td class="claim">{escape(row["claim"])}{small}</td><td class="value">{value}</td>'
    cells += f'<td class="n">{escape(row["n"])}</td><td class="bar">{escape(row["bar"]) if effect else ""}</td>'
    return f'<tr class="{kind}">{cells}<td>{verdict}</td></tr>'


def _number(row: Mapping[Any, str], name: str, path: Path) -> str:
    """A cell with three decimals, or nothing.

    Raises:
        InputError: it is no number.
    """
    if not row[name]:
        return ""
    try:
        return f"{float(row[name]):.3f}".replace("-", "−")
    except ValueError:
        raise InputError(f"{path}: {name} of {row['id']} is {row[name]!r}, which is no number") from None
