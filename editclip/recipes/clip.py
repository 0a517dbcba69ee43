"""A CLIP, trained on the captions and instructions of triplets."""

from typing import Any

from editclip.config.section import Count, Rate
from editclip.recipes.clip_continued import ContinuedCLIPRecipe

TRAINING = "editclip.training.clip"
STARTS_FROM = ()
LAYOUT = "editclip.layouts:clip"
LOSS = "cross-entropy (nats)"


class CLIPRecipe(ContinuedCLIPRecipe):
    """Recipe of a CLIP."""

    embed_dim: Count
    """width of the joint space"""
    quick_gelu: bool
    """QuickGELU (as OpenAI's weights) instead of GELU"""
    vision: dict[str, Any]
    """open_clip's CLIPVisionCfg; its image_size is the images' resolution"""
    text: dict[str, Any]
    """open_clip's CLIPTextCfg"""
    initial_logit_scale: Rate
    """start of the learned scale (CLIP: 1/0.07); it is kept at 100 or below"""
