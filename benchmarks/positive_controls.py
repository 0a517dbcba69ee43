"""Positive controls of a finished run: does what a method has learnt do what it must do there?

    python benchmarks/positive_controls.py visii --run results/micro
    python benchmarks/positive_controls.py instamanip --run results/micro

visii: its learnt instruction, applied to the exemplar's own *before*, must come nearer to the exemplar's *after* than
the caption it started from, with the same noise.

instamanip: its renderer, fed the features of the ground truth itself, must come nearer to it than the query is; and the
features that its language model foretells must be nearer to the ground truth's than the mean features of the training
data's edited images are.

It prints means, and the mean paired difference with its 95 % bootstrap interval (BCa, over exemplars, each the mean of
its samples), and exits with status 1 when an interval reaches down to zero.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL.Image import Image
from scipy.stats import bootstrap
from tqdm import tqdm

from baselines.instamanip.vision import pixels_of
from baselines.instamanip.vision_layout import load_vision
from editclip import stage
from editclip.data.bench import Bench
from editclip.data.triplets import Triplets
from editclip.editing import EditRequest, noise_seed
from editclip.editing.cards import Method, parse_method
from editclip.editing.requests import Requests
from editclip.editing.stored import PLANNED, PREPARED, load_tensors
from editclip.errors import InputError

PEAK = 255.0
RESAMPLES, SEED = 10_000, 0
MEAN_OF = 4096  # training images behind the mean features


class Comparison(NamedTuple):
    """Values of each exemplar by what they are of; the first has to be better than the second.

    Attributes:
        unit: of the values.
        values: by name.
        larger: whether larger is better.
    """

    unit: str
    values: dict[str, np.ndarray]
    larger: bool


def psnr(image: Image, wanted: Image) -> float:
    """Peak signal-to-noise ratio of 8-bit RGB images in dB."""
    difference = np.asarray(image, float) - np.asarray(wanted, float)
    return float(10 * np.log10(PEAK**2 / np.mean(difference**2)))


def shards(run: Path, kind: str, row: str) -> list[Path]:
    """The folders of a method's stage, "prepared" or "planned".

    Raises:
        InputError: there is none.
    """
    folders = sorted((run / kind / row).glob("*-of-*"))
    if not folders:
        raise InputError(f"{run / kind / row} holds no shard; run the workflow with the method {row!r} first")
    return folders


def method_of(folder: Path) -> Method:
    """The method entry that a shard was made with."""
    return parse_method(json.loads((folder / "provenance.json").read_text(encoding="utf-8"))["config"])


def editor_of(method: Method, run: Path) -> Any:
    """The method, loaded to edit with the run's weights of the names of its roles."""
    return method.load({name: run / "weights" / name for name in method.card.weights}, stage.device(), "edit")


def visii(run: Path, row: str, batch_size: int) -> list[Comparison]:
    """PSNR to each exemplar's after: of the edit as learnt, of the edit by the initial caption, and of the before."""
    folders = shards(run, "prepared", row)
    method = method_of(folders[0])
    editor, exemplars = editor_of(method, run), Requests(Bench.load(run / "bench"), method, 0)
    rows = [r for r in PREPARED.read(folders).values() if r["status"] == "ok"]
    found: dict[str, list[float]] = {"learnt": [], "caption": [], "before": []}
    for first in tqdm(range(0, len(rows), batch_size), desc="editing the exemplars"):
        shown = [(exemplars.exemplar(r["exemplar_id"]), load_tensors(r)) for r in rows[first : first + batch_size]]
        found["before"] += [psnr(e.before, e.after) for e, _ in shown]
        for name, embedding in (("learnt", "embedding"), ("caption", "initial_embedding")):
            asked = [
                EditRequest(
                    query=e.before,
                    exemplar=e,
                    prepared={**prepared, "embedding": prepared[embedding]},
                    instruction=None,
                    caption_before=None,
                    caption_after=None,
                    ground_truth=None,
                    seed=noise_seed("positive control", e.exemplar_id),
                )
                for e, prepared in shown
            ]
            found[name] += [psnr(image, e.after) for image, (e, _) in zip(editor.edit(asked), shown, strict=True)]
    return [Comparison("dB to the after", {name: np.array(values) for name, values in found.items()}, larger=True)]


def instamanip(run: Path, row: str, batch_size: int) -> list[Comparison]:
    """PSNR of the rendered truth against the query's, and errors of the planned features against the mean's."""
    folders = shards(run, "planned", row)
    method, bench = method_of(folders[0]), Bench.load(run / "bench")
    editor, requests = editor_of(method, run), Requests(bench, method, 0)
    vision = load_vision(run / "weights" / "instamanip_vision")
    planned = PLANNED.read(folders)
    samples = [s for s in bench.samples if s.ground_truth and planned[s.sample_id]["status"] == "ok"]
    if not samples:
        raise InputError(f"{run}: no sample has both a plan and a ground truth")

    @torch.no_grad()
    def features(images: Sequence[Image]) -> torch.Tensor:
        return vision.features(vision.normalised(pixels_of(images)))

    triplets = Triplets(run / "triplets", "train", bench.resolution)
    spread = torch.linspace(0, len(triplets) - 1, min(MEAN_OF, len(triplets))).long()
    with torch.no_grad():
        edited = (triplets.batch(part.tolist())[1].float() / 255 for part in spread.split(64))
        mean = torch.cat([vision.features(vision.normalised(part)) for part in edited]).mean(0)
    pictures: dict[str, list[float]] = {"rendered truth": [], "query": []}
    errors: dict[str, list[float]] = {"planned": [], "mean of the training data": [], "the query's": []}
    for first in tqdm(range(0, len(samples), batch_size), desc="rendering the truth"):
        part = samples[first : first + batch_size]
        truth = [bench.image(str(sample.ground_truth)) for sample in part]
        queries = [bench.image(sample.query) for sample in part]
        wanted = features(truth)
        asked = [requests.request(sample, {}, 0, {"features": each}) for sample, each in zip(part, wanted, strict=True)]
        pictures["rendered truth"] += map(psnr, editor.edit(asked), truth)
        pictures["query"] += map(psnr, queries, truth)
        plans = torch.stack([load_tensors(planned[sample.sample_id])["features"].float() for sample in part])
        for name, guess in (
            ("planned", plans),
            ("mean of the training data", mean),
            ("the query's", features(queries)),
        ):
            errors[name] += (guess - wanted).square().mean((1, 2)).tolist()
    owners = [sample.exemplar_id for sample in samples]
    return [
        Comparison("dB to the ground truth", _by_owner(pictures, owners), larger=True),
        Comparison("squared error of the features", _by_owner(errors, owners), larger=False),
    ]


def _by_owner(values: dict[str, list[float]], owners: Sequence[str]) -> dict[str, np.ndarray]:
    """The means of the values of each owner."""
    names, place = np.unique(owners, return_inverse=True)
    counts = np.bincount(place, minlength=len(names))
    return {name: np.bincount(place, weights=column) / counts for name, column in values.items()}


def in_words(comparison: Comparison) -> tuple[str, bool]:
    """A comparison in words, and whether its interval keeps off zero on the right side."""
    (better, one), (worse, other), *_ = comparison.values.items()
    difference = one - other if comparison.larger else other - one
    rng = np.random.default_rng(SEED)
    interval = bootstrap((difference,), np.mean, n_resamples=RESAMPLES, rng=rng).confidence_interval
    means = ", ".join(f"{name} {values.mean():.4g}" for name, values in comparison.values.items())
    passed = bool(interval.low > 0)
    sides = (better, worse) if comparison.larger else (worse, better)
    return (
        f"{len(difference)} exemplars, {comparison.unit}: {means}\n"
        f"{sides[0]} - {sides[1]}: {difference.mean():+.3g}, 95 % interval {interval.low:+.3g} to "
        f"{interval.high:+.3g}: {'passed' if passed else 'FAILED'}\n"
    ), passed


CONTROLS = {"visii": visii, "instamanip": instamanip}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("control", choices=tuple(CONTROLS))
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished run, e.g. results/micro")
    parser.add_argument("--row", help="name of the method in that run (default: the control's)")
    parser.add_argument("--batch-size", type=int, default=8, help="edits per call")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    results = [in_words(c) for c in CONTROLS[given.control](given.run, given.row or given.control, given.batch_size)]
    for text, _ in results:
        sys.stdout.write(text)
    if not all(passed for _, passed in results):
        sys.exit(1)


if __name__ == "__main__":
    stage.run(main)
