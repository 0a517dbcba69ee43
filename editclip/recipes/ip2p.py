"""InstructPix2Pix, trained from a text-to-image model (https://arxiv.org/abs/2211.09800)."""

from typing import Literal

from editclip.config.section import Count, Rate, Share, Whole
from editclip.recipes.recipe import GradientRecipe

TRAINING = "editclip.training.ip2p"
STARTS_FROM = ("text_to_image",)
LAYOUT = "editclip.layouts:pipeline"
LOSS = "mean squared error"


class IP2PRecipe(GradientRecipe):
    """Recipe of InstructPix2Pix."""

    resolution: Count
    """image side in pixels"""
    timesteps: Literal["uniform", "cubic"]
    """how training draws them, uniform (paper) or cubic; see `diffusion.draw_timesteps`"""
    condition_dropout: Share
    """p of the 3p dropout of instruction and image (paper: 0.05)"""
    random_flip: bool
    """mirror half of the pairs (official code: yes; wrong where instructions name left and right)"""
    cache_latents: bool
    """keep the posteriors of all images in memory"""
    validation_examples: Count
    """held-out rows behind the validation loss"""
    keep_validated: bool
    """keep the UNet of every validation, in half precision, in `logs/kept/<step>`: `benchmarks/learning_curve.py`
    measures how their edits become better"""
    validation_edits: Whole
    """held-out rows edited at the end, compared with their edited images; 0 = none"""
    num_inference_steps: Count
    """of those edits"""
    guidance_scale: Rate
    """of those edits"""
    image_guidance_scale: Rate
    """of those edits"""
