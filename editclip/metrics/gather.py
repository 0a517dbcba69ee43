"""Join the scores of a method's shards into the very files that one job would write for the whole benchmark.

    python -m editclip.metrics.gather --bench DIR --shards DIR … --out DIR

Each shard's folder is one that `editclip.metrics.scoring --shard K-of-N` wrote; rows take the benchmark's order.
"""

import csv
import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from editclip import stage
from editclip.data import families
from editclip.data.bench import Bench
from editclip.errors import InputError
from editclip.failures import refuse_failures
from editclip.metrics.families import FAMILIES

Row = dict[str, str]


def gather(shards: Sequence[Path], bench: Bench, out: Path) -> None:
    """Write the scores of one family, `seed=<s>.csv` for each seed, and its `card.json`.

    Args:
        shards: the family's folder of every shard.
        bench: the benchmark.
        out: where they go.

    Raises:
        InputError: a shard has no scores or was scored otherwise than the first, a sample is missing, repeated or
            unknown, or more than 1 % failed.
    """
    rows = {name: _joined([shard / name for shard in shards], bench) for name in _alike(shards)}
    every = [(name.removesuffix(".csv"), row) for name, group in rows.items() for row in group]
    method, *others = dict.fromkeys(row["method"] for _, row in every)
    if others:
        raise InputError(f"{shards[0]} and another shard are of {method} and {others[0]}: gather the shards of one")
    failed = {f"{row['sample_id']} {seed}": row["reason"] for seed, row in every if row["status"] == "failed"}
    refuse_failures(failed, len(bench.samples) * len(rows), method, "edit them again")
    for name, group in rows.items():
        with (out / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(group[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(group)
    shutil.copyfile(shards[0] / "card.json", out / "card.json")


def _alike(shards: Sequence[Path]) -> list[str]:
    """Names of the tables `seed=<s>.csv`, which all shards have, under one card."""
    for shard in shards:
        if not (shard / "card.json").is_file() or not list(shard.glob("seed=*.csv")):
            raise InputError(f"{shard} has no card.json with seed=<s>.csv: score this shard first")
    card, *cards = ((shard / "card.json").read_bytes() for shard in shards)
    names, *others = (sorted(path.name for path in shard.glob("seed=*.csv")) for shard in shards)
    for shard, *found in zip(shards[1:], cards, others, strict=True):
        if found != [card, names]:
            raise InputError(f"{shard} and {shards[0]} have different cards or seeds: score every shard with the same")
    return names


def _joined(tables: Sequence[Path], bench: Bench) -> list[Row]:
    """Rows of all shards' tables of one seed, in the benchmark's order."""
    of_sample: dict[str, list[Row]] = {sample.sample_id: [] for sample in bench.samples}
    for table in tables:
        with table.open(newline="", encoding="utf-8") as file:
            for sample_id, rows in itertools.groupby(csv.DictReader(file), lambda row: row["sample_id"]):
                if sample_id not in of_sample:
                    raise InputError(f"{table} has sample {sample_id}, which the benchmark lacks: score this benchmark")
                if of_sample[sample_id]:
                    raise InputError(f"{table} repeats sample {sample_id}: give each shard once")
                of_sample[sample_id] = list(rows)
    if missing := [sample_id for sample_id, rows in of_sample.items() if not rows]:
        raise InputError(f"no shard has scores of {missing[0]} ({len(missing)} missing in all): give every shard")
    return [row for rows in of_sample.values() for row in rows]


def main(argv: Sequence[str] | None = None) -> None:
    """The stage: the folders that `editclip.metrics.scoring` writes, out of those of its shards."""
    parser = stage.parser(__doc__)
    parser.add_argument("--bench", type=Path, required=True, help="benchmark folder (manifest.csv)")
    parser.add_argument("--shards", type=Path, nargs="+", required=True, help="the folder of scores of every shard")
    families.add_argument(parser)
    args = parser.parse_args(argv)
    bench = Bench.load(args.bench, args.families)
    for name, source in FAMILIES.items():
        folders = [shard / name for shard in args.shards]
        inputs = {"bench": args.bench} | {f"shard {number}": folder for number, folder in enumerate(folders, 1)}
        # Of the module that scored: these files replace, and are replaced by, those of a job without shards.
        facts: dict[str, Any] = {"module": source.module, "threads": args.threads, "force": args.force}
        with stage.output_folder(args.out / name, config=None, inputs=inputs, **facts) as folder:
            gather(folders, bench, folder)


if __name__ == "__main__":
    stage.run(main)
