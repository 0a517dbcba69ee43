"""The language model: it learns an edit from instruction and exemplars, and foretells the edited image's features.

A stock LLaMA under a mask of its own (`prompting.group_mask`). Because what follows the edit tokens sees neither
instruction nor exemplars, `learn` is done once for all queries, and only the keys and values of what remains visible
are kept. The slots of the answer's image are forced, so that one pass foretells them all (`foretell`).
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from baselines.instamanip.architecture import ManipulatorSizes
from baselines.instamanip.prompting import BEGIN, END, AddedTokens, Layout, Prompter, group_mask
from baselines.instamanip.vision import GridAttention
from editclip.errors import InputError

ANSWER_LIMIT = 500  # ids of an answer without an image (release with one exemplar; its own image is 66 of them)


class LearntEdit(NamedTuple):
    """What the answer may see of a prompt up to the query's image start.

    Attributes:
        keys: layers×heads×places×width of a head.
        values: the same.
        position: of the next id (int64, no dimension).
    """

    keys: Tensor
    values: Tensor
    position: Tensor


class Foretold(NamedTuple):
    """What is foretold for each of B queries: features B×slots×feature_width, and the answers' texts."""

    features: Tensor
    texts: list[str]


class Outputs(NamedTuple):
    """A pass over whole sequences: logits B×L×vocabulary, and the states after each block and the last norm."""

    logits: Tensor
    states: tuple[Tensor, ...]


def llama_config(sizes: ManipulatorSizes, vocabulary: int) -> LlamaConfig:
    """The language model's config; what sizes do not say is LLaMA 2's."""
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=sizes.width,
        intermediate_size=sizes.mlp_width,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.heads,
        max_position_embeddings=sizes.positions,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
        tie_word_embeddings=False,
        bos_token_id=BEGIN,
        eos_token_id=END,
        pad_token_id=0,
    )


def next_tokens(scores: Tensor, last: Tensor, added: AddedTokens) -> Tensor:
    """The ids that follow, greedily, by the release's rule for images.

    After an image's start or slot comes the next of its tokens. Elsewhere the slots and the image's end score 0, which
    is not minus infinity, so that one of them is chosen where all text scores below.

    Args:
        scores: B×vocabulary.
        last: the ids before, B.
        added: the added tokens.
    """
    chain = scores.new_tensor(added.image, dtype=torch.long)
    scores = scores.clone()
    scores[:, chain[1:]] = 0
    chosen = scores.argmax(-1)
    place = (last[:, None] == chain[:-1]).int()
    return torch.where(place.any(1), chain[1:][place.argmax(1)], chosen)


class Manipulator(nn.Module):
    """The language model and its two resamplers.

    Args:
        sizes: of the language model.
        slots: of an image, a square number.
        feature_width: of the tower's tokens and features.
        vocabulary: ids.
    """

    def __init__(self, sizes: ManipulatorSizes, slots: int, feature_width: int, vocabulary: int) -> None:
        super().__init__()
        grid, heads = round(slots**0.5), sizes.resampler_heads
        if grid**2 != slots:
            raise InputError(f"slots is {slots}; give a square number, the resamplers' queries form a grid")
        self.llm = LlamaForCausalLM(llama_config(sizes, vocabulary))
        self.input_resampler = GridAttention(grid, sizes.width, heads, feature_width, 1e-5)
        self.output_resampler = GridAttention(grid, feature_width, heads, sizes.width, 1e-5)

    def embedded(self, layouts: Sequence[Layout], images: Tensor) -> Tensor:
        """Input embeddings B×L×width of sequences, padded on the right with the embedding of id 0.

        Args:
            layouts: B sequences.
            images: the tower's tokens of the images that they show, in order, B×images×n×feature_width. A sequence's
                last image, the answer, is not among them.

        Raises:
            InputError: a sequence shows another number of images, or is longer than the model's positions.
        """
        longest = max(len(layout.ids) for layout in layouts)
        if longest > self.llm.config.max_position_embeddings:
            raise InputError(
                f"a prompt of {longest} ids is longer than the model's {self.llm.config.max_position_embeddings} "
                "positions; give fewer exemplars or a shorter instruction"
            )
        shown = images.shape[1]
        for row, layout in enumerate(layouts):
            if len(layout.images) - shown not in (0, 1):
                raise InputError(
                    f"row {row} of the batch has room for {len(layout.images)} images but is given {shown}; put "
                    "exemplars of equal number into a batch"
                )
        slots = self.input_resampler(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        result: Tensor = self.llm.get_input_embeddings()(self._padded(layouts)).clone()
        for row, layout in enumerate(layouts):
            for number, first in enumerate(layout.images[:shown]):
                result[row, first : first + slots.shape[2]] = slots[row, number]
        return result

    def _padded(self, layouts: Sequence[Layout]) -> Tensor:
        ids = [torch.tensor(layout.ids) for layout in layouts]
        return nn.utils.rnn.pad_sequence(ids, batch_first=True).to(self.llm.device)

    def forward(self, layouts: Sequence[Layout], images: Tensor) -> Outputs:
        """One pass over whole sequences under the group mask; arguments as `embedded`."""
        embedded = self.embedded(layouts, images)
        mask = self._additive(group_mask(layouts), embedded)
        output = self.llm(inputs_embeds=embedded, attention_mask=mask, output_hidden_states=True, use_cache=False)
        return Outputs(output.logits, output.hidden_states[1:])

    @staticmethod
    def _additive(visible: Tensor, like: Tensor) -> Tensor:
        hidden = torch.zeros(visible.shape, dtype=like.dtype, device=like.device)
        return hidden.masked_fill(~visible.to(like.device), torch.finfo(like.dtype).min)

    @torch.no_grad()
    def learn(self, layout: Layout, images: Tensor) -> LearntEdit:
        """What is to be known of an edit, for any query.

        Args:
            layout: the prompt.
            images: the tower's tokens of its exemplars, source and target in turn, 2·pairs×n×feature_width.
        """
        end = layout.query + 1
        shown = dataclasses.replace(layout, ids=layout.ids[:end], images=layout.images[:-1], answer=end)
        embedded = self.embedded([shown], images[None])
        cache = DynamicCache()
        self.llm.model(
            inputs_embeds=embedded, attention_mask=self._additive(group_mask([shown]), embedded), past_key_values=cache
        )
        kept = slice(layout.blind + 1, None)  # nothing before it is seen again
        return LearntEdit(
            torch.cat([layer.keys[:, :, kept] for layer in cache.layers]),
            torch.cat([layer.values[:, :, kept] for layer in cache.layers]),
            torch.tensor(end),
        )

    @torch.no_grad()
    def foretell(self, edits: Sequence[LearntEdit], queries: Tensor, prompter: Prompter) -> Foretold:
        """The features of the edited images.

        Args:
            edits: what was learnt for each query; the prompts' wording must be `prompter`'s.
            queries: the tower's tokens of the images to edit, B×n×feature_width.
            prompter: the wording, which says how the prompt goes on after the query.

        Raises:
            ValueError: an answer has no image.
        """
        added, device = prompter.added, self.llm.device
        tail = torch.tensor([added.image_end, *prompter.ids([(), prompter.wording.closing])], device=device)
        embed = self.llm.get_input_embeddings()
        slots = self.input_resampler(queries)
        inputs = torch.cat([slots, embed(tail).expand(len(queries), -1, -1)], dim=1)
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(
            zip(*(torch.stack([edit[part] for edit in edits], 1).to(inputs) for part in (0, 1)), strict=True)
        ):
            cache.update(keys, values, layer)
        position = torch.stack([edit.position for edit in edits]).to(device)
        rows, last = torch.arange(len(edits), device=device), tail[-1:].expand(len(edits))
        features = queries.new_zeros(len(edits), len(added.slots), queries.shape[-1])
        said: list[list[int]] = [[] for _ in edits]
        for _ in range(ANSWER_LIMIT):
            states = self._onward(inputs, cache, position)
            position = position + inputs.shape[1]
            last = next_tokens(self.llm.lm_head(states[:, -1]), last, added)
            imaging = torch.zeros_like(last, dtype=torch.bool)
            for first in added.image[:2]:  # the image's start, or a slot that beats all text (`next_tokens`)
                begun = last == first
                imaging |= begun
                if begun.any():
                    features[rows[begun]] = self._image_features(_rows_of(cache, begun), position[begun], added, first)
            going = ~imaging
            if not going.any():
                return Foretold(features, [prompter.text.decode(ids) for ids in said])
            if imaging.any():
                cache, position, rows, last = _rows_of(cache, going), position[going], rows[going], last[going]
            for row, token in zip(rows.tolist(), last.tolist(), strict=True):
                said[row].append(token)
            if (last == END).any():
                break
            inputs = embed(last)[:, None]
        number = int(rows[(last == END).int().argmax()])  # the first that ended, or the first of all
        raise ValueError(f"the language model's answer holds no image: {prompter.text.decode(said[number])[:200]!r}")

    def _onward(self, inputs: Tensor, cache: DynamicCache, position: Tensor) -> Tensor:
        """Last states of the next places, whose keys and values the cache then holds as well."""
        places = position[:, None] + torch.arange(inputs.shape[1], device=position.device)
        states: Tensor = self.llm.model(
            inputs_embeds=inputs, past_key_values=cache, position_ids=places
        ).last_hidden_state
        return states

    def _image_features(self, cache: DynamicCache, position: Tensor, added: AddedTokens, first: int) -> Tensor:
        """Features of the image that the answers begin now with the token `first`, of all slots in one pass."""
        chain = added.image[added.image.index(first) : -1]
        ids = torch.tensor(chain, device=position.device).expand(len(position), -1)
        states = self._onward(self.llm.get_input_embeddings()(ids), cache, position)
        features: Tensor = self.output_resampler(states[:, -len(added.slots) :])
        return features


def _rows_of(cache: DynamicCache, rows: Tensor) -> DynamicCache:
    """A cache of some rows alone."""
    result = DynamicCache()
    for number, layer in enumerate(cache.layers):
        result.update(layer.keys[rows], layer.values[rows], number)
    return result
