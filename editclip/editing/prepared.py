"""Preparation: what a method computes from an exemplar alone, once an exemplar, stored for all seeds and samples."""

import functools
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from editclip import stage
from editclip.editing import Editor, Exemplar, JointEditor
from editclip.editing.work import Row, Work, place, read_rows, reason, refuse_failed_samples, write_rows
from editclip.errors import InputError

if TYPE_CHECKING:
    import torch

LOG = logging.getLogger(__name__)
COLUMNS = ("exemplar_id", "file", "sha256", "seconds", "status", "reason")


def _attempt(editor: Editor, exemplars: "Sequence[Exemplar]") -> "list[Mapping[str, torch.Tensor] | Exception]":
    """Tensors or an exception for each exemplar; those that fail together are tried again one by one."""
    try:
        if len(exemplars) == 1 or not isinstance(editor, JointEditor):
            return [editor.prepare(exemplar) for exemplar in exemplars]
        prepared = editor.prepare_many(exemplars)
        if len(prepared) != len(exemplars):
            raise ValueError(f"the method prepared {len(prepared)} of {len(exemplars)} exemplars")
        return list(prepared)
    except Exception as error:  # whatever a method raises is its failure on these exemplars alone
        LOG.warning("preparing %s failed", ", ".join(e.exemplar_id for e in exemplars), exc_info=True)
        if len(exemplars) == 1:
            return [error]
    return [outcome for exemplar in exemplars for outcome in _attempt(editor, [exemplar])]


def prepare(work: Work, shard: tuple[int, int], out: Path) -> None:
    """Prepare this shard's exemplars into `out`: `<exemplar_id>.safetensors` and prepared.csv.

    A method that does not need exemplars gets a table without rows; an exemplar for which `Editor.prepare` returns
    nothing has a row without a file.

    Raises:
        InputError: the exemplars that failed take more than 1 % of the benchmark's samples with them.
    """
    requests, finished = work.requests, work.finished("prepared", work.card())
    wanted = sorted(set(requests.fed.values())) if "exemplar" in work.method.card.needs else []
    keys = {exemplar_id: requests.exemplar_key(exemplar_id) for exemplar_id in stage.part(wanted, shard)}
    failed: dict[str, str] = {}
    if any(finished.get(key) is None for key in keys.values()):
        editor = work.editor
        # Which exemplars are prepared together is fixed by the shards, so that a run that was broken off ends with the
        # same bits. A shuffled control starts at the last batch: if it runs beside its own method, which shares the
        # cache, each then computes one half.
        size = editor.prepare_batch_size if isinstance(editor, JointEditor) else 1
        batches = [list(keys)[first : first + size] for first in range(0, len(keys), size)]
        for batch in tqdm(batches[:: -1 if work.method.shuffled else 1], desc=f"{work.method.name}: prepare"):
            if all(finished.get(keys[exemplar_id]) for exemplar_id in batch):
                continue
            start = time.monotonic()
            outcomes = _attempt(editor, [requests.exemplar(exemplar_id) for exemplar_id in batch])
            seconds = (time.monotonic() - start) / len(batch)
            for exemplar_id, outcome in zip(batch, outcomes, strict=True):
                if isinstance(outcome, Exception):
                    failed[exemplar_id] = reason(outcome)
                elif finished.get(keys[exemplar_id]) is None:  # else another job was faster: what it made is in use
                    finished.put_tensors(keys[exemplar_id], outcome, seconds)
    stopped = {s.sample_id: failed[e] for s in work.bench.samples if (e := requests.fed[s.exemplar_id]) in failed}
    refuse_failed_samples(stopped, work.bench, work.method.name)
    rows = []
    for exemplar_id, key in keys.items():
        row: Row = dict.fromkeys(COLUMNS, "") | {"exemplar_id": exemplar_id}
        done = finished.get(key)
        if done is None:
            row |= {"status": "failed", "reason": failed[exemplar_id]}
        else:
            row |= {"sha256": done.sha256, "seconds": done.seconds, "status": "ok"}
        if done is not None and done.file is not None:
            row["file"] = f"{exemplar_id}.safetensors"
            place(done.file, out / row["file"])
        rows.append(row)
    write_rows(out / "prepared.csv", COLUMNS, rows)


def read_prepared(folders: Sequence[Path]) -> dict[str, Row]:
    """Rows of the prepared.csv files by exemplar_id, with `file` made a path (or "").

    Raises:
        InputError: a table is missing, or an exemplar stands in two of them.
    """
    result: dict[str, Row] = {}
    for folder in folders:
        for row in read_rows(folder / "prepared.csv"):
            if row["exemplar_id"] in result:
                raise InputError(f"{folder / 'prepared.csv'} repeats exemplar {row['exemplar_id']}: give a shard once")
            result[row["exemplar_id"]] = row | {"file": folder / row["file"] if row["file"] else ""}
    return result


def load_prepared(row: Row | None) -> "Mapping[str, torch.Tensor]":
    """The tensors of one row of `read_prepared`, the same each time; none where nothing was prepared."""
    return dict(_tensors(row["file"], row["sha256"])) if row is not None and row["file"] else {}


@functools.lru_cache(maxsize=1024)  # mapped files, whose pages the system drops when it needs the memory
def _tensors(file: Path, sha256: str) -> "Mapping[str, torch.Tensor]":
    """The tensors in a file, read once for all samples and seeds as long as its digest stays."""
    from safetensors.torch import load_file

    return load_file(file)
