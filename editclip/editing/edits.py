r"""The edits stage: one method on one benchmark, in shards, all repetitions of a shard in one process.

    python -m editclip.editing.edits prepare --method '{…}' --bench DIR --weights NAME=DIR … --base-seed N \
        --shard 0-of-4 --out DIR
    python -m editclip.editing.edits plan --method '{…}' --bench DIR --weights NAME=DIR … --base-seed N \
        --shard 0-of-4 --prepared DIR … --out DIR
    python -m editclip.editing.edits edit --method '{…}' --bench DIR --weights NAME=DIR … --base-seed N --shard 0-of-4 \
        --prepared DIR … --planned DIR … --seeds 0 1 2 --out DIR
    python -m editclip.editing.edits gather --bench DIR --shards DIR … --out DIR

The first two are for methods whose card names these stages. Each finished exemplar, plan and image is kept in the
content-keyed cache, so that an interrupted stage repeats none of them. One that fails is recorded with its reason and
the others go on; when more than 1 % of the benchmark's samples have failed, the stage stops without output and lists
them. Started again, it tries the failed ones alone; a failed exemplar that is prepared together with others is tried
again with its whole batch.
"""

import argparse
import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from editclip import stage
from editclip.data import families
from editclip.data.bench import Bench
from editclip.editing import Editor, EditRequest
from editclip.editing.cards import STAGES, parse_method
from editclip.editing.items import Item, distinct, fail, failures, items
from editclip.editing.outputs import refuse_unusable
from editclip.editing.planned import plan
from editclip.editing.prepared import prepare
from editclip.editing.requests import Requests
from editclip.editing.stored import PLANNED, PREPARED
from editclip.editing.work import (
    Finished,
    Row,
    Work,
    place,
    read_rows,
    reason,
    refuse_failed_samples,
    write_rows,
)
from editclip.errors import InputError
from editclip.storage import write_json

if TYPE_CHECKING:
    from PIL.Image import Image

LOG = logging.getLogger(__name__)
COLUMNS = ("sample_id", "seed", "file", "sha256", "native_size", "seconds", "status", "reason")


def _attempt(editor: Editor, requests: Sequence[EditRequest]) -> "list[Image | Exception]":
    """An image or an exception for each request; a batch that fails is tried again one by one."""
    try:
        images = editor.edit(requests)
        refuse_unusable(images, requests)
        return list(images)
    except Exception as error:  # whatever a method raises is its failure on these requests alone
        LOG.warning("a batch of %d failed", len(requests), exc_info=True)
        if len(requests) == 1:
            return [error]
    return [outcome for request in requests for outcome in _attempt(editor, [request])]


def _edit_items(work: Work, requests: Requests, found: Sequence[Item], finished: Finished) -> None:
    """Edit what is neither decided nor cached, batch by batch; images go to the cache, failures to the items."""
    todo = distinct([item for item in found if item.status == "ok" and finished.get(item.key) is None])
    if not todo:
        return
    editor, size = work.editor, work.method.batch_size
    failed: dict[str, str] = {}
    total = len(distinct(found))
    with tqdm(total=total, initial=total - len(todo), desc=work.method.name, unit="image") as bar:
        for batch in (todo[first : first + size] for first in range(0, len(todo), size)):
            asked = [item.request(requests) for item in batch]
            start = time.monotonic()
            outcomes = _attempt(editor, asked)
            seconds = (time.monotonic() - start) / len(batch)
            for item, outcome in zip(batch, outcomes, strict=True):
                if isinstance(outcome, Exception):
                    failed[item.key] = reason(outcome)
                else:
                    finished.put_image(item.key, outcome, seconds)
            bar.update(len(batch))
    fail(found, failed)


def edit(
    work: Work, prepared: Sequence[Path], planned: Sequence[Path], seed: int, shard: tuple[int, int], out: Path
) -> None:
    """Edit this shard's samples into `out`: `<sample_id>.png`, edits.csv, method.json and, if shuffled, exemplars.csv.

    Args:
        work: method and benchmark.
        prepared: folders written by `prepare`, if the method has that stage, that together hold every exemplar.
        planned: folders written by `plan`, if the method has that stage, that together hold the shard's samples.
        seed: number of the repetition.
        shard: (k, n), the k-th of n, counted from 0.
        out: folder to fill.

    Raises:
        InputError: an exemplar was not prepared, a sample not planned, or more than 1 % of the benchmark's samples
            failed.
    """
    card, requests = work.card(), work.requests
    finished = work.finished("edits", card)
    found = items(work, requests, shard, seed, PREPARED.read(prepared), PLANNED.read(planned))
    _edit_items(work, requests, found, finished)
    refuse_failed_samples(failures(found), work.bench, work.method.name)
    write_rows(out / "edits.csv", COLUMNS, [_row(item, card["native_size"], finished, out) for item in found])
    write_json(out / "method.json", card)
    if work.method.shuffled:
        fed = [{"exemplar_id": own, "fed_exemplar_id": other} for own, other in requests.fed.items()]
        write_rows(out / "exemplars.csv", ("exemplar_id", "fed_exemplar_id"), fed)


def _row(item: Item, native_size: int, finished: Finished, out: Path) -> Row:
    """The item's row of edits.csv; its image, if there is one, is put into `out`."""
    row: Row = dict.fromkeys(COLUMNS, "")
    row |= {"sample_id": item.sample.sample_id, "seed": item.seed, "native_size": native_size}
    row |= {"status": item.status, "reason": item.reason}
    if item.status == "ok" and (done := finished.get(item.key)) is not None and done.file is not None:
        row |= {"file": f"{item.sample.sample_id}.png", "sha256": done.sha256, "seconds": done.seconds}
        place(done.file, out / row["file"])
    return row


def gather(bench: Bench, shards: Sequence[Path], out: Path) -> None:
    """Join the shards of one method and seed into `out`, rows in the benchmark's order.

    Raises:
        InputError: shards are of different methods or seeds, a sample is missing, repeated or unknown, or more than
            1 % failed.
    """
    rows: dict[str, Row] = {}
    card = (shards[0] / "method.json").read_text(encoding="utf-8")
    for folder in shards:
        if (folder / "method.json").read_text(encoding="utf-8") != card:
            raise InputError(f"{folder} and {shards[0]} are of different methods: gather the shards of one")
        for row in read_rows(folder / "edits.csv"):
            if row["sample_id"] in rows:
                raise InputError(f"{folder / 'edits.csv'} repeats sample {row['sample_id']}: give each shard once")
            if rows and row["seed"] != next(iter(rows.values()))["seed"]:
                raise InputError(f"{folder / 'edits.csv'} is of another seed than {shards[0]}: gather one seed")
            rows[row["sample_id"]] = row
            if row["file"]:
                place(folder / row["file"], out / row["file"])
    wanted = [sample.sample_id for sample in bench.samples]
    if missing := [sample_id for sample_id in wanted if sample_id not in rows]:
        raise InputError(f"no shard has sample {missing[0]} ({len(missing)} missing in all): give every shard")
    if unknown := rows.keys() - set(wanted):
        raise InputError(f"the shards have sample {min(unknown)}, which the benchmark lacks: edit this benchmark")
    failed = {sample_id: row["reason"] for sample_id, row in rows.items() if row["status"] == "failed"}
    refuse_failed_samples(failed, bench, json.loads(card)["name"], f"remove {', '.join(map(str, shards))}")
    write_rows(out / "edits.csv", COLUMNS, [rows[sample_id] for sample_id in wanted])
    for name in ("method.json", "exemplars.csv"):
        if (shards[0] / name).is_file():
            place(shards[0] / name, out / name)


def seeds_of(shards: Sequence[Path]) -> list[str]:
    """Names of the folders seed=<s> that all shards have, sorted.

    Raises:
        InputError: one has other seeds than the first, or none.
    """
    first, *others = ({path.name for path in shard.glob("seed=*")} for shard in shards)
    for shard, names in zip(shards[1:], others, strict=True):
        if names != first:
            raise InputError(f"{shard} and {shards[0]} have different seeds: edit every shard with the same")
    if not first:
        raise InputError(f"{shards[0]} has no folder seed=<s>: give folders written by edit")
    return sorted(first)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in (*STAGES, "gather"):
        command = commands.add_parser(name, parents=[stage.parser(None)], conflict_handler="resolve")
        command.add_argument("--bench", type=Path, required=True, help="folder with manifest.csv and frames")
        families.add_argument(command)
        if name == "gather":
            command.add_argument("--shards", type=Path, nargs="+", required=True, help="folders written by edit")
            continue
        command.add_argument("--method", type=stage.config_value, required=True, help="method entry of the config")
        command.add_argument("--weights", type=stage.weights_argument, nargs="*", default=[], metavar="NAME=FOLDER")
        command.add_argument("--base-seed", type=int, required=True, help="the run's seed")
        shard = "the part of the samples, or of the exemplars (default: 0-of-1)"
        command.add_argument("--shard", type=stage.shard_argument, default=(0, 1), metavar="K-of-N", help=shard)
        if name != "prepare":
            command.add_argument("--prepared", type=Path, nargs="*", default=[], help="folders written by prepare")
        if name == "edit":
            command.add_argument("--planned", type=Path, nargs="*", default=[], help="folders written by plan")
            seeds = "numbers of the repetitions, a folder seed=<s> each"
            command.add_argument("--seeds", type=int, nargs="+", required=True, help=seeds)
    return parser.parse_args()


def main() -> None:
    """Command line of this stage."""
    given = _arguments()
    inputs: dict[str, Path] = {"bench": given.bench}
    facts: dict[str, Any] = {"module": "editclip.editing.edits", "threads": given.threads, "force": given.force}
    bench = Bench.load(given.bench, given.families)
    if given.command == "gather":
        inputs |= {f"shard {number}": folder for number, folder in enumerate(given.shards, 1)}
        with stage.output_folder(given.out, config=None, inputs=inputs, **facts) as folder:
            for seed in seeds_of(given.shards):
                (folder / seed).mkdir()
                gather(bench, [shard / seed for shard in given.shards], folder / seed)
        return
    stage.use_threads(given.threads)
    method = parse_method(given.method)
    work = Work(method, bench, dict(given.weights), given.base_seed, stage.device())
    inputs |= method.weights(work.weights)
    for name in (PREPARED.name, PLANNED.name):
        inputs |= {f"{name} {number}": folder for number, folder in enumerate(getattr(given, name, ()), 1)}
    if given.command == "edit" and len(set(given.seeds)) < len(given.seeds):
        raise InputError(f"--seeds {' '.join(map(str, given.seeds))} names one twice: give each once")
    with stage.output_folder(given.out, config=given.method, inputs=inputs, method=work.code(), **facts) as folder:
        if given.command == "prepare":
            prepare(work, given.shard, folder)
        elif given.command == "plan":
            plan(work, given.prepared, given.shard, folder)
        else:
            for seed in given.seeds:
                (folder / f"seed={seed}").mkdir()
                edit(work, given.prepared, given.planned, seed, given.shard, folder / f"seed={seed}")


if __name__ == "__main__":
    stage.run(main)
