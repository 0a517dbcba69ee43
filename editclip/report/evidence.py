"""What a table shows: each claim with its number, its interval and, where one was declared beforehand, its bar.

The claims follow from the rows: every method that is conditioned on something has to beat its controls and to come
closer to the ground truth than the unedited query. The bars, and whether claims about representations belong to this
table, are the declaration's. A claim about edits speaks of more types than those of the bench: where it has two or
more, intervals are over types drawn like these, each with all its samples.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from editclip import stats
from editclip.config.tables import Bar, EncoderBar, MetricBar, Table, TableDeclaration, TableMethod
from editclip.errors import InputError, nearest
from editclip.report.columns import column
from editclip.report.files import read_numbers
from editclip.report.results import RunResults
from editclip.report.summary import differences, long_scores

COLUMNS = ("group", "claim", "family", "estimate", "low", "high", "n", "bar", "met", "note")
COPY = "baselines.copy_query"
ABOVE_COPY = ("ec2ec", "psnr", "psnr_inside", "detail")  # metrics on which a method has to beat the unedited query
ABOVE_SHUFFLED = ("ec2ec", "psnr")  # and those on which it has to beat itself with exemplars of other edit types
HELD = "Held against a bar"
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

    The copy of the query; and the same method with the same options and weights, fed exemplars of other edit types.
    """
    copies = [name for name, row in rows.items() if row.editor == COPY]
    shuffled = [
        name for name, row in rows.items() if row.exemplars == "shuffled" and method.differs_in_exemplars_alone(row)
    ]
    return [*((name, ABOVE_COPY) for name in copies), *((name, ABOVE_SHUFFLED) for name in shuffled)]


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
    for metric in (bar.metric for bar in declaration.bars):
        if metric not in metrics:
            raise InputError(f'a bar is set for the metric "{metric}", which was not scored{nearest(metric, metrics)}')
    rivals = [name for name, method in results.methods.items() if not method.control]
    above = [
        (name, control, metric)
        for name in rivals
        for control, of in controls_of(results.methods[name], results.methods)
        for metric in of
    ]
    barred = [(bar, (row, bar.minus, bar.metric)) for bar in declaration.bars if bar.minus for row in bar.rows]
    compared = [*above, *(names for _, names in barred)]
    found = differences(long_scores(results), settings, compared).to_dict("records")
    claims = [_above(row, *names) for row, names in zip(found[: len(above)], above, strict=True)]
    for metric in dict.fromkeys([CLOSER, *(bar.metric for bar in declaration.bars if not bar.minus)]):
        claims += _means(summary[summary["metric"] == metric], metric, declaration, rivals if metric == CLOSER else [])
    claims += [_from(row, bar, *names) for row, (bar, names) in zip(found[len(above) :], barred, strict=True)]
    return [claim for claim in claims if pd.notna(claim["estimate"])]


def _difference(row: Mapping[Any, Any]) -> Claim:
    return {"estimate": row["diff"], "low": row["low"], "high": row["high"], "n": row["n"]}


def _above(row: Mapping[Any, Any], method: str, control: str, metric: str) -> Claim:
    """That a method beats a control."""
    claim = {"group": "Above its controls", "claim": f"{column(metric).label}: {method} above {control}"}
    met = _yes(row["low"] > 0) if pd.notna(row["low"]) else ""
    return claim | _difference(row) | {"bar": "interval above 0", "met": met}


def _from(row: Mapping[Any, Any], bar: MetricBar, method: str, other: str, metric: str) -> Claim:
    """That a method differs from another row by what a bar allows."""
    claim = {"group": HELD, "claim": f"{column(metric).label}: {method} minus {other}"}
    return claim | _difference(row) | _held_against(bar, row["diff"])


def _means(summary: pd.DataFrame, metric: str, declaration: TableDeclaration, always: list[str]) -> Iterator[Claim]:
    """The mean of a metric, of the whole bench for the rows with a bar or in `always`, and of their families.

    Families are shown where they have a bar, and for the rows of `always`.
    """
    bars = {name: declaration.bar(metric, name) for name in declaration.rows}
    for name, bar in ((name, bar) for name, bar in bars.items() if bar or name in always):
        by_family = name in always or (bar is not None and bar.families is not None)
        rows = summary[
            (summary["method"] == name) & summary["scope"].isin(("all", "family") if by_family else ("all",))
        ]
        for row in rows.to_dict("records"):
            low, high = _bounds(row)
            claim = {"claim": name, "estimate": row["mean"], "n": row["n"], "family": row["scope_value"]}
            if metric == CLOSER:  # the t interval knows no bounds, a share has them
                claim |= {"group": "Closer to the ground truth than the query"}
                claim |= {"low": max(low, 0.0), "high": min(high, 1.0)}
            else:
                claim |= {"group": HELD, "claim": f"{column(metric).label}: {name}", "low": low, "high": high}
            whole = row["scope"] == "all"
            yield claim | (_held_against(bar, row["mean"]) if whole else _family_held_against(bar, claim))


def _bounds(row: Mapping[Any, Any]) -> tuple[float, float]:
    """The interval of a mean: over types, where there are two or more."""
    over = "_types" if pd.notna(row["low_types"]) else ""
    return row[f"low{over}"], row[f"high{over}"]


def _family_held_against(bar: MetricBar | None, claim: Claim) -> Claim:
    if bar is None or bar.families is None:
        return {}
    if claim["family"] in bar.families.hard:
        return {"note": "declared hard"}
    met: str = _yes(claim["high"] >= bar.families.at_least) if pd.notna(claim["high"]) else ""
    return {"bar": f"interval reaches {bar.families.at_least:g}", "met": met}


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
