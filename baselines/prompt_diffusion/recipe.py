"""Prompt Diffusion, trained from a text-to-image model (https://arxiv.org/abs/2305.01115)."""

from typing import Literal

from pydantic import Field

from editclip.config.section import Count, Rate, Share, Tuple
from editclip.recipes.recipe import GradientRecipe

TRAINING = "baselines.prompt_diffusion.training"
STARTS_FROM = ("text_to_image",)
LAYOUT = "baselines.prompt_diffusion.layout:check_folder"
LOSS = "mean squared error"


class PromptDiffusionRecipe(GradientRecipe):
    """Recipe of Prompt Diffusion."""

    resolution: Count
    """image side in pixels (official 256)"""
    tasks: Literal["maps", "edits"]
    """maps, images to their maps and back, as the release; or edits, pairs of one edit"""
    hint_channels: Tuple[tuple[Count, ...]] = Field(min_length=1)
    """widths of the hint encoders (official 16, 32, 96, 256); n of them reduce an image 2^(n-1) times"""
    hint_gain: Rate
    """factor on the initial weights of the hint encoders' hidden convolutions. Official 1, PyTorch's start, with which
    a signal shrinks about threefold a layer; 2.9 keeps its variance"""
    trained_unet: Literal["decoder", "none"]
    """decoder, the UNet's decoder learns too (as released), or none, the ControlNet alone"""
    text_dropout: Share
    """share of examples that lose their text alone (official 0.05)"""
    joint_dropout: Share
    """share that lose text and pair (official 0.05)"""
    pair_dropout: Share
    """share that lose their pair alone (official 0.05)"""
    validation_examples: Count
    """held-out rows behind the validation losses"""
