"""The formulas of the feature metrics, on single feature vectors, in float64.

All are raw cosines in [−1, 1]: no ×100, no ×2.5, no logit scale, no clamp at 0 (paper, section 3.4 and appendix A).
"""

import torch

from editclip.metrics.scores import Score


def unit(feature: torch.Tensor) -> torch.Tensor:
    """A feature of shape D at length 1, float64.

    Raises:
        ValueError: the feature is zero or not finite, which no working encoder returns.
    """
    length = torch.linalg.vector_norm(feature.double())
    if not torch.isfinite(length) or length == 0:
        raise ValueError(f"a feature of length {length} has no direction")
    return feature.double() / length


def cosine(first: torch.Tensor, second: torch.Tensor) -> float:
    """Cosine of two features of shape D."""
    return float(unit(first) @ unit(second))


def direction(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """From `before` to `after`, both brought to length 1 before the subtraction (as in InstructPix2Pix's metric)."""
    return unit(after) - unit(before)


def aligned(first: torch.Tensor, second: torch.Tensor, minimum: float, names: tuple[str, str]) -> Score:
    """Cosine of two directions, or `undefined` when one is shorter than `minimum` and so points nowhere.

    Args:
        first: direction of shape D.
        second: direction of shape D.
        minimum: shortest length that counts as a direction (features have length 1, so at most 2).
        names: what the directions are, for the reason.
    """
    for vector, name in zip((first, second), names, strict=True):
        length = float(torch.linalg.vector_norm(vector))
        if length < minimum:
            return Score.undefined(f"{name} is a direction of length {length:.1e}")
    return Score.ok(cosine(first, second))
