"""Render a table as its readers see it: means with half of their interval, the best cells marked, the notes below."""

import pandas as pd

from editclip.report.columns import CLIP_DIR, COLUMNS, HEADLINE, WIN_RATES, column, title
from editclip.report.render import (
    TEX_ARROWS,
    cell,
    display,
    half_intervals,
    head_label,
    heading,
    html_table,
    label,
    latex_table,
    latex_text,
    markdown_table,
)
from editclip.report.rows import shared_and_own


def controls(facts: pd.DataFrame) -> list[str]:
    """The methods of rows.csv that are controls: not conditioned on anything, or fed shuffled exemplars."""
    return facts.loc[facts["control"] == "yes", "method"].tolist()


def votes_of(facts: pd.DataFrame) -> str:
    """Whose votes the win rates are, by rows.csv: "human", "oracle", or "none"."""
    return next((votes for votes in facts["votes"] if votes != "none"), "none")


def best_cells(table: pd.DataFrame, facts: pd.DataFrame) -> pd.DataFrame:
    """Booleans shaped like `table`: the best method (controls do not compete) of each column that has a direction."""
    best = pd.DataFrame(False, index=table.index, columns=table.columns)
    rivals = table[~table["method"].isin(controls(facts))]
    for name in table.columns:
        better = column(name).better
        values = pd.to_numeric(rivals[name], errors="coerce").dropna() if better else pd.Series(dtype=float)
        if len(values) > 1:
            shown = values.map(column(name).text).astype(float)  # a tie at the printed precision is a tie
            best.loc[shown[shown == (shown.max() if better > 0 else shown.min())].index, name] = True
    return best


def half_widths(table: pd.DataFrame, full: pd.DataFrame, facts: pd.DataFrame) -> pd.DataFrame:
    """Texts shaped like `table`: half the width of each mean's interval in the full table.

    Empty where there is no interval. Intervals are symmetric (but for win rates near 0 and 100 %), so mean and half
    width say all.
    """
    whole = full[full["scope"] == "all"]
    halves = half_intervals(whole).set_axis([whole["method"], whole["metric"]]).dropna().to_dict()
    metric_of = {form: metric for metric, form in CLIP_DIR.items()}
    forms = dict(zip(facts["method"], facts["clip_dir"], strict=True))
    texts = pd.DataFrame("", index=table.index, columns=table.columns)
    for i, method in table["method"].items():
        metrics = {**HEADLINE, "clip_dir": metric_of[forms[method]], **{name: name for name in WIN_RATES}}
        for name, metric in metrics.items():
            if (method, metric) in halves:
                texts.loc[i, name] = cell(halves[method, metric], name)
    return texts


def _filled(table: pd.DataFrame) -> list[str]:
    """The columns to print in a row of cells: those with any value, without the notes."""
    return [name for name in table.columns if name != "notes" and table[name].notna().any()]


def headline_markdown(
    name: str, table: pd.DataFrame, full: pd.DataFrame, facts: pd.DataFrame, notice: str | None, level: float
) -> str:
    """A table in Markdown: mean ± half of the interval, best cells bold, the notes below; no empty columns.

    Args:
        name: of the table.
        table: its cells, <name>.csv.
        full: <name>_full.csv.
        facts: rows.csv.
        notice: shown above the table.
        level: confidence level of the intervals.
    """
    kept = _filled(table)
    cells = display(table[kept]).mask(best_cells(table, facts)[kept], lambda shown: "**" + shown + "**")
    cells += half_widths(table, full, facts)[kept].map(lambda half: f" ± {half}" if half else "")
    cells.columns = pd.Index([head_label(c, votes_of(facts)) for c in kept])
    legend = [f"- {COLUMNS[n].label}: {COLUMNS[n].meaning}" for n in kept if n in COLUMNS and COLUMNS[n].meaning]
    reading = (
        f"{_reading(level, full)} Bold: the best method of a column; controls do not compete. See docs/statistics.md."
    )
    parts = [markdown_table(cells).rstrip(), reading, "\n".join(legend), _notes(facts)]
    return heading(title(name), notice) + "\n\n".join(parts) + "\n"


def _reading(level: float, full: pd.DataFrame) -> str:
    voted = full[full["metric"].isin(WIN_RATES)]
    of_types = voted["low_types"].notna().any() if len(voted) else False
    votes = ", that of win rates for edit types like these" if of_types else ""
    return f"± is half of the {100 * level:g} % interval for these edit types{votes}."


def _notes(facts: pd.DataFrame) -> str:
    """The notes as a list: what all rows share first, then what is special about each."""
    shared, own = shared_and_own(facts)
    lines = [("all rows", shared), *own.items()]
    return "Notes:\n\n" + "\n".join(f"- {name}: {'; '.join(notes)}" for name, notes in lines if any(notes))


def headline_latex(
    name: str, table: pd.DataFrame, full: pd.DataFrame, facts: pd.DataFrame, notice: str | None, level: float
) -> str:
    """A table in LaTeX (booktabs): mean ± half of the interval, best cells bold, the notes below as comments.

    Args:
        name: of the table, also its label.
        table: its cells, <name>.csv.
        full: <name>_full.csv.
        facts: rows.csv.
        notice: part of the caption.
        level: confidence level of the intervals.
    """
    shown = table.drop(columns="notes")
    cells = display(shown).map(latex_text)
    cells = cells.mask(best_cells(table, facts)[shown.columns], lambda text: r"\textbf{" + text + "}")
    halves = half_widths(table, full, facts)[shown.columns]
    cells += halves.map(lambda half: rf" {{\scriptsize$\pm$\,{half}}}" if half else "")
    head = [latex_text(label(c, votes_of(facts))) + TEX_ARROWS[column(c).better] for c in shown.columns]
    notes = "".join(f"% {m}: {n}\n" for m, n in zip(table["method"], table["notes"], strict=True))
    caption = " ".join(["Exemplar-based editing.", _reading(level, full), *([notice] if notice else [])])
    return latex_table(cells, head, caption, name) + notes


def headline_html(table: pd.DataFrame, full: pd.DataFrame, facts: pd.DataFrame) -> str:
    """A table in HTML, half of each mean's interval below it; columns without any value and the notes are left out.

    Args:
        table: its cells, <name>.csv.
        full: <name>_full.csv.
        facts: rows.csv; its controls have class "control".
    """
    kept = _filled(table)
    cells = display(table[kept]).set_axis([head_label(c, votes_of(facts)) for c in kept], axis=1)
    classes = ["control" if method in controls(facts) else "method" for method in table["method"]]
    small = half_widths(table, full, facts)[kept].map(lambda half: f"± {half}" if half else "")
    return html_table(cells, [column(c).meaning for c in kept], best_cells(table, facts)[kept], classes, small)
