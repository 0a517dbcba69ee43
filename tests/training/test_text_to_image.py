import json
from pathlib import Path

import pytest
import torch
import training_toys as toys
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPModel, CLIPTokenizer

from editclip.config.section import checked
from editclip.data.triplets import Triplets
from editclip.patch_vae import PatchVAE, load_vae
from editclip.training import text_to_image
from editclip.training.diffusion import Latents
from editclip.training.draws import Draws
from editclip.training.loop import seeded
from editclip.training.text_conditioner import TextConditioner


def test_the_stock_pipeline_loads_and_draws(foundations: Path) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(foundations / "text_to_image")
    assert isinstance(pipeline.vae, PatchVAE)
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    generator = torch.Generator().manual_seed(0)
    images = pipeline("a red ball", num_inference_steps=2, generator=generator, output_type="np").images
    assert images.shape == (1, 32, 32, 3) and images.std() > 0.01


def test_texts_are_hidden_states_after_the_final_norm(foundations: Path) -> None:
    text = TextConditioner(foundations / "clip", memory_bytes=4 * 77 * 32)  # room for one prompt
    prompts = ["a red ball", "", "a red ball", "a blue star " * 30]
    states = text(prompts)
    folder = foundations / "clip"
    model, tokenizer = CLIPModel.from_pretrained(folder), CLIPTokenizer.from_pretrained(folder)
    tokens = tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    with torch.no_grad():
        expected = model.text_model(input_ids=tokens).last_hidden_state
    torch.testing.assert_close(states, expected, rtol=0, atol=1e-5)
    assert torch.equal(text(prompts), states)  # some of it now from memory
    torch.testing.assert_close(states.mean(-1), torch.zeros(4, 77), rtol=0, atol=0.1)  # normalised


def test_the_loss_is_the_denoising_error_of_both_images_given_their_captions(foundations: Path, triplets: Path) -> None:
    """v-prediction written out, with the captions that the seeded draw leaves."""
    split = Triplets(triplets, "train", 32)
    vae, text = load_vae(foundations / "vae"), TextConditioner(foundations / "clip")
    unet = toys.make_sensitive(UNet2DConditionModel.from_pretrained(foundations / "text_to_image", subfolder="unet"))
    recipe = checked(text_to_image.TextToImageRecipe, {**toys.TEXT_TO_IMAGE, "caption_dropout": 0.5})
    latents, rows = Latents(vae, split, cache=True), torch.tensor([4, 9, 20, 31])
    draws = Draws.whole(seeded(5), len(rows))
    loss = text_to_image.training_loss(unet, latents, text, recipe)(latents.load(rows), draws)["loss"]

    generator = seeded(5)
    pair = split.batch(rows.tolist())
    posteriors = [vae.encode(images.float() / 127.5 - 1).latent_dist for images in pair]
    clean = torch.cat([p.mean + p.std * torch.randn(4, 12, 8, 8, generator=generator) for p in posteriors])
    clean = clean * vae.config.scaling_factor
    lost = torch.rand(8, generator=generator) < 0.5
    assert 0 < lost[:4].sum() < 4 and 0 < lost[4:].sum() < 4
    captions = [split.original_prompts[i] for i in rows] + [split.edited_prompts[i] for i in rows]
    states = text(["" if gone else caption for gone, caption in zip(lost, captions, strict=True)])
    timesteps = torch.randint(1000, (8,), generator=generator)
    noise = torch.randn(8, 12, 8, 8, generator=generator)
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    signal = torch.cumprod(1 - betas, 0)[timesteps].sqrt().view(-1, 1, 1, 1)
    spread = (1 - signal**2).sqrt()
    output = unet(signal * clean + spread * noise, timesteps, states).sample
    expected = (output - (signal * noise - spread * clean)).square().mean()
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=0)


def test_training_is_logged(foundations: Path) -> None:
    logs = foundations / "text_to_image" / "logs"
    lines = [json.loads(x) for x in (logs / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert lines[-1]["validation/loss"] == pytest.approx(1, abs=0.5)
    assert list(logs.glob("events.out.tfevents*"))
