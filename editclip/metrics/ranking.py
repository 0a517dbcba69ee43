"""What is nearest to an edit, how much of it is right, how sure that is, and which edits to show for it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from editclip import stats
from editclip.config.run import Statistics

Values = NDArray[np.float64]
Whole = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Ranking:
    """Places in the order of their cosine, for N queries.

    Attributes:
        places: N×M, nearest first.
        cosines: N×M.
        right: N×M, whether the place is right.
    """

    places: Whole
    cosines: Values
    right: Flags


def ranked(cosines: Values, right: Flags) -> Ranking:
    """Places by their `cosines` (N×M), the highest first; of equal ones first those that are not `right` (N×M)."""
    places = np.lexsort((right, -cosines))
    return Ranking(places, np.take_along_axis(cosines, places, axis=1), np.take_along_axis(right, places, axis=1))


def others_ranked(cosines: Values, right: Flags) -> Ranking:
    """`ranked` for N rows among themselves, N×(N-1): no row is a place of its own."""
    apart = cosines.copy()
    np.fill_diagonal(apart, -np.inf)  # so that it comes last
    found = ranked(apart, right)
    return Ranking(found.places[:, :-1], found.cosines[:, :-1], found.right[:, :-1])


def precision(right: Flags, most: int) -> tuple[Values, Values]:
    """Precision at k = 1 … `most` of each query, N×most, and what a random order would give it.

    It is the share of right places among the k nearest, out of as many as could be: k, or all right ones where they are
    fewer, so that 1 can always be reached. A query for which no place is right, such as the only pair of its edit, has
    no precision: NaN, and it enters no mean.

    Args:
        right: N×M, nearest first.
        most: largest k; at most M.
    """
    possible = right.sum(axis=1, keepdims=True)
    ranks = np.arange(1, most + 1)
    best = np.where(possible > 0, np.minimum(ranks, possible), np.nan)
    return np.cumsum(right[:, :most], axis=1) / best, ranks * possible / right.shape[1] / best


def bounded(values: Values, edits: Whole, settings: Statistics) -> tuple[Values, Values, Values]:
    """Means of the columns of `values`, n×C, and their bounds, C each.

    Edits are resampled, each with all its rows (`editclip.stats`); the bounds of a single edit are NaN.

    Args:
        values: n×C.
        edits: number of each row's edit, n.
        settings: of the bootstrap.
    """
    clusters = pd.DataFrame({"type": "", "exemplar": edits, "query": ""})
    weights = stats.draws(clusters, settings.resamples, settings.seed, types=False)
    low, high = stats.interval(values, weights, settings.level, len(np.unique(edits)) - 1)
    return values.mean(axis=0), low, high


def chosen(families: Sequence[str], shares: Values, count: int) -> list[int]:
    """The rows whose neighbours are shown, by rule: nobody picks.

    The families share `count` evenly; what is left goes to the first by name. Rows of a family are ordered by their
    share, then by number: a single query is the median (the lower of two), m queries stand at (2j + 1) / 2m of the
    order. Rows without a share, for which nothing can be right, are left out unless their family has no other.

    Args:
        families: of all rows.
        shares: precision of all rows, NaN where there is none.
        count: how many; a family of fewer rows than its part gives them all.
    """
    names, labels = sorted(set(families)), np.asarray(families)
    result = []
    for i, family in enumerate(names):
        rows = np.flatnonzero(labels == family)
        known = rows[~np.isnan(shares[rows])]
        rows = known if len(known) else rows
        ordered = rows[np.argsort(shares[rows], kind="stable")]
        part = min(count // len(names) + (i < count % len(names)), len(rows))
        result += [int(ordered[((2 * j + 1) * len(rows) - 1) // (2 * part)]) for j in range(part)]
    return result
