"""EditCLIP-IP2P: InstructPix2Pix conditioned on an exemplar (https://arxiv.org/abs/2503.20318, section 4)."""

from typing import Literal

from editclip.conditioning import Condition, Layer
from editclip.config.section import Count, Rate, Share
from editclip.recipes.recipe import GradientRecipe

TRAINING = "editclip.training.exemplar_diffusion"
STARTS_FROM = ("ip2p", "encoder")
LAYOUT = "editclip.layouts:editclip_ip2p"
LOSS = "MSE + weighted LPIPS"


class ExemplarDiffusionRecipe(GradientRecipe):
    """Recipe of EditCLIP-IP2P."""

    resolution: Count
    """image side in pixels (official 256)"""
    unet_start: Literal["inherited", "zeroed"]
    """inherited, the trained InstructPix2Pix as it is (paper); or zeroed, a text-to-image UNet whose first convolution
    gets zero weights for the image condition and a new bias (what the released script does)"""
    projection_learning_rate: Rate | None
    """base rate of the projection; null = the recipe's own (official)"""
    exemplar: Literal["self", "same_edit"]
    """self, the training pair is its own exemplar (official); or same_edit, another pair that shows the same edit,
    where the data names its edits"""
    condition: Condition
    """what the encoder sees of the exemplar, and how its tokens are combined; see `editclip.conditioning`"""
    layer: Layer
    """which of the encoder's outputs the tokens are: hidden (official) or projected"""
    timesteps: Literal["uniform", "cubic"]
    """how training draws them, uniform (official) or cubic; see `diffusion.draw_timesteps`"""
    condition_dropout: Share
    """p of `diffusion.dropped_conditions` (official 0.05)"""
    flip_probability: Share
    """of mirroring a pair, its exemplar included (official 0.5)"""
    lpips_weight: Rate
    """of LPIPS between the predicted image and the *unedited* one (paper, appendix D.1: 0.05); 0 = off"""
    lpips_net: Literal["vgg", "alex", "squeeze"]
    """vgg is official"""
    lpips_trunk: Literal["imagenet", "random"]
    """imagenet (official), or random with a fixed seed"""
    lpips_resolution: Count
    """images below this side are upsampled to it for LPIPS"""
    lpips_share: Share
    """share of each batch, its first rows, that LPIPS is computed on (official 1)"""
    clip_projection: bool
    """clip the projection's gradients too; the official code clips the UNet's alone"""
    gradient_checkpointing: bool
    """trade time for memory in the UNet"""
    cache_latents: bool
    """keep the posteriors of all images in memory"""
    validation_examples: Count
    """held-out rows behind the validation losses"""
