"""What InstructPix2Pix's guidance needs of a UNet (https://arxiv.org/abs/2211.09800, equation 3).

Its output is neither + s_T · (full - image) + s_I · (image - neither), of three rows a picture: given text and image,
the image alone, and neither. With an image guidance s_I of 1 the last cancels out.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def without_cancelled_rows(unet: nn.Module, guidance_scale: float, image_guidance_scale: float) -> Iterator[None]:
    """Within it, a guided stock pipeline's UNet leaves out the rows that an image guidance of 1 cancels.

    The rows come in thirds as diffusers' InstructPix2Pix pipelines, that of SD 1 and that of SDXL, order them, and the
    second third's output stands in the place of the last's, so that the guided output is the same up to rounding for
    two thirds of the work. With another guidance, or where the pipeline leaves guidance out, nothing changes.
    """
    if guidance_scale <= 1 or image_guidance_scale != 1:
        yield
        return
    whole = unet.forward

    def forward(sample: Tensor, timestep: Any, *, encoder_hidden_states: Tensor, **others: Any) -> tuple[Tensor]:
        kept = 2 * len(sample) // 3
        if added := others.get("added_cond_kwargs"):  # SDXL's pooled texts and sizes have the same rows
            others["added_cond_kwargs"] = {k: v[:kept] if isinstance(v, Tensor) else v for k, v in added.items()}
        output = whole(sample[:kept], timestep, encoder_hidden_states=encoder_hidden_states[:kept], **others)[0]
        return (torch.cat([output, output[kept // 2 :]]),)

    unet.forward = forward
    try:
        yield
    finally:
        del unet.forward
