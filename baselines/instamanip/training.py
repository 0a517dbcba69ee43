"""Train InstaManip's manipulator: it reads pairs of one edit and a query, and foretells the query's edit.

Groups are rows of the same edit, one of which is the query and its answer, the others the exemplars (official: images
of one prompt). The features to foretell, and those of all images shown, are the frozen tower's. The relation loss
compares the rows of a batch; officially those on one GPU.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from baselines.instamanip.losses import answer_states, losses
from baselines.instamanip.manipulator import Manipulator
from baselines.instamanip.manipulator_layout import save_manipulator
from baselines.instamanip.prompting import AddedTokens, Prompter, WordTokens
from baselines.instamanip.recipe import ManipulatorRecipe
from baselines.instamanip.vision import VisionTower, pooled
from baselines.instamanip.vision_layout import load_vision
from editclip.data.triplets import Triplets
from editclip.errors import InputError
from editclip.model import Clip
from editclip.training import loop
from editclip.training.draws import Draws
from editclip.training.exemplars import exemplar_draw
from editclip.training.job import Job


class Group(NamedTuple):
    """Rows of a batch: the query's row numbers (B), and images of all its pairs, uint8 B×(1 + exemplars)×3×R×R.

    The first pair is the query and its answer, the others are the exemplars.
    """

    indices: Tensor
    before: Tensor
    after: Tensor


def group_draw(
    rows: Callable[[int], Tensor], edits: Sequence[str], exemplars: int, seed: int
) -> Callable[[int], Tensor]:
    """Extend batches of rows (B) by exemplars of the same edit to B×(1 + exemplars) row numbers."""
    draws = [exemplar_draw(rows, edits, seed + number) for number in range(exemplars)]
    return lambda step: torch.cat([rows(step)[:, None], *(draw(step)[:, 1:] for draw in draws)], dim=1)


def load_group(triplets: Triplets) -> Callable[[Tensor], Group]:
    """The `load` of `loop.fit`: row numbers B×(1 + exemplars) to images."""

    def load(rows: Tensor) -> Group:
        sides = triplets.batch(rows.flatten().tolist())
        return Group(rows[:, 0], *(side.unflatten(0, rows.shape) for side in sides))

    return load


class Parts(NamedTuple):
    """What one training works with; the manipulator is trained."""

    manipulator: Manipulator
    vision: VisionTower
    prompter: Prompter
    instructions: Sequence[str]
    similarity: Callable[[Sequence[str]], Tensor]


def instruction_similarity(clip: Clip) -> Callable[[Sequence[str]], Tensor]:
    """Texts to the B×B cosines of their CLIP embeddings; each text is embedded once."""
    known: dict[str, Tensor] = {}

    def similarity(texts: Sequence[str]) -> Tensor:
        new = sorted({text for text in texts if text not in known})
        with torch.autocast(clip.device.type, enabled=False):
            known.update(zip(new, clip.encode_text(new), strict=True) if new else ())
            embedded = torch.stack([known[text] for text in texts])
            return embedded @ embedded.T

    return similarity


def training_loss(parts: Parts, recipe: ManipulatorRecipe) -> loop.LossFunction:
    """The three weighted losses of some groups."""
    manipulator, vision, prompter = parts.manipulator, parts.vision, parts.prompter
    slots, device = vision.sizes.slots, loop.device()

    def loss(batch: Group, draws: Draws) -> Mapping[str, Tensor]:
        texts = [parts.instructions[i] for i in batch.indices.tolist()]
        silent = (draws.uniform() < recipe.text_dropout).tolist()
        said = [recipe.answers[i] for i in draws.integers(len(recipe.answers)).tolist()]
        layouts = [
            prompter.layout(prompter.parts(text, recipe.exemplars, "dropped" if drop else "instruction"), answer)
            for text, drop, answer in zip(texts, silent, said, strict=True)
        ]
        with torch.no_grad():
            pairs = torch.stack([batch.before, batch.after], dim=2)  # B×(1 + exemplars)×2×3×R×R
            flat = pairs.flatten(0, 2).to(device).float() / 255
            tokens = vision(vision.normalised(flat)).unflatten(0, pairs.shape[:3])
        shown = torch.cat([tokens[:, 1:].flatten(1, 2), tokens[:, 0, :1]], dim=1)  # exemplars in turn, then the query
        outputs = manipulator(layouts, shown)
        reconstructed = manipulator.output_resampler(answer_states(outputs.states[-1], layouts, slots))
        wanted = pooled(tokens[:, 0, 1], slots)
        found = losses(outputs, layouts, reconstructed, wanted, parts.similarity(texts).to(device), prompter.added)
        total = (
            recipe.language_weight * found.language
            + recipe.reconstruction_weight * found.reconstruction
            + recipe.relation_weight * found.relation
        )
        return {"loss": total, **found._asdict()}

    return loss


def validation(parts: Parts, recipe: ManipulatorRecipe, held_out: Triplets) -> Callable[[], Mapping[str, float]]:
    """Losses on a split with and without the instruction, and the error without it for the exemplars of the row before.

    What the last adds to the second is what the exemplars tell.

    Raises:
        InputError: the split does not name its edits.
    """
    count = min(recipe.validation_examples, len(held_out))
    first = torch.arange(count)
    rows = group_draw(lambda _: first, _edits(held_out)[:count], recipe.exemplars, 0)(0)
    group = load_group(held_out)(rows)
    wrong = group._replace(
        before=torch.cat([group.before[:, :1], group.before[:, 1:].roll(1, 0)], dim=1),
        after=torch.cat([group.after[:, :1], group.after[:, 1:].roll(1, 0)], dim=1),
    )

    def value(batch: Group, text_dropout: float) -> dict[str, float]:
        loss = training_loss(parts, recipe.model_copy(update={"text_dropout": text_dropout}))
        generator = loop.seeded(0, "validation")
        sums: dict[str, float] = {}
        for part in torch.arange(count).split(64):
            rows = Group(*(each[part] for each in batch))
            for name, each in loss(rows, Draws.whole(generator, len(part))).items():
                sums[name] = sums.get(name, 0) + float(each) * len(part) / count
        return sums

    def validate() -> Mapping[str, float]:
        silent = value(group, 1.0)["reconstruction"]
        return {
            **value(group, 0.0),
            "reconstruction_without_text": silent,
            "reconstruction_wrong_exemplar": value(wrong, 1.0)["reconstruction"],
        }

    return validate


def _edits(triplets: Triplets) -> Sequence[str]:
    if triplets.edit_ids is None:
        raise InputError("InstaManip learns from groups of one edit, but the triplets have no column edit_id; add it")
    return triplets.edit_ids


def run(job: Job[ManipulatorRecipe]) -> None:
    """Train and fill `job.out`."""
    recipe, device = job.recipe, loop.device()
    loop.refuse_cut_batches(recipe)  # the relation loss compares its rows
    vision = load_vision(job.weights["instamanip_vision"]).to(device)
    training, held_out = (Triplets(job.triplets, split, recipe.resolution) for split in ("train", "validation"))
    sizes, edits = recipe.manipulator, _edits(training)
    words = WordTokens.of([*recipe.wording.pieces(), '"', *recipe.answers, *training.edit_prompts])
    added = AddedTokens.after(len(words), vision.sizes.slots, sizes.edit_tokens)
    vocabulary = len(words) + len(added.names)
    manipulator = Manipulator(sizes, vision.sizes.slots, vision.sizes.feature_width, vocabulary).to(device)
    prompter = Prompter(recipe.wording, words, added)
    similarity = instruction_similarity(Clip.load(job.weights["clip"], str(device)))
    parts = Parts(manipulator, vision, prompter, training.edit_prompts, similarity)
    loop.fit(
        training_loss(parts, recipe),
        loop.decay_groups(manipulator),
        recipe,
        modules={"manipulator": manipulator},
        draw=group_draw(
            loop.shuffled_batches(len(training), recipe.batch_size, job.seed), edits, recipe.exemplars, job.seed
        ),
        load=load_group(training),
        seed=job.seed,
        validate=validation(parts._replace(instructions=held_out.edit_prompts), recipe, held_out),
        checkpoints=job.checkpoints,
        logs=job.logs,
    )
    save_manipulator(job.out, manipulator, sizes, vision.sizes, recipe.wording, words)
