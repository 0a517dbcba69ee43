"""InstaManip's networks against computations written out here: mask, answers, towers, guidance, losses.

The full-size facts that the tests rely on were read in the official code (https://github.com/BolinLai/InstaManip).
"""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "training"))

import tiny_models as tiny
import training_toys as toys
from diffusers import EulerDiscreteScheduler, UNet2DConditionModel
from editing_toys import photo

from baselines.instamanip import manipulator as manipulator_module
from baselines.instamanip.architecture import DetokenizerSizes, ManipulatorSizes, VisionSizes, Wording
from baselines.instamanip.detokenizer import Detokenizer
from baselines.instamanip.losses import IGNORED, answer_states, labels, losses, relation_loss
from baselines.instamanip.manipulator import Foretold, LearntEdit, Manipulator, next_tokens
from baselines.instamanip.prompting import BEGIN, END, AddedTokens, Layout, Prompter, WordTokens, group_mask
from baselines.instamanip.recipe import ManipulatorRecipe
from baselines.instamanip.renderer import Renderer, Sampling
from baselines.instamanip.training import Group, Parts, training_loss
from baselines.instamanip.vision import GridAttention, VisionTower, sine_table
from editclip.config.section import checked
from editclip.errors import InputError
from editclip.training.draws import Draws

SLOTS, EDITS, FEATURE_WIDTH, TOKENS = 4, 3, 8, 16
SIZES = ManipulatorSizes(width=32, layers=3, heads=4, mlp_width=48, resampler_heads=2, edit_tokens=EDITS, positions=256)
VISION = VisionSizes(
    image_size=32,
    patch_size=4,
    width=24,
    layers=2,
    heads=3,
    mlp_width=40,
    table_grid=4,  # stretched to the 8×8 patches
    tokens_grid=4,
    feature_width=FEATURE_WIDTH,
    feature_heads=2,
    slots=SLOTS,
)
DETOKENIZER = DetokenizerSizes(width=16, layers=2, heads=2, head_width=6, context_widths=(5, 12))
WORDING = Wording(
    opening="consider the edit ",
    pairs=", which turns",
    source=" this ",
    target=" into ",
    manipulation=". it is kept in ",
    query=". now edit ",
    closing=" .\n",
)
INSTRUCTIONS = ["make it red", "turn all of the grass into deep snow", "old", "make it old"]
WORDS = WordTokens.of([*WORDING.pieces(), '"', "done : here is what you want", *INSTRUCTIONS])
ADDED = AddedTokens.after(len(WORDS), SLOTS, EDITS)
PROMPTER = Prompter(WORDING, WORDS, ADDED)


def layout_of(instruction: str = "make it red", pairs: int = 1, answer: str | None = None) -> Layout:
    return PROMPTER.layout(PROMPTER.parts(instruction, pairs), answer)


def tokens(seed: int, images: int) -> Tensor:
    """The tower's tokens of some images."""
    return torch.randn(images, TOKENS, FEATURE_WIDTH, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def randomised(module: nn.Module, seed: int, deviation: float, **others: float) -> Any:
    """Normal weights throughout, norms' about 1, but of those deviations where a name contains a key of `others`."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:  # tables of positions
            continue
        found = [value for key, value in others.items() if key in name.replace(".", "_")]
        scale = found[0] if found else deviation
        noise = torch.randn(parameter.shape, generator=generator)
        is_norm = ("ln_" in name or "norm" in name) and name.endswith("weight")
        parameter.copy_(1 + 0.1 * noise if is_norm and not found else scale * noise)
    return module.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def manipulator() -> Manipulator:
    """Random weights under which context matters, and whose answers are some words long.

    The image's start is likelier than any one word, and what is no word is never said.
    """
    made: Manipulator = randomised(Manipulator(SIZES, SLOTS, FEATURE_WIDTH, len(WORDS) + len(ADDED.names)), 3, 0.25)
    head = made.llm.lm_head.weight
    head[ADDED.image_start] *= 1.6
    head[[0, BEGIN, END, *ADDED.edit]] = 0
    return made


# the mask


def mask_by_hand(ids: Sequence[int]) -> Tensor:
    """The official mask's definition: causal, and blind behind </edit> to all up to the last exemplar's </img>.

    That is the last </img> before <edit>.
    """
    e = ids.index(ADDED.edit[-1])
    x = max(j for j in range(ids.index(ADDED.edit[0])) if ids[j] == ADDED.image_end)
    visible = torch.zeros(len(ids), len(ids), dtype=torch.bool)
    for i in range(len(ids)):
        for j in range(len(ids)):
            visible[i, j] = j <= i and not (i > e and j <= x)
    return visible


def test_the_mask_of_a_padded_batch_is_the_written_out_one() -> None:
    layouts = [layout_of(INSTRUCTIONS[n], n, "done" if n != 2 else None) for n in (1, 2, 3)]
    masks = group_mask(layouts)
    lengths = [len(layout.ids) for layout in layouts]
    assert len(set(lengths)) == 3 and masks.shape == (3, 1, max(lengths), max(lengths))
    for mask, layout, length in zip(masks[:, 0], layouts, lengths, strict=True):
        assert torch.equal(mask[:length, :length], mask_by_hand(layout.ids))
        assert not mask[:length, length:].any() and mask.any(1).all()  # padding is unseen, no row is empty


@pytest.mark.parametrize("pairs", [1, 2, 3])
def test_a_decode_step_sees_what_the_last_row_shows(pairs: int) -> None:
    layout = layout_of(pairs=pairs, answer="here is what you want")
    for length in range(layout.answer, len(layout.ids) + 1):
        row = torch.arange(length) > layout.blind
        assert torch.equal(mask_by_hand(layout.ids[:length])[-1], row)
        assert torch.equal(group_mask([layout])[0, 0, length - 1, :length], row)


# blindness


def hold(manipulator: Manipulator, places: slice, states: Sequence[Tensor]) -> list[Any]:
    """Hooks that give the states at some places after each block, and so the next keys, another pass's values."""

    def replaced(number: int) -> Callable[..., Tensor]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
            changed = output.clone()
            changed[:, places] = states[number][:, places]
            return changed

        return hook

    return [
        layer.register_forward_hook(replaced(number))
        for number, layer in enumerate(manipulator.llm.model.layers[:-1])  # the last one's output is no key
    ]


def two_prompts() -> tuple[list[Layout], list[Tensor]]:
    """Prompts with answers and the images they show, alike but for instruction and exemplars."""
    layouts = [layout_of(text, 2, "done") for text in ("make it red", "make it old")]
    query = tokens(9, 1)
    return layouts, [torch.cat([tokens(seed, 4), query])[None] for seed in (1, 2)]


@torch.no_grad()
def test_the_answer_is_blind_to_all_but_the_edit_segment(
    manipulator: Manipulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    layouts, images = two_prompts()
    assert len(layouts[0].ids) == len(layouts[1].ids)

    def answers(number: int) -> Tensor:
        return answer_states(manipulator([layouts[number]], images[number]).states[-1], [layouts[number]], SLOTS)

    def held_answers() -> Tensor:
        recorded = manipulator([layouts[0]], images[0]).states
        hooks = hold(manipulator, slice(layouts[0].blind + 1, layouts[0].edit_end + 1), recorded)
        try:
            return answers(1)
        finally:
            for hook in hooks:
                hook.remove()

    assert (answers(0) - answers(1)).abs().max() > 0.1
    assert (held_answers() - answers(0)).abs().max() < 1e-5
    # with a merely causal mask the same states would not be enough
    monkeypatch.setattr(manipulator_module, "group_mask", lambda batch: group_mask(batch) | causal(batch))
    assert (held_answers() - answers(0)).abs().max() > 0.1


def causal(layouts: Sequence[Layout]) -> Tensor:
    length = max(len(layout.ids) for layout in layouts)
    return torch.ones(length, length, dtype=torch.bool).tril()


def test_of_an_edit_only_what_the_answer_sees_is_kept_and_it_matters(manipulator: Manipulator) -> None:
    layouts, images = two_prompts()
    learnt = [manipulator.learn(o, shown[0, :-1]) for o, shown in zip(layouts, images, strict=True)]
    features = foretell(manipulator, learnt, tokens(9, 1).expand(2, -1, -1)).features
    assert (features[0] - features[1]).abs().max() > 0.05
    first = learnt[0]
    kept = layouts[0].query + 1 - (layouts[0].blind + 1)
    assert first.keys.shape == first.values.shape == (SIZES.layers, SIZES.heads, kept, SIZES.width // SIZES.heads)
    assert int(first.position) == layouts[0].query + 1
    edit = slice(layouts[0].edit - 1 - layouts[0].blind, layouts[0].edit_end - layouts[0].blind - 1)
    assert edit.stop - edit.start == EDITS
    for name in ("keys", "values"):  # the other exemplar's, at the edit tokens alone
        mixed = getattr(first, name).clone()
        mixed[:, :, edit] = getattr(learnt[1], name)[:, :, edit]
        moved = foretell(manipulator, [first._replace(**{name: mixed})], tokens(9, 1)).features
        assert (moved - features[:1]).abs().max() > 0.01


# answers


def foretell(manipulator: Manipulator, learnt: Sequence[LearntEdit], queries: Tensor) -> Foretold:
    return manipulator.foretell(learnt, queries, PROMPTER)


class Asked(NamedTuple):
    """One edit to foretell: its prompt, and the tower's tokens of its exemplars and of its query."""

    layout: Layout
    exemplars: Tensor
    query: Tensor


def asked() -> list[Asked]:
    """Of other exemplars, other numbers of them, instructions of other lengths; of one exemplar, several queries."""
    prompts = [(INSTRUCTIONS[0], 1, 10), (INSTRUCTIONS[1], 2, 20), (INSTRUCTIONS[2], 3, 30), (INSTRUCTIONS[3], 1, 40)]
    made = [Asked(layout_of(text, n), tokens(seed, 2 * n), tokens(seed + 1, 1)) for text, n, seed in prompts]
    return [*made, *(made[0]._replace(query=tokens(seed, 1)) for seed in (51, 52, 53))]


@pytest.fixture(scope="module")
def foretold(manipulator: Manipulator) -> Foretold:
    """Answers to all of `asked` in one batch."""
    learnt = [manipulator.learn(one.layout, one.exemplars) for one in asked()]
    return foretell(manipulator, learnt, torch.cat([one.query for one in asked()]))


@torch.no_grad()
def token_by_token(manipulator: Manipulator, one: Asked) -> tuple[Tensor, str]:
    """An answer's features and text with every step computed from the beginning, by the official rule for logits."""
    ids, chain = list(one.layout.ids), list(ADDED.image)
    shown = manipulator.input_resampler(torch.cat([one.exemplars, one.query])).flatten(0, 1)
    start = len(ids)
    while ids[-1] != ADDED.image_end or len(ids) == start:
        embedded = manipulator.llm.get_input_embeddings()(torch.tensor(ids))
        slots = [place for place in range(start) if ids[place] in ADDED.slots]
        embedded[slots] = shown
        mask = torch.where(mask_by_hand(ids), 0.0, -math.inf)[None, None]
        states = manipulator.llm.model(
            inputs_embeds=embedded[None], attention_mask=mask, position_ids=torch.arange(len(ids))[None]
        ).last_hidden_state[0]
        scores = manipulator.llm.lm_head(states[-1])
        if ids[-1] in chain[:-1]:
            scores[chain[chain.index(ids[-1]) + 1]] = scores.max() + 10
        else:
            scores[chain[1:]] = 0.0
        ids.append(int(scores.argmax()))
        assert len(ids) < 200
    said = [token for token in ids[start:] if token not in chain]
    places = [place for place in range(start, len(ids) - 1) if ids[place] in ADDED.slots]
    return manipulator.output_resampler(states[None, places])[0], WORDS.decode(said)


def test_answers_equal_those_of_single_steps_without_a_cache(manipulator: Manipulator, foretold: Foretold) -> None:
    assert len({len(text.split()) for text in foretold.texts}) >= 3, foretold.texts  # or the test shows little
    for one, features, text in zip(asked(), foretold.features, foretold.texts, strict=True):
        expected, said = token_by_token(manipulator, one)
        assert text == said
        assert expected.abs().max() > 0.5 and (features - expected).abs().max() < 1e-5


def test_answers_equal_one_pass_over_the_whole_sequence(manipulator: Manipulator, foretold: Foretold) -> None:
    for one, features, text in zip(asked(), foretold.features, foretold.texts, strict=True):
        ids = (*one.layout.ids, *WORDS.encode(text), *ADDED.image, END)
        place = len(ids) - 2 - SLOTS
        layout = replace(one.layout, ids=ids, images=(*one.layout.images, place))
        with torch.no_grad():
            states = manipulator([layout], torch.cat([one.exemplars, one.query])[None]).states[-1]
            expected = manipulator.output_resampler(answer_states(states, [layout], SLOTS))
        assert (features - expected[0]).abs().max() < 1e-5


def test_a_batch_equals_single_answers(manipulator: Manipulator, foretold: Foretold) -> None:
    for one, features, text in zip(asked(), foretold.features, foretold.texts, strict=True):
        alone = foretell(manipulator, [manipulator.learn(one.layout, one.exemplars)], one.query)
        assert alone.texts == [text] and (alone.features[0] - features).abs().max() < 1e-5


@torch.no_grad()
def test_a_batched_pass_equals_single_ones(manipulator: Manipulator) -> None:
    layouts = [layout_of(INSTRUCTIONS[n], 1, answer) for n, answer in ((0, ""), (1, "here is what you want"))]
    images = torch.stack([tokens(n, 3) for n in (1, 2)])
    batch = manipulator(layouts, images)
    assert len(batch.states) == SIZES.layers
    for row, layout in enumerate(layouts):
        alone, length = manipulator([layout], images[row : row + 1]), len(layout.ids)
        assert (batch.logits[row, :length] - alone.logits[0]).abs().max() < 1e-4
        for found, expected in zip(batch.states, alone.states, strict=True):
            assert (found[row, :length] - expected[0]).abs().max() < 1e-4
    normed = manipulator.llm.model.norm  # the last states are normed, the others raw
    assert (manipulator.llm.lm_head(batch.states[-1]) - batch.logits).abs().max() < 1e-5
    assert (normed(batch.states[-2]) - batch.states[-2]).abs().max() > 0.1


def test_a_slot_that_beats_all_text_begins_an_image(manipulator: Manipulator) -> None:
    # where all text scores below the slots' 0; the official code has an image wherever there is an image's end
    lowered = manipulator.llm.lm_head.register_forward_hook(lambda module, inputs, output: output - 100)
    try:
        for one in asked()[:2]:
            found = foretell(manipulator, [manipulator.learn(one.layout, one.exemplars)], one.query)
            expected, said = token_by_token(manipulator, one)
            assert found.texts == [said] == [""] and (found.features[0] - expected).abs().max() < 1e-5
    finally:
        lowered.remove()


@pytest.mark.parametrize(("token", "quoted"), [(WORDS.encode("done")[0], "'done done done"), (END, "'\\?'")])
def test_an_answer_without_an_image_is_quoted(manipulator: Manipulator, token: int, quoted: str) -> None:
    one = asked()[0]
    said = manipulator.llm.lm_head.register_forward_hook(
        lambda module, inputs, output: functional.one_hot(torch.tensor([token]), output.shape[-1]).float()
    )
    try:
        with pytest.raises(ValueError, match=f"holds no image: {quoted}"):
            foretell(manipulator, [manipulator.learn(one.layout, one.exemplars)], one.query)
    finally:
        said.remove()


def test_of_a_batch_the_answer_that_ended_is_quoted(manipulator: Manipulator) -> None:
    one = asked()[0]
    done, here = (WORDS.encode(word)[0] for word in ("done", "here"))
    steps = iter([[here, done], [here, END]])
    said = manipulator.llm.lm_head.register_forward_hook(
        lambda module, inputs, output: functional.one_hot(torch.tensor(next(steps)), output.shape[-1]).float()
    )
    try:
        with pytest.raises(ValueError, match="holds no image: 'done"):
            foretell(manipulator, [manipulator.learn(one.layout, one.exemplars)] * 2, one.query.expand(2, -1, -1))
    finally:
        said.remove()


def test_next_tokens_force_an_images_and_let_others_score_nothing() -> None:
    added = AddedTokens.after(5, 2, 1)  # words 3 and 4, <img> 5, slots 6 and 7, </img> 8, edit 9 to 11
    assert (added.image, added.edit) == ((5, 6, 7, 8), (9, 10, 11))
    scores = torch.full((8, 12), -5.0)
    scores[:, 4] = 3  # the best
    scores[:, [6, 7, 8]] = 9  # would be better, but are images'
    scores[5, 4] = -1  # all text below 0: a slot is chosen, the first of the equal ones
    scores[6, 5] = 4  # the image's start has its own score
    scores[7, 4], scores[7, 11] = -1, 0.5  # more than 0, so an edit's end
    last = torch.tensor([5, 6, 7, 8, 3, 3, 3, 3])
    given = scores.clone()
    assert next_tokens(scores, last, added).tolist() == [6, 7, 8, 4, 4, 6, 5, 11]
    assert torch.equal(scores, given)


# tower, resamplers and de-tokenizer


def norm_by_hand(states: Tensor, parameters: nn.LayerNorm, eps: float) -> Tensor:
    centred = states - states.mean(-1, keepdim=True)
    deviation = (centred.square().mean(-1, keepdim=True) + eps).sqrt()
    return centred / deviation * parameters.weight + parameters.bias


def attention_by_hand(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """B×L×heads×width each; B×L×(heads·width)."""
    scores = torch.einsum("bqhd,bkhd->bhqk", query, key) / query.shape[-1] ** 0.5
    return torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), value).flatten(2)


def stretched_by_hand(table: Tensor, side: int) -> Tensor:
    own = math.isqrt(len(table))
    grid = table.T.reshape(1, -1, own, own).float()
    return functional.interpolate(grid, size=(side, side), mode="bicubic", align_corners=False)[0].flatten(1).T


def grid_attention_by_hand(pool: GridAttention, states: Tensor, eps: float, table_on_values: bool = False) -> Tensor:
    width, heads = pool.query.shape[1], pool.attn.num_heads
    values = norm_by_hand(states @ pool.kv_proj.weight.T, pool.ln_kv, eps)
    keys = values + stretched_by_hand(pool.pos_embed, math.isqrt(states.shape[1]))
    values = keys if table_on_values else values
    queries = (norm_by_hand(pool.query, pool.ln_q, eps) + pool.pos_embed)[None].repeat(len(states), 1, 1)
    weight, bias = pool.attn.in_proj_weight, pool.attn.in_proj_bias
    split = []
    for number, given in enumerate((queries, keys, values)):  # all heads' queries, then keys, then values
        rows = slice(number * width, (number + 1) * width)
        split.append((given @ weight[rows].T + bias[rows]).unflatten(-1, (heads, width // heads)))
    return attention_by_hand(*split) @ pool.attn.out_proj.weight.T + pool.attn.out_proj.bias


def gelu_by_hand(values: Tensor) -> Tensor:
    return values * 0.5 * (1 + torch.erf(values / 2**0.5))


def tower_by_hand(
    tower: VisionTower,
    images: Tensor,
    eps: float = 1e-6,
    packing: str = "b l (h t d)",
    gelu: Callable[[Tensor], Tensor] = gelu_by_hand,
    table_on_values: bool = False,
) -> Tensor:
    side, heads = VISION.image_size // VISION.patch_size, VISION.heads
    patches = images.unfold(2, VISION.patch_size, VISION.patch_size).unfold(3, VISION.patch_size, VISION.patch_size)
    states = torch.einsum("bcyxij,ocij->byxo", patches, tower.conv1.weight).flatten(1, 2)
    states = norm_by_hand(states + stretched_by_hand(tower.positional_embedding, side), tower.ln_pre, eps)
    for block in tower.transformer.resblocks:
        normed = norm_by_hand(states, block.ln_1, eps)
        packed = normed @ block.attn.in_proj.weight.T + block.attn.in_proj.bias
        if packing == "b l (h t d)":
            split = packed.unflatten(-1, (heads, 3, -1)).unbind(3)
        else:  # as torch's own attention
            split = tuple(part.unflatten(-1, (heads, -1)) for part in packed.chunk(3, -1))
        states = states + attention_by_hand(*split) @ block.attn.out_proj.weight.T + block.attn.out_proj.bias
        hidden = gelu(norm_by_hand(states, block.ln_2, eps) @ block.mlp.c_fc.weight.T + block.mlp.c_fc.bias)
        states = states + hidden @ block.mlp.c_proj.weight.T + block.mlp.c_proj.bias
    taken = grid_attention_by_hand(tower.attn_pool, states, eps, table_on_values)
    return norm_by_hand(taken, tower.ln_post, eps) @ tower.proj


@pytest.fixture(scope="module")
def tower() -> VisionTower:
    """States so small that the norms' eps shows, weights so large that all else does."""
    return randomised(
        VisionTower(VISION), 4, 0.4,
        conv1=0.003, positional=0.02, ln_pre=0.01, out_proj=0.01, c_proj=0.01, kv_proj=0.3, query=0.01,
    )  # fmt: skip


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Two normalised images."""
    return torch.randn(2, 3, VISION.image_size, VISION.image_size, generator=torch.Generator().manual_seed(5))


@torch.no_grad()
def test_the_tower_is_the_written_out_one(tower: VisionTower, images: Tensor) -> None:
    found = tower(images)
    assert found.shape == (2, TOKENS, FEATURE_WIDTH)
    assert (found - tower_by_hand(tower, images)).abs().max() < 1e-5
    changes: list[dict[str, Any]] = [
        {"eps": 1e-5},
        {"packing": "b l (t h d)"},
        {"gelu": lambda values: functional.gelu(values, approximate="tanh")},
        {"table_on_values": True},
    ]
    for change in changes:
        assert (found - tower_by_hand(tower, images, **change)).abs().max() > 1e-4, change


@torch.no_grad()
@pytest.mark.parametrize("name", ["input_resampler", "output_resampler"])
def test_the_resamplers_are_the_written_out_ones(name: str) -> None:
    made = getattr(Manipulator(SIZES, SLOTS, FEATURE_WIDTH, len(WORDS) + len(ADDED.names)), name)
    resampler = randomised(made, 6, 0.4, kv_proj=0.001, query=0.01)
    count = {"input_resampler": TOKENS, "output_resampler": SLOTS}[name]  # 4×4 tokens stretch the table of 2×2
    states = torch.randn(3, count, resampler.kv_proj.in_features, generator=torch.Generator().manual_seed(7))
    found = resampler(states)
    assert found.shape == (3, SLOTS, resampler.query.shape[1])
    assert (found - grid_attention_by_hand(resampler, states, 1e-5)).abs().max() < 1e-5
    assert (found - grid_attention_by_hand(resampler, states, 1e-6)).abs().max() > 1e-3


def test_fixed_positions_are_sines_and_cosines_of_column_then_row() -> None:
    # as in MAE (https://github.com/facebookresearch/mae), where the tower's pool has them from: width first
    width, side = 24, 3
    expected = [
        [
            wave(place / 10000 ** (k / (width / 4)))
            for place in (cell % side, cell // side)
            for wave in (math.sin, math.cos)
            for k in range(width // 4)
        ]
        for cell in range(side**2)
    ]
    np.testing.assert_allclose(sine_table(width, side).numpy(), expected, atol=1e-7)
    assert torch.equal(GridAttention(side, width, 2, 5, 1e-5).pos_embed, sine_table(width, side))


@torch.no_grad()
def test_features_are_means_along_the_tokens_and_no_image_is_a_normalised_zero(
    tower: VisionTower, images: Tensor
) -> None:
    expected = functional.avg_pool1d(tower(images).transpose(1, 2), kernel_size=4).transpose(1, 2)
    assert (tower.features(images) - expected).abs().max() < 1e-6
    assert torch.equal(tower.no_features(), tower.features(torch.zeros_like(images[:1])))
    black = tower.features(tower.normalised(torch.zeros(1, 3, 32, 32)))
    assert (tower.no_features() - black).abs().max() > 0.1


def test_images_are_normalised_as_clips(tower: VisionTower) -> None:
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(8))
    expected = (pixels.numpy() - np.reshape(tiny.OPENAI_MEAN, (3, 1, 1))) / np.reshape(tiny.OPENAI_STD, (3, 1, 1))
    np.testing.assert_allclose(tower.normalised(pixels).numpy(), expected, atol=1e-6)
    assert tower.normalised(torch.rand(1, 3, 50, 41)).shape == (1, 3, 32, 32)


def detokenized_by_hand(module: Detokenizer, features: Tensor) -> tuple[Tensor, Tensor]:
    heads = DETOKENIZER.heads
    given = features @ module.proj_in.weight.T + module.proj_in.bias
    latents = module.latents.repeat(len(features), 1, 1)
    for attention, (norm, widen, _, narrow) in module.layers:
        own = norm_by_hand(latents, attention.norm2, 1e-5)
        seen = torch.cat([norm_by_hand(given, attention.norm1, 1e-5), own], dim=1)
        keys, values = (seen @ part.T for part in attention.to_kv.weight.chunk(2))
        split = (part.unflatten(-1, (heads, -1)) for part in (own @ attention.to_q.weight.T, keys, values))
        latents = latents + attention_by_hand(*split) @ attention.to_out.weight.T
        hidden = gelu_by_hand(norm_by_hand(latents, norm, 1e-5) @ widen.weight.T)
        latents = latents + hidden @ narrow.weight.T
    latents = norm_by_hand(latents, module.norm_out, 1e-5)
    halves = [latents @ part.weight.T + part.bias for part in (module.unet_proj_1, module.unet_proj_2)]
    pool = module.unet_attnpool
    rows = torch.cat([latents.mean(1, keepdim=True), latents], dim=1) + pool.positional_embedding
    rows = rows.transpose(0, 1)
    mixed, _ = functional.multi_head_attention_forward(
        rows[:1],
        rows,
        rows,
        DETOKENIZER.width,
        heads,
        in_proj_weight=None,
        in_proj_bias=torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias]),
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=pool.c_proj.weight,
        out_proj_bias=pool.c_proj.bias,
        training=False,
        need_weights=False,
        use_separate_proj_weight=True,
        q_proj_weight=pool.q_proj.weight,
        k_proj_weight=pool.k_proj.weight,
        v_proj_weight=pool.v_proj.weight,
    )
    return torch.cat(halves, dim=-1), mixed[0]


@pytest.fixture(scope="module")
def detokenizer() -> Detokenizer:
    return randomised(Detokenizer(DETOKENIZER, SLOTS, FEATURE_WIDTH), 9, 0.3)


@torch.no_grad()
def test_the_detokenizer_is_the_written_out_one(detokenizer: Detokenizer) -> None:
    features = torch.randn(3, SLOTS, FEATURE_WIDTH, generator=torch.Generator().manual_seed(10))
    (context, embedding), expected = detokenizer(features), detokenized_by_hand(detokenizer, features)
    assert context.shape == (3, SLOTS, 5 + 12) and embedding.shape == (3, 12)
    for found, wanted in zip((context, embedding), expected, strict=True):
        assert wanted.std() > 0.1 and (found - wanted).abs().max() < 1e-5


# rendering


@pytest.fixture(scope="module")
def renderer(detokenizer: Detokenizer) -> Renderer:
    """SDXL's structure, tiny: context and pooled embedding, six numbers beside it, condition latents as channels."""
    torch.manual_seed(11)
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=8,
        out_channels=4,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=17,
        attention_head_dim=2,
        norm_num_groups=8,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=12 + 6 * 4,
    )
    with torch.no_grad():  # so that text and image matter
        for name, parameter in unet.named_parameters():
            if "attn2" in name or name.startswith(("conv_in", "add_embedding")):
                parameter *= 3
    # SDXL base's scheduler_config.json
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="leading", steps_offset=1
    )
    no_features = torch.randn(1, SLOTS, FEATURE_WIDTH, generator=torch.Generator().manual_seed(12))
    return Renderer(detokenizer, unet.requires_grad_(False), tiny.vae(), scheduler, no_features)


class Rendered(NamedTuple):
    """Images, and the latents that the VAE decodes."""

    pixels: Tensor
    latents: Tensor


@torch.no_grad()
def rendered_by_hand(
    renderer: Renderer,
    features: Tensor,
    query: Any,
    seed: int,
    sampling: Sampling,
    form: str = "noise",
    condition_scale: float = 1.0,
) -> Rendered:
    """One edit, sampled by Euler's method from SDXL's noise schedule; `form` is what is guided."""
    unet, vae, steps = renderer.pipeline.unet, renderer.pipeline.vae, sampling.num_inference_steps
    alphas = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.double) ** 2, 0)
    times = [1 + step * (1000 // steps) for step in reversed(range(steps))]
    sigmas = [float(((1 - alphas[time]) / alphas[time]).sqrt()) for time in times] + [0.0]

    resized = torch.from_numpy(np.array(query.resize((16, 16), 3), float)).permute(2, 0, 1)[None] / 127.5 - 1
    condition = vae.encode(resized.float()).latent_dist.mean * condition_scale  # not scaled, unlike what is sampled
    conditions = torch.cat([condition, condition, torch.zeros_like(condition)])
    context, embedding = renderer.detokenizer(torch.cat([features, renderer.no_features, renderer.no_features]))
    added = {"text_embeds": embedding, "time_ids": torch.tensor([[16.0, 16, 0, 0, 16, 16]]).repeat(3, 1)}

    def guided(parts: Tensor) -> Tensor:
        full, image, none = parts[:1], parts[1:2], parts[2:]
        return none + sampling.guidance_scale * (full - image) + sampling.image_guidance_scale * (image - none)

    noise = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(seed))
    latents = noise.double() * (sigmas[0] ** 2 + 1) ** 0.5
    for time, sigma, following in zip(times, sigmas[:-1], sigmas[1:], strict=True):
        scaled = (latents / (sigma**2 + 1) ** 0.5).float().repeat(3, 1, 1, 1)
        given = torch.cat([scaled, conditions], dim=1)
        parts = unet(given, torch.tensor(time), context, added_cond_kwargs=added).sample.double()
        # the official pipeline's detour: clean images are guided, and the noise is what they lack
        detour = (latents - guided(latents - sigma * parts)) / sigma
        change = guided(parts) if form == "noise" else detour
        latents = latents + change * (following - sigma)
    decoded = vae.decode(latents.float() / vae.config.scaling_factor).sample
    return Rendered((decoded[0] / 2 + 0.5).clamp(0, 1).permute(1, 2, 0), latents[0].float())


@pytest.fixture
def render(renderer: Renderer, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Rendered]]:
    """The renderer, and what it has its VAE decode."""
    vae, seen = renderer.pipeline.vae, []
    decode = vae.decode

    def noted(latents: Tensor, *given: Any, **options: Any) -> Any:
        seen.append(latents * vae.config.scaling_factor)
        return decode(latents, *given, **options)

    monkeypatch.setattr(vae, "decode", noted)

    def run(features: Tensor, queries: Sequence[Any], seeds: Sequence[int], sampling: Sampling) -> list[Rendered]:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        pixels = torch.from_numpy(renderer.render(features, queries, sampling, generators))
        return [Rendered(*each) for each in zip(pixels, seen.pop(), strict=True)]

    return run


FEATURES = torch.randn(3, SLOTS, FEATURE_WIDTH, generator=torch.Generator().manual_seed(13))
QUERIES = [photo(20), photo(21), photo(22).resize((40, 24))]
SEEDS = [5, 6, 42]


@pytest.mark.parametrize(
    "sampling", [Sampling(5, 7.5, 1.5), Sampling(4, 3.0, 1.0)], ids=["released scales", "cancelled rows"]
)
def test_edits_are_sampled_as_written_out(
    renderer: Renderer, render: Callable[..., list[Rendered]], sampling: Sampling
) -> None:
    batch = render(FEATURES, QUERIES, SEEDS, sampling)
    for number, found in enumerate(batch):
        case = renderer, FEATURES[number : number + 1], QUERIES[number], SEEDS[number], sampling
        scale = float(found.latents.abs().max())
        for form in ("noise", "clean image"):
            expected = rendered_by_hand(*case, form=form)
            assert (found.latents - expected.latents).abs().max() < 1e-4 * scale
            assert (found.pixels - expected.pixels).abs().max() < 1e-4
        scaled = rendered_by_hand(*case, condition_scale=renderer.pipeline.vae.config.scaling_factor)
        assert (found.latents - scaled.latents).abs().max() > 1e-2 * scale


def test_a_batch_is_rendered_as_its_images_alone(render: Callable[..., list[Rendered]]) -> None:
    sampling = Sampling(3, 7.5, 1.5)
    batch = render(FEATURES, QUERIES, SEEDS, sampling)
    for number, found in enumerate(batch):
        one = slice(number, number + 1)
        alone = render(FEATURES[one], QUERIES[one], SEEDS[one], sampling)[0]
        assert (found.latents - alone.latents).abs().max() < 1e-4 * found.latents.abs().max()
    # features, query and seed each matter
    changed = [
        render(FEATURES[1:2], QUERIES[:1], SEEDS[:1], sampling),
        render(FEATURES[:1], QUERIES[1:2], SEEDS[:1], sampling),
        render(FEATURES[:1], QUERIES[:1], SEEDS[1:2], sampling),
    ]
    assert all((other[0].latents - batch[0].latents).abs().max() > 0.05 for other in changed)


# losses


def test_only_the_answers_text_image_start_and_end_are_to_be_said() -> None:
    layouts = [layout_of(answer="done :"), layout_of(INSTRUCTIONS[1], answer="")]
    found = labels(layouts, ADDED)
    assert found.shape == (2, max(len(layout.ids) for layout in layouts))
    for row, layout, said in zip(found, layouts, (WORDS.encode("done :"), []), strict=True):
        expected = {layout.answer - 1 + number: token for number, token in enumerate([*said, ADDED.image_start])}
        expected[len(layout.ids) - 2] = END  # said at the image's end
        assert {place: int(row[place]) for place in row.ne(IGNORED).nonzero().flatten().tolist()} == expected
        assert layout.ids[layout.answer - 1] == WORDS.encode(".")[0]  # the prompt's last, which says the first word


def test_answer_states_are_those_at_its_slots() -> None:
    layouts = [layout_of(answer="done :"), layout_of(INSTRUCTIONS[1], 1, "")]
    length = max(len(layout.ids) for layout in layouts)
    states = torch.arange(2 * length * 3.0).reshape(2, length, 3)
    found = answer_states(states, layouts, SLOTS)
    for row, layout in enumerate(layouts):
        places = [place for place in range(layout.answer, len(layout.ids)) if layout.ids[place] in ADDED.slots]
        assert len(places) == SLOTS and torch.equal(found[row], states[row, places])


def relation_by_hand(states: Sequence[np.ndarray], layouts: Sequence[Layout], similarity: np.ndarray) -> float:
    errors = []
    for layer in states:
        means = np.stack([
            np.mean([row[place] for place, token in enumerate(layout.ids) if token in ADDED.edit[1:-1]], axis=0)
            for row, layout in zip(layer, layouts, strict=True)
        ])  # fmt: skip
        unit = means / np.linalg.norm(means, axis=1, keepdims=True)
        errors.append(np.square(unit @ unit.T - similarity).mean())
    return float(np.mean(errors))


def test_the_relation_loss_compares_cosines_of_mean_edit_states() -> None:
    layouts = [layout_of(text, 1, "done") for text in INSTRUCTIONS[:3]]
    generator = np.random.default_rng(14)
    shape = (3, max(len(layout.ids) for layout in layouts), 6)
    states, similarity = [generator.normal(size=shape) for _ in range(4)], generator.uniform(-1, 1, (3, 3))
    expected = relation_by_hand(states, layouts, similarity)
    found = relation_loss([torch.tensor(layer) for layer in states], layouts, EDITS, torch.tensor(similarity))
    assert expected > 0.1 and float(found) == pytest.approx(expected, rel=1e-5)


WEIGHTS = {"language_weight": 1.0, "reconstruction_weight": 6.0, "relation_weight": 0.6}  # official


def recipe(**changes: Any) -> ManipulatorRecipe:
    given = {
        **toys.TRAINING,
        "resolution": 32,
        "manipulator": SIZES.model_dump(),
        "wording": WORDING.model_dump(),
        "answers": ["done :"],
        "exemplars": 2,
        "text_dropout": 0.0,
        **WEIGHTS,
        "validation_examples": 2,
    }
    return checked(ManipulatorRecipe, given | changes)


def group() -> Group:
    """Two queries with their answers, and two exemplars each."""
    sides = torch.from_numpy(np.stack([np.array(photo(seed)) for seed in range(60, 72)])).permute(0, 3, 1, 2)
    before, after = sides.unflatten(0, (2, 2, 3))
    return Group(torch.tensor([1, 3]), before, after)


def similarity_of(texts: Sequence[str]) -> Tensor:
    return torch.tensor([[1.0, 0.3], [0.3, 1.0]]) if list(texts) == [INSTRUCTIONS[1], INSTRUCTIONS[3]] else torch.eye(2)


@pytest.mark.parametrize("dropout", [0.0, 1.0])
@torch.no_grad()
def test_the_training_loss_is_the_weighted_sum_of_three(
    manipulator: Manipulator, tower: VisionTower, dropout: float
) -> None:
    parts, batch = Parts(manipulator, tower, PROMPTER, INSTRUCTIONS, similarity_of), group()
    draws = Draws.whole(torch.Generator().manual_seed(0), 2)
    found = {k: float(v) for k, v in training_loss(parts, recipe(text_dropout=dropout))(batch, draws).items()}
    assert set(found) == {"loss", "language", "reconstruction", "relation"}
    weighted = found["language"] + 6 * found["reconstruction"] + 0.6 * found["relation"]
    assert found["loss"] == pytest.approx(weighted, rel=1e-6)

    said, rows, errors, states = [], [], [], []
    mode = "dropped" if dropout else "instruction"
    for row, number in enumerate(batch.indices.tolist()):
        layout = PROMPTER.layout(PROMPTER.parts(INSTRUCTIONS[number], 2, mode), "done :")
        shown = [side[row, pair] for pair in (1, 2) for side in (batch.before, batch.after)] + [batch.before[row, 0]]
        seen = tower(tower.normalised(torch.stack(shown) / 255))
        wanted = tower.features(tower.normalised(batch.after[row, :1] / 255))
        outputs = manipulator([layout], seen[None])
        slots = [place for place in range(layout.answer, len(layout.ids)) if layout.ids[place] in ADDED.slots]
        errors.append((manipulator.output_resampler(outputs.states[-1][:, slots]) - wanted).square().mean())
        for place in (*range(layout.answer, slots[0]), len(layout.ids) - 1):
            said.append(-outputs.logits[0, place - 1].log_softmax(-1)[layout.ids[place]])
        rows.append(layout)
        states.append([layer[0].numpy() for layer in outputs.states])
    assert found["language"] == pytest.approx(float(torch.stack(said).mean()), rel=1e-5)
    assert found["reconstruction"] == pytest.approx(float(torch.stack(errors).mean()), rel=1e-5)
    layers = list(zip(*states, strict=True))
    relation = relation_by_hand(layers, rows, similarity_of([INSTRUCTIONS[1], INSTRUCTIONS[3]]).numpy())
    assert found["relation"] == pytest.approx(relation, rel=1e-4)


def test_each_weight_reaches_its_own_loss(manipulator: Manipulator, tower: VisionTower) -> None:
    parts = Parts(manipulator, tower, PROMPTER, INSTRUCTIONS, similarity_of)
    for name in WEIGHTS:
        only = recipe(**{other: float(other == name) for other in WEIGHTS})
        found = training_loss(parts, only)(group(), Draws.whole(torch.Generator().manual_seed(0), 2))
        assert float(found["loss"]) == pytest.approx(float(found[name.removesuffix("_weight")]), rel=1e-6)


@torch.no_grad()
def test_losses_of_half_precision_are_computed_in_single(manipulator: Manipulator) -> None:
    layouts = [layout_of(text, 1, "done") for text in INSTRUCTIONS[:2]]
    outputs = manipulator(layouts, torch.stack([tokens(n, 3) for n in (1, 2)]))
    half = type(outputs)(outputs.logits.half(), tuple(layer.half() for layer in outputs.states))
    given = tokens(1, 2)[:, :SLOTS], tokens(2, 2)[:, :SLOTS]
    exact, rounded = (
        losses(one, layouts, *(each.to(kind) for each in given), torch.eye(2), ADDED)
        for one, kind in ((outputs, torch.float), (half, torch.half))
    )
    for wanted, found in zip(exact, rounded, strict=True):
        assert found.dtype == torch.float and float(found) == pytest.approx(float(wanted), rel=0.01)


# what is refused


def test_prompts_of_other_exemplar_counts_are_refused_by_row(manipulator: Manipulator) -> None:
    layouts = [layout_of(pairs=n, answer="done") for n in (1, 1, 2)]
    with pytest.raises(
        InputError, match="row 2 of the batch has room for 6 images but is given 3; put exemplars of eq"
    ):
        manipulator.embedded(layouts, torch.stack([tokens(n, 3) for n in range(3)]))
    with pytest.raises(InputError, match="row 0 of the batch has room for 4 images but is given 5"):
        manipulator.embedded(layouts, torch.stack([tokens(n, 5) for n in range(3)]))


def test_more_slots_than_released_are_refused() -> None:
    for sizes in ((101, 30), (64, 52)):
        with pytest.raises(
            InputError, match=f"100 image slots and 51 edit .* {sizes[0]} and {sizes[1]}; give .* 64 and"
        ):
            AddedTokens.released(*sizes)
    assert len(AddedTokens.released(100, 51).names) == 155


def test_slots_that_form_no_square_are_refused() -> None:
    with pytest.raises(InputError, match="slots is 6; give a square number"):
        Manipulator(SIZES, 6, FEATURE_WIDTH, 40)
