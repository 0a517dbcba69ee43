"""A VAE, trained on the images of triplets."""

from typing import Any, Literal

from editclip.config.section import Count, Rate
from editclip.recipes.recipe import GradientRecipe

TRAINING = "editclip.training.vae"
STARTS_FROM = ()
LAYOUT = "editclip.layouts:component"
LOSS = "weighted sum of L1, MSE, sharpness, KL"


class VAERecipe(GradientRecipe):
    """Recipe of a VAE."""

    architecture: Literal["patch", "autoencoder_kl"]
    """patch (a PatchVAE, for small images) or autoencoder_kl (diffusers' AutoencoderKL)"""
    resolution: Count
    """image side in pixels"""
    model: dict[str, Any]
    """arguments of the class behind `architecture`"""
    l1_weight: Rate
    """weight of the absolute reconstruction error (pixels in [-1, 1], mean over elements)"""
    mse_weight: Rate
    """weight of the squared reconstruction error (the same)"""
    sharpness_weight: Rate
    """weight of the difference of sharpness (deviation of the Laplacian in squares of 8 × 8 pixels, mean over them)"""
    kl_weight: Rate
    """weight of the divergence from a standard normal (sum over latent elements, mean over images)"""
