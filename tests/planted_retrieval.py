"""A test split of eight pairs whose edits are angles in a plane, so that every neighbour can be read off."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from editclip.config.metrics import Retrieval
from editclip.config.run import Statistics
from editclip.data.triplets import Split
from editclip.metrics.encoded import Features, write_features
from editclip.metrics.retrieval import write_retrieval

STATISTICS = Statistics(resamples=1000, level=0.95, seed=0)
CONFIG = Retrieval(queries=3, nearest=3, perplexity=30)
# edit, its family, the pair's instruction, and the angle of its edit in degrees
ROWS = (
    ("a", "colour", "do a", 0),
    ("a", "colour", "make a", 2),
    ("a", "colour", "do a", 5),
    ("b", "colour", "do b", 20),
    ("b", "colour", "do b", 60),
    ("c", "size", "do c", 90),
    ("c", "size", "do c", 91),
    ("d", "style", "do d", 150),
)
TEXTS = {"do a": 1, "do b": 40, "do c": 90, "do d": 150, "make a": 10}  # sorted


def at(degrees: list[int]) -> np.ndarray:
    """Unit vectors at these angles."""
    return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1)


def encoders() -> dict[str, Features]:
    """One encoder with those angles, and one for which everything is the same."""
    angles = Features(at([angle for *_, angle in ROWS]), at(list(TEXTS.values())))
    return {"editclip": angles, "clip": Features(at([0] * len(ROWS)), at([0] * len(TEXTS)))}


def png(row: int, side: int = 8) -> bytes:
    """An image of one grey, another for each row."""
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (20 * row,) * 3).save(buffer, "PNG")
    return buffer.getvalue()


def write_triplets(folder: Path, count: int = len(ROWS)) -> Path:
    """Triplets whose test split is the first `count` of `ROWS`."""
    folder.mkdir(parents=True)
    images = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    for split in ("train", "test"):
        rows = ROWS[:count]
        columns = {name: ["x"] * len(rows) for name in ("original_prompt", "edited_prompt")}
        columns |= {"edit_id": [row[0] for row in rows], "family": [row[1] for row in rows]}
        table = pa.table(columns | {"edit_prompt": [row[2] for row in rows]})
        for name, first in (("original_image", 0), ("edited_image", 1)):
            cells = [{"bytes": png(i + first), "path": None} for i in range(len(rows))]
            table = table.append_column(name, pa.array(cells, images))
        pq.write_table(table, folder / f"{split}-00000-of-00001.parquet", row_group_size=3)
    return folder


def write_representation(folder: Path) -> Path:
    """What the stage before keeps of that split."""
    folder.mkdir(parents=True)
    write_features(folder, encoders(), list(TEXTS))
    return folder


def write_planted(run: Path) -> Path:
    """The folder retrieval/ of a run, made from its triplets/ and representation/, which are written too."""
    split, folder = Split(write_triplets(run / "triplets"), "test"), run / "retrieval"
    folder.mkdir(parents=True)
    write_retrieval(folder, split, write_representation(run / "representation"), CONFIG, STATISTICS)
    return folder


def arguments(triplets: Path, representation: Path, out: Path) -> list[str]:
    """The command line of the stage."""
    given = ["--triplets", triplets, "--representation", representation, "--out", out, "--threads", 1]
    return ["retrieval", *map(str, given), "--config", CONFIG.model_dump_json(),
            "--statistics", json.dumps(STATISTICS.model_dump())]  # fmt: skip
