import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from editclip.data.triplets import Triplets
from editclip.errors import InputError
from editclip.patch_vae import PatchVAE, load_vae
from editclip.training.diffusion import to_pixels
from editclip.training.vae import sample_images

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
    assert torch.equal(posterior.logvar, torch.full_like(posterior.logvar, -6.0))


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


def test_saving_keeps_everything(images: torch.Tensor, tmp_path: Path) -> None:
    vae = shake(PatchVAE(**SMALL))
    vae.standardise(images)
    vae.register_to_config(scaling_factor=0.7)
    vae.save_pretrained(tmp_path)
    loaded = load_vae(tmp_path)
    assert isinstance(loaded, PatchVAE) and loaded.config.scaling_factor == 0.7
    assert torch.equal(loaded.encode(images).latent_dist.mode(), vae.encode(images).latent_dist.mode())


def test_a_stock_vae_is_loaded_as_such_and_others_are_refused(tmp_path: Path) -> None:
    AutoencoderKL(norm_num_groups=8, **SMALL_KL).save_pretrained(tmp_path / "kl")
    assert isinstance(load_vae(tmp_path / "kl"), AutoencoderKL)
    with pytest.raises(InputError, match="does not exist"):
        load_vae(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel"}))
    with pytest.raises(InputError, match="'UNet2DModel'; it must be PatchVAE or AutoencoderKL"):
        load_vae(tmp_path)


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
