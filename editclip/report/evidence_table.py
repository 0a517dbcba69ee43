"""The evidence for the run's claims, `tables/evidence.csv`, as an HTML table: claim, value with interval, bar, verdict.

Columns: claim, group (a heading above its rows), estimate, low, high (its interval), n, bar (what the value is held
against), met and note. A cell may be empty, and the texts of bar and n are shown as they are.
"""

from html import escape
from pathlib import Path

from editclip.errors import InputError
from editclip.report.results import read_table

COLUMNS = ("claim", "group", "estimate", "low", "high", "n", "bar", "met", "note")
VERDICTS = {"yes": ("met", "✓ met"), "no": ("missed", "✗ not met"), "": ("open", "–")}
SPELLINGS = {"true": "yes", "1": "yes", "false": "no", "0": "no"}
MINUS = "−"


def _number(text: str, path: Path) -> str:
    """A number with four significant digits; "" stays empty.

    Raises:
        InputError: it is no number.
    """
    if not text:
        return ""
    try:
        return f"{float(text):.4g}".replace("-", MINUS)
    except ValueError:
        raise InputError(f"{path} has {text!r} where a number should stand: make it again") from None


def evidence_html(path: Path) -> str:
    """The table of `path`, an evidence.csv, of class "evidence"; its style is in the page's style sheet.

    Raises:
        InputError: the file lacks a column, or a cell is not what its column says.
    """
    rows, group = [], None
    for row in read_table(path, COLUMNS).to_dict("records"):
        if row["group"] != group:
            group = row["group"]
            rows.append(f'<tr class="group"><th colspan="5">{escape(group)}</th></tr>')
        met = row["met"].strip().lower()
        met = SPELLINGS.get(met, met)
        if met not in VERDICTS:
            raise InputError(f"{path}: met is {row['met']!r} for {row['claim']!r}; use yes, no or nothing")
        kind, verdict = VERDICTS[met]
        value = f"<b>{_number(row['estimate'], path)}</b>"
        if row["low"] or row["high"]:
            value += f" <small>[{_number(row['low'], path)}, {_number(row['high'], path)}]</small>"
        claim = escape(row["claim"]) + (f"<small>{escape(row['note'])}</small>" if row["note"] else "")
        cells = f"<td>{claim}</td><td>{value}</td><td>{escape(row['n'])}</td><td>{escape(row['bar'])}</td>"
        rows.append(f'<tr class="{kind}">{cells}<td>{verdict}</td></tr>')
    head = "".join(f"<th>{name}</th>" for name in ("Claim", "Value [95 % interval]", "n", "Bar", "Verdict"))
    return f'<table class="evidence"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
