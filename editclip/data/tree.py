"""Reading a benchmark tree in TOP-Bench's layout: which files it holds, and the texts beside them.

`<root>/<group>/<edit_type>/{train,test}/<id>_{0,1}.{jpg,png}`, 0 before and 1 after the edit; `<id>_mask.png` in
`test` may mark the edited pixels. `texts.jsonl` at the root gives instructions and captions per edit type or query.
Everything wrong with a tree is collected, so that one error names it all.
"""

import itertools
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from editclip.errors import InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
SIDES = ("0", "1", "mask")
TEXTS = ("instruction", "caption_before", "caption_after")
ORIGINS = ("benchmark", "human", "vlm")
INSTRUCTIONS = "instructions"  # a list: those of the parts of an edit that is made of several
TEXT_KEYS = {"group", "type", "query", *TEXTS, INSTRUCTIONS, "origin", "family"}


# TOP-Bench-X: EditCLIP gives the totals and the range per type; that it is 25 types follows from them and TOP-Bench.
TOP_BENCH_X = {"types": 25, "exemplars": 257, "queries": 124, "samples": 1277}
TOP_BENCH_X_PER_TYPE = (32, 60)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Item:
    """One numbered example of a type: files by side ("0", "1", "mask")."""

    id: str
    files: Mapping[str, Path]


@dataclass
class EditType:
    """One edit type: its exemplars (train pairs) and queries (test items), sorted by id."""

    group: str
    name: str
    exemplars: list[Item] = field(default_factory=list)
    queries: list[Item] = field(default_factory=list)

    def label(self, *ids: str) -> str:
        """Name of an exemplar, a query or (given both ids) a sample in the whole benchmark."""
        return "-".join((self.group, self.name, *ids))


@dataclass
class Tree:
    """A scanned tree.

    Attributes:
        problems: one clause for each thing that is wrong.
        skipped: one-sided items left out by `skip_incomplete`.
    """

    root: Path
    types: list[EditType] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def scan(root: Path, skip_incomplete: bool = False) -> Tree:
    """List the tree's edit types and their images; nothing is opened.

    Args:
        root: the tree.
        skip_incomplete: leave out (and list) items that lack a side they need, instead of naming them as problems.
    """
    tree = Tree(root)
    if not root.is_dir():
        tree.problems.append(f"{root} is not a folder")
        return tree
    for group in _folders(root):
        for folder in _folders(group):
            edit_type = EditType(group.name, folder.name)
            for part, items in (("train", edit_type.exemplars), ("test", edit_type.queries)):
                found = _items(tree, folder / part)
                needed = ("0", "1") if part == "train" else ("0",)
                items += [item for item in found if _complete(tree, folder / part, item, needed, skip_incomplete)]
                if not found:
                    tree.problems.append(f"{folder / part} has no images")
            tree.types.append(edit_type)
    if not tree.types:
        tree.problems.append(f"{root} holds no <group>/<edit_type>/train and test folders")
    return tree


def _folders(folder: Path) -> list[Path]:
    """Visible subfolders, sorted; names with a leading dot or two underscores are an archiver's or a system's."""
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "__")))


def _items(tree: Tree, folder: Path) -> list[Item]:
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
            continue
        name, _, side = path.stem.rpartition("_")
        if not name or side not in SIDES:
            tree.problems.append(f"{path} is not named <id>_0, <id>_1 or <id>_mask")
            continue
        sides = found.setdefault(name, {})
        if side in sides:
            tree.problems.append(f"{path} and {sides[side].name} are both side {side} of {name}")
        sides.setdefault(side, path)
    return [Item(name, sides) for name, sides in sorted(found.items())]


def _complete(tree: Tree, folder: Path, item: Item, needed: tuple[str, ...], skip: bool) -> bool:
    missing = [side for side in needed if side not in item.files]
    if missing:
        what = f"{folder / item.id} has no side {' and '.join(missing)}"
        (tree.skipped if skip else tree.problems).append(what)
    return not missing


def are_instructions(value: Any) -> bool:
    """Whether a value is a list of texts, at least one, none of them empty."""
    return isinstance(value, list) and bool(value) and all(isinstance(text, str) and text for text in value)


class Texts:
    """The rows of `texts.jsonl`: a query's own fields come before its type's defaults."""

    def __init__(self, tree: Tree, path: Path | None = None) -> None:
        """Read `path`, or the file at the tree's root if there is one; add what is wrong with it to `tree.problems`."""
        self._rows: dict[tuple[str, str, str], dict[str, Any]] = {}
        path = path or tree.root / "texts.jsonl"
        if not path.is_file():
            return
        known = {(t.group, t.name): {q.id for q in t.queries} for t in tree.types}
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if line.strip():
                try:
                    self._add(json.loads(line), known)
                except ValueError as error:
                    tree.problems.append(f"{path} line {number} {error}")

    def _add(self, row: Any, known: Mapping[tuple[str, str], set[str]]) -> None:
        """Take one row.

        Raises:
            ValueError: it is not right; the message is a clause that follows the line's number.
        """
        if not isinstance(row, dict) or not all(isinstance(v, str) or k == INSTRUCTIONS for k, v in row.items()):
            raise ValueError("is not a JSON object of texts")
        if INSTRUCTIONS in row and not are_instructions(row[INSTRUCTIONS]):
            raise ValueError(f"has the instructions {row[INSTRUCTIONS]!r}: write a list of one text or more")
        row = {"type" if key == "edit_type" else key: value for key, value in row.items()}
        if unknown := sorted(row.keys() - TEXT_KEYS):
            raise ValueError(f"has the unknown key {unknown[0]} (known: {', '.join(sorted(TEXT_KEYS))})")
        if row.get("origin") not in ORIGINS:
            raise ValueError(f"has the origin {row.get('origin')!r}: choose one of {', '.join(ORIGINS)}")
        key = _type_key(row, known)
        query = row.get("query", "")
        if query and query not in known[key]:
            raise ValueError(f"names the query {query}, which {'/'.join(key)} does not have")
        if (*key, query) in self._rows:
            raise ValueError(f"repeats the texts of {'/'.join(filter(None, (*key, query)))}")
        self._rows[(*key, query)] = row

    def row(self, group: str, edit_type: str, query: str) -> Mapping[str, Any]:
        """The row of a query, or of its type where `query` is ""; empty where there is none."""
        return self._rows.get((group, edit_type, query), {})

    def __call__(self, group: str, edit_type: str, query: str) -> dict[str, Any]:
        """Texts, instructions (a tuple), origin and family of a query; "" where there is none."""
        rows = [self.row(group, edit_type, q) for q in (query, "")]
        fields = {name: next((r[name] for r in rows if r.get(name)), "") for name in (*TEXTS, "family")}
        told = [r.get(INSTRUCTIONS) or [r["instruction"]] for r in rows if r.get(INSTRUCTIONS) or r.get("instruction")]
        given = [r for r in rows if any(r.get(name) for name in (*TEXTS, INSTRUCTIONS))]
        origin = given[0]["origin"] if given else ""
        return {**fields, INSTRUCTIONS: tuple(told[0]) if told else "", "text_origin": origin}


def _type_key(row: Mapping[str, str], known: Mapping[tuple[str, str], set[str]]) -> tuple[str, str]:
    """Group and name of the row's edit type; the group may be left out where the name is unique."""
    matching = [k for k in known if k[1] == row.get("type") and row.get("group", k[0]) == k[0]]
    if len(matching) == 1:
        return matching[0]
    wanted = "/".join(filter(None, (row.get("group"), row.get("type")))) or "none"
    reason = "is in several groups: name the group" if matching else "is not in the tree"
    raise ValueError(f"names the edit type {wanted}, which {reason}")


def clashes(types: list[EditType]) -> list[str]:
    """A clause for each name that two exemplars, two queries or two samples would share (`a-b/c` and `a/b-c`)."""
    owners: dict[tuple[str, str], list[str]] = {}
    for t in types:
        where = f"{t.group}/{t.name}"
        for part, items in (("train", t.exemplars), ("test", t.queries)):
            for item in items:
                kind = "exemplar" if part == "train" else "query"
                owners.setdefault((kind, t.label(item.id)), []).append(f"{where}/{part}/{item.id}")
        for exemplar, query in itertools.product(t.exemplars, t.queries):
            owner = f"{where} ({exemplar.id} x {query.id})"
            owners.setdefault(("sample", t.label(exemplar.id, query.id)), []).append(owner)
    return [
        f"the {kind} name {name} would stand for {' and '.join(found)}: rename a group, type or id"
        for (kind, name), found in owners.items()
        if len(found) > 1
    ]


def iter_files(edit_type: EditType) -> Iterator[Path]:
    """Every image of a type that the benchmark uses."""
    for item in (*edit_type.exemplars, *edit_type.queries):
        yield from item.files.values()


def counts(types: list[EditType]) -> dict[str, int]:
    """How many edit types, exemplars, queries and samples (exemplar x query within a type) there are."""
    return {
        "types": len(types),
        "exemplars": sum(len(t.exemplars) for t in types),
        "queries": sum(len(t.queries) for t in types),
        "samples": sum(len(t.exemplars) * len(t.queries) for t in types),
    }


def compare_top_bench_x(types: list[EditType], strict: bool) -> list[str]:
    """Log a comparison with TOP-Bench-X per type; returns the deviations.

    Raises:
        InputError: there are deviations and `strict` is set.
    """
    low, high = TOP_BENCH_X_PER_TYPE
    deviations = []
    for t in types:
        exemplars, queries = len(t.exemplars), len(t.queries)
        size = exemplars * queries
        fits = low <= size <= high
        state = "ok" if fits else f"expected {low} to {high}"
        log.info("%s/%s: %d exemplars x %d queries = %d (%s)", t.group, t.name, exemplars, queries, size, state)
        if not fits:
            deviations.append(f"{t.group}/{t.name} has {size} samples instead of {low} to {high}")
    for what, found in counts(types).items():
        log.info("%s: %d, TOP-Bench-X has %d", what, found, TOP_BENCH_X[what])
        if found != TOP_BENCH_X[what]:
            deviations.append(f"{found} {what} instead of {TOP_BENCH_X[what]}")
    if deviations and strict:
        raise InputError(f"this is not TOP-Bench-X: {'; '.join(deviations)} (bench.strict: false accepts it)")
    return deviations
