"""Make Table 2 of a run: how well each metric agrees with the votes of its studies.

    python -m editclip.report.table2 --judgements results/<run>/judgements/* --paper paper/table2.csv --label … \
        --notice … --out results/<run>/table2

table2 has the paper's layout: a row a question, a column a metric, Pearson's correlation of the difference of two
outputs' scores with the vote between them (d1 of `editclip.study.coefficients`, the likeliest reading of the paper,
which does not say how it correlates). Where several studies hold the same metric against votes, its column is of the
first one given. table2_full has every statistic of every study, question and metric, with intervals.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from editclip import stage
from editclip.errors import InputError
from editclip.report import render
from editclip.report.columns import VOTES, column, title
from editclip.report.files import read_judgement_facts, read_numbers
from editclip.study.sheet import QUESTIONS

SHOWN = "d1"  # the statistic of table2
WITHIN = "within"  # the one that knowing the methods does not help
CANDIDATES = ("d1", "d2", "d3", "d4")  # what the paper's numbers can be
NEEDED = ("question", "metric", "statistic", "pair", "estimate", "low", "high", "null", "from_means", "votes", "items",
          "clusters", "note")  # fmt: skip
FULL = ("study", "origin", *NEEDED, "paper")
MEANINGS = {
    "d1": "Pearson, difference of the scores and vote, each vote in both orientations",
    "d2": "Pearson, difference of the scores (first − second) and vote for the first",
    "d3": "Pearson, score of every image shown and whether it was chosen",
    "d4": "Pearson, score of every output and its share of votes",
    "within": "Pearson within pairs of methods, their Fisher mean",
    "within_pair": "Pearson within one pair of methods",
    "accuracy": "share of votes for the output with the better score",
    "auc": "probability that a won vote has the larger difference than a lost one",
}


@dataclass(frozen=True)
class Judged:
    """What a study says of the metrics: its name, whose votes they are, the level of intervals, coefficients.csv."""

    study: str
    origin: str
    level: float
    coefficients: pd.DataFrame


def read_judged(folder: Path) -> Judged:
    """The judgements of a study, see `editclip.study.judgements`.

    Raises:
        InputError: a file is missing or incomplete.
    """
    facts = read_judgement_facts(folder, ("study", "origin", "level"))
    return Judged(facts["study"], facts["origin"], facts["level"], read_numbers(folder / "coefficients.csv", NEEDED))


def full(studies: Sequence[Judged], paper: pd.DataFrame) -> pd.DataFrame:
    """table2_full.csv: columns `FULL`, and what else the coefficients have, a row a number.

    Args:
        studies: in the order of the table.
        paper: the published table, a row a question (`judgement`), a column a metric. Its numbers stand beside those
            statistics that they can be.
    """
    published = paper.set_index("judgement")
    frames = []
    for judged in studies:
        frame = judged.coefficients.assign(study=judged.study, origin=judged.origin)
        frame["paper"] = [
            published[metric].get(question) if statistic in CANDIDATES and metric in published.columns else None
            for question, metric, statistic in zip(frame["question"], frame["metric"], frame["statistic"], strict=True)
        ]
        frames.append(frame.astype({"paper": float}))
    together = pd.concat(frames, ignore_index=True)
    text = together[["pair", "note"]].astype(object).fillna("")  # an empty column was read as numbers
    others = [name for name in together.columns if name not in FULL]
    return together.assign(pair=text["pair"], note=text["note"])[[*FULL[:-1], *others, "paper"]]


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the full table that stand in table2, of every question and metric one: of the first study with it."""
    rows = table[table["statistic"] == SHOWN]
    source = rows.drop_duplicates("metric").set_index("metric")["study"]
    return rows[rows["study"] == rows["metric"].map(source)]


def headline(table: pd.DataFrame, label: str) -> pd.DataFrame:
    """table2.csv: judgement, a column a metric, and notes: the run, whose votes they are, of which study each column.

    Args:
        table: the full table.
        label: of the run.
    """
    rows = shown(table)
    cells = rows.pivot(index="question", columns="metric", values="estimate")
    cells = cells.loc[rows["question"].unique(), rows["metric"].unique()]
    notes = "; ".join([f"run={label}", f"votes={origins(rows)}", f"statistic={SHOWN}", *sources(rows)])
    return cells.rename_axis("judgement").rename_axis(None, axis=1).reset_index().assign(notes=notes)


def origins(rows: pd.DataFrame) -> str:
    """Whose votes rows of the full table are of."""
    return ", ".join(rows["origin"].unique())


def sources(rows: pd.DataFrame) -> list[str]:
    """Of which study each metric is and whose votes it has, as notes."""
    of_study = rows.drop_duplicates("metric").groupby(["study", "origin"], sort=False)["metric"]
    return [f"study {study} ({origin}): {', '.join(metrics)}" for (study, origin), metrics in of_study]


def warnings(rows: pd.DataFrame, notice: str | None) -> list[str]:
    """What a reader must know before the first number."""
    lines = [notice] if notice else []
    if (rows["origin"] == "oracle").any():
        lines.append(f"Held against {VOTES['oracle']}.")
    return lines


def cells(table: pd.DataFrame) -> pd.DataFrame:
    """table2 as texts: of each question the coefficients with their intervals, and below them what they are worth."""
    rows = shown(table)
    within = table[table["statistic"] == WITHIN].set_index(["study", "question", "metric"]).to_dict("index")
    lines = []
    for question, own in rows.groupby("question", sort=False):
        of_metric = own.set_index("metric").to_dict("index")
        for head, text in (
            (str(question), _with_interval),
            ("of it by method means", lambda row: number(row["from_means"])),
            ("method means alone", lambda row: number(row["null"])),
            ("the paper", lambda row: number(row["paper"])),
        ):
            lines.append({"Judgement": head} | {_label(str(name)): text(row) for name, row in of_metric.items()})
        inside = {name: within[row["study"], question, name] for name, row in of_metric.items()}
        lines.append({"Judgement": "within pairs"} | {_label(str(n)): _with_interval(r) for n, r in inside.items()})
    return pd.DataFrame(lines).fillna(render.NO_VALUE)


def _label(metric: str) -> str:
    """A metric's label, without an arrow: of all, higher is better here."""
    return column(metric).label


def number(value: float) -> str:
    """A coefficient or share as printed."""
    return render.NO_VALUE if pd.isna(value) else f"{round(value, 3) + 0.0:.3f}".replace("-", "−")


def _with_interval(row: Mapping[Any, Any]) -> str:
    bounds = f" ({number(row['low'])} to {number(row['high'])})" if pd.notna(row["low"]) else ""
    return number(row["estimate"]) + bounds


def reading(table: pd.DataFrame, level: float) -> str:
    """How table2 is read, in sentences."""
    return (
        f"Pearson's correlation of metric and vote ({SHOWN}: {MEANINGS[SHOWN][len('Pearson, ') :]}), with its "
        f"{100 * level:g} % interval over clusters of votes. Votes: {origins(shown(table))}. Metrics of which lower is "
        "better are turned. Of it by method means: the part that knowing the methods makes, whatever the images. "
        "Method means alone: the coefficient of every score replaced by its method's mean. Within pairs: the mean "
        "coefficient in one pair of methods at a time, where knowing the methods is worth nothing."
    )


def headline_markdown(table: pd.DataFrame, notice: str | None, level: float) -> str:
    """table2 in Markdown: what a reader must know, the table, how to read it, and what each column is of."""
    rows = shown(table)
    lines = "\n\n".join(f"**{line}**" for line in warnings(rows, notice))
    notes = "\n".join(f"- {note}" for note in sources(rows))
    parts = [*([lines] if lines else []), render.markdown_table(cells(table)).rstrip(), reading(table, level), notes]
    return render.heading(title("table2"), None) + "\n\n".join(parts) + "\n"


def headline_latex(table: pd.DataFrame, notice: str | None, level: float) -> str:
    """table2 in LaTeX (booktabs), with the warnings in the caption and the notes below as comments."""
    texts, rows = cells(table), shown(table)
    head = [render.latex_text(name) for name in texts.columns]
    caption = " ".join(["Agreement of metrics with votes.", reading(table, level), *warnings(rows, notice)])
    notes = "".join(f"% {note}\n" for note in sources(rows))
    return render.latex_table(texts.map(render.latex_text), head, caption, "table2") + notes


def table2_html(folder: Path) -> str:
    """table2 in HTML: what a reader must know of the votes, and the table.

    Args:
        folder: that this stage wrote.

    Raises:
        InputError: table2_full.csv is missing or incomplete.
    """
    table = read_numbers(folder / "table2_full.csv", FULL)
    said = "".join(f"<p><b>{escape(line)}</b></p>" for line in warnings(shown(table), None))
    texts = cells(table)
    bounds = texts.map(lambda text: text[text.index("(") :] if "(" in text else "")
    estimates = texts.map(lambda text: text.partition(" (")[0])
    mark = pd.DataFrame(False, index=texts.index, columns=texts.columns)
    classes = ["method" if head in QUESTIONS else "control" for head in texts["Judgement"]]
    return said + render.html_table(estimates, [""] * texts.shape[1], mark, classes, bounds)


def full_markdown(table: pd.DataFrame, notice: str | None, level: float) -> str:
    """The full table in Markdown: a section a study and question, a line a statistic (and pair), a column a metric.

    A cell is the estimate with its interval, and after a slash what the methods' means alone give, where that exists.
    """
    sections = []
    for (study, origin, question), own in table.groupby(["study", "origin", "question"], sort=False):
        texts = [_with_interval(row) + _null(row) for row in own.to_dict("records")]
        wide = own.assign(text=texts).pivot(index=["statistic", "pair"], columns="metric", values="text")
        order = own[["statistic", "pair"]].drop_duplicates().itertuples(index=False, name=None)
        wide = wide.loc[list(order), own["metric"].unique()].fillna(render.NO_VALUE)
        wide.columns = pd.Index([_label(name) for name in wide.columns])
        shown_cells = wide.rename_axis(["Statistic", "Pair"]).reset_index()
        votes = own.loc[own["statistic"] == SHOWN, "votes"]
        head = f"## {study}, {question}: {int(votes.max())} votes, {origin}\n\n"
        sections.append(f"{head}{render.markdown_table(shown_cells)}\n")
    legend = "\n".join(f"- {name}: {meaning}" for name, meaning in MEANINGS.items())
    lead = f"Estimate ({100 * level:g} % interval) / the same of method means alone.\n\n{legend}\n\n"
    head = render.heading(f"{title('table2')}, full", None)
    return head + "".join(f"**{line}**\n\n" for line in warnings(table, notice)) + lead + "".join(sections)


def _null(row: Mapping[Any, Any]) -> str:
    return f" / {number(row['null'])}" if pd.notna(row["null"]) else ""


def write_table2(folder: Path, studies: Sequence[Judged], paper: pd.DataFrame, label: str, notice: str | None) -> None:
    """Write table2.csv, .md, .tex and table2_full.csv, .md into `folder`.

    Args:
        folder: to write to.
        studies: in the order of the columns.
        paper: the published table.
        label: of the run.
        notice: shown above the tables, or None.

    Raises:
        InputError: a study was given twice, or their intervals have different levels.
    """
    names = [judged.study for judged in studies]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"--judgements has the study {name} twice: give it once")
    levels = {judged.level for judged in studies}
    if len(levels) > 1:
        raise InputError(
            f"the studies {', '.join(names)} have intervals of different levels: judge all with one config"
        )
    table, level = full(studies, paper), studies[0].level
    texts = {
        "table2.csv": render.csv(headline(table, label)),
        "table2.md": headline_markdown(table, notice, level),
        "table2.tex": headline_latex(table, notice, level),
        "table2_full.csv": render.csv(table),
        "table2_full.md": full_markdown(table, notice, level),
    }
    for name, text in texts.items():
        (folder / name).write_bytes(text.encode())


def _arguments() -> argparse.Namespace:
    parser = stage.parser(__doc__)
    add = parser.add_argument
    add("--judgements", type=Path, nargs="+", required=True, help="folders written by editclip.study.judgements")
    add("--paper", type=Path, required=True, help="the published table, as CSV")
    add("--label", required=True, help="of the run")
    add("--notice", default="", help="shown above the tables")
    return parser.parse_args()


def main() -> None:
    """Command line of the stage."""
    given = _arguments()
    inputs = {f"judgements of {folder.name}": folder for folder in given.judgements} | {"paper": given.paper}
    config = {"label": given.label, "notice": given.notice or None}
    facts: dict[str, Any] = {"module": "editclip.report.table2", "config": config, "inputs": inputs}
    paper = read_numbers(given.paper, ["judgement"])
    studies = [read_judged(folder) for folder in given.judgements]
    with stage.output_folder(given.out, force=given.force, **facts) as folder:
        write_table2(folder, studies, paper, given.label, given.notice or None)


if __name__ == "__main__":
    stage.run(main)
