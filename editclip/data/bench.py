"""A benchmark ready for editing: canonical frames and one manifest row for every exemplar x query of a type.

Made from any tree in TOP-Bench's layout (`editclip.data.tree`): every train pair with every test query of its edit
type, as TOP-Bench-X does (EditCLIP, section 4.1). Every image is squashed once to R x R.
"""

import contextlib
import csv
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from editclip import stage
from editclip.config.bench import BenchSettings
from editclip.config.section import checked
from editclip.data.families import USUAL, Families, chosen
from editclip.data.images import read_image, squash
from editclip.data.tree import (
    EditType,
    Item,
    Texts,
    Tree,
    are_instructions,
    clashes,
    compare_top_bench_x,
    counts,
    iter_files,
    scan,
)
from editclip.errors import InputError
from editclip.storage import atomic_file, digest, write_json

log = logging.getLogger(__name__)
MODULE = "editclip.data.bench"

FILES = ("exemplar_before", "exemplar_after", "query")  # and, where known:
OPTIONAL_FILES = ("ground_truth", "edit_mask")


@dataclass(frozen=True)
class Sample:
    """One row of the manifest; image fields are paths relative to the bench folder.

    `instructions` are those of the edit's parts, in turn: several of one that is made of several, else the instruction.
    """

    sample_id: str
    group: str
    edit_type: str
    family: str | None
    exemplar_id: str
    query_id: str
    exemplar_before: str
    exemplar_after: str
    query: str
    instruction: str | None
    instructions: tuple[str, ...] | None
    caption_before: str | None
    caption_after: str | None
    text_origin: str | None
    ground_truth: str | None
    edit_mask: str | None


COLUMNS = tuple(f.name for f in fields(Sample))
OF_OLD = tuple(name for name in COLUMNS if name != "instructions")  # the columns of manifests without that one


@dataclass(frozen=True)
class Bench:
    """A benchmark on disk, or the samples of some families of it.

    Attributes:
        folder: where it is.
        name: enters every noise seed.
        resolution: side of its frames in pixels.
        digest: of the whole manifest.
        samples: those wanted, in the manifest's order.
        left_out: the others.
    """

    folder: Path
    name: str
    resolution: int
    digest: str
    samples: tuple[Sample, ...]
    left_out: tuple[Sample, ...] = ()

    @classmethod
    def load(cls, folder: str | Path, parts: Sequence[Families] = USUAL) -> "Bench":
        """Read and check a bench folder.

        Args:
            folder: the folder.
            parts: which families are wanted, see `editclip.data.families`.

        Raises:
            InputError: a file is missing, a row of the manifest is not right, or there are no samples as wanted.
        """
        folder = Path(folder)
        for name in ("bench.json", "manifest.csv"):
            if not (folder / name).is_file():
                raise InputError(f"{folder} has no {name}: make it with python -m {MODULE}")
        facts = json.loads((folder / "bench.json").read_text(encoding="utf-8"))
        with open(folder / "manifest.csv", newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) not in (COLUMNS, OF_OLD):
                raise InputError(f"{folder / 'manifest.csv'} must have the columns {', '.join(COLUMNS)}")
            samples = tuple(_sample(folder, number, row) for number, row in enumerate(reader, 2))
        wanted = chosen([sample.family or "" for sample in samples], parts, f"the benchmark {folder}")
        mine, others = (tuple(s for s, w in zip(samples, wanted, strict=True) if w == kept) for kept in (True, False))
        return cls(folder, facts["name"], facts["resolution"], facts["digest"], mine, others)

    @property
    def whole(self) -> tuple[Sample, ...]:
        """All samples, also of families that are not wanted."""
        return self.samples + self.left_out

    def path(self, relative: str) -> Path:
        """The file behind an image field."""
        return self.folder / relative

    def image(self, relative: str) -> Image.Image:
        """An image field's frame: RGB, R x R."""
        with Image.open(self.path(relative)) as image:
            return image.convert("RGB")

    def mask(self, relative: str) -> Image.Image:
        """An edit mask: mode L, R x R, 255 where the edit changes pixels, else 0."""
        with Image.open(self.path(relative)) as image:
            return image.convert("L")


def _sample(folder: Path, line: int, row: Mapping[str, str]) -> Sample:
    where = f"line {line} of {folder / 'manifest.csv'}"
    if None in row or None in row.values():
        raise InputError(f"{where} does not have {len(row.keys() - {None})} cells")
    needed = [f.name for f in fields(Sample) if f.type is str]
    for name in needed:
        if not row[name]:
            raise InputError(f"{where} has no {name}")
    for name in (*FILES, *OPTIONAL_FILES):
        if row[name] and not (folder / row[name]).is_file():
            raise InputError(f"{where}: {name} {row[name]} does not exist")
    cells: dict[str, Any] = {name: row.get(name) or None for name in COLUMNS}
    return Sample(**cells | {"instructions": _instructions(where, cells["instructions"], cells["instruction"])})


def _instructions(where: str, cell: str | None, instruction: str | None) -> tuple[str, ...] | None:
    """The instructions of a row; those of a manifest that knows none are the one instruction."""
    if cell is None:
        return (instruction,) if instruction else None
    with contextlib.suppress(json.JSONDecodeError):
        if are_instructions(found := json.loads(cell)):
            return tuple(found)
    raise InputError(f'{where}: instructions {cell!r} is no JSON list of texts, such as ["make it red", "add a star"]')


def build(root: Path, config: Mapping[str, Any], folder: Path, threads: int, texts: Path | None = None) -> None:
    """Write frames, `manifest.csv` and `bench.json` of the tree `root` into `folder`.

    Args:
        root: a tree in TOP-Bench's layout.
        config: section `bench`: resolution, max_pixels, skip_incomplete, expect, strict and (optional) name, the
            folder's otherwise.
        folder: an empty folder.
        threads: images decoded at once.
        texts: instructions and captions, if they are not in the tree's own texts.jsonl.

    Raises:
        InputError: names everything that is wrong with the tree at once.
    """
    tree = scan(root, config["skip_incomplete"])
    told = Texts(tree, texts)
    frames = _frames(tree, folder, config["resolution"], config["max_pixels"], threads)
    samples = [s for edit_type in tree.types for s in _samples(edit_type, frames, told)]
    tree.problems += clashes(tree.types)
    if tree.problems:
        raise InputError(f"the benchmark {root} has {len(tree.problems)} problems: " + "; ".join(tree.problems))
    unchanged = _warn_unchanged(samples)
    totals = counts(tree.types) | {"skipped_incomplete": len(tree.skipped), "unchanged": unchanged}
    if config["expect"] is not None:
        compare_top_bench_x(tree.types, config["strict"])
    rows = [[_cell(getattr(s, name)) for name in COLUMNS] for s in samples]
    with open(folder / "manifest.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
    name = config.get("name") or root.resolve().name
    facts = {"name": name, "resolution": config["resolution"]}
    # frames are named by their pixels, so the manifest's rows stand for them too
    write_json(folder / "bench.json", {**facts, "digest": digest(facts, rows), "counts": totals})


def _cell(value: str | tuple[str, ...] | None) -> str:
    """A field as the manifest has it."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, tuple) else value or ""


def _frames(tree: Tree, folder: Path, resolution: int, max_pixels: int, threads: int) -> dict[Path, str]:
    """Write the canonical frame of every image once per distinct content; relative frame path by source file."""
    (folder / "frames").mkdir()
    paths = [path for edit_type in tree.types for path in iter_files(edit_type)]

    def convert(path: Path) -> str | InputError:
        try:
            image = squash(read_image(path, max_pixels=max_pixels), resolution)
        except InputError as error:
            return error
        if path.stem.endswith("_mask"):
            image = image.convert("L").point(lambda level: 255 if level >= 128 else 0)
        content = hashlib.sha256(image.mode.encode() + image.tobytes()).hexdigest()[:24]
        relative = f"frames/{content}.png"
        if not (folder / relative).exists():
            with atomic_file(folder / relative) as temporary:
                image.save(temporary, "PNG")
        return relative

    frames = {}
    with ThreadPoolExecutor(threads) as pool:
        results = tqdm(pool.map(convert, paths), desc="canonical frames", total=len(paths), unit="image")
        for path, result in zip(paths, results, strict=True):
            if isinstance(result, InputError):
                tree.problems.append(str(result))
            else:
                frames[path] = result
    return frames


def _samples(edit_type: EditType, frames: Mapping[Path, str], texts: Texts) -> list[Sample]:
    """Every exemplar x query of a type."""

    def frame(item: Item, side: str) -> str | None:
        return frames.get(item.files[side], "") if side in item.files else None

    samples = []
    for exemplar in edit_type.exemplars:
        for query in edit_type.queries:
            samples.append(
                Sample(
                    sample_id=edit_type.label(exemplar.id, query.id),
                    group=edit_type.group,
                    edit_type=edit_type.name,
                    exemplar_id=edit_type.label(exemplar.id),
                    query_id=edit_type.label(query.id),
                    exemplar_before=frame(exemplar, "0") or "",
                    exemplar_after=frame(exemplar, "1") or "",
                    query=frame(query, "0") or "",
                    ground_truth=frame(query, "1"),
                    edit_mask=frame(query, "mask"),
                    **texts(edit_type.group, edit_type.name, query.id),
                )
            )
    return samples


def _warn_unchanged(samples: list[Sample]) -> int:
    """Log pairs whose two frames are equal, and count them; direction metrics are undefined there."""
    pairs = {s.exemplar_id: (s.exemplar_before, s.exemplar_after) for s in samples}
    pairs |= {f"query {s.query_id}": (s.query, s.ground_truth or "") for s in samples}
    equal = [name for name, (before, after) in pairs.items() if before == after]
    for name in equal:
        log.warning("%s: the image after the edit equals the one before it; direction metrics are undefined", name)
    return len(equal)


def main() -> None:
    """Make a bench folder of a tree."""
    parser = stage.parser(__doc__)
    parser.add_argument("--root", type=Path, required=True, help="tree in TOP-Bench's layout")
    parser.add_argument("--config", type=stage.config_value, required=True, help="config section `bench`")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    config = checked(BenchSettings, arguments.config, "bench").model_dump()
    if not arguments.root.is_dir():
        raise InputError(f"the benchmark {arguments.root} is not a folder")
    options = {"module": MODULE, "config": config, "threads": arguments.threads, "force": arguments.force}
    with stage.output_folder(arguments.out, inputs={"root": arguments.root}, **options) as folder:
        build(arguments.root, config, folder, arguments.threads)


if __name__ == "__main__":
    stage.run(main)
