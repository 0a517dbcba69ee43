"""Weights that a run has trained, given to another: damaged ones are refused, whole ones linked, packed ones filled."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from workflow_project import Project

from editclip import weights
from editclip.errors import InputError
from editclip.packed import pack

Tensors = dict[str, torch.Tensor]
KINDS = {
    "clip": "editclip.recipes.clip",
    "editclip": "editclip.recipes.contrastive",
    "ip2p": "editclip.recipes.ip2p",
    "editclip_ip2p": "editclip.recipes.exemplar_diffusion",
    "vae": "editclip.recipes.vae",
    "text_to_image": "editclip.recipes.text_to_image",
    "prompt_diffusion": "baselines.prompt_diffusion.recipe",
    "instamanip": "baselines.instamanip.recipe",
    "instamanip_vision": "baselines.instamanip.vision_recipe",
    "instamanip_renderer": "baselines.instamanip.renderer_recipe",
}


def without_tensor(tensors: Tensors) -> Tensors:
    tensors.pop("visual_projection.weight")
    return tensors


def misshapen(tensors: Tensors) -> Tensors:
    tensors["visual_projection.weight"] = tensors["visual_projection.weight"][:-1].clone()
    return tensors


def link(name: str, folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the stage that links the weights `name`, which are in `folder`, to `out`."""
    source = json.dumps({"kind": KINDS[name], "source": "path", "path": str(folder), "sha256": None})
    monkeypatch.setattr("sys.argv", ["weights", name, "--config", source, "--out", str(out)])
    weights.main()


@pytest.mark.parametrize("damage", [without_tensor, misshapen])
def test_damaged_weights_are_refused_and_nothing_is_left(
    smoke: Project, tmp_path: Path, damage: Callable[[Tensors], Tensors], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "editclip"
    shutil.copytree(smoke.folder / "results" / "smoke" / "weights" / "editclip", folder)
    save_file(damage(load_file(folder / "model.safetensors")), folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="visual_projection.weight") as refusal:
        link("editclip", folder, tmp_path / "out", monkeypatch)
    assert str(folder) in str(refusal.value)
    assert [p.name for p in tmp_path.iterdir()] == ["editclip"]


@pytest.mark.parametrize("name", KINDS)
def test_whole_weights_are_linked(smoke: Project, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    origin = smoke.folder / "results" / "smoke" / "weights" / name
    link(name, origin, tmp_path / name, monkeypatch)
    linked = {p.relative_to(tmp_path / name).as_posix() for p in (tmp_path / name).rglob("*") if p.is_file()}
    own = {p.relative_to(origin).as_posix() for p in origin.rglob("*") if p.is_file()}
    assert linked == own | {"provenance.json"}


def test_weights_of_every_kind_are_whole_again_once_packed(smoke: Project, tmp_path: Path) -> None:
    trained = {name: smoke.folder / "results" / "smoke" / "weights" / name for name in KINDS}
    pack(trained, 48, tmp_path / "packed")
    for name, kind in KINDS.items():
        (tmp_path / name).mkdir()
        weights.filled(kind, tmp_path / "packed" / name, tmp_path / name)  # refuses what its kind cannot load
