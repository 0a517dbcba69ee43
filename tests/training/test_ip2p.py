import json
from pathlib import Path
from typing import Any

import pytest
import torch
import training_toys as toys
from diffusers import StableDiffusionInstructPix2PixPipeline, UNet2DConditionModel
from PIL import Image

from editclip.config.section import checked
from editclip.data.triplets import Triplets
from editclip.patch_vae import load_vae
from editclip.training import diffusion, ip2p
from editclip.training.diffusion import Latents
from editclip.training.draws import Draws
from editclip.training.loop import autocast_type, seeded
from editclip.training.text_conditioner import TextConditioner


@pytest.fixture(scope="module")
def unet(foundations: Path) -> UNet2DConditionModel:
    return UNet2DConditionModel.from_pretrained(foundations / "text_to_image", subfolder="unet")


def test_at_the_start_the_image_is_ignored(unet: UNet2DConditionModel) -> None:
    """conv_in: first half and bias copied, second half zero; so the wide UNet equals the text-to-image UNet."""
    wide = ip2p.with_image_channels(unet, 12)
    assert torch.equal(wide.conv_in.weight[:, :12], unet.conv_in.weight)
    assert torch.equal(wide.conv_in.bias, unet.conv_in.bias)
    assert wide.config.in_channels == 24 and unet.config.in_channels == 12
    generator = torch.Generator().manual_seed(0)
    noisy, texts = torch.randn(2, 12, 8, 8, generator=generator), torch.randn(2, 77, 32, generator=generator)
    expected = unet(noisy, 500, texts).sample
    nothing = torch.cat([noisy, torch.zeros_like(noisy)], dim=1)
    torch.testing.assert_close(wide(nothing, 500, texts).sample, expected, rtol=0, atol=1e-6)
    image = torch.cat([noisy, torch.randn(2, 12, 8, 8, generator=generator)], dim=1)
    torch.testing.assert_close(wide(image, 500, texts).sample, expected, rtol=0, atol=1e-6)


def test_the_stock_pipeline_loads_and_edits(foundations: Path) -> None:
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(foundations / "ip2p")
    assert pipeline.unet.config.in_channels == 24
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    assert type(pipeline.scheduler).__name__ == "EulerAncestralDiscreteScheduler"
    query = Image.new("RGB", (32, 32), "red")
    generator = torch.Generator().manual_seed(0)
    (edit,) = pipeline("make it blue", image=query, num_inference_steps=2, generator=generator).images
    assert edit.size == (32, 32)


def test_the_unets_of_a_learning_curve_are_kept_in_half_precision(foundations: Path) -> None:
    (kept,) = (foundations / "ip2p" / "logs" / "kept").iterdir()
    assert kept.name == f"{toys.IP2P['steps']:06d}", "validated at the end only"
    found, last = (UNet2DConditionModel.from_pretrained(f) for f in (kept, foundations / "ip2p" / "unet"))
    for mine, wanted in zip(found.parameters(), last.parameters(), strict=True):
        torch.testing.assert_close(mine.float(), wanted, rtol=2**-10, atol=1e-6)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_the_loss_against_the_published_algorithm(
    foundations: Path, triplets: Path, unet: UNet2DConditionModel, kind: diffusion.PredictionType
) -> None:
    """Sampled scaled latents of the edit, unscaled mode of the query, one uniform for both dropouts, written out."""
    split = Triplets(triplets, "train", 32)
    vae, text = load_vae(foundations / "vae"), TextConditioner(foundations / "clip")
    vae.register_to_config(scaling_factor=0.5)
    wide = toys.make_sensitive(ip2p.with_image_channels(unet, 12))
    recipe = checked(ip2p.IP2PRecipe, {**toys.IP2P, "random_flip": False, "condition_dropout": 0.2})
    latents, rows = Latents(vae, split, cache=True), torch.arange(24)
    scheduler = diffusion.training_scheduler(kind)
    draws = Draws.whole(seeded(5), len(rows))
    loss = ip2p.training_loss(wide, latents, text, scheduler, recipe)(latents.load(rows), draws)["loss"]

    generator = seeded(5)
    queries, edits = (images.float() / 127.5 - 1 for images in split.batch(rows.tolist()))
    posterior = vae.encode(edits).latent_dist
    clean = 0.5 * (posterior.mean + posterior.std * torch.randn(24, 12, 8, 8, generator=generator))
    timesteps = torch.randint(1000, (24,), generator=generator)
    noise = torch.randn(24, 12, 8, 8, generator=generator)
    uniform = torch.rand(24, generator=generator)
    image = vae.encode(queries).latent_dist.mean.clone()
    image[(uniform >= 0.2) & (uniform < 0.6)] = 0
    said = ["" if u < 0.4 else split.edit_prompts[i] for i, u in enumerate(uniform)]
    signal = scheduler.alphas_cumprod[timesteps].sqrt().view(-1, 1, 1, 1)
    spread = (1 - signal**2).sqrt()
    output = wide(torch.cat([signal * clean + spread * noise, image], dim=1), timesteps, text(said)).sample
    target = noise if kind == "epsilon" else signal * noise - spread * clean
    torch.testing.assert_close(loss, (output - target).square().mean(), rtol=1e-4, atol=0)


def test_flips_mirror_both_images_of_a_pair(foundations: Path, triplets: Path, unet: UNet2DConditionModel) -> None:
    """The loss with flips equals the loss without, on pairs that were mirrored beforehand where u < 1/2."""
    vae, text = load_vae(foundations / "vae"), TextConditioner(foundations / "clip")
    wide = toys.make_sensitive(ip2p.with_image_channels(unet, 12))
    plain, flipped = (checked(ip2p.IP2PRecipe, {**toys.IP2P, "random_flip": flip}) for flip in (False, True))
    scheduler = diffusion.training_scheduler("epsilon")
    latents = Latents(vae, Triplets(triplets, "train", 32), cache=False)
    batch = latents.load(torch.arange(8))
    generator = seeded(1)
    flips = (torch.rand(8, generator=generator) < 0.5)[:, None, None, None]
    assert 0 < flips.sum() < 8
    mirrored = diffusion.Batch(batch.indices, *(torch.where(flips, i.flip(-1), i) for i in batch[1:]))
    expected = ip2p.training_loss(wide, latents, text, scheduler, plain)(mirrored, Draws.whole(generator, 8))["loss"]
    loss = ip2p.training_loss(wide, latents, text, scheduler, flipped)(batch, Draws.whole(seeded(1), 8))["loss"]
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)


def test_training_compares_its_edits_with_the_truth(foundations: Path, triplets: Path) -> None:
    values = json.loads((foundations / "ip2p" / "logs" / "edits.json").read_text())
    query, truth = Triplets(triplets, "validation", 32).batch([0, 11])
    error = (query.double() - truth.double()).square().mean()
    assert values["rows"] == 2
    assert values["psnr_query"] == pytest.approx(10 * float(torch.log10(255**2 / error)))
    assert 0 <= values["closer_than_query"] <= 1
    assert Image.open(foundations / "ip2p" / "logs" / "edits.png").size == (64, 96)


def test_half_precision_learns_alike(train: Any, foundations: Path, triplets: Path, tmp_path: Path) -> None:
    """On a CPU its attention is another kernel than in single precision; one without AVX-512 computes in fp32."""
    start = foundations / "text_to_image"
    recipe = {**toys.IP2P, "precision": "bf16"}
    out = train(ip2p, recipe, tmp_path / "half", triplets=triplets, text_to_image=start)
    half, single = (
        [json.loads(line)["loss"] for line in (folder / "logs" / "metrics.jsonl").read_text().splitlines()]
        for folder in (out, foundations / "ip2p")
    )
    assert half == pytest.approx(single, rel=0.02)  # bf16 has 8 bits: 0.4 % a rounding
    assert (half == single) == (autocast_type("bf16") is None)
