"""InstaManip's manipulator, trained from nothing on a finished vision tower (https://arxiv.org/abs/2412.01027)."""

from pydantic import Field

from baselines.instamanip.architecture import ManipulatorSizes, Wording
from editclip.config.section import Count, Rate, Share
from editclip.recipes.recipe import GradientRecipe

TRAINING = "baselines.instamanip.training"
STARTS_FROM = ("instamanip_vision", "clip")
LAYOUT = "baselines.instamanip.manipulator_layout:check_manipulator"
LOSS = "language + reconstruction + relation"


class ManipulatorRecipe(GradientRecipe):
    """Recipe of InstaManip's language model and resamplers; the vision tower is frozen."""

    resolution: Count
    """image side in pixels"""
    manipulator: ManipulatorSizes
    """sizes of the language model"""
    wording: Wording
    """the prompt; the release's own is not ours to give (`baselines.instamanip.released_prompt`)"""
    answers: list[str] = Field(min_length=1)
    """what the language model says before its image, one of them at random (release: 20 pleasantries and nothing)"""
    exemplars: Count
    """pairs of the same edit shown in a prompt (released models: 1, 2, 3, or 1 to 3 at random)"""
    text_dropout: Share
    """share of prompts without the instruction (official 0)"""
    language_weight: Rate
    """of the language modelling loss (official 1)"""
    reconstruction_weight: Rate
    """of the squared error of the features (official 6)"""
    relation_weight: Rate
    """of the loss that compares the edits' relations with their instructions' (official 0.6)"""
    validation_examples: Count
    """held-out rows behind the validation losses"""
