"""The three losses of InstaManip's training (https://arxiv.org/abs/2412.01027; official `instamanip.py`)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from baselines.instamanip.manipulator import Outputs
from baselines.instamanip.prompting import AddedTokens, Layout

IGNORED = -100


class Losses(NamedTuple):
    """Language modelling, reconstruction of the wanted image's features, relation between edits."""

    language: Tensor
    reconstruction: Tensor
    relation: Tensor


def labels(layouts: Sequence[Layout], added: AddedTokens) -> Tensor:
    """What each place has to say next, B×L: the answer's text, its image's start and its end; else `IGNORED`."""
    length = max(len(layout.ids) for layout in layouts)
    result = torch.full((len(layouts), length), IGNORED)
    unsaid = {*added.slots, added.image_end}
    for row, layout in enumerate(layouts):
        for place in range(layout.answer, len(layout.ids)):
            if layout.ids[place] not in unsaid:
                result[row, place - 1] = layout.ids[place]
    return result


def answer_states(states: Tensor, layouts: Sequence[Layout], slots: int) -> Tensor:
    """The states B×slots×width at the slots of the answers' images, of states B×L×width."""
    return torch.stack([row[o.images[-1] : o.images[-1] + slots] for row, o in zip(states, layouts, strict=True)])


def relation_loss(states: Sequence[Tensor], layouts: Sequence[Layout], edit_tokens: int, similarity: Tensor) -> Tensor:
    """How the edits' embeddings relate to each other in every layer, against how their instructions do.

    Args:
        states: B×L×width after each block.
        layouts: B sequences.
        edit_tokens: learnt embeddings of an edit; their mean is the edit's embedding.
        similarity: B×B cosines of the instructions' embeddings.
    """
    errors = []
    with torch.autocast(similarity.device.type, enabled=False):  # which would bring the products to half precision
        for layer in states:
            edits = torch.stack([row[o.edit : o.edit + edit_tokens] for row, o in zip(layer, layouts, strict=True)])
            unit = functional.normalize(edits.float().mean(1), dim=-1)
            errors.append(functional.mse_loss(unit @ unit.T, similarity.float()))
    return torch.stack(errors).mean()


def losses(
    outputs: Outputs,
    layouts: Sequence[Layout],
    reconstructed: Tensor,
    wanted: Tensor,
    similarity: Tensor,
    added: AddedTokens,
) -> Losses:
    """The three losses of a batch.

    Args:
        outputs: of the language model.
        layouts: B sequences with answers.
        reconstructed: features of the answers, B×slots×width.
        wanted: the tower's features of the wanted images, the same.
        similarity: see `relation_loss`.
        added: the added tokens.
    """
    logits, said = outputs.logits.float(), labels(layouts, added).to(outputs.logits.device)
    return Losses(
        functional.cross_entropy(logits.flatten(0, 1), said.flatten(), ignore_index=IGNORED),
        functional.mse_loss(reconstructed.float(), wanted.float()),
        relation_loss(outputs.states, layouts, len(added.edit) - 2, similarity),
    )
