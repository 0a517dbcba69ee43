"""A text-to-image latent diffusion model, trained on the captions of triplets."""

from typing import Any, Literal

from editclip.config.section import Count, Share
from editclip.recipes.recipe import GradientRecipe

TRAINING = "editclip.training.text_to_image"
STARTS_FROM = ("clip", "vae")
LAYOUT = "editclip.layouts:pipeline"
LOSS = "mean squared error"


class TextToImageRecipe(GradientRecipe):
    """Recipe of a text-to-image model; an example is a row, whose two images are both trained on."""

    resolution: Count
    """image side in pixels"""
    unet: dict[str, Any]
    """arguments of UNet2DConditionModel, without those that the VAE and the text encoder fix"""
    prediction_type: Literal["epsilon", "v_prediction"]
    """what the UNet predicts"""
    caption_dropout: Share
    """probability that a caption is replaced by an empty one"""
    cache_latents: bool
    """keep the posteriors of all images in memory"""
    validation_examples: Count
    """held-out rows behind the validation loss"""
