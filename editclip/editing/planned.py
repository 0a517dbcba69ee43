"""Planning: what a method's planning model makes of a sample, once a sample, stored for all seeds.

A plan belongs to a sample and not to a sample and seed. The seeds of a run repeat the noise of an image; a planning
model, such as a language model that decodes greedily, is the costlier one and has none, so that planning anew for each
repetition would give the same tensors. One that draws has the seed of the request, which is the sample's.
"""

from collections.abc import Sequence
from pathlib import Path

from editclip.editing import EditRequest, JointPlanner, Planner
from editclip.editing.items import distinct, fail, failures, items
from editclip.editing.joint import Maker, make_missing
from editclip.editing.stored import PLANNED, PREPARED, Undone
from editclip.editing.work import Work, refuse_failed_samples


def _maker(planner: Planner) -> Maker[EditRequest]:
    if isinstance(planner, JointPlanner):
        return Maker(planner.plan, planner.plan_many, planner.plan_batch_size)
    return Maker(planner.plan)


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
    ready = {item.sample.sample_id: item for item in distinct([item for item in found if item.status == "ok"])}
    if any(finished.get(item.key) is None for item in ready.values()):
        maker = _maker(work.planner)
        # As in `prepare`, which samples are planned together does not depend on what the cache holds.
        batches = maker.batches({sample_id: item.key for sample_id, item in ready.items()})
        failed = make_missing(
            maker, lambda name: ready[name].request(requests), batches, finished, f"{work.method.name}: plan"
        )
        fail(found, {ready[sample_id].key: reason for sample_id, reason in failed.items()})
    refuse_failed_samples(failures(found), work.bench, work.method.name)
    done = {item.key: finished.get(item.key) for item in found if item.status == "ok"}
    PLANNED.write(out, {i.sample.sample_id: done.get(i.key) or Undone(i.status, i.reason) for i in found})
