"""The layout of the manipulator's weights, written, checked and loaded strictly.

`sizes.json`, `wording.json`, `model.safetensors` (or its shards and their index), and for the text either `words.json`,
or LLaMA's `tokenizer.model`, with which the added tokens are the release's.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from huggingface_hub import save_torch_state_dict
from pydantic import Field

from baselines.instamanip.architecture import RELEASED_VOCABULARY, ManipulatorSizes, VisionSizes, Wording
from baselines.instamanip.manipulator import Manipulator
from baselines.instamanip.prompting import AddedTokens, Prompter, SentencePieceTokens, WordTokens
from baselines.instamanip.weight_files import check_tensors, read_json, tensors_one_by_one
from editclip.checkpoints import load_strict
from editclip.config.section import Count, Section
from editclip.errors import InputError
from editclip.storage import write_json

SIZES, WORDING, WORDS, SENTENCEPIECE = "sizes.json", "wording.json", "words.json", "tokenizer.model"


class ManipulatorFolder(Section):
    """What `sizes.json` of a manipulator holds."""

    manipulator: ManipulatorSizes
    """of the language model"""
    slots: Count
    """features of an image"""
    feature_width: Count
    """of the tower's tokens and features"""


class Words(Section):
    """What `words.json` holds."""

    words: list[str] = Field(min_length=1)
    """the vocabulary, in the order of the ids"""


def save_manipulator(
    folder: Path,
    manipulator: Manipulator,
    sizes: ManipulatorSizes,
    vision: VisionSizes,
    wording: Wording,
    text: WordTokens | None,
) -> None:
    """Write a manipulator's folder; without `text` its `tokenizer.model` is to be added.

    Weights of more than 5 GB are written in shards.
    """
    content = ManipulatorFolder(manipulator=sizes, slots=vision.slots, feature_width=vision.feature_width)
    write_json(folder / SIZES, content.model_dump(mode="json"))
    write_json(folder / WORDING, wording.model_dump())
    if text is not None:
        write_json(folder / WORDS, {"words": text.words})
    save_torch_state_dict(manipulator.state_dict(), folder)


class Reader(NamedTuple):
    """A manipulator with its prompts."""

    manipulator: Manipulator
    prompter: Prompter


def load_manipulator(folder: Path, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Reader:
    """The manipulator of a folder, frozen, on `device`.

    Raises:
        InputError: a file is missing or not what it should be, or a tensor is missing, superfluous or misshapen.
    """
    manipulator, prompter = _empty(folder)
    state = {
        name: tensor.to(device, dtype) for file in weight_files(folder) for name, tensor in tensors_one_by_one(file)
    }
    load_strict(manipulator, state, folder)
    rotary = manipulator.llm.model.rotary_emb  # its frequencies are no weights
    manipulator.llm.model.rotary_emb = type(rotary)(manipulator.llm.config).to(device)
    return Reader(manipulator.requires_grad_(False).eval(), prompter)


def _empty(folder: Path) -> Reader:
    """The manipulator of a folder's sizes, on the meta device, with its prompts."""
    content = read_json(folder / SIZES, ManipulatorFolder)
    sizes, slots = content.manipulator, content.slots
    text: WordTokens | SentencePieceTokens
    if (folder / SENTENCEPIECE).is_file():
        text, vocabulary = SentencePieceTokens(folder / SENTENCEPIECE), RELEASED_VOCABULARY
        added = AddedTokens.released(slots, sizes.edit_tokens)
    else:
        text = WordTokens(read_json(folder / WORDS, Words).words)
        added = AddedTokens.after(len(text), slots, sizes.edit_tokens)
        vocabulary = len(text) + len(added.names)
    prompter = Prompter(read_json(folder / WORDING, Wording), text, added)
    with torch.device("meta"):
        return Reader(Manipulator(sizes, slots, content.feature_width, vocabulary), prompter)


def weight_files(folder: Path) -> Sequence[Path]:
    """The manipulator's weights file, or its shards.

    Raises:
        InputError: there is none.
    """
    found = sorted(folder.glob("model*.safetensors"))
    if not found:
        raise InputError(f"{folder} holds no model.safetensors and no shards of it; fetch or convert the weights again")
    return found


def check_manipulator(folder: Path) -> None:
    """Check a manipulator's folder without loading the weights.

    Raises:
        InputError: a part is missing, unreadable or misshapen.
    """
    check_tensors(_empty(folder).manipulator, weight_files(folder), folder)
