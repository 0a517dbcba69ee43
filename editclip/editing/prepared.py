"""Preparation: what a method computes from an exemplar alone, once an exemplar, stored for all seeds and samples."""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from editclip import stage
from editclip.editing import Exemplar, JointPreparer, Preparer
from editclip.editing.stored import PREPARED, Undone
from editclip.editing.work import Work, reason, refuse_failed_samples

if TYPE_CHECKING:
    import torch

LOG = logging.getLogger(__name__)


def _attempt(preparer: Preparer, exemplars: "Sequence[Exemplar]") -> "list[Mapping[str, torch.Tensor] | Exception]":
    """Tensors or an exception for each exemplar; those that fail together are tried again one by one."""
    try:
        if len(exemplars) == 1 or not isinstance(preparer, JointPreparer):
            return [preparer.prepare(exemplar) for exemplar in exemplars]
        prepared = preparer.prepare_many(exemplars)
        if len(prepared) != len(exemplars):
            raise ValueError(f"the method prepared {len(prepared)} of {len(exemplars)} exemplars")
        return list(prepared)
    except Exception as error:  # whatever a method raises is its failure on these exemplars alone
        LOG.warning("preparing %s failed", ", ".join(e.exemplar_id for e in exemplars), exc_info=True)
        if len(exemplars) == 1:
            return [error]
    return [outcome for exemplar in exemplars for outcome in _attempt(preparer, [exemplar])]


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
        preparer = work.preparer
        # Which exemplars are prepared together is fixed by the shards, so that a run that was broken off ends with the
        # same bits. A shuffled control starts at the last batch: if it runs beside its own method, which shares the
        # cache, each then computes one half.
        size = preparer.prepare_batch_size if isinstance(preparer, JointPreparer) else 1
        batches = [list(keys)[first : first + size] for first in range(0, len(keys), size)]
        for batch in tqdm(batches[:: -1 if work.method.shuffled else 1], desc=f"{work.method.name}: prepare"):
            if all(finished.get(keys[exemplar_id]) for exemplar_id in batch):
                continue
            start = time.monotonic()
            outcomes = _attempt(preparer, [requests.exemplar(exemplar_id) for exemplar_id in batch])
            seconds = (time.monotonic() - start) / len(batch)
            for exemplar_id, outcome in zip(batch, outcomes, strict=True):
                if isinstance(outcome, Exception):
                    failed[exemplar_id] = reason(outcome)
                elif finished.get(keys[exemplar_id]) is None:  # else another job was faster: what it made is in use
                    finished.put_tensors(keys[exemplar_id], outcome, seconds)
    stopped = {s.sample_id: failed[e] for s in work.bench.samples if (e := requests.fed[s.exemplar_id]) in failed}
    refuse_failed_samples(stopped, work.bench, work.method.name)
    found = {e: finished.get(key) or Undone("failed", failed[e]) for e, key in keys.items()}
    PREPARED.write(out, found)
