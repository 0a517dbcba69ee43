"""A small VAE for small images, with AutoencoderKL's interface.

Each patch is a pixel of the latent. The main path is linear (a 1×1 convolution on unshuffled pixels) and starts as the
principal components of training patches, so it reconstructs well before any training; a convolutional branch that
starts at zero learns the rest. Latents are standardised inside, each channel by its own mean and deviation, because
the stock interface has one scaling factor only.
"""

import json
from pathlib import Path
from typing import Any

import torch

# diffusers finds a pipeline's component class in a foreign module only when that module also names its ModelMixin
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from torch import Tensor, nn
from torch.nn import functional

from editclip.errors import InputError

# Start of the posterior's log-variance: noise far below the signal, or early steps learn nothing; and at -6 it still
# costs visible sharpness.
LOG_VARIANCE = -9.0


class ResidualBlock(nn.Module):
    """Two convolutions with an odd kernel, under a skip connection."""

    def __init__(self, width: int, kernel_size: int) -> None:
        super().__init__()
        padding = kernel_size // 2
        self.layers = nn.Sequential(
            nn.GroupNorm(8, width),
            nn.SiLU(),
            nn.Conv2d(width, width, kernel_size, padding=padding),
            nn.GroupNorm(8, width),
            nn.SiLU(),
            nn.Conv2d(width, width, kernel_size, padding=padding),
        )

    def forward(self, x: Tensor) -> Tensor:
        """B×width×h×w → the same shape."""
        return x + self.layers(x)


def _branch(inputs: int, width: int, blocks: int, kernel_size: int, outputs: int) -> nn.Sequential:
    """Convolutional branch whose output is zero at the start."""
    first, last = nn.Conv2d(inputs, width, 3, padding=1), nn.Conv2d(width, outputs, 3, padding=1)
    for parameter in last.parameters():
        nn.init.zeros_(parameter)
    return nn.Sequential(first, *(ResidualBlock(width, kernel_size) for _ in range(blocks)), nn.SiLU(), last)


class PatchVAE(ModelMixin, ConfigMixin):
    """Patch-wise linear VAE with a convolutional branch.

    Args:
        in_channels: image channels.
        latent_channels: channels of the latent.
        block_out_channels: as in AutoencoderKL, n entries make the patch 2^(n-1) pixels wide; the last one is the width
            of the convolutional branch (a multiple of 8).
        encoder_blocks: residual blocks of the encoder's branch.
        decoder_blocks: residual blocks of the decoder's branch.
        kernel_size: kernel of the convolutions inside the residual blocks, odd; 1 makes them pointwise. The first and
            the last convolution of a branch are 3×3.
        sample_size: image side in pixels (informative).
        scaling_factor: factor that brings latents to unit variance overall.

    Raises:
        InputError: `kernel_size` is not odd and positive.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        latent_channels: int = 12,
        block_out_channels: tuple[int, ...] = (64, 64, 64),
        encoder_blocks: int = 1,
        decoder_blocks: int = 2,
        kernel_size: int = 3,
        sample_size: int = 32,
        scaling_factor: float = 1.0,
    ) -> None:
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise InputError(f"kernel_size of a PatchVAE is {kernel_size}; it must be odd and positive")
        self.patch_size = 2 ** (len(block_out_channels) - 1)
        pixels, width = in_channels * self.patch_size**2, block_out_channels[-1]
        self.linear_encoder = nn.Conv2d(pixels, latent_channels, 1)
        self.linear_decoder = nn.Conv2d(latent_channels, pixels, 1)
        self.encoder = _branch(pixels, width, encoder_blocks, kernel_size, 2 * latent_channels)
        self.decoder = _branch(latent_channels, width, decoder_blocks, kernel_size, pixels)
        self.register_buffer("latent_mean", torch.zeros(1, latent_channels, 1, 1))
        self.register_buffer("latent_std", torch.ones(1, latent_channels, 1, 1))

    def encode(self, x: Tensor, return_dict: bool = True) -> AutoencoderKLOutput | tuple[DiagonalGaussianDistribution]:
        """Posterior over latents B×C×R/p×R/p of images B×3×R×R in [-1, 1].

        Raises:
            InputError: R is not a multiple of the patch size.
        """
        if x.shape[-1] % self.patch_size or x.shape[-2] % self.patch_size:
            raise InputError(f"images are {x.shape[-1]}×{x.shape[-2]}; make both multiples of {self.patch_size} pixels")
        patches = functional.pixel_unshuffle(x, self.patch_size)
        mean, log_variance = self.encoder(patches).chunk(2, dim=1)
        mean = (self.linear_encoder(patches) + mean - self.latent_mean) / self.latent_std
        log_variance = LOG_VARIANCE + log_variance - 2 * self.latent_std.log()
        posterior = DiagonalGaussianDistribution(torch.cat([mean, log_variance], dim=1))
        return AutoencoderKLOutput(latent_dist=posterior) if return_dict else (posterior,)

    def decode(
        self, z: Tensor, return_dict: bool = True, generator: torch.Generator | None = None
    ) -> DecoderOutput | tuple[Tensor]:
        """Images B×3×R×R, about [-1, 1] and not clamped, of latents B×C×R/p×R/p; `generator` is not used."""
        z = z * self.latent_std + self.latent_mean
        image = functional.pixel_shuffle(self.linear_decoder(z) + self.decoder(z), self.patch_size)
        return DecoderOutput(sample=image) if return_dict else (image,)

    @torch.no_grad()
    def start_from_principal_components(self, images: Tensor) -> None:
        """Set the linear path to the principal components of the patches of `images` (N×3×R×R in [-1, 1]).

        Latents then have zero mean and unit variance in each channel over these images, and decoding a mean is the
        best linear reconstruction.
        """
        patches = functional.pixel_unshuffle(images, self.patch_size).movedim(1, -1).flatten(0, -2).double()
        mean = patches.mean(0)
        variances, vectors = torch.linalg.eigh(torch.cov(patches.T))
        count = self.config.latent_channels
        components, deviations = vectors[:, -count:].flip(1), variances[-count:].flip(0).clamp_min(1e-8).sqrt()
        rows = torch.arange(count)
        components = components * components[components.abs().argmax(0), rows].sign()  # eigenvectors have no sign
        encoder, decoder = (components / deviations).T, components * deviations
        weights = {"weight": encoder[:, :, None, None], "bias": -encoder @ mean}
        self.linear_encoder.load_state_dict(weights)
        self.linear_decoder.load_state_dict({"weight": decoder[:, :, None, None], "bias": mean})

    @torch.no_grad()
    def standardise(self, images: Tensor) -> None:
        """Make latents of `images` (N×3×R×R in [-1, 1]) zero-mean and unit-variance in each channel.

        Reconstructions do not change: the decoder undoes it.
        """
        means = torch.cat([self.encode(part, return_dict=False)[0].mode() for part in images.split(256)])
        self.latent_mean += self.latent_std * means.mean((0, 2, 3), keepdim=True)
        self.latent_std *= means.std((0, 2, 3), keepdim=True)


def load_vae(folder: str | Path) -> PatchVAE | AutoencoderKL:
    """The VAE saved in `folder`, of whichever class its config.json names.

    Raises:
        InputError: there is no config.json, or it names another class.
    """
    file = Path(folder) / "config.json"
    if not file.is_file():
        raise InputError(f"{file} does not exist; give a folder that holds a VAE")
    name = json.loads(file.read_text(encoding="utf-8")).get("_class_name")
    classes: dict[str, Any] = {"PatchVAE": PatchVAE, "AutoencoderKL": AutoencoderKL}
    if name not in classes:
        raise InputError(f"{file} names the class {name!r}; it must be PatchVAE or AutoencoderKL")
    return classes[name].from_pretrained(folder)
