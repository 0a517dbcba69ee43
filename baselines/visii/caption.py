"""Hard-prompt search (PEZ, Wen et al. 2023, https://arxiv.org/abs/2302.03668): a caption of images, token by token."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from editclip.model import Clip


def _text_features(clip: Clip, slots: Tensor) -> Tensor:
    """Projected, L2-normalised feature (D) of the sequence start, `slots` (N×W input embeddings), end.

    Attention is causal and the feature is read at the end token, so that the padding after it is left out.
    """
    text = clip.model.text_model
    ends = torch.tensor([clip.tokenizer.bos_token_id, clip.tokenizer.eos_token_id], device=slots.device)
    first, last = text.embeddings.token_embedding(ends).split(1)
    states = text.embeddings(inputs_embeds=torch.cat([first, slots, last])[None])
    mask = torch.full((states.shape[1],) * 2, -torch.inf, dtype=states.dtype, device=states.device).triu(1)
    states = text.encoder(inputs_embeds=states, attention_mask=mask[None, None]).last_hidden_state
    return normalize(clip.model.text_projection(text.final_layer_norm(states[0, -1])), dim=-1)


def search_caption(
    clip: Clip, images: Sequence[Image.Image], generator: torch.Generator, options: Mapping[str, Any]
) -> str:
    """The text of `caption_tokens` tokens, seen in `caption_steps` steps, that is nearest to the images in CLIP.

    Every step projects each continuous slot to the vocabulary's nearest token by cosine, and applies the gradient
    taken there to the continuous slot. The score is the mean cosine to the images; the best one seen wins.

    Args:
        clip: text and image towers.
        images: what to describe, RGB.
        generator: on the CPU, for the random tokens of the start.
        options: the card's `caption_…` options.
    """
    vocabulary = clip.model.text_model.embeddings.token_embedding.weight.detach()
    usable = torch.ones(len(vocabulary), dtype=torch.bool)
    usable[clip.tokenizer.all_special_ids] = False  # an end token would cut the caption when it is read again
    identifiers = usable.nonzero()[:, 0].to(vocabulary.device)
    directions = normalize(vocabulary[identifiers], dim=-1)
    target = clip.encode_image(images).mean(0)

    drawn = torch.randint(len(identifiers), (options["caption_tokens"],), generator=generator)
    slots = vocabulary[identifiers[drawn.to(identifiers.device)]].clone()
    rates = {"lr": options["caption_learning_rate"], "weight_decay": options["caption_weight_decay"]}
    optimiser = torch.optim.AdamW([slots], **rates)
    best, caption = -torch.inf, identifiers[:0]
    for _ in range(options["caption_steps"]):
        nearest = identifiers[(normalize(slots, dim=-1) @ directions.T).argmax(-1)]
        with torch.enable_grad():
            projected = vocabulary[nearest].requires_grad_()
            score = _text_features(clip, projected) @ target
            (slots.grad,) = torch.autograd.grad(1 - score, projected)
        optimiser.step()
        if score > best:
            best, caption = float(score), nearest
    return clip.tokenizer.decode(caption.tolist())
