"""Render the tables as CSV, Markdown, LaTeX and HTML, all from the same frame; nobody edits a rendering."""

from collections.abc import Hashable
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from editclip.report.columns import CLIP_DIR, COLUMNS, HEADLINE, column

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


def is_control(row: "pd.Series[str]") -> bool:
    """Whether a row of Table 1 is a control (not conditioned, or fed shuffled exemplars) rather than a method."""
    return row["conditioning"] == "none" or "exemplars=shuffled" in row["notes"]


def best_cells(table: pd.DataFrame) -> pd.DataFrame:
    """Booleans shaped like `table`: the best method (controls do not compete) of each column that has a direction."""
    best = pd.DataFrame(False, index=table.index, columns=table.columns)
    rivals = table[~table.apply(is_control, axis=1)]
    for name in table.columns:
        better = column(name).better
        values = pd.to_numeric(rivals[name], errors="coerce").dropna() if better else pd.Series(dtype=float)
        if len(values) > 1:
            shown = values.map(column(name).text).astype(float)  # a tie at the printed precision is a tie
            best.loc[shown[shown == (shown.max() if better > 0 else shown.min())].index, name] = True
    return best


def display(frame: pd.DataFrame) -> pd.DataFrame:
    """The cells of a table as the texts to print; missing values become a dash."""
    shown = pd.DataFrame(index=frame.index)
    for name in frame.columns:
        shown[name] = [_cell(v, name) for v in frame[name]]
    return shown


def _cell(value: str | float | None, name: str) -> str:
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


def _heading(title: str, notice: str | None) -> str:
    return f"# {title}\n\n" + (f"**{notice}**\n\n" if notice else "")


def half_widths(table: pd.DataFrame, full: pd.DataFrame) -> pd.DataFrame:
    """Texts shaped like `table` (of table1.csv): half the width of each mean's interval in `full` (table1_full.csv).

    Empty where there is no interval. Intervals are symmetric, so mean and half width say all.
    """
    whole = full[full["scope"] == "all"].set_index(["method", "metric"])
    halves = ((whole["high"] - whole["low"]) / 2).dropna().to_dict()
    forms = {form: metric for metric, form in CLIP_DIR.items()}
    texts = pd.DataFrame("", index=table.index, columns=table.columns)
    for i, row in table.iterrows():
        noted = dict(note.split("=", 1) for note in row["notes"].split("; ") if "=" in note)
        metrics = {**HEADLINE, "clip_dir": forms.get(noted.get("clip_dir", ""))}
        for name, metric in metrics.items():
            if (row["method"], metric) in halves:
                texts.loc[i, name] = _cell(halves[row["method"], metric], name)
    return texts


def _filled(table: pd.DataFrame) -> list[str]:
    """The columns to print in a row of cells: those with any value, without the notes."""
    return [name for name in table.columns if name != "notes" and table[name].notna().any()]


def table1_markdown(table: pd.DataFrame, full: pd.DataFrame, notice: str | None, level: float) -> str:
    """Table 1 in Markdown: mean ± half of the interval, best cells bold, the notes below; no empty columns.

    Args:
        table: table1.csv.
        full: table1_full.csv.
        notice: shown above the table.
        level: confidence level of the intervals.
    """
    kept = _filled(table)
    cells = display(table[kept]).mask(best_cells(table)[kept], lambda shown: "**" + shown + "**")
    cells += half_widths(table, full)[kept].map(lambda half: f" ± {half}" if half else "")
    cells.columns = pd.Index([column(c).label + ARROWS[column(c).better] for c in kept])
    legend = [f"- {COLUMNS[n].label}: {COLUMNS[n].meaning}" for n in kept if n in COLUMNS and COLUMNS[n].meaning]
    reading = f"{_reading(level)} Bold: the best method of a column; controls do not compete. See docs/statistics.md."
    parts = [markdown_table(cells).rstrip(), reading, "\n".join(legend), _notes(table)]
    return _heading("Table 1", notice) + "\n\n".join(parts) + "\n"


def _reading(level: float) -> str:
    return f"± is half of the {100 * level:g} % interval for these edit types."


def _notes(table: pd.DataFrame) -> str:
    """The notes as a list: what all rows share first, then what is special about each."""
    split = {row["method"]: row["notes"].split("; ") for row in table.to_dict("records")}
    shared = [note for note in next(iter(split.values()), []) if all(note in notes for notes in split.values())]
    own = {method: [note for note in notes if note not in shared] for method, notes in split.items()}
    lines = [("all rows", shared), *own.items()]
    return "Notes:\n\n" + "\n".join(f"- {name}: {'; '.join(notes)}" for name, notes in lines if any(notes))


def table1_latex(table: pd.DataFrame, full: pd.DataFrame, notice: str | None, level: float) -> str:
    """Table 1 in LaTeX (booktabs): mean ± half of the interval, best cells bold, the notes below as comments.

    Args:
        table: table1.csv.
        full: table1_full.csv.
        notice: part of the caption.
        level: confidence level of the intervals.
    """
    shown = table.drop(columns="notes")
    cells = display(shown).map(latex_text)
    cells = cells.mask(best_cells(table)[shown.columns], lambda text: r"\textbf{" + text + "}")
    halves = half_widths(table, full)[shown.columns]
    cells += halves.map(lambda half: rf" {{\scriptsize$\pm$\,{half}}}" if half else "")
    head = [latex_text(column(c).label) + TEX_ARROWS[column(c).better] for c in shown.columns]
    notes = "".join(f"% {m}: {n}\n" for m, n in zip(table["method"], table["notes"], strict=True))
    caption = " ".join(["Exemplar-based editing.", _reading(level), *([notice] if notice else [])])
    return latex_table(cells, head, caption, "table1") + notes


def pivots(summary: pd.DataFrame, level: float) -> list[tuple[str, str, pd.DataFrame]]:
    """The full table as readable pieces (title, label, texts).

    First the whole bench, metrics × methods: means with half of their interval, differences from the reference row,
    the spread over seeds. Then, per scope and metric, scope values × methods as means. Intervals of the latter and
    those for a population of types stand in the CSV.
    """
    whole = summary[summary["scope"] == "all"]
    half, names = (whole["high"] - whole["low"]) / 2, whole["metric"]
    means = [_cell(mean, name) + _half(h, name) for name, mean, h in zip(names, whole["mean"], half, strict=True)]
    pieces = [(f"Whole bench: mean ± half of the {100 * level:g} % interval", "full", _pivot(whole, means, "metric"))]
    compared = whole[whole["diff"].notna()]
    if len(compared):
        texts = [_difference(row, level) for row in compared.to_dict("records")]
        title = (
            f"Whole bench: difference from {_reference(summary)} on the same samples, * where p_holm < {1 - level:.2g}"
        )
        pieces.append((title, "differences", _pivot(compared, texts, "metric")))
    repeated = whole[whole["seed_sd"].notna()]
    if len(repeated):
        texts = [_cell(sd, name) for name, sd in zip(repeated["metric"], repeated["seed_sd"], strict=True)]
        pieces.append(("Whole bench: standard deviation over seeds", "seeds", _pivot(repeated, texts, "metric")))
    for scope in ("family", "type"):
        for metric in summary["metric"].unique():
            rows = summary[(summary["scope"] == scope) & (summary["metric"] == metric)]
            if len(rows):
                means = [_cell(m, metric) for m in rows["mean"]]
                pieces.append(
                    (f"{column(metric).label} per {scope}", f"{metric}-{scope}", _pivot(rows, means, "scope_value"))
                )
    return pieces


def _half(half: float, name: str) -> str:
    return f" ± {_cell(half, name)}" if pd.notna(half) else ""


def _difference(row: dict[Hashable, Any], level: float) -> str:
    """A paired difference with its sign, half of its interval and a star where it is significant."""
    name = row["metric"]
    text = _cell(row["diff"], name)
    sign = "" if text.startswith("−") or not float(text) else "+"
    return sign + text + _half((row["diff_high"] - row["diff_low"]) / 2, name) + " *" * bool(row["p_holm"] < 1 - level)


def _reference(summary: pd.DataFrame) -> str:
    """The method that the differences of a full table are taken from: the one with values and without differences."""
    rows = summary[(summary["scope"] == "all") & summary["mean"].notna()]
    compared = rows.groupby("method", sort=False)["diff"].count()
    return str(compared.idxmin())


def _pivot(rows: pd.DataFrame, texts: list[str], index: str) -> pd.DataFrame:
    wide = rows.assign(text=texts).pivot(index=index, columns="method", values="text")
    wide = wide.loc[rows[index].unique(), rows["method"].unique()].fillna(NO_VALUE)
    if index == "metric":
        wide.index = pd.Index([column(m).label + ARROWS[column(m).better] for m in wide.index])
    name = "Metric" if index == "metric" else str(rows["scope"].iloc[0]).capitalize()
    return wide.rename_axis(name).rename_axis(None, axis=1).reset_index()


def full_markdown(summary: pd.DataFrame, notice: str | None, level: float) -> str:
    """The full table in Markdown, one section a piece."""
    sections = [f"## {title}\n\n{markdown_table(cells)}\n" for title, _, cells in pivots(summary, level)]
    return _heading("Table 1, full", notice) + "".join(sections)


def full_latex(summary: pd.DataFrame, notice: str | None, level: float) -> str:
    """The full table in LaTeX, one `table*` a piece."""
    tables = []
    for title, label, cells in pivots(summary, level):
        texts = cells.map(_arrows_to_latex)
        head = [latex_text(c) for c in cells.columns]
        tables.append(latex_table(texts, head, f"{title}." + (f" {notice}" if notice else ""), label))
    return "\n".join(tables)


def _arrows_to_latex(text: str) -> str:
    return latex_text(text).replace("↑", r"$\uparrow$").replace("↓", r"$\downarrow$")


def versus_cells(versus: pd.DataFrame) -> pd.DataFrame:
    """Ours beside the paper's, as texts: one row per method, one column per metric, "ours (paper)"."""
    numbers = zip(versus["metric"], versus["ours"], versus["paper"], strict=True)
    pairs = [f"{_cell(ours, name)} ({_cell(paper, name)})" for name, ours, paper in numbers]
    wide = versus.assign(pair=pairs).pivot(index="method", columns="metric", values="pair")
    wide = wide.loc[versus["method"].unique(), versus["metric"].unique()]
    wide.columns = pd.Index([column(m).label + ARROWS[column(m).better] for m in wide.columns])
    return wide.rename_axis("Method").reset_index()


def versus_markdown(versus: pd.DataFrame, notice: str | None) -> str:
    """Ours beside the paper's in Markdown, with the share of differences from EditCLIP that have the paper's sign."""
    text = _heading("Table 1 beside the paper's", notice)
    if versus.empty:
        return text + "No method of this run stands in the paper's table.\n"
    return f"{text}Each cell: ours (paper).\n\n{markdown_table(versus_cells(versus))}\n{sign_sentence(versus)}\n"


def sign_sentence(versus: pd.DataFrame) -> str:
    """How many differences from EditCLIP have the sign that they have in the paper, as one sentence."""
    signs = versus.loc[versus["same_sign"].isin(["yes", "no"]), "same_sign"]
    if signs.empty:
        return "No method of the paper's table stands beside EditCLIP here, so no difference can be compared."
    same = int((signs == "yes").sum())
    return f"Of {len(signs)} differences from EditCLIP's row, {same} have the sign that they have in the paper."


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
    head = "".join(f'<th title="{escape(t)}">{escape(c)}</th>' for c, t in zip(cells.columns, titles, strict=True))
    rows = []
    for texts, marked, below, name in zip(cells.to_numpy(), mark.to_numpy(), small.to_numpy(), classes, strict=True):
        escaped = [f"<b>{escape(t)}</b>" if m else escape(t) for t, m in zip(texts, marked, strict=True)]
        escaped = [t + f"<small>{escape(s)}</small>" * bool(s) for t, s in zip(escaped, below, strict=True)]
        rows.append(f'<tr class="{name}">' + "".join(f"<td>{t}</td>" for t in escaped) + "</tr>")
    return f'<table class="results"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def table1_html(table: pd.DataFrame, full: pd.DataFrame) -> str:
    """Table 1 in HTML, half of each mean's interval below it; columns without any value and the notes are left out.

    Args:
        table: table1.csv; its controls have class "control".
        full: table1_full.csv.
    """
    kept = _filled(table)
    cells = display(table[kept]).set_axis([column(c).label + ARROWS[column(c).better] for c in kept], axis=1)
    classes = ["control" if c else "method" for c in table.apply(is_control, axis=1)]
    small = half_widths(table, full)[kept].map(lambda half: f"± {half}" if half else "")
    return html_table(cells, [column(c).meaning for c in kept], best_cells(table)[kept], classes, small)


def versus_html(versus: pd.DataFrame) -> str:
    """Ours beside the paper's in HTML."""
    return plain_html(versus_cells(versus))


def plain_html(cells: pd.DataFrame) -> str:
    """Texts as an HTML table without emphasis or small print."""
    mark = pd.DataFrame(False, index=cells.index, columns=cells.columns)
    small = pd.DataFrame("", index=cells.index, columns=cells.columns)
    return html_table(cells, [""] * cells.shape[1], mark, ["method"] * len(cells), small)


def css() -> str:
    """The style sheet of the HTML tables."""
    return (Path(__file__).parent / "templates" / "table.css").read_text(encoding="utf-8")
