"""Weights as a repository keeps them: packed, pinned, and whole again."""

import json
import shutil
from pathlib import Path

import pytest
import tiny_models as tiny
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPModel, CLIPTextModel

from editclip import weights
from editclip.config.weights import LocalWeights
from editclip.data.world_identity import world_digest
from editclip.errors import InputError
from editclip.packed import MANIFEST, check_local, main, pack, unpack
from editclip.storage import path_digest

RESOLUTION = 16


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A CLIP, and a pipeline with its text encoder."""
    root = tmp_path_factory.mktemp("weights")
    tiny.save_clip(root / "clip")
    tiny.save_ip2p(root / "ip2p", root / "clip")
    (root / "ip2p" / "logs" / "kept").mkdir(parents=True)
    (root / "ip2p" / "logs" / "kept" / "large").write_text("not for a repository")
    (root / "ip2p" / "logs" / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    inputs = {"clip": {"path": "/home/me/clip", "sha256": "0" * 64}}
    (root / "ip2p" / "provenance.json").write_text(json.dumps({"seconds": 3, "inputs": inputs}))
    return {name: root / name for name in ("clip", "ip2p")}


@pytest.fixture
def packed(source: dict[str, Path], tmp_path: Path) -> Path:
    (tmp_path / "packed").mkdir()
    pack(source, RESOLUTION, tmp_path / "packed")
    return tmp_path / "packed"


def entry(packed: Path, name: str = "ip2p", pinned: bool = True) -> LocalWeights:
    folder = packed / name
    kind = {"ip2p": "editclip.recipes.ip2p", "clip": "editclip.recipes.clip"}[name]
    sha256 = path_digest(folder) if pinned else None
    return LocalWeights(kind=kind, source="path", path=str(folder), sha256=sha256)


def fetch(found: LocalWeights, out: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    config = found.model_dump_json(exclude={"starts_from"})
    monkeypatch.setattr("sys.argv", ["weights", "it", "--config", config, "--out", str(out)])
    weights.main()
    return out


def test_what_is_unpacked_is_what_was_packed_up_to_half_precision(
    source: dict[str, Path], packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, folder in source.items():
        out = fetch(entry(packed, name), tmp_path / "out" / name, monkeypatch)
        expected = {p.relative_to(folder) for p in folder.rglob("*") if p.is_file() and p.name != "large"}
        assert {p.relative_to(out) for p in out.rglob("*") if p.is_file()} == expected | {Path("provenance.json")}
        for file in expected - {Path("provenance.json")}:
            if file.suffix != ".safetensors":
                assert (out / file).read_bytes() == (folder / file).read_bytes()
                continue
            found, wanted = load_file(out / file), load_file(folder / file)
            assert found.keys() == wanted.keys()
            for key, tensor in wanted.items():
                assert found[key].dtype == tensor.dtype
                assert (found[key] - tensor).abs().max() <= 2**-11 * tensor.abs().max() + 1e-7  # 11 bits of mantissa


def test_where_inputs_lay_is_not_kept(packed: Path) -> None:
    record = json.loads((packed / "ip2p" / "provenance.json").read_text())
    assert record == {"seconds": 3, "inputs": {"clip": {"sha256": "0" * 64}}}


def test_what_two_folders_share_is_kept_once(source: dict[str, Path], packed: Path) -> None:
    tensors = "text_encoder/model.safetensors"
    assert not (packed / "ip2p" / tensors).exists()
    shared = json.loads((packed / "ip2p" / MANIFEST).read_text())["shared"]
    assert shared[tensors]["file"] == "clip/model.safetensors"
    assert set(shared[tensors]["tensors"]) < set(load_file(packed / "clip" / "model.safetensors"))
    size = sum(p.stat().st_size for p in packed.rglob("*.safetensors"))
    unpacked = sum(p.stat().st_size for folder in source.values() for p in folder.rglob("*.safetensors"))
    assert size < unpacked / 2


def test_whole_numbers_stay_whole_and_a_shape_is_part_of_a_tensor(tmp_path: Path) -> None:
    for name, state in (("a", {"x": torch.zeros(2, 3), "n": torch.arange(3)}), ("b", {"x": torch.zeros(3, 2)})):
        (tmp_path / name).mkdir()
        save_file(state, tmp_path / name / "model.safetensors")
    for made in ("packed", "out"):
        (tmp_path / made).mkdir()
    pack({name: tmp_path / name for name in "ab"}, RESOLUTION, tmp_path / "packed")
    for name in "ab":
        unpack(tmp_path / "packed" / name, tmp_path / "out" / name)
        found, wanted = (load_file(tmp_path / place / name / "model.safetensors") for place in ("out", "."))
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[k], wanted[k]) and found[k].dtype == wanted[k].dtype for k in wanted)


def test_tensors_that_two_files_share_are_kept_once(tmp_path: Path) -> None:
    common, own = torch.randn(200, 200), torch.ones(3)
    for name, state in (("a", {"encoder": common, "decoder": own}), ("b", {"encoder": common, "decoder": -own})):
        (tmp_path / name).mkdir()
        save_file(state, tmp_path / name / "model.safetensors")
    for made in ("packed", "out"):
        (tmp_path / made).mkdir()
    pack({name: tmp_path / name for name in "ab"}, RESOLUTION, tmp_path / "packed")
    assert load_file(tmp_path / "packed" / "b" / "model.safetensors").keys() == {"decoder"}
    unpack(tmp_path / "packed" / "b", tmp_path / "out")
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert torch.equal(found["encoder"], common.half().float()) and torch.equal(found["decoder"], -own)


def test_the_command_line_packs_and_replaces_nothing_of_the_users(
    source: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    triplets, out = tmp_path / "triplets", tmp_path / "out"
    triplets.mkdir()
    given = ["--weights", *(f"{name}={folder}" for name, folder in source.items())]
    monkeypatch.setattr("sys.argv", ["packed", *given, "--triplets", str(triplets), "--out", str(out)])
    with pytest.raises(InputError, match=r"provenance\.json does not say at which resolution"):
        main()
    (triplets / "provenance.json").write_text(json.dumps({"config": {"resolution": RESOLUTION}}))
    main()
    check_local("ip2p", entry(out))
    main()  # its own earlier output
    (out / "mine.txt").write_text("a user's")
    with pytest.raises(InputError, match="did not write mine.txt"):
        main()


def test_an_unreadable_file_of_tensors_is_named(packed: Path, tmp_path: Path) -> None:
    file = next((packed / "ip2p" / "unet").glob("*.safetensors"))
    file.write_bytes(b"no tensors")
    with pytest.raises(InputError, match=r"unet/\S+ cannot be read .*; restore it"):
        unpack(packed / "ip2p", tmp_path / "out")


def test_unpacked_weights_work(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = CLIPModel.from_pretrained(fetch(entry(packed, "clip"), tmp_path / "clip", monkeypatch))
    text = CLIPTextModel.from_pretrained(fetch(entry(packed), tmp_path / "ip2p", monkeypatch) / "text_encoder")
    tokens = torch.tensor([[1, 5, 7, 2]])
    assert torch.equal(text(tokens).last_hidden_state, clip.text_model(tokens).last_hidden_state)


def test_a_damaged_or_foreign_foundation_is_refused_before_any_job(packed: Path, tmp_path: Path) -> None:
    found = entry(packed)
    check_local("ip2p", found)
    unet = next((packed / "ip2p" / "unet").glob("*.safetensors"))
    content = bytearray(unet.read_bytes())
    content[-1] ^= 1
    unet.write_bytes(content)
    with pytest.raises(InputError, match=r"weights\.ip2p\.sha256: .*ip2p has the digest .* not the pinned"):
        check_local("ip2p", found)
    unpinned = entry(packed, pinned=False)
    check_local("ip2p", unpinned)
    manifest = packed / "ip2p" / MANIFEST
    said = json.loads(manifest.read_text())
    assert said["world"] == world_digest(RESOLUTION) and said["resolution"] == RESOLUTION
    manifest.write_text(json.dumps(said | {"world": "0" * 64}))
    with pytest.raises(InputError, match=r"weights\.ip2p\.path: .* trained in another world .* at 16 px"):
        check_local("ip2p", unpinned)
    manifest.write_text(json.dumps(said))
    shutil.rmtree(packed / "clip")
    with pytest.raises(InputError, match=r"text_encoder/\S+ is kept as .*clip/\S+, which is missing or changed"):
        check_local("ip2p", unpinned)


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"resolution": 1}', '{"resolution": 16, "world": "", "shared": {"../../x": {"file": "a"}}}']
)
def test_a_manifest_that_says_nothing_sensible_is_named(packed: Path, text: str) -> None:
    (packed / "ip2p" / MANIFEST).write_text(text)
    with pytest.raises(InputError, match=r"ip2p/packed\.json is not what packed weights have"):
        check_local("ip2p", entry(packed, pinned=False))


def test_another_world_has_another_digest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from editclip.data import world_render

    monkeypatch.setenv("EDITCLIP_CACHE", str(tmp_path / "none"))  # nothing is kept where there is no cache
    before = world_digest(RESOLUTION)
    assert before == world_digest(RESOLUTION) != world_digest(2 * RESOLUTION)
    monkeypatch.setitem(world_render.COLOURS, "red", (215, 40, 40))
    assert world_digest(RESOLUTION) != before
