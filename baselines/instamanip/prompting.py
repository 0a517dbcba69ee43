"""InstaManip's prompt: wording, added tokens, ids, and which places of the sequence mean what.

The released wording lies in a repository without a licence, so it is not here: `released_prompt` reads it from a
user's checkout. A wording is data of a weights folder (`wording.json`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from baselines.instamanip.architecture import Wording
from editclip.errors import InputError, nearest

BEGIN, END, UNKNOWN = 1, 2, 0  # ids of LLaMA's tokenizer, and of ours
SILENT = ("dropped", "empty_quotes")  # text modes without an instruction
TEXT_MODES = ("instruction", *SILENT)

Part = str | tuple[int, ...]  # a piece of text, or ids of added tokens


@dataclass(frozen=True)
class AddedTokens:
    """Ids of the tokens that are no text.

    Attributes:
        image: those of one image: start, slots, end.
        edit: those of the manipulation: start, learnt embeddings, end.
    """

    image: tuple[int, ...]
    edit: tuple[int, ...]

    @property
    def image_start(self) -> int:
        """`<img>`."""
        return self.image[0]

    @property
    def slots(self) -> tuple[int, ...]:
        """`<img_00000>` and so on."""
        return self.image[1:-1]

    @property
    def image_end(self) -> int:
        """`</img>`."""
        return self.image[-1]

    @property
    def names(self) -> dict[int, str]:
        """The tokens' names by id, as the release writes them."""
        inner = {token: f"<img_{number:05d}>" for number, token in enumerate(self.slots)}
        inner |= {token: f"<edit_{number:03d}>" for number, token in enumerate(self.edit[1:-1])}
        return inner | {
            self.image[0]: "<img>",
            self.image[-1]: "</img>",
            self.edit[0]: "<edit>",
            self.edit[-1]: "</edit>",
        }

    @classmethod
    def released(cls, slots: int, edit_tokens: int) -> "AddedTokens":
        """The release's ids, which has 100 slots and 51 edit tokens to choose from.

        Raises:
            InputError: there are not so many.
        """
        if slots > 100 or edit_tokens > 51:
            raise InputError(
                f"the released tokenizer has 100 image slots and 51 edit tokens, but the sizes ask for {slots} and "
                f"{edit_tokens}; give the release's 64 and 30"
            )
        image = (32100, *range(32000, 32000 + slots), 32101)
        return cls(image, (32330, *range(32332, 32332 + edit_tokens), 32331))

    @classmethod
    def after(cls, first: int, slots: int, edit_tokens: int) -> "AddedTokens":
        """Consecutive ids from `first` on, behind a vocabulary of words."""
        ids = iter(range(first, first + slots + edit_tokens + 4))
        image, edit = (tuple(next(ids) for _ in range(count + 2)) for count in (slots, edit_tokens))
        return cls(image, edit)


class TextTokens(Protocol):
    """A tokenizer of plain text."""

    def encode(self, text: str) -> list[int]:
        """Ids of a piece of text."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids."""
        ...


class WordTokens:
    """A word or sign is a token, without case; unknown ones are one token.

    Args:
        words: their ids follow the special ones in this order.
    """

    FIRST = 3

    def __init__(self, words: Sequence[str]) -> None:
        self.words = list(words)
        self._ids = {word: number for number, word in enumerate(self.words, self.FIRST)}

    @classmethod
    def of(cls, texts: Sequence[str]) -> "WordTokens":
        """The words of some texts."""
        return cls(sorted({word for text in texts for word in cls._split(text)}))

    @staticmethod
    def _split(text: str) -> list[str]:
        return re.findall(r"\w+|[^\w\s]", text.lower())

    def __len__(self) -> int:
        return self.FIRST + len(self.words)

    def encode(self, text: str) -> list[int]:
        """Ids of a piece of text."""
        return [self._ids.get(word, UNKNOWN) for word in self._split(text)]

    def decode(self, ids: Sequence[int]) -> str:
        """Words with a space between them."""
        return " ".join(self.words[i - self.FIRST] if 0 <= i - self.FIRST < len(self.words) else "?" for i in ids)


class SentencePieceTokens:
    """LLaMA's tokenizer.

    Args:
        file: the release's `tokenizer.model`.

    Raises:
        InputError: the file is none, or sentencepiece is not installed.
    """

    def __init__(self, file: Path) -> None:
        try:
            import sentencepiece
        except ImportError as error:
            raise InputError("the released InstaManip needs the package sentencepiece: pip install it") from error
        try:
            self._model = sentencepiece.SentencePieceProcessor(model_file=str(file))
        except (OSError, RuntimeError) as error:
            raise InputError(f"{file} is no SentencePiece model ({error}); fetch the weights again") from error

    def encode(self, text: str) -> list[int]:
        """Ids of a piece of text; each piece has a leading space of its own, as in the release."""
        return list(self._model.encode(text))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, without the added tokens that an answer may hold."""
        return str(self._model.decode([each for each in ids if each < self._model.vocab_size()]))


@dataclass(frozen=True)
class Layout:
    """One sequence.

    Attributes:
        ids: L ids.
        images: for each image in order (exemplars' source and target in turn, the query, and the answer if it is
            there) the place of its first slot.
        edit: place of the first learnt edit token.
        blind: place of the last exemplar's image end: from the manipulation's end on, nothing up to it is seen.
        edit_end: place of the manipulation's end.
        query: place of the query's image start.
        answer: place of the first id after the prompt; L if there is none.
    """

    ids: tuple[int, ...]
    images: tuple[int, ...]
    edit: int
    blind: int
    edit_end: int
    query: int
    answer: int


class Prompter:
    """Sequences of one wording, tokenizer and set of added tokens."""

    def __init__(self, wording: Wording, text: TextTokens, added: AddedTokens) -> None:
        self.wording, self.text, self.added = wording, text, added

    def parts(self, instruction: str | None, pairs: int, mode: str = "instruction") -> list[Part]:
        """The prompt after its first token, as text and added tokens in turn.

        Args:
            instruction: the edit in words; used by the mode "instruction" alone.
            pairs: exemplars, one or more.
            mode: "instruction", quoted, as released; "dropped", neither it nor quotes; "empty_quotes", what the
                released script does with an empty instruction.

        Raises:
            InputError: an unknown mode, no exemplar, or no instruction in a mode that needs one.
        """
        if mode not in TEXT_MODES:
            raise InputError(
                f"text {mode!r} is not a text mode{nearest(mode, TEXT_MODES)}; use {', '.join(TEXT_MODES)}"
            )
        if pairs < 1:
            raise InputError("InstaManip was given no exemplar pair; give one or more")
        if mode == "instruction" and instruction is None:
            raise InputError("this exemplar has no instruction; take baselines.instamanip_no_text, which needs none")
        said = {"instruction": f'"{instruction}"', "dropped": "", "empty_quotes": '""'}[mode]
        wording, image = self.wording, self.added.image
        parts: list[Part] = [wording.opening + said + wording.pairs + wording.source, image, wording.target, image]
        for _ in range(pairs - 1):
            parts += [wording.source, image, wording.target, image]
        return [*parts, wording.manipulation, self.added.edit, wording.query, image, wording.closing]

    def rendered(self, parts: Sequence[Part]) -> str:
        """The prompt as one text, added tokens by their names."""
        names = self.added.names
        return "".join(part if isinstance(part, str) else "".join(names[i] for i in part) for part in parts)

    def ids(self, parts: Sequence[Part]) -> list[int]:
        """Ids; text loses the white space beside added tokens and is encoded piece by piece, as in the release."""
        result: list[int] = []
        for place, part in enumerate(parts):
            if isinstance(part, tuple):
                result += part
                continue
            text = part.lstrip() if place > 0 else part
            text = text.rstrip() if place + 1 < len(parts) else text
            result += self.text.encode(text) if text else []
        return result

    def layout(self, parts: Sequence[Part], answer: str | None = None) -> Layout:
        """The sequence of a prompt, or of a prompt with its answer: text, an image and the end."""
        ids = [BEGIN, *self.ids(parts)]
        start = len(ids)
        if answer is not None:
            ids += [*self.ids([answer, self.added.image]), END]
        images = [place + 1 for place, i in enumerate(ids) if i == self.added.image_start]
        ends = [place for place, i in enumerate(ids) if i == self.added.image_end]
        last_exemplar = images[: len(images) if answer is None else -1][-2]
        return Layout(
            ids=tuple(ids),
            images=tuple(images),
            edit=ids.index(self.added.edit[0]) + 1,
            blind=min(place for place in ends if place > last_exemplar),
            edit_end=ids.index(self.added.edit[-1]),
            query=images[-1 if answer is None else -2] - 1,
            answer=start,
        )


def group_mask(layouts: Sequence[Layout]) -> Tensor:
    """Which place sees which: B×1×L×L booleans, L the longest sequence, padding on the right.

    A place sees itself and what is before it; behind the manipulation's end it is blind to all up to the last
    exemplar's end, so that instruction and exemplars reach the answer through the edit tokens alone.
    """
    length = max(len(layout.ids) for layout in layouts)
    place = torch.arange(length)
    causal = place <= place[:, None]
    hidden = [(place[:, None] > layout.edit_end) & (place <= layout.blind) for layout in layouts]
    return (causal & ~torch.stack(hidden))[:, None]
