"""How InstructPix2Pix's edits become better over its training: the UNets that it kept, on a bench with ground truth.

    python benchmarks/learning_curve.py --weights results/foundations/weights/ip2p --bench results/foundations/bench

The weights are trained with `keep_validated: true`. Each UNet edits every query once, with each of the settings
(sampling steps, guidance, image guidance). A line of the CSV file gives, over the edits, the share that is closer to
the ground truth than the query is, mean PSNR, also inside and outside the mask, the median of the Laplacian's variance
inside the mask over the ground truth's, and the mean correlation of the two Laplacians; for all edits, and for each
family. The lines of step -1 are the VAE's round trip of the ground truth. A picture beside it shows the first query of
each family: the query, what the last UNet makes of it with each setting, and the ground truth.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pandas as pd
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from PIL import Image
from torchvision.transforms.functional import to_pil_image, to_tensor
from torchvision.utils import make_grid
from tqdm import tqdm

import editclip.patch_vae  # noqa: F401  # diffusers loads a class of ours only when its module is imported
from editclip import stage
from editclip.data.bench import Bench, Sample
from editclip.errors import InputError
from editclip.metrics.ground_truth import GroundTruthScores
from editclip.metrics.scores import Setting

SETTINGS = ("2/1/1", "10/1/1", "10/2/1.2")
MEANS = ("closer", "psnr", "psnr_inside", "psnr_background", "detail")
BATCH = 32
ENLARGED = 3  # times, of the picture


def one_sample_a_query(bench: Bench) -> list[Sample]:
    """The samples of the first exemplar of each type: InstructPix2Pix sees none."""
    found = {sample.query: sample for sample in reversed(bench.samples)}
    return [found[query] for query in sorted(found)]


def edits(pipeline: Any, bench: Bench, samples: list[Sample], setting: str) -> Iterator[Image.Image]:
    """One edit a sample."""
    steps, guidance, image_guidance = setting.split("/")
    for first in range(0, len(samples), BATCH):
        part = samples[first : first + BATCH]
        yield from pipeline(
            prompt=[sample.instruction for sample in part],
            image=[bench.image(sample.query) for sample in part],
            num_inference_steps=int(steps),
            guidance_scale=float(guidance),
            image_guidance_scale=float(image_guidance),
            generator=[torch.Generator().manual_seed(first + i) for i in range(len(part))],
        ).images


def round_trips(pipeline: Any, bench: Bench, samples: list[Sample]) -> Iterator[Image.Image]:
    """The ground truth of each sample, through the VAE."""
    for sample in samples:
        pixels = pipeline.image_processor.preprocess(bench.image(sample.ground_truth or ""))
        with torch.inference_mode():
            decoded = pipeline.vae.decode(pipeline.vae.encode(pixels).latent_dist.mode()).sample
        yield from pipeline.image_processor.postprocess(decoded)


def scored(bench: Bench, samples: Sequence[Sample], images: Iterator[Image.Image]) -> pd.DataFrame:
    """One row a sample: family and what the ground truth says of its image; NaN where it says nothing."""
    family = GroundTruthScores(Setting({}, bench, {}, BATCH, "cpu"))
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.png" for number in range(len(samples))]
        for path, image in zip(paths, images, strict=True):
            image.save(path)
        found = family.score(list(zip(samples, paths, strict=True)))
    values = [{name: np.nan if s.value is None else s.value for name, s in scores.items()} for scores in found]
    return pd.DataFrame(values).assign(family=[sample.family or "" for sample in samples])


def pictures(bench: Bench, samples: list[Sample], made: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """A row for the first query of each family: the query, its edit of each list of `made`, the ground truth."""
    families = [sample.family or "" for sample in samples]
    shown: list[Image.Image] = []
    for first in map(families.index, sorted(set(families))):
        sample = samples[first]
        shown += [bench.image(sample.query), *(edits[first] for edits in made), bench.image(sample.ground_truth or "")]
    grid = make_grid([to_tensor(image) for image in shown], nrow=len(made) + 2, pad_value=1)
    sheet = to_pil_image(grid)
    return sheet.resize((ENLARGED * sheet.width, ENLARGED * sheet.height), Image.Resampling.NEAREST)


def summary(scores: pd.DataFrame) -> dict[str, float]:
    """What a line of the file says of some edits."""
    means = {name: scores[name].mean() for name in MEANS}
    return {"edits": len(scores), **means, "sharpness": 2 ** scores["sharpness"].median()}


def main() -> None:
    """Write the curve, and print its lines over all families."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="folder of trained InstructPix2Pix weights")
    parser.add_argument("--bench", type=Path, required=True, help="folder of a benchmark")
    parser.add_argument("--settings", nargs="+", default=SETTINGS, metavar="STEPS/GUIDANCE/IMAGE_GUIDANCE")
    parser.add_argument("--sampler", metavar="CLASS", help="of diffusers, as DDIMScheduler (default: the weights')")
    parser.add_argument("--out", type=Path, help="CSV file (default: logs/learning_curve.csv of the weights)")
    arguments = parser.parse_args()
    kept = arguments.weights / "logs" / "kept"
    folders = sorted(kept.glob("[0-9]*"))
    if not folders:
        raise InputError(f"{kept} holds no UNet; train with keep_validated: true")
    bench = Bench.load(arguments.bench)
    samples = one_sample_a_query(bench)
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(arguments.weights, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    if arguments.sampler:
        pipeline.scheduler = getattr(diffusers, arguments.sampler).from_config(pipeline.scheduler.config)
    lines: list[dict[str, Any]] = []

    def add(step: int, setting: str, images: Iterator[Image.Image]) -> None:
        scores = scored(bench, samples, images)
        parts = {"all": scores, **dict(list(scores.groupby("family")))}
        lines.extend({"step": step, "setting": setting, "family": n, **summary(p)} for n, p in parts.items())
        print(pd.DataFrame([lines[-len(parts)]]).round(3).to_string(header=len(lines) == len(parts)), flush=True)

    add(-1, "round trip", round_trips(pipeline, bench, samples))
    for folder in tqdm(folders, desc="UNets"):
        unet = UNet2DConditionModel.from_pretrained(folder, torch_dtype=torch.float32)
        pipeline.unet = unet.eval()
        made = [list(edits(pipeline, bench, samples, setting)) for setting in arguments.settings]
        for setting, images in zip(arguments.settings, made, strict=True):
            add(int(folder.name), setting, iter(images))
    out = arguments.out or kept.parent / "learning_curve.csv"
    pd.DataFrame(lines).to_csv(out, index=False, float_format="%.4f")
    pictures(bench, samples, made).save(out.with_suffix(".png"))


if __name__ == "__main__":
    stage.run(main)
