"""Preparation: what a method computes from an exemplar alone, once an exemplar, stored for all seeds and samples."""

from pathlib import Path

from editclip import stage
from editclip.editing import Exemplar, JointPreparer, Preparer
from editclip.editing.joint import Maker, make_missing
from editclip.editing.stored import PREPARED, Undone
from editclip.editing.work import Work, refuse_failed_samples


def _maker(preparer: Preparer) -> Maker[Exemplar]:
    if isinstance(preparer, JointPreparer):
        return Maker(preparer.prepare, preparer.prepare_many, preparer.prepare_batch_size)
    return Maker(preparer.prepare)


def prepare(work: Work, shard: tuple[int, int], out: Path) -> None:
    """Prepare this shard's exemplars into `out`: `<exemplar_id>.safetensors` and prepared.csv.

    An exemplar for which `Preparer.prepare` returns nothing has a row without a file.

    Raises:
        InputError: the method has no such stage, or the exemplars that failed take more than 1 % of the benchmark's
            samples with them.
    """
    work.method.check_stage("prepare")
    requests, finished = work.requests, work.finished(PREPARED.name, work.card())
    wanted = sorted(set(requests.fed.values()))
    keys = {exemplar_id: requests.exemplar_key(exemplar_id) for exemplar_id in stage.part(wanted, shard)}
    failed: dict[str, str] = {}
    if any(finished.get(key) is None for key in keys.values()):
        maker = _maker(work.preparer)
        # Which exemplars are prepared together is fixed by the shards, so that a run that was broken off ends with the
        # same bits. A shuffled control starts at the last batch: if it runs beside its own method, which shares the
        # cache, each then computes one half.
        batches = maker.batches(keys)[:: -1 if work.method.shuffled else 1]
        failed = make_missing(maker, requests.exemplar, batches, finished, f"{work.method.name}: prepare")
    stopped = {s.sample_id: failed[e] for s in work.bench.samples if (e := requests.fed[s.exemplar_id]) in failed}
    refuse_failed_samples(stopped, work.bench, work.method.name)
    found = {e: finished.get(key) or Undone("failed", failed[e]) for e, key in keys.items()}
    PREPARED.write(out, found)
