"""A row of Table 1 on its own, beside the paper's rows: what `editclip score` writes of one method."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from editclip import stats
from editclip.report import render, tables
from editclip.report.columns import HEADLINE, MEASURED, column
from editclip.report.page import honest_labels
from editclip.report.results import RunResults, read_numbers, read_run


def write_row(
    folder: Path, bench: Path, method: Mapping[str, Any], config: Mapping[str, Any], paper: Path, found: Sequence[str],
    notes: Sequence[str],
) -> None:  # fmt: skip
    """Write table1.csv, table1_full.csv and table1.md of the one method whose edits and scores are in `folder`.

    Args:
        folder: with `edits/<name>` and `scores/<name>`, as a run has them.
        bench: the bench folder.
        method: its name, exemplars and seeds.
        config: a run's config, of which label, notice and statistics count.
        paper: the paper's table, as CSV.
        found: sentences on the method's outputs, for table1.md.
        notes: the same in short, for the row's notes.
    """
    entry = {**method, "tables": ["table1"]}
    results = read_run({"methods": [entry], "seeds": method["seeds"]}, bench, folder / "scores", folder / "edits")
    settings = stats.Settings(**config["statistics"])
    summary = tables.summarise(tables.long_scores(results), results.methods, settings, None)
    table = tables.headline(summary, results, config["run"]["label"])
    table["notes"] += "".join(f"; {note}" for note in notes)
    lines = [*honest_labels(table, config["run"]["notice"]), *found]
    beside = beside_paper(summary, results, read_numbers(paper, ("method", *MEASURED)), settings.level)
    (folder / "table1.csv").write_bytes(render.csv(table).encode())
    (folder / "table1_full.csv").write_bytes(render.csv(summary).encode())
    (folder / "table1.md").write_bytes(f"{beside}\n\n{''.join(f'- {line}{chr(10)}' for line in lines)}".encode())


def beside_paper(summary: pd.DataFrame, results: RunResults, paper: pd.DataFrame, level: float) -> str:
    """The row as a Markdown table, one line a metric: its mean, interval and number of samples, then the paper's."""
    whole = summary[summary["scope"] == "all"].set_index("metric")
    chosen = HEADLINE | {"clip_dir": tables.direction_metric(results)}
    mine = whole.loc[[chosen[name] for name in MEASURED]]
    numbers = pd.DataFrame([mine["mean"], mine["low"], mine["high"]]).set_axis(list(MEASURED), axis=1)
    texts = render.display(pd.concat([numbers, paper[list(MEASURED)]]))
    texts = texts.set_axis(["mean", "low", "high", *paper["method"]])
    cells = pd.DataFrame({"": [column(name).label + render.ARROWS[column(name).better] for name in MEASURED]})
    cells[results.methods[0].name] = list(texts.loc["mean"])
    cells[f"{100 * level:g} % interval"] = list(texts.loc["low"] + " to " + texts.loc["high"])
    cells["n"] = [str(int(n)) for n in mine["n"]]
    for method in paper["method"]:
        cells[f"{method} (paper)"] = list(texts.loc[method])
    return str(cells.to_markdown(index=False, disable_numparse=True))
