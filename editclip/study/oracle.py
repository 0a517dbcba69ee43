r"""Votes of simulated raters, who judge by the ground truth: for trying a study, and its analysis, without people.

    python -m editclip.study.oracle --study results/<run>/studies/<study> --bench results/<run>/bench \
        --config '{"source": "oracle", "raters": 12, "noise": 1.0, "lapse": 0.05}' --seed N \
        --out results/<run>/votes/<study>

An output has a closeness in dB for each question:

- edit: PSNR to the ground truth inside the edit mask; over the whole picture where the mask is empty.
- preserves: PSNR to the ground truth outside the mask. Where less than `BACKGROUND` of the picture lies outside, the
  edit is global and nothing should have stayed but what the picture shows: then the edge map of the output (Sobel's
  magnitude of its luma, scaled to a mean square of 1, so that darker edges are edges) against that of the query, minus
  10 log10 of the mean squared difference.

A rater chooses the left one with probability 1 / (1 + exp(-(d_left - d_right) / noise)), a Bradley-Terry model whose
strengths are the closenesses in units of `noise` dB; the rater's own noise is the study's times exp(`SPREAD` z), z
standard normal. With probability `lapse` they did not look at the item, and answer both questions at random. These are
no people: `origin` says "oracle" wherever the votes go.
"""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit
from skimage.color import rgb2gray
from skimage.filters import sobel

from editclip import stage
from editclip.config.section import checked
from editclip.config.studies import OracleVotes
from editclip.data.bench import Bench, Sample
from editclip.editing import noise_seed
from editclip.errors import InputError
from editclip.metrics.ground_truth import MASK_THRESHOLD
from editclip.metrics.scores import read_frame
from editclip.study.sheet import QUESTIONS, SECONDS, SIDES
from editclip.study.votes import Sheet, read_study, write_votes

log = logging.getLogger(__name__)
MODULE = "editclip.study.oracle"

BACKGROUND = 0.05  # share of the picture (ours)
SPREAD = 0.2  # of raters' noise, standard deviation of its logarithm (ours)
ROUNDING = 1 / 12 / 255**2  # mean square of the rounding to 8 bits, which keeps the PSNR of equal images finite (59 dB)
ALIKE = 1e-3  # the same for edge maps (30 dB; ours)
PACE, SCATTER = 0.25, 0.5  # of the logarithm of seconds: between raters, and between a rater's items (ours)
BEGIN = datetime(2025, 3, 26, 9, tzinfo=UTC)  # the date of the paper

Array = NDArray[np.float64]


def closeness(output: Array, truth: Array, query: Array, edited: NDArray[np.bool_]) -> dict[str, float]:
    """How close an output is to what was wanted, in dB, by question.

    Args:
        output: H×W×3 in [0, 1].
        truth: the ground truth, likewise.
        query: the picture to edit, likewise.
        edited: H×W, where the edit changes pixels.
    """
    inside = edited if edited.any() else np.ones_like(edited)
    result = {"edit": _decibels(((output - truth)[inside] ** 2).mean() + ROUNDING)}
    if (~edited).mean() < BACKGROUND:
        result["preserves"] = _decibels(((_edges(output) - _edges(query)) ** 2).mean() + ALIKE)
    else:
        result["preserves"] = _decibels(((output - truth)[~edited] ** 2).mean() + ROUNDING)
    return result


def _decibels(square: float) -> float:
    return float(-10 * np.log10(square))


def _edges(image: Array) -> Array:
    """Sobel's magnitude of the luma, with a mean square of 1 unless the image is flat."""
    edges: Array = sobel(rgb2gray(image))
    scale = np.sqrt((edges**2).mean())
    return edges / scale if scale > 1e-6 else edges


def judge(study: Sheet, bench: Bench) -> pd.DataFrame:
    """Difference of the closenesses of the left and the right output in dB: one row an item, one column a question.

    Raises:
        InputError: a sample has no ground truth or no mask, or the study is of another benchmark.
    """
    if study.facts.get("bench", {}).get("digest") != bench.digest:
        raise InputError(f"{study.folder} is not of the benchmark {bench.folder}: design the study of this one again")
    samples = {sample.sample_id: sample for sample in bench.samples}

    @lru_cache(maxsize=8)  # items go by sample, whose pictures are few
    def pixels(path: Path) -> Array:
        return np.asarray(read_frame(path, bench.resolution), dtype=np.float64) / 255

    @cache
    def close(sample_id: str, image: str) -> Mapping[str, float]:
        sample = samples[sample_id]
        truth, mask = _known(sample, "ground_truth", bench), _known(sample, "edit_mask", bench)
        edited = np.asarray(bench.mask(mask)) >= MASK_THRESHOLD
        shown = study.folder / image
        return closeness(pixels(shown), pixels(bench.path(truth)), pixels(bench.path(sample.query)), edited)

    rows = {}
    for item_id, item in study.items.sort_values("sample_id").iterrows():
        left, right = (close(item["sample_id"], item[f"{side}_image"]) for side in SIDES)
        rows[item_id] = {question: left[question] - right[question] for question in QUESTIONS}
    return pd.DataFrame.from_dict(rows, orient="index").loc[study.items.index]


def _known(sample: Sample, name: str, bench: Bench) -> str:
    """An image of a sample that not every benchmark has."""
    value: str | None = getattr(sample, name)
    if value is None:
        raise InputError(
            f"sample {sample.sample_id} of {bench.folder} has no {name.replace('_', ' ')}, by which the oracle judges: "
            "give the study the origin path or none"
        )
    return value


def assigned(items: Mapping[str, bool], raters: int, votes: int, random: np.random.Generator) -> list[tuple[str, int]]:
    """Who votes on what, as (item_id, rater): `votes` raters an item, who have equally many items, give or take one.

    Args:
        items: whether it is a catch trial, by item_id; these are spread evenly too.
        raters: their number, at least `votes`.
        votes: of each item.
        random: decides what is left open.
    """
    load = np.zeros(raters)
    result = []
    order = sorted(
        items, key=lambda item: (not items[item], random.random())
    )  # catch trials first: evenly by themselves
    for item in order:
        chosen = np.lexsort((random.random(raters), load))[:votes]
        load[chosen] += 1
        result += [(item, int(rater)) for rater in chosen]
    return result


def vote(
    differences: pd.DataFrame, catch: Mapping[str, bool], votes: int, oracle: OracleVotes, seed: int
) -> pd.DataFrame:
    """The raters' votes: item_id, rater, question, choice, seconds, submitted_at, in the order of the items.

    Args:
        differences: of the left from the right output in dB, see `judge`.
        catch: whether an item is a catch trial.
        votes: of each item and question.
        oracle: raters, noise and lapse.
        seed: of everything drawn.
    """
    random = np.random.default_rng(seed)
    noise = oracle.noise * np.exp(SPREAD * random.standard_normal(oracle.raters))
    pace = np.exp(PACE * random.standard_normal(oracle.raters))
    usual = SECONDS / np.exp((PACE**2 + SCATTER**2) / 2)  # the median of which this is the mean
    start = random.uniform(0, 8 * 3600, oracle.raters)  # a working day
    width = len(str(oracle.raters))
    rows = []
    apart = {question: differences[question].to_dict() for question in QUESTIONS}
    who = assigned(catch, oracle.raters, votes, random)
    for number in random.permutation(len(who)):  # the order in which they work
        item, rater = who[number]
        seconds = round(float(usual * pace[rater] * np.exp(SCATTER * random.standard_normal())), 1)
        start[rater] += seconds
        moment = (BEGIN + timedelta(seconds=round(start[rater]))).isoformat()
        lapsed = random.random() < oracle.lapse
        for question in QUESTIONS:
            probability = 0.5 if lapsed else _probability(apart[question][item], noise[rater])
            choice = "left" if random.random() < probability else "right"
            row = {"item_id": item, "rater": f"oracle-{rater + 1:0{width}}", "question": question, "choice": choice}
            rows.append(row | {"seconds": seconds, "submitted_at": moment})
    return pd.DataFrame(rows).sort_values(["item_id", "rater", "question"], ignore_index=True)


def _probability(difference: float, noise: float) -> float:
    """That the left output is chosen; without noise the closer one is, and of equally close ones either."""
    return float(expit(difference / noise)) if noise else float(np.sign(difference) + 1) / 2


def main() -> None:
    """Command line of the stage."""
    parser = stage.parser(__doc__)
    parser.add_argument("--study", type=Path, required=True, help="folder written by editclip.study.design")
    parser.add_argument("--bench", type=Path, required=True, help="folder with manifest.csv and frames")
    parser.add_argument("--config", type=stage.config_value, required=True, help="the study's origin, of the config")
    parser.add_argument("--seed", type=int, required=True, help="of raters and votes")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    study, bench = read_study(given.study), Bench.load(given.bench)
    oracle = checked(OracleVotes, given.config, f"studies.{study.name}.origin")
    wanted = int(study.facts["votes"])
    if oracle.raters < wanted:
        raise InputError(f"{oracle.raters} raters cannot give {wanted} votes for each item: raise origin.raters")
    catch = {str(item): kind == "catch" for item, kind in study.items["kind"].items()}
    votes = vote(judge(study, bench), catch, wanted, oracle, noise_seed(given.seed, "oracle", study.name))
    votes = votes.join(study.items[list(SIDES)], on="item_id")
    facts: dict[str, Any] = {"config": given.config, "threads": given.threads, "seed": given.seed}
    inputs = {"study": given.study, "bench": given.bench}
    with stage.output_folder(given.out, module=MODULE, inputs=inputs, force=given.force, **facts) as folder:
        write_votes(folder, votes, study, "oracle", seed=given.seed, settings=oracle.model_dump(mode="json"))
    log.info("%d votes of %d simulated raters", len(votes), oracle.raters)


if __name__ == "__main__":
    stage.run(main)
