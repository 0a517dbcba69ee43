"""Weights from a path: what is incomplete, misshapen or unreadable is refused in one sentence, and leaves nothing."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import save_released, vae

from editclip import weights
from editclip.errors import InputError

KINDS = {
    "vae": "editclip.recipes.vae",
    "ip2p": "editclip.recipes.ip2p",
    "editclip_ip2p": "editclip.recipes.exemplar_diffusion",
}
PARTS = [("vae", ""), ("ip2p", "unet"), ("ip2p", "vae"), ("ip2p", "text_encoder"), ("editclip_ip2p", "unet")]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Complete folders by their names in the config."""
    root = tmp_path_factory.mktemp("weights")
    released = save_released(root)
    vae().save_pretrained(root / "vae")
    return {"vae": root / "vae", "ip2p": released["base"], "editclip_ip2p": released["editclip_ip2p"]}


def link(name: str, folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = json.dumps({"kind": KINDS[name], "source": "path", "path": str(folder), "sha256": None})
    monkeypatch.setattr("sys.argv", ["weights", name, "--config", source, "--out", str(out)])
    weights.main()


def damaged(file: Path, damage: str) -> str:
    """Damage a safetensors file; the name of the tensor that is concerned, or "" where it is all of them."""
    if damage == "unreadable":
        file.write_bytes(b"no tensors")
        return ""
    state = load_file(file)
    name = next(name for name in sorted(state) if name.endswith(".bias"))
    tensor = state.pop(name)
    if damage == "misshapen":
        state[name] = torch.zeros(len(tensor) + 1)
    save_file(state, file, metadata={"format": "pt"})
    return name.removeprefix("text_model.")  # which files have and the model's own names have not


@pytest.mark.parametrize("name", ["vae", "ip2p", "editclip_ip2p"])
def test_complete_weights_are_linked(
    folders: dict[str, Path], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link(name, folders[name], tmp_path / "out", monkeypatch)
    files = {p.relative_to(folders[name]) for p in folders[name].rglob("*") if p.is_file()}
    linked = {p.relative_to(tmp_path / "out"): p for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert linked.keys() - {Path("provenance.json")} == files
    assert all(linked[file].resolve() == folders[name] / file for file in files)


@pytest.mark.parametrize("damage", ["missing", "misshapen", "unreadable"])
@pytest.mark.parametrize(("name", "part"), PARTS, ids=lambda value: value)
def test_damaged_weights_are_refused(
    folders: dict[str, Path], name: str, part: str, damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(folders[name], tmp_path / "weights"))
    (file,) = (folder / part).glob("*.safetensors")
    tensor = damaged(file, damage)
    with pytest.raises(InputError) as error:
        link(name, folder, tmp_path / "results" / "out", monkeypatch)
    message = str(error.value)
    assert str(folder / part) in message and tensor in message and "\n" not in message
    if damage == "misshapen":
        assert "has shape" in message and "asks for" in message
    assert not list((tmp_path / "results").glob("*"))


@pytest.mark.parametrize("left", ["image_proj_model.safetensors", "unet/config.json"])
def test_a_missing_file_is_named(
    folders: dict[str, Path], left: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(folders["editclip_ip2p"], tmp_path / "weights"))
    (folder / left).unlink()
    with pytest.raises(InputError, match=Path(left).stem):
        link("editclip_ip2p", folder, tmp_path / "results" / "out", monkeypatch)
    assert not list((tmp_path / "results").glob("*"))
