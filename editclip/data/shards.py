"""Parquet shards in the schema of timbrooks/instructpix2pix-clip-filtered, written and indexed."""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from editclip.errors import InputError

PROMPTS = ("original_prompt", "edit_prompt", "edited_prompt")
IMAGES = ("original_image", "edited_image")
COLUMNS = ("original_prompt", "original_image", "edit_prompt", "edited_prompt", "edited_image")
EXTRA = ("edit_id", "family")  # of procedural data only
ROWS_PER_SHARD = 4096
ROWS_PER_GROUP = 256

_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def _schema() -> pa.Schema:
    """The released columns, then ours; the metadata lets the `datasets` library show the images."""
    fields = [(name, _IMAGE if name in IMAGES else pa.string()) for name in COLUMNS + EXTRA]
    features = {
        name: {"_type": "Image"} if name in IMAGES else {"dtype": "string", "_type": "Value"}
        for name in COLUMNS + EXTRA
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema(fields, metadata=metadata)


def write_split(folder: Path, split: str, rows: Iterable[Mapping[str, Any]], total: int) -> list[Path]:
    """Write `total` rows as `<split>-<shard>-of-<shards>.parquet`; equal rows give equal bytes.

    Args:
        folder: where the shards go.
        split: their name, such as "train".
        total: number of rows.
        rows: mappings with the columns `COLUMNS + EXTRA`; images are PNG bytes.
    """
    count = max(1, -(-total // ROWS_PER_SHARD))
    paths = []
    iterator = iter(tqdm(rows, desc=f"{split} triplets", unit="pair", total=total))
    for shard in range(count):
        size = min(ROWS_PER_SHARD, total - shard * ROWS_PER_SHARD)
        part = list(itertools.islice(iterator, size))
        columns = {name: [row[name] for row in part] for name in COLUMNS + EXTRA}
        for name in IMAGES:
            columns[name] = [{"bytes": data, "path": None} for data in columns[name]]
        path = folder / f"{split}-{shard:05d}-of-{count:05d}.parquet"
        pq.write_table(pa.table(columns, schema=_schema()), path, row_group_size=ROWS_PER_GROUP)
        paths.append(path)
    return paths


def find_shards(folder: Path, split: str | None = None) -> list[Path]:
    """Shards of `split` (None: of any split) in `folder` or in its `data/`, where the released dataset has them.

    Raises:
        InputError: there is none (only when `split` is None).
    """
    pattern = f"{split or '*'}-*.parquet"
    found = sorted(folder.glob(pattern)) or sorted((folder / "data").glob(pattern))
    if not found and split is None:
        raise InputError(f"no file {pattern} in {folder} or {folder / 'data'}: give a folder of Parquet shards")
    return found


def open_shard(path: Path, columns: tuple[str, ...] = ()) -> pq.ParquetFile:
    """Open a shard that has these columns, with images as structs {bytes, path}.

    Raises:
        InputError: the file is not Parquet, or a column is missing or of another type.
    """
    try:
        shard = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path} is not a Parquet file that can be read: replace it") from error
    schema = shard.schema_arrow
    for name in columns:
        if name not in schema.names:
            raise InputError(f"{path} has no column {name}: its columns are {', '.join(schema.names)}")
        kind = schema.field(name).type
        if name in IMAGES and not (pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0):
            raise InputError(f"{path} holds {kind} in {name} instead of images as {{bytes, path}}")
    return shard


def read_images(folder: Path) -> Iterator[bytes]:
    """The file bytes of every image of every shard."""
    for path in find_shards(folder):
        for batch in open_shard(path, IMAGES).iter_batches(ROWS_PER_GROUP, columns=list(IMAGES)):
            for name in IMAGES:
                yield from (value["bytes"] for value in batch.column(name).to_pylist())
