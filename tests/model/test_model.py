"""The edit encoder: its start from CLIP, what it reads of images and texts, and what it gives back."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import (
    OPENAI_MEAN,
    OPENAI_STD,
    SIZE,
    clip_config,
    image,
    pixels,
    save_clip,
    save_companions,
    save_editclip,
)
from torch.nn.functional import normalize
from transformers import CLIPModel

from editclip.errors import InputError
from editclip.model import Clip, EditCLIP, clip_pixels, widened


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    save_clip(folder)
    return folder


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> Clip:
    return Clip.load(clip_folder)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> EditCLIP:
    folder = tmp_path_factory.mktemp("editclip")
    save_editclip(folder)
    return EditCLIP.load(folder)


def test_widened_clip_starts_as_clip_of_the_image_before(clip: Clip) -> None:
    started = EditCLIP(widened(clip.model), clip.tokenizer, clip.processor)
    before, after = [image(0), image(1)], [image(2), image(3)]
    assert torch.equal(started.encode_edit(before, after), clip.encode_image(before))
    assert (started.encode_text(["a cat"]) - clip.encode_text(["a cat"])).abs().max() < 1e-6


def test_widened_copies_and_leaves_the_source_alone(clip: Clip) -> None:
    old = clip.model.vision_model.embeddings.patch_embedding.weight
    model = widened(clip.model)
    new = model.vision_model.embeddings.patch_embedding.weight
    assert model.config.vision_config.num_channels == 6
    assert clip.model.config.vision_config.num_channels == 3
    assert torch.equal(new[:, :3], old)
    assert not new[:, 3:].any()
    model.get_image_features(torch.randn(2, 6, SIZE, SIZE)).pooler_output.square().sum().backward()
    assert new.grad is not None
    assert new.grad[:, 3:].abs().max() > 0  # a zero weight still learns
    with pytest.raises(InputError, match="3 input channels, not 6"):
        widened(model)


def test_edit_features_are_unit_projections_of_both_images(encoder: EditCLIP) -> None:
    before, after = [image(0), image(1)], [image(2), image(3)]
    features = encoder.encode_edit(before, after)
    assert features.shape == (2, 24)
    assert features.norm(dim=1).tolist() == pytest.approx([1, 1], abs=1e-6)
    assert (features - encoder.encode_edit(after, before)).abs().max() > 1e-2
    stacked = np.concatenate(
        [(np.asarray(i) / 255 - np.array(OPENAI_MEAN)) / np.array(OPENAI_STD) for i in (before[0], after[0])], axis=2
    )
    direct = encoder.model.get_image_features(torch.tensor(stacked, dtype=torch.float32).permute(2, 0, 1)[None])
    assert (normalize(direct.pooler_output, dim=-1) - features[:1]).abs().max() < 1e-5


@pytest.mark.parametrize("size", [(SIZE, SIZE), (24, 24), (40, 20), (7, 13)])
def test_images_are_squashed_by_pil_and_never_cropped(clip: Clip, size: tuple[int, int]) -> None:
    picture = image(5, size)
    squashed = np.asarray(picture.resize((SIZE, SIZE), Image.Resampling.BICUBIC), dtype=np.float64)
    expected = torch.tensor((squashed / 255 - OPENAI_MEAN) / OPENAI_STD).permute(2, 0, 1)
    found = clip_pixels([picture], clip.processor)
    assert found.dtype == torch.float32
    assert (found[0] - expected).abs().max() < 1e-6
    assert (clip_pixels(pixels([picture]), clip.processor)[0] - expected).abs().max() < 1e-6


def test_alpha_and_grey_images_become_rgb(clip: Clip) -> None:
    picture = image(5)
    assert torch.equal(
        clip_pixels([picture.convert("L")], clip.processor),
        clip_pixels([picture.convert("L").convert("RGB")], clip.processor),
    )
    assert torch.equal(clip_pixels([picture.convert("RGBA")], clip.processor), clip_pixels([picture], clip.processor))


def test_text_ids_are_those_of_open_clip(clip: Clip) -> None:
    expected = [49406, 1078, 585, 14191, 256, 49407]  # measured with open_clip's SimpleTokenizer
    assert clip.tokenizer("make it  Snowy!")["input_ids"] == expected


def test_text_features_do_not_depend_on_the_other_texts(clip: Clip) -> None:
    long = "make the " + "very " * 100 + "old house new"  # more than 77 tokens
    together = clip.encode_text(["make it  Snowy!", long])
    assert together.norm(dim=1).tolist() == pytest.approx([1, 1], abs=1e-6)
    assert (together[:1] - clip.encode_text(["make it snowy!"])).abs().max() < 1e-6
    padded = clip.tokenizer("make it snowy!", padding="max_length", max_length=77, return_tensors="pt")
    full = clip.model.get_text_features(padded["input_ids"]).pooler_output
    assert (normalize(full, dim=-1) - together[:1]).abs().max() < 1e-6


def test_saved_encoder_gives_the_same_features(encoder: EditCLIP, clip_folder: Path, tmp_path: Path) -> None:
    encoder.save(tmp_path, clip_folder)
    again = EditCLIP.load(tmp_path)
    sides = [image(0)], [image(1)]
    assert torch.equal(again.encode_edit(*sides), encoder.encode_edit(*sides))
    assert torch.equal(again.encode_text(["add a dog"]), encoder.encode_text(["add a dog"]))
    stock = CLIPModel.from_pretrained(tmp_path)  # num_channels stands in the config
    assert stock.config.vision_config.num_channels == 6


def test_loading_leaves_random_state_alone(clip_folder: Path) -> None:
    before = torch.random.get_rng_state()
    Clip.load(clip_folder)
    assert torch.equal(before, torch.random.get_rng_state())


def test_wrong_inputs_are_named(encoder: EditCLIP, clip: Clip, clip_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="3 input channels; give EditCLIP weights"):
        EditCLIP.load(clip_folder)
    encoder.save(tmp_path, clip_folder)
    with pytest.raises(InputError, match="6 input channels; give Clip weights"):
        Clip.load(tmp_path)
    with pytest.raises(InputError, match="1 images before and 2 after"):
        encoder.encode_edit([image(0)], [image(1), image(2)])
    with pytest.raises(InputError, match="no images"):
        clip.encode_image([])
    with pytest.raises(InputError, match=r"float32 \(1, 3, 16, 16\)"):
        clip.encode_image(torch.zeros(1, 3, SIZE, SIZE))


@pytest.mark.parametrize(
    ("missing", "words"),
    [("preprocessor_config.json", "preprocessor_config"), ("merges.txt", "vocab.json with merges.txt")],
)
def test_missing_companions_are_named(tmp_path: Path, missing: str, words: str) -> None:
    torch.manual_seed(0)
    CLIPModel(clip_config()).save_pretrained(tmp_path)
    save_companions(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(InputError, match=words):
        Clip.load(tmp_path)
