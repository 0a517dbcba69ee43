"""The de-tokenizer: an image's features to what the renderer's UNet is conditioned on.

Names of the parameters are those of the released one (SEED-X's second stage, `resampler.*`).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from baselines.instamanip.architecture import DetokenizerSizes


class GatheringAttention(nn.Module):
    """Latents gather from features and from themselves."""

    def __init__(self, sizes: DetokenizerSizes) -> None:
        super().__init__()
        self.heads, inner = sizes.heads, sizes.heads * sizes.head_width
        self.norm1 = nn.LayerNorm(sizes.width)
        self.norm2 = nn.LayerNorm(sizes.width)
        self.to_q = nn.Linear(sizes.width, inner, bias=False)
        self.to_kv = nn.Linear(sizes.width, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, sizes.width, bias=False)

    def forward(self, features: Tensor, latents: Tensor) -> Tensor:
        """Features B×n×width and latents B×m×width; what is to be added to the latents."""
        latents = self.norm2(latents)
        keys, values = self.to_kv(torch.cat([self.norm1(features), latents], dim=1)).chunk(2, dim=-1)
        split = [each.unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in (self.to_q(latents), keys, values)]
        mixed = functional.scaled_dot_product_attention(*split)
        result: Tensor = self.to_out(mixed.transpose(1, 2).flatten(2))
        return result


class TokenPool(nn.Module):
    """The mean token attends to all: one pooled embedding (as CLIP's ResNets pool)."""

    def __init__(self, tokens: int, width: int, heads: int, output_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(torch.empty(tokens + 1, width).normal_(std=width**-0.5))
        self.k_proj, self.q_proj, self.v_proj = (nn.Linear(width, width) for _ in range(3))
        self.c_proj = nn.Linear(width, output_width)

    def forward(self, tokens: Tensor) -> Tensor:
        """B×n×width as B×output_width."""
        tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], dim=1) + self.positional_embedding
        parts = self.q_proj(tokens[:, :1]), self.k_proj(tokens), self.v_proj(tokens)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        result: Tensor = self.c_proj(mixed.transpose(1, 2).flatten(1))
        return result


class Detokenizer(nn.Module):
    """Features to the context of the UNet's cross-attention and to the pooled embedding that SDXL adds to time."""

    def __init__(self, sizes: DetokenizerSizes, slots: int, feature_width: int) -> None:
        super().__init__()
        width, (first, second) = sizes.width, sizes.context_widths
        self.latents = nn.Parameter(torch.empty(1, slots, width).normal_(std=width**-0.5))
        self.proj_in = nn.Linear(feature_width, width)
        self.layers = nn.ModuleList(
            nn.ModuleList([GatheringAttention(sizes), self._feed_forward(width)]) for _ in range(sizes.layers)
        )
        self.norm_out = nn.LayerNorm(width)
        self.unet_proj_1 = nn.Linear(width, first)
        self.unet_proj_2 = nn.Linear(width, second)
        self.unet_attnpool = TokenPool(slots, width, sizes.heads, second)

    @staticmethod
    def _feed_forward(width: int) -> nn.Sequential:
        return nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width, bias=False),
            nn.GELU(),
            nn.Linear(4 * width, width, bias=False),
        )

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features B×slots×feature_width; context B×slots×sum(context_widths) and pooled embedding B×the second."""
        latents, features = self.latents.expand(len(features), -1, -1), self.proj_in(features)
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleList)  # attention and feed-forward
            latents = latents + layer[0](features, latents)
            latents = latents + layer[1](latents)
        latents = self.norm_out(latents)
        return torch.cat([self.unet_proj_1(latents), self.unet_proj_2(latents)], dim=-1), self.unet_attnpool(latents)
