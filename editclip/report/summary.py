"""The full table: means, intervals, differences and p-values of every row and metric, per scope.

docs/statistics.md says how intervals, differences and p-values are made and how to read them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from editclip import stats
from editclip.config.tables import TableMethod
from editclip.report.results import RunResults

FULL = ("scope", "scope_value", "method", "conditioning", "metric", "mean", "seed_sd", "n", "n_undefined", "n_skipped",
        "n_failed", "seeds", "low", "high", "low_types", "high_types", "diff", "diff_low", "diff_high", "n_pairs", "p",
        "p_holm")  # fmt: skip
SCOPES = {"all": "all", "family": "family", "type": "type"}  # scope -> column of the long frame
TESTED_TYPES = 3  # with fewer, small p-values are too small: benchmarks/interval_coverage.py


def long_scores(results: RunResults) -> pd.DataFrame:
    """The scores with the scope columns "all" and "type", and the exemplar and query of each sample.

    A type is called by its name, with its group in front where two groups share the name.
    """
    scores = results.scores
    groups = results.samples.groupby("edit_type")["group"].nunique()
    shared = scores["edit_type"].map(groups) > 1
    types = scores["edit_type"].where(~shared, scores["group"] + "-" + scores["edit_type"])
    crossed = results.samples[["exemplar_id", "query_id"]].set_axis(["exemplar", "query"], axis=1)
    return scores.assign(all="", type=types).join(crossed, on="sample_id")


def summarise(
    scores: pd.DataFrame, methods: Mapping[str, TableMethod], settings: stats.Settings, reference: str | None
) -> pd.DataFrame:
    """One row per scope, scope value, method and metric: mean, sd over seeds, counts, intervals, difference.

    Args:
        scores: what `long_scores` gives.
        methods: rows in table order; within a scope, rows keep this order. Holm's family are their tests.
        settings: of the bootstrap.
        reference: the row that differences are taken from, or None.

    Returns:
        Columns `FULL`, NaN where a number does not exist.

        - `n` counts samples with a value, `n_undefined`, `n_skipped` and `n_failed` outputs (sample × seed) without
          one; `seed_sd` is the sample standard deviation of the per-seed means (NaN for one seed).
        - `low`, `high` bound the mean for these edit types, `low_types`, `high_types` for the population that two or
          more types are drawn from.
        - `diff` is the mean of the method minus the reference over the `n_pairs` samples that both have, with its
          bounds for these types; `p`, for the whole bench alone, is its p-value, and `p_holm` the same adjusted for
          their number, methods × metrics.
    """
    rank = {name: i for i, name in enumerate(methods)}
    metrics = {name: i for i, name in enumerate(scores["metric"].unique())}
    parts = []
    for scope, key in SCOPES.items():
        keys = [key, "method", "metric"]
        rows = scores if scope == "all" else scores[scores[key] != ""]
        if rows.empty:
            continue
        valid = rows[rows["status"] == "ok"]
        of_samples = valid.groupby([*keys, "sample_id"])["value"].mean().groupby(keys)
        counts = rows.groupby([*keys, "status"]).size().unstack(fill_value=0)
        part = pd.DataFrame(index=counts.index)
        part["mean"] = of_samples.mean()
        part["seed_sd"] = valid.groupby([*keys, "seed"])["value"].mean().groupby(keys).std(ddof=1)
        part["n"] = of_samples.size().reindex(part.index, fill_value=0)
        for status in ("undefined", "skipped", "failed"):
            part[f"n_{status}"] = counts.get(status, 0)
        uncertainty = [_uncertainty(group, key, settings, reference) for _, group in valid.groupby(key)]
        part = part.join(pd.concat(uncertainty)) if uncertainty else part
        part = part.reset_index(names=["scope_value", "method", "metric"]).assign(scope=scope)
        order = part.assign(_m=part["method"].map(rank), _k=part["metric"].map(metrics))
        parts.append(order.sort_values(["scope_value", "_m", "_k"], kind="stable"))
    full = pd.concat(parts, ignore_index=True).reindex(columns=list(FULL))
    full["p_holm"] = stats.holm(full["p"])
    full["conditioning"] = [methods[name].conditioning for name in full["method"]]
    full["seeds"] = [len(methods[name].seeds) for name in full["method"]]
    return full


def differences(scores: pd.DataFrame, settings: stats.Settings, wanted: Sequence[tuple[str, str, str]]) -> pd.DataFrame:
    """Paired differences over the whole bench, one row for each of `wanted`: columns diff, low, high, p and n.

    Bounds are over types drawn like these where there are two or more, else over the exemplars and queries of the one.

    Args:
        scores: what `long_scores` gives.
        settings: of the bootstrap, whose draws are those of `summarise`.
        wanted: a method, the row that it is compared with, and a metric; NaN where either has no value of it.
    """
    valid = scores[scores["status"] == "ok"]
    if valid.empty or not wanted:
        return pd.DataFrame(np.nan, range(len(wanted)), list(stats.Paired._fields))
    values, samples = _by_sample(valid)
    ours, theirs = (values.reindex(columns=[(names[side], names[2]) for names in wanted]).to_numpy() for side in (0, 1))
    types = samples["type"].nunique() > 1
    weights = stats.draws(samples, settings.resamples, settings.seed, types=types)
    freedom = stats.degrees_of_freedom(ours - theirs, samples, types=types)
    return pd.DataFrame(stats.paired(ours, theirs, weights, settings.level, freedom)._asdict())


def _by_sample(valid: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The values, means over seeds, a row a sample and a column a method and metric; and what the samples are."""
    values = valid.groupby(["sample_id", "method", "metric"])["value"].mean().unstack(["method", "metric"])
    return values, valid.drop_duplicates("sample_id").set_index("sample_id").loc[values.index]


def _uncertainty(valid: pd.DataFrame, key: str, settings: stats.Settings, reference: str | None) -> pd.DataFrame:
    """Intervals and differences of one scope value, indexed by it, method and metric; the same draws for all.

    p-values are for scope "all" and TESTED_TYPES types or more.
    """
    values, samples = _by_sample(valid)
    resamples, level = settings.resamples, settings.level
    weights = stats.draws(samples, resamples, settings.seed, types=False)
    scope = [(samples[key].iloc[0], *column) for column in values.columns]
    index = pd.MultiIndex.from_tuples(scope, names=[key, "method", "metric"])
    part = pd.DataFrame(index=index)
    freedom = stats.degrees_of_freedom(values, samples, types=False)
    part["low"], part["high"] = stats.interval(values, weights, level, freedom)
    part["low_types"] = part["high_types"] = np.nan
    if samples["type"].nunique() > 1:
        whole = stats.draws(samples, resamples, settings.seed, types=True)
        freedom = stats.degrees_of_freedom(values, samples, types=True)
        part["low_types"], part["high_types"] = stats.interval(values, whole, level, freedom)
    metrics = values.columns.get_level_values("metric")
    theirs = values.reindex(columns=[(reference, metric) for metric in metrics]).to_numpy()
    freedom = stats.degrees_of_freedom(values - theirs, samples, types=False)
    paired = stats.paired(values, theirs, weights, level, freedom)
    differences = ["diff", "diff_low", "diff_high", "p", "n_pairs"]
    part[differences] = np.column_stack(paired)
    part.loc[index.get_level_values("method") == reference, differences] = np.nan
    if key != "all" or samples["type"].nunique() < TESTED_TYPES:
        part["p"] = np.nan
    return part


def summarise_runtime(results: RunResults) -> pd.DataFrame:
    """The seconds per edit as rows of the full table, for the methods that were timed.

    Both count the plan and the edit; `runtime_s` counts the whole preparation of the exemplar, as for a user with one
    picture, `runtime_amortised_s` only the share of one of the benchmark's queries of that exemplar. Means, as all
    cells are: they add up to a run's time.

    Returns:
        Columns `FULL`, two rows per method, of scope "all"; `n` counts timed edits, and `seeds` and `seed_sd` are of
        the repeats.
    """
    timed = results.runtime
    own_seconds = timed["plan_seconds"] + timed["edit_seconds"]
    seconds = {
        "runtime_s": timed["prepare_seconds"] + own_seconds,
        "runtime_amortised_s": timed["prepare_seconds"] / timed["exemplar_queries"] + own_seconds,
    }
    rows = []
    for name, method in results.methods.items():
        own = timed["method"] == name
        failed = int((timed.loc[own, "status"] == "failed").sum())
        for metric, values in seconds.items() if own.any() else ():
            row: dict[str, Any] = {
                "scope": "all",
                "scope_value": "",
                "method": name,
                "conditioning": method.conditioning,
            }
            of_repeats = values[own].groupby(timed.loc[own, "repeat"]).mean()
            row |= {"metric": metric, "mean": values[own].mean(), "n": values[own].count(), "n_failed": failed}
            row |= {"seed_sd": of_repeats.std(ddof=1), "seeds": len(of_repeats)}
            rows.append(row | {"n_undefined": 0, "n_skipped": 0})
    return pd.DataFrame(rows, columns=list(FULL))
