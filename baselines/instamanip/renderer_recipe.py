"""InstaManip's renderer: what the release takes from SEED-X's second stage and SDXL."""

from typing import Literal

from baselines.instamanip.architecture import DetokenizerSizes
from editclip.config.section import Count, Rate, Share
from editclip.recipes.recipe import GradientRecipe

TRAINING = "baselines.instamanip.train_renderer"
STARTS_FROM = ("ip2p", "instamanip_vision")
LAYOUT = "baselines.instamanip.renderer_layout:check_renderer"
LOSS = "mean squared error"


class RendererRecipe(GradientRecipe):
    """Recipe of InstaManip's renderer: de-tokenizer and UNet learn to render the features of an edited image."""

    resolution: Count
    """image side in pixels"""
    detokenizer: DetokenizerSizes
    """sizes of the de-tokenizer; its context must be as wide as InstructPix2Pix's"""
    time_width: Count
    """width of the embedding of each of SDXL's six numbers of size and crop (SDXL 256)"""
    timesteps: Literal["uniform", "cubic"]
    """how training draws them; see `diffusion.draw_timesteps`"""
    feature_noise: Rate
    """deviation of noise on the features, in their own, so that the renderer forgives what a plan gets wrong; 0 = none
    (SEED-X's second stage is not published)"""
    condition_dropout: Share
    """p of the 3p dropout of features and image (InstructPix2Pix: 0.05)"""
    cache_latents: bool
    """keep the posteriors of all images in memory"""
    validation_examples: Count
    """held-out rows behind the validation losses"""
