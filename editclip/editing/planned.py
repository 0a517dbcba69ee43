"""Planning: what a method's planning model makes of a sample, once a sample, stored for all seeds.

A plan belongs to a sample and not to a sample and seed. The seeds of a run repeat the noise of an image; a planning
model, such as a language model that decodes greedily, is the costlier one and has none, so that planning anew for each
repetition would give the same tensors. One that draws has the seed of the request, which is the sample's.
"""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from editclip.editing.items import failures, items
from editclip.editing.stored import PLANNED, PREPARED, Undone
from editclip.editing.work import Work, reason, refuse_failed_samples

LOG = logging.getLogger(__name__)


def plan(work: Work, prepared: Sequence[Path], shard: tuple[int, int], out: Path) -> None:
    """Plan the edits of this shard's samples into `out`: `<sample_id>.safetensors` and planned.csv.

    Args:
        work: method and benchmark.
        prepared: folders written by `prepare`, if the method has that stage, that together hold every exemplar.
        shard: (k, n), the k-th of n, counted from 0.
        out: folder to fill.

    Raises:
        InputError: the method has no such stage, an exemplar was not prepared, or more than 1 % of the benchmark's
            samples failed.
    """
    work.method.check_stage("plan")
    requests, finished = work.requests, work.finished(PLANNED.name, work.card())
    found = items(work, requests, shard, None, PREPARED.read(prepared), {})
    done = {item.key: finished.get(item.key) for item in found if item.status == "ok"}
    todo = [item for item in found if item.status == "ok" and done[item.key] is None]
    for item in tqdm(todo, desc=f"{work.method.name}: plan", disable=not todo):
        planner, request = work.planner, item.request(requests)
        start = time.monotonic()
        try:
            planned = planner.plan(request)
        except Exception as error:  # whatever a method raises is its failure on this sample alone
            LOG.warning("planning %s failed", item.sample.sample_id, exc_info=True)
            item.status, item.reason = "failed", reason(error)
        else:
            done[item.key] = finished.put_tensors(item.key, planned, time.monotonic() - start)
    refuse_failed_samples(failures(found), work.bench, work.method.name)
    PLANNED.write(out, {i.sample.sample_id: done.get(i.key) or Undone(i.status, i.reason) for i in found})
