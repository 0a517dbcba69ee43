r"""Seconds per edit: one image at a time, with nothing else on the machine, its exemplar's preparation included.

    python -m editclip.editing.runtime --method '{…}' --bench DIR --weights NAME=DIR … --base-seed N \
        --samples N --warm-up N --repeats N --out DIR

The seconds beside the edits are an image's share of a batch that other jobs may have run beside; these are made to be
compared between methods. The cache of finished edits is neither read nor filled. Every edit is repeated, because
machines are not always equally fast, and the machine's load stands beside it: above its cores, jobs waited for them.
"""

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editclip import stage
from editclip.data.bench import Bench, Sample
from editclip.editing import Editor
from editclip.editing.cards import parse_method
from editclip.editing.requests import Requests
from editclip.editing.work import Row, Work, reason, write_rows

if TYPE_CHECKING:
    import torch

LOG = logging.getLogger(__name__)
COLUMNS = ("sample_id", "repeat", "exemplar_queries", "prepare_seconds", "edit_seconds", "load", "cores", "status",
           "reason")  # fmt: skip


def measure(work: Work, samples: int, warm_up: int, repeats: int, out: Path) -> None:
    """Time the edits of `samples` samples, spread evenly over the benchmark, into `out`: runtime.csv.

    `prepare_seconds` is the time of `Editor.prepare` on the sample's exemplar (0 for a method that sees none),
    `edit_seconds` that of `Editor.edit` on the sample alone, both until the device is idle; `exemplar_queries` is the
    number of the benchmark's samples that share the exemplar; `load` is the load average of the minute before,
    this job included, and `cores` are the machine's. Loading the method and reading images are not counted.

    Args:
        work: method and benchmark.
        samples: to time; all that the benchmark has, when it has fewer.
        warm_up: edits before them that are not counted: the first ones allocate memory and choose kernels.
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
    """The rows of the samples, edited one after the other by one loaded editor."""
    editor = work.editor
    queries = Counter(sample.exemplar_id for sample in work.bench.samples)
    rows = []
    for sample in samples:
        row: Row = dict.fromkeys(COLUMNS, "")
        row |= {"sample_id": sample.sample_id, "exemplar_queries": queries[sample.exemplar_id], "status": "ok"}
        try:
            row |= _seconds(work, requests, editor, sample)
        except Exception as error:  # as in the edits stage, a failure concerns this sample alone
            LOG.warning("%s: sample %s failed", work.method.name, sample.sample_id, exc_info=True)
            row |= {"status": "failed", "reason": reason(error)}
        row["load"] = round(os.getloadavg()[0], 2)
        rows.append(row)
    return rows


def _seconds(work: Work, requests: Requests, editor: Editor, sample: Sample) -> dict[str, float]:
    """Time to prepare the sample's exemplar and to edit it."""
    prepared: Mapping[str, torch.Tensor] = {}
    preparing = 0.0
    if "exemplar" in work.method.card.needs:
        exemplar = requests.exemplar(requests.fed[sample.exemplar_id])
        prepared, preparing = _clocked(lambda: editor.prepare(exemplar), work.device)
    request = requests.request(sample, {name: tensor.detach().cpu() for name, tensor in prepared.items()}, seed=0)
    _, editing = _clocked(lambda: editor.edit([request]), work.device)
    return {"prepare_seconds": round(preparing, 6), "edit_seconds": round(editing, 6)}


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
    given = parser.parse_args()
    stage.use_threads(given.threads)
    method, bench = parse_method(given.method), Bench.load(given.bench)
    work = Work(method, bench, dict(given.weights), given.base_seed, stage.device())
    inputs = {"bench": given.bench, **method.weights(work.weights)}
    config = {name: getattr(given, name) for name in ("method", "samples", "warm_up", "repeats")}
    facts: dict[str, Any] = {"module": "editclip.editing.runtime", "method": work.code()}
    facts |= {"threads": given.threads, "force": given.force}
    with stage.output_folder(given.out, config=config, inputs=inputs, **facts) as folder:
        measure(work, given.samples, given.warm_up, given.repeats, folder)


if __name__ == "__main__":
    stage.run(main)
