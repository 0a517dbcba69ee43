"""What preparing VISII's exemplars costs: as the official script does it, and as it is done here.

    python benchmarks/visii_speed.py --run results/micro

Three things are measured in one go on a run's weights and benchmark. Reuse and saving: an inversion for every sample,
all three guided rows with gradient (as the official script), against one inversion an exemplar, shared by its queries,
with gradient through the text row alone. Batching: several exemplars a call against one. Agreement: how far apart the
embeddings of the three ways are, and the edits by those learnt alone and together. Times are core seconds on a CPU,
which other load does not spoil, and wall seconds on a GPU. The search of the caption, the same everywhere, is left out.
"""

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from baselines.visii.inversion import Objective, Prepared, Start, invert, start
from baselines.visii.method import OPTIONS, VISII, load
from editclip import stage
from editclip.data.bench import Bench
from editclip.editing import EditRequest, Exemplar
from editclip.editing.cards import parse_method
from editclip.editing.requests import Requests

QUERIES = (3, 4, 5)  # of one exemplar; TOP-Bench-X: 1277 samples of 257 exemplars, 5


class ThreeRows(Objective):
    """The loss as the official script computes it: all three guided rows in one call with gradient."""

    def guided_rows(self, noisy: Tensor, before: Tensor, timesteps: Tensor, embedding: Tensor) -> tuple[Tensor, ...]:
        """See `Objective.guided_rows`."""
        images = torch.cat([before, before, torch.zeros_like(before)])
        text = torch.cat([embedding, self.null.expand(2 * len(embedding), -1, -1).clone().requires_grad_()])
        rows = torch.cat([noisy.repeat(3, 1, 1, 1), images], 1)
        output: Tensor = self.unet(rows, timesteps.repeat(3), encoder_hidden_states=text).sample
        return output.chunk(3)


def timed(work: Callable[[], list[Prepared]]) -> tuple[float, list[Prepared]]:
    """Seconds of a call, and what it returns."""
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    begin = clock()
    result = work()  # it ends on the CPU, so that nothing is still running on a GPU
    return clock() - begin, result


def distance(one: Sequence[Prepared], other: Sequence[Prepared]) -> float:
    """Largest relative L2 distance between embeddings of the same exemplars."""
    pairs = [(a["embedding"], b["embedding"]) for a, b in zip(one, other, strict=True)]
    return max(float((a - b).norm() / a.norm()) for a, b in pairs)


def least_psnr(
    editor: VISII, exemplars: Sequence[Exemplar], one: Sequence[Prepared], other: Sequence[Prepared]
) -> float:
    """Of the exemplars' images before, edited by either's embeddings with the same noise, in dB."""
    edits = []
    for prepared in (one, other):
        given = [
            EditRequest(e.before, e, p, None, None, None, None, e.seed)
            for e, p in zip(exemplars, prepared, strict=True)
        ]
        edits.append([np.asarray(image, float) for image in editor.edit(given)])
    errors = [np.mean((a - b) ** 2) for a, b in zip(*edits, strict=True)]
    return float(10 * np.log10(255**2 / max(max(errors), 1e-12)))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="folder of a run with weights/ and bench/")
    parser.add_argument("--exemplars", type=int, default=8, help="exemplars, and exemplars of one call")
    parser.add_argument("--options", type=stage.config_value, default={}, help="options of the method, as JSON")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    options = {**OPTIONS, "caption_steps": 1, **given.options}
    entry = {"name": "visii", "editor": "baselines.visii", "exemplars": "own", "batch_size": 1, "options": options}
    bench = Bench.load(given.run / "bench")
    editor = load({n: given.run / "weights" / n for n in ("ip2p", "clip")}, options, stage.device(), "prepare")
    pipeline, clip = editor.pipeline, editor.clip
    requests = Requests(bench, parse_method(entry), 0)
    exemplars = [requests.exemplar(name) for name in sorted(requests.fed)[: given.exemplars]]
    starts = [start(pipeline, clip, exemplar, options) for exemplar in exemplars]
    states = [s.generator.get_state() for s in starts]

    def inverted(objective: Objective, batch: int, steps: int = options["steps"]) -> list[Prepared]:
        fresh = [dataclasses.replace(s, generator=_generator(state)) for s, state in zip(starts, states, strict=True)]
        parts: list[list[Start]] = [fresh[first : first + batch] for first in range(0, len(fresh), batch)]
        return [p for part in parts for p in invert(objective, part, 1000, options | {"steps": steps})]

    saving, three = Objective(pipeline, clip, options), ThreeRows(pipeline, clip, options)
    for objective in (saving, three):  # warm-up
        inverted(objective, len(starts), 2)
    official, whole = timed(lambda: inverted(three, 1))
    single, alone = timed(lambda: inverted(saving, 1))
    three_joint, _ = timed(lambda: inverted(three, len(starts)))
    joint, shared = timed(lambda: inverted(saving, len(starts)))
    count = len(starts)
    alike = least_psnr(editor, exemplars, alone, shared)
    lines = [
        f"{count} exemplars, {options['steps']} steps each; seconds an exemplar: as the official script "
        f"{official / count:.2f}, gradient through the text row alone {single / count:.2f}, {count} a call "
        f"{joint / count:.2f}",
        *(
            f"{queries} queries an exemplar: reuse and saving {queries * official / single:.2f}x, with {count} a call "
            f"{queries * official / joint:.2f}x"
            for queries in QUERIES
        ),
        f"saving alone {official / single:.2f}x, with {count} a call {three_joint / joint:.2f}x; {count} exemplars a "
        f"call alone {single / joint:.2f}x",
        f"largest relative L2 distance of embeddings: saving {distance(whole, alone):.1e}, {count} a call "
        f"{distance(alone, shared):.1e}; edits by the latter at least {alike:.1f} dB alike",
    ]
    sys.stdout.write("\n".join(lines) + "\n")


def _generator(state: Tensor) -> torch.Generator:
    generator = torch.Generator("cpu")
    generator.set_state(state)
    return generator


if __name__ == "__main__":
    stage.run(main)
