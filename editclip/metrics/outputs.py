"""The outputs in a folder, whoever made them: which sample each image is of, and what is wrong with the folder.

A folder holds one image for each sample, `<sample_id>.png` (or jpg, jpeg, webp), or folders `seed=<s>` of them. What
is not as it should be is said and the rest is used: a sample without an image, a file that is no sample's, one that
cannot be read. An image of another size or mode is brought to the canonical frame just as the benchmark's own images
are: upright RGB, transparency on white, squashed to R×R with PIL's bicubic filter.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from editclip.data.bench import Bench, Sample
from editclip.data.images import read_image, squash
from editclip.data.tree import SUFFIXES
from editclip.errors import InputError, nearest
from editclip.metrics.scores import Edit, Score
from editclip.provenance import code_digest
from editclip.storage import atomic_file, cache_folder, file_digest

LISTED = 5  # names that a message gives
ORIENTATION = 0x0112  # the EXIF tag


@dataclass
class Outputs:
    """What was found.

    Attributes:
        edits: for each seed one edit per sample, in the benchmark's order.
        seconds: time of an edit by (seed, sample_id), as far as an edits.csv says it.
        missing: samples that have no image, as `<sample_id>` or `<sample_id> (seed=<s>)`.
        unreadable: reason by name, for images that are there and could not be used.
        unknown: image files that are no sample's, each with the sample that may be meant.
        resized: number of images by size ("64×64") that were squashed to the frame.
    """

    edits: dict[int, list[Edit]] = field(default_factory=dict)
    seconds: dict[tuple[int, str], str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    resized: Counter[str] = field(default_factory=Counter)

    def problems(self) -> list[str]:
        """One sentence for each kind of thing that is not as it should be, with the first names."""
        unreadable = [f"{name} ({reason})" for name, reason in self.unreadable.items()]
        kinds = (("missing", self.missing), ("unreadable", unreadable), ("of no sample", self.unknown))
        return [f"{len(names)} {kind}: {_listed(names)}" for kind, names in kinds if names]

    def notes(self) -> list[str]:
        """The same as counts, for the notes of a table, and how many images were squashed."""
        counts = {"n_missing": len(self.missing), "n_unreadable": len(self.unreadable)}
        counts |= {"n_extra": len(self.unknown), "n_squashed": self.resized.total()}
        return [f"{name}={count}" for name, count in counts.items() if count]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def collect(folder: Path, bench: Bench, max_pixels: int, threads: int) -> Outputs:
    """Find the outputs of `bench` in `folder`.

    Args:
        folder: images, or folders `seed=<s>` of images; an edits.csv beside them adds the reasons of failures and the
            seconds of each edit.
        bench: the benchmark.
        max_pixels: larger images are not decoded and count as unreadable.
        threads: images decoded at once.

    Raises:
        InputError: the folder is not laid out like that, or no image in it can be used.
    """
    found, folders = Outputs(), _seed_folders(folder)
    for seed, place in folders.items():
        _collect(found, place, seed, bench, max_pixels, threads, f" (seed={seed})" if len(folders) > 1 else "")
    if not any(edit.path for group in found.edits.values() for edit in group):
        raise InputError(
            f"{folder} has no usable output of benchmark {bench.name!r}; {'; '.join(found.problems())}; outputs are "
            f"called <sample_id>.png, like {bench.samples[0].sample_id}.png"
        )
    return found


def _images(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))


def _seed_folders(folder: Path) -> dict[int, Path]:
    """The folders to look into, by seed; images that lie in `folder` itself are of seed 0."""
    if not folder.is_dir():
        raise InputError(f"the folder of outputs {folder} does not exist")
    inside = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    seeds = {int(m[1]): p for p in inside if (m := re.fullmatch(r"seed=(\d+)", p.name))}
    if seeds and _images(folder):
        raise InputError(f"{folder} holds both images and seed=<s> folders: keep one of the two")
    if not seeds and not _images(folder):
        names = [p.name for p in inside]
        hint = f"; it holds the folders {_listed(names)}: give one of them" if names else ""
        raise InputError(f"{folder} has neither images (<sample_id>.png, .jpg or .webp) nor seed=<s> folders{hint}")
    return dict(sorted(seeds.items())) or {0: folder}


def _recorded(folder: Path) -> dict[str, dict[str, str]]:
    """Rows of the folder's edits.csv by sample; none without that file."""
    path = folder / "edits.csv"
    if not path.is_file():
        return {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {row["sample_id"]: {k: v or "" for k, v in row.items()} for row in csv.DictReader(file)}
    except (KeyError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a table of edits ({error!r}): make it again or remove it") from error


def _collect(found: Outputs, folder: Path, seed: int, bench: Bench, max_pixels: int, threads: int, where: str) -> None:
    """Add the outputs of one seed to `found`; `where` goes behind the names of its samples."""
    recorded, files = _recorded(folder), _images(folder)
    by_name: dict[str, list[Path]] = {}
    for path in files:
        by_name.setdefault(path.stem, []).append(path)

    def look(sample: Sample) -> Edit:
        mine, row = by_name.get(sample.sample_id, []), recorded.get(sample.sample_id, {})
        return _edit(sample, mine, row, bench.resolution, max_pixels)

    with ThreadPoolExecutor(threads) as pool:
        looked = tqdm(pool.map(look, bench.samples), desc=f"outputs{where}", total=len(bench.samples), unit="image")
        found.edits[seed] = list(looked)
    for edit in found.edits[seed]:
        name, row = edit.sample.sample_id, recorded.get(edit.sample.sample_id, {})
        if edit.path is not None:
            found.seconds[seed, name] = row.get("seconds", "")
            width, height = _size(by_name[name][0])
            if (width, height) != (bench.resolution, bench.resolution):
                found.resized[f"{width}×{height}"] += 1
        elif edit.problem is not None and edit.problem.status == "failed":
            if name in by_name:
                found.unreadable[by_name[name][0].name + where] = edit.problem.reason
            else:
                found.missing.append(name + where)
    absent = [edit.sample.sample_id for edit in found.edits[seed] if edit.path is None]
    known = {sample.sample_id for sample in bench.whole}
    found.unknown += _unknown([p for p in files if p.stem not in known], absent, where)


def _unknown(files: Iterable[Path], absent: list[str], where: str) -> list[str]:
    """Names of files that are no sample's; those that will be listed with the absent sample nearest in name."""
    return [f"{p.name}{where}" + (nearest(p.stem, absent) if i < LISTED else "") for i, p in enumerate(files)]


def _edit(sample: Sample, files: list[Path], row: Mapping[str, str], resolution: int, max_pixels: int) -> Edit:
    """One sample's output, or the problem that takes its place."""
    if len(files) > 1:
        names = " and ".join(path.name for path in files)
        return Edit(sample, problem=Score.failed(f"{names} are both of this sample"))
    if not files:
        outcome = Score.skipped if row.get("status") == "skipped" else Score.failed
        return Edit(sample, problem=outcome(row.get("reason") or "no image"))
    try:
        path = canonical(files[0], resolution, max_pixels)
    except InputError as error:
        return Edit(sample, problem=Score.failed(str(error).removeprefix(f"{files[0]} ")))
    sha256 = file_digest(path)
    if row.get("sha256") and path == files[0] and row["sha256"] != sha256:
        return Edit(sample, problem=Score.failed("is not the image that edits.csv recorded"))
    return Edit(sample, path, sha256)


def _size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def canonical(path: Path, resolution: int, max_pixels: int) -> Path:
    """A file with the image of `path` in the canonical frame: itself if it is upright RGB of that size, else a PNG.

    The PNG lies in the content-keyed cache.

    Raises:
        InputError: `path` is no image, damaged, or has more than `max_pixels` pixels.
    """
    image = read_image(path, max_pixels=max_pixels)
    with Image.open(path) as file:
        plain = file.mode == "RGB" and not file.has_transparency_data and file.getexif().get(ORIENTATION, 1) == 1
    if plain and image.size == (resolution, resolution):
        return path
    folder = cache_folder("frames", resolution, code_digest("editclip.data.images"))
    target = folder / f"{file_digest(path)}.png"
    if not target.is_file():
        with atomic_file(target) as temporary:
            squash(image, resolution).save(temporary, "PNG")
    return target
