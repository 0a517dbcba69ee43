"""The schedule of the learning rate."""

import math

from editclip.recipes.recipe import GradientRecipe


def learning_rate_factor(step: int, recipe: GradientRecipe) -> float:
    """Factor on the base learning rates at `step` (from 0).

    Linear warm-up reaches 1 at its last step; then 1, or half a cosine from 1 down to 0 at `recipe.steps`
    (the schedule of open_clip, which EditCLIP was trained with).
    """
    if step < recipe.warmup_steps:
        return (step + 1) / recipe.warmup_steps
    if recipe.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - recipe.warmup_steps) / (recipe.steps - recipe.warmup_steps)))
