"""How large a difference a study can find, worked out before anybody votes.

A win rate is held against 1/2 by the exact binomial test, two-sided. With n independent votes it rejects from c votes
on, and P(X >= c) of a win rate p is the regularised incomplete beta function I_p(c, n - c + 1): solved for p, it gives
the smallest win rate above 1/2 (by symmetry, also the largest below it) that is found with a given power. The votes of
a cluster are alike, which leaves of n votes as many independent ones as n by the design effect 1 + (m - 1) rho, for m
votes in a cluster and intraclass correlation rho (Kish, Survey Sampling, 1965).
"""

import math
from dataclasses import dataclass

from scipy import special, stats

LEVEL, POWER = 0.05, 0.8  # convention
# Ours: like-minded enough to matter. Nothing is published of such votes; what a study's own are like shows afterwards.
CORRELATION = 0.05


def critical_count(votes: int, level: float) -> int | None:
    """Fewest of `votes` for one method that the two-sided exact test against 1/2 rejects; None if not even all."""
    count = int(stats.binom.isf(level / 2, votes, 0.5)) + 1  # isf: the least k with P(X > k) <= level / 2
    return count if count <= votes else None


def smallest_win_rate(votes: int, level: float = LEVEL, power: float = POWER) -> float | None:
    """The smallest win rate above 1/2 that `votes` independent votes find with `power` at `level`; None if none."""
    count = critical_count(votes, level)
    return None if count is None else float(special.betaincinv(count, votes - count + 1, power))


def design_effect(votes: int, clusters: int, correlation: float = CORRELATION) -> float:
    """By how much the variance of a share grows because `votes` lie in `clusters` (of equal size) of like votes."""
    return 1 + max(votes / clusters - 1, 0) * correlation


@dataclass(frozen=True)
class Power:
    """What the votes on one pair of methods, on one question, can find.

    Attributes:
        items: voted on.
        votes: on the question.
        clusters: in which votes are alike: edit types, or queries where there is one type only.
        design_effect: see above.
        win_rate: smallest that is found if all votes are independent; None: too few votes for any.
        win_rate_clustered: the same of as many votes as the design effect leaves.
        win_rate_holm: the same as the latter, at the level of the first step of Holm's method over all tests.
        majorities: the smallest share of items with a majority for the one method that the sign test of items finds,
            which takes an item rather than a vote as a trial.
    """

    items: int
    votes: int
    clusters: int
    design_effect: float
    win_rate: float | None
    win_rate_clustered: float | None
    win_rate_holm: float | None
    majorities: float | None

    @classmethod
    def of(cls, items: int, votes: int, clusters: int, tests: int) -> "Power":
        """Of `votes` votes on each of `items` items, which lie in `clusters` clusters, one of `tests` tests."""
        votes *= items
        effect = design_effect(votes, clusters)
        left = math.floor(votes / effect)
        found = (
            smallest_win_rate(votes),
            smallest_win_rate(left),
            smallest_win_rate(left, LEVEL / tests),
            smallest_win_rate(items),
        )
        return cls(items, votes, clusters, round(effect, 4), *(rate and round(rate, 4) for rate in found))
