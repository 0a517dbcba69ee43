"""Render the tables as CSV, Markdown, LaTeX and HTML, all from the same frame; nobody edits a rendering."""

from html import escape
from pathlib import Path

import pandas as pd

from editclip.report.columns import COLUMNS, column

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


def table1_markdown(table: pd.DataFrame, notice: str | None) -> str:
    """Table 1 in Markdown, best cells bold."""
    cells = display(table).mask(best_cells(table), lambda shown: "**" + shown + "**")
    cells.columns = pd.Index([column(c).label + ARROWS[column(c).better] for c in table.columns])
    return _heading("Table 1", notice) + markdown_table(cells) + "\n" + _legend(list(table.columns))


def table1_latex(table: pd.DataFrame, notice: str | None) -> str:
    """Table 1 in LaTeX (booktabs), best cells bold; the notes stand below the table as comments."""
    shown = table.drop(columns="notes")
    cells = display(shown).map(latex_text)
    cells = cells.mask(best_cells(table)[shown.columns], lambda text: r"\textbf{" + text + "}")
    head = [latex_text(column(c).label) + TEX_ARROWS[column(c).better] for c in shown.columns]
    notes = "".join(f"% {m}: {n}\n" for m, n in zip(table["method"], table["notes"], strict=True))
    caption = "Exemplar-based editing." + (f" {notice}" if notice else "")
    return latex_table(cells, head, caption, "table1") + notes


def _legend(names: list[str]) -> str:
    lines = [f"- {COLUMNS[n].label}: {COLUMNS[n].meaning}\n" for n in names if n in COLUMNS and COLUMNS[n].meaning]
    return "".join(lines) + "\nBold: the best method of a column; controls do not compete.\n"


def pivots(summary: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    """The full table as readable pieces (title, label, texts).

    First one piece of the whole bench, metrics × methods as mean ± sd over seeds; then, per scope and metric, scope
    values × methods as means.
    """
    whole = summary[summary["scope"] == "all"]
    numbers = zip(whole["metric"], whole["mean"], whole["seed_sd"], strict=True)
    spread = [_cell(m, name) + (f" ± {_cell(sd, name)}" if pd.notna(sd) else "") for name, m, sd in numbers]
    pieces = [("Whole bench, mean ± sd over seeds", "full", _pivot(whole, spread, "metric", "Metric"))]
    for scope in ("family", "type"):
        for metric in summary["metric"].unique():
            rows = summary[(summary["scope"] == scope) & (summary["metric"] == metric)]
            if len(rows):
                means = [_cell(m, metric) for m in rows["mean"]]
                title = f"{column(metric).label} per {scope}"
                pieces.append((title, f"{metric}-{scope}", _pivot(rows, means, "scope_value", scope.capitalize())))
    return pieces


def _pivot(rows: pd.DataFrame, texts: list[str], index: str, name: str) -> pd.DataFrame:
    wide = rows.assign(text=texts).pivot(index=index, columns="method", values="text")
    wide = wide.loc[rows[index].unique(), rows["method"].unique()].fillna(NO_VALUE)
    if index == "metric":
        wide.index = pd.Index([column(m).label + ARROWS[column(m).better] for m in wide.index])
    return wide.rename_axis(name).rename_axis(None, axis=1).reset_index()


def full_markdown(summary: pd.DataFrame, notice: str | None) -> str:
    """The full table in Markdown, one section a piece."""
    sections = [f"## {title}\n\n{markdown_table(cells)}\n" for title, _, cells in pivots(summary)]
    return _heading("Table 1, full", notice) + "".join(sections)


def full_latex(summary: pd.DataFrame, notice: str | None) -> str:
    """The full table in LaTeX, one `table*` a piece."""
    tables = []
    for title, label, cells in pivots(summary):
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


def html_table(cells: pd.DataFrame, titles: list[str], mark: pd.DataFrame, classes: list[str]) -> str:
    """An HTML table of class "results".

    Args:
        cells: the texts; its columns are the header.
        titles: what hovering over each header says.
        mark: booleans shaped like `cells`: the cells to emphasise.
        classes: class of each row.
    """
    head = "".join(f'<th title="{escape(t)}">{escape(c)}</th>' for c, t in zip(cells.columns, titles, strict=True))
    rows = []
    for texts, marked, name in zip(cells.to_numpy(), mark.to_numpy(), classes, strict=True):
        escaped = [f"<b>{escape(t)}</b>" if m else escape(t) for t, m in zip(texts, marked, strict=True)]
        rows.append(f'<tr class="{name}">' + "".join(f"<td>{t}</td>" for t in escaped) + "</tr>")
    return f'<table class="results"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def table1_html(table: pd.DataFrame) -> str:
    """Table 1 in HTML; columns without any value and the notes are left out, controls have class "control"."""
    kept = [c for c in table.columns if c != "notes" and table[c].notna().any()]
    cells = display(table[kept]).set_axis([column(c).label + ARROWS[column(c).better] for c in kept], axis=1)
    classes = ["control" if c else "method" for c in table.apply(is_control, axis=1)]
    return html_table(cells, [column(c).meaning for c in kept], best_cells(table)[kept], classes)


def versus_html(versus: pd.DataFrame) -> str:
    """Ours beside the paper's in HTML."""
    cells = versus_cells(versus)
    mark = pd.DataFrame(False, index=cells.index, columns=cells.columns)
    return html_table(cells, [""] * cells.shape[1], mark, ["method"] * len(cells))


def css() -> str:
    """The style sheet of the HTML tables."""
    return (Path(__file__).parent / "templates" / "table.css").read_text(encoding="utf-8")
