"""The renderer of InstaManip with its vision tower: what the release takes from Qwen-VL, SEED-X and SDXL."""

from baselines.instamanip.architecture import DetokenizerSizes, VisionSizes
from editclip.config.section import Count, Rate, Share
from editclip.recipes.recipe import GradientRecipe

TRAINING = "baselines.instamanip.train_renderer"
STARTS_FROM = ("ip2p",)
LAYOUT = "baselines.instamanip.renderer_layout:check_renderer"
LOSS = "mean squared error"


class RendererRecipe(GradientRecipe):
    """Recipe of InstaManip's renderer: tower, de-tokenizer and UNet learn together to render an image's features."""

    resolution: Count
    """image side in pixels"""
    vision: VisionSizes
    """sizes of the vision tower"""
    detokenizer: DetokenizerSizes
    """sizes of the de-tokenizer; its context must be as wide as InstructPix2Pix's"""
    time_width: Count
    """width of the embedding of each of SDXL's six numbers of size and crop (SDXL 256)"""
    new_learning_rate: Rate
    """of what does not start from InstructPix2Pix: tower, de-tokenizer and the added embedding"""
    feature_noise: Rate
    """deviation of noise on the features, in their own, so that the renderer forgives what a plan gets wrong; 0 = none
    (SEED-X's second stage is not published)"""
    condition_dropout: Share
    """p of the 3p dropout of features and image (InstructPix2Pix: 0.05)"""
    cache_latents: bool
    """keep the posteriors of all images in memory"""
    validation_examples: Count
    """held-out rows behind the validation losses"""
