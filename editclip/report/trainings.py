"""Rows that are several trainings of one method, whose scatter says how much of a result is the luck of a training.

Where a table's declaration names trainings, each counts as further repetitions of the row, so that a cell is the mean
over samples of the mean over trainings and seeds. Intervals and tests of the table are over edit types, exemplars and
queries for these trainings: two of them give no interval of their own, which is why the differences of each stand in
<table>_trainings.csv, and why docs/claims.md wants all to point the same way.
"""

import dataclasses

import pandas as pd

from editclip.config.tables import Table
from editclip.report.results import RunResults

COLUMNS = ("row", "training", "method", "metric", "mean", "diff", "n_pairs")


def taken_together(table: Table, results: RunResults) -> RunResults:
    """The results of the rows of a table.

    Args:
        table: the table.
        results: of the methods that its rows are made of.

    Returns:
        The same with rows for methods. Frames have the row as `method`; the repetitions of trainings are numbered
        through; scores have a column `training`, from 0, which is 0 for rows of one method.
    """
    trainings = table.declaration.trainings
    number = {name: i for names in trainings.values() for i, name in enumerate(names)}
    # (method, seed): the row's repetition
    seeds = {
        (name, seed): i
        for names in trainings.values()
        for i, (name, seed) in enumerate((name, seed) for name in names for seed in table.methods[name].seeds)
    }
    rows = table.declaration.methods

    def of_rows(frame: pd.DataFrame) -> pd.DataFrame:
        known = zip(frame["method"], frame["seed"], strict=True)
        renumbered = [seeds.get(key, key[1]) for key in known]
        return frame.assign(method=frame["method"].map(rows), seed=renumbered)

    scores = results.scores.assign(training=results.scores["method"].map(number).fillna(0).astype(int))
    return dataclasses.replace(results, methods=table.rows, scores=of_rows(scores), edits=of_rows(results.edits))


def training_means(table: Table, results: RunResults) -> pd.DataFrame:
    """<table>_trainings.csv: columns `COLUMNS`, a line a training of each row and metric.

    `diff` is the mean of the training minus that of the reference with the same number (of a reference that was trained
    once, minus that one) over the `n_pairs` samples that both have; NaN of the reference itself.

    Args:
        table: the table.
        results: what `taken_together` gives.
    """
    valid = results.scores[results.scores["status"] == "ok"]
    keys = ["sample_id", "method", "training", "metric"]
    values = valid.groupby(keys)["value"].mean().unstack(["method", "training", "metric"])
    reference = table.declaration.reference
    once = reference is not None and reference not in table.declaration.trainings
    lines = []
    for row in table.declaration.rows:
        for training, name in enumerate(table.declaration.trainings.get(row, [row])):
            for metric in (m for m in results.scores["metric"].unique() if (row, training, m) in values):
                mine, theirs = values[row, training, metric], (reference, 0 if once else training, metric)
                diff = mine - values[theirs] if theirs in values and row != reference else mine * float("nan")
                line = (row, training, name, metric, mine.mean(), diff.mean(), int(diff.notna().sum()))
                lines.append(dict(zip(COLUMNS, line, strict=True)))
    return pd.DataFrame(lines, columns=list(COLUMNS))
