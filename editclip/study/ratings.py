"""Which metrics, or judges, agree with people who rated edits: any CSV file of items × methods × raters.

    editclip study analyse --ratings FILE --item COLUMN --method COLUMN --raters COLUMN COLUMN … \
        --metrics COLUMN -COLUMN … --out FOLDER

An item is what several methods edited, say a query with its instruction. A row is one method's edit of it: the ratings
of one question by several raters, and the values of metrics, empty where there are none; a minus before a metric's
column says that lower is better. Metrics are held against the mean of the raters:

pooled        Pearson's r over all rows; a metric that merely knows which method is good has one, too
method_means  the same with every value replaced by its method's mean: what that alone gives
within        r over the items of one method, of all methods as one by Fisher's z; of each it is within_method
accuracy      share of pairs of an item's edits, rated differently, that the metric puts in the same order, ties half

"human" is the ceiling: one rater against the mean of the others, averaged over raters. Intervals resample the items.
The folder has ratings.csv, differences.csv (every two metrics) and summary.md; docs/judging-metrics.md explains them.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from editclip import stage, stats
from editclip.errors import InputError, nearest
from editclip.report.files import read_table, refuse_duplicates
from editclip.report.render import csv
from editclip.study.rating_statistics import HUMAN, STATISTICS, Ratings, agreement, differences
from editclip.study.resampling import Array

MODULE = "editclip.study.ratings"
LOWER = "-"  # before a metric of which less is better
TITLES = {
    "pooled": "pooled r",
    "method_means": "methods' means only",
    "within": "within methods r",
    "accuracy": "pairwise accuracy",
}


def read_ratings(
    path: Path, item: str, method: str, raters: Sequence[str], metrics: Sequence[str], cluster: str | None = None
) -> Ratings:
    """Rated edits from a CSV file.

    Args:
        path: of the file.
        item: the column of what is edited.
        method: the column of who edited it.
        raters: a column a rater, two or more, of the ratings of one question; empty where a rater gave none.
        metrics: columns of values, a minus before those of which lower is better; empty where there is none.
        cluster: the column of what is resampled, say the picture that items share; None: the item.

    Raises:
        InputError: a column is missing or named twice, there are fewer than two raters or no rows, a rating or value is
            no finite number, an item, method or cluster is empty, an item has two rows of one method or lies in two
            clusters.
    """
    columns = [name.removeprefix(LOWER) for name in metrics]
    _check_columns([item, method, *raters, *columns])
    if len(raters) < 2:
        raise InputError(f"--raters names {len(raters)} column: name two or more, the ceiling takes another rater")
    if HUMAN in columns:
        raise InputError(f'the metric "{HUMAN}" is called like the human ceiling: rename that column of {path}')
    if not path.is_file():
        raise InputError(f"--ratings {path} is no file: name a CSV file")
    frame = read_table(path, [])
    keys = [item, method] if cluster is None else [item, method, cluster]
    for name in [*keys, *raters, *columns]:
        if name not in frame.columns:
            raise InputError(f"{path} has no column {name!r}{nearest(name, frame.columns)}: {_known(frame)}")
    if frame.empty:
        raise InputError(f"{path} has no rows: there is nothing to analyse")
    for name in keys:
        empty = np.flatnonzero(frame[name] == "")
        if len(empty):
            raise InputError(f"{path} row {empty[0] + 2} has no {name!r}: fill it in or take the row out")
    refuse_duplicates(frame, [item, method], path)
    clusters = frame[item if cluster is None else cluster]
    places = pd.DataFrame({"item": frame[item], "cluster": clusters}).drop_duplicates()
    if places["item"].duplicated().any():
        twice = places["item"][places["item"].duplicated()].iloc[0]
        raise InputError(f"{path}: {item} {twice!r} lies in two clusters of {cluster!r}: keep it in one")
    values = {name: _numbers(frame[name], path) for name in columns}
    return Ratings(
        items=frame[item].to_numpy(object),
        methods=frame[method].to_numpy(object),
        clusters=clusters.to_numpy(object),
        raters=np.stack([_numbers(frame[name], path) for name in raters], axis=1),
        metrics={name: -values[name[1:]] if name.startswith(LOWER) else values[name] for name in metrics},
    )


def _check_columns(names: Sequence[str]) -> None:
    """Refuse a column named twice: no column is two things."""
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        raise InputError(f"the column {twice[0]!r} is named twice: name it once, as the item, method, rater or metric")


def _known(frame: pd.DataFrame) -> str:
    return f"it has {', '.join(frame.columns)}"


def _numbers(column: "pd.Series[str]", path: Path) -> Array:
    """A column of text as numbers, NaN where it is empty."""
    values = pd.to_numeric(column.where(column != ""), errors="coerce").to_numpy(float)
    wrong = np.flatnonzero(~np.isfinite(values) & (column != "").to_numpy())
    if len(wrong):
        text = column.iloc[wrong[0]]
        raise InputError(f"{path} row {wrong[0] + 2} has {column.name} {text!r}: it is to be a number, or empty")
    return values


def summary(ratings: Ratings, table: pd.DataFrame, compared: pd.DataFrame, settings: stats.Settings) -> str:
    """The results as Markdown: a row a metric, a row two metrics compared within methods, and what was left out."""
    unrated = int(np.isnan(ratings.target).sum())
    counts = [len(set(ids)) for ids in (ratings.items, ratings.methods, ratings.clusters)]
    what = f"{len(ratings.items)} edits of {counts[0]} items by {counts[1]} methods, {ratings.raters.shape[1]} raters"
    lost = f"; {unrated} edits that no one rated are left out" if unrated else ""
    how = f"{settings.level:.0%} intervals resample {counts[2]} clusters, {settings.resamples} times."
    lines = [f"{what}{lost}. {how}", ""]
    shown = []
    for metric in table["metric"].unique():
        mine = table[(table["metric"] == metric) & (table["method"] == "")]
        found = mine.set_index("statistic").to_dict("index")
        cells = {"metric": "one rater, of the others" if metric == HUMAN else metric}
        for name in STATISTICS:
            cells[TITLES[name]] = _cell(*(found[name][bound] for bound in ("estimate", "low", "high")))
        shown.append(cells | {name: found["pooled"][name] for name in ("rows", "missing")})
    lines += [pd.DataFrame(shown).to_markdown(index=False, disable_numparse=True), ""]
    within = compared[compared["statistic"] == "within"]
    if len(within):
        tests = pd.DataFrame({"metric": within["metric"], "less": within["other"]})
        tests["within methods r, difference"] = [_cell(*row) for row in within[["diff", "low", "high"]].to_numpy()]
        tests["p"], tests["p, Holm"] = within["p"].map(_p), within["p_holm"].map(_p)
        lines += [tests.to_markdown(index=False, disable_numparse=True), ""]
    noted = table[table["note"] != ""]
    for key, rows in noted.groupby(["statistic", "method", "note"], sort=False):
        name, method, note = map(str, key)
        lines.append(f"- {f'{name} {method}'.strip()} of {', '.join(rows['metric'])}: {note}")
    return "\n".join(lines).rstrip() + "\n"


def _cell(estimate: float, low: float, high: float) -> str:
    """`estimate [low, high]`, as far as there are any."""
    if np.isnan(estimate):
        return "–"
    text = [f"{round(value, 3) + 0.0:.3f}" for value in (estimate, low, high)]  # without a negative zero
    return text[0] + ("" if np.isnan(low) else f" [{text[1]}, {text[2]}]")


def _p(value: float) -> str:
    return "–" if np.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def share_argument(text: str) -> float:
    """A number between 0 and 1, both excluded."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number between 0 and 1")
    return value


def draws_argument(text: str) -> int:
    """A whole number from 100 on."""
    if not text.isdecimal() or int(text) < 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 100 on")
    return int(text)


def signed(words: Sequence[str]) -> list[str]:
    """Command-line words with a space before a "-column" after --metrics, which the parser takes for an option else."""
    result, metrics = [], False
    for word in words:
        if word.startswith("--"):
            metrics = word == "--metrics"
        lower = metrics and word.startswith(LOWER) and word not in ("-h", "--metrics")
        result.append(f" {word}" if lower else word)
    return result


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = stage.parser(__doc__)
    add = parser.add_argument
    add("--ratings", type=Path, required=True, metavar="FILE", help="the CSV file")
    add("--item", required=True, metavar="COLUMN", help="what is edited")
    add("--method", required=True, metavar="COLUMN", help="who edited it")
    add("--raters", nargs="+", required=True, metavar="COLUMN", help="the ratings of one question, a column a rater")
    lower = "values to hold against the ratings; -COLUMN: lower is better"
    add("--metrics", nargs="+", required=True, type=str.strip, metavar="COLUMN", help=lower)
    add("--cluster", metavar="COLUMN", help="what is resampled, such as a picture that items share (default: the item)")
    add("--level", type=share_argument, default=0.95, help="confidence level of the intervals (0.95)")
    add("--resamples", type=draws_argument, default=10_000, help="bootstrap draws (10000)")
    add("--seed", type=int, default=0, help="of the draws (0)")
    return parser.parse_args(signed(sys.argv[1:] if argv is None else argv))


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of `editclip study analyse`."""
    given = _arguments(argv)
    settings = stats.Settings(resamples=given.resamples, level=given.level, seed=given.seed)
    ratings = read_ratings(given.ratings, given.item, given.method, given.raters, given.metrics, given.cluster)
    asked = ("item", "method", "raters", "metrics", "cluster", "level", "resamples", "seed")
    config = {name: getattr(given, name) for name in asked}
    inputs = {"ratings": given.ratings}
    with stage.output_folder(given.out, module=MODULE, config=config, inputs=inputs, force=given.force) as folder:
        table, compared = agreement(ratings, settings), differences(ratings, settings)
        text = summary(ratings, table, compared, settings)
        for name, content in (("ratings.csv", csv(table)), ("differences.csv", csv(compared)), ("summary.md", text)):
            (folder / name).write_bytes(content.encode())
    print(text)


if __name__ == "__main__":
    stage.run(main)
