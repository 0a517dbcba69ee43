"""The vision tower: a transformer over patches, whose output learnt queries pool into a grid of tokens.

Names and order of the parameters are those of the released tower (Qwen-VL's, `transformer.visual.*`), so that its
weights load as they are.
"""

from collections.abc import Sequence

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor, nn
from torch.nn import functional

from baselines.instamanip.architecture import VisionSizes

# CLIP's, by which the released tower's images are normalised
MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def stretched(table: Tensor, side: int) -> Tensor:
    """A table of positions, one row a cell of a square grid, for a grid of another side (bicubic, in fp32).

    Args:
        table: n²×width.
        side: of the grid wanted.

    Returns:
        side²×width, of the table's type.
    """
    own = round(len(table) ** 0.5)
    if own == side:
        return table
    grid = table.float().reshape(1, own, own, -1).permute(0, 3, 1, 2)
    wide = functional.interpolate(grid, (side, side), mode="bicubic", align_corners=False)
    return wide.permute(0, 2, 3, 1).flatten(0, 2).to(table.dtype)


def sine_table(width: int, side: int) -> Tensor:
    """The fixed positions of a grid of cells, side²×width: a quarter each of sines and cosines of column and row."""
    frequencies = 10000 ** (-np.arange(width // 4) / (width / 4))
    rows, columns = (axis.reshape(-1, 1) * frequencies for axis in np.mgrid[:side, :side].astype(float))
    parts = [wave(angle) for angle in (columns, rows) for wave in (np.sin, np.cos)]
    return torch.from_numpy(np.concatenate(parts, axis=1)).float()


class GridAttention(nn.Module):
    """One cross-attention by which the queries of a square grid gather tokens: tower's pool and both resamplers.

    Args:
        grid: side of the grid of queries.
        width: of the result; a multiple of 4.
        heads: of the attention.
        input_width: of the tokens.
        eps: of the layer norms: 1e-6 in the tower, 1e-5 in the resamplers.
    """

    def __init__(self, grid: int, width: int, heads: int, input_width: int, eps: float) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.empty(grid**2, width), requires_grad=False)
        with torch.no_grad():
            self.pos_embed.copy_(sine_table(width, grid))
        self.query = nn.Parameter(torch.empty(grid**2, width).normal_(std=0.02))
        self.kv_proj = nn.Linear(input_width, width, bias=False)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_q = nn.LayerNorm(width, eps=eps)
        self.ln_kv = nn.LayerNorm(width, eps=eps)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens B×n²×input_width of a square grid of any side, as B×grid²×width."""
        values = self.ln_kv(self.kv_proj(tokens))
        keys = values + stretched(self.pos_embed, round(tokens.shape[1] ** 0.5))
        queries = (self.ln_q(self.query) + self.pos_embed).expand(len(tokens), -1, -1)
        result: Tensor = self.attn(queries, keys, values, need_weights=False)[0]
        return result


class PackedAttention(nn.Module):
    """Self-attention whose joint projection is laid out head by head: (query, key, value) of the first, and so on."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, states: Tensor) -> Tensor:
        """B×L×width, the same."""
        packed = self.in_proj(states).unflatten(-1, (self.heads, 3, -1))
        query, key, value = packed.permute(3, 0, 2, 1, 4)
        mixed: Tensor = functional.scaled_dot_product_attention(query, key, value)
        result: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return result


class Block(nn.Module):
    """A pre-norm block of the tower."""

    def __init__(self, sizes: VisionSizes) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(sizes.width, eps=1e-6)
        self.attn = PackedAttention(sizes.width, sizes.heads)
        self.ln_2 = nn.LayerNorm(sizes.width, eps=1e-6)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(sizes.width, sizes.mlp_width))
        self.mlp.add_module("gelu", nn.GELU())
        self.mlp.add_module("c_proj", nn.Linear(sizes.mlp_width, sizes.width))

    def forward(self, states: Tensor) -> Tensor:
        """B×L×width, the same."""
        states = states + self.attn(self.ln_1(states))
        result: Tensor = states + self.mlp(self.ln_2(states))
        return result


class Blocks(nn.Module):
    """The tower's blocks, one after the other."""

    def __init__(self, sizes: VisionSizes) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(sizes) for _ in range(sizes.layers))

    def forward(self, states: Tensor) -> Tensor:
        """B×L×width, the same."""
        for block in self.resblocks:
            states = block(states)
        return states


class VisionTower(nn.Module):
    """Images to tokens, and to the features that the language model foretells."""

    def __init__(self, sizes: VisionSizes) -> None:
        super().__init__()
        self.sizes = sizes
        width, wide = sizes.width, sizes.feature_width
        self.conv1 = nn.Conv2d(3, width, sizes.patch_size, sizes.patch_size, bias=False)
        self.positional_embedding = nn.Parameter(torch.empty(sizes.table_grid**2, width).normal_(std=width**-0.5))
        self.ln_pre = nn.LayerNorm(width, eps=1e-6)
        self.transformer = Blocks(sizes)
        self.attn_pool = GridAttention(sizes.tokens_grid, wide, sizes.feature_heads, width, 1e-6)
        self.ln_post = nn.LayerNorm(wide, eps=1e-6)
        self.proj = nn.Parameter(torch.empty(wide, wide).normal_(std=wide**-0.5))

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images B×3×image_size² as tokens B×tokens_grid²×feature_width."""
        patches = self.conv1(images)
        states = patches.flatten(2).transpose(1, 2) + stretched(self.positional_embedding, patches.shape[-1])
        states = self.transformer(self.ln_pre(states))
        result: Tensor = self.ln_post(self.attn_pool(states)) @ self.proj
        return result

    def features(self, images: Tensor) -> Tensor:
        """The same as features B×slots×feature_width: means of tokens that follow each other in a row."""
        return pooled(self(images), self.sizes.slots)

    def no_features(self) -> Tensor:
        """Features 1×slots×feature_width of "no image": zeros after the normalisation, as in the release."""
        shape = (1, 3, self.sizes.image_size, self.sizes.image_size)
        return self.features(self.proj.new_zeros(shape))

    def normalised(self, pixels: Tensor) -> Tensor:
        """Pixels B×3×H×W in [0, 1] as the tower takes them, on its device and of its type."""
        side = self.sizes.image_size
        if pixels.shape[-2:] != (side, side):
            pixels = functional.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
        mean, deviation = (pixels.new_tensor(values).view(3, 1, 1) for values in (MEAN, DEVIATION))
        return ((pixels - mean) / deviation).to(self.proj)


def pooled(tokens: Tensor, slots: int) -> Tensor:
    """Tokens B×n×width as B×slots×width, the means of runs of n/slots tokens."""
    return tokens.unflatten(1, (slots, -1)).mean(2)


def pixels_of(images: Sequence[Image]) -> Tensor:
    """RGB images of one size as B×3×H×W in [0, 1]."""
    arrays = np.stack([np.asarray(image.convert("RGB")) for image in images])
    return torch.from_numpy(arrays).permute(0, 3, 1, 2).float() / 255
