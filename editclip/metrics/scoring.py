"""Score the edits of a method by all metric families, in one process: to import the encoders takes longer than a small
benchmark's scores.

What a family has found is kept by seed, under all that decides it, so that a new metric or another seed computes itself
alone, and no encoder is loaded for what is known.
"""

import itertools
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from editclip import stage
from editclip.config.metrics import Metrics
from editclip.config.section import checked
from editclip.data import families
from editclip.data.bench import Bench
from editclip.failures import refuse_failures
from editclip.metrics.families import FAMILIES
from editclip.metrics.scores import Edit, Setting, card, read_edits, score_edits, write_scores
from editclip.provenance import code_digest
from editclip.storage import atomic_folder, cache_folder, path_digest, write_json


def score_family(folder: Path, name: str, setting: Setting, method: str, edits: Mapping[int, Sequence[Edit]]) -> None:
    """Write the scores of one family, `seed=<s>.csv` for each seed, and its `card.json`.

    Args:
        folder: where they go.
        name: the family's, in `FAMILIES`.
        setting: what the family is built from.
        method: name written into the rows.
        edits: of each seed.

    Raises:
        InputError: the setting lacks weights, or an image cannot be read.
    """
    kept = {seed: _kept(name, setting, method, group) for seed, group in edits.items()}
    unknown = {seed: edits[seed] for seed, place in kept.items() if not place.is_dir()}
    if unknown:
        family = FAMILIES[name].build(setting)
        together = [edit for group in unknown.values() for edit in group]  # they share queries and exemplars
        results = iter(score_edits(family, together))
        for seed, group in unknown.items():
            with atomic_folder(kept[seed]) as place:
                write_scores(place / "scores.csv", method, group, list(itertools.islice(results, len(group))))
                write_json(place / "card.json", card(family, setting.bench))
    for seed, place in kept.items():
        shutil.copyfile(place / "scores.csv", folder / f"seed={seed}.csv")
        shutil.copyfile(place / "card.json", folder / "card.json")


def _kept(name: str, setting: Setting, method: str, edits: Sequence[Edit]) -> Path:
    """The folder of the cache for the scores of these edits; it exists only when they are known."""
    source = FAMILIES[name]
    used = {role: path_digest(setting.weight(role)) for role in source.weights}
    told = (setting.config.model_dump(mode="json"), setting.batch_size, setting.device)
    bench = (setting.bench.name, setting.bench.digest, [asdict(sample) for sample in setting.bench.samples])
    found = [(edit.sample.sample_id, edit.sha256, edit.problem) for edit in edits]
    return cache_folder("scores", name, code_digest(source.module), used, told, bench, method, found) / "known"


def main(argv: Sequence[str] | None = None) -> None:
    """The stage: a folder `<family>` of `seed=<s>.csv` and `card.json` for every family, in the folder `--out`."""
    parser = stage.parser(__doc__)
    parser.add_argument("--metrics", type=stage.config_value, required=True, help="the config's `metrics`")
    parser.add_argument("--bench", type=Path, required=True, help="benchmark folder (manifest.csv)")
    parser.add_argument("--edits", type=Path, required=True, help="the method's folder of seed=<s>/ folders")
    parser.add_argument("--method", required=True, help="name written into the rows")
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--weights", type=stage.weights_argument, nargs="*", default=[], metavar="NAME=FOLDER")
    shard = "the part of the samples that is scored, to be joined by editclip.metrics.gather (default: 0-of-1)"
    parser.add_argument("--shard", type=stage.shard_argument, default=(0, 1), metavar="K-of-N", help=shard)
    families.add_argument(parser)
    args = parser.parse_args(argv)
    stage.use_threads(args.threads)
    metrics, weights = checked(Metrics, args.metrics, "metrics"), dict(args.weights)
    bench = Bench.load(args.bench, args.families)
    edits = {seed: read_edits(args.edits / f"seed={seed}", bench, args.shard) for seed in args.seeds}
    problems = {f"{e.sample.sample_id} seed={s}": e.problem for s, group in edits.items() for e in group if e.problem}
    failed = {name: problem.reason for name, problem in problems.items() if problem.status == "failed"}
    # Of all samples, so that a shard that breaks the rule alone stops at once and `gather` sees the others together.
    refuse_failures(failed, len(bench.samples) * len(edits), args.method, "edit them again")
    for name, source in FAMILIES.items():
        setting = Setting(getattr(metrics, name), bench, weights, metrics.batch_size, stage.device())
        inputs = {"bench": args.bench, "edits": args.edits, **{role: setting.weight(role) for role in source.weights}}
        facts: dict[str, Any] = {"module": source.module, "threads": args.threads, "force": args.force}
        told = setting.config.model_dump(mode="json")
        with stage.output_folder(args.out / name, config=told, inputs=inputs, **facts) as folder:
            score_family(folder, name, setting, args.method, edits)


if __name__ == "__main__":
    stage.run(main)
