"""The feature cache: nothing is encoded twice, the values do not change, and a broken-off run keeps its batches."""

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from metric_toys import photo, write_edits

from editclip.data.bench import Bench
from editclip.metrics.clip import ClipScores
from editclip.metrics.editclip import EditClipScores
from editclip.metrics.features import Store, encode, image_key, pair_key
from editclip.metrics.lpips import LPIPS
from editclip.metrics.scores import Setting, read_edits
from editclip.provenance import code_digest, import_closure

CONFIGS = {
    ClipScores: {"encoder": "clip", "direction": "auto", "minimum_length": 1e-4},
    EditClipScores: {"encoder": "editclip"},
    LPIPS: {"nets": ["alex"], "trunk": "random", "resolution": 64},
}


class Counter:
    """An encoder that remembers what it was given."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __call__(self, items: list[int]) -> torch.Tensor:
        self.batches.append(list(items))
        return torch.tensor([[float(item), item / 3] for item in items])


def test_only_what_is_not_stored_is_encoded_in_batches_of_one_size(tmp_path: Path) -> None:
    counter, store = Counter(), Store(tmp_path)
    items = {f"key{i}": i for i in range(5)}
    first = encode(items, counter, store, batch_size=3, label="")
    assert counter.batches == [[0, 1, 2], [3, 4, 3]]
    again = encode(items, counter, store, batch_size=3, label="")
    assert len(counter.batches) == 2
    assert {k: v.tolist() for k, v in again.items()} == {k: v.tolist() for k, v in first.items()}
    encode({**items, "key9": 9}, counter, store, batch_size=3, label="")
    assert counter.batches[2:] == [[9, 9, 9]]
    assert torch.equal(first["key4"], torch.tensor([4.0, 4 / 3]))


def test_finished_batches_survive_a_crash(tmp_path: Path) -> None:
    counter = Counter()

    def crash(items: list[int]) -> torch.Tensor:
        if 3 in items:
            raise KeyboardInterrupt
        return counter(items)

    items = {f"key{i}": i for i in range(5)}
    with pytest.raises(KeyboardInterrupt):
        encode(items, crash, Store(tmp_path), batch_size=2, label="")
    encode(items, counter, Store(tmp_path), batch_size=2, label="")
    assert counter.batches == [[0, 1], [2, 3], [4, 4]]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_file_that_another_job_is_writing_is_not_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save({"a": torch.ones(2)})
    (tmp_path / ".half.safetensors").write_bytes(b"half a header")
    assert store.load(["a", "b"]).keys() == {"a"}


def test_half_precision_features_are_kept_in_fp32(tmp_path: Path) -> None:
    found = encode({"a": 1}, lambda items: torch.ones(len(items), 2).half(), Store(tmp_path), batch_size=1, label="")
    assert found["a"].dtype == Store(tmp_path).load(["a"])["a"].dtype == torch.float32


def test_keys_follow_content_and_order(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.png", "b.png", "c.png")]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        photo(seed).save(path)
    a, b, c = paths
    assert image_key(a) == image_key(b) != image_key(c)
    assert pair_key(a, c) == pair_key(b, c) != pair_key(c, a)


@pytest.mark.parametrize("family_type", [ClipScores, EditClipScores])
def test_a_second_scoring_encodes_nothing_and_gives_the_same_bits(
    family_type: type, setting: Callable[..., Setting], bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edits = [(e.sample, e.path) for e in read_edits(write_edits(tmp_path / "edits", bench) / "seed=0", bench)]
    family = family_type(setting(CONFIGS[family_type]))
    model = family.clip.model if family_type is ClipScores else family.model.model
    images: list[int] = []
    texts: list[int] = []
    model.vision_model.register_forward_hook(lambda _m, _i, output: images.append(len(output.last_hidden_state)))
    model.text_model.register_forward_hook(lambda _m, _i, output: texts.append(len(output.last_hidden_state)))
    first = family.score(edits)
    # 6 outputs, 3 queries and 4 exemplar images; or 6 edits and 2 exemplar pairs: in batches of 4
    assert images == ([4, 4, 4, 4] if family_type is ClipScores else [4, 4])
    assert len(texts) == (7 if family_type is ClipScores else 1)
    assert family.score(edits) == first
    assert len(images) == (4 if family_type is ClipScores else 2) and len(texts) in (1, 7)
    monkeypatch.setenv("EDITCLIP_CACHE", str(tmp_path / "empty"))
    shuffled = family.score(edits[::-1])[::-1]  # everything anew, in other batches
    assert len(images) == (8 if family_type is ClipScores else 4)
    assert shuffled == first


@pytest.mark.parametrize("change", ["batch size", "code"])
@pytest.mark.parametrize("family_type", CONFIGS)
def test_values_are_not_reused_for_other_code_or_batches(
    family_type: type,
    change: str,
    setting: Callable[..., Setting],
    bench: Bench,
    tmp_path: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    edits = [(e.sample, e.path) for e in read_edits(write_edits(tmp_path / "edits", bench) / "seed=0", bench)]
    first = setting(CONFIGS[family_type])
    family_type(first).score(edits)
    before = set(cache.rglob("*.safetensors"))
    source = Path(inspect.getfile(family_type))

    def edited(*modules: str) -> str:
        """The code digest as it is after an edit of the family's own file."""
        return "edited" if source in import_closure(*modules) else code_digest(*modules)

    if change == "batch size":
        first = dataclasses.replace(first, batch_size=3)
    else:
        monkeypatch.setattr("editclip.metrics.features.code_digest", edited)
    family_type(first).score(edits)
    fresh = set(cache.rglob("*.safetensors")) - before
    texts = 7 if family_type is ClipScores else 1 if family_type is EditClipScores else 0
    batches = {ClipScores: (4, 5), EditClipScores: (2, 3), LPIPS: (3, 3)}[family_type]
    assert len(fresh) == (batches[1] if change == "batch size" else batches[0] + texts)
