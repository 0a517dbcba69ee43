"""How a method's edits depend on its sampling, by the ground truth alone: a line a setting.

    python benchmarks/sampling_grid.py editclip --config config/micro.yaml --bench DIR --settings 10/1/1 10/2/1.2

The method is one of the config's, with weights that its run has in results/, or given ones. It edits every sample of
the bench once, with each of the settings: sampling steps, guidance, image guidance; what is left out stays as in the
config. What it prepares of an exemplar is prepared once. The bench is to be one that no result is read on. A line of
the CSV file gives the share of edits that are closer to the ground truth than the query is, mean PSNR, also inside and
outside the mask, the median of the Laplacian's variance inside the mask over the ground truth's, and the mean
correlation of the two Laplacians; for all edits, and for each family.
"""

import argparse
import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from learning_curve import scored, summary
from PIL import Image

from editclip import stage
from editclip.config.tree import read_config
from editclip.data.bench import Bench
from editclip.editing.cards import Method
from editclip.editing.check import subject_of_config
from editclip.editing.edits import edit
from editclip.editing.prepared import prepare
from editclip.editing.work import Work
from editclip.errors import InputError

SETTINGS = ("10/1/1", "10/1.2/1", "10/1.5/1.1", "10/2/1.2", "10/3/1.3")


def with_setting(method: Method, setting: str) -> Method:
    """The method, sampled in another way."""
    steps, *scales = setting.split("/")
    guidance = dict(zip(("guidance_scale", "image_guidance_scale"), map(float, scales), strict=False))
    return dataclasses.replace(method, options={**method.options, "num_inference_steps": int(steps), **guidance})


def images(folder: Path, bench: Bench) -> Iterator[Image.Image]:
    """The edit of each sample."""
    for sample in bench.samples:
        with Image.open(folder / f"{sample.sample_id}.png") as image:
            yield image.convert("RGB")


def main() -> None:
    """Write the grid, and print its lines over all families."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", help="a method of the config")
    parser.add_argument("--config", nargs="+", required=True, metavar="FILE", help="a config, and overlays upon it")
    parser.add_argument("--bench", type=Path, required=True, help="folder of a benchmark with ground truth")
    parser.add_argument("--weights", type=stage.weights_argument, nargs="*", default=[], metavar="ROLE=FOLDER")
    parser.add_argument("--options", type=stage.config_value, default={}, help="other options of the method, as JSON")
    parser.add_argument("--settings", nargs="+", default=SETTINGS, metavar="STEPS[/GUIDANCE[/IMAGE_GUIDANCE]]")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--out", type=Path, help="CSV file (default: none)")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    bench = Bench.load(given.bench)
    subject = subject_of_config(given.method, given.config, given.options, dict(given.weights))
    if missing := subject.missing():
        raise InputError(f"{given.method} {missing}")
    method, weights, seed = subject.method, subject.weights, read_config(*given.config).run.seed
    lines: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        prepared = []
        if "prepare" in method.card.stages:
            prepared = [Path(temporary) / "prepared"]
            prepared[0].mkdir()
            prepare(Work(method, bench, weights, seed, stage.device()), (0, 1), prepared[0])
        for number, setting in enumerate(given.settings):
            folder = Path(temporary) / str(number)
            folder.mkdir()
            work = Work(with_setting(method, setting), bench, weights, seed, stage.device())
            edit(work, prepared, [], 0, (0, 1), folder)
            scores = scored(bench, bench.samples, images(folder, bench))
            parts = {"all": scores, **dict(list(scores.groupby("family")))}
            lines.extend(
                {"method": given.method, "setting": setting, "family": n, **summary(p)} for n, p in parts.items()
            )
            print(pd.DataFrame([lines[-len(parts)]]).round(3).to_string(header=number == 0), flush=True)
    if given.out:
        pd.DataFrame(lines).to_csv(given.out, index=False, float_format="%.4f")


if __name__ == "__main__":
    stage.run(main)
