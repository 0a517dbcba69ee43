"""Train a CLIP, a new one or one that is there, on the captions and instructions of triplets.

Images are contrasted with their captions. So that the frozen text tower tells instructions apart later, its text-only
loss also sees instruction wordings: two wordings of one edit are a positive pair (a stand-in for the web text that
OpenAI's CLIP has read). The result is a transformers CLIPModel folder.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor
from torch.nn import functional
from transformers import CLIPConfig

from editclip.data.triplets import Triplets
from editclip.errors import InputError
from editclip.recipes.clip import CLIPRecipe
from editclip.recipes.clip_continued import ContinuedCLIPRecipe
from editclip.training import loop
from editclip.training.clip_export import export_clip, imported_clip, transformers_config
from editclip.training.draws import Draws
from editclip.training.job import Job, build
from editclip.training.processes import gathered


def normalised(images: Tensor) -> Tensor:
    """uint8 images B×3×R×R with CLIP's mean and deviation."""
    mean = torch.tensor(OPENAI_DATASET_MEAN, device=images.device).view(1, 3, 1, 1)
    std = torch.tensor(OPENAI_DATASET_STD, device=images.device).view(1, 3, 1, 1)
    return (images.float() / 255 - mean) / std


def image_features(model: CLIP, images: Tensor) -> Tensor:
    """L2-normalised features B×D of uint8 images."""
    return functional.normalize(model.encode_image(normalised(images)), dim=-1)


def text_features(model: CLIP, tokens: Tensor) -> Tensor:
    """L2-normalised features B×D of token ids B×77.

    Columns that are padding in every row are left out: attention is causal, so they cannot change the result.
    """
    length = int(tokens.argmax(-1).max()) + 1  # the end token has the largest id
    states = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
    states = model.ln_final(model.transformer(states, attn_mask=model.attn_mask[:length, :length]))
    ends = states[torch.arange(len(tokens)), tokens.argmax(-1)]
    return functional.normalize(ends @ model.text_projection, dim=-1)


def contrastive_loss(scale: Tensor, left: Tensor, right: Tensor, identity: Tensor) -> Tensor:
    """Symmetric InfoNCE of features B×D; pairs of rows with equal `identity` (B) are no negatives of each other."""
    same = (identity[:, None] == identity[None]) & ~torch.eye(len(identity), dtype=torch.bool, device=identity.device)
    logits = (scale * left @ right.T).masked_fill(same, -torch.inf)
    targets = torch.arange(len(logits), device=logits.device)
    return (functional.cross_entropy(logits, targets) + functional.cross_entropy(logits.T, targets)) / 2


class Texts:
    """Distinct texts and their token ids; texts are numbered in sorted order."""

    def __init__(self, texts: Sequence[str], context_length: int) -> None:
        self.texts = sorted(set(texts))
        self.number = {text: i for i, text in enumerate(self.texts)}
        self.tokens = SimpleTokenizer(context_length=context_length)(self.texts)

    def numbers(self, texts: Sequence[str]) -> Tensor:
        """Numbers of known texts."""
        return torch.tensor([self.number[text] for text in texts])


class Captions:
    """Images of a split with their captions: index i < N is an original image, N + i an edited one."""

    def __init__(self, triplets: Triplets, context_length: int) -> None:
        self.triplets = triplets
        captions = [*triplets.original_prompts, *triplets.edited_prompts]
        self.texts = Texts(captions, context_length)
        self.caption = self.texts.numbers(captions)

    def __len__(self) -> int:
        return 2 * len(self.triplets)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 images B×3×R×R and their captions' numbers (B)."""
        edited = indices >= len(self.triplets)
        pairs = self.triplets.batch((indices % len(self.triplets)).tolist())
        return torch.where(edited[:, None, None, None], pairs[1], pairs[0]), self.caption[indices]


def paraphrases(triplets: Triplets) -> list[list[str]]:
    """Wordings of every edit that has at least two.

    Raises:
        InputError: the triplets have no edit ids, or no edit has two wordings.
    """
    if triplets.edit_ids is None:
        raise InputError("paraphrase_weight is above 0, but the triplets have no column edit_id; set it to 0")
    wordings: dict[str, set[str]] = defaultdict(set)
    for edit, prompt in zip(triplets.edit_ids, triplets.edit_prompts, strict=True):
        wordings[edit].add(prompt)
    several = [sorted(w) for _, w in sorted(wordings.items()) if len(w) > 1]
    if not several:
        raise InputError("paraphrase_weight is above 0, but no edit has two wordings; set it to 0")
    return several


def training_loss(model: CLIP, captions: Captions, recipe: ContinuedCLIPRecipe) -> loop.LossFunction:
    """The caption loss plus, where the recipe asks for it, the text-only loss."""
    device = loop.device()
    wordings = paraphrases(captions.triplets) if recipe.paraphrase_weight > 0 else []
    spoken = Texts([text for texts in wordings for text in texts] or [""], model.context_length)

    def loss(batch: tuple[Tensor, Tensor], draws: Draws) -> Mapping[str, Tensor]:
        images, numbers = batch
        scale = model.logit_scale.exp().clamp(max=100)
        seen = gathered(image_features(model, images.to(device)))
        texts = gathered(text_features(model, captions.texts.tokens[numbers].to(device)))
        caption = contrastive_loss(scale, seen, texts, gathered(numbers.to(device)))
        if not wordings:
            return {"loss": caption}
        chosen = torch.randperm(len(wordings), generator=draws.generator)[: recipe.paraphrase_edits]
        pick = random.Random(int(torch.randint(2**31, (), generator=draws.generator)))
        pairs = [pick.sample(wordings[edit], 2) for edit in chosen.tolist()]
        said = spoken.numbers([text for pair in zip(*pairs, strict=True) for text in pair])
        left, right = text_features(model, spoken.tokens[said].to(device)).chunk(2)
        paraphrase = contrastive_loss(scale, left, right, chosen.to(device))
        return {"loss": caption + recipe.paraphrase_weight * paraphrase, "caption": caption, "paraphrase": paraphrase}

    return loss


def validation(model: CLIP, captions: Captions) -> Callable[[], Mapping[str, float]]:
    """Caption retrieval on a split, and how close the text features of different edits come.

    `caption_recall_at_1` is over images with distinct captions (at most 512); `instruction_cosine_max` is the largest
    cosine between wordings of different edits (of different texts where edits have no ids).
    """
    device = loop.device()
    triplets = captions.triplets
    first = {number: i for i, number in reversed(list(enumerate(captions.caption.tolist())))}
    indices = torch.tensor(sorted(first.values())[:512])
    instructions = sorted(set(zip(triplets.edit_prompts, triplets.edit_ids or triplets.edit_prompts, strict=True)))
    spoken = Texts([text for text, _ in instructions], model.context_length)
    names = sorted({edit for _, edit in instructions})
    edits = torch.tensor([names.index(edit) for _, edit in instructions])

    def validate() -> Mapping[str, float]:
        images, numbers = captions.batch(indices)
        texts = text_features(model, captions.texts.tokens[numbers].to(device))
        scores = image_features(model, images.to(device)) @ texts.T
        recall = (scores.argmax(1).cpu() == torch.arange(len(indices))).float().mean()
        features = text_features(model, spoken.tokens[spoken.numbers([t for t, _ in instructions])].to(device))
        between = (features @ features.T).cpu()[edits[:, None] != edits[None]]
        closest = float(between.max()) if len(between) else float("nan")
        return {"caption_recall_at_1": float(recall), "instruction_cosine_max": closest}

    return validate


def new(recipe: CLIPRecipe) -> tuple[CLIP, CLIPConfig]:
    """A CLIP that has learnt nothing, and its configuration."""
    vision, text = build(CLIPVisionCfg, recipe.vision), build(CLIPTextCfg, recipe.text)
    model = CLIP(recipe.embed_dim, vision, text, quick_gelu=recipe.quick_gelu)
    torch.nn.init.constant_(model.logit_scale, float(torch.tensor(recipe.initial_logit_scale).log()))
    return model, transformers_config(recipe.embed_dim, vision, text, quick_gelu=recipe.quick_gelu)


def train(
    model: CLIP, recipe: ContinuedCLIPRecipe, training: Triplets, held_out: Triplets, seed: int, **folders: Any
) -> None:
    """Train `model` in place; `folders` are `checkpoints` and `logs` of `loop.fit`.

    Raises:
        InputError: the recipe asks for microbatches, which would change the negatives.
    """
    loop.refuse_microbatches(recipe)
    captions = Captions(training, model.context_length)
    loop.fit(
        training_loss(model, captions, recipe),
        loop.decay_groups(model),
        recipe,
        modules={"clip": model},
        draw=loop.shuffled_batches(len(captions), recipe.batch_size, seed),
        load=captions.batch,
        seed=seed,
        validate=validation(model, Captions(held_out, model.context_length)),
        **folders,
    )


def run(job: Job[ContinuedCLIPRecipe]) -> None:
    """Train a new CLIP, or the one that the job starts from, and fill `job.out`."""
    model, config = new(job.recipe) if isinstance(job.recipe, CLIPRecipe) else imported_clip(job.weights["clip"])
    size = config.vision_config.image_size
    training, held_out = (Triplets(job.triplets, split, size) for split in ("train", "validation"))
    model.to(loop.device())
    train(model, job.recipe, training, held_out, job.seed, checkpoints=job.checkpoints, logs=job.logs)
    export_clip(model, config, job.out)
