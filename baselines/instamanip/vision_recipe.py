"""InstaManip's vision tower: what the release takes, frozen, from Qwen-VL."""

from baselines.instamanip.architecture import VisionSizes
from editclip.config.section import Count, Rate
from editclip.recipes.recipe import GradientRecipe

TRAINING = "baselines.instamanip.train_vision"
STARTS_FROM = ()
LAYOUT = "baselines.instamanip.vision_layout:check_folder"
LOSS = "mean squared error"


class VisionRecipe(GradientRecipe):
    """Recipe of InstaManip's vision tower, whose features learn to tell an image, by a linear map."""

    resolution: Count
    """image side in pixels"""
    vision: VisionSizes
    """sizes of the tower"""
    feature_noise: Rate
    """deviation of noise on the features, in their own, so that near features mean like images; 0 = none"""
    validation_examples: Count
    """held-out rows, both images of each, behind the validation loss"""
