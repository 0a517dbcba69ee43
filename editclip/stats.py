"""Uncertainty of the tables: two-way bootstrap over exemplars and queries, paired differences, Holm.

The samples of an edit type are all its exemplars crossed with all its queries, so two samples that share an exemplar
or a query are not independent. Every draw resamples the exemplars and, independently, the queries of each type, and
weighs a sample by the product of its two multiplicities (the pigeonhole bootstrap, Owen 2007,
doi:10.1214/07-AOAS122). The draws give a standard error; a t quantile makes an interval and a p-value of it.
docs/statistics.md gives the reasons and the measured coverage.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import special

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Settings:
    """How uncertainty is computed: the number of draws, the confidence level in (0, 1) and the seed of the draws."""

    resamples: int
    level: float
    seed: int


def draws(samples: pd.DataFrame, resamples: int, seed: int, types: bool) -> Array:
    """The weight of every sample in every draw, the same for all methods and metrics.

    Of n units n - 1 are drawn with replacement and their multiplicities scaled by n / (n - 1), the rescaled bootstrap
    of survey samples (Rao and Wu 1988, doi:10.1080/01621459.1988.10478591): drawing n makes the variance of a mean too
    small by the share 1/n, a third where a type has three queries. A lone unit always has weight 1.

    Args:
        samples: columns type, exemplar, query; ids need only be unique within a type.
        resamples: number of draws, B.
        seed: of the random generator.
        types: False resamples the exemplars and the queries of each type and keeps the types; True resamples types,
            each with all its samples, whose scatter already holds that of their exemplars and queries.

    Returns:
        Weights of shape (B, n), in the order of `samples`; their mean over draws is 1.
    """
    random = np.random.default_rng(seed)
    kinds = pd.factorize(samples["type"])[0]
    if types:
        return _multiplicities(kinds, resamples, random)
    weights = np.ones((resamples, len(samples)))
    for kind in range(kinds.max() + 1):
        rows = np.flatnonzero(kinds == kind)
        for name in ("exemplar", "query"):
            weights[:, rows] *= _multiplicities(pd.factorize(samples[name].iloc[rows])[0], resamples, random)
    return weights


def _multiplicities(codes: NDArray[np.intp], resamples: int, random: np.random.Generator) -> Array:
    """Scaled multiplicities of the units 0, 1, … in n - 1 draws with replacement, one column for each of `codes`."""
    units = codes.max() + 1
    if units == 1:
        return np.ones((resamples, len(codes)))
    drawn = random.multinomial(units - 1, np.full(units, 1 / units), size=resamples)
    return drawn[:, codes] * (units / (units - 1))


def means(values: ArrayLike, weights: Array) -> Array:
    """Weighted mean of each column in each draw, (B, k), over the values it has; NaN in a draw that holds none.

    Args:
        values: (n,) or (n, k), NaN for a sample without a value.
        weights: (B, n), see `draws`.
    """
    table = _columns(values)
    known = ~np.isnan(table)
    weight = weights.sum(axis=1, keepdims=True) if known.all() else weights @ known
    with np.errstate(invalid="ignore"):
        result: Array = (weights @ np.where(known, table, 0)) / weight
    return result


def _columns(values: ArrayLike) -> Array:
    table = np.asarray(values, dtype=float)
    return table[:, None] if table.ndim == 1 else table


def degrees_of_freedom(values: ArrayLike, samples: pd.DataFrame, types: bool) -> Array:
    """How many degrees of freedom the standard error of each column's mean has, (k,).

    The variance that `draws` shows is, of each type, a part for its exemplars (R - 1 degrees), one for its queries
    (C - 1) and one for what is left, (R - 1)(C - 1); Satterthwaite's formula (1946, doi:10.2307/3002019) gives the
    degrees of a sum of such parts. With `types` the types are the units, and it is their number less one.

    Args:
        values: (n,) or (n, k), NaN for a sample without a value.
        samples: as for `draws`, in the order of `values`.
        types: as for `draws`.

    Returns:
        Infinite for a column that does not vary or has no value; NaN, with `types`, for one of a single type.
    """
    table = _columns(values)
    if types:
        kinds = samples["type"].to_numpy()
        found = np.array([len(np.unique(kinds[~np.isnan(column)])) for column in table.T], dtype=float)
        return np.where(found > 1, found - 1, np.nan)
    total, quotient = np.zeros((2, table.shape[1]))
    for rows in samples.reset_index(drop=True).groupby("type").indices.values():
        for variance, degrees in _variance_parts(table[rows], samples.iloc[rows]):
            total += variance
            quotient += variance**2 / degrees
    return np.divide(total**2, quotient, out=np.full(total.shape, np.inf), where=quotient > 0)


def _variance_parts(table: Array, samples: pd.DataFrame) -> list[tuple[Array, int]]:
    """Variance (of the sum over one type) of exemplars, queries and the rest, each with its degrees of freedom."""
    known = ~np.isnan(table)
    centred = np.where(known, table - np.where(known, table, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1), 0)
    exemplars, queries = (pd.get_dummies(samples[name]).to_numpy(float) for name in ("exemplar", "query"))
    of_exemplar, of_query = exemplars.T @ centred, queries.T @ centred
    rest = centred - exemplars @ of_exemplar / queries.shape[1] - queries @ of_query / exemplars.shape[1]
    parts = []
    r, c = exemplars.shape[1], queries.shape[1]
    for deviations, units, degrees in (
        (of_exemplar, r, r - 1),
        (of_query, c, c - 1),
        (rest, r * c, (r - 1) * (c - 1)),
    ):
        if degrees:
            parts.append(((deviations**2).sum(axis=0) * units / degrees, degrees))
    return parts


def interval(values: ArrayLike, weights: Array, level: float, freedom: ArrayLike = np.inf) -> tuple[Array, Array]:
    """Bounds of the mean of each column: the mean ± a t quantile times the standard deviation of its draws.

    Args:
        values: (n,) or (n, k), NaN for a sample without a value.
        weights: (B, n), see `draws`.
        level: confidence level, e.g. 0.95.
        freedom: degrees of freedom of each column, see `degrees_of_freedom`; infinite means the normal quantile, which
            is too short where the units are few.

    Returns:
        Lower and upper bounds, (k,) each. NaN where a column has no value, and everywhere when the draws do not differ
        (one exemplar and one query: no replication, no interval).
    """
    middle, error = _mean_and_error(_columns(values), weights)
    half = _quantile(level, freedom) * error
    return middle - half, middle + half


def _quantile(level: float, freedom: ArrayLike) -> Array:
    """How many standard errors the bounds lie from the mean."""
    quantile: Array = special.stdtrit(np.asarray(freedom, dtype=float), (1 + level) / 2)
    return quantile


def _mean_and_error(table: Array, weights: Array) -> tuple[Array, Array]:
    """Mean of each column and the standard deviation of its draws, NaN without replication."""
    middle = means(table, np.ones((1, len(table))))[0]
    known = ((~np.isnan(table)).sum(axis=0) > 1) & (weights != weights[0]).any()
    error = np.full(middle.shape, np.nan)
    error[known] = np.nanstd(means(table[:, known], weights), axis=0)
    return middle, error


class Paired(NamedTuple):
    """Paired differences, one entry a column: their mean, bounds, p-value and number of pairs."""

    diff: Array
    low: Array
    high: Array
    p: Array
    n: NDArray[np.int64]


def paired(
    values: ArrayLike, reference: ArrayLike, weights: Array, level: float, freedom: ArrayLike = np.inf
) -> Paired:
    """Mean of `values - reference` over the samples that have both, its bounds and its p-value.

    The p-value is two-sided and speaks against a mean difference of 0: the t distribution's share beyond the mean
    difference divided by the standard deviation of its draws, so that p < 1 - level where the interval leaves out 0. It
    is never below 1 / (B + 1): B draws say nothing about rarer events. A difference that is 0 in every pair has p = 1.

    Args:
        values: (n,) or (n, k), NaN for a sample without a value.
        reference: shaped like `values`: the same samples under the method to compare with.
        weights: (B, n), see `draws`.
        level: confidence level.
        freedom: degrees of freedom of each difference, see `degrees_of_freedom`.
    """
    difference = _columns(values) - _columns(reference)
    diff, error = _mean_and_error(difference, weights)
    half = _quantile(level, freedom) * error
    with np.errstate(invalid="ignore", divide="ignore"):
        size = np.where(diff == 0, 0, np.abs(diff) / error)
    tail = 2 * special.stdtr(np.asarray(freedom, dtype=float), -size)
    p = np.where(np.isnan(error), np.nan, np.maximum(tail, 1 / (1 + len(weights))))
    return Paired(diff, diff - half, diff + half, p, (~np.isnan(difference)).sum(axis=0))


def holm(p: ArrayLike) -> Array:
    """p-values adjusted for their number by Holm's step-down method (Holm 1979); NaN is no test and stays NaN."""
    values = np.asarray(p, dtype=float)
    adjusted = np.full(values.shape, np.nan)
    tests = np.flatnonzero(~np.isnan(values))
    order = tests[np.argsort(values[tests], kind="stable")]
    steps = values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted
