"""Projection of edit tokens to the context a diffusion UNet attends to."""

from pathlib import Path
from typing import Self

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from editclip.checkpoints import load_strict, load_torch
from editclip.errors import InputError

PROJECTION = "image_proj_model"  # stem of the projection's file beside a UNet folder


class ImageProjModel(ModelMixin, ConfigMixin):
    """Edit tokens B×L×`clip_embeddings_dim` → UNet context B×(L·n)×`cross_attention_dim`: linear, then layer norm.

    Args:
        cross_attention_dim: width of the UNet's context.
        clip_embeddings_dim: width of the edit encoder's hidden states.
        clip_extra_context_tokens: n, context tokens made of each edit token (1 in EditCLIP).
    """

    @register_to_config
    def __init__(self, cross_attention_dim: int, clip_embeddings_dim: int, clip_extra_context_tokens: int = 1) -> None:
        super().__init__()
        self.proj = nn.Linear(clip_embeddings_dim, clip_extra_context_tokens * cross_attention_dim)
        self.norm = nn.LayerNorm(cross_attention_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Project edit tokens."""
        return self.norm(self.proj(tokens).unflatten(-1, (-1, self.norm.normalized_shape[0])).flatten(1, 2))

    @classmethod
    def load(cls, folder: str | Path, torch_dtype: torch.dtype = torch.float32) -> Self:
        """Load `image_proj_model.safetensors`, or the released `image_proj_model.pt`, from an EditCLIP-IP2P folder.

        Raises:
            InputError: neither file is there, or its tensors are not this model's.
        """
        path = Path(folder) / f"{PROJECTION}.safetensors"
        if path.is_file():
            state = load_file(path)
        elif path.with_suffix(".pt").is_file():
            path = path.with_suffix(".pt")
            state = load_torch(path)
        else:
            raise InputError(f"{folder}: no {PROJECTION}.safetensors or .pt; give the folder that also holds unet/.")
        if not {"proj.weight", "norm.weight"} <= state.keys():
            raise InputError(f"{path}: no proj.weight or norm.weight among its tensors; give an EditCLIP-IP2P file.")
        width = len(state["norm.weight"])
        outputs, inputs = state["proj.weight"].shape
        model = cls(width, inputs, outputs // width)
        load_strict(model, {name: tensor.to(torch_dtype) for name, tensor in state.items()}, path)
        return model.eval()

    def save(self, folder: str | Path) -> None:
        """Write `image_proj_model.safetensors` into `folder`."""
        tensors = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        save_file(tensors, Path(folder) / f"{PROJECTION}.safetensors")
