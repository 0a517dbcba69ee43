"""Which method is preferred: win rates, their intervals and tests, Bradley–Terry strengths, and how raters agree.

Votes are not independent: several raters judge one item, a rater judges many, and the items of one edit type share
exemplars and queries. Each number here allows for another part of that, and none for all of it.

- Wilson's interval takes every vote as a trial of its own: the shortest, for comparison with published ones.
- `p` is exact, and takes an item, which is one pair of images, as a trial: the sign test of how many items have a
  majority for the first method, against 1/2; items that are tied are left out. Were the votes the trials, an item with
  three votes would count three times, although the second rater of the same two images says little new. That items of
  one edit type or query, and the votes of one rater, go together is not in it.
- `low`, `high` resample whole clusters (edit types, or the queries of a single one), with all that their items share: a
  preference that is to hold for other edits has to hold there. Raters are not resampled; `agreement` is about them.
"""

import krippendorff
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import special
from scipy.sparse import csgraph
from scipy.stats import binomtest

from editclip import stats
from editclip.study.resampling import Statistic, cluster_weights, share

PREFERENCES = ("question", "first", "second", "votes", "items", "raters", "win_rate", "wilson_low", "wilson_high",
               "low", "high", "p", "p_holm", "strength_first", "strength_second", "origin")  # fmt: skip
AGREEMENT = ("question", "alpha", "votes", "items", "raters")
PRIOR = 0.5  # of a vote each way
CONVERGED = 1e-10  # of log-strengths


def preferences(comparisons: pd.DataFrame, settings: stats.Settings, origin: str) -> pd.DataFrame:
    """preferences.csv: a row a question and pair of methods, in the order of `comparisons`.

    Args:
        comparisons: a row a vote, one or more: item_id, rater, question, first, second, won (1 the first's output was
            chosen, else 0), cluster.
        settings: of the bootstrap, and the level of all intervals.
        origin: whose votes they are.

    Returns:
        Columns `PREFERENCES`. `win_rate` is the share of votes for `first`, in [0, 1]; `low`, `high` are empty with one
        cluster, and where all votes agree: then there is no scatter to resample, and Wilson's bounds say what is left.
        `p_holm` is Holm's over all rows. Strengths are log-strengths with the mean 0, of all methods of the question.
    """
    codes, clusters = pd.factorize(comparisons["cluster"])
    weights = cluster_weights(len(clusters), settings)
    rows = []
    for question, asked in comparisons.assign(code=codes).groupby("question", sort=False):
        strength = strengths(asked)
        for (first, second), votes in asked.groupby(["first", "second"], sort=False):
            won, n = int(votes["won"].sum()), len(votes)
            wilson = binomtest(won, n).proportion_ci(settings.level, method="wilson")
            low, high = _interval(votes["won"].to_numpy(float), votes["code"].to_numpy(), weights, settings.level)
            counts = {"votes": n, "items": votes["item_id"].nunique(), "raters": votes["rater"].nunique()}
            rows.append({
                "question": question, "first": first, "second": second, **counts, "win_rate": won / n,
                "wilson_low": wilson.low, "wilson_high": wilson.high, "low": low, "high": high, "p": sign_test(votes),
                "strength_first": strength[str(first)], "strength_second": strength[str(second)], "origin": origin,
            })  # fmt: skip
    frame = pd.DataFrame(rows, columns=list(PREFERENCES))
    return frame.assign(p_holm=stats.holm(frame["p"]))


def _interval(
    won: NDArray[np.float64], codes: NDArray[np.intp], weights: NDArray[np.float64], level: float
) -> tuple[float, float]:
    """Bounds of a share of votes over resampled clusters, NaN where it is 0 or 1."""
    if won.min() == won.max():
        return np.nan, np.nan
    drawn = share(won, np.ones_like(won), codes, weights)
    return Statistic(drawn, correlation=False, clusters=len(np.unique(codes))).interval(level)


def sign_test(votes: pd.DataFrame) -> float:
    """Two-sided exact p of the items' majorities against 1/2; 1 where every item is tied.

    Args:
        votes: of one pair: item_id, won.
    """
    lead = (2 * votes["won"].astype(int) - 1).groupby(votes["item_id"]).sum()
    decided = int((lead != 0).sum())
    return float(binomtest(int((lead > 0).sum()), decided).pvalue) if decided else 1.0


def strengths(votes: pd.DataFrame) -> dict[str, float]:
    """Bradley–Terry log-strength of each method, mean 0: A is chosen over B with the odds exp(A - B).

    Args:
        votes: of one question: first, second, won.

    Returns:
        By method. Where the votes alone have no finite answer (some methods won, or lost, every vote against the
        others) half a vote each way is added to every pair that was compared, ours. NaN for all where methods fall
        into groups that were never compared.
    """
    methods = list(dict.fromkeys([*votes["first"], *votes["second"]]))
    first, second = (votes[side].map(methods.index).to_numpy() for side in ("first", "second"))
    won = votes["won"].to_numpy(float)
    wins = np.zeros((len(methods), len(methods)))
    np.add.at(wins, (first, second), won)
    np.add.at(wins, (second, first), 1 - won)
    return dict(zip(methods, map(float, bradley_terry(wins)), strict=True))


def bradley_terry(wins: ArrayLike) -> NDArray[np.float64]:
    """Log-strengths (k,), mean 0, of how often each of k methods won against each, (k, k); see `strengths`.

    Newton's method on the likelihood, which is concave (Hunter 2004, doi:10.1214/aos/1079120141, who also gives the
    condition of a finite maximum: no group that never lost to the others), with halved steps where it would fall.
    """
    table = np.asarray(wins, dtype=float)
    met = (table + table.T) > 0
    if csgraph.connected_components(met, directed=False)[0] > 1:
        return np.full(len(table), np.nan)
    if csgraph.connected_components(table > 0, directed=True, connection="strong")[0] > 1:
        table = table + PRIOR * met
    total = table + table.T

    def likelihood(strength: NDArray[np.float64]) -> float:
        return float((table * special.log_expit(strength[:, None] - strength)).sum())

    strength, step = np.zeros(len(table)), np.full(len(table), np.inf)
    while np.abs(step).max() > CONVERGED:
        chance = special.expit(strength[:, None] - strength)
        information = total * chance * (1 - chance)
        laplacian = np.diag(information.sum(axis=1)) - information
        step = np.linalg.pinv(laplacian, hermitian=True) @ (table - total * chance).sum(axis=1)
        while likelihood(strength + step) < likelihood(strength) - CONVERGED * total.sum():  # below that it is rounding
            step = step / 2
        strength = strength + step
    return strength - strength.mean()


def agreement(votes: pd.DataFrame) -> pd.DataFrame:
    """agreement.csv: Krippendorff's alpha of the raters' answers, a row a question.

    1 is full agreement, 0 what chance gives. The answers are the sides, left or right, as they were given: sides are
    random, so that raters who all see that one method is better agree, and do not get it by chance.

    Args:
        votes: a row a vote: item_id, rater, question, choice (left, right).

    Returns:
        Columns `AGREEMENT`; alpha is empty where no item has two votes, or all that do have one side alone.
    """
    rows = []
    for question, asked in votes.groupby("question", sort=False):
        counts = {"votes": len(asked), "items": asked["item_id"].nunique(), "raters": asked["rater"].nunique()}
        sides = pd.crosstab(asked["item_id"], asked["choice"]).reindex(columns=["left", "right"], fill_value=0)
        rows.append({"question": question, "alpha": alpha(sides), **counts})
    return pd.DataFrame(rows, columns=list(AGREEMENT))


def alpha(counts: ArrayLike) -> float:
    """Krippendorff's alpha for nominal data (Content Analysis, 2004, chapter 11); NaN where nothing can be compared.

    Args:
        counts: (n, k), how many raters gave each of k answers to each of n items.
    """
    table = np.asarray(counts)
    answers = table[table.sum(axis=1) > 1].sum(axis=0)
    if (answers > 0).sum() < 2:
        return float("nan")
    return float(krippendorff.alpha(value_counts=table, level_of_measurement="nominal"))
