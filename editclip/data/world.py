"""The procedural world: training triplets and a benchmark tree, with ground truth, masks and texts for every edit.

Scenes are split by a digest of their scene graph into pools (benchmark, validation, test, training) that no seed
can mix, and the benchmark also leaves out every image of the given training data by its pixels. A fixed fifth of the
program x object combinations never occurs in training or validation data; every second scene of the benchmark is drawn
from it, and the test split holds it in its natural share.
"""

import contextlib
import functools
import hashlib
import io
import json
import multiprocessing
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from editclip import stage
from editclip.config.bench import WorldTree
from editclip.config.section import checked
from editclip.config.triplets import WorldSizes
from editclip.data.families import MULTI
from editclip.data.shards import read_images, write_split
from editclip.data.world_edits import Edit, programs
from editclip.data.world_multi import multi_types
from editclip.data.world_pairs import Pair, draw_pair, png
from editclip.errors import InputError

MODULE = "editclip.data.world"
SPLITS = ("train", "validation", "test")  # of the triplets
ROWS_AT_ONCE = 128  # that a process draws

WEIGHTS = {  # share of training pairs: local edits are harder for models than global ones
    "colour": 0.15,
    "texture": 0.12,
    "replacement": 0.14,
    "addition": 0.12,
    "removal": 0.10,
    "size": 0.07,
    "deformation": 0.09,
    "style": 0.08,
    "background": 0.06,
    "compound": 0.07,
}
TYPES = (  # families of the benchmark's edit types, in the order in which they are taken
    *("colour", "style", "background", "replacement", "addition"),
    *("removal", "compound", "texture", "size", "deformation"),
)
GROUPS = {"style": "02", "background": "03", "compound": "03", MULTI: "04"}  # all others are "01", local edits


def _triplet(
    split: str, seed: int, resolution: int, excluded: Set[str], row: int
) -> tuple[dict[str, Any], tuple[str, str]]:
    """A row of a split, and the digests of its images' pixels."""
    catalogue = programs()
    unseen = None if split == "test" else False
    rng = random.Random(f"{seed}-{split}-{row}")
    family = rng.choices(tuple(WEIGHTS), tuple(WEIGHTS.values()))[0]
    pair = draw_pair(rng, rng.choice(catalogue[family]), split, resolution, unseen=unseen, excluded=excluded)
    values = {
        "original_prompt": pair.before.caption,
        "original_image": png(pair.pixels[0]),
        "edit_prompt": rng.choice(pair.edit.wordings),
        "edited_prompt": pair.after.caption,
        "edited_image": png(pair.pixels[1]),
        "edit_id": pair.edit.id,
        "family": pair.edit.family,
    }
    return values, pair.digests


def triplet_rows(
    split: str, count: int, seed: int, resolution: int, seen: set[str], processes: int = 1
) -> Iterator[dict[str, Any]]:
    """`count` rows of the split.

    Args:
        split: one of `SPLITS`.
        count: number of rows.
        seed: row i of a split is drawn from this seed, the split and i.
        resolution: side of the images.
        seen: pixel digests; the held-out splits have none of them, the training split adds its own.
        processes: how many draw; the rows are the same.
    """
    excluded = frozenset() if split == "train" else frozenset(seen)
    draw = functools.partial(_triplet, split, seed, resolution, excluded)
    with multiprocessing.Pool(processes) if processes > 1 else contextlib.nullcontext() as pool:
        drawn = pool.imap(draw, range(count), ROWS_AT_ONCE) if pool else map(draw, range(count))
        for values, digests in drawn:
            if split == "train":
                seen.update(digests)
            yield values


def write_triplets(folder: Path, config: Mapping[str, Any], seed: int, processes: int = 1) -> None:
    """Write the splits of the config section `triplets`."""
    seen: set[str] = set()
    for split in SPLITS:
        rows = triplet_rows(split, config[split], seed, config["resolution"], seen, processes)
        write_split(folder, split, rows, config[split])


def bench_types(rng: random.Random, count: int) -> list[Edit]:
    """`count` different programs over the families in the order of `TYPES`, with as few words in common as can be."""
    catalogue = {family: rng.sample(edits, len(edits)) for family, edits in programs().items()}
    chosen: list[Edit] = []
    words: Counter[str] = Counter()
    for i in range(count):
        candidates = catalogue[TYPES[i % len(TYPES)]]
        if not candidates:
            raise InputError(f"config bench.types = {count} is more than the world has: ask for fewer")
        chosen.append(min(candidates, key=lambda e: sum(words[w] for w in e.id.split("_"))))
        candidates.remove(chosen[-1])
        words.update(chosen[-1].id.split("_"))
    return chosen


def bench_pairs(config: Mapping[str, Any], seed: int, excluded: Set[str]) -> Iterator[tuple[str, str, Pair]]:
    """Every pair of a benchmark: its side ("train" or "test"), its id, and the pair itself.

    Args:
        config: section `bench`: `types`, `multi_edits` (types of `MULTI`, which come last and leave the others as they
            are), and per type `exemplars` (train pairs) and `queries` (test pairs).
        seed: draws the edit types and their scenes.
        excluded: pixel digests that no image may have.
    """
    used = set(excluded)
    edits = bench_types(random.Random(f"{seed}-types"), config["types"])
    edits += multi_types(random.Random(f"{seed}-multi"), config["multi_edits"])
    for edit in tqdm(edits, desc="edit types", unit="type"):
        rng = random.Random(f"{seed}-bench-{edit.id}")
        for number in range(config["exemplars"] + config["queries"]):
            unseen = True if number % 2 and edit.family != MULTI else None  # of which training has seen none at all
            pair = draw_pair(rng, edit, "bench", config["resolution"], unseen=unseen, excluded=used)
            used.update((pair.before.digest, *pair.digests))
            yield "train" if number < config["exemplars"] else "test", f"{number:02d}", pair


def write_bench(folder: Path, config: Mapping[str, Any], seed: int, excluded: Set[str]) -> None:
    """Write the tree of `bench_pairs` in TOP-Bench's layout, with masks and `texts.jsonl`."""
    texts = []
    for side, name, pair in bench_pairs(config, seed, excluded):
        group = GROUPS.get(pair.edit.family, "01")
        _write_pair(folder / group / pair.edit.id / side, name, pair)
        if side == "test":
            texts.append(_text(group, pair, name))
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in texts)
    (folder / "texts.jsonl").write_text("".join(lines), encoding="utf-8")


def _write_pair(folder: Path, name: str, pair: Pair) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for side, pixels in enumerate(pair.pixels):
        (folder / f"{name}_{side}.png").write_bytes(png(pixels))
    if folder.name == "test":
        (folder / f"{name}_mask.png").write_bytes(png(pair.mask.astype(np.uint8) * 255))


def _text(group: str, pair: Pair, query: str) -> dict[str, Any]:
    return {
        "group": group,
        "type": pair.edit.id,
        "query": query,
        "instruction": pair.edit.wordings[0],
        "instructions": pair.edit.instructions,
        "caption_before": pair.before.caption,
        "caption_after": pair.after.caption,
        "origin": "benchmark",
        "family": pair.edit.family,
    }


def pixel_digests(triplets: Path) -> set[str]:
    """Digests of the decoded pixels of every image in a folder of triplets."""
    found = set()
    for data in read_images(triplets):
        with Image.open(io.BytesIO(data)) as image:
            found.add(hashlib.sha256(np.asarray(image.convert("RGB")).tobytes()).hexdigest())
    return found


def main() -> None:
    """Write the triplets or the benchmark tree."""
    parser = stage.parser(__doc__)
    parser.add_argument("what", choices=("triplets", "bench"))
    parser.add_argument("--config", type=stage.config_value, required=True, help="config section `triplets` or `bench`")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--triplets", type=Path, help="training data whose images the benchmark must not hold")
    arguments = parser.parse_args()
    section: type[WorldSizes | WorldTree] = WorldSizes if arguments.what == "triplets" else WorldTree
    config, seed = checked(section, arguments.config, arguments.what).model_dump(), arguments.seed
    inputs = {"triplets": arguments.triplets} if arguments.triplets else {}
    facts: dict[str, Any] = {"module": MODULE, "seed": seed, "force": arguments.force}
    with stage.output_folder(arguments.out, config=config, inputs=inputs, **facts) as folder:
        if arguments.what == "triplets":
            write_triplets(folder, config, seed, arguments.threads)
        else:
            excluded = pixel_digests(arguments.triplets) if arguments.triplets else set()
            write_bench(folder, config, seed, excluded)


if __name__ == "__main__":
    stage.run(main)
