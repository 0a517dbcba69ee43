import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import training_toys as toys
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch.nn import functional

from editclip.config.section import checked
from editclip.data.triplets import Triplets
from editclip.errors import InputError
from editclip.metrics import ground_truth
from editclip.patch_vae import PatchVAE, load_vae
from editclip.recipes.vae import VAERecipe
from editclip.training.diffusion import to_pixels
from editclip.training.draws import Draws
from editclip.training.vae import laplacian, local_sharpness, sample_images, training_loss, validation

ROUNDING = 4 * ground_truth.ROUNDING  # pixels in [-1, 1] have twice the metric's width

SMALL = {"block_out_channels": (8, 8, 8), "encoder_blocks": 1, "decoder_blocks": 1}


@pytest.fixture
def images(triplets: Path) -> torch.Tensor:
    return to_pixels(torch.cat(Triplets(triplets, "train", 32).batch(range(64))))


def shake(vae: PatchVAE) -> PatchVAE:
    """Give the convolutional branches something to add."""
    for branch in (vae.encoder, vae.decoder):
        torch.nn.init.normal_(branch[-1].weight, std=0.05)
    return vae


def test_it_starts_as_principal_components(images: torch.Tensor) -> None:
    """The reconstruction error of a PCA is the share of variance left out (here by an SVD in numpy)."""
    vae = PatchVAE(**SMALL)
    vae.start_from_principal_components(images)
    posterior = vae.encode(images).latent_dist
    error = (vae.decode(posterior.mode()).sample - images).square().mean()
    patches = images.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).reshape(-1, 48).double().numpy()
    singular = np.linalg.svd(patches - patches.mean(0), compute_uv=False)
    assert float(error) == pytest.approx(float((singular[12:] ** 2).sum() / patches.size), rel=1e-3)
    channels = posterior.mode().movedim(1, 0).flatten(1)
    torch.testing.assert_close(channels.mean(1), torch.zeros(12), rtol=0, atol=1e-3)
    torch.testing.assert_close(channels.std(1), torch.ones(12), rtol=0, atol=1e-2)
    assert torch.equal(posterior.logvar, torch.full_like(posterior.logvar, -9.0))


def test_standardising_changes_latents_but_not_reconstructions(images: torch.Tensor) -> None:
    vae = shake(PatchVAE(**SMALL))
    before = vae.decode(vae.encode(images).latent_dist.mode()).sample
    for _ in range(2):  # once more changes nothing
        vae.standardise(images)
        posterior = vae.encode(images).latent_dist
        channels = posterior.mode().movedim(1, 0).flatten(1)
        torch.testing.assert_close(channels.mean(1), torch.zeros(12), rtol=0, atol=1e-4)
        torch.testing.assert_close(channels.std(1), torch.ones(12), rtol=1e-4, atol=0)
        torch.testing.assert_close(vae.decode(posterior.mode()).sample, before, rtol=1e-4, atol=1e-4)


def test_standardising_scales_the_posterior_noise_alike(images: torch.Tensor) -> None:
    vae = shake(PatchVAE(**SMALL))
    plain = vae.encode(images).latent_dist
    vae.standardise(images)
    standard = vae.encode(images).latent_dist
    torch.testing.assert_close(standard.std * vae.latent_std, plain.std, rtol=1e-4, atol=0)


def test_it_has_the_interface_of_autoencoder_kl(images: torch.Tensor) -> None:
    vae, stock = shake(PatchVAE(**SMALL)), AutoencoderKL(latent_channels=12, norm_num_groups=8, **SMALL_KL)
    for name in ("scaling_factor", "latent_channels", "block_out_channels", "sample_size", "in_channels"):
        assert hasattr(stock.config, name) and hasattr(vae.config, name)
    for each in (vae, stock):
        latents = each.encode(images[:2]).latent_dist.sample(torch.Generator().manual_seed(0))
        assert latents.shape == (2, 12, 8, 8)
        assert each.decode(latents, return_dict=False)[0].shape == (2, 3, 32, 32)
        assert each.encode(images[:2], return_dict=False)[0].mode().shape == (2, 12, 8, 8)


SMALL_KL = {
    "block_out_channels": (8, 8, 8),
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "layers_per_block": 1,
}


def test_images_that_do_not_divide_into_patches_are_refused() -> None:
    with pytest.raises(InputError, match="30×32; make both multiples of 4"):
        PatchVAE(**SMALL).encode(torch.zeros(1, 3, 32, 30))


@pytest.mark.parametrize(("kernel_size", "reach"), [(1, 2), (3, 4)])
def test_the_kernel_of_the_blocks_sets_how_far_a_latent_reaches(kernel_size: int, reach: int) -> None:
    """One block between two 3×3 convolutions; norms are left out, whose statistics reach everywhere."""
    vae = shake(PatchVAE(**SMALL, kernel_size=kernel_size))
    for block in vae.decoder[1:-2]:
        block.layers[0] = block.layers[3] = torch.nn.Identity()
    latents = torch.zeros(2, 12, 12, 12)
    latents[1, :, 5, 6] = 1.0
    plain, changed = vae.decode(latents).sample
    patches = functional.max_pool2d((changed - plain).abs().amax(0, keepdim=True), 4)[0]
    expected = torch.zeros(12, 12, dtype=torch.bool)
    expected[5 - reach : 6 + reach, 6 - reach : 7 + reach] = True
    assert torch.equal(patches > 0, expected)


@pytest.mark.parametrize("kernel_size", [2, 0, -1])
def test_a_kernel_without_a_centre_is_refused(kernel_size: int) -> None:
    with pytest.raises(InputError, match=f"kernel_size of a PatchVAE is {kernel_size}; it must be odd and positive"):
        PatchVAE(**SMALL, kernel_size=kernel_size)


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_saving_keeps_everything(images: torch.Tensor, tmp_path: Path, kernel_size: int) -> None:
    vae = shake(PatchVAE(**SMALL, kernel_size=kernel_size))
    vae.standardise(images)
    vae.register_to_config(scaling_factor=0.7)
    vae.save_pretrained(tmp_path)
    loaded = load_vae(tmp_path)
    assert isinstance(loaded, PatchVAE) and loaded.config.scaling_factor == 0.7
    assert loaded.config.kernel_size == kernel_size
    assert torch.equal(loaded.encode(images).latent_dist.mode(), vae.encode(images).latent_dist.mode())


def test_a_stock_vae_is_loaded_as_such_and_others_are_refused(tmp_path: Path) -> None:
    AutoencoderKL(norm_num_groups=8, **SMALL_KL).save_pretrained(tmp_path / "kl")
    assert isinstance(load_vae(tmp_path / "kl"), AutoencoderKL)
    with pytest.raises(InputError, match="does not exist"):
        load_vae(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel"}))
    with pytest.raises(InputError, match="'UNet2DModel'; it must be PatchVAE or AutoencoderKL"):
        load_vae(tmp_path)


class Blurring:
    """Latents are the image, without noise; decoding blurs them with a box of `side` pixels (1 = not at all)."""

    def __init__(self, side: int) -> None:
        self.side = side

    def encode(self, x: torch.Tensor, return_dict: bool) -> Any:
        return (DiagonalGaussianDistribution(torch.cat([x, x], dim=1), deterministic=True),)

    def decode(self, z: torch.Tensor, return_dict: bool) -> Any:
        return (functional.avg_pool2d(z, self.side, stride=1, padding=self.side // 2, count_include_pad=False),)


def test_the_laplacian_is_that_of_the_metric(images: torch.Tensor) -> None:
    metric = ground_truth.laplacian(images[0].movedim(0, -1).numpy())  # centre minus neighbours
    torch.testing.assert_close(laplacian(images[:1])[0], -torch.from_numpy(metric).movedim(-1, 0), rtol=0, atol=1e-5)


def test_sharpness_is_the_deviation_of_the_laplacian_in_a_square(images: torch.Tensor) -> None:
    squares = laplacian(images).unfold(2, 8, 8).unfold(3, 8, 8).flatten(-2)
    expected = (squares.double().var(-1, correction=0) + ROUNDING).sqrt()
    torch.testing.assert_close(local_sharpness(images).double(), expected, rtol=1e-4, atol=0)


def test_blur_costs_sharpness(triplets: Path) -> None:
    images = Triplets(triplets, "train", 32).batch(range(4))[0]

    def loss(side: int, weight: float) -> dict[str, torch.Tensor]:
        recipe = checked(VAERecipe, {**toys.VAE, "sharpness_weight": weight})
        return dict(training_loss(Blurring(side), recipe)(images, Draws.whole(torch.Generator(), 4)))

    exact, little, much, plain = loss(1, 0.5), loss(3, 0.5), loss(5, 0.5), loss(3, 0)
    assert exact["sharpness"] == 0
    assert 0.01 < little["sharpness"] < much["sharpness"]
    assert "sharpness" not in plain
    torch.testing.assert_close(little["loss"], plain["loss"] + 0.5 * little["sharpness"])


@pytest.mark.parametrize("level", [-1.0, 0.3])
def test_flat_images_leave_a_finite_gradient(level: float) -> None:
    flat = torch.full((1, 3, 16, 16), level, requires_grad=True)
    functional.l1_loss(local_sharpness(flat), torch.ones(1, 3, 2, 2)).backward()
    assert flat.grad is not None and torch.isfinite(flat.grad).all()


def test_validation_compares_sharpness(triplets: Path) -> None:
    images = sample_images(Triplets(triplets, "train", 32), 16)
    flat = torch.full_like(images[:1], 7)  # has no Laplacian to divide by
    assert validation(Blurring(1), torch.cat([images, flat]))()["sharpness"] == 1
    pixels = to_pixels(images)
    (blurred,) = Blurring(3).decode(pixels, return_dict=False)
    made, wanted = ([float(laplacian(image).var(correction=0)) for image in each] for each in (blurred, pixels))
    ratios = [(m + ROUNDING) / (w + ROUNDING) for m, w in zip(made, wanted, strict=True)]
    assert validation(Blurring(3), images)()["sharpness"] == pytest.approx(float(np.median(ratios)), rel=1e-4)


def test_training_sets_unit_variance_and_logs_quality(foundations: Path, triplets: Path) -> None:
    vae = load_vae(foundations / "vae")
    images = to_pixels(sample_images(Triplets(triplets, "train", 32), 4096))
    scaled = vae.encode(images).latent_dist.sample(torch.Generator().manual_seed(1)) * vae.config.scaling_factor
    assert float(scaled.std()) == pytest.approx(1.0, abs=0.01)
    lines = [json.loads(x) for x in (foundations / "vae" / "logs" / "metrics.jsonl").read_text().splitlines()]
    held_out = to_pixels(sample_images(Triplets(triplets, "validation", 32), 512))
    error = (vae.decode(vae.encode(held_out).latent_dist.mode()).sample.clamp(-1, 1) - held_out).square().mean()
    assert lines[-1]["validation/psnr"] == pytest.approx(10 * float(torch.log10(4 / error)), abs=1e-3)
    assert lines[-1]["validation/psnr"] > 25  # its start already reaches this
