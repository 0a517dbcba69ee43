"""Render frames as CSV, Markdown, LaTeX and HTML, all from the same frame; nobody edits a rendering."""

from html import escape
from pathlib import Path

import numpy as np
import pandas as pd

from editclip.report.columns import WIN_RATES, column

NO_VALUE = "–"
ARROWS = {1: " ↑", -1: " ↓", 0: ""}
TEX_ARROWS = {1: r" $\uparrow$", -1: r" $\downarrow$", 0: ""}
TEX_CHARACTERS = {"\\": r"\textbackslash{}", "_": r"\_", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "{": r"\{",
                  "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$", "–": "--",
                  "×": r"$\times$", "±": r"$\pm$"}  # fmt: skip


def csv(frame: pd.DataFrame) -> str:
    """CSV text: 6 significant decimals, LF, empty cells for missing values."""
    return frame.to_csv(index=False, float_format="%.6g", lineterminator="\n")


def latex_text(text: str) -> str:
    """`text` with the characters that LaTeX would interpret escaped."""
    return "".join(TEX_CHARACTERS.get(c, c) for c in text)


def heading(text: str, notice: str | None) -> str:
    """A Markdown heading with the notice below it."""
    return f"# {text}\n\n" + (f"**{notice}**\n\n" if notice else "")


def label(name: str, votes: str = "none") -> str:
    """The label of a column or metric; that of a win rate says whose `votes` they are, such as an oracle's."""
    return column(name).label + (f" ({votes})" if name in WIN_RATES and votes != "none" else "")


def head_label(name: str, votes: str = "none") -> str:
    """The header of a column or metric, with the arrow of its better direction."""
    return label(name, votes) + ARROWS[column(name).better]


def half_intervals(full: pd.DataFrame) -> "pd.Series[float]":
    """Half of each interval of a full table, of the one for its edit types; NaN where there is none.

    Win rates have the interval for edit types like these, if there are several; as its bounds are cut off at 0 and
    100 %, the half is its longer side.
    """
    half = (full["high"] - full["low"]) / 2
    voted = full["metric"].isin(WIN_RATES)
    if not voted.any():
        return half
    low, high = (full[f"{bound}_types"].fillna(full[bound]) for bound in ("low", "high"))
    return half.mask(voted, np.maximum(high - full["mean"], full["mean"] - low))


def display(frame: pd.DataFrame) -> pd.DataFrame:
    """The cells of a table as the texts to print; missing values become a dash."""
    shown = pd.DataFrame(index=frame.index)
    for name in frame.columns:
        shown[name] = [cell(v, name) for v in frame[name]]
    return shown


def cell(value: str | float | None, name: str) -> str:
    """The text of one value of column or metric `name`."""
    if isinstance(value, str):
        return value
    return NO_VALUE if pd.isna(value) else column(name).text(float(value)).replace("-", "−")


def markdown_table(cells: pd.DataFrame) -> str:
    """A pipe table of texts."""
    lines = [list(cells.columns), ["---"] * cells.shape[1], *cells.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(str(c).replace("|", r"\|") for c in line) + " |" for line in lines) + "\n"


def latex_table(cells: pd.DataFrame, head: list[str], caption: str, label: str) -> str:
    """A booktabs `table*` of LaTeX texts; texts and `head` are final, `caption` is escaped here."""
    body = [" & ".join(row) + r" \\" for row in cells.to_numpy().tolist()]
    lines = [r"\begin{table*}", r"\centering", rf"\caption{{{latex_text(caption)}}}", rf"\label{{tab:{label}}}"]
    lines += [rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", r"\toprule", " & ".join(head) + r" \\", r"\midrule"]
    lines += [*body, r"\bottomrule", r"\end{tabular}", r"\end{table*}"]
    return "\n".join(lines) + "\n"


def html_table(
    cells: pd.DataFrame, titles: list[str], mark: pd.DataFrame, classes: list[str], small: pd.DataFrame
) -> str:
    """An HTML table of class "results".

    Args:
        cells: the texts; its columns are the header.
        titles: what hovering over each header says.
        mark: booleans shaped like `cells`: the cells to emphasise.
        classes: class of each row.
        small: texts shaped like `cells`, to stand below them in small print.
    """
    names = [escape(c).replace(" (", "<br>(") for c in cells.columns]  # the only place where a header may break
    head = "".join(f'<th title="{escape(t)}">{name}</th>' for name, t in zip(names, titles, strict=True))
    rows = []
    for texts, marked, below, name in zip(cells.to_numpy(), mark.to_numpy(), small.to_numpy(), classes, strict=True):
        escaped = [f"<b>{escape(t)}</b>" if m else escape(t) for t, m in zip(texts, marked, strict=True)]
        escaped = [t + f"<small>{escape(s)}</small>" * bool(s) for t, s in zip(escaped, below, strict=True)]
        rows.append(f'<tr class="{name}">' + "".join(f"<td>{t}</td>" for t in escaped) + "</tr>")
    return f'<table class="results"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def plain_html(cells: pd.DataFrame) -> str:
    """Texts as an HTML table without emphasis or small print."""
    mark = pd.DataFrame(False, index=cells.index, columns=cells.columns)
    small = pd.DataFrame("", index=cells.index, columns=cells.columns)
    return html_table(cells, [""] * cells.shape[1], mark, ["method"] * len(cells), small)


def css() -> str:
    """The style sheet of the HTML tables."""
    return (Path(__file__).parent / "templates" / "table.css").read_text(encoding="utf-8")
