r"""Seconds per edit: one image at a time, with nothing else on the machine, preparation and plan included.

    python -m editclip.editing.runtime --method '{…}' --bench DIR --weights NAME=DIR … --base-seed N \
        --samples N --warm-up N --repeats N --out DIR

The seconds beside the edits are an image's share of a batch that other jobs may have run beside; these are made to be
compared between methods. One stage of the method is timed after the other, so that models which need not be in memory
together are not. The cache of finished edits is neither read nor filled. Every edit is repeated, because
machines are not always equally fast, and the machine's load stands beside it: above its cores, jobs waited for them.
"""

import functools
import gc
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editclip import stage
from editclip.data import families
from editclip.data.bench import Bench, Sample
from editclip.editing.cards import STAGES, parse_method
from editclip.editing.requests import Requests
from editclip.editing.work import Row, Work, reason, write_rows

if TYPE_CHECKING:
    import torch

LOG = logging.getLogger(__name__)
COLUMNS = ("sample_id", "repeat", "exemplar_queries", "prepare_seconds", "plan_seconds", "edit_seconds", "load",
           "cores", "status", "reason")  # fmt: skip


@dataclass
class Trial:
    """One timed sample: its row, and the tensors that the stages so far left, by stage."""

    sample: Sample
    row: Row
    left: "dict[str, dict[str, torch.Tensor]]" = field(default_factory=dict)


def measure(work: Work, samples: int, warm_up: int, repeats: int, out: Path) -> None:
    """Time the edits of `samples` samples, spread evenly over the benchmark, into `out`: runtime.csv.

    `prepare_seconds` is the time of `prepare` on the sample's exemplar, `plan_seconds` that of `plan` on the sample
    (both 0 for a method without that stage), `edit_seconds` that of `edit` on the sample alone, all until the device is
    idle; `exemplar_queries` is the number of the benchmark's samples that share the exemplar; `load` is the load
    average of the minute before a stage's end, the highest of them, this job included, and `cores` are the machine's.
    Loading the method and reading images are not counted.

    Args:
        work: method and benchmark.
        samples: to time; all that the benchmark has, when it has fewer.
        warm_up: calls of each stage before them that are not counted: the first allocate memory and choose kernels.
        repeats: how often all samples are edited, one round after the other.
        out: folder to fill.
    """
    requests = work.requests
    possible = [sample for sample in work.bench.samples if not requests.missing(sample)]
    count = min(samples, len(possible))
    chosen = [possible[index * len(possible) // count] for index in range(count)]
    rows = _timed(work, requests, [*chosen[:1] * warm_up, *chosen * repeats])[warm_up:] if chosen else []
    for number, row in enumerate(rows):
        row |= {"repeat": number // count, "cores": os.cpu_count()}
    write_rows(out / "runtime.csv", COLUMNS, rows)


def _timed(work: Work, requests: Requests, samples: Sequence[Sample]) -> list[Row]:
    """The rows of the samples, taken one after the other through each stage."""
    queries, stages = Counter(sample.exemplar_id for sample in work.bench.samples), work.method.card.stages
    spared = {f"{name}_seconds": 0.0 for name in STAGES if name not in stages}
    trials = []
    for sample in samples:
        row: Row = dict.fromkeys(COLUMNS, "") | spared | {"load": 0.0}
        row |= {"sample_id": sample.sample_id, "exemplar_queries": queries[sample.exemplar_id], "status": "ok"}
        trials.append(Trial(sample, row))
    for name in stages:
        _time_stage(work, requests, name, trials)
        gc.collect()  # models are full of cycles, and the next stage needs the memory
    return [trial.row for trial in trials]


def _time_stage(work: Work, requests: Requests, name: str, trials: Sequence[Trial]) -> None:
    """Time one stage of the samples that have not failed before."""
    loaded = work.method.load(work.weights, work.device, name)
    for trial in trials:
        row = trial.row
        if row["status"] == "failed":
            continue
        call = functools.partial(getattr(loaded, name), _given(requests, name, trial))
        try:
            made, seconds = _clocked(call, work.device)
            if name != "edit":
                trial.left[name] = {key: tensor.detach().cpu() for key, tensor in made.items()}
            row[f"{name}_seconds"] = round(seconds, 6)
        except Exception as error:  # as in the edits stage, a failure concerns this sample alone
            LOG.warning("%s: sample %s failed", work.method.name, trial.sample.sample_id, exc_info=True)
            row |= {"status": "failed", "reason": reason(error)}
        row["load"] = max(row["load"], round(os.getloadavg()[0], 2))


def _given(requests: Requests, name: str, trial: Trial) -> Any:
    """What a stage is called with."""
    if name == "prepare":
        return requests.exemplar(requests.fed[trial.sample.exemplar_id])
    prepared, planned = (trial.left.get(earlier, {}) for earlier in ("prepare", "plan"))
    if name == "plan":
        return requests.request(trial.sample, prepared, None)
    return [requests.request(trial.sample, prepared, 0, planned)]


def _clocked(call: Callable[[], Any], device: str) -> tuple[Any, float]:
    """What `call` returns, and the seconds until the device has done all of it."""
    _wait_for(device)
    start = time.perf_counter()
    result = call()
    _wait_for(device)
    return result, time.perf_counter() - start


def _wait_for(device: str) -> None:
    """Return when the device is idle: a GPU works on after the call that asked it to."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def main() -> None:
    """Command line of this stage."""
    parser = stage.parser(__doc__)
    parser.add_argument("--method", type=stage.config_value, required=True, help="method entry of the config")
    parser.add_argument("--bench", type=Path, required=True, help="folder with manifest.csv and frames")
    parser.add_argument("--weights", type=stage.weights_argument, nargs="*", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--base-seed", type=int, required=True, help="the run's seed")
    parser.add_argument("--samples", type=int, required=True, help="samples to time, spread over the bench")
    parser.add_argument("--warm-up", type=int, required=True, help="edits before them that are not counted")
    parser.add_argument("--repeats", type=int, required=True, help="how often each of them is timed")
    families.add_argument(parser)
    given = parser.parse_args()
    stage.use_threads(given.threads)
    method, bench = parse_method(given.method), Bench.load(given.bench, given.families)
    work = Work(method, bench, dict(given.weights), given.base_seed, stage.device())
    inputs = {"bench": given.bench, **method.weights(work.weights)}
    config = {name: getattr(given, name) for name in ("method", "samples", "warm_up", "repeats")}
    facts: dict[str, Any] = {"module": "editclip.editing.runtime", "method": work.code()}
    facts |= {"threads": given.threads, "force": given.force}
    with stage.output_folder(given.out, config=config, inputs=inputs, **facts) as folder:
        measure(work, given.samples, given.warm_up, given.repeats, folder)


if __name__ == "__main__":
    stage.run(main)
