"""The frozen text encoder that conditions text-to-image and instruction models."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer


class TextConditioner(nn.Module):
    """The frozen text encoder of a CLIP folder: prompts → last hidden states after the final layer norm.

    Args:
        clip: transformers folder with the text encoder (CLIPModel or CLIPTextModel).
        tokenizer: folder of the tokenizer; None = the same.
        memory_bytes: embeddings of distinct prompts are kept up to this size (0 = none).
    """

    def __init__(self, clip: Path, tokenizer: Path | None = None, *, memory_bytes: int = 2**29) -> None:
        super().__init__()
        self.tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(tokenizer or clip)
        self.encoder: CLIPTextModel = CLIPTextModel.from_pretrained(clip).requires_grad_(False).eval()
        self.memory_bytes = memory_bytes
        self._kept: dict[str, Tensor] = {}

    @property
    def width(self) -> int:
        """Width of a token's embedding: the UNet's cross_attention_dim."""
        return int(self.encoder.config.hidden_size)

    @torch.no_grad()
    def forward(self, prompts: Sequence[str]) -> Tensor:
        """Embeddings B×77×width; long prompts are truncated. "" gives the null condition of text-guided models."""
        new = sorted({p for p in prompts if p not in self._kept})
        fresh: dict[str, Tensor] = {}
        for start in range(0, len(new), 256):
            part = new[start : start + 256]
            options: dict[str, Any] = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
            tokens = self.tokenizer(part, max_length=self.tokenizer.model_max_length, **options)
            states = self.encoder(tokens.input_ids.to(self.encoder.device)).last_hidden_state
            fresh.update(zip(part, states, strict=True))
        result = torch.stack([self._kept[p] if p in self._kept else fresh[p] for p in prompts])
        room = self.memory_bytes // (4 * self.tokenizer.model_max_length * self.width) - len(self._kept)
        self._kept.update((p, fresh[p].clone()) for p in new[: max(room, 0)])
        return result
