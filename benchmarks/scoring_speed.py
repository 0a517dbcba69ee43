"""What encoding once saves when edits are scored, on a run's own benchmark, weights and edits.

    python benchmarks/scoring_speed.py --run results/micro

Two comparisons. Sharing: all columns of Table 1 of all methods, with everything encoded once and kept, against metric
by metric, where each of seven metrics encodes what it needs for every method and seed; both start with loaded models
and an empty cache, and their values must agree within 1e-5. Repeating: `editclip score` on one method's edits a second
time against the first, inside one process (imports done) and as whole processes. Core seconds are not spoiled by other
load on the machine, wall seconds are.
"""

import argparse
import contextlib
import io
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity
from tqdm import tqdm

from editclip import score, stage
from editclip.config.tree import Config, read_config
from editclip.data.bench import Bench, Sample
from editclip.errors import InputError
from editclip.metrics.families import FAMILIES
from editclip.metrics.lpips_trunks import trunk_file
from editclip.metrics.perceptual import load_network, to_input
from editclip.metrics.scores import Edit, Setting, read_edits, read_frame, score_edits
from editclip.model import Clip, EditCLIP

TOLERANCE = 1e-5
PARTS = ("process", "call", "sharing")
SHARED = ("lpips", "clip", "editclip")  # the families of Table 1
Pairs = list[tuple[Sample, Path]]


class MetricByMetric:
    """Every metric on its own, as a harness that calls one after the other: nothing is shared and nothing kept."""

    def __init__(self, setting: Setting, config: Config, batch_size: int) -> None:
        self.bench, self.batch_size, self.device = setting.bench, batch_size, setting.device
        lpips = config.metrics.lpips
        self.size = max(lpips.resolution, setting.bench.resolution)
        self.networks = {net: load_network(net, lpips.trunk).to(self.device) for net in lpips.nets}
        self.clip = Clip.load(setting.weights["clip"], self.device)
        self.editclip = EditCLIP.load(setting.weights["editclip"], self.device)
        self.metrics: dict[str, Callable[[Pairs], Tensor]] = {
            **{f"lpips_{net}": lambda pairs, net=net: self._lpips(net, pairs) for net in self.networks},
            "clip": lambda pairs: cosine_similarity(self._outputs(pairs), self._texts(pairs, "caption_after")),
            "clip_dir_captions": self._clip_dir,
            "s_visual": self._s_visual,
            "ec2t": lambda pairs: cosine_similarity(self._edits(pairs), self._told(pairs)),
            "ec2ec": lambda pairs: cosine_similarity(self._edits(pairs), self._exemplars(pairs)),
        }

    def _frames(self, paths: Sequence[Path]) -> list:
        return [read_frame(path, self.bench.resolution) for path in paths]

    def _given(self, pairs: Pairs, name: str) -> list:
        return self._frames([self.bench.path(getattr(sample, name)) for sample, _ in pairs])

    def _lpips(self, net: str, pairs: Pairs) -> Tensor:
        images = self._given(pairs, "query"), self._frames([path for _, path in pairs])
        return self.networks[net](*(to_input(side, self.size).to(self.device) for side in images)).flatten()

    def _outputs(self, pairs: Pairs) -> Tensor:
        return self.clip.encode_image(self._frames([path for _, path in pairs]))

    def _images(self, pairs: Pairs, name: str) -> Tensor:
        return self.clip.encode_image(self._given(pairs, name))

    def _texts(self, pairs: Pairs, name: str) -> Tensor:
        return self.clip.encode_text([getattr(sample, name) for sample, _ in pairs])

    def _clip_dir(self, pairs: Pairs) -> Tensor:
        shown = self._outputs(pairs) - self._images(pairs, "query")
        return cosine_similarity(shown, self._texts(pairs, "caption_after") - self._texts(pairs, "caption_before"))

    def _s_visual(self, pairs: Pairs) -> Tensor:
        shown = self._images(pairs, "exemplar_after") - self._images(pairs, "exemplar_before")
        return cosine_similarity(self._outputs(pairs) - self._images(pairs, "query"), shown)

    def _edits(self, pairs: Pairs) -> Tensor:
        return self.editclip.encode_edit(self._given(pairs, "query"), self._frames([path for _, path in pairs]))

    def _exemplars(self, pairs: Pairs) -> Tensor:
        return self.editclip.encode_edit(self._given(pairs, "exemplar_before"), self._given(pairs, "exemplar_after"))

    def _told(self, pairs: Pairs) -> Tensor:
        return self.editclip.encode_text([sample.instruction or "" for sample, _ in pairs])

    @torch.inference_mode()
    def values(self, metric: str, pairs: Pairs) -> list[float]:
        """One metric of each edit."""
        batches = [pairs[i : i + self.batch_size] for i in range(0, len(pairs), self.batch_size)]
        return torch.cat([self.metrics[metric](batch).float().cpu() for batch in batches]).tolist()


class Clock:
    """Wall and core seconds of the blocks it is used for; of child processes too when they have ended in it."""

    def __init__(self) -> None:
        self.wall = self.core = 0.0

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        """Add the seconds of a block."""
        wall, core = time.perf_counter(), self._core()
        yield
        self.wall, self.core = self.wall + time.perf_counter() - wall, self.core + self._core() - core

    @staticmethod
    def _core() -> float:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(usage.ru_utime + usage.ru_stime for usage in used)


@contextlib.contextmanager
def empty_cache() -> Iterator[Path]:
    """A cache of its own for a block, with the trunks of LPIPS alone."""
    before = os.environ.get("EDITCLIP_CACHE")
    trunks = trunk_file("alex").resolve().parents[1]  # fetched before anything is timed
    with tempfile.TemporaryDirectory() as folder:
        os.environ["EDITCLIP_CACHE"] = folder
        Path(folder, trunks.name).symlink_to(trunks)
        yield Path(folder)
    os.environ.pop("EDITCLIP_CACHE")
    if before is not None:
        os.environ["EDITCLIP_CACHE"] = before


def sharing(
    bench: Bench, run: Path, config: Config, types: int | None, batch_size: int
) -> tuple[Clock, Clock, int, float]:
    """Clocks of metric by metric and of encoding once, the number of values compared and their largest difference."""
    weights = {name: run / "weights" / name for name in ("clip", "editclip")}
    size, device = config.metrics.batch_size, stage.device()
    settings = {name: Setting(getattr(config.metrics, name), bench, weights, size, device) for name in SHARED}
    apart, together, families = MetricByMetric(settings["clip"], config, batch_size), Clock(), {}
    methods = {folder.name: sorted(folder.glob("seed=*")) for folder in sorted((run / "edits").iterdir())}
    kept = sorted({(sample.group, sample.edit_type) for sample in bench.samples})[:types]

    def read(folder: Path) -> list[Edit]:
        return [e for e in read_edits(folder, bench) if (e.sample.group, e.sample.edit_type) in kept]

    made = {method: [read(folder) for folder in seeds] for method, seeds in methods.items()}
    once: dict[tuple[str, int], dict[str, list[float | None]]] = {}
    with empty_cache():
        families = {name: FAMILIES[name].build(setting) for name, setting in settings.items()}
        for method, seeds in tqdm(made.items(), desc="encoded once", unit="method"):
            for family in families.values():
                with together():
                    results = iter(score_edits(family, [edit for edits in seeds for edit in edits]))
                for number, edits in enumerate(seeds):
                    rows = [next(results) for edit in edits]
                    columns = {metric: [row[metric].value for row in rows] for metric in family.metrics}
                    once.setdefault((method, number), {}).update(columns)
    clock, compared, largest = Clock(), 0, 0.0
    for method, number in tqdm(once, desc="metric by metric", unit="method and seed"):
        edits = made[method][number]
        if not all(edit.path for edit in edits):
            raise InputError(f"method {method} lacks edits: this comparison needs a complete run")
        for metric in apart.metrics:
            with clock():
                alone = apart.values(metric, [(edit.sample, edit.path) for edit in edits if edit.path])
            pairs = [(a, b) for a, b in zip(alone, once[method, number][metric], strict=True) if b is not None]
            compared += len(pairs)
            largest = max([largest, *(abs(a - b) for a, b in pairs)])
    if not largest <= TOLERANCE or math.isnan(largest):
        raise SystemExit(f"error: values differ by {largest:.1e}, more than {TOLERANCE:g}")
    return clock, together, compared, largest


def repeating(command: list[str], whole: bool) -> tuple[Clock, Clock]:
    """Clocks of the first and the second `editclip score` on an empty cache."""
    clocks = Clock(), Clock()
    with empty_cache() as folder:
        arguments = [*command, "--out", str(folder / "out")]
        for clock in clocks:
            with clock():
                if whole:
                    process = [sys.executable, "-m", "editclip", "score", *arguments]
                    subprocess.run(process, check=True, stdout=subprocess.DEVNULL)
                else:
                    with contextlib.redirect_stdout(io.StringIO()):
                        score.main(arguments)
    return clocks


def line(name: str, slow: Clock, fast: Clock) -> str:
    """One row of the table of results."""
    cells = [f"{slow.core:.1f}", f"{fast.core:.1f}", f"{slow.core / fast.core:.1f}×"]
    cells += [f"{slow.wall:.1f}", f"{fast.wall:.1f}", f"{slow.wall / fast.wall:.1f}×"]
    return f"| {name} | " + " | ".join(cells) + " |"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("results/micro"), help="folder with bench, edits and weights")
    parser.add_argument("--config", type=Path, default=score.CONFIG, help="the run's config")
    parser.add_argument("--method", default="editclip", help="whose edits are scored twice")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1], help="of metric by metric, a row each")
    parser.add_argument("--types", type=int, help="share over the first so many edit types only (default: all)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    given = parser.parse_args()
    stage.use_threads(given.threads)
    config, bench = read_config(given.config), Bench.load(given.run / "bench")
    weights = [f"{name}={given.run / 'weights' / name}" for name in ("clip", "editclip")]
    command = ["--edits", str(given.run / "edits" / given.method), "--bench", str(given.run / "bench")]
    command += ["--config", str(given.config), "--threads", str(given.threads), "--weights", *weights]
    print("| comparison | slow, core s | fast, core s | ratio | slow, wall s | fast, wall s | ratio |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for part, where in (("process", "whole process"), ("call", "in one process")):
        if part in given.parts:
            clocks = repeating(command, whole=part == "process")
            print(line(f"second `editclip score`, {where}, against the first", *clocks), flush=True)
    for size in given.batch_sizes if "sharing" in given.parts else []:
        clock, together, compared, largest = sharing(bench, given.run, config, given.types, size)
        name = f"metric by metric, {size} a batch, against once"
        print(f"{line(name, clock, together)}\n\n{compared} values agree within {largest:.1e}.", flush=True)


if __name__ == "__main__":
    stage.run(main)
