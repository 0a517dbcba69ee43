"""A row of Table 1 on its own, beside the paper's rows: what `editclip score` writes of one method."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from editclip.config.tables import Table
from editclip.report import render
from editclip.report.columns import MEASURED
from editclip.report.files import read_numbers
from editclip.report.results import ResultFolders, RunResults, read_results
from editclip.report.rows import headline_metrics, honest_labels, row_facts
from editclip.report.tables import check_metrics, full_table, headline
from editclip.report.trainings import taken_together


def write_row(
    folder: Path, table: Table, folders: ResultFolders, problems: Sequence[str], counts: Sequence[str]
) -> None:
    """Write <table>.csv, <table>_full.csv, <table>.md and rows.csv of a table with one row.

    Args:
        folder: where to.
        table: the table; its paper is the one that the row stands beside.
        folders: the row's results.
        problems: sentences on the method's outputs, for <table>.md.
        counts: the same in short, for the row's notes.
    """
    results = taken_together(table, read_results(table.of_rows, folders))
    check_metrics(results)
    summary = full_table(table, results)
    facts = row_facts(table, results, summary, counts)
    lines = [*honest_labels(facts, table.notice), *problems]
    paper = read_numbers(Path(str(table.declaration.paper)), ["method"])
    beside = beside_paper(summary, results, paper, table.statistics.level)
    texts = {
        "rows.csv": render.csv(facts),
        f"{table.name}.csv": render.csv(headline(summary, results, facts)),
        f"{table.name}_full.csv": render.csv(summary),
        f"{table.name}.md": f"{beside}\n\n{''.join(f'- {line}{chr(10)}' for line in lines)}",
    }
    for name, text in texts.items():
        (folder / name).write_bytes(text.encode())


def beside_paper(summary: pd.DataFrame, results: RunResults, paper: pd.DataFrame, level: float) -> str:
    """The row as a Markdown table, one line per metric: its mean, interval and number of samples, then the paper's."""
    whole = summary[summary["scope"] == "all"].set_index("metric")
    metric_of: Mapping[str, str] = headline_metrics(results)
    mine = whole.loc[[metric_of[name] for name in MEASURED]]
    numbers = pd.DataFrame([mine["mean"], mine["low"], mine["high"]]).set_axis(list(MEASURED), axis=1)
    texts = render.display(pd.concat([numbers, paper.reindex(columns=list(MEASURED))]))
    texts = texts.set_axis(["mean", "low", "high", *paper["method"]])
    cells = pd.DataFrame({"": [render.head_label(name) for name in MEASURED]})
    cells[next(iter(results.methods))] = list(texts.loc["mean"])
    cells[f"{100 * level:g} % interval"] = list(texts.loc["low"] + " to " + texts.loc["high"])
    cells["n"] = [str(int(n)) for n in mine["n"]]
    for method in paper["method"]:
        cells[f"{method} (paper)"] = list(texts.loc[method])
    return str(cells.to_markdown(index=False, disable_numparse=True))
