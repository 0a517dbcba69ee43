"""Train EditCLIP, the edit encoder.

A CLIP is widened to six input channels and its image tower is trained by symmetric InfoNCE between edits and their
instructions; the text tower stays as it is (https://arxiv.org/abs/2503.20318, section 3). Its activation is the one in
the CLIP folder's config.json. The result is a CLIPModel folder with `num_channels` 6.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from editclip.data.triplets import Triplets
from editclip.errors import InputError
from editclip.model import Clip, EditCLIP, pair_pixels, widened
from editclip.recipes.contrastive import ContrastiveRecipe
from editclip.training import loop
from editclip.training.draws import Draws
from editclip.training.job import Job
from editclip.training.processes import gathered

MAXIMUM_SCALE = 100.0  # CLIP's bound on the logit scale
VALIDATION_BATCH = 256  # negatives of the validation loss (official: one loader batch)
SPLIT_SEED = 0  # of the official pre-training's held-out pairs, where the data has no validation shards


def info_nce(scale: Tensor, edits: Tensor, texts: Tensor) -> Tensor:
    """Symmetric InfoNCE of normalised features B×D; row i of each belongs to row i of the other."""
    logits = scale * edits @ texts.T
    targets = torch.arange(len(logits), device=logits.device)
    return (cross_entropy(logits, targets) + cross_entropy(logits.T, targets)) / 2


def distinct_batches(edits: Sequence[str], batch_size: int, power: float, seed: int) -> Callable[[int], Tensor]:
    """Batches without two pairs of the same edit.

    Args:
        edits: name of the edit of every pair.
        batch_size: pairs, and so edits, of a batch.
        power: an edit's chance is in proportion to (its pairs)^power.
        seed: seed of all batches.

    Returns:
        A function from the step number to `batch_size` indices of pairs.

    Raises:
        InputError: there are fewer distinct edits than a batch needs.
    """
    members: dict[str, list[int]] = {}
    for index, edit in enumerate(edits):
        members.setdefault(edit, []).append(index)
    groups = list(members.values())
    if len(groups) < batch_size:
        raise InputError(f"batch_size is {batch_size}, but there are only {len(groups)} distinct edits; lower it")
    sizes = torch.tensor([len(group) for group in groups])
    flat = torch.tensor([index for group in groups for index in group])
    starts = sizes.cumsum(0) - sizes

    def draw(step: int) -> Tensor:
        generator = loop.seeded(seed, "batch", step)
        chosen = torch.multinomial(sizes.double() ** power, batch_size, generator=generator)
        places = (torch.rand(batch_size, generator=generator, dtype=torch.double) * sizes[chosen]).long()
        return flat[starts[chosen] + places]

    return draw


class Instructions:
    """The distinct instructions of a split and their features, computed once: the text tower never changes."""

    def __init__(self, encoder: EditCLIP, triplets: Triplets) -> None:
        self.texts = sorted(set(triplets.edit_prompts))
        number = {text: i for i, text in enumerate(self.texts)}
        self.numbers = torch.tensor([number[text] for text in triplets.edit_prompts])
        parts = [self.texts[start : start + 256] for start in range(0, len(self.texts), 256)]
        self.features = torch.cat([encoder.encode_text(part) for part in parts])


def trainable(encoder: EditCLIP, recipe: ContrastiveRecipe) -> list[loop.Group]:
    """Freeze all but the image tower and its projection (and the scale, if learned); its parameter groups.

    Biases, norms and the class token do not decay (official groups).
    """
    model = encoder.model.requires_grad_(False)
    if recipe.logit_scale is not None:
        model.logit_scale.data.fill_(recipe.logit_scale).log_()
    model.vision_model.requires_grad_(True)
    model.visual_projection.requires_grad_(True)
    groups = loop.decay_groups(model)
    conv = model.vision_model.embeddings.patch_embedding.weight
    groups[0].parameters = [p for p in groups[0].parameters if p is not conv]
    groups.append(loop.Group([conv], recipe.conv_learning_rate))
    if recipe.logit_scale_learning_rate is not None:
        model.logit_scale.requires_grad_(True)
        groups.append(loop.Group([model.logit_scale], recipe.logit_scale_learning_rate, weight_decay=0.0))
    return groups


def training_loss(encoder: EditCLIP, instructions: Instructions) -> loop.LossFunction:
    """InfoNCE over the batch of all processes."""

    def loss(batch: tuple[Tensor, Tensor, Tensor], draws: Draws) -> Mapping[str, Tensor]:
        before, after, numbers = batch
        pixels = pair_pixels(before.to(encoder.device), after.to(encoder.device), encoder.processor)
        edits = gathered(encoder.image_features(pixels))
        texts = gathered(instructions.features[numbers.to(encoder.device)])
        scale = encoder.model.logit_scale.exp().clamp(max=MAXIMUM_SCALE)
        return {"loss": info_nce(scale, edits, texts), "logit_scale": scale}

    return loss


def retrieval(edits: Tensor, texts: Tensor, correct: Tensor) -> dict[str, float]:
    """How well edits find instructions and the other way round.

    Args:
        edits: normalised features N×D.
        texts: normalised features T×D.
        correct: N×T booleans, which instruction belongs to which edit; at least one in every row and column.

    Returns:
        recall at 1, 5 and 10 (0 to 1) and mean and median rank (from 1) of the first correct answer, both ways.
    """
    scores = edits @ texts.T
    values: dict[str, float] = {}
    for name, table, right in (("edit_to_text", scores, correct), ("text_to_edit", scores.T, correct.T)):
        best = table.masked_fill(~right, -torch.inf).amax(1, keepdim=True)
        ranks = (table > best).sum(1)
        values |= {f"{name}_recall_at_{k}": float((ranks < k).float().mean()) for k in (1, 5, 10)}
        values |= {f"{name}_mean_rank": float(ranks.float().mean()) + 1}
        values |= {f"{name}_median_rank": float(ranks.float().quantile(0.5).floor()) + 1}
    return values


def validation(encoder: EditCLIP, triplets: Triplets) -> Callable[[], Mapping[str, float]]:
    """Loss and retrieval on a split, among its distinct instructions.

    Every wording of an edit is a right answer where the data names its edits, else the pair's own instruction.
    """
    instructions = Instructions(encoder, triplets)
    names = triplets.edit_ids or triplets.edit_prompts
    number = {name: i for i, name in enumerate(sorted(set(names)))}
    edits = torch.tensor([number[name] for name in names])
    wordings = torch.zeros(len(number), len(instructions.texts), dtype=torch.bool)
    wordings[edits, instructions.numbers] = True
    correct = wordings[edits].to(encoder.device)

    def validate() -> Mapping[str, float]:
        parts = torch.arange(len(triplets)).split(VALIDATION_BATCH)
        features = [encoder.encode_edit(*triplets.batch(part.tolist())) for part in parts]
        scale = encoder.model.logit_scale.exp().clamp(max=MAXIMUM_SCALE)
        texts = instructions.features[instructions.numbers.to(encoder.device)].split(VALIDATION_BATCH)
        losses = [info_nce(scale, *pair) * len(pair[0]) for pair in zip(features, texts, strict=True)]
        found = retrieval(torch.cat(features), instructions.features, correct)
        return {"loss": float(torch.stack(losses).sum()) / len(triplets), **found}

    return validate


def train(
    encoder: EditCLIP, recipe: ContrastiveRecipe, training: Triplets, held_out: Triplets, seed: int, **folders: Any
) -> None:
    """Train `encoder` in place; `folders` are `checkpoints` and `logs` of `loop.fit`.

    Raises:
        InputError: the recipe asks for microbatches, which would change the negatives.
    """
    loop.refuse_microbatches(recipe)
    instructions = Instructions(encoder, training)
    if recipe.batches == "distinct":
        names = training.edit_ids or training.edit_prompts
        draw = distinct_batches(names, recipe.batch_size, recipe.frequency_power, seed)
    else:
        draw = loop.shuffled_batches(len(training), recipe.batch_size, seed)
    loop.fit(
        training_loss(encoder, instructions),
        trainable(encoder, recipe),
        recipe,
        modules={"editclip": encoder.model},
        draw=draw,
        load=lambda indices: (*training.batch(indices.tolist()), instructions.numbers[indices]),
        seed=seed,
        validate=validation(encoder, held_out),
        **folders,
    )
    encoder.model.logit_scale.data.clamp_(max=torch.tensor(MAXIMUM_SCALE).log())


def run(job: Job[ContrastiveRecipe]) -> None:
    """Train and fill `job.out`."""
    clip = Clip.load(job.weights["clip"], loop.device())
    encoder = EditCLIP(widened(clip.model), clip.tokenizer, clip.processor)
    size = clip.model.vision_model.embeddings.image_size
    training, held_out = (
        Triplets(job.triplets, split, size, split_seed=SPLIT_SEED) for split in ("train", "validation")
    )
    train(encoder, job.recipe, training, held_out, job.seed, checkpoints=job.checkpoints, logs=job.logs)
    encoder.save(job.out, job.weights["clip"])
