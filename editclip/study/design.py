r"""Draw a study: from edits to a sheet of pairs to vote on, with what a crowd's page needs (two-alternative choice).

    python -m editclip.study.design --study JSON --bench results/<run>/bench --edits results/<run>/edits/<method> … \
        --seed N --out results/<run>/studies/<study>

An item is two methods' outputs of one sample in one repetition, the same for both, so that both started from the same
noise; a pair of methods is shown in the repetitions that both have. Methods that see no exemplar make one output a
query, which all samples of the query share: two of them make one item of it. Outputs that failed or were skipped are
not shown, identical ones are no item; all are counted. Catch trials are items of two methods of which one is obviously
better. Order and sides are drawn, and each method of a pair stands as often on the left as on the right, or once more.

--out gets study.csv (one row an item), study.json (questions, counts and what the votes can find), images/, and the
page for a crowd, hit.html, with hit.md, which says how to publish it. Nothing a rater sees names a method.
"""

import json
import logging
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from editclip import stage
from editclip.config.section import checked
from editclip.config.studies import Design
from editclip.data.bench import Bench, Sample
from editclip.editing.work import write_rows
from editclip.errors import InputError, nearest
from editclip.metrics.scores import Edit, read_edits
from editclip.storage import write_json
from editclip.study.export import export
from editclip.study.power import CORRELATION, LEVEL, POWER, Power
from editclip.study.sheet import COLUMNS, QUESTIONS, balanced, clustered, evenly

log = logging.getLogger(__name__)
MODULE = "editclip.study.design"

Edits = Mapping[str, Mapping[int, Sequence[Edit]]]  # by method and repetition, in the benchmark's order


@dataclass(frozen=True)
class Item:
    """Two outputs to choose from.

    Attributes:
        kind: "pair" or "catch".
        first: its output; its sample is the item's.
        second: the other output.
        methods: of the two.
        seed: repetition of both.
        first_left: whether the first one is shown on the left.
    """

    kind: str
    first: Edit
    second: Edit
    methods: tuple[str, str]
    seed: int
    first_left: bool = True

    @property
    def sample(self) -> Sample:
        """What both methods were asked for."""
        return self.first.sample

    @property
    def edit_type(self) -> tuple[str, str]:
        """Group and edit type of the sample."""
        return self.sample.group, self.sample.edit_type

    @property
    def pictures(self) -> tuple[str, int, str, str]:
        """What a rater sees of it but for the exemplar, and which repetition that is."""
        return self.sample.query_id, self.seed, self.first.sha256, self.second.sha256

    @property
    def identical(self) -> bool:
        """Whether there is nothing to choose between."""
        return self.first.sha256 == self.second.sha256

    @property
    def left_right(self) -> tuple[tuple[str, Edit], tuple[str, Edit]]:
        """Method and output on the left, and on the right."""
        first, second = (self.methods[0], self.first), (self.methods[1], self.second)
        return (first, second) if self.first_left else (second, first)


@dataclass(frozen=True)
class Drawn:
    """The items in the order of the sheet, and for each pair of methods what became of its samples and repetitions."""

    items: list[Item]
    counts: list[dict[str, Any]]


def read_folders(folders: Sequence[Path], methods: Sequence[str], bench: Bench) -> Edits:
    """The edits of some methods.

    Args:
        folders: `<method>` of folders `seed=<s>`; those of other methods are left out.
        methods: whose are wanted.
        bench: the benchmark.

    Raises:
        InputError: a method has no folder or no repetition, or its edits are not of this benchmark.
    """
    by_name = {folder.name: folder for folder in folders}
    edits = {}
    for name in methods:
        if name not in by_name:
            raise InputError(f"there is no folder {name} in those given as --edits{nearest(name, by_name)}")
        found = {int(path.name.removeprefix("seed=")): path for path in by_name[name].glob("seed=*")}
        if not found:
            raise InputError(f"{by_name[name]} has no folder seed=<s>: edit with {name} first")
        edits[name] = {seed: read_edits(found[seed], bench) for seed in sorted(found)}
    return edits


def _candidates(kind: str, methods: tuple[str, str], edits: Edits) -> tuple[list[list[Item]], Counter[str]]:
    """For every sample the items that it can make, and how many repetitions it cannot."""
    first, second = (edits[name] for name in methods)
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        raise InputError(
            f"{methods[0]} has the repetitions {list(first)} and {methods[1]} {list(second)}: edit both with a common "
            "seed"
        )
    counts: Counter[str] = Counter(repetitions=len(seeds), without_output=0, shared=0)
    found, made = [], set()
    for pairs in zip(*(zip(first[seed], second[seed], strict=True) for seed in seeds), strict=True):
        shown = [
            Item(kind, pair[0], pair[1], methods, seed)
            for seed, pair in zip(seeds, pairs, strict=True)
            if all(edit.path is not None for edit in pair)
        ]
        counts["without_output"] += len(seeds) - len(shown)
        new = [item for item in shown if item.identical or item.pictures not in made]
        counts["shared"] += len(shown) - len(new)
        made |= {item.pictures for item in new}
        found.append(new)
    return found, counts


def _draw(
    kind: str, methods: tuple[str, str], edits: Edits, seed: int, seeds: int | None, items: int | None
) -> tuple[list[Item], dict[str, Any]]:
    """The items of two methods, and what became of their samples and repetitions.

    Args:
        kind: of the items.
        methods: the two.
        edits: see `read_folders`.
        seed: of the draws.
        seeds: repetitions of every sample; None = all.
        items: how many of these, evenly over the edit types; None = all.

    Raises:
        InputError: there is none.
    """
    draw = random.Random(f"{seed}-{kind}-{'-'.join(methods)}")
    found, counts = _candidates(kind, methods, edits)
    chosen = [item for own in found for item in draw.sample(own, min(len(own), seeds or len(own)))]
    differing = [item for item in chosen if not item.identical]
    counts["identical"] = len(chosen) - len(differing)
    if not differing:
        raise InputError(
            f"{methods[0]} and {methods[1]} have no sample with two different outputs ({counts['without_output']} "
            f"without output, {counts['identical']} identical): leave one of them out of the study"
        )
    wanted = len(differing) if items is None else items
    if len(differing) < wanted:
        log.warning("%s and %s have %d items of the %d wanted", *methods, len(differing), wanted)
    kept = evenly(differing, wanted, draw, lambda item: item.edit_type, lambda item: item.sample.sample_id)
    counts["items"] = len(kept)
    sides = balanced(len(kept), draw)
    placed = [replace(item, first_left=left) for item, left in zip(kept, sides, strict=True)]
    return placed, {"kind": kind, "first": methods[0], "second": methods[1], **counts}


def draw_study(design: Design, edits: Edits, seed: int) -> Drawn:
    """The items of a study.

    Args:
        design: what is compared.
        edits: of all methods shown, see `read_folders`.
        seed: of everything drawn; a pair's items do not depend on which other pairs there are.

    Raises:
        InputError: a pair, or the catch trials, have no item.
    """
    drawn = [_draw("pair", pair, edits, seed, design.seeds, design.items) for pair in design.compared]
    if (catch := design.catch) is not None:
        pairs = sum(len(items) for items, _ in drawn)
        wanted = max(round(pairs * catch.share / (1 - catch.share)), 1)  # `share` is of pairs and trials together
        drawn.append(_draw("catch", (catch.right, catch.wrong), edits, seed, None, wanted))
    shuffled = [item for items, _ in drawn for item in items]
    random.Random(f"{seed}-order").shuffle(shuffled)
    return Drawn(shuffled, [counts for _, counts in drawn])


def rows(drawn: Drawn, expected: str, image: Mapping[Path, str], bench: Bench) -> list[dict[str, str]]:
    """The sheet.

    Args:
        drawn: its items.
        expected: the method that an attentive rater chooses in a catch trial.
        image: place in the study's folder by image file.
        bench: the benchmark.
    """
    width = len(str(len(drawn.items)))
    result = []
    for number, item in enumerate(drawn.items, 1):
        sample, (left, right) = item.sample, item.left_right
        row = {"item_id": f"item-{number:0{width}}", "kind": item.kind, "first": item.methods[0]}
        row |= {"second": item.methods[1], "left": left[0], "right": right[0], "seed": str(item.seed)}
        row |= {name: getattr(sample, name) for name in ("sample_id", "group", "edit_type", "query_id", "exemplar_id")}
        row |= {"instruction": sample.instruction or "", "query_image": image[bench.path(sample.query)]}
        row |= {name: image[bench.path(getattr(sample, name))] for name in ("exemplar_before", "exemplar_after")}
        row |= {f"{side}_image": image[_file(edit)] for side, (_, edit) in (("left", left), ("right", right))}
        row |= {"expected": expected if item.kind == "catch" else ""}
        result.append(row)
    return result


def _file(edit: Edit) -> Path:
    if edit.path is None:  # excluded when the items were drawn
        raise ValueError(f"the edit of {edit.sample.sample_id} has no image")
    return edit.path


def images(drawn: Drawn, bench: Bench) -> list[Path]:
    """Every image file that is shown."""
    files: dict[Path, None] = {}
    for item in drawn.items:
        sample = item.sample
        files |= dict.fromkeys(bench.path(p) for p in (sample.query, sample.exemplar_before, sample.exemplar_after))
        files |= dict.fromkeys(_file(edit) for edit in (item.first, item.second))
    return list(files)


def power(drawn: Drawn, design: Design) -> list[dict[str, Any]]:
    """What the votes on each pair can find, on either question; see `editclip.study.power`."""
    items = [item for item in drawn.items if item.kind == "pair"]
    clusters, _ = clustered(["-".join(item.edit_type) for item in items], [item.sample.query_id for item in items])
    result = []
    for first, second in design.compared:
        own = [name for item, name in zip(items, clusters, strict=True) if item.methods == (first, second)]
        found = Power.of(len(own), design.votes, len(set(own)), len(design.compared) * len(QUESTIONS))
        result.append({"first": first, "second": second, **asdict(found)})
    return result


def shows(methods: Sequence[str], folders: Sequence[Path]) -> str:
    """What tells raters which edit is meant: "instruction" if the instruction alone told all methods that compete.

    Else "exemplar", the pair, as in the paper's study of methods that are told the edit by an exemplar.
    """
    told = set()
    for folder in folders:
        if folder.name in methods:
            for card in sorted(folder.glob("seed=*/method.json"))[:1]:
                told.add(json.loads(card.read_text(encoding="utf-8")).get("conditioning"))
    return "instruction" if told - {"none"} == {"text"} else "exemplar"


def main() -> None:
    """Command line of the stage."""
    parser = stage.parser(__doc__)
    parser.add_argument("--study", type=stage.config_value, required=True, help="the study's design, of the config")
    parser.add_argument("--bench", type=Path, required=True, help="folder with manifest.csv and frames")
    parser.add_argument("--edits", type=Path, nargs="+", required=True, help="folders <method> of folders seed=<s>")
    parser.add_argument("--seed", type=int, required=True, help="of items, sides and order")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    name = given.out.resolve().name
    design = checked(Design, given.study, f"studies.{name}")
    bench = Bench.load(given.bench)
    drawn = draw_study(design, read_folders(given.edits, design.shown, bench), given.seed)
    found = power(drawn, design)
    for pair in found:
        log.info("%s", _sentence(pair))
    inputs = {"bench": given.bench} | {f"edits of {folder.name}": folder for folder in given.edits}
    facts = {"config": design.model_dump(mode="json"), "inputs": inputs, "threads": given.threads, "seed": given.seed}
    with stage.output_folder(given.out, module=MODULE, force=given.force, **facts) as folder:
        study = {
            "study": name,
            "seed": given.seed,
            "bench": {"name": bench.name, "digest": bench.digest},
            "design": facts["config"],
            "shows": shows(design.methods, given.edits),
            "questions": QUESTIONS,
            "items": len(drawn.items),
            "votes": design.votes,
            "counts": drawn.counts,
            "power": {"level": LEVEL, "power": POWER, "intraclass_correlation": CORRELATION, "pairs": found},
        }
        places = export(images(drawn, bench), study, folder)
        sheet = rows(drawn, design.catch.right if design.catch else "", places, bench)
        write_rows(folder / "study.csv", COLUMNS, sheet)
        write_json(folder / "study.json", study)


def _sentence(pair: Mapping[str, Any]) -> str:
    """What the votes on one pair can find, for the log."""
    rates = [
        f"{pair[key]:.1%}" if pair[key] is not None else "none"
        for key in ("win_rate", "win_rate_clustered", "win_rate_holm")
    ]
    return (
        f"{pair['first']} against {pair['second']}: {pair['votes']} votes on each question find, with {POWER:.0%} "
        f"power at {LEVEL:.0%}, win rates from {rates[0]} on if they are independent, from {rates[1]} on if those of "
        f"each of {pair['clusters']} clusters correlate at {CORRELATION} (design effect {pair['design_effect']:.2f}), "
        f"from {rates[2]} on after Holm's adjustment"
    )


if __name__ == "__main__":
    stage.run(main)
