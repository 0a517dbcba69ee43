"""Training triplets (image, instruction, edited image) from Parquet shards, procedural or real.

The schema is that of timbrooks/instructpix2pix-clip-filtered; a folder of its shards is read as it is.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from editclip.data.images import read_image, squash
from editclip.data.shards import EXTRA, IMAGES, PROMPTS, find_shards, open_shard
from editclip.errors import InputError
from editclip.storage import atomic_file, cache_folder

if TYPE_CHECKING:
    import torch

MEMORY_BYTES = 2 * 2**30
READ_ROWS = 256  # rows read from a shard at a time

Pixels = NDArray[np.uint8]


def official_split(total: int, validation: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers (training, validation) as `torch.utils.data.random_split` draws them.

    EditCLIP's encoder is trained with seed 0 and its diffusion model with seed 42 (official scripts), each holding out
    1,000 of the 313,010 rows.
    """
    import torch

    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed)).numpy()
    return order[: total - validation], order[total - validation :]


class Split:
    """The texts of one split of a folder of triplets, and its images one by one.

    A folder without shards of a test split, as the released one, is tested on its validation rows.

    Args:
        folder: holds `<split>-*.parquet`, itself or in `data/`.
        split: "train", "validation" or "test".
        validation: rows held out where the folder has training shards only, as the released dataset.
        split_seed: seed of that `official_split`.

    Attributes:
        edit_prompts: instructions, one a row.
        original_prompts: captions of the images before the edit.
        edited_prompts: captions of the images after the edit.
        edit_ids: the program behind each row, None for data that has none.
        families: the family of each row's edit, None for data that has none.

    Raises:
        InputError: no shards, a missing column, an empty prompt cell, or (while decoding) a bad image.
    """

    def __init__(self, folder: str | Path, split: str, *, validation: int = 1000, split_seed: int = 0) -> None:
        self._files, rows = _locate(Path(folder), split, validation, split_seed)
        counts = [open_shard(file, (*PROMPTS, *IMAGES)).metadata.num_rows for file in self._files]
        self._starts = np.cumsum([0, *counts[:-1]])
        self._rows = np.arange(sum(counts)) if rows is None else rows
        texts = self._texts(sum(counts))
        self.original_prompts, self.edit_prompts, self.edited_prompts = (texts[name] for name in PROMPTS)
        self.edit_ids, self.families = (texts.get(name) for name in EXTRA)

    def __len__(self) -> int:
        return len(self._rows)

    def pictures(self, indices: Iterable[int]) -> Iterator[tuple[int, Image.Image, Image.Image]]:
        """Index, image before and image after of single rows, of the size that they have in the shards."""
        read, table = (-1, -1), pa.table({})
        for index in sorted(set(indices)):
            number, row = self._where(int(self._rows[index]))
            shard = open_shard(self._files[number])
            group, start = _row_group(shard, row)
            if read != (number, group):
                read, table = (number, group), shard.read_row_group(group, columns=list(IMAGES))
            cells = table.slice(row - start, 1).to_pylist()[0]
            before, after = (_image(self._files[number], row, name, cells) for name in IMAGES)
            yield index, before, after

    def _where(self, row: int) -> tuple[int, int]:
        """File number and row in that file of a row of the whole folder."""
        file = int(np.searchsorted(self._starts, row, side="right")) - 1
        return file, row - int(self._starts[file])

    def _texts(self, total: int) -> dict[str, list[str]]:
        """Text columns of the split, in its order; `edit_id` and `family` only where every shard has them."""
        columns: dict[str, list[str | None]] = {name: [] for name in (*PROMPTS, *EXTRA)}
        for file in self._files:
            shard = open_shard(file)
            table = shard.read(columns=[name for name in columns if name in shard.schema_arrow.names])
            for name in table.column_names:
                values = table.column(name).to_pylist()
                if None in values:
                    raise InputError(f"{name} in row {values.index(None)} of {file} is empty: give it a text")
                columns[name].extend(values)
        return {name: [str(v[i]) for i in self._rows] for name, v in columns.items() if len(v) == total}


class Triplets(Split):
    """A split whose images are there in batches, at one resolution.

    Decoded images stay in memory when the whole split fits `memory_bytes`; otherwise they are decoded on demand, by a
    thread pool, from a memory-mapped copy of the shards in the cache.

    Args:
        folder: see `Split`, as `split`, `validation` and `split_seed`.
        split: of the folder.
        resolution: images are squashed to this side.
        memory_bytes: most memory for decoded images.
        validation: rows to hold out.
        split_seed: of them.
        threads: decoding threads.
    """

    def __init__(
        self,
        folder: str | Path,
        split: str,
        resolution: int,
        *,
        memory_bytes: int = MEMORY_BYTES,
        validation: int = 1000,
        split_seed: int = 0,
        threads: int = 4,
    ) -> None:
        super().__init__(folder, split, validation=validation, split_seed=split_seed)
        self.resolution = resolution
        self._pool = ThreadPoolExecutor(threads)
        size = 2 * 3 * resolution**2 * len(self)
        self._decoded = self._decode_all() if size <= memory_bytes else None
        self._mapped = None if self._decoded is not None else [_memory_map(f) for f in self._files]

    def batch(self, indices: Sequence[int]) -> "tuple[torch.Tensor, torch.Tensor]":
        """Images before and after: two uint8 tensors B x 3 x R x R, 0 to 255."""
        import torch

        numbers = [int(i) for i in indices]
        if self._decoded is not None:
            pixels = self._decoded[numbers]
        else:
            pixels = np.stack(list(self._pool.map(self._decode_row, numbers)))
        images = torch.from_numpy(pixels)
        return images[:, 0].contiguous(), images[:, 1].contiguous()

    def _decode(self, file: Path, row: int, cells: Mapping[str, Any]) -> Pixels:
        """Both images of one row, 2 x 3 x R x R."""
        pair = [squash(_image(file, row, name, cells), self.resolution) for name in IMAGES]
        return np.stack([np.asarray(image).transpose(2, 0, 1) for image in pair])

    def _decode_row(self, index: int) -> Pixels:
        assert self._mapped is not None
        file, row = self._where(int(self._rows[index]))
        table = self._mapped[file]
        return self._decode(self._files[file], row, {name: table.column(name)[row].as_py() for name in IMAGES})

    def _decode_all(self) -> Pixels:
        """Decode the split, reading each shard once."""
        decoded = np.empty((len(self), 2, 3, self.resolution, self.resolution), np.uint8)
        places = {int(row): index for index, row in enumerate(self._rows)}
        with tqdm(total=len(self), desc="decoding", unit="pair", leave=False) as bar:
            for file, start in zip(self._files, self._starts, strict=True):
                row = 0
                for part in open_shard(file).iter_batches(READ_ROWS, columns=list(IMAGES)):
                    wanted = [i for i in range(part.num_rows) if int(start) + row + i in places]
                    cells = part.take(pa.array(wanted, pa.int64())).to_pylist()
                    numbers = [row + i for i in wanted]
                    pairs = self._pool.map(self._decode, repeat(file), numbers, cells)
                    for number, pair in zip(numbers, pairs, strict=True):
                        decoded[places[int(start) + number]] = pair
                    row += part.num_rows
                    bar.update(len(wanted))
        return decoded


def _image(file: Path, row: int, name: str, cells: Mapping[str, Any]) -> Image.Image:
    """The image in the column `name` of a row of a shard."""
    label = f"{name} in row {row} of {file}"
    data = (cells[name] or {}).get("bytes")
    if data is None:
        raise InputError(f"{label} has no image bytes: write the bytes into the shard")
    return read_image(data, label)


def _row_group(shard: pq.ParquetFile, row: int) -> tuple[int, int]:
    """Number and first row of the group of a shard in which a row is."""
    sizes = [shard.metadata.row_group(i).num_rows for i in range(shard.num_row_groups)]
    ends = np.cumsum(sizes)
    group = int(np.searchsorted(ends, row, side="right"))
    return group, int(ends[group]) - sizes[group]


def _locate(folder: Path, split: str, validation: int, seed: int) -> tuple[list[Path], np.ndarray | None]:
    """Shards of a split, and which of their rows belong to it (None: all)."""
    if split not in ("train", "validation", "test"):
        raise InputError(f"there is no split {split!r}: choose train, validation or test")
    train = find_shards(folder, "train")
    held_out = find_shards(folder, "validation")
    if split == "test":
        held_out = find_shards(folder, "test") or held_out
    if not train:
        raise InputError(f"no file train-*.parquet in {folder} or {folder / 'data'}: give a folder of Parquet shards")
    if held_out:
        return (train if split == "train" else held_out), None
    total = sum(open_shard(f).metadata.num_rows for f in train)
    if total <= validation:
        raise InputError(f"{folder} has {total} rows, too few to hold out {validation} for validation")
    return train, official_split(total, validation, seed)[split != "train"]


def _memory_map(file: Path) -> pa.Table:
    """The image columns of a shard as a memory-mapped Arrow file, copied into the cache once."""
    facts = file.stat()
    copy = cache_folder("triplets", str(file.resolve()), facts.st_size, facts.st_mtime_ns) / "images.arrow"
    if not copy.exists():
        shard = open_shard(file)
        schema = pa.schema([shard.schema_arrow.field(name) for name in IMAGES])
        with atomic_file(copy) as temporary, pa.ipc.new_file(str(temporary), schema) as writer:
            for part in shard.iter_batches(READ_ROWS, columns=list(IMAGES)):
                writer.write_batch(part.select(list(IMAGES)))
    return pa.ipc.open_file(pa.memory_map(str(copy))).read_all()
