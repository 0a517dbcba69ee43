"""Closed forms of the noise schedule, prediction types and condition dropout."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

from editclip.data.triplets import Triplets
from editclip.errors import InputError
from editclip.patch_vae import PatchVAE
from editclip.training import diffusion
from editclip.training.diffusion import Latents
from editclip.training.draws import Draws
from editclip.training.loop import seeded

KINDS: tuple[diffusion.Timesteps, ...] = ("uniform", "cubic")
LATENTS = torch.randn(6, 4, 2, 2, generator=torch.Generator().manual_seed(0))


def draws(seed: int, rows: int = len(LATENTS)) -> Draws:
    return Draws.whole(seeded(seed), rows)


def cumulative_alphas() -> np.ndarray:
    """ᾱ of Stable Diffusion's "scaled linear" schedule: β linear in its square root from 0.00085 to 0.012."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=np.float64) ** 2
    return np.cumprod(1 - betas)


def test_noise_follows_the_closed_form() -> None:
    noised = diffusion.add_noise(diffusion.training_scheduler("epsilon"), LATENTS, draws(0))
    alphas = torch.tensor(cumulative_alphas())[noised.timesteps].view(-1, 1, 1, 1)
    expected = alphas.sqrt() * LATENTS + (1 - alphas).sqrt() * noised.noise
    torch.testing.assert_close(noised.noisy.double(), expected, rtol=1e-4, atol=1e-5)
    assert cumulative_alphas()[999] == pytest.approx(0.00466, abs=1e-5)  # the published schedule's last value


def test_timesteps_are_uniform_and_noise_is_normal() -> None:
    noised = diffusion.add_noise(diffusion.training_scheduler("epsilon"), torch.zeros(20000, 1, 1, 1), draws(1, 20000))
    counts = torch.bincount(noised.timesteps // 100, minlength=10)
    assert noised.timesteps.min() == 0 and noised.timesteps.max() == 999
    assert (counts - 2000).abs().max() < 5 * 2000**0.5
    assert abs(float(noised.noise.mean())) < 5 / 20000**0.5 and float(noised.noise.std()) == pytest.approx(1, abs=0.03)


def test_cubic_timesteps_follow_their_distribution_function() -> None:
    """P(t < x T) = P(u³ > 1 - x) = 1 - (1 - x)^(1/3) of t = (1 - u³) T, u uniform (T2I-Adapter, section 3.4)."""
    timesteps = diffusion.draw_timesteps(1000, "cubic", draws(1, 20000))
    assert timesteps.dtype == torch.int64 and timesteps.min() >= 0 and timesteps.max() == 999
    for share in (0.1, 0.5, 0.875, 0.99):
        expected = 1 - (1 - share) ** (1 / 3)
        deviation = (expected * (1 - expected) / 20000) ** 0.5
        assert float((timesteps < 1000 * share).double().mean()) == pytest.approx(expected, abs=5 * deviation)


def test_noise_is_added_at_timesteps_of_the_kind_asked_for() -> None:
    scheduler, zeros = diffusion.training_scheduler("epsilon"), torch.zeros(20000, 1, 1, 1)
    means = {
        kind: diffusion.add_noise(scheduler, zeros, draws(1, len(zeros)), kind).timesteps.double().mean()
        for kind in KINDS
    }
    assert means["uniform"] == pytest.approx(499.5, abs=5 * 1000 / (12 * 20000) ** 0.5)
    assert means["cubic"] == pytest.approx(749.5, abs=5 * 1000 / (12 * 20000) ** 0.5)  # E[1 - u³] = 3/4


def test_targets() -> None:
    """ε, and v = √ᾱ ε - √(1-ᾱ) z₀ (Salimans and Ho, arXiv:2202.00512)."""
    for kind in ("epsilon", "v_prediction"):
        scheduler = diffusion.training_scheduler(kind)
        noised = diffusion.add_noise(scheduler, LATENTS, draws(2))
        alphas = torch.tensor(cumulative_alphas())[noised.timesteps].view(-1, 1, 1, 1)
        velocity = alphas.sqrt() * noised.noise - (1 - alphas).sqrt() * LATENTS
        expected = noised.noise.double() if kind == "epsilon" else velocity
        target = diffusion.training_target(scheduler, noised).double()
        torch.testing.assert_close(target, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_a_perfect_output_gives_back_the_clean_latents(kind: diffusion.PredictionType) -> None:
    scheduler = diffusion.training_scheduler(kind)
    noised = diffusion.add_noise(scheduler, LATENTS, draws(3))
    perfect = diffusion.training_target(scheduler, noised)
    torch.testing.assert_close(diffusion.predicted_original(scheduler, perfect, noised), LATENTS, rtol=0, atol=2e-5)
    assert float(diffusion.denoising_loss(scheduler, perfect, noised)) == 0.0
    assert float(diffusion.denoising_loss(scheduler, perfect + 2, noised)) == pytest.approx(4.0, rel=1e-5)


def test_another_prediction_type_is_refused() -> None:
    scheduler = DDPMScheduler(prediction_type="sample")
    noised = diffusion.add_noise(scheduler, LATENTS, draws(0))
    with pytest.raises(InputError, match="'sample'; use epsilon or v_prediction"):
        diffusion.training_target(scheduler, noised)
    with pytest.raises(InputError, match="'sample'; use epsilon or v_prediction"):
        diffusion.predicted_original(scheduler, LATENTS, noised)


def test_condition_dropout_rates() -> None:
    """5 % edit only, 5 % both, 5 % image only, 85 % none, from one draw per sample (InstructPix2Pix and EditCLIP)."""
    count = 40000
    edit, image = diffusion.dropped_conditions(0.05, draws(0, count))
    shares = [(edit & ~image), (edit & image), (~edit & image), (~edit & ~image)]
    for share, expected in zip(shares, (0.05, 0.05, 0.05, 0.85), strict=True):
        deviation = (expected * (1 - expected) / count) ** 0.5
        assert abs(float(share.double().mean()) - expected) < 5 * deviation


def test_the_sampler_is_that_of_instruct_pix2pix() -> None:
    """50 steps: 999, 978.61, …, 20.39, 0, and 14.6146 as the first noise level."""
    scheduler = diffusion.sampling_scheduler("epsilon")
    scheduler.set_timesteps(50)
    assert [round(float(t), 2) for t in scheduler.timesteps[[0, 1, -2, -1]]] == [999.0, 978.61, 20.39, 0.0]
    assert float(scheduler.init_noise_sigma) == pytest.approx(14.6146, abs=1e-3)
    assert scheduler.config.steps_offset == 1


@pytest.fixture
def vae() -> PatchVAE:
    torch.manual_seed(0)
    vae = PatchVAE(block_out_channels=(8, 8, 8), scaling_factor=0.5)
    torch.nn.init.normal_(vae.linear_encoder.weight)
    return vae


def test_cached_latents_equal_those_encoded_on_demand(triplets: Path, vae: PatchVAE) -> None:
    split = Triplets(triplets, "train", 32)
    rows, flips = torch.tensor([5, 0, 17]), torch.tensor([False, True, False])
    kept, fresh = (Latents(vae, split, cache=cache) for cache in (True, False))
    for side in ("original", "edited"):
        for some in (None, flips):
            left, right = (each.image_condition(side, each.load(rows), some) for each in (kept, fresh))
            torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-5)
            left, right = (each.latents(side, each.load(rows), draws(1, len(rows)), some) for each in (kept, fresh))
            torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-5)


def test_images_are_encoded_in_parts_as_in_one_call(triplets: Path, vae: PatchVAE) -> None:
    split = Triplets(triplets, "train", 32)
    images, _ = split.batch(list(range(diffusion.ENCODED_AT_ONCE + 3)))
    flips = torch.arange(len(images)) % 3 == 0
    mirrored = torch.stack([image.flip(-1) if flip else image for image, flip in zip(images, flips, strict=True)])
    expected = vae.encode(mirrored.float() / 127.5 - 1).latent_dist.parameters
    found = Latents(vae, split, cache=False).encode(images, flips).parameters
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_latents_are_scaled_and_image_conditions_are_not(triplets: Path, vae: PatchVAE) -> None:
    split = Triplets(triplets, "train", 32)
    latents, rows = Latents(vae, split, cache=False), torch.tensor([3, 8])
    original, edited = split.batch([3, 8])
    posterior = vae.encode(edited.float() / 127.5 - 1).latent_dist
    torch.testing.assert_close(latents.latents("edited", rows, draws(1, len(rows))), posterior.sample(seeded(1)) * 0.5)
    flipped = vae.encode(original.flip(-1).float() / 127.5 - 1).latent_dist.mode()
    torch.testing.assert_close(latents.image_condition("original", rows, torch.tensor([True, True])), flipped)
