r"""Score a folder of outputs, whoever made them: a row of Table 1 with intervals, beside the paper's rows.

    editclip score --edits DIR --bench TREE [--texts FILE] [--out DIR]

DIR holds `<sample_id>.png` (or jpg, webp) files, or folders `seed=<s>` of them; TREE is a benchmark in TOP-Bench's
layout, `<root>/<group>/<type>/{train,test}/<id>_{0,1}.{jpg,png}`, or a folder that `editclip bench` made of one. A
sample is one exemplar pair for one query: `<group>-<type>-<exemplar>-<query>`. Nothing is trained and no method is
imported. Files that are missing, unreadable or of no sample are named and counted in the row's notes, and the rest is
scored; images of another size are squashed to R×R as the benchmark's own are. What was encoded once is kept, so that a
second call encodes only what is new.

Metric settings, R and the statistics come from --config, the weights of CLIP and EditCLIP from what that run has made
in results/<run>/weights, unless --weights says otherwise. The micro run's own edits, then a folder of photographs:

    editclip score --edits results/micro/edits/editclip --bench results/micro/bench
    editclip score --edits my_outputs --bench data/top-bench --texts texts.jsonl --config config/paper.yaml \
        --weights clip=clip-vit-large-patch14 editclip=EditCLIP --name mine --conditioning exemplar

--out gets table1.csv (the row), table1.md (the same with intervals and the paper's rows), table1_full.csv (every
metric, per family and type), rows.csv (facts about the row), the scores of every sample, and provenance.json.
"""

import argparse
import contextlib
import csv
import fcntl
import importlib.metadata
import json
import logging
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from editclip import stage
from editclip.config.bench import BenchSettings
from editclip.config.bindings import metric_encoders
from editclip.config.section import checked
from editclip.config.tables import Table
from editclip.config.tree import Config, read_config
from editclip.data import bench as benches
from editclip.data.bench import Bench
from editclip.editing.cards import CONDITIONINGS, editor_names, read_card
from editclip.errors import InputError, nearest
from editclip.metrics.families import FAMILIES
from editclip.metrics.outputs import Outputs, collect
from editclip.metrics.scores import Edit, Setting
from editclip.metrics.scoring import score_family
from editclip.provenance import ROOT, code_digest
from editclip.storage import atomic_folder, cache_folder, file_digest, path_digest

MODULE = "editclip.score"
CONFIG = ROOT / "config" / "micro.yaml"
PAPER = ROOT / "paper" / "table1.csv"
COUNTING = ("scipy", "pandas")  # what else decides an answer, besides a cache key's own packages


@dataclass(frozen=True)
class Row:
    """Whose outputs are scored: a name, what the method is conditioned on, whose exemplars it got."""

    name: str
    conditioning: str
    exemplars: str


def read_bench(given: Path, texts: Path | None, config: BenchSettings, resolution: int | None, threads: int) -> Bench:
    """The benchmark in `given`: a bench folder as it is, or a tree, of which one is built in the cache.

    Args:
        given: a folder with manifest.csv, or a tree.
        texts: instructions and captions of a tree.
        config: section `bench` of the config.
        resolution: R, if not the config's.
        threads: images decoded at once.

    Raises:
        InputError: it is neither, or `texts` or another `resolution` is given for a bench folder, which has its own.
    """
    if (given / "manifest.csv").is_file():
        bench = Bench.load(given)
        if texts or resolution not in (None, bench.resolution):
            raise InputError(
                f"{given} is a finished bench of {bench.resolution} px with its own texts: give the tree it was made "
                "of with --texts or --resolution"
            )
        return bench
    if texts is not None and not texts.is_file():
        raise InputError(f"the texts {texts} do not exist: editclip texts writes the rows to fill in")
    settings = config.model_dump(include=set(BenchSettings.model_fields)) | {"name": given.resolve().name}
    settings |= {"resolution": resolution} if resolution else {}
    if not given.is_dir():
        raise InputError(f"the benchmark {given} is not a folder")
    walked = os.walk(given, followlinks=True)  # the tree may be made of links, which path_digest passes over
    files = sorted(Path(where, name) for where, _, names in walked for name in names)
    inputs = [[(str(file.relative_to(given)), file_digest(file)) for file in files], texts and file_digest(texts)]
    folder = cache_folder("bench", settings, *inputs, code_digest(benches.MODULE)) / "bench"
    with _alone(folder.parent):
        if not folder.is_dir():
            with atomic_folder(folder) as temporary:
                benches.build(given, settings, temporary, threads, texts)
    return Bench.load(folder)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process is at work in a folder of the cache, and keep others waiting."""
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def find_weights(config: Config, given: Mapping[str, Path]) -> dict[str, Path]:
    """The folders of all weights that metrics read: given, or made by the config's run, or of its source `path`.

    Raises:
        InputError: there is none, or a name is given that no metric reads.
    """
    encoders = metric_encoders(config)
    needed = {role: encoders[name] for name, family in FAMILIES.items() for role in family.weights}
    for name in given:
        if name not in needed:
            raise InputError(
                f'no metric reads the weights "{name}"{nearest(name, needed)}: give {" and ".join(needed)}'
            )
    folders = {}
    for role, name in needed.items():
        made = Path("results", config.run.name, "weights", name)
        elsewhere = made if made.is_dir() else Path(getattr(config.weights[name], "path", made))
        folders[role] = given.get(role) or elsewhere
        if not folders[role].is_dir():
            raise InputError(
                f"the weights {role} are not in {folders[role]}: give --weights {role}=FOLDER, or make them with "
                f"snakemake --cores all {made}"
            )
    return folders


def answer(row: Row, outputs: Outputs, bench: Bench, weights: Mapping[str, Path], config: Config, threads: int) -> Path:
    """A folder of the cache with all that is written about a row; what is known already is not made again.

    Of the same images, settings and code the answer is found without pandas and torch, which take longer to import
    than this does to run.

    Args:
        row: whose outputs they are.
        outputs: from `collect`.
        bench: the benchmark.
        weights: from `find_weights`.
        config: a run's config.
        threads: of torch.
    """
    lines = [_edits_row(seed, edit, outputs) for seed, group in outputs.edits.items() for edit in group]
    settings = config.metrics.model_dump(mode="json")
    shown = [config.statistics.model_dump(), config.run.label, config.run.notice, file_digest(PAPER)]
    used = {name: path_digest(folder) for name, folder in weights.items()}
    code, device = code_digest(MODULE, *(family.module for family in FAMILIES.values())), stage.device()
    versions = [importlib.metadata.version(name) for name in COUNTING]
    key = (asdict(row), lines, outputs.problems(), outputs.notes(), bench.digest, settings, shown, used, code, device)
    folder = cache_folder("answers", *key, versions) / "row"
    with _alone(folder.parent):
        if not folder.is_dir():
            stage.use_threads(threads)
            with atomic_folder(folder) as temporary:
                _write_answer(temporary, row, outputs, bench, weights, config)
    return folder


def _write_answer(
    temporary: Path, row: Row, outputs: Outputs, bench: Bench, weights: Mapping[str, Path], config: Config
) -> None:
    """Fill the folder of `answer`."""
    from editclip.report.results import ResultFolders  # with pandas
    from editclip.report.row import write_row

    edits = {(row.name, seed): temporary / "edits" / row.name / f"seed={seed}" for seed in outputs.edits}
    scores = {(row.name, name): temporary / "scores" / row.name / name for name in FAMILIES}
    for seed, group in outputs.edits.items():
        lines = [_edits_row(seed, edit, outputs) for edit in group]
        place = edits[row.name, seed]
        place.mkdir(parents=True)
        with (place / "edits.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(lines)
    settings = config.metrics
    for name in FAMILIES:
        place = scores[row.name, name]
        place.mkdir(parents=True)
        setting = Setting(getattr(settings, name), bench, weights, settings.batch_size, stage.device())
        score_family(place, name, setting, row.name, outputs.edits)
    problems = [f"{row.name}: {problem}" for problem in outputs.problems()] + _squashed(outputs, bench)
    folders = ResultFolders(bench.folder, edits, scores, runtime={})
    write_row(temporary, _table(row, list(outputs.edits), config), folders, problems, outputs.notes())


def _table(row: Row, seeds: list[int], config: Config) -> Table:
    """The table that has this row alone."""
    declaration: dict[str, Any] = {"rows": [row.name], "reference": None, "paper": str(PAPER)}
    declaration |= {"bars": [], "representation": None, "study": None}
    method: dict[str, Any] = {"editor": None, "weights": {}, "exemplars": row.exemplars, "seeds": seeds, "options": {}}
    method |= {"label": row.name, "paper": "", "license": "", "trained_on": [], "conditioning": row.conditioning}
    run = {"label": config.run.label, "notice": config.run.notice, "statistics": config.statistics.model_dump()}
    return checked(Table, {"name": "table1", **run, "declaration": declaration, "methods": {row.name: method}})


def _edits_row(seed: int, edit: Edit, outputs: Outputs) -> dict[str, Any]:
    """The line of an output in edits.csv."""
    name, problem = edit.sample.sample_id, edit.problem
    line = {"sample_id": name, "seed": seed, "sha256": edit.sha256, "seconds": outputs.seconds.get((seed, name), "")}
    return line | {"status": problem.status if problem else "ok", "reason": problem.reason if problem else ""}


def _squashed(outputs: Outputs, bench: Bench) -> list[str]:
    """What was done with images of another size, as a sentence, if there are any."""
    sizes = ", ".join(f"{count} of {size}" for size, count in outputs.resized.items())
    frame = f"{bench.resolution}×{bench.resolution}"
    return [f"Squashed to {frame} px (bicubic), as the benchmark's own images are: {sizes}."] if sizes else []


def _row(arguments: argparse.Namespace) -> Row:
    """What is known of the method: from the arguments, or the method.json that the edits stage leaves."""
    name = arguments.edits.resolve().name if arguments.name is None else arguments.name
    if not re.fullmatch(r"[\w+()-][\w.+()-]{0,99}", name):
        raise InputError(
            f"the name {name!r} is to be a folder's: give --name of up to 100 letters, digits and . _ - + ( ), "
            "that does not start with a dot"
        )
    cards = sorted(arguments.edits.rglob("method.json"))
    card = json.loads(cards[0].read_text(encoding="utf-8")) if cards else {}
    conditioning = arguments.conditioning
    if conditioning is None:
        conditioning = read_card(card["editor"]).conditioning if card.get("editor") in editor_names() else "unknown"
    return Row(name, conditioning, card.get("exemplars", "own"))


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = stage.parser(__doc__, out="results/scored/NAME")
    parser.add_argument("--edits", type=Path, required=True, help="the folder of outputs")
    parser.add_argument("--bench", type=Path, required=True, help="a tree in TOP-Bench's layout, or a bench folder")
    parser.add_argument("--texts", type=Path, help="texts.jsonl of a tree (default: the tree's own)")
    runs = "a run's config, with overlays if there are any (default: the micro run's)"
    parser.add_argument("--config", type=Path, nargs="+", default=[CONFIG], help=runs)
    parser.add_argument("--weights", type=stage.weights_argument, nargs="*", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--name", help="of the row (default: the folder's)")
    parser.add_argument("--conditioning", choices=CONDITIONINGS, help="what tells the method the edit, for the table")
    parser.add_argument("--resolution", type=int, help="R, px of the frame of a tree (default: the config's)")
    parser.add_argument("--batch-size", type=int, help="images of one encoder call (default: the config's)")
    parser.add_argument("--strict", action="store_true", help="missing, unreadable or unknown files are an error")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of `editclip score`."""
    given = _arguments(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    batch = {"metrics": {"batch_size": given.batch_size}} if given.batch_size is not None else {}
    config = read_config(*given.config, change=batch)
    row, weights = _row(given), find_weights(config, dict(given.weights))
    bench = read_bench(given.bench, given.texts, config.bench, given.resolution, given.threads)
    outputs = collect(given.edits, bench, config.bench.max_pixels, given.threads)
    problems = outputs.problems()
    if problems and given.strict:
        raise InputError(f"{given.edits}: {'; '.join(problems)}")
    inputs = {"bench": given.bench, "edits": given.edits, **weights, "paper": PAPER}
    inputs |= {"texts": given.texts} if given.texts else {}
    out = given.out or Path("results", "scored", row.name)
    values = config.model_dump(mode="json", by_alias=True)
    facts = {"module": MODULE, "config": values, "inputs": inputs, "force": given.force, "threads": given.threads}
    with stage.output_folder(out, **facts) as folder:
        made = answer(row, outputs, bench, weights, config, given.threads)
        shutil.copytree(made, folder, dirs_exist_ok=True)
    print((out / "table1.md").read_text(encoding="utf-8"))
    for problem in problems:
        print(f"warning: {problem}", file=sys.stderr)
    print(f"{out} holds the row, all metrics and the scores of every sample", file=sys.stderr)


if __name__ == "__main__":
    stage.run(main)
