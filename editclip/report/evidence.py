"""What a table shows: each claim with its number, its interval and, where one was declared beforehand, its bar.

The claims follow from the rows: every method that is conditioned on something has to beat its controls and to come
closer to the ground truth than the unedited query. The bars, and whether claims about representations belong to this
table, are the declaration's.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from editclip import stats
from editclip.config.tables import Bar, EncoderBar, Table, TableDeclaration, TableMethod
from editclip.errors import InputError, nearest
from editclip.report.columns import column
from editclip.report.files import read_numbers
from editclip.report.results import RunResults
from editclip.report.summary import differences, long_scores

COLUMNS = ("group", "claim", "estimate", "low", "high", "n", "bar", "met", "note")
COPY = "baselines.copy_query"
CLOSER = "closer"  # the metric that is a share of outputs
MEASURES = {
    "retrieval_edit": "An edit's nearest instruction is one of its own wordings",
    "retrieval_wording": "An edit's nearest instruction is the very wording of its pair",
    "same_edit_auc": "Two pairs of one edit are nearer than two of different edits (AUC)",
    "instruction_cosine": "Largest cosine between instructions of different edits",
    "core_minutes": "Core-minutes that its own training took",
    "gpu_minutes": "GPU-minutes that its own training took",
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
    results: RunResults, declaration: TableDeclaration, settings: stats.Settings, summary: pd.DataFrame
) -> list[Claim]:
    """Claims about the rows: those that compete against their controls and the unedited query, and all with bars.

    Args:
        results: the results of the rows.
        declaration: of the table, with its bars.
        settings: of the bootstrap.
        summary: the full table.

    Raises:
        InputError: a bar is set for a metric that was not scored.
    """
    metrics = list(results.scores["metric"].unique())
    barred = [bar.metric for bar in declaration.bars]
    for metric in barred:
        if metric not in metrics:
            raise InputError(f'a bar is set for the metric "{metric}", which was not scored{nearest(metric, metrics)}')
    rivals = [name for name, method in results.methods.items() if not method.control]
    compared = [
        (name, control, metric)
        for name in rivals
        for control, of in controls_of(results.methods[name], results.methods)
        for metric in of
    ]
    found = differences(long_scores(results), settings, compared).to_dict("records")
    claims = [_difference(row, *names) for row, names in zip(found, compared, strict=True)]
    for metric in dict.fromkeys([CLOSER, *barred]):
        claims += _means(summary[summary["metric"] == metric], metric, declaration, rivals if metric == CLOSER else [])
    return [claim for claim in claims if pd.notna(claim["estimate"])]


def _difference(row: Mapping[Any, Any], method: str, control: str, metric: str) -> Claim:
    return {
        "group": "Above its controls",
        "claim": f"{column(metric).label}: {method} above {control}",
        "estimate": row["diff"], "low": row["low"], "high": row["high"], "n": row["n"],
        "bar": "interval above 0", "met": _yes(row["low"] > 0) if pd.notna(row["low"]) else "",
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


def evidence(
    table: Table, results: RunResults, settings: stats.Settings, summary: pd.DataFrame, representation: Path | None
) -> pd.DataFrame:
    """evidence.csv of a table: columns `COLUMNS`, a row a claim.

    Args:
        table: the table.
        results: its results.
        settings: of the bootstrap.
        summary: the full table.
        representation: folder with representation.csv.

    Raises:
        InputError: the table speaks of representations and none are given, or a bar is set for what was not measured.
    """
    claims = []
    if table.declaration.representation is not None:
        if representation is None:
            raise InputError(f"the evidence of {table.name} speaks of representations: give --representation FOLDER")
        needed = ["encoder", "measure", "estimate", "low", "high", "n", "chance"]
        measured = read_numbers(representation / "representation.csv", needed)
        claims += representation_claims(measured, table.declaration.representation)
    claims += editing_claims(results, table.declaration, settings, summary)
    return pd.DataFrame(claims, columns=list(COLUMNS)).astype({"n": "Int64"})
