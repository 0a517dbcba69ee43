"""How well metrics agree with the votes of a study: the correlations that Table 2 of the paper can be, and better ones.

A vote chooses one of two methods' outputs of a sample. The paper correlates metrics with votes and does not say how; d1
to d4 are the candidates. All of them pool pairs of methods, and reward a metric that merely knows which method is good:
`from_means` is the part of a coefficient that this makes. `within` is computed in each pair of methods, where knowing
the methods is worth nothing. docs/judging-metrics.md explains all of them and what they are worth.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from editclip import stats
from editclip.errors import InputError, nearest
from editclip.study import resampling
from editclip.study.resampling import Array, Codes, Statistic

STATISTICS = ("d1", "d2", "d3", "d4", "within", "accuracy", "auc")
COLUMNS = ("question", "metric", "statistic", "pair", "estimate", "low", "high", "null", "from_means", "votes", "items",
           "clusters", "note")  # fmt: skip
DIFFERENCES = ("question", "statistic", "metric", "other", "diff", "low", "high", "p", "p_holm", "votes", "note")
NEEDED = ("item_id", "question", "first", "second", "won", "cluster", "sample_id", "seed")
CORRELATED = ("d1", "d2", "d3", "d4")  # over all pairs of methods together


def coefficients(comparisons: pd.DataFrame, metrics: Sequence[str], settings: stats.Settings) -> pd.DataFrame:
    """Every statistic of every question and metric, with its interval and what the methods' means alone give.

    Args:
        comparisons: a row a vote: item_id, question, first, second (methods, in the study's fixed orientation), won (1
            or 0: the first's output was chosen), cluster, sample_id, seed, and of each metric first_<metric> and
            second_<metric>, the scores of the two outputs, higher is better, NaN where there is none.
        metrics: names.
        settings: of the bootstrap over `cluster`.

    Returns:
        Columns `COLUMNS`.

        - `pair` is "" but for the statistic "within_pair".
        - `null` is the statistic with every score replaced by its method's mean; `from_means`, of d1 to d4, is the part
          of the estimate that the means make: what stays, on average, when scores are shuffled within methods.
        - `votes`, `items` and `clusters` are those the estimate is made of: they have both scores, and of "within" they
          are those of the pairs that it combines.
        - `note` says what was left out, or why a number is NaN.

    Raises:
        InputError: a column is missing, `won` is neither 0 nor 1, a score is no finite number, or a sample lies in two
            clusters.
    """
    study = Study(comparisons, metrics, settings)
    rows: list[dict[str, Any]] = []
    for question in study.questions:
        for metric in metrics:
            votes = study.votes(question, [metric], metric)
            means = study.of_means(votes, metric)
            nulls = dict(_statistics(means, np.ones((1, study.weights.shape[1]))))
            for (name, pair), statistic in _statistics(votes, study.weights):
                own = votes.of_pairs([pair] if pair else statistic.groups)
                low, high = statistic.interval(settings.level)
                row = {"question": question, "metric": metric, "statistic": name, "pair": pair, "low": low}
                row |= {"estimate": statistic.estimate, "high": high, "note": statistic.described()}
                if not name.startswith("within"):
                    row["null"] = nulls[name, ""].estimate
                if name in CORRELATED and pd.notna(statistic.estimate):
                    row["from_means"] = _from_means(name, votes, means)
                rows.append(row | {"votes": len(own.won), "items": own.items, "clusters": statistic.clusters})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def differences(comparisons: pd.DataFrame, metrics: Sequence[str], settings: stats.Settings) -> pd.DataFrame:
    """Every two metrics' statistics compared, on the votes that have the scores of both and in the same draws.

    Args:
        comparisons: as for `coefficients`.
        metrics: names; the earlier one of two is the `metric`, the later one the `other`.
        settings: of the bootstrap over `cluster`.

    Returns:
        Columns `DIFFERENCES`: the estimate of `metric` less that of `other`, its bounds, its p-value
        (`resampling.difference`) and the same adjusted by Holm's method for the tests of the statistic, questions ×
        pairs of metrics: whoever looks at several statistics tests one thing several times. "within" is here of the
        pairs of methods that can be used for both metrics, and `votes` counts theirs.

    Raises:
        InputError: as for `coefficients`.
    """
    study = Study(comparisons, metrics, settings)
    rows: list[dict[str, Any]] = []
    for question in study.questions:
        for both in combinations(metrics, 2):
            mine, others = (study.votes(question, both, metric) for metric in both)
            one = dict(_statistics(mine, study.weights, beside=others))
            other = dict(_statistics(others, study.weights, beside=mine))
            for name in STATISTICS:
                found = resampling.difference(one[name, ""], other[name, ""], settings.level)
                row = {"question": question, "statistic": name, "metric": both[0], "other": both[1]}
                rows.append(row | found._asdict() | {"votes": len(mine.of_pairs(one[name, ""].groups).won)})
    table = pd.DataFrame(rows, columns=list(DIFFERENCES))
    table["p_holm"] = table.groupby("statistic")["p"].transform(stats.holm).astype(float)
    return table


@dataclass(frozen=True)
class Votes:
    """n votes on one question, with the scores of one metric.

    Attributes:
        pairs: (n,) the pair of methods of each vote, "first–second".
        outputs: (n, 2) the number of the first and of the second method's output.
        scores: (n, 2) theirs, higher is better.
        won: (n,) 1 where the first method's output was chosen, else 0.
        codes: (n,) cluster of each vote, a column of the weights.
        item_ids: (n,) what was voted on.
    """

    pairs: NDArray[np.object_]
    outputs: Codes
    scores: Array
    won: Array
    codes: Codes
    item_ids: NDArray[np.object_]

    @property
    def lead(self) -> Array:
        """(n,) score of the first method's output less that of the second's."""
        return self.scores[:, 0] - self.scores[:, 1]

    @property
    def sides(self) -> Array:
        """(n,) +1 where the first method's output was chosen, -1 where the second's."""
        return 2 * self.won - 1

    @property
    def items(self) -> int:
        """Number of items."""
        return len(set(self.item_ids))

    @property
    def clusters(self) -> int:
        """Number of clusters."""
        return len(np.unique(self.codes))

    def of_pairs(self, pairs: Sequence[str] | None) -> "Votes":
        """Those on some pairs of methods, all if None."""
        if pairs is None:
            return self
        rows = np.isin(self.pairs, np.array(pairs, object))
        return Votes(*(values[rows] for values in vars(self).values()))


class Study:
    """Checked comparisons with what all their statistics share: outputs, clusters and draws of these."""

    def __init__(self, comparisons: pd.DataFrame, metrics: Sequence[str], settings: stats.Settings) -> None:
        """Arguments and errors are those of `coefficients`."""
        _check(comparisons, metrics)
        frame = comparisons.reset_index(drop=True)
        self.questions = list(frame["question"].unique())
        self.codes, clusters = pd.factorize(frame["cluster"], sort=True)
        self.weights = resampling.cluster_weights(len(clusters), settings) if len(clusters) else np.ones((1, 0))
        sides = [frame[[side, "sample_id", "seed"]].set_axis(["method", "sample", "seed"], axis=1)
                 for side in ("first", "second")]  # fmt: skip
        shown = pd.concat(sides, ignore_index=True)
        self.methods = shown["method"].to_numpy().reshape(2, -1).T
        self.outputs = shown.groupby(list(shown.columns), sort=False, dropna=False).ngroup().to_numpy().reshape(2, -1).T
        self.scores = {name: frame[[f"first_{name}", f"second_{name}"]].to_numpy(float) for name in metrics}
        self.frame = frame

    def votes(self, question: str, scored: Sequence[str], metric: str) -> Votes:
        """The votes on a question whose outputs have the scores of all metrics `scored`, with those of `metric`."""
        known = [~np.isnan(self.scores[name]).any(axis=1) for name in scored]
        rows = np.logical_and.reduce([(self.frame["question"] == question).to_numpy(), *known])
        mine = self.frame[rows]
        return Votes(
            pairs=(mine["first"] + "–" + mine["second"]).to_numpy(object),
            outputs=self.outputs[rows],
            scores=self.scores[metric][rows],
            won=mine["won"].to_numpy(float),
            codes=self.codes[rows],
            item_ids=mine["item_id"].to_numpy(object),
        )

    def of_means(self, votes: Votes, metric: str) -> Votes:
        """`votes` with every score replaced by its method's mean over all outputs of the study."""
        each = pd.DataFrame(
            {"output": self.outputs.ravel(), "method": self.methods.ravel(), "score": self.scores[metric].ravel()}
        ).drop_duplicates("output")
        means = each.groupby("method")["score"].mean()
        of_outputs = each.set_index("output")["method"].map(means).sort_index().to_numpy(float)
        return replace(votes, scores=of_outputs[votes.outputs])


def _check(frame: pd.DataFrame, metrics: Sequence[str]) -> None:
    needed = [*NEEDED, *(f"{side}_{name}" for name in metrics for side in ("first", "second"))]
    for name in needed:
        if name not in frame.columns:
            raise InputError(f"the comparisons lack the column {name!r}{nearest(name, frame.columns)}: make them again")
    wrong = frame[~frame["won"].isin((0, 1))]
    if len(wrong):
        raise InputError(f"comparison row {_line(wrong)} has won {wrong['won'].tolist()[0]!r}: it is to be 0 or 1")
    for name in needed[len(NEEDED) :]:
        values = pd.to_numeric(frame[name], errors="coerce")
        wrong = frame[(values.isna() & frame[name].notna()) | np.isinf(values)]
        if len(wrong):
            value = f"{name} {wrong[name].tolist()[0]!r}"
            raise InputError(f"comparison row {_line(wrong)} has {value}: it is to be a number or empty")
    places = frame[["sample_id", "cluster"]].drop_duplicates()
    twice = places[places["sample_id"].duplicated()]
    if len(twice):
        raise InputError(f"sample {twice['sample_id'].tolist()[0]!r} lies in two clusters of the comparisons: keep one")


def _line(wrong: pd.DataFrame) -> Any:
    """The line of a CSV file that the first of some rows is in."""
    return wrong.index[0] + 2


def _statistics(
    votes: Votes, weights: Array, beside: Votes | None = None
) -> Iterator[tuple[tuple[str, str], Statistic]]:
    """((name, pair), statistic) of all statistics; pair is "" but for those of one pair.

    Args:
        votes: with the scores of a metric.
        weights: (draws + 1, clusters).
        beside: the same votes with the scores of a metric that this one is compared with.
    """
    for name in STATISTICS:
        if name == "within":
            yield from _within(votes, weights, beside)
        else:
            yield (name, ""), _pooled(name, votes, weights)


def _pooled(name: str, votes: Votes, weights: Array) -> Statistic:
    """A statistic over all pairs of methods together."""
    note = resampling.too_few(len(votes.won), "votes")
    if note:
        return Statistic(np.full(len(weights), np.nan), name in CORRELATED, votes.clusters, note)
    if name in CORRELATED:
        group = resampling.Group("", *_variables(name, votes))
        return _uncentred(group, weights) if name == "d1" else resampling.correlation(group, weights, "votes")
    agreement = votes.lead * votes.sides
    if name == "accuracy":
        right = (np.sign(agreement) + 1) / 2
        values = resampling.share(right, np.ones_like(right), votes.codes, weights)
    else:
        values = _auc(agreement, votes.codes, weights)
    return Statistic(values, False, votes.clusters)


def _variables(name: str, votes: Votes) -> tuple[Array, Array, Codes]:
    """What d1, d2, d3 or d4 correlates, two variables, and the cluster of each of their values."""
    if name in ("d1", "d2"):
        return votes.lead, votes.sides if name == "d1" else votes.won, votes.codes
    chosen = np.concatenate([votes.won, 1 - votes.won])
    if name == "d3":
        return votes.scores.T.ravel(), chosen, np.tile(votes.codes, 2)
    long = pd.DataFrame({"output": votes.outputs.T.ravel(), "score": votes.scores.T.ravel(), "chosen": chosen})
    long["code"] = np.tile(votes.codes, 2)
    each = long.groupby("output").agg({"score": "first", "chosen": "mean", "code": "first"})
    return each["score"].to_numpy(), each["chosen"].to_numpy(), each["code"].to_numpy()


def _from_means(name: str, votes: Votes, means: Votes) -> float:
    """What of d1, d2, d3 or d4 the methods' means make."""
    (x, y, _), (of_means, _, _) = _variables(name, votes), _variables(name, means)
    return resampling.from_means(x, y, of_means, centred=name != "d1")


def _uncentred(group: resampling.Group, weights: Array) -> Statistic:
    """Pearson's r of (x, y) and (-x, -y) together, whose means are 0: each vote in both orientations."""
    x, y = group.x, group.y
    xy, xx, yy = resampling.sums([x * y, x**2, y**2], group.codes, weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = np.clip(np.where(xx > 0, xy / np.sqrt(xx * yy), np.nan), -1, 1)
    return Statistic(values, True, group.clusters, "" if x.any() else "two outputs' scores never differ")


def _auc(agreement: Array, codes: Codes, weights: Array) -> Array:
    """How probably a chosen output's lead exceeds a rejected one's, (draws + 1,).

    With u the lead of each vote's chosen output, that of its rejected one is -u: the share of u[i] > -u[j] over all i
    and j, ties half. Of that every draw needs the sums over two clusters each.

    Args:
        agreement: (n,) u.
        codes: (n,) cluster of each vote.
        weights: (draws + 1, clusters).
    """
    count = weights.shape[1]
    sums = np.zeros((count, count))
    for code in np.unique(codes):
        own = np.sort(agreement[codes == code])
        not_above = np.searchsorted(own, -agreement, "left") + np.searchsorted(own, -agreement, "right")
        sums[:, code] = np.bincount(codes, len(own) - not_above / 2, count)
    votes = weights @ np.bincount(codes, minlength=count)
    with np.errstate(invalid="ignore"):
        values: Array = ((weights @ sums) * weights).sum(axis=1) / votes**2
    return values


def _within(votes: Votes, weights: Array, beside: Votes | None) -> Iterator[tuple[tuple[str, str], Statistic]]:
    """The correlation in all pairs together, then in each pair."""
    groups = _groups(votes)
    together, single = resampling.within(groups, weights, "votes", None if beside is None else _groups(beside))
    yield ("within", ""), together
    for group, statistic in zip(groups, single, strict=True):
        yield ("within_pair", group.name), statistic


def _groups(votes: Votes) -> list[resampling.Group]:
    """The lead and the vote, in each pair of methods."""
    each = {pair: votes.of_pairs([pair]) for pair in dict.fromkeys(votes.pairs)}
    return [resampling.Group(pair, own.lead, own.won, own.codes) for pair, own in each.items()]
