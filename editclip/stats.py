"""Uncertainty of the tables: two-way bootstrap over exemplars and queries, paired differences, Holm.

The samples of an edit type are all its exemplars crossed with all its queries, so two samples that share an exemplar
or a query are not independent. Every draw resamples the exemplars and, independently, the queries of each type, and
weighs a sample by the product of its two multiplicities (the pigeonhole bootstrap, Owen 2007,
doi:10.1214/07-AOAS122). docs/statistics.md gives the reasons, the formulas and the measured coverage.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def draws(samples: pd.DataFrame, resamples: int, seed: int, types: bool) -> Array:
    """The weight of every sample in every draw, the same for all methods and metrics.

    Of n exemplars (queries) n - 1 are drawn with replacement and their multiplicities scaled by n / (n - 1), as in the
    rescaled bootstrap of survey samples (Rao, Wu and Yue 1992): drawing n instead makes the variance of a mean too
    small by 1 - 1/n, a third where a type has three queries. A lone exemplar or query always has weight 1.

    Args:
        samples: columns type, exemplar, query; ids need only be unique within a type.
        resamples: number of draws, B.
        seed: of the random generator.
        types: resample the edit types too, so that the draws speak of a population of types, not of these types.

    Returns:
        Weights of shape (B, n), in the order of `samples`; their mean over draws is 1.
    """
    random = np.random.default_rng(seed)
    weights = np.ones((resamples, len(samples)))
    codes = {name: pd.factorize(samples[name])[0] for name in ("type", "exemplar", "query")}
    for kind in range(codes["type"].max() + 1):
        rows = np.flatnonzero(codes["type"] == kind)
        for name in ("exemplar", "query"):
            levels, place = np.unique(codes[name][rows], return_inverse=True)
            weights[:, rows] *= _multiplicities(len(levels), resamples, random)[:, place]
    if types:
        weights *= _multiplicities(codes["type"].max() + 1, resamples, random)[:, codes["type"]]
    return weights


def _multiplicities(count: int, resamples: int, random: np.random.Generator) -> Array:
    """Scaled multiplicities of `count` units in n - 1 draws with replacement, shape (B, count), with mean 1."""
    if count == 1:
        return np.ones((resamples, 1))
    scale = count / (count - 1)
    return scale * random.multinomial(count - 1, np.full(count, 1 / count), size=resamples).astype(float)


def means(values: ArrayLike, weights: Array) -> Array:
    """Weighted mean of each column in each draw, (B, k), over the values it has; NaN in a draw that holds none.

    Args:
        values: (n,) or (n, k), NaN for a sample without a value.
        weights: (B, n), see `draws`.
    """
    table = np.asarray(values, dtype=float).reshape(weights.shape[1], -1)
    known = ~np.isnan(table)
    with np.errstate(invalid="ignore"):
        result: Array = (weights @ np.where(known, table, 0)) / (weights @ known)
    return result


def interval(values: ArrayLike, weights: Array, level: float) -> tuple[Array, Array]:
    """Bounds of the mean of each column: percentiles of its draws.

    Args:
        values: (n,) or (n, k), NaN for a sample without a value.
        weights: (B, n), see `draws`.
        level: confidence level, e.g. 0.95.

    Returns:
        Lower and upper bounds, (k,) each. NaN where a column has no value, and everywhere when the draws do not differ
        (one exemplar and one query: no replication, no interval).
    """
    return _bounds(means(values, weights), weights, level)


def _bounds(of_draws: Array, weights: Array, level: float) -> tuple[Array, Array]:
    low, high = np.full((2, of_draws.shape[1]), np.nan)
    known = ~np.isnan(of_draws).all(axis=0)
    if np.ptp(weights, axis=0).any() and known.any():
        low[known], high[known] = np.nanquantile(of_draws[:, known], [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


class Paired(NamedTuple):
    """Paired differences, one entry a column: their mean, bounds, p-value and number of pairs."""

    diff: Array
    low: Array
    high: Array
    p: Array
    n: NDArray[np.int64]


def paired(values: ArrayLike, reference: ArrayLike, weights: Array, level: float) -> Paired:
    """Mean of `values - reference` over the samples that have both, its bounds and its p-value.

    The p-value is two-sided and speaks against a mean difference of 0: the share of draws whose difference lies at
    least as far from the observed one as 0 does, (1 + #{|d* - d| >= |d|}) / (B + 1) (Davison and Hinkley 1997, eq.
    4.11, for the shifted bootstrap). It is never below 1 / (B + 1).

    Args:
        values: (n,) or (n, k), NaN for a sample without a value.
        reference: shaped like `values`: the same samples under the method to compare with.
        weights: (B, n), see `draws`.
        level: confidence level.
    """
    difference = (np.asarray(values, dtype=float) - np.asarray(reference, dtype=float)).reshape(weights.shape[1], -1)
    diff = means(difference, np.ones((1, len(difference))))[0]
    of_draws = means(difference, weights)
    low, high = _bounds(of_draws, weights, level)
    far = np.abs(of_draws - diff) >= np.abs(diff)
    p = np.where(np.isnan(low), np.nan, (1 + far.sum(axis=0)) / (1 + (~np.isnan(of_draws)).sum(axis=0)))
    return Paired(diff, low, high, p, (~np.isnan(difference)).sum(axis=0))


def holm(p: ArrayLike) -> Array:
    """p-values adjusted for their number by Holm's step-down method (Holm 1979); NaN is no test and stays NaN."""
    values = np.asarray(p, dtype=float)
    adjusted = np.full(values.shape, np.nan)
    tests = np.flatnonzero(~np.isnan(values))
    order = tests[np.argsort(values[tests], kind="stable")]
    steps = values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted
