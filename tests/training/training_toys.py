"""Small recipes that really train."""

from typing import Any

import torch
from diffusers import UNet2DConditionModel

TRAINING: dict[str, Any] = {
    "steps": 6,
    "batch_size": 4,
    "microbatch_size": None,
    "learning_rate": 1e-3,
    "schedule": "cosine",
    "warmup_steps": 1,
    "betas": [0.9, 0.999],
    "epsilon": 1e-8,
    "weight_decay": 0.01,
    "max_grad_norm": 1.0,
    "ema_decay": None,
    "precision": "fp32",
    "log_every": 2,
    "validate_every": None,
    "patience": None,
    "checkpoint_seconds": 0,
}

CLIP: dict[str, Any] = {
    **TRAINING,
    "batch_size": 8,
    "embed_dim": 16,
    "quick_gelu": True,
    "vision": {"image_size": 32, "patch_size": 16, "width": 32, "layers": 2, "head_width": 16},
    "text": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    "initial_logit_scale": 14.3,
    "paraphrase_weight": 0.3,
    "paraphrase_edits": 4,
}

VAE: dict[str, Any] = {
    **TRAINING,
    "architecture": "patch",
    "resolution": 32,
    "model": {"latent_channels": 12, "block_out_channels": [16, 16, 16], "encoder_blocks": 1, "decoder_blocks": 1},
    "l1_weight": 1.0,
    "mse_weight": 1.0,
    "sharpness_weight": 0.1,
    "kl_weight": 1e-6,
}

TEXT_TO_IMAGE: dict[str, Any] = {
    **TRAINING,
    "ema_decay": 0.99,
    "resolution": 32,
    "unet": {
        "block_out_channels": [16, 32],
        "layers_per_block": 1,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
        "attention_head_dim": 2,
        "norm_num_groups": 8,
    },
    "prediction_type": "v_prediction",
    "caption_dropout": 0.1,
    "cache_latents": True,
    "validation_examples": 8,
}

IP2P: dict[str, Any] = {
    **TRAINING,
    "ema_decay": 0.99,
    "resolution": 32,
    "timesteps": "uniform",
    "condition_dropout": 0.05,
    "random_flip": True,
    "cache_latents": True,
    "validation_examples": 8,
    "keep_validated": True,
    "validation_edits": 2,
    "num_inference_steps": 2,
    "guidance_scale": 7.5,
    "image_guidance_scale": 1.5,
}


def make_sensitive(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """Random weights where text and image enter: after a few steps of training a wrong one would hardly show."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in unet.named_parameters():
            if "attn2.to_" in name or name == "conv_in.weight":
                weight.copy_(0.5 * torch.randn(weight.shape, generator=generator))
    return unet
