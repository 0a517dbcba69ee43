"""Reading triplets from Parquet shards, and the released split."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from editclip.data.triplets import Split, Triplets, official_split
from editclip.errors import InputError

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def file(colour, size=(8, 8), mode="RGB", kind="PNG") -> dict:
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, kind)
    return {"bytes": buffer.getvalue(), "path": "x.jpg"}


def noise() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def shard(path: Path, rows: int, first: int = 0, **changes) -> None:
    """A shard as a real one: another column order, an extra column, images of several sizes and modes."""
    images = [file((first + i, 0, 0), size=(8 + i % 3, 6)) for i in range(rows)]
    columns = {
        "clip_score": pa.array([0.2] * rows),
        "edited_image": pa.array([file(first + i, mode="L") for i in range(rows)], IMAGE),
        "original_image": pa.array(images, IMAGE),
        "edit_prompt": pa.array([f"edit {first + i}" for i in range(rows)]),
        "original_prompt": pa.array([f"before {first + i}" for i in range(rows)]),
        "edited_prompt": pa.array([f"after {first + i}" for i in range(rows)]),
    }
    columns.update(changes)
    table = pa.table({name: value for name, value in columns.items() if value is not None})
    pq.write_table(table, path, row_group_size=3)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("EDITCLIP_CACHE", str(tmp_path / "cache"))
    shard(tmp_path / "train-00000-of-00002.parquet", 5)
    shard(tmp_path / "train-00001-of-00002.parquet", 4, first=5)
    shard(tmp_path / "validation-00000-of-00001.parquet", 2, first=100)
    return tmp_path


@pytest.mark.parametrize("memory_bytes", [2**30, 0], ids=["in memory", "on demand"])
def test_real_schema_sizes_and_modes(folder, memory_bytes):
    triplets = Triplets(folder, "train", 4, memory_bytes=memory_bytes)
    assert len(triplets) == 9
    assert triplets.edit_prompts[6] == "edit 6"
    assert triplets.original_prompts[0] == "before 0" and triplets.edited_prompts[8] == "after 8"
    assert triplets.edit_ids is None
    before, after = triplets.batch([8, 0, 4])
    assert before.shape == after.shape == (3, 3, 4, 4)
    assert before.dtype == after.dtype == torch.uint8
    # row i is red of level i before, grey of level i after
    assert before[:, :, 1, 1].tolist() == [[8, 0, 0], [0, 0, 0], [4, 0, 0]]
    assert after[:, :, 1, 1].tolist() == [[8, 8, 8], [0, 0, 0], [4, 4, 4]]
    assert len(Triplets(folder, "validation", 4, memory_bytes=memory_bytes)) == 2


def test_images_are_squashed_bicubically(tmp_path):
    images = pa.array([{"bytes": noise(), "path": None}], IMAGE)
    shard(tmp_path / "train-0.parquet", 1, original_image=images)
    shard(tmp_path / "validation-0.parquet", 1)
    before, _ = Triplets(tmp_path, "train", 4).batch([0])
    # PIL's bicubic squash, as the official data sets do (facts of the release: Resize((r, r)) on PIL images)
    expected = np.asarray(Image.open(io.BytesIO(noise())).resize((4, 4), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(before[0].permute(1, 2, 0).numpy(), expected)


def test_released_layout_is_split_as_officially(tmp_path):
    (tmp_path / "data").mkdir()
    shard(tmp_path / "data" / "train-00000-of-00001.parquet", 20)
    train = Triplets(tmp_path, "train", 4, validation=6, split_seed=3)
    held_out = Triplets(tmp_path, "validation", 4, validation=6, split_seed=3)
    order = torch.utils.data.random_split(range(20), [14, 6], torch.Generator().manual_seed(3))
    assert train.edit_prompts == [f"edit {i}" for i in order[0]]
    assert held_out.edit_prompts == [f"edit {i}" for i in order[1]]
    before, _ = held_out.batch(range(6))
    assert before[:, 0, 0, 0].tolist() == list(order[1])
    test = Triplets(tmp_path, "test", 4, validation=6, split_seed=3)
    assert test.edit_prompts == held_out.edit_prompts, "without test shards the validation rows are tested on"


def test_a_test_split_is_read_where_there_is_one(folder):
    shard(folder / "test-00000-of-00001.parquet", 3, first=50)
    assert Triplets(folder, "test", 4).edit_prompts == ["edit 50", "edit 51", "edit 52"]
    assert len(Triplets(folder, "train", 4)) == 9 and len(Triplets(folder, "validation", 4)) == 2


def test_edit_ids_and_families(tmp_path):
    for name in ("train-0", "validation-0"):
        shard(tmp_path / f"{name}.parquet", 2, edit_id=pa.array(["a", "b"]), family=pa.array(["size", "style"]))
    train = Triplets(tmp_path, "train", 4)
    assert train.edit_ids == ["a", "b"] and train.families == ["size", "style"]
    shard(tmp_path / "train-1.parquet", 1, edit_id=pa.array(["a"]))
    split = Split(tmp_path, "train")
    assert split.edit_ids == ["a", "b", "a"] and split.families is None, "not every shard has them"


def test_single_pictures_are_as_they_are_in_the_shards(folder):
    split = Split(folder, "train")  # shards of five and four rows, in groups of three
    found = list(split.pictures([8, 0, 5, 4, 0]))
    assert [index for index, *_ in found] == [0, 4, 5, 8]
    for index, before, after in found:
        assert before.size == (8 + (index % 5) % 3, 6) and after.size == (8, 8)
        assert before.getpixel((0, 0)) == (index, 0, 0) and after.getpixel((0, 0)) == (index,) * 3


@pytest.mark.parametrize(
    ("seed", "train", "validation", "sha1"),
    [
        # first training and validation rows, and sha1 of the comma-joined sorted validation rows, of 313,010 rows with
        # 1,000 held out: the encoder's split (seed 0) and the diffusion model's (seed 42) of the official code
        (0, [170744, 233034, 167431], [158426, 126236, 53371, 118122, 196824], "2a99fbe0b36c"),
        (42, None, [227269, 268073, 249643, 193666, 145083], "b083fda4be74"),
    ],
)
def test_official_split(seed, train, validation, sha1):
    kept, held_out = official_split(313_010, 1000, seed)
    assert len(kept) == 312_010 and len(held_out) == 1000
    assert train is None or kept[:3].tolist() == train
    assert held_out[:5].tolist() == validation
    assert hashlib.sha1(",".join(map(str, sorted(held_out))).encode()).hexdigest()[:12] == sha1


def test_official_splits_share_four_rows():
    both = set(official_split(313_010, 1000, 0)[1]) & set(official_split(313_010, 1000, 42)[1])
    assert len(both) == 4  # counted on the official splits


@pytest.mark.parametrize("memory_bytes", [2**30, 0], ids=["in memory", "on demand"])
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"bytes": noise()[:-60], "path": None}, "is damaged"),
        ({"bytes": b"no image", "path": None}, "is not an image"),
        ({"bytes": None, "path": "x.jpg"}, "has no image bytes"),
        (None, "has no image bytes"),
    ],
)
def test_bad_image_names_file_and_row(folder, memory_bytes, bad, message):
    images = pa.array([file(0), file(0), bad, file(0)], IMAGE)
    shard(folder / "train-00001-of-00002.parquet", 4, edited_image=images)
    with pytest.raises(InputError, match=rf"edited_image in row 2 of .*train-00001-of-00002\.parquet {message}"):
        Triplets(folder, "train", 4, memory_bytes=memory_bytes).batch([7])


def test_bad_shards(folder):
    path = folder / "train-00000-of-00002.parquet"
    shard(path, 3, edit_prompt=pa.array(["a", None, "b"]))
    with pytest.raises(InputError, match=r"edit_prompt in row 1 of .*train-00000-of-00002.parquet is empty"):
        Triplets(folder, "train", 4)
    shard(path, 3, edited_prompt=None)
    with pytest.raises(InputError, match="no column edited_prompt"):
        Triplets(folder, "train", 4)
    shard(path, 3, edited_image=pa.array([b"x"] * 3))
    with pytest.raises(InputError, match="holds binary in edited_image"):
        Triplets(folder, "train", 4)
    path.write_bytes(b"PAR1 no more")
    with pytest.raises(InputError, match="is not a Parquet file"):
        Triplets(folder, "train", 4)


def test_missing_shards_and_splits(tmp_path, folder):
    with pytest.raises(InputError, match=r"no file train-\*\.parquet"):
        Triplets(tmp_path / "nothing", "train", 4)
    with pytest.raises(InputError, match="there is no split 'dev'"):
        Triplets(folder, "dev", 4)
    (folder / "validation-00000-of-00001.parquet").unlink()
    with pytest.raises(InputError, match="9 rows, too few to hold out 1000"):
        Triplets(folder, "validation", 4)
