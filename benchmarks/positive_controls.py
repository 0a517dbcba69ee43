"""Positive controls of a finished run: does what a method has learnt from an exemplar do what it must do there?

    python benchmarks/positive_controls.py visii --run results/micro

visii: its learnt instruction, applied to the exemplar's own *before*, must come nearer to the exemplar's *after* than
the caption it started from, with the same noise. It prints PSNR means over the exemplars, the mean paired difference
and its 95 % bootstrap interval (BCa, over exemplars), and exits with status 1 when the interval reaches down to zero.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL.Image import Image
from scipy.stats import bootstrap
from tqdm import tqdm

from editclip import stage
from editclip.data.bench import Bench
from editclip.editing import EditRequest, noise_seed
from editclip.editing.cards import parse_method
from editclip.editing.requests import Requests
from editclip.editing.stored import PREPARED, load_tensors
from editclip.errors import InputError

PEAK = 255.0
RESAMPLES, SEED = 10_000, 0


def psnr(image: Image, wanted: Image) -> float:
    """Peak signal-to-noise ratio of 8-bit RGB images in dB."""
    difference = np.asarray(image, float) - np.asarray(wanted, float)
    return float(10 * np.log10(PEAK**2 / np.mean(difference**2)))


def visii(run: Path, row: str, batch_size: int) -> dict[str, np.ndarray]:
    """PSNR to each exemplar's after: of the edit as learnt, of the edit by the initial caption, and of the before."""
    folders = sorted((run / "prepared" / row).glob("*-of-*"))
    if not folders:
        raise InputError(f"{run / 'prepared' / row} holds no shard; run the workflow with the method {row!r} first")
    entry = json.loads((folders[0] / "provenance.json").read_text(encoding="utf-8"))["config"]
    method = parse_method(entry)
    editor = method.load({name: run / "weights" / name for name in method.card.weights}, stage.device(), "edit")
    bench = Bench.load(run / "bench")
    exemplars = Requests(bench, method, 0)
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
    return {name: np.array(values) for name, values in found.items()}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("control", choices=("visii",))
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished run, e.g. results/micro")
    parser.add_argument("--row", help="name of the method in that run (default: the control's)")
    parser.add_argument("--batch-size", type=int, default=8, help="edits per call")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    found = visii(given.run, given.row or given.control, given.batch_size)
    difference = found["learnt"] - found["caption"]
    rng = np.random.default_rng(SEED)
    interval = bootstrap((difference,), np.mean, n_resamples=RESAMPLES, rng=rng).confidence_interval
    means = ", ".join(f"{name} {values.mean():.2f} dB" for name, values in found.items())
    passed = interval.low > 0
    sys.stdout.write(
        f"{len(difference)} exemplars, PSNR to their after: {means}\n"
        f"learnt - caption: {difference.mean():+.2f} dB, 95 % interval {interval.low:+.2f} to {interval.high:+.2f}: "
        f"{'passed' if passed else 'FAILED'}\n"
    )
    if not passed:
        sys.exit(1)


if __name__ == "__main__":
    stage.run(main)
