"""Measure what the intervals and p-values of the tables are worth, on simulated benches with a known truth.

    python benchmarks/interval_coverage.py --out docs/interval_coverage.csv --docs docs/statistics.md

A simulated value is a type effect + an exemplar effect + a query effect + the rest (interaction and noise). For every
bench, size of the effects and distribution it reports how often an interval holds the truth, how wide it is, and how
often a difference that does not exist is called significant. Besides the CSV file, it writes Markdown tables between
the two markers of a document.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special
from tqdm import tqdm

from editclip import stats
from editclip.storage import atomic_file

Array = NDArray[np.float64]

LEVEL = 0.95
MARKERS = ("<!-- interval_coverage: begin -->", "<!-- interval_coverage: end -->")
BLOCK = 250  # simulations that share their draws
BATCH = 50  # simulated tables of one matrix product: as many as fit into some hundred MB
TYPE_SPREAD = 0.5  # standard deviation of the type effects; the other effects sum to about 1
ROWS, METRICS = 5, 6  # of the table of the false positives: methods compared with the reference, and metrics

# Exemplars and queries of each type. TOP-Bench-X publishes the totals only: 1277 samples, 257 exemplars, 124 queries,
# 32 to 60 samples a type. One type of 8 x 4 and 24 of 5 queries is the split that meets them all.
BENCHES = {
    "TOP-Bench-X": [(10, 5)] * 15 + [(11, 5)] * 9 + [(8, 4)],
    "14 types, 4 × 3": [(4, 3)] * 14,
    "two types, 4 × 3": [(4, 3)] * 2,
    "one type, 10 × 5": [(10, 5)],
    "one type, 4 × 3": [(4, 3)],
}
# Standard deviations of exemplar effects, query effects and the rest.
EFFECTS = {
    "exemplars and queries": (0.7, 0.7, 0.35),
    "queries": (0.0, 1.0, 0.3),
    "mixed": (0.4, 0.4, 0.8),
    "rest only": (0.0, 0.0, 1.0),
}
UNDEFINED = {"none": 0.0, "20 %": 0.2}
# Standardised effects: symmetric, and bounded with a long tail to one side (skewness 1.6).
SHAPE = (0.5, 3.0)
BETA_MEAN = SHAPE[0] / sum(SHAPE)
BETA_SPREAD = (SHAPE[0] * SHAPE[1] / (sum(SHAPE) ** 2 * (sum(SHAPE) + 1))) ** 0.5
DISTRIBUTIONS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Array]] = {
    "normal": lambda random, size: random.standard_normal(size),
    "skewed": lambda random, size: (random.beta(*SHAPE, size) - BETA_MEAN) / BETA_SPREAD,
}


@dataclass(frozen=True)
class World:
    """What is simulated: a bench, the size of the effects, their distribution, the share of undefined values."""

    bench: str
    effects: str
    distribution: str
    undefined: str

    def samples(self) -> pd.DataFrame:
        """The samples of the bench: columns type, exemplar, query."""
        sizes = enumerate(BENCHES[self.bench])
        rows = [(t, e, q) for t, (exemplars, queries) in sizes for e in range(exemplars) for q in range(queries)]
        return pd.DataFrame(rows, columns=["type", "exemplar", "query"])

    def values(self, samples: pd.DataFrame, count: int, random: np.random.Generator) -> tuple[Array, Array]:
        """Simulated values (n, count), NaN where undefined, and the type effect in each, (n, count)."""
        draw = DISTRIBUTIONS[self.distribution]
        exemplar, query, rest = EFFECTS[self.effects]
        kinds = samples["type"].to_numpy()
        types = TYPE_SPREAD * draw(random, (kinds.max() + 1, count))[kinds]
        values = types + rest * draw(random, (len(samples), count))
        for name, spread in (("exemplar", exemplar), ("query", query)):
            codes = samples.groupby(["type", name]).ngroup().to_numpy()
            values += spread * draw(random, (codes.max() + 1, count))[codes]
        values[random.random(values.shape) < UNDEFINED[self.undefined]] = np.nan
        return values, types


def full_multiplicities(samples: pd.DataFrame, resamples: int, seed: int) -> Array:
    """The pigeonhole bootstrap as published: n units in n draws, no correction."""
    random = np.random.default_rng(seed)
    weights = np.ones((resamples, len(samples)))
    for name in ("exemplar", "query"):
        for rows in samples.groupby("type").indices.values():
            codes = samples[name].to_numpy()[rows]
            units = codes.max() + 1
            weights[:, rows] *= random.multinomial(units, np.full(units, 1 / units), size=resamples)[:, codes]
    return weights


def percentiles(values: Array, weights: Array) -> tuple[Array, Array]:
    """Percentile interval of each column."""
    low, high = np.nanquantile(stats.means(values, weights), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high


def intervals(
    values: Array, samples: pd.DataFrame, resamples: int, seed: int
) -> Iterator[tuple[str, str, Array, Array]]:
    """Every interval to compare: what it is about, how it is made, its bounds. The adopted ones are called "table"."""
    within = stats.draws(samples, resamples, seed, types=False)
    freedom = stats.degrees_of_freedom(values, samples, types=False)
    yield "these types", "percentile, n of n", *percentiles(values, full_multiplicities(samples, resamples, seed))
    yield "these types", "percentile, n − 1 of n", *percentiles(values, within)
    yield "these types", "table", *stats.interval(values, within, LEVEL, freedom)
    if samples["type"].nunique() > 1:
        whole = stats.draws(samples, resamples, seed, types=True)
        freedom = stats.degrees_of_freedom(values, samples, types=True)
        yield "all types", "percentile, types and within", *percentiles(values, whole * within)
        yield "all types", "percentile, types", *percentiles(values, whole)
        yield "all types", "table", *stats.interval(values, whole, LEVEL, freedom)


def coverage(world: World, simulations: int, resamples: int, seed: int) -> Iterator[dict[str, object]]:
    """How often the intervals of a mean hold the truth, and how their width compares with the best possible.

    The truth of "these types" is the mean of the type effects over the samples that have a value; of "all types" it is
    0, the mean of the population of types. `width` is relative to 2 × 1.96 standard deviations of the estimate, the
    width of an interval whose maker knows that standard deviation.
    """
    samples = world.samples()
    held: dict[tuple[str, str], list[Array]] = {}
    widths: dict[tuple[str, str], list[Array]] = {}
    errors: dict[str, list[Array]] = {"these types": [], "all types": []}
    for block, random in blocks(world, simulations, seed):
        values, types = world.values(samples, BLOCK, random)
        estimate = np.nanmean(values, axis=0)
        truth = {
            "these types": np.nanmean(np.where(np.isnan(values), np.nan, types), axis=0),
            "all types": np.zeros(BLOCK),
        }
        for about in errors:
            errors[about].append(estimate - truth[about])
        for about, made, low, high in intervals(values, samples, resamples, block):
            held.setdefault((about, made), []).append((low <= truth[about]) & (truth[about] <= high))
            widths.setdefault((about, made), []).append(high - low)
    best = {about: 2 * special.ndtri((1 + LEVEL) / 2) * np.std(np.concatenate(e)) for about, e in errors.items()}
    for about, made in held:
        yield {
            "about": about,
            "interval": made,
            "coverage": np.mean(held[about, made]),
            "width": np.mean(widths[about, made]) / best[about],
        }


def false_positives(world: World, simulations: int, resamples: int, seed: int) -> Iterator[dict[str, object]]:
    """Tables in which no method differs from the reference: coverage of the differences' intervals and wrong alarms.

    `alarms` is the share of tests with p below 0.05, `alarms_holm` the share of whole tables with any adjusted p below.
    """
    samples = world.samples()
    held, width, alarm, any_alarm, spread = [], [], [], [], []
    for block, random in blocks(world, simulations, seed):
        weights = stats.draws(samples, resamples, block, types=False)
        for _ in range(BLOCK // BATCH):
            values, types = world.values(samples, BATCH * (ROWS + 1) * METRICS, random)
            tables = (values - types).reshape(len(samples), BATCH, ROWS + 1, METRICS)  # no difference in any type
            methods = tables[:, :, 1:].reshape(len(samples), -1)
            reference = np.broadcast_to(tables[:, :, :1], tables[:, :, 1:].shape).reshape(methods.shape)
            freedom = stats.degrees_of_freedom(methods - reference, samples, types=False)
            found = stats.paired(methods, reference, weights, LEVEL, freedom)
            held.append((found.low <= 0) & (found.high >= 0))
            width.append(found.high - found.low)
            spread.append(found.diff)
            alarm.append(found.p < 1 - LEVEL)
            any_alarm += [(stats.holm(p) < 1 - LEVEL).any() for p in found.p.reshape(BATCH, -1)]
    best = 2 * special.ndtri((1 + LEVEL) / 2) * np.std(spread)
    yield {
        "about": "difference",
        "interval": "table",
        "coverage": np.mean(held),
        "width": np.mean(width) / best,
        "alarms": np.mean(alarm),
        "alarms_holm": np.mean(any_alarm),
    }


def blocks(world: World, simulations: int, seed: int) -> Iterator[tuple[int, np.random.Generator]]:
    """Seed of the draws and generator of the values of each block of simulations, other ones in every world."""
    name = [ord(c) for c in f"{world.bench}/{world.effects}/{world.distribution}/{world.undefined}"]
    for block in range(simulations // BLOCK):
        yield block, np.random.default_rng([seed, block, *name])


def worlds() -> list[World]:
    """Every bench, effect size and distribution with all values defined, and one mix with some undefined."""
    full = [World(*parts, "none") for parts in product(BENCHES, EFFECTS, DISTRIBUTIONS)]
    return full + [World(bench, "mixed", "normal", "20 %") for bench in BENCHES]


def measure(simulations: int, resamples: int, seed: int) -> pd.DataFrame:
    """All rows: what was simulated and what came out."""
    jobs = [(w, coverage) for w in worlds()]
    jobs += [(w, false_positives) for w in worlds() if w.undefined == "none"]
    rows = []
    for world, job in tqdm(jobs, desc="worlds", dynamic_ncols=True):
        rows += [{**vars(world), **row} for row in job(world, simulations, resamples, seed)]
    return pd.DataFrame(rows).assign(simulations=simulations, resamples=resamples)


def markdown(rows: pd.DataFrame) -> str:
    """The coverage as three Markdown tables: intervals of means, ways to make them, and differences."""
    percent = rows["coverage"].map("{:.1%}".format) + " · " + rows["width"].map("{:.2f}".format)
    rows = rows.assign(cell=percent)
    of_means = rows[(rows["about"] != "difference") & (rows["undefined"] == "none")]
    differences = rows[rows["about"] == "difference"]
    parts = []
    for about, group in of_means.groupby("about", sort=False):
        index = ["bench", "effects", "distribution"]
        wide = group.pivot(index=index, columns="interval", values="cell")
        order = group[index].drop_duplicates().apply(tuple, axis=1)
        wide = wide.loc[order, list(group["interval"].unique())].reset_index()
        parts.append(f"Mean over {about} (coverage · width):\n\n" + wide.to_markdown(index=False) + "\n")
    shown = differences[["bench", "effects", "distribution", "cell"]].assign(
        p=differences["alarms"].map("{:.1%}".format), p_holm=differences["alarms_holm"].map("{:.1%}".format)
    )
    shown.columns = pd.Index([*shown.columns[:3], "coverage · width", "p < 0.05", "any p_holm < 0.05"])
    parts.append("Differences that do not exist:\n\n" + shown.to_markdown(index=False) + "\n")
    gaps = rows[(rows["undefined"] != "none") & (rows["interval"] == "table")]
    shown = gaps[["bench", "effects", "undefined", "about", "cell"]].rename(columns={"cell": "coverage · width"})
    parts.append("With undefined values:\n\n" + shown.to_markdown(index=False) + "\n")
    return "\n".join(parts)


def published(document: str, rows: pd.DataFrame) -> str:
    """`document` with the tables between its two markers."""
    before, after = document.split(MARKERS[0])[0], document.split(MARKERS[1])[1]
    return f"{before}{MARKERS[0]}\n\n{markdown(rows)}\n{MARKERS[1]}{after}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the CSV file to write")
    parser.add_argument("--docs", type=Path, required=True, help="the Markdown document to put the tables into")
    parser.add_argument("--simulations", type=int, default=1000, help=f"benches a row, a multiple of {BLOCK} (1000)")
    parser.add_argument("--resamples", type=int, default=2000, help="bootstrap draws (2000)")
    parser.add_argument("--seed", type=int, default=20250326, help="of the simulations (20250326)")
    arguments = parser.parse_args()
    if arguments.simulations < BLOCK or arguments.simulations % BLOCK:
        parser.error(f"--simulations {arguments.simulations} is not a multiple of {BLOCK}")
    document = arguments.docs.read_text(encoding="utf-8")
    if any(document.count(marker) != 1 for marker in MARKERS):
        parser.error(f"--docs {arguments.docs} must have each of the lines {' and '.join(MARKERS)} once")
    rows = measure(arguments.simulations, arguments.resamples, arguments.seed)
    with atomic_file(arguments.out) as file:
        rows.to_csv(file, index=False, float_format="%.4g", lineterminator="\n")
    with atomic_file(arguments.docs) as file:
        file.write_text(published(document, pd.read_csv(arguments.out)), encoding="utf-8")


if __name__ == "__main__":
    main()
