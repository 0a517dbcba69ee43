"""A CLIP trained further, by the loss that it was trained with."""

from editclip.config.section import Count, Rate
from editclip.recipes.recipe import GradientRecipe

TRAINING = "editclip.training.clip"
STARTS_FROM = ("clip",)
LAYOUT = "editclip.layouts:clip"
LOSS = "cross-entropy (nats)"


class ContinuedCLIPRecipe(GradientRecipe):
    """Recipe of a CLIP that is there already."""

    paraphrase_weight: Rate
    """weight of the text-only loss; 0 = off, for data without edit ids"""
    paraphrase_edits: Count
    """edits in one batch of the text-only loss"""
