"""Edit and score a part of a finished run's benchmark in several ways that must not matter, and compare the outcomes.

    python benchmarks/invariance.py --config config/smoke.yaml --run results/smoke --methods ip2p editclip --samples 16

The ways: in one job or in four shards, in order or reversed, eight images at a time or one. Each has a cache of its
own, so that nothing is taken over. Wanted: at least 99.9 % of the pixel values (0 to 255) within 1 of each other, and
scores within 1e-4. Exit status 1 if not.
"""

import argparse
import dataclasses
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from editclip import stage
from editclip.config.bindings import metric_encoders, weights_of
from editclip.config.methods import Editing
from editclip.config.tree import Config, read_config
from editclip.data.bench import Bench
from editclip.editing.cards import parse_method
from editclip.editing.edits import edit, gather
from editclip.editing.planned import plan
from editclip.editing.prepared import prepare
from editclip.editing.work import Work
from editclip.metrics.clip import ClipScores
from editclip.metrics.editclip import EditClipScores
from editclip.metrics.ground_truth import GroundTruthScores
from editclip.metrics.lpips import LPIPS
from editclip.metrics.scores import Family, Setting, read_edits, score_edits
from editclip.storage import atomic_folder

PIXELS, SCORES = 0.999, 1e-4  # share of pixel values within 1/255; largest difference of a score
FAMILIES: dict[str, Callable[[Setting], Family]] = {
    "lpips": LPIPS,
    "clip": ClipScores,
    "editclip": EditClipScores,
    "ground_truth": GroundTruthScores,
}


@dataclasses.dataclass(frozen=True)
class Way:
    """One way to edit and score: number of shards, order of the samples, images of one call of method or encoder."""

    name: str
    shards: int = 1
    backwards: bool = False
    batch_size: int = 8


WAYS = (Way("4 shards", shards=4), Way("reversed order", backwards=True), Way("batch 1", batch_size=1))


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Images (H×W×3, uint8) by sample, scores by (sample, metric)."""

    images: dict[str, np.ndarray]
    scores: dict[tuple[str, str], float]


def outcome(way: Way, name: str, bench: Bench, config: Config, run: Path, folder: Path) -> Outcome:
    """Edit and score `bench` with the method `name` and the weights of `run` in one way, inside an empty `folder`."""
    os.environ["EDITCLIP_CACHE"] = str(folder / "cache")
    if way.backwards:
        bench = dataclasses.replace(bench, samples=bench.samples[::-1])
    entry = config.methods[name]
    part = entry.model_dump(include=set(Editing.model_fields))
    method = parse_method({"name": name, **part, "batch_size": way.batch_size})
    bound = weights_of(f"methods.{name}", method.card, entry, config.weights)
    weights = {role: run / "weights" / weights for role, weights in bound.items()}
    work = Work(method, bench, weights, config.run.seed, stage.device())
    numbers = range(way.shards)
    prepared = [folder / "prepared" / str(k) for k in numbers if "prepare" in method.card.stages]
    planned = [folder / "planned" / str(k) for k in numbers if "plan" in method.card.stages]
    for k, out in enumerate(prepared):
        out.mkdir(parents=True)
        prepare(work, (k, way.shards), out)
    for k, out in enumerate(planned):
        out.mkdir(parents=True)
        plan(work, prepared, (k, way.shards), out)
    for k in numbers:
        with atomic_folder(folder / "shards" / str(k)) as out:
            edit(work, prepared, planned, 0, (k, way.shards), out)
    with atomic_folder(folder / "edits") as out:
        gather(bench, [folder / "shards" / str(k) for k in numbers], out)
    edits = read_edits(folder / "edits", bench)
    scores: dict[tuple[str, str], float] = {}
    encoders = metric_encoders(config)
    for family, source in FAMILIES.items():
        read = {role: run / "weights" / encoders[family] for role in source.weights}
        scorer = source.build(Setting(getattr(config.metrics, family), bench, read, way.batch_size, work.device))
        for one, values in zip(edits, score_edits(scorer, edits), strict=True):
            found = {metric: score.value for metric, score in values.items() if score.value is not None}
            scores |= {(one.sample.sample_id, metric): value for metric, value in found.items()}
    images = {e.sample.sample_id: np.asarray(Image.open(e.path)) for e in edits if e.path is not None}
    return Outcome(images, scores)


def compare(first: Outcome, second: Outcome) -> tuple[float, float, str]:
    """Share of pixel values within 1, the largest difference of a score, and its metric.

    Raises:
        ValueError: one of them lacks an image or a score.
    """
    if first.images.keys() != second.images.keys() or first.scores.keys() != second.scores.keys():
        raise ValueError("the two ways did not give the same images and scores")
    pairs = [(first.images[name].astype(int), second.images[name].astype(int)) for name in first.images]
    near = float(np.mean([np.abs(a - b) <= 1 for a, b in pairs]))
    differences = {key: abs(value - second.scores[key]) for key, value in first.scores.items()}
    worst = max(differences, key=lambda key: differences[key])
    return near, differences[worst], worst[1]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="config of the run")
    parser.add_argument("--run", type=Path, required=True, help="its folder, with bench/ and weights/")
    parser.add_argument("--methods", nargs="+", required=True, help="names of methods of the config")
    parser.add_argument("--samples", type=int, required=True, help="number of samples, spread over the benchmark")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    stage.use_threads(given.threads)
    config, bench = read_config(given.config), Bench.load(given.run / "bench")
    step = max(len(bench.samples) // given.samples, 1)
    bench = dataclasses.replace(bench, samples=bench.samples[::step][: given.samples])
    good = True
    sys.stdout.write(f"{len(bench.samples)} samples; against one shard, in order, batch 8\n\n")
    sys.stdout.write(
        "| method | way | pixel values within 1/255 | largest difference of a score |\n|---|---|---|---|\n"
    )
    for name in given.methods:
        with tempfile.TemporaryDirectory() as temporary:
            reference = outcome(Way("reference"), name, bench, config, given.run, Path(temporary))
        for way in WAYS:
            with tempfile.TemporaryDirectory() as temporary:
                near, difference, metric = compare(
                    reference, outcome(way, name, bench, config, given.run, Path(temporary))
                )
            good = good and near >= PIXELS and difference <= SCORES
            sys.stdout.write(f"| {name} | {way.name} | {near:.4%} | {difference:.1e} ({metric}) |\n")
            sys.stdout.flush()
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
