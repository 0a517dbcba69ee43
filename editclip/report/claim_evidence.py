"""The comparisons that a claim's rule asks for, taken from a run's scores, seconds and judgements.

Every comparison is turned so that more speaks for the claim, and has an interval: of differences between rows, and of
attention, over edit types drawn like these, as in evidence.csv, and of votes that of their study's judgements.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import binomtest

from editclip import stats
from editclip.errors import InputError, nearest
from editclip.metrics.attention_shares import SUMMARY
from editclip.report.claim_rules import (
    BETTER,
    SPREAD,
    WORDS,
    Attends,
    Best,
    Correlates,
    CorrelatesMore,
    Faster,
    Preferred,
    Rule,
    listed,
)
from editclip.report.columns import HEADLINE, column
from editclip.report.files import read_json, read_judgement_facts, read_numbers
from editclip.report.results import RunResults
from editclip.report.rows import headline_metrics
from editclip.report.summary import differences, long_scores

PREFERENCES = ("question", "first", "second", "votes", "items", "win_rate", "low", "high")
COEFFICIENTS = ("question", "metric", "statistic", "pair", "estimate", "low", "high", "votes")
DIFFERENCES = ("question", "statistic", "metric", "other", "diff", "low", "high", "votes")


class NotTestableError(Exception):
    """The run lacks what a claim speaks of; the message says what."""


@dataclass(frozen=True)
class Part:
    """One comparison.

    Attributes:
        against: what tells it from the others of its claim, such as the rival.
        effect: the larger, the more it speaks for the claim.
        low: lower bound of the effect, NaN where there is no interval.
        high: the upper one.
        n: samples or votes that it rests on.
        trainings: the effect of each training by itself, where both sides were trained as often and more than once.
    """

    against: str
    effect: float
    low: float
    high: float
    n: int
    trainings: tuple[float, ...] = ()


@dataclass(frozen=True)
class Judgement:
    """What a study's votes say: preferences.csv, coefficients.csv and differences.csv, and where the votes are from."""

    study: str
    origin: str
    preferences: pd.DataFrame
    coefficients: pd.DataFrame
    differences: pd.DataFrame


@dataclass(frozen=True)
class Attention:
    """What an edit encoder attends to: its name, how many rows and columns of patches it has, and summary.csv."""

    encoder: str
    patches: tuple[int, int]
    summary: pd.DataFrame


@dataclass(frozen=True)
class Evidence:
    """The run that claims are held against.

    Attributes:
        names: the claims' name of a method: the run's.
        tables: the results of the rows of each table.
        judgements: by study.
        settings: of the bootstrap.
        attention: by edit encoder.
    """

    names: Mapping[str, str]
    tables: Mapping[str, RunResults]
    judgements: Mapping[str, Judgement]
    settings: stats.Settings
    attention: Mapping[str, Attention] = field(default_factory=dict)


def read_judgement(folder: Path, level: float) -> Judgement:
    """The judgements of one study.

    Args:
        folder: with judgement.json and its tables.
        level: confidence level that its intervals have to have.

    Raises:
        InputError: a file is missing or incomplete, or the intervals are of another level.
    """
    facts = read_judgement_facts(folder, ("study", "origin", "level"))
    if facts["level"] != level:
        raise InputError(
            f"{folder / 'judgement.json'} has intervals of level {facts['level']}, the tables of {level}: make it again"
        )
    preferences = read_numbers(folder / "preferences.csv", PREFERENCES)
    coefficients = read_numbers(folder / "coefficients.csv", COEFFICIENTS)
    pooled = coefficients[coefficients["pair"].isna() | (coefficients["pair"] == "")]
    compared = read_numbers(folder / "differences.csv", DIFFERENCES)
    return Judgement(str(facts["study"]), str(facts["origin"]), preferences, pooled, compared)


def read_attention(folder: Path, level: float) -> Attention:
    """What one edit encoder attends to.

    Args:
        folder: with attention.json and summary.csv.
        level: confidence level that its intervals have to have.

    Raises:
        InputError: a file is missing or incomplete, or the intervals are of another level.
    """
    facts = read_json(folder / "attention.json", ("encoder", "patches", "level"))
    if facts["level"] != level:
        raise InputError(
            f"{folder / 'attention.json'} has intervals of level {facts['level']}, the tables of {level}: make it again"
        )
    rows, columns = facts["patches"]["editclip"]
    return Attention(str(facts["encoder"]), (rows, columns), read_numbers(folder / "summary.csv", SUMMARY))


def parts(rule: Rule, run: Evidence) -> list[Part]:
    """The comparisons that a rule needs, one or more, all of them found.

    Raises:
        NotTestableError: the run lacks one.
    """
    if isinstance(rule, Best):
        return _scores(rule, run)
    if isinstance(rule, Faster):
        return _seconds(rule, run)
    if isinstance(rule, Attends):
        return _attention(rule, _known(run.attention, rule.encoder, "attention of an encoder"))
    judgement = _known(run.judgements, rule.study, "judgements of a study")
    if isinstance(rule, Preferred):
        return _win_rates(rule, judgement, run)
    return _correlations(rule, judgement) if isinstance(rule, Correlates) else _closer_correlations(rule, judgement)


def _known(known: Mapping[str, Any], name: str, what: str) -> Any:
    if name not in known:
        raise NotTestableError(f"the run has no {what} {name}{nearest(name, known)}")
    return known[name]


def _rows(names: Sequence[str], run: Evidence, table: str, methods: Iterable[str]) -> list[str]:
    """The rows of a table that the claims' names stand for."""
    rows = list(methods)
    missing = [name for name in names if run.names.get(name) not in rows]
    if missing:
        raise NotTestableError(f"{listed(missing)}: no row of {table}")
    return [run.names[name] for name in names]


def _turned(against: str, found: Mapping[Any, Any], sign: int, n: str) -> Part:
    """A row with diff, low and high as a comparison, negated where `sign` is -1; its column `n` counts what it is of.

    Raises:
        NotTestableError: there is no difference.
    """
    if pd.isna(found["diff"]):
        raise NotTestableError(f"{against}: nothing has a value of both")
    low, high = (found["low"], found["high"]) if sign > 0 else (-found["high"], -found["low"])
    return Part(against, sign * float(found["diff"]), float(low), float(high), int(found[n]))


def _scores(rule: Best, run: Evidence) -> list[Part]:
    """Paired differences of a method from its rivals."""
    results = _known(run.tables, rule.table, "table")
    mine, *rivals = _rows([rule.method, *rule.rivals], run, rule.table, results.methods)
    scores = long_scores(results)
    if rule.families is not None:
        if missing := [family for family in rule.families if family not in set(scores["family"])]:
            raise NotTestableError(f"the benchmark has no edits of {listed(missing)}")
        scores = scores[scores["family"].isin(rule.families)]
    measured = {metric: headline_metrics(results).get(metric, metric) for metric in rule.metrics}
    if missing := [metric for metric, score in measured.items() if score not in set(scores["metric"])]:
        raise NotTestableError(f"{listed([column(metric).label for metric in missing])}: not scored")
    wanted = [(mine, rival, score) for score in measured.values() for rival in rivals]
    found = differences(scores, run.settings, wanted).to_dict("records")
    each = _of_trainings(scores, wanted)
    asked = [(metric, rival) for metric in rule.metrics for rival in rule.rivals]
    several = len(rule.metrics) > 1
    return [
        dataclasses.replace(
            _turned(f"{rival} ({column(metric).label})" if several else rival, row, BETTER[metric], "n"),
            trainings=tuple(BETTER[metric] * effect for effect in of_trainings),
        )
        for row, (metric, rival), of_trainings in zip(found, asked, each, strict=True)
    ]


def _of_trainings(scores: pd.DataFrame, wanted: Sequence[tuple[str, str, str]]) -> list[list[float]]:
    """Mean paired differences of each training from the rival's of the same number; none where either has only one."""
    valid = scores[scores["status"] == "ok"]
    keys = ["sample_id", "method", "metric", "training"]
    values = valid.groupby(keys)["value"].mean().unstack(["method", "metric", "training"])
    count = valid.groupby("method")["training"].nunique()
    found = []
    for mine, rival, metric in wanted:
        several = count.get(mine, 0) == count.get(rival, 0) > 1
        numbers = range(count[mine]) if several else ()
        pairs = [(values.get((mine, metric, i)), values.get((rival, metric, i))) for i in numbers]
        found.append([float((a - b).mean()) for a, b in pairs if a is not None and b is not None])
    return found


def _seconds(rule: Faster, run: Evidence) -> list[Part]:
    """Seconds per edit that a method saves, on the samples that it and its rivals were timed on."""
    results = _known(run.tables, rule.table, "table")
    mine, *rivals = _rows([rule.method, *rule.rivals], run, rule.table, results.methods)
    timed = results.runtime.join(results.samples[["group", "edit_type", "family"]], on="sample_id")
    if missing := [name for name in (rule.method, *rule.rivals) if run.names[name] not in set(timed["method"])]:
        raise NotTestableError(f"{listed(missing)}: not timed")
    spent = timed[["prepare_seconds", "plan_seconds", "edit_seconds"]].sum(axis=1, skipna=False)
    timed = timed.assign(metric="runtime_s", value=spent.where(timed["method"] == mine, rule.times * spent))
    wanted = [(mine, rival, "runtime_s") for rival in rivals]
    found = differences(long_scores(dataclasses.replace(results, scores=timed)), run.settings, wanted)
    rows = zip(found.to_dict("records"), rule.rivals, strict=True)
    return [_turned(rival, row, -1, "n") for row, rival in rows]


def _win_rates(rule: Preferred, judgement: Judgement, run: Evidence) -> list[Part]:
    """Shares of the votes for a method."""
    methods = set(judgement.preferences[["first", "second"]].to_numpy().ravel())
    if missing := [name for name in (rule.method, *rule.rivals) if run.names.get(name) not in methods]:
        raise NotTestableError(f"{listed(missing)}: no method of the study {judgement.study}")
    mine, found = run.names[rule.method], []
    for question in rule.questions:
        rows = judgement.preferences[judgement.preferences["question"] == question].to_dict("records")
        for rival in rule.rivals:
            row = next((row for row in rows if {row["first"], row["second"]} == {mine, run.names[rival]}), None)
            if row is None:
                raise NotTestableError(f"{rival}: no votes on {WORDS[question]} against {rule.method}")
            share, low, high = (float(row["win_rate"]), *_bounds(row, run.settings.level))
            if row["first"] != mine:
                share, low, high = 1 - share, 1 - high, 1 - low
            against = f"{rival} ({WORDS[question]})" if len(rule.questions) > 1 else rival
            found.append(Part(against, share, low, high, int(row["votes"])))
    return found


def _bounds(row: Mapping[Any, Any], level: float) -> tuple[float, float]:
    """The interval of a win rate.

    Where all votes agree there is no scatter to resample, and Wilson's bounds (1927, doi:10.2307/2276774) take its
    place, of items rather than votes: a second vote on the same two images says little new.
    """
    if row["win_rate"] not in (0, 1):
        return float(row["low"]), float(row["high"])
    items = int(row["items"])
    bounds = binomtest(items if row["win_rate"] else 0, items).proportion_ci(level, method="wilson")
    return float(bounds.low), float(bounds.high)


def _held(metric: str, judgement: Judgement) -> str:
    """The name under which a metric was held against the votes: its column's or its score's.

    clip_dir, of which there are two forms, is what the study held as clip_dir, the form of the scoring card.
    """
    known = set(judgement.coefficients["metric"])
    name = next((name for name in (metric, HEADLINE.get(metric, metric)) if name in known), None)
    if name is None:
        raise NotTestableError(f"{column(metric).label}: not held against the votes of the study {judgement.study}")
    return name


def _asked(rows: pd.DataFrame, question: str, statistic: str) -> list[dict[Any, Any]]:
    """The rows of a statistic of the votes on a question."""
    return rows[(rows["question"] == question) & (rows["statistic"] == statistic)].to_dict("records")


def _correlations(rule: Correlates, judgement: Judgement) -> list[Part]:
    """Coefficients of a metric."""
    mine, found = _held(rule.metric, judgement), []
    for question in rule.questions:
        rows = _asked(judgement.coefficients, question, rule.statistic)
        row = next((row for row in rows if row["metric"] == mine), None)
        if row is None or pd.isna(row["estimate"]):
            raise NotTestableError(f"{column(mine).label}: no {rule.statistic} with votes on {WORDS[question]}")
        estimate, low, high = (float(row[key]) for key in ("estimate", "low", "high"))
        found.append(Part(WORDS[question], estimate, low, high, int(row["votes"])))
    return found


def _closer_correlations(rule: CorrelatesMore, judgement: Judgement) -> list[Part]:
    """By how much a metric's coefficient is above those of others."""
    mine, found = _held(rule.metric, judgement), []
    for question in rule.questions:
        rows = _asked(judgement.differences, question, rule.statistic)
        for rival in rule.rivals:
            label, pair = column(rival).label, {mine, _held(rival, judgement)}
            row = next((row for row in rows if {row["metric"], row["other"]} == pair), None)
            if row is None:
                raise NotTestableError(
                    f"{label}: its {rule.statistic} with votes on {WORDS[question]} was not compared with that of "
                    f"{column(mine).label}"
                )
            against = f"{label} ({WORDS[question]})" if len(rule.questions) > 1 else label
            found.append(_turned(against, row, 1 if row["metric"] == mine else -1, "votes"))
    return found


def _attention(rule: Attends, measured: Attention) -> list[Part]:
    """How much more of an edit encoder's attention lies inside local edits."""
    rows = measured.summary[(measured.summary["scope"] == "local") & (measured.summary["head"] == rule.head)]
    if rows.empty:
        raise NotTestableError("the benchmark has no local edits")
    found = {row["reading"]: row for row in rows.to_dict("records")}
    compared = [(rival, "editclip" if rival == "even" else f"editclip - {rival}") for rival in rule.rivals]
    parts = []
    for rival, name in compared:
        effect, low, high = (float(found[name][key]) for key in ("lift", "low", "high"))
        parts.append(Part(SPREAD[rival], effect, low, high, int(found[name]["n"])))
    return parts
