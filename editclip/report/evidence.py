"""What a table shows: each claim with its number, its interval and, where one was declared beforehand, its bar.

    python -m editclip.report.evidence --table JSON --bench results/<run>/bench --edits results/<run>/edits/*/* \
        --scores results/<run>/scores/*/* --representation results/<run>/representation \
        --out results/<run>/evidence/<table>.csv

The claims follow from the rows: every method that is conditioned on something has to beat its controls and to come
closer to the ground truth than the unedited query. The bars, and whether claims about representations belong to this
table, are the declaration's.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from editclip import stage, stats
from editclip.config.section import checked
from editclip.config.tables import Bar, EncoderBar, Table, TableDeclaration, TableMethod
from editclip.errors import InputError, nearest
from editclip.report.columns import column
from editclip.report.files import read_numbers
from editclip.report.results import RunResults, read_results, result_folders
from editclip.report.summary import long_scores, summarise
from editclip.report.tables import inputs_of, parser

COLUMNS = ("group", "claim", "estimate", "low", "high", "n", "bar", "met", "note")
COPY = "baselines.copy_query"
CLOSER = "closer"  # the metric that is a share of outputs
MEASURES = {
    "retrieval_edit": "An edit's nearest instruction is one of its own wordings",
    "retrieval_wording": "An edit's nearest instruction is the very wording of its pair",
    "same_edit_auc": "Two pairs of one edit are nearer than two of different edits (AUC)",
    "instruction_cosine": "Largest cosine between instructions of different edits",
}

Claim = dict[str, Any]


def representation_claims(measured: pd.DataFrame, bars: Sequence[EncoderBar]) -> list[Claim]:
    """Claims about the encoders.

    Args:
        measured: representation.csv.
        bars: what some of the numbers have to reach.

    Raises:
        InputError: a bar is set for a measure or an encoder that is not in the file.
    """
    known = set(zip(measured["encoder"], measured["measure"], strict=True))
    for bar in bars:
        if (bar.encoder, bar.measure) not in known:
            measures = sorted(f"{measure} of {encoder}" for encoder, measure in known)
            wanted = f"{bar.measure} of {bar.encoder}"
            near = nearest(wanted, measures)
            raise InputError(f"a bar is set for {wanted}, which was not measured{near}; known: {', '.join(measures)}")
    claims = []
    for row in measured.to_dict("records"):
        claim = {key: row[key] for key in ("estimate", "low", "high", "n")}
        claim |= {"group": "Representation", "claim": f"{MEASURES[row['measure']]}: {row['encoder']}"}
        claim["note"] = "" if pd.isna(row["chance"]) else f"chance {row['chance']:.3g}"
        place = (row["encoder"], row["measure"])
        declared = next((bar for bar in bars if (bar.encoder, bar.measure) == place), None)
        claims.append(claim | _held_against(declared, row["estimate"]))
    return claims


def _held_against(bar: Bar | None, value: float) -> Claim:
    return {"bar": str(bar), "met": _yes(bar.met(value))} if bar else {}


def controls_of(method: TableMethod, rows: Mapping[str, TableMethod]) -> list[tuple[str, tuple[str, ...]]]:
    """The controls that a method has to beat, and on which metrics.

    The copy of the query, on what happens inside the mask; and the same method with the same options and weights, fed
    exemplars of other edit types, on the exemplar's edit and on the ground truth.
    """
    copies = [name for name, row in rows.items() if row.editor == COPY]
    shuffled = [
        name for name, row in rows.items() if row.exemplars == "shuffled" and method.differs_in_exemplars_alone(row)
    ]
    return [*((name, ("psnr_inside",)) for name in copies), *((name, ("ec2ec", "psnr")) for name in shuffled)]


def editing_claims(
    scores: pd.DataFrame, results: RunResults, declaration: TableDeclaration, settings: stats.Settings
) -> list[Claim]:
    """Claims about the rows: those that compete against their controls and the unedited query, and all with bars.

    Args:
        scores: what `long_scores` gives.
        results: the results of the rows.
        declaration: of the table, with its bars.
        settings: of the bootstrap.

    Raises:
        InputError: a bar is set for a metric that was not scored.
    """
    metrics = list(scores["metric"].unique())
    barred = [bar.metric for bar in declaration.bars]
    for metric in barred:
        if metric not in metrics:
            raise InputError(f'a bar is set for the metric "{metric}", which was not scored{nearest(metric, metrics)}')
    rivals = [name for name, method in results.methods.items() if not method.control]
    compared = scores[scores["metric"].isin((CLOSER, "ec2ec", "psnr", "psnr_inside"))]
    against: dict[str, pd.DataFrame] = {}
    claims = []
    for name in rivals:
        for control, of in controls_of(results.methods[name], results.methods):
            if control not in against:
                against[control] = summarise(compared, results.methods, settings, control)
            claims += [_difference(against[control], name, control, metric) for metric in of]
    for metric in dict.fromkeys([CLOSER, *barred]):
        wanted = scores[scores["metric"] == metric]
        if len(wanted):
            summary = summarise(wanted, results.methods, settings, None)
            claims += _means(summary, metric, declaration, rivals if metric == CLOSER else [])
    return [claim for claim in claims if pd.notna(claim["estimate"])]


def _difference(summary: pd.DataFrame, method: str, control: str, metric: str) -> Claim:
    rows = summary[(summary["scope"] == "all") & (summary["method"] == method) & (summary["metric"] == metric)]
    row = rows.iloc[0] if len(rows) else pd.Series(dict.fromkeys(("diff", "diff_low", "diff_high", "n_pairs")))
    return {
        "group": "Above its controls",
        "claim": f"{column(metric).label}: {method} above {control}",
        "estimate": row["diff"], "low": row["diff_low"], "high": row["diff_high"], "n": row["n_pairs"],
        "bar": "interval above 0", "met": _yes(row["diff_low"] > 0) if pd.notna(row["diff_low"]) else "",
    }  # fmt: skip


def _means(summary: pd.DataFrame, metric: str, declaration: TableDeclaration, always: list[str]) -> Iterator[Claim]:
    """The mean of a metric, of the whole bench for the rows with a bar, and by family too for those of `always`."""
    bars = {name: declaration.bar(metric, name) for name in declaration.rows}
    for name in (name for name, bar in bars.items() if bar or name in always):
        scopes = ("all", "family") if name in always else ("all",)
        rows = summary[(summary["method"] == name) & summary["scope"].isin(scopes)]
        for row in rows.to_dict("records"):
            whole = row["scope"] == "all"
            claim = {"estimate": row["mean"], "low": row["low"], "high": row["high"], "n": row["n"]}
            where = "" if whole else f" ({row['scope_value']})"
            if metric == CLOSER:  # the t interval knows no bounds, a share has them
                claim |= {"low": max(row["low"], 0.0), "high": min(row["high"], 1.0)}
                claim |= {"group": "Closer to the ground truth than the query", "claim": f"{name}{where}"}
            else:
                claim |= {"group": "Held against a bar", "claim": f"{column(metric).label}: {name}{where}"}
            yield claim | _held_against(bars[name] if whole else None, row["mean"])


def _yes(met: bool) -> str:
    return "yes" if met else "no"


def main() -> None:
    """Write the evidence of a table."""
    options = parser(__doc__)
    options.add_argument("--representation", type=Path, help="folder with representation.csv")
    arguments = options.parse_args()
    table = checked(Table, arguments.table, "--table")
    folders = result_folders(table, arguments.bench, arguments.edits, arguments.scores)
    results = read_results(table.rows, folders)
    inputs, claims = inputs_of(folders), []
    if table.declaration.representation is not None:
        if arguments.representation is None:
            raise InputError(f"the evidence of {table.name} speaks of representations: give --representation FOLDER")
        inputs["representation"] = arguments.representation
        needed = ["encoder", "measure", "estimate", "low", "high", "n", "chance"]
        measured = read_numbers(arguments.representation / "representation.csv", needed)
        claims += representation_claims(measured, table.declaration.representation)
    settings = stats.Settings(**table.statistics.model_dump())
    claims += editing_claims(long_scores(results), results, table.declaration, settings)
    facts: dict[str, Any] = {"module": "editclip.report.evidence", "force": arguments.force}
    with stage.output_file(arguments.out, config=table.model_dump(mode="json"), inputs=inputs, **facts) as path:
        pd.DataFrame(claims, columns=list(COLUMNS)).astype({"n": "Int64"}).to_csv(path, index=False)


if __name__ == "__main__":
    stage.run(main)
