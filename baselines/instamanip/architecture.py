"""Sizes of InstaManip's networks and the wording of its prompt, as recipes give and weights folders keep them.

Sizes of the release stand here too. Nothing heavy is imported: recipes are read where there is no torch.
"""

from typing import Self

from pydantic import model_validator

from editclip.config.section import Count, Section, Tuple


class VisionSizes(Section):
    """The vision tower: patches to `tokens_grid`² tokens, whose neighbours are averaged into `slots` features."""

    image_size: Count
    """side in pixels to which images are resized (release 448)"""
    patch_size: Count
    """side of a patch in pixels (release 14)"""
    width: Count
    """of the transformer (release 1664)"""
    layers: Count
    """blocks of the transformer (release 48)"""
    heads: Count
    """of its attention (release 16)"""
    mlp_width: Count
    """hidden width of its blocks (release 8192)"""
    table_grid: Count
    """side of the stored table of positions, which is stretched to the patches' (release 16)"""
    tokens_grid: Count
    """side of the grid of pooled tokens (release 16)"""
    feature_width: Count
    """of tokens and features (release 4096)"""
    feature_heads: Count
    """of the pooling attention (release 32)"""
    slots: Count
    """features of an image, a square number that divides the tokens (release 64)"""

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        _divides("patch_size", self.patch_size, "image_size", self.image_size)
        _divides("heads", self.heads, "width", self.width)
        _divides("feature_heads", self.feature_heads, "feature_width", self.feature_width)
        _divides("the waves of its positions", 4, "feature_width", self.feature_width)
        _divides("slots", self.slots, "tokens_grid²", self.tokens_grid**2)
        if round(self.slots**0.5) ** 2 != self.slots:
            raise ValueError(f"slots is {self.slots}, but must be a square number: the resamplers' queries form a grid")
        return self


class DetokenizerSizes(Section):
    """The de-tokenizer: features to the context and the pooled embedding of a renderer as SDXL's."""

    width: Count
    """of the latents (release 1024)"""
    layers: Count
    """pairs of attention and feed-forward (release 4)"""
    heads: Count
    """of the attention (release 16)"""
    head_width: Count
    """of each of them (release 64)"""
    context_widths: Tuple[tuple[Count, Count]]
    """of the two halves of the context; the second is the pooled embedding's, too (release 768 and 1280)"""


class ManipulatorSizes(Section):
    """The language model that learns the edit, and the resamplers between it and the features."""

    width: Count
    """of the language model (release 5120)"""
    layers: Count
    """of it (release 40)"""
    heads: Count
    """of its attention (release 40)"""
    mlp_width: Count
    """hidden width of its blocks (release 13824)"""
    resampler_heads: Count
    """of either resampler's attention (release 32)"""
    edit_tokens: Count
    """learnt embeddings in which the edit is gathered (release 30)"""
    positions: Count
    """longest prompt; a longer one is refused (release 2048)"""

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        _divides("heads", self.heads, "width", self.width)
        _divides("resampler_heads", self.resampler_heads, "width", self.width)
        _divides("the waves of its positions", 4, "width", self.width)
        return self


class Wording(Section):
    """The text between images and edit tokens, in the order of the sequence."""

    opening: str
    """before the quoted instruction"""
    pairs: str
    """after it, before the exemplars"""
    source: str
    """before the image of an exemplar before the edit"""
    target: str
    """before the image of an exemplar after it"""
    manipulation: str
    """before the edit tokens"""
    query: str
    """before the image to edit"""
    closing: str
    """after it; the answer follows"""

    def pieces(self) -> list[str]:
        """All of them."""
        return list(self.model_dump().values())


def _divides(name: str, part: int, whole_name: str, whole: int) -> None:
    """Refuse a part that does not divide a whole.

    Raises:
        ValueError: it does not.
    """
    if whole % part:
        raise ValueError(f"{whole_name} is {whole}, no multiple of {name}, {part}")


RELEASED_VISION = VisionSizes(
    image_size=448,
    patch_size=14,
    width=1664,
    layers=48,
    heads=16,
    mlp_width=8192,
    table_grid=16,
    tokens_grid=16,
    feature_width=4096,
    feature_heads=32,
    slots=64,
)
RELEASED_DETOKENIZER = DetokenizerSizes(width=1024, layers=4, heads=16, head_width=64, context_widths=(768, 1280))
RELEASED_MANIPULATOR = ManipulatorSizes(
    width=5120, layers=40, heads=40, mlp_width=13824, resampler_heads=32, edit_tokens=30, positions=2048
)
RELEASED_VOCABULARY = 32400
