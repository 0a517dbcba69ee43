"""The base of all recipes, and of those that descend a gradient with `editclip.training.loop`."""

from typing import Literal

from editclip.config.section import Count, Rate, Section, Share, Tuple, Whole


class Recipe(Section):
    """What a training is told. A subclass adds the keys; one without an optimiser inherits from here."""


class GradientRecipe(Recipe):
    """What `loop.fit` needs to know; each training adds its own keys by inheriting."""

    steps: Count
    """optimiser updates"""
    batch_size: Count
    """examples per update, over all processes together"""
    microbatch_size: Count | None
    """examples per forward pass (gradients are accumulated); null = the whole batch"""
    learning_rate: Rate
    """base rate; a training may give some parameter groups another one"""
    schedule: Literal["constant", "cosine"]
    """constant, or cosine (to zero at the last step)"""
    warmup_steps: Whole
    """steps of linear warm-up"""
    betas: Tuple[tuple[Share, Share]]
    """of AdamW"""
    epsilon: Rate
    """of AdamW"""
    weight_decay: Rate
    """of AdamW"""
    max_grad_norm: Rate | None
    """L2 norm to which gradients are clipped; null = no clipping"""
    ema_decay: Share | None
    """decay of the moving average whose weights are validated and saved; null = none. It ramps up as
    min(decay, (1 + n) / (10 + n)) after n updates"""
    precision: Literal["fp32", "bf16", "fp16"]
    """fp32, or autocast to bf16 (fp32 on a CPU without fast instructions for it) or fp16 (with loss scaling); weights
    stay fp32"""
    log_every: Count
    """steps between two log lines; validation and checkpoints happen only there"""
    validate_every: Count | None
    """steps between two validations, rounded up to a log line; null = at the end only"""
    patience: Count | None
    """steps for which the validation loss may stay above its least value; then the training stops, with a sentence.
    null = it goes on; without meaning where no validation loss is measured"""
    checkpoint_seconds: Rate
    """least time between two checkpoints"""
