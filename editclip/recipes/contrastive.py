"""EditCLIP, the edit encoder: a CLIP widened to image pairs (https://arxiv.org/abs/2503.20318, section 3)."""

from typing import Literal

from editclip.config.section import Rate
from editclip.recipes.recipe import GradientRecipe

TRAINING = "editclip.training.contrastive"
STARTS_FROM = ("clip",)
LAYOUT = "editclip.layouts:editclip"
LOSS = "cross-entropy (nats)"


class ContrastiveRecipe(GradientRecipe):
    """Recipe of EditCLIP."""

    conv_learning_rate: Rate | None
    """base rate of the six-channel convolution (paper: 100 times the others'); null = the recipe's own, which is what
    the released code does, because its schedule overwrites the separate rate"""
    logit_scale: Rate | None
    """start of the scale on cosines; null = the pretrained one (100 for OpenAI's CLIP)"""
    logit_scale_learning_rate: Rate | None
    """rate of the scale, kept at 100 or below; null = fixed (official)"""
    batches: Literal["shuffled", "distinct"]
    """shuffled epochs (official), or distinct: no edit twice in a batch, so that no row of it is a false negative, as
    happens when many pairs show the same edit"""
    frequency_power: Rate
    """how `distinct` draws edits, in proportion to (pairs of the edit)^power: 1 as often as in the data, 0 all alike"""
