"""Make one table of a run: score files in, CSV, Markdown and LaTeX tables out.

    python -m editclip.report.tables --table JSON --bench results/<run>/bench --edits results/<run>/edits/* \
        --scores results/<run>/scores/*/* --runtime results/<run>/runtime/* \
        --representation results/<run>/representation --judgements results/<run>/judgements/<study> \
        --out results/<run>/tables/<table>

--table says which methods are rows and what they are held against (`editclip.config.tables.Table`). A cell is the mean
over samples of the mean over seeds. An undefined, skipped or failed value enters no mean and is counted in rows.csv; a
cell without any value is empty and rows.csv says why. docs/statistics.md says how the intervals, differences and
p-values of the full table are made and how to read them. Beside the tables stands evidence.csv, the table's claims.
"""

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from editclip import stage, stats
from editclip.config.section import checked
from editclip.config.tables import Table
from editclip.errors import InputError
from editclip.report import render, render_full, render_headline
from editclip.report.beside_paper import against_paper
from editclip.report.columns import MEASURED, TABLE1, WIN_RATES
from editclip.report.evidence import evidence
from editclip.report.files import read_numbers
from editclip.report.results import RunResults, read_results, result_folders
from editclip.report.rows import headline_metrics, prose, row_facts
from editclip.report.summary import long_scores, summarise, summarise_runtime
from editclip.report.trainings import taken_together, training_means
from editclip.report.win_rates import Judgements, read_judgements, win_rates


def settings(table: Table) -> stats.Settings:
    """Of the bootstrap of a table."""
    return stats.Settings(**table.statistics.model_dump())


def full_table(table: Table, results: RunResults, judgements: Judgements | None = None) -> pd.DataFrame:
    """<table>_full.csv: every metric of every row per scope, the seconds per edit, and the win rates of a study."""
    reference = table.declaration.reference
    parts = [summarise(long_scores(results), results.methods, settings(table), reference), summarise_runtime(results)]
    if judgements is not None:
        parts.append(win_rates(table, judgements))
    return pd.concat(parts, ignore_index=True).infer_objects()


def headline(summary: pd.DataFrame, results: RunResults, facts: pd.DataFrame) -> pd.DataFrame:
    """The table itself: one row per method in the declared order, columns `columns.TABLE1`, missing cells NaN.

    Args:
        summary: the full table.
        results: what it was made of.
        facts: rows.csv.
    """
    metrics = headline_metrics(results)
    means = summary[summary["scope"] == "all"].set_index(["method", "metric"])["mean"].to_dict()
    rows = []
    for name, method in results.methods.items():
        row: dict[str, Any] = {"method": name, "conditioning": method.conditioning}
        row |= {column: means[name, metrics[column]] for column in MEASURED}
        rows.append(row | {column: means.get((name, column), float("nan")) for column in (*WIN_RATES, "runtime_s")})
    return pd.DataFrame(rows).assign(notes=prose(facts))[list(TABLE1)]


def check_metrics(results: RunResults) -> None:
    """Check that every row has a score for each column.

    Raises:
        InputError: one has not.
    """
    scored = set(results.scores[["method", "metric"]].itertuples(index=False, name=None))
    for name in results.methods:
        for metric in headline_metrics(results).values():
            if (name, metric) not in scored:
                raise InputError(f"{name} has no metric {metric!r} in its scores: score it again")


def write_tables(folder: Path, table: Table, results: RunResults, judgements: Judgements | None = None) -> pd.DataFrame:
    """Write <table>, <table>_full and <table>_vs_paper (with a paper) in every format, and rows.csv, into `folder`.

    The win rates are those of `judgements`, or empty.

    Returns:
        The full table, unrounded.
    """
    name, notice, level = table.name, table.notice, table.statistics.level
    check_metrics(results)
    votes = judgements.origin if judgements else "none"
    summary = full_table(table, results, judgements)
    facts = row_facts(table, results, summary, votes=votes)
    cells = headline(summary, results, facts)
    reference = table.declaration.reference
    texts = {
        "rows.csv": render.csv(facts),
        f"{name}.csv": render.csv(cells),
        f"{name}_full.csv": render.csv(summary),
        f"{name}.md": render_headline.headline_markdown(name, cells, summary, facts, notice, level),
        f"{name}.tex": render_headline.headline_latex(name, cells, summary, facts, notice, level),
        f"{name}_full.md": render_full.full_markdown(name, summary, reference, notice, level, votes),
        f"{name}_full.tex": render_full.full_latex(name, summary, reference, notice, level, votes),
    }
    if table.declaration.paper is not None:
        paper = read_numbers(Path(table.declaration.paper), ["method"])
        versus = against_paper(cells, paper, reference)
        texts[f"{name}_vs_paper.csv"] = render.csv(versus)
        texts[f"{name}_vs_paper.md"] = render_full.versus_markdown(name, versus, notice)
    if table.declaration.trainings:
        texts[f"{name}_trainings.csv"] = render.csv(training_means(table, results))
    for file, text in texts.items():
        (folder / file).write_bytes(text.encode())
    return summary


def _arguments() -> argparse.Namespace:
    parser = stage.parser(__doc__)
    add = parser.add_argument
    add("--table", type=stage.config_value, required=True, help="the table: its rows, reference, bars, statistics")
    add("--bench", type=Path, required=True, help="bench folder with manifest.csv")
    add("--edits", type=Path, nargs="+", required=True, help="folders <method> of seed=<s>/ with edits.csv")
    add("--scores", type=Path, nargs="+", required=True, help="folders <method>/<family> with card.json, seed=<s>.csv")
    add("--runtime", type=Path, nargs="*", default=[], help="folders <method> with runtime.csv")
    add("--representation", type=Path, help="folder with representation.csv, where the table speaks of it")
    add("--judgements", type=Path, help="folder with what the votes of the table's study say, for the win rates")
    return parser.parse_args()


def main() -> None:
    """Command line of the stage."""
    arguments = _arguments()
    table = checked(Table, arguments.table, "--table")
    folders = result_folders(table, arguments.bench, arguments.edits, arguments.scores, arguments.runtime)
    results = taken_together(table, read_results(table.of_rows, folders))
    inputs = folders.inputs
    if arguments.representation is not None:
        inputs["representation"] = arguments.representation
    judgements = None
    if arguments.judgements is not None:
        inputs["judgements"] = arguments.judgements
        judgements = read_judgements(arguments.judgements)
    if table.declaration.paper is not None:
        inputs["paper"] = Path(table.declaration.paper)
    facts: dict[str, Any] = {"module": "editclip.report.tables", "force": arguments.force}
    with stage.output_folder(arguments.out, config=table.model_dump(mode="json"), inputs=inputs, **facts) as folder:
        summary = write_tables(folder, table, results, judgements)
        claims = evidence(table, results, settings(table), summary, arguments.representation)
        claims.to_csv(folder / "evidence.csv", index=False)


if __name__ == "__main__":
    stage.run(main)
