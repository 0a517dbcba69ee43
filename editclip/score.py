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
metric, per family and type), the scores of every sample, and provenance.json.
"""

import argparse
import csv
import json
import logging
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from editclip import stage, stats
from editclip.config import checked_config
from editclip.data import bench as benches
from editclip.data.bench import Bench
from editclip.errors import InputError, nearest
from editclip.metrics.families import FAMILIES
from editclip.metrics.outputs import Outputs, collect
from editclip.metrics.scores import Setting, write_family
from editclip.provenance import ROOT, code_digest
from editclip.report import render, tables
from editclip.report.columns import HEADLINE, MEASURED, column
from editclip.report.page import honest_labels
from editclip.report.results import EDIT_COLUMNS, RunResults, read_numbers, read_run
from editclip.storage import atomic_folder, cache_folder, path_digest, write_json

MODULE = "editclip.score"
CONFIG, SCHEMA = ROOT / "config" / "micro.yaml", ROOT / "workflow" / "schemas" / "config.schema.yaml"
PAPER = ROOT / "paper" / "table1.csv"
BENCH_KEYS = ("resolution", "max_pixels", "skip_incomplete", "expect", "strict")
CONDITIONING = ("text", "exemplar", "none")


@dataclass(frozen=True)
class Row:
    """Whose outputs are scored: a name, what the method is conditioned on, whose exemplars it got."""

    name: str
    conditioning: str
    exemplars: str


def read_bench(
    given: Path, texts: Path | None, config: Mapping[str, Any], resolution: int | None, threads: int
) -> Bench:
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
    settings = {key: config[key] for key in BENCH_KEYS} | {"name": given.resolve().name}
    settings |= {"resolution": resolution} if resolution else {}
    if not given.is_dir():
        raise InputError(f"the benchmark {given} is not a folder")
    inputs = [path_digest(given), path_digest(texts) if texts else None]
    folder = cache_folder("bench", settings, *inputs, code_digest(benches.MODULE)) / "bench"
    if not folder.is_dir():
        with atomic_folder(folder) as temporary:
            benches.build(given, settings, temporary, threads, texts)
    return Bench.load(folder)


def find_weights(config: Mapping[str, Any], given: Mapping[str, Path]) -> dict[str, Path]:
    """The folders of all weights that metrics read: given, or made by the config's run, or of its source `path`.

    Raises:
        InputError: there is none, or a name is given that no metric reads.
    """
    needed = sorted({name for family in FAMILIES.values() for name in family.weights})
    for name in given:
        if name not in needed:
            raise InputError(
                f'no metric reads the weights "{name}"{nearest(name, needed)}: give {" and ".join(needed)}'
            )
    found = {}
    for name in needed:
        made, source = Path("results", config["run"]["name"], "weights", name), config["weights"][name]
        found[name] = given.get(name) or (made if made.is_dir() else Path(source.get("path", made)))
        if not found[name].is_dir():
            raise InputError(
                f"the weights {name} are not in {found[name]}: give --weights {name}=FOLDER, or make them with "
                f"snakemake --cores all {made}"
            )
    return found


def score(
    folder: Path, row: Row, outputs: Outputs, bench: Bench, settings: Mapping[str, Setting], threads: int
) -> None:
    """Write what a run holds of one method into `folder`: `edits/<name>/seed=<s>` and `scores/<name>/<family>`.

    Args:
        folder: to be filled.
        row: whose outputs they are.
        outputs: from `collect`.
        bench: the benchmark.
        settings: of each family.
        threads: of torch.
    """
    for seed, edits in outputs.edits.items():
        place = folder / "edits" / row.name / f"seed={seed}"
        place.mkdir(parents=True)
        write_json(place / "method.json", {"name": row.name, "conditioning": row.conditioning})
        with (place / "edits.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, EDIT_COLUMNS, lineterminator="\n")
            writer.writeheader()
            for edit in edits:
                sample, problem = edit.sample.sample_id, edit.problem
                line = {"sample_id": sample, "seed": seed, "sha256": edit.sha256}
                line |= {"seconds": outputs.seconds.get((seed, sample), "")}
                line |= {"status": problem.status if problem else "ok", "reason": problem.reason if problem else ""}
                writer.writerow(line)
    for name, setting in settings.items():
        place = folder / "scores" / row.name / name
        place.mkdir(parents=True)
        for path in family_scores(name, setting, row.name, outputs, bench, threads).iterdir():
            (place / path.name).write_bytes(path.read_bytes())


def family_scores(name: str, setting: Setting, method: str, outputs: Outputs, bench: Bench, threads: int) -> Path:
    """A folder of the cache with the scores of one family: of the same images, settings and code made only once.

    A known one is found without torch, which takes longer to import than this does to run.
    """
    family = FAMILIES[name]
    scored = [
        (seed, edit.sample.sample_id, edit.sha256, edit.problem and (edit.problem.status, edit.problem.reason))
        for seed, edits in outputs.edits.items()
        for edit in edits
    ]
    weights = {used: path_digest(setting.weight(used)) for used in family.weights}
    how = (setting.config, weights, setting.batch_size, setting.device, code_digest(family.module))
    folder = cache_folder("scores", method, bench.digest, scored, *how) / name
    if not folder.is_dir():
        stage.use_threads(threads)
        with atomic_folder(folder) as temporary:
            write_family(temporary, family.build(setting), method, outputs.edits, bench)
    return folder


def beside_paper(summary: pd.DataFrame, results: RunResults, paper: pd.DataFrame) -> str:
    """The row as a Markdown table, one line a metric: its mean, interval and number of samples, then the paper's."""
    whole = summary[summary["scope"] == "all"].set_index("metric")
    chosen = HEADLINE | {"clip_dir": tables.direction_metric(results)}
    mine = whole.loc[[chosen[name] for name in MEASURED]]
    numbers = pd.DataFrame([mine["mean"], mine["low"], mine["high"]]).set_axis(MEASURED, axis=1)
    texts = render.display(pd.concat([numbers, paper[list(MEASURED)]])).set_axis(
        ["mean", "low", "high", *paper["method"]]
    )
    labels = [column(name).label + render.ARROWS[column(name).better] for name in MEASURED]
    columns = {"": labels, results.methods[0].name: texts.loc["mean"], "95 % interval": texts.loc["low"]}
    columns["95 % interval"] += " to " + texts.loc["high"]
    columns |= {"n": mine["n"].astype(int).to_numpy()}
    columns |= {f"{method} (paper)": texts.loc[method] for method in paper["method"]}
    return str(pd.DataFrame(columns).to_markdown(index=False, disable_numparse=True))


def _row(arguments: argparse.Namespace) -> Row:
    """What is known of the method: from the arguments, or the method.json that the edits stage leaves."""
    name = arguments.name or arguments.edits.resolve().name
    if not re.fullmatch(r"[\w.+()-]+", name):
        raise InputError(f"the name {name!r} is to be a folder's: give --name of letters, digits and . _ - + ( )")
    cards = sorted(arguments.edits.rglob("method.json"))
    card = json.loads(cards[0].read_text(encoding="utf-8")) if cards else {}
    conditioning = arguments.conditioning or card.get("conditioning", "unknown")
    return Row(name, conditioning, card.get("exemplars", "own"))


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = stage.parser(__doc__, out="results/scored/NAME")
    parser.add_argument("--edits", type=Path, required=True, help="the folder of outputs")
    parser.add_argument("--bench", type=Path, required=True, help="a tree in TOP-Bench's layout, or a bench folder")
    parser.add_argument("--texts", type=Path, help="texts.jsonl of a tree (default: the tree's own)")
    parser.add_argument("--config", type=Path, default=CONFIG, help="a run's config (default: the micro run's)")
    parser.add_argument("--weights", type=stage.weights_argument, nargs="*", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--name", help="of the row (default: the folder's)")
    parser.add_argument("--conditioning", choices=CONDITIONING, help="what tells the method the edit, for the table")
    parser.add_argument("--resolution", type=int, help="R, px of the frame of a tree (default: the config's)")
    parser.add_argument("--batch-size", type=int, help="images of one encoder call (default: the config's)")
    parser.add_argument("--strict", action="store_true", help="missing, unreadable or unknown files are an error")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of `editclip score`."""
    given = _arguments(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    config = checked_config(stage.config_value(str(given.config)), SCHEMA)
    row, weights = _row(given), find_weights(config, dict(given.weights))
    bench = read_bench(given.bench, given.texts, config["bench"], given.resolution, given.threads)
    outputs = collect(given.edits, bench, config["bench"]["max_pixels"], given.threads)
    problems = outputs.problems()
    if problems and given.strict:
        raise InputError(f"{given.edits}: {'; '.join(problems)}")
    size = given.batch_size or config["metrics"]["batch_size"]
    device = stage.device()
    settings = {name: Setting(config["metrics"][name], bench, weights, size, device) for name in FAMILIES}
    paper = read_numbers(PAPER, ("method", *MEASURED))
    inputs = {"bench": given.bench, "edits": given.edits, **weights, "paper": PAPER}
    out = given.out or Path("results", "scored", row.name)
    facts = {"module": MODULE, "config": config["metrics"], "inputs": inputs, "threads": given.threads}
    with stage.output_folder(out, **facts) as folder:
        score(folder, row, outputs, bench, settings, given.threads)
        method = {"name": row.name, "exemplars": row.exemplars, "seeds": list(outputs.edits), "tables": ["table1"]}
        results = read_run({"methods": [method], "seeds": []}, bench.folder, folder / "scores", folder / "edits")
        statistics = stats.Settings(**config["statistics"])
        summary = tables.summarise(tables.long_scores(results), results.methods, statistics, None)
        table = tables.headline(summary, results, config["run"]["label"])
        table["notes"] += "".join(f"; {note}" for note in outputs.notes())
        lines = [*honest_labels(table, config["run"]["notice"]), *(f"{row.name}: {p}" for p in problems)]
        if outputs.resized:
            sizes = ", ".join(f"{count} of {size}" for size, count in outputs.resized.items())
            frame = f"{bench.resolution}×{bench.resolution}"
            lines.append(f"Squashed to {frame} px (bicubic), as the benchmark's own images are: {sizes}.")
        text = f"{beside_paper(summary, results, paper)}\n\n" + "".join(f"- {line}\n" for line in lines)
        (folder / "table1.csv").write_bytes(render.csv(table).encode())
        (folder / "table1_full.csv").write_bytes(render.csv(summary).encode())
        (folder / "table1.md").write_bytes(text.encode())
    print(text)
    for problem in problems:
        print(f"warning: {problem}", file=sys.stderr)
    print(f"{out} holds the row, all metrics and the scores of every sample", file=sys.stderr)


if __name__ == "__main__":
    stage.run(main)
