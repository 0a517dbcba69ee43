"""Statistics under resampled clusters: correlations and shares of dependent rows, their intervals and differences.

Votes or ratings of one cluster (an edit type, an item) are not independent, so whole clusters are resampled as
`editclip.stats` resamples types: n - 1 of n clusters a draw. Every statistic here is a function of sums over each
cluster, so that all draws are one product of matrices: weights (draws + 1, clusters) times sums (clusters, terms).
Row 0 of the weights is the data itself. The draws give a standard error, and a t quantile makes an interval of it, for
correlations on the scale of Fisher's z (1915, doi:10.2307/2331838). docs/judging-metrics.md says how well these cover.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from editclip import stats

Array = NDArray[np.float64]
Codes = NDArray[np.integer[Any]]

FEWEST = 4  # rows: Fisher's z has the variance 1 / (n - 3)
PERFECT = 1 - 1e-9  # a correlation of 1 has an infinite z
NOTHING_VARIES = 1e-10  # of a standardised variable's variance in a draw: what rounding leaves of 0
VARIED = 10  # clusters in which a group's values have to differ from the commonest one, or half of its clusters
UNDEFINED = 0.05  # share of draws without a value that an interval puts up with


def cluster_weights(clusters: int, settings: stats.Settings) -> Array:
    """The weight of every cluster: 1 in row 0, its scaled multiplicity in each of the draws; (draws + 1, clusters)."""
    units = pd.DataFrame({"type": np.arange(clusters)})
    drawn = stats.draws(units, settings.resamples, settings.seed, types=True)
    return np.vstack([np.ones((1, clusters)), drawn])


def sums(terms: Sequence[Array], codes: Codes, weights: Array) -> Array:
    """The weighted sum of each term over all rows, in each draw: (terms, draws).

    Args:
        terms: (n,) each.
        codes: (n,), the cluster of each row.
        weights: (draws, clusters).
    """
    of_clusters = [np.bincount(codes, term, weights.shape[1]) for term in terms]
    return (weights @ np.stack(of_clusters, axis=1)).T


def share(part: Array, whole: Array, codes: Codes, weights: Array) -> Array:
    """Sum of `part` by sum of `whole` in each draw, (draws,); NaN in a draw without any."""
    above, below = sums([part, whole], codes, weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        quotient: Array = np.where(below > 0, above / below, np.nan)
    return quotient


def pearson(x: Array, y: Array, codes: Codes, weights: Array) -> Array:
    """Pearson's correlation of two variables (n,) in each draw, (draws,); NaN in a draw where either is constant."""
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return np.full(len(weights), np.nan)
    x, y = (x - x.mean()) / x.std(), (y - y.mean()) / y.std()
    n, of_x, of_y, xx, yy, xy = sums([np.ones_like(x), x, y, x * x, y * y, x * y], codes, weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        x_varies, y_varies = xx - of_x**2 / n, yy - of_y**2 / n
        defined = (x_varies > NOTHING_VARIES * n) & (y_varies > NOTHING_VARIES * n)
        r = np.where(defined, (xy - of_x * of_y / n) / np.sqrt(x_varies * y_varies), np.nan)
    return np.clip(r, -1, 1)


def fisher_mean(correlations: Sequence[Array], counts: Sequence[int]) -> Array:
    """Several groups' correlations as one: tanh of the mean of their z, weighed by rows - 3, of those defined.

    Args:
        correlations: (draws,) each.
        counts: the rows of each group.

    Returns:
        (draws,), NaN in a draw where none is defined.
    """
    table = np.stack(correlations) if correlations else np.full((1, 1), np.nan)
    weights = np.maximum(np.asarray(counts, dtype=float) - 3, 0)[:, None] * ~np.isnan(table)
    with np.errstate(invalid="ignore"):
        mean: Array = np.tanh((weights * fisher(np.nan_to_num(table))).sum(axis=0) / weights.sum(axis=0))
    return mean


def fisher(r: Array) -> Array:
    """Fisher's z of correlations, finite for perfect ones too."""
    z: Array = np.arctanh(np.clip(r, -PERFECT, PERFECT))
    return z


def from_means(x: Array, y: Array, means: Array, *, centred: bool = True) -> float:
    """What of Pearson's r of `x` and `y` the methods' means make: all of it where `x` does not matter within methods.

    Args:
        x: (n,) scores, or differences of them.
        y: (n,) votes or ratings.
        means: `x` with every score replaced by its method's mean.
        centred: whether r is of deviations from the means of `x` and `y`; else of these as they are.

    Returns:
        NaN where r is undefined.
    """
    if not len(x):
        return np.nan
    if centred:
        x, y = x - x.mean(), y - y.mean()
    size = np.sqrt((x**2).sum() * (y**2).sum())
    return float((means * y).sum() / size) if size else np.nan


@dataclass(frozen=True)
class Statistic:
    """A statistic of the data and of every draw.

    Attributes:
        values: (draws + 1,), the data's first; correlations in [-1, 1] or shares in [0, 1].
        correlation: its interval is made on the scale of Fisher's z.
        clusters: how many the data is of.
        note: why there is no value, or what was left out; "" else.
        groups: the names of those that it is made of; None = of all rows there are.
    """

    values: Array
    correlation: bool
    clusters: int
    note: str = ""
    groups: tuple[str, ...] | None = None

    @property
    def estimate(self) -> float:
        """Its value on the data, NaN where it is undefined."""
        return float(self.values[0])

    @property
    def scaled(self) -> Array:
        """The values on the scale of the interval, (draws + 1,)."""
        return fisher(self.values) if self.correlation else self.values

    def undecided(self) -> str:
        """Why its draws say nothing of its error, "" if they do."""
        if np.isnan(self.estimate):
            return self.note
        if self.clusters < 2:
            return "one cluster: no interval"
        if self.correlation and 1 - abs(self.estimate) < 2 * (1 - PERFECT):
            return "a perfect correlation: no interval"
        lost = np.isnan(self.values[1:]).mean()
        return f"undefined in {lost:.0%} of the draws: no interval" if lost > UNDEFINED else ""

    def trouble(self) -> str:
        """Why it has no interval, "" if it has one."""
        constant = "the same in every cluster: no interval"
        return self.undecided() or (constant if np.nanstd(self.values[1:]) < NOTHING_VARIES else "")

    def interval(self, level: float) -> tuple[float, float]:
        """Bounds at a confidence level in (0, 1), NaN where `trouble` says why."""
        if self.trouble():
            return np.nan, np.nan
        middle, half = self.scaled[0], _half(self.scaled, self.clusters, level)
        low, high = middle - half, middle + half
        return (np.tanh(low), np.tanh(high)) if self.correlation else (max(low, 0.0), min(high, 1.0))

    def described(self) -> str:
        """What is to be known of it, "" if nothing."""
        return "; ".join(dict.fromkeys(part for part in (self.note, self.trouble()) if part))


def _half(values: Array, clusters: int, level: float) -> float:
    """Half the width of an interval: t quantile with clusters - 1 degrees times the draws' standard deviation."""
    return float(special.stdtrit(clusters - 1, (1 + level) / 2) * np.nanstd(values[1:]))


class Group(NamedTuple):
    """The rows of one group, say of a pair of methods: its name, two variables (n,) and the cluster of each row."""

    name: str
    x: Array
    y: Array
    codes: Codes

    @property
    def clusters(self) -> int:
        """Number of clusters that rows are of."""
        return len(np.unique(self.codes))


def correlation(group: Group, weights: Array, what: str) -> Statistic:
    """Pearson's r of a group's two variables; `what` its rows are, such as "votes", for the note."""
    note = _undefined(group, what)
    values = np.full(len(weights), np.nan) if note else pearson(group.x, group.y, group.codes, weights)
    return Statistic(values, True, group.clusters, note)


def _undefined(group: Group, what: str) -> str:
    """Why a group has no correlation, "" if it has one."""
    if note := too_few(len(group.x), what):
        return note
    if np.ptp(group.y) == 0:
        return f"all {what} are alike"
    return "the scores are all the same" if np.ptp(group.x) == 0 else ""


def too_few(rows: int, what: str) -> str:
    """Why so few rows have no statistic, "" if they are enough."""
    return f"{rows} {what}, fewer than {FEWEST}" if rows < FEWEST else ""


def within(
    groups: Sequence[Group], weights: Array, what: str, beside: Sequence[Group] | None = None
) -> tuple[Statistic, list[Statistic]]:
    """The correlation within groups: of all of them as one (`fisher_mean`), and of each.

    A group is left out of the first where it has no correlation, and where `y` hardly varies, which the note says: a
    handful of rows makes any correlation there, perfect ones too, and all its rows would give it weight.

    Args:
        groups: the groups.
        weights: (draws + 1, clusters).
        what: their rows are, such as "votes", for the note.
        beside: the same groups with the `x` of another metric that this one is compared with: a group that is left out
            for either is left out for both, so that both are of the same groups.
    """
    single = [correlation(group, weights, what) for group in groups]
    reasons = [_left_out(group, what) for group in groups]
    if beside is not None:
        reasons = [own or _left_out(other, what) for own, other in zip(reasons, beside, strict=True)]
    used = [i for i, reason in enumerate(reasons) if not reason]
    left_out = [f"{group.name} ({reason})" for group, reason in zip(groups, reasons, strict=True) if reason]
    note = f"left out: {', '.join(left_out)}" if left_out else ""
    if not used:
        return Statistic(np.full(len(weights), np.nan), True, 0, note or too_few(0, what), ()), single
    together = fisher_mean([single[i].values for i in used], [len(groups[i].x) for i in used])
    clusters = len(np.unique(np.concatenate([groups[i].codes for i in used])))
    return Statistic(together, True, clusters, note, tuple(groups[i].name for i in used)), single


def _left_out(group: Group, what: str) -> str:
    """Why a group is left out of the correlation within groups, "" if it is in it."""
    return _undefined(group, what) or _hardly_varies(group, what)


def _hardly_varies(group: Group, what: str) -> str:
    """That a group's `y` differs from its commonest value in fewer than `VARIED` clusters, "" if it does not."""
    found, counts = np.unique(group.y, return_counts=True)
    clusters = len(np.unique(group.codes[group.y != found[counts.argmax()]]))
    few = clusters < min(VARIED, group.clusters / 2)
    return f"{what} other than the commonest in {clusters} of {group.clusters} clusters" if few else ""


class Difference(NamedTuple):
    """One statistic less another: the difference, its bounds, its p-value, and what was left out or why it has none."""

    diff: float
    low: float
    high: float
    p: float
    note: str


def difference(one: Statistic, other: Statistic, level: float) -> Difference:
    """`one` less `other`, two statistics of the same rows and draws.

    p is two-sided, against no difference: the t distribution's share beyond the difference divided by the standard
    deviation of its draws, never below 1 / (draws + 1), and 1 for no difference. For correlations that is done on the
    scale of Fisher's z; the bounds are brought back by the mean slope of tanh between the two, so that p is below
    1 - level just where they leave out 0.
    """
    diff = one.estimate - other.estimate
    trouble, scaled = one.undecided() or other.undecided(), one.scaled - other.scaled
    error = 0.0 if trouble else np.nanstd(scaled[1:])
    if not trouble and scaled[0] and error < NOTHING_VARIES:
        trouble = "the same in every cluster: no interval"
    if trouble:
        return Difference(diff, np.nan, np.nan, np.nan, trouble)
    clusters = min(one.clusters, other.clusters)
    half = _half(scaled, clusters, level)
    slope = 1.0
    if one.correlation:
        slope = diff / scaled[0] if scaled[0] else 1 - one.estimate**2
    size = np.abs(scaled[0]) / error if scaled[0] else 0.0
    p = max(2 * special.stdtr(clusters - 1, -size), 1 / len(one.values))
    note = "; ".join(dict.fromkeys(part for part in (one.note, other.note) if part))
    return Difference(diff, slope * (scaled[0] - half), slope * (scaled[0] + half), float(p), note)
