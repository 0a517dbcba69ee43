"""What an exemplar's tokens are: closed forms of every conditioning, its file, and encoders that do not fit it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from tiny_models import SIZE, TOKENS, WIDTH, image, pixels, save_clip, save_editclip
from torch import Tensor
from torch.nn.functional import normalize

from editclip.conditioning import Condition, Conditioning, Layer
from editclip.errors import InputError
from editclip.model import Clip, EditCLIP, clip_pixels, pair_pixels, vision_tower, widened
from editclip.storage import path_digest

BEFORE, AFTER = [image(0), image(1)], [image(2), image(3)]
PROJECTED = 24  # width of the tiny joint space


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("encoders")
    save_clip(root / "clip")
    save_editclip(root / "editclip")
    return {name: root / name for name in ("clip", "editclip")}


def encoder_of(folders: dict[str, Path], condition: str) -> Path:
    return folders["editclip" if condition == "edit" else "clip"]


def tokens(folder: Path, condition: Any, layer: Any = "hidden", before: Any = BEFORE, after: Any = AFTER) -> Tensor:
    conditioning = Conditioning(condition, layer)
    return conditioning.tokens(*conditioning.load_encoder(folder), before, after)


@torch.no_grad()
def clip_tokens(clip: Clip, images: Any, layer: str) -> Tensor:
    """Tokens of single images, from the plain model itself."""
    output = clip.model.vision_model(clip_pixels(images, clip.processor))
    return (
        output.last_hidden_state if layer == "hidden" else clip.model.visual_projection(output.pooler_output)[:, None]
    )


@pytest.mark.parametrize("layer", get_args(Layer))
def test_plain_clips_conditionings_are_those_of_the_papers_figure(folders: dict[str, Path], layer: str) -> None:
    clip = Clip.load(folders["clip"])
    before, after = clip_tokens(clip, BEFORE, layer), clip_tokens(clip, AFTER, layer)
    assert torch.equal(tokens(folders["clip"], "after", layer), after)
    assert torch.equal(tokens(folders["clip"], "sum", layer), before + after)
    channels = tokens(folders["clip"], "channels", layer)
    assert torch.equal(channels[..., : before.shape[-1]], before)
    assert torch.equal(channels[..., before.shape[-1] :], after)
    sequence = tokens(folders["clip"], "sequence", layer)
    assert torch.equal(sequence[:, : before.shape[1]], before)
    assert torch.equal(sequence[:, before.shape[1] :], after)


@pytest.mark.parametrize("layer", get_args(Layer))
def test_untrained_editclip_gives_clip_of_the_image_before(folders: dict[str, Path], layer: str) -> None:
    clip = Clip.load(folders["clip"])
    conditioning = Conditioning("edit", layer)  # type: ignore[arg-type]
    found = conditioning.tokens(vision_tower(widened(clip.model)), clip.processor, BEFORE, AFTER)
    assert torch.equal(found, clip_tokens(clip, BEFORE, layer))
    trained = tokens(folders["editclip"], "edit", layer)
    assert (trained - tokens(folders["editclip"], "edit", layer, AFTER, BEFORE)).abs().max() > 1e-2


def test_hidden_tokens_come_before_the_final_norm(folders: dict[str, Path]) -> None:
    encoder = EditCLIP.load(folders["editclip"])
    found = tokens(folders["editclip"], "edit")
    vision = encoder.model.vision_model
    pooled = encoder.model.visual_projection(vision.post_layernorm(found[:, 0]))  # the class token comes first
    assert (normalize(pooled, dim=-1) - encoder.encode_edit(BEFORE, AFTER)).abs().max() < 1e-6
    everything = vision(pair_pixels(BEFORE, AFTER, encoder.processor), output_hidden_states=True)
    assert torch.equal(found, everything.hidden_states[-1])


def test_projected_token_is_the_joint_embedding_before_its_normalisation(folders: dict[str, Path]) -> None:
    found = tokens(folders["editclip"], "edit", "projected")
    expected = EditCLIP.load(folders["editclip"]).encode_edit(BEFORE, AFTER)
    assert found.shape == (2, 1, PROJECTED)
    assert torch.equal(normalize(found[:, 0], dim=-1), expected)
    assert (found.norm(dim=-1) - 1).abs().min() > 1e-2


@pytest.mark.parametrize("condition", get_args(Condition))
@pytest.mark.parametrize(("layer", "length", "width"), [("hidden", TOKENS, WIDTH), ("projected", 1, PROJECTED)])
def test_tokens_have_the_announced_width(
    folders: dict[str, Path], condition: Any, layer: Any, length: int, width: int
) -> None:
    conditioning = Conditioning(condition, layer)
    encoder, processor = conditioning.load_encoder(encoder_of(folders, condition))
    found = conditioning.tokens(encoder, processor, BEFORE, AFTER)
    length, width = length * (1 + (condition == "sequence")), width * (1 + (condition == "channels"))
    assert found.shape == (2, length, width)
    assert conditioning.token_width(encoder.config) == width
    assert not found.requires_grad
    assert torch.equal(found, conditioning.tokens(encoder, processor, pixels(BEFORE), pixels(AFTER)))


def test_tower_shares_the_models_tensors_and_its_width(folders: dict[str, Path]) -> None:
    clip = Clip.load(folders["clip"])
    clip.model.config.vision_config.projection_dim = 512  # as in a released config, which names it for both towers
    state = torch.random.get_rng_state()
    tower = vision_tower(clip.model)
    assert torch.equal(state, torch.random.get_rng_state())
    assert tower.config.projection_dim == PROJECTED
    assert not tower.training
    assert tower.visual_projection.weight is clip.model.visual_projection.weight
    assert all(
        mine is theirs
        for mine, theirs in zip(tower.vision_model.parameters(), clip.model.vision_model.parameters(), strict=True)
    )


def test_conditioning_is_stored_and_read(tmp_path: Path) -> None:
    for condition in get_args(Condition):
        for layer in get_args(Layer):
            stored = Conditioning(condition, layer, encoder="a" * 64)
            stored.save(tmp_path)
            assert Conditioning.load(tmp_path) == stored


def test_folder_that_names_none_has_the_released_conditioning(tmp_path: Path) -> None:
    assert Conditioning.load(tmp_path) == Conditioning("edit", "hidden", None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layers": "hidden"}, r"unknown key 'layers' \(did you mean \"layer\"\?\)"),
        ({"condition": "add"}, "condition 'add' is not allowed; allowed: edit, after, sum, channels, sequence"),
        ({"condition": ["edit"]}, r"condition \['edit'\] is not allowed"),
        ({"layer": "project"}, r"layer 'project' is not allowed \(did you mean \"projected\"\?\)"),
        ({"encoder": 3}, "encoder 3 is not allowed"),
        ({"encoder": ...}, "the key 'encoder' is missing"),
    ],
)
def test_wrong_files_are_refused_in_one_sentence(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    values = {"condition": "edit", "layer": "hidden", "encoder": None} | change
    file = tmp_path / "conditioning.json"
    file.write_text(json.dumps({key: value for key, value in values.items() if value is not ...}), encoding="utf-8")
    with pytest.raises(InputError, match=words) as error:
        Conditioning.load(tmp_path)
    assert str(error.value).startswith(f"{file}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("text", "words"), [("{", "cannot be read"), ("[1]", "holds no object")])
def test_files_that_hold_something_else_are_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "conditioning.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=words):
        Conditioning.load(tmp_path)


def test_encoder_with_the_wrong_channels_is_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="clip: 3 input channels, but condition 'edit' needs 6; give EditCLIP weights"):
        Conditioning("edit", "hidden").load_encoder(folders["clip"])
    for condition in ("after", "sum", "channels", "sequence"):
        with pytest.raises(InputError, match=f"6 input channels, but condition '{condition}' needs 3; give plain CLIP"):
            Conditioning(condition, "hidden").load_encoder(folders["editclip"])  # type: ignore[arg-type]


def test_another_encoder_than_the_recorded_one_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    save_editclip(tmp_path / "other", seed=9)
    trained = Conditioning("edit", "hidden", path_digest(folders["editclip"]))
    trained.check_encoder(folders["editclip"], "weights")
    with pytest.raises(InputError, match="other: its digest is .* but weights was trained with the encoder"):
        trained.check_encoder(tmp_path / "other", "weights")
    Conditioning("edit", "hidden").check_encoder(tmp_path / "other", "weights")  # nothing is recorded


def test_pairs_must_be_pairs(folders: dict[str, Path]) -> None:
    for condition in get_args(Condition):
        with pytest.raises(InputError, match="2 images before and 1 after"):
            tokens(encoder_of(folders, condition), condition, after=[image(2, (SIZE, SIZE))])


def test_recipes_can_name_conditionings_without_torch() -> None:
    code = "import sys, editclip.conditioning; assert 'torch' not in sys.modules; assert 'pydantic' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
