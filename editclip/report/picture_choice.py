"""Which samples and exemplars the picture grids show: rules choose them, nobody picks.

Most rules look at the EC2EC of one method, the reference, as the mean over its seeds. Of two medians it is the lower,
and ties go by id.
"""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from editclip.errors import InputError
from editclip.report.files import read_table


def grid_reference(run: Path, facts: pd.DataFrame, wanted: str | None) -> tuple[pd.DataFrame, int]:
    """EditCLIP scores, over all its seeds, of the method by which samples are chosen, and its first seed.

    Args:
        run: folder of the run.
        facts: rows.csv of a table.
        wanted: that method; where it is None or has no EC2EC, the first method that is conditioned on something and has
            some, else the first that has some.

    Raises:
        InputError: no method has any.
    """
    seeds_of = dict(zip(facts["method"], facts["seeds"].str.split(), strict=True))
    conditioned = facts.loc[facts["conditioning"] != "none", "method"].tolist()
    for name in dict.fromkeys([wanted or "", *conditioned, *seeds_of]):
        folder = run / "scores" / name / "editclip"
        seeds = [seed for seed in sorted(map(int, seeds_of.get(name, []))) if (folder / f"seed={seed}.csv").is_file()]
        columns = ("method", "sample_id", "metric", "value", "status")
        scores = [read_table(folder / f"seed={seed}.csv", columns) for seed in seeds]
        if any(((frame["metric"] == "ec2ec") & (frame["status"] == "ok")).any() for frame in scores):
            return pd.concat(scores, ignore_index=True), seeds[0]
    raise InputError(f"no method in {run / 'scores'} has EC2EC scores: run the editclip metrics first")


def mean_ec2ec(scores: pd.DataFrame) -> "pd.Series[float]":
    """EC2EC of the reference method by sample, the mean over its seeds.

    Args:
        scores: what `grid_reference` gives.

    Raises:
        InputError: the method has no EC2EC at all.
    """
    valid = scores[(scores["metric"] == "ec2ec") & (scores["status"] == "ok")]
    if valid.empty:
        raise InputError("the reference method of the grid has no EC2EC score: score it first")
    return valid.assign(value=valid["value"].astype(float)).groupby("sample_id")["value"].mean()


def _ranked(names: Iterable[str], values: "pd.Series[float]") -> list[str]:
    """The names by their value, the lowest first; ties by name."""
    return sorted(names, key=lambda name: (values[name], name))


def _median(names: Iterable[str], values: "pd.Series[float]") -> str:
    """The name of the median value."""
    ranked = _ranked(names, values)
    return ranked[(len(ranked) - 1) // 2]


def median_sample(samples: pd.DataFrame, scores: pd.DataFrame) -> str:
    """The sample of the reference method's median EC2EC.

    Args:
        samples: manifest indexed by sample_id.
        scores: what `grid_reference` gives.

    Raises:
        InputError: the reference method has no EC2EC at all.
    """
    means = mean_ec2ec(scores)
    return _median(set(means.index) & set(samples.index), means)


def worst(samples: pd.DataFrame, scores: pd.DataFrame, count: int) -> dict[str, float]:
    """The samples of the reference method's lowest EC2EC, with that value, the lowest first.

    Args:
        samples: manifest indexed by sample_id.
        scores: what `grid_reference` gives.
        count: how many.

    Raises:
        InputError: the reference method has no EC2EC at all.
    """
    means = mean_ec2ec(scores)
    ranked = _ranked(set(means.index) & set(samples.index), means)
    return {sample: float(means[sample]) for sample in ranked[:count]}


def types_in_turn(samples: pd.DataFrame) -> list[tuple[str, str]]:
    """Group and name of every edit type, in turn from the families; families and types are in manifest order.

    Args:
        samples: manifest indexed by sample_id.
    """
    types: dict[str, list[tuple[str, str]]] = {}
    for row in samples.drop_duplicates(["group", "edit_type"]).to_dict("records"):
        types.setdefault(row["family"], []).append((row["group"], row["edit_type"]))
    most = max(map(len, types.values()), default=0)
    return [kinds[i] for i in range(most) for kinds in types.values() if i < len(kinds)]


def exemplar_rows(samples: pd.DataFrame, scores: pd.DataFrame, count: int, skip: int = 0) -> list[str]:
    """One sample an edit type: that of the median EC2EC of the reference method.

    Types are those of `types_in_turn`; the samples of a family stand together.

    Args:
        samples: manifest indexed by sample_id.
        scores: what `grid_reference` gives.
        count: number of types, if there are so many.
        skip: number of types to leave out before them, which another grid shows.

    Raises:
        InputError: the reference method has no EC2EC at all.
    """
    means = mean_ec2ec(scores)
    scored = samples[samples.index.isin(means.index)]
    rank = {family: i for i, family in enumerate(scored["family"].unique())}
    chosen = []
    for group, kind in types_in_turn(scored)[skip : skip + count]:
        chosen.append(_median(scored.index[(scored["group"] == group) & (scored["edit_type"] == kind)], means))
    return sorted(chosen, key=lambda sample: rank[str(samples.loc[sample, "family"])])


def median_exemplars(samples: pd.DataFrame, scores: pd.DataFrame, count: int) -> list[str]:
    """One exemplar a family: that of the median EC2EC of the reference method, the mean over the exemplar's queries.

    In a bench that names no families it is one exemplar an edit type.

    Args:
        samples: manifest indexed by sample_id.
        scores: what `grid_reference` gives.
        count: the first so many families or types, in manifest order.

    Returns:
        exemplar_ids.

    Raises:
        InputError: the reference method has no EC2EC at all.
    """
    means = mean_ec2ec(scores)
    scored = samples[samples.index.isin(means.index)]
    values = means[scored.index].groupby(scored["exemplar_id"].to_numpy()).mean()
    parts = ["family"] if (scored["family"] != "").any() else ["group", "edit_type"]
    found = [_median(part["exemplar_id"].unique(), values) for _, part in scored.groupby(parts, sort=False)]
    return found[:count]


def first_exemplars(samples: pd.DataFrame, count: int) -> list[str]:
    """The first exemplar of edit types that are taken in turn from the families, see `types_in_turn`.

    Args:
        samples: manifest indexed by sample_id.
        count: number of types, if there are so many.

    Returns:
        exemplar_ids.
    """
    first = samples.drop_duplicates(["group", "edit_type"]).set_index(["group", "edit_type"])["exemplar_id"]
    return [str(first[kind]) for kind in types_in_turn(samples)[:count]]
