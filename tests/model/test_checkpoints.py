"""Reading weights: both layouts give the same model, and anything that does not fit is named."""

import json
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from safetensors.torch import load_file, save_file
from tiny_models import SIZE, WIDTH, clip_config
from transformers import CLIPModel

from editclip.checkpoints import from_open_clip, load_clip_model, load_torch, to_open_clip
from editclip.errors import InputError


def open_clip_model(channels: int = 6) -> open_clip.model.CLIP:
    torch.manual_seed(0)
    vision = CLIPVisionCfg(layers=2, width=WIDTH, head_width=16, mlp_ratio=2, patch_size=8, image_size=SIZE)
    text = CLIPTextCfg(width=WIDTH, heads=2, layers=2, mlp_ratio=2)
    model = open_clip.model.CLIP(24, vision, text, quick_gelu=True).eval()
    model.visual.conv1 = torch.nn.Conv2d(channels, WIDTH, 8, 8, bias=False)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:  # zeros and ones would hide a mistake
            torch.nn.init.normal_(parameter, 1.0 if name.endswith("weight") else 0.0, 0.2)
    return model


def write_config(folder: Path, **vision: int) -> None:
    """The config of the template folder; like the published one it names no num_channels unless told to."""
    values = clip_config().to_dict()
    values["model_type"] = "clip"
    values["vision_config"].pop("num_channels")
    values["vision_config"] |= vision
    (folder / "config.json").write_text(json.dumps(values, default=str), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A loadable folder with transformers' weights."""
    torch.manual_seed(1)
    CLIPModel(clip_config()).save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("prefix", ["", "module."])
def test_open_clip_checkpoint_gives_the_same_features(tmp_path: Path, prefix: str) -> None:
    theirs = open_clip_model()
    state = {prefix + name: tensor for name, tensor in theirs.state_dict().items()}
    torch.save({"epoch": 40, "name": "run", "state_dict": state, "optimizer": {}}, tmp_path / "epoch_40.pt")
    write_config(tmp_path)
    ours = load_clip_model(tmp_path)
    assert ours.config.vision_config.num_channels == 6
    images = torch.randn(3, 6, SIZE, SIZE)
    texts = torch.randint(1, 49406, (3, 77))
    texts[:, 9] = 49407
    with torch.no_grad():
        assert (ours.get_image_features(images).pooler_output - theirs.encode_image(images)).abs().max() < 1e-5
        assert (ours.get_text_features(texts).pooler_output - theirs.encode_text(texts)).abs().max() < 1e-5
    assert torch.equal(ours.logit_scale, theirs.logit_scale)


def test_conversion_goes_both_ways() -> None:
    state = open_clip_model().state_dict()
    back = to_open_clip(from_open_clip(state))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())


def test_activation_is_the_one_the_config_names(tmp_path: Path) -> None:
    torch.save(open_clip_model(3).state_dict(), tmp_path / "bare.pt")
    write_config(tmp_path)
    quick = load_clip_model(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    for tower in ("vision_config", "text_config"):
        assert values[tower]["hidden_act"] == "quick_gelu"
        values[tower]["hidden_act"] = "gelu"
    (tmp_path / "config.json").write_text(json.dumps(values), encoding="utf-8")
    plain = load_clip_model(tmp_path)
    images = torch.randn(2, 3, SIZE, SIZE)
    difference = quick.get_image_features(images).pooler_output - plain.get_image_features(images).pooler_output
    assert difference.abs().max() > 1e-3


def test_shards_half_precision_and_old_constants_load(folder: Path) -> None:
    whole = load_clip_model(folder)
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(state)
    first = {name: state[name].half() for name in names[:10]}
    second = {name: state[name].half() for name in names[10:]}
    second["text_model.embeddings.position_ids"] = torch.arange(77)[None]  # written by transformers before 4.31
    save_file(first, folder / "model-00001-of-00002.safetensors")
    save_file(second, folder / "model-00002-of-00002.safetensors")
    again = load_clip_model(folder)
    assert again.dtype == torch.float32
    images = torch.randn(2, 3, SIZE, SIZE)
    difference = whole.get_image_features(images).pooler_output - again.get_image_features(images).pooler_output
    assert difference.abs().max() < 1e-2


def test_missing_misshapen_and_unknown_tensors_are_named(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    name = "vision_model.encoder.layers.1.mlp.fc1.weight"
    for damaged, words in (
        ({k: v for k, v in state.items() if k != name}, rf"{name} \(64, 32\) is missing"),
        ({**state, name: torch.zeros(64, 31)}, rf"{name} has shape \(64, 31\) but .* \(64, 32\)"),
        ({**state, "mask_head.weight": torch.zeros(2)}, "unknown tensor mask_head.weight"),
    ):
        save_file(damaged, folder / "model.safetensors")
        with pytest.raises(InputError, match=words):
            load_clip_model(folder)


def test_channels_that_contradict_the_config_are_an_error(tmp_path: Path) -> None:
    torch.save(open_clip_model(6).state_dict(), tmp_path / "epoch_1.pt")
    write_config(tmp_path, num_channels=3)
    with pytest.raises(InputError, match=r"patch_embedding.weight has shape \(32, 6, 8, 8\).*\(32, 3, 8, 8\)"):
        load_clip_model(tmp_path)


def test_unusable_folders_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        load_clip_model(tmp_path / "nowhere")
    config = (folder / "config.json").read_text(encoding="utf-8")
    (folder / "config.json").write_text('{"model_type": "siglip"}', encoding="utf-8")
    with pytest.raises(InputError, match="'siglip', not 'clip'"):
        load_clip_model(folder)
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"config\.json: cannot be read"):
        load_clip_model(folder)
    (folder / "config.json").write_text(config, encoding="utf-8")
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(InputError, match="not a safetensors file"):
        load_clip_model(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="no weights file"):
        load_clip_model(folder)
    (folder / "epoch_1.pt").write_bytes(b"not weights")
    with pytest.raises(InputError, match="not a PyTorch weights file"):
        load_clip_model(folder)
    torch.save({"state_dict": {"epoch": 3}}, folder / "epoch_1.pt")
    with pytest.raises(InputError, match="no state dict of named tensors"):
        load_clip_model(folder)
    torch.save({}, folder / "epoch_2.pt")
    with pytest.raises(InputError, match="2 .pt files"):
        load_clip_model(folder)


def test_mapped_weights_stay_in_their_file(tmp_path: Path) -> None:
    path, maps = tmp_path / "weights.pt", Path("/proc/self/maps")
    torch.save({"state_dict": {"a": torch.arange(100_000.0), "b": torch.ones(3).half()}, "epoch": 1}, path)
    content, whole = path.read_bytes(), load_torch(path)
    assert not maps.exists() or str(path) not in maps.read_text()
    mapped = load_torch(path, mapped=True)
    assert not maps.exists() or str(path) in maps.read_text()
    assert mapped.keys() == whole.keys() and all(torch.equal(mapped[name], whole[name]) for name in whole)
    mapped["a"].zero_()
    assert path.read_bytes() == content, "what is written to them is the process's own"


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("content", [None, b"", b"not weights"])
def test_files_that_cannot_be_read_are_named(tmp_path: Path, content: bytes | None, mapped: bool) -> None:
    if content is not None:
        (tmp_path / "weights.pt").write_bytes(content)
    with pytest.raises(InputError, match=r"weights\.pt: not a PyTorch weights file"):
        load_torch(tmp_path / "weights.pt", mapped=mapped)


def test_a_file_of_the_old_format_is_read_whole_but_not_mapped(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"a": torch.ones(3)}, path, _use_new_zipfile_serialization=False)
    assert torch.equal(load_torch(path)["a"], torch.ones(3))
    with pytest.raises(InputError, match=r"weights\.pt: .*mmap can only be used with"):
        load_torch(path, mapped=True)
