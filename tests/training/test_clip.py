import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import training_toys as toys
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import load_file
from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer

from editclip.config.section import checked
from editclip.data.triplets import Triplets
from editclip.errors import InputError
from editclip.training import clip
from editclip.training.clip_export import export_clip, transformers_config
from editclip.training.draws import Draws

TEXTS = ["make it  Snowy!", "a red ball", "turn the star into a heart and put a desert in the background"]


def open_clip_model(*, quick_gelu: bool = True) -> tuple[CLIP, CLIPVisionCfg, CLIPTextCfg]:
    torch.manual_seed(0)
    vision, text = CLIPVisionCfg(**toys.CLIP["vision"]), CLIPTextCfg(**toys.CLIP["text"])
    model = CLIP(16, vision, text, quick_gelu=quick_gelu).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # biases and gains start at 0 and 1, which would hide a swapped name
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model, vision, text


@pytest.mark.parametrize("quick_gelu", [True, False])
def test_the_export_computes_what_open_clip_computes(tmp_path: Path, quick_gelu: bool) -> None:
    model, vision, text = open_clip_model(quick_gelu=quick_gelu)
    export_clip(model, transformers_config(16, vision, text, quick_gelu=quick_gelu), tmp_path)
    exported, info = CLIPModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    images = torch.randn(3, 3, 32, 32)
    ours = CLIPTokenizer.from_pretrained(tmp_path)(TEXTS, padding="max_length", return_tensors="pt")
    with torch.no_grad():
        expected = model(images, SimpleTokenizer()(TEXTS))
        outputs = exported(pixel_values=images, **ours)
    torch.testing.assert_close(outputs.image_embeds, expected[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(outputs.text_embeds, expected[1], rtol=0, atol=1e-5)
    torch.testing.assert_close(exported.logit_scale, model.logit_scale)


def test_the_tokenizer_is_that_of_the_released_clip(foundations: Path) -> None:
    tokenizer = CLIPTokenizer.from_pretrained(foundations / "clip")
    assert tokenizer("make it  Snowy!").input_ids == [49406, 1078, 585, 14191, 256, 49407]  # OpenAI's ids
    assert len(tokenizer) == 49408 and tokenizer.model_max_length == 77
    for text in TEXTS:
        assert tokenizer(text).input_ids == [i for i in SimpleTokenizer()(text)[0].tolist() if i]
    assert tokenizer("a " * 200, truncation=True).input_ids[-1] == 49407


def test_the_image_processor_normalises_as_training_did(foundations: Path, triplets: Path) -> None:
    images, _ = Triplets(triplets, "validation", 32).batch([0, 1])
    processor = CLIPImageProcessor.from_pretrained(foundations / "clip")
    arrays = [image.permute(1, 2, 0).numpy() for image in images]
    processed = torch.as_tensor(np.array(processor(arrays, return_tensors="np")["pixel_values"]))
    torch.testing.assert_close(processed, clip.normalised(images), rtol=0, atol=1e-5)


def test_short_texts_skip_padding_without_changing_features() -> None:
    model, _, _ = open_clip_model()
    tokens = SimpleTokenizer()(TEXTS)
    expected = model.encode_text(tokens, normalize=True)
    torch.testing.assert_close(clip.text_features(model, tokens), expected, rtol=0, atol=1e-5)


def test_the_loss_is_infonce_without_false_negatives() -> None:
    """Against sums of exponentials written out; rows 0 and 2 share a caption."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.nn.functional.normalize(torch.randn(4, 8, generator=generator), dim=-1) for _ in "ab")
    identity = torch.tensor([7, 1, 7, 3])
    logits = 5.0 * left.double() @ right.double().T
    terms = []
    for matrix in (logits, logits.T):
        for i in range(4):
            allowed = [j for j in range(4) if j == i or identity[j] != identity[i]]
            terms.append(-matrix[i, i] + torch.logsumexp(matrix[i, allowed], 0))
    loss = clip.contrastive_loss(torch.tensor(5.0), left, right, identity)
    assert float(loss) == pytest.approx(float(torch.stack(terms).mean()), rel=1e-5)


def test_captions_pair_each_image_with_its_own(triplets: Path) -> None:
    split = Triplets(triplets, "train", 32)
    captions = clip.Captions(split, 77)
    images, numbers = captions.batch(torch.tensor([3, 64 + 3, 127]))
    texts = [captions.texts.texts[i] for i in numbers]
    assert texts == [split.original_prompts[3], split.edited_prompts[3], split.edited_prompts[63]]
    original, edited = split.batch([3, 63])
    assert torch.equal(images, torch.stack([original[0], edited[0], edited[1]]))


def test_paraphrases_need_edit_ids(triplets: Path) -> None:
    split = Triplets(triplets, "train", 32)
    for wordings in clip.paraphrases(split):
        assert len(wordings) > 1
    split.edit_ids = None
    with pytest.raises(InputError, match="no column edit_id; set it to 0"):
        clip.paraphrases(split)
    recipe = checked(clip.CLIPRecipe, {**toys.CLIP, "paraphrase_weight": 0})
    model, _, _ = open_clip_model()
    loss = clip.training_loss(model, clip.Captions(split, 77), recipe)
    values = loss(clip.Captions(split, 77).batch(torch.arange(8)), Draws.whole(torch.Generator(), 8))
    assert list(values) == ["loss"]


def test_a_clip_goes_on_from_the_weights_of_another(
    train: Any, foundations: Path, triplets: Path, tmp_path: Path
) -> None:
    """With a rate of next to nothing it ends where it began; with a real one it does not."""
    plain = {key: toys.CLIP[key] for key in (*toys.TRAINING, "paraphrase_weight", "paraphrase_edits")}
    kind = "editclip.recipes.clip_continued"
    folder = foundations / "clip"
    start = load_file(folder / "model.safetensors")
    ends = {}
    for rate in (1e-9, 1e-3):
        out = tmp_path / f"{rate}"
        ends[rate] = train(clip, {**plain, "learning_rate": rate}, out, triplets=triplets, kind=kind, clip=folder)
    same, moved = (load_file(end / "model.safetensors") for end in ends.values())
    assert all(torch.allclose(weight, same[name], atol=1e-7) for name, weight in start.items())
    assert (ends[1e-9] / "config.json").read_text() == (folder / "config.json").read_text()
    assert not torch.allclose(start["visual_projection.weight"], moved["visual_projection.weight"], atol=1e-4)


def test_training_logs_what_the_saved_model_does(foundations: Path, triplets: Path) -> None:
    """Retrieval and the closest pair of different edits, recomputed with transformers from the saved folder."""
    lines = [json.loads(x) for x in (foundations / "clip" / "logs" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < lines[0]["loss"]
    folder = foundations / "clip"
    model, tokenizer = CLIPModel.from_pretrained(folder), CLIPTokenizer.from_pretrained(folder)
    split = Triplets(triplets, "validation", 32)
    said = dict(zip(split.edit_prompts, split.edit_ids or [], strict=True))
    with torch.no_grad():
        tokens = tokenizer(list(said), padding=True, return_tensors="pt")
        features = torch.nn.functional.normalize(model.get_text_features(**tokens).pooler_output, dim=-1)
    edits = list(said.values())
    cosines = [float(features[i] @ features[j]) for i in range(len(edits)) for j in range(i) if edits[i] != edits[j]]
    assert lines[-1]["validation/instruction_cosine_max"] == pytest.approx(max(cosines), abs=1e-4)
