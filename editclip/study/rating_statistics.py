"""How well metrics agree with ratings of items × methods: the statistics of `editclip.study.ratings`.

Each is also computed with the human ceiling as a metric: one rater against the mean of the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from editclip import stats
from editclip.study import resampling
from editclip.study.resampling import Array, Codes, Group, Statistic

STATISTICS = ("pooled", "method_means", "within", "accuracy")
COLUMNS = ("metric", "statistic", "method", "estimate", "low", "high", "null", "from_means", "rows", "items",
           "clusters", "missing", "note")  # fmt: skip
DIFFERENCES = ("statistic", "metric", "other", "diff", "low", "high", "p", "p_holm", "rows", "note")
HUMAN = "human"  # the ceiling, in the column metric
WHAT = "ratings"
DECIMALS = 9  # to which mean ratings are compared: the same ratings summed in another order are equal

Found = dict[tuple[str, str], Statistic]  # (name, method or "") -> statistic


@dataclass(frozen=True)
class Ratings:
    """Rated edits, n rows of one method's edit of an item.

    Attributes:
        items: (n,) ids.
        methods: (n,) names.
        clusters: (n,) ids of what is resampled: the items, or what these belong to.
        raters: (n, raters) ratings of one question, NaN where a rater gave none.
        metrics: name -> (n,) values, higher is better, NaN where there is none.
    """

    items: NDArray[np.object_]
    methods: NDArray[np.object_]
    clusters: NDArray[np.object_]
    raters: Array
    metrics: dict[str, Array]

    @property
    def target(self) -> Array:
        """(n,) mean over the raters there are, NaN where no one rated."""
        return mean_rating(self.raters)


def mean_rating(raters: Array) -> Array:
    """Mean of each row (n, raters) over the ratings it has, NaN where it has none; (n,)."""
    known = ~np.isnan(raters)
    count = known.sum(axis=1)
    total = np.where(known, raters, 0).sum(axis=1)
    return np.divide(total, count, out=np.full(len(raters), np.nan), where=count > 0)


@dataclass(frozen=True)
class Edits:
    """The rows of `Ratings` that have a value of one metric and a rating, with these; `codes` are their clusters."""

    items: NDArray[np.object_]
    methods: NDArray[np.object_]
    values: Array
    target: Array
    codes: Codes

    def of_means(self) -> "Edits":
        """The same with every value replaced by its method's mean."""
        means = pd.Series(self.values).groupby(self.methods).transform("mean").to_numpy(float)
        return replace(self, values=means)


def agreement(ratings: Ratings, settings: stats.Settings) -> pd.DataFrame:
    """Every statistic of every metric and, as the metric "human", of the ceiling, with its interval.

    Returns:
        Columns `COLUMNS`.

        - `method` is "" but for the statistic "within_method".
        - `null` is the statistic with every value replaced by its method's mean; `from_means` the part of the pooled
          correlation that the means make.
        - `rows`, `items` and `clusters` are those the estimate is made of; of "within", those of the methods that it
          combines, for the ceiling with any rater. `missing` counts the rated rows without a value of the metric; for
          the ceiling, those with one rating.
        - For the ceiling every number is a mean over raters, of correlations on the scale of Fisher's z.
    """
    codes, weights = _clusters(ratings, settings)
    rated = ~np.isnan(ratings.target)
    rows: list[dict[str, Any]] = []
    for metric in [*ratings.metrics, HUMAN]:
        if metric == HUMAN:
            known = (~np.isnan(ratings.raters)).sum(axis=1) > 1
            sides = [_one_against_others(ratings.raters, number) for number in range(ratings.raters.shape[1])]
            each = [_edits(ratings, codes, one, others) for one, others in sides]
        else:
            known = rated & ~np.isnan(ratings.metrics[metric])
            each = [_edits(ratings, codes, ratings.metrics[metric], ratings.target)]
        nulls = _mean_of([_statistics(edits.of_means(), np.ones((1, weights.shape[1]))) for edits in each])
        for (name, method), statistic in _mean_of([_statistics(edits, weights) for edits in each]).items():
            mine = (ratings.methods == method) | (method == "")
            used = known & mine & _of_groups(ratings.methods, statistic)
            low, high = statistic.interval(settings.level)
            row = {"metric": metric, "statistic": name, "method": method, "estimate": statistic.estimate, "low": low}
            row |= {"high": high, "rows": used.sum(), "missing": (rated & ~known & mine).sum()}
            row |= {"items": len(set(ratings.items[used])), "clusters": statistic.clusters}
            if name in ("pooled", "accuracy"):
                row["null"] = nulls[name, ""].estimate
            if name == "pooled":
                row["from_means"] = np.mean(
                    [resampling.from_means(edits.values, edits.target, edits.of_means().values) for edits in each]
                )
            rows.append(row | {"note": statistic.described()})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def differences(ratings: Ratings, settings: stats.Settings) -> pd.DataFrame:
    """Every two metrics' statistics compared, on the rated rows that have both and in the same draws.

    Returns:
        Columns `DIFFERENCES`: the estimate of `metric` less that of `other`, its bounds, its p-value
        (`resampling.difference`) and the same adjusted by Holm's method for the tests of the statistic. "within" is
        here of the methods that can be used for both metrics, and `rows` counts theirs.
    """
    codes, weights = _clusters(ratings, settings)
    rows: list[dict[str, Any]] = []
    for both in combinations(ratings.metrics, 2):
        one, other = (ratings.metrics[name] for name in both)
        lacking = np.isnan(one) | np.isnan(other)
        mine, others = (
            _edits(ratings, codes, np.where(lacking, np.nan, values), ratings.target) for values in (one, other)
        )
        found = [_statistics(mine, weights, beside=others), _statistics(others, weights, beside=mine)]
        for name in STATISTICS:
            compared = resampling.difference(found[0][name, ""], found[1][name, ""], settings.level)
            used = _of_groups(mine.methods, found[0][name, ""])
            row = {"statistic": name, "metric": both[0], "other": both[1], "rows": used.sum()}
            rows.append(row | compared._asdict())
    table = pd.DataFrame(rows, columns=list(DIFFERENCES))
    table["p_holm"] = table.groupby("statistic")["p"].transform(stats.holm).astype(float)
    return table


def _of_groups(methods: NDArray[np.object_], statistic: Statistic) -> NDArray[np.bool_]:
    """Which rows, whose methods are given, are of the groups that a statistic is made of; (n,)."""
    if statistic.groups is None:
        return np.ones(len(methods), bool)
    return np.isin(methods, np.array(statistic.groups, object))


def _clusters(ratings: Ratings, settings: stats.Settings) -> tuple[Codes, Array]:
    """The cluster of each row, a column of the weights, and the weights."""
    codes, clusters = pd.factorize(ratings.clusters, sort=True)
    return codes, resampling.cluster_weights(len(clusters), settings)


def _edits(ratings: Ratings, codes: Codes, values: Array, target: Array) -> Edits:
    """The rows that have a value and a target."""
    rows = ~np.isnan(values) & ~np.isnan(target)
    return Edits(ratings.items[rows], ratings.methods[rows], values[rows], target[rows], codes[rows])


def _one_against_others(raters: Array, number: int) -> tuple[Array, Array]:
    """One rater's ratings, and the means of the others'; (n,) each."""
    return raters[:, number], mean_rating(np.delete(raters, number, axis=1))


def _statistics(edits: Edits, weights: Array, beside: Edits | None = None) -> Found:
    """Every statistic by its name and, of those of one method, that.

    Args:
        edits: with the values of a metric.
        weights: (draws + 1, clusters).
        beside: the same edits with the values of a metric that this one is compared with.
    """
    whole = Group("", edits.values, edits.target, edits.codes)
    found = {("pooled", ""): resampling.correlation(whole, weights, WHAT), ("method_means", ""): _means(edits, weights)}
    groups, others = _groups(edits), None if beside is None else _groups(beside)
    found["within", ""], single = resampling.within(groups, weights, WHAT, others)
    found |= {("within_method", group.name): own for group, own in zip(groups, single, strict=True)}
    return found | {("accuracy", ""): _accuracy(edits, weights)}


def _groups(edits: Edits) -> list[Group]:
    """The values and the mean ratings of each method."""
    groups = []
    for name in dict.fromkeys(edits.methods):
        mine = edits.methods == name
        groups.append(Group(name, edits.values[mine], edits.target[mine], edits.codes[mine]))
    return groups


def _means(edits: Edits, weights: Array) -> Statistic:
    """Pearson's r of the values' means by method with the single ratings; every draw has its own means."""
    clusters = len(np.unique(edits.codes))
    note = resampling.too_few(len(edits.values), WHAT)
    means = pd.Series(edits.values).groupby(edits.methods).mean()
    if not note and np.ptp(edits.target) == 0:
        note = f"all {WHAT} are alike"
    if not note and (len(means) < 2 or np.ptp(edits.values) == 0):
        note = "the methods' means are all the same"
    if note:
        return Statistic(np.full(len(weights), np.nan), True, clusters, note)
    x, y = ((v - v.mean()) / v.std() for v in (edits.values, edits.target))
    total, of_y, yy = resampling.sums([np.ones_like(y), y, y * y], edits.codes, weights)
    between, squared, of_x = np.zeros((3, len(weights)))
    for name in means.index:
        mine = edits.methods == name
        terms = [np.ones(mine.sum()), x[mine], y[mine]]
        n, own_x, own_y = resampling.sums(terms, edits.codes[mine], weights)
        n = np.where(n > 0, n, 1)  # a method without rows has sums of 0
        between += own_x * own_y / n
        squared += own_x**2 / n
        of_x += own_x
    with np.errstate(invalid="ignore", divide="ignore"):
        x_varies, y_varies = squared - of_x**2 / total, yy - of_y**2 / total
        defined = (x_varies > resampling.NOTHING_VARIES * total) & (y_varies > resampling.NOTHING_VARIES * total)
        r = np.where(defined, (between - of_x * of_y / total) / np.sqrt(x_varies * y_varies), np.nan)
    return Statistic(np.clip(r, -1, 1), True, clusters, "" if defined[0] else "the methods' means are all the same")


def _accuracy(edits: Edits, weights: Array) -> Statistic:
    """Share of the pairs of an item's methods, rated differently, that the values put in the same order."""
    if note := resampling.too_few(len(edits.values), WHAT):
        return Statistic(np.full(len(weights), np.nan), False, len(np.unique(edits.codes)), note)
    table = pd.DataFrame({"item": edits.items, "method": edits.methods, "x": edits.values, "y": edits.target})
    wide = table.pivot(index="item", columns="method", values=["x", "y"])
    x, y = wide["x"].to_numpy(float), wide["y"].to_numpy(float).round(DECIMALS)
    of_items = pd.Series(edits.codes).groupby(edits.items).first().reindex(wide.index).to_numpy()
    right, pairs = np.zeros((2, len(wide)))
    for one, other in combinations(range(len(wide["x"].columns)), 2):
        lead, wanted = x[:, one] - x[:, other], np.sign(y[:, one] - y[:, other])
        counts = ~np.isnan(lead) & (wanted != 0)
        pairs += counts
        right += np.where(counts, (np.sign(lead) * wanted + 1) / 2, 0)
    clusters = len(np.unique(of_items[pairs > 0]))
    note = resampling.too_few(int(pairs.sum()), "pairs rated differently")
    values = np.full(len(weights), np.nan) if note else resampling.share(right, pairs, of_items, weights)
    return Statistic(values, False, clusters, note)


def _mean_of(found: Sequence[Found]) -> Found:
    """The mean of each statistic over raters that it is defined for; one alone stays as it is."""
    if len(found) == 1:
        return found[0]
    means = {}
    for key in dict.fromkeys(key for each in found for key in each):
        single = [each[key] for each in found if key in each]
        used = [s for s in single if not np.isnan(s.estimate)]
        notes = [f"rater {number}: {s.note}" for number, s in enumerate(single, 1) if s.note]
        values = np.full(len(single[0].values), np.nan)
        if used and used[0].correlation:
            values = resampling.fisher_mean([s.values for s in used], [resampling.FEWEST] * len(used))
        elif used:
            values = np.mean([s.values for s in used], axis=0)
        clusters = min(s.clusters for s in used or single)
        groups = None
        if single[0].groups is not None:
            groups = tuple(dict.fromkeys(name for s in single for name in s.groups or ()))
        means[key] = Statistic(values, single[0].correlation, clusters, "; ".join(notes), groups)
    return means
