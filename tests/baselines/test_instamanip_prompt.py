"""InstaManip's prompt: the released wording, read and never run; added tokens, chunks, and what the places mean.

The released wording lies in a repository without a licence and is not in this one. The test that needs it runs where
the environment variable EDITCLIP_INSTAMANIP names a checkout of https://github.com/BolinLai/InstaManip.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from baselines.instamanip.prompting import (
    BEGIN,
    END,
    UNKNOWN,
    AddedTokens,
    Layout,
    Prompter,
    SentencePieceTokens,
    Wording,
    WordTokens,
)
from baselines.instamanip.released_prompt import DIGESTS, SCRIPT, check_released, digests, read_released
from editclip.errors import InputError

WORDING = Wording(
    opening="  consider the edit ",
    pairs=", which turns",
    source=" this ",
    target=" into ",
    manipulation=". it is kept in ",
    query=". now edit ",
    closing=" . so:\n",
)
RED, SNOW = "make it red", "turn all of the grass into deep snow"
WORDS = WordTokens.of([*WORDING.pieces(), '"', "done here", RED, SNOW])
ADDED = AddedTokens.after(len(WORDS), 4, 3)
PROMPTER = Prompter(WORDING, WORDS, ADDED)

# the released wording


def test_the_released_wording_gives_the_releases_prompts() -> None:
    checkout = os.environ.get("EDITCLIP_INSTAMANIP")
    if not checkout:
        pytest.skip(
            "the released wording may not be copied here; set EDITCLIP_INSTAMANIP to a checkout of BolinLai/InstaManip"
        )
    wording = read_released(Path(checkout))
    assert digests(wording) == DIGESTS
    check_released(wording, Path(checkout) / SCRIPT)
    lengths = [len(rendered(wording, pairs)) for pairs in (1, 2, 3)]
    assert lengths == [2713, 4174, 5635]  # of the official prompt with its 64 slots and 30 edit tokens


def rendered(wording: Wording, pairs: int) -> str:
    prompter = Prompter(wording, WordTokens([]), AddedTokens.released(64, 30))
    return prompter.rendered(prompter.parts("Make it sepia toned", pairs))


# structured as the official script; the first statement leaves a trace where it is run, the second fails
OFFICIAL = """
import pathlib; pathlib.Path(__file__).with_name("trace").touch()
raise SystemExit("run")
instruction_prompt = '<<{instruction}>>\\n'
quoted_instruction = f'"{instruction}"'
for i in range(3):
    pass
snippet = f" from {exemplar_source_image_tokens} to {exemplar_target_image_tokens}" * len(exemplar_source_image_paths)
icl_instruction = f"Do {quoted_instruction}, see{snippet}; kept as {latent_edit_tokens}. Change {image_tokens}!"
prompt = instruction_prompt.format_map({"instruction": icl_instruction})
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / SCRIPT).parent.mkdir(parents=True)
    (tmp_path / SCRIPT).write_text(OFFICIAL, encoding="utf-8")
    return tmp_path


def test_a_checkouts_wording_is_read_and_its_script_not_run(checkout: Path) -> None:
    wording = read_released(checkout)
    assert wording.pieces() == ["<<Do ", ", see", " from ", " to ", "; kept as ", ". Change ", "!>>\n"]
    assert not list(checkout.rglob("trace"))


def test_a_repeated_exemplar_may_be_written_without_a_repetition(checkout: Path) -> None:
    expected = read_released(checkout)
    script = OFFICIAL.replace(" * len(exemplar_source_image_paths)", "")  # as the script for one exemplar
    assert script != OFFICIAL
    (checkout / SCRIPT).write_text(script, encoding="utf-8")
    assert read_released(checkout) == expected


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("pass\n", "pas s\n", "cannot be read .*; give a checkout of BolinLai/InstaManip$"),
        ("; kept as {latent_edit_tokens}", "", "does not hold the prompt as expected .3 holes instead of 4"),
        (" to {exemplar_target_image_tokens}", "", "1 holes instead of 2"),
        ("{exemplar_target_image_tokens}", "{exemplar_target_image_tokens}, and", "text after an exemplar"),
        ('snippet = f"', 'snippet = "', "no formatted text"),
        ("snippet = ", "other = ", "no formatted text"),
        ("icl_instruction = ", "other = ", "no formatted text"),
        ("{instruction}>>", ">>", "does not hold the prompt as expected"),
        ("{instruction}>>", "{instruction}{instruction}>>", "does not hold the prompt as expected"),
        ("instruction_prompt = ", "other = ", "does not hold the prompt as expected"),
        ("'<<{instruction}>>\\n'", "7", "does not hold the prompt as expected"),
    ],
)
def test_another_script_is_refused(checkout: Path, old: str, new: str, expected: str) -> None:
    changed = OFFICIAL.replace(old, new)
    assert changed != OFFICIAL
    (checkout / SCRIPT).write_text(changed, encoding="utf-8")
    with pytest.raises(InputError, match=expected) as caught:
        read_released(checkout)
    assert str(checkout / SCRIPT) in str(caught.value) and "BolinLai/InstaManip" in str(caught.value)


def test_a_missing_script_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run_model_multishot.py cannot be read .*; give a checkout of BolinLai/Inst"):
        read_released(tmp_path)


def test_a_wording_of_other_digests_is_refused(checkout: Path) -> None:
    wording = read_released(checkout)
    found = digests(wording)
    assert list(found) == list(DIGESTS) and len(set(found.values())) == 4
    with pytest.raises(InputError, match=f"1 exemplar.s., text instruction, has the digest {found[1, 'instruction']}"):
        check_released(wording, checkout / SCRIPT)
    with pytest.raises(InputError, match=f"not the released {DIGESTS[1, 'instruction']}; take .* unchanged checkout"):
        check_released(wording, checkout / SCRIPT)


# added tokens


def test_the_releases_ids_are_its_own() -> None:
    # the released added_tokens.json, which has 100 slots and 51 edit tokens
    added = AddedTokens.released(64, 30)
    assert (added.image_start, added.image_end) == (32100, 32101)
    assert added.image == (32100, *range(32000, 32064), 32101) and added.slots == tuple(range(32000, 32064))
    assert added.edit == (32330, *range(32332, 32362), 32331)
    expected = {32100: "<img>", 32000: "<img_00000>", 32063: "<img_00063>", 32101: "</img>"}
    expected |= {32330: "<edit>", 32332: "<edit_000>", 32361: "<edit_029>", 32331: "</edit>"}
    assert {i: added.names[i] for i in expected} == expected and len(added.names) == 66 + 32


def test_ids_behind_a_vocabulary_are_its_next_ones() -> None:
    assert sorted(ADDED.names) == list(range(len(WORDS), len(WORDS) + 6 + 5))
    assert [ADDED.names[i] for i in ADDED.image] == ["<img>", *(f"<img_0000{n}>" for n in range(4)), "</img>"]
    assert [ADDED.names[i] for i in ADDED.edit] == ["<edit>", *(f"<edit_00{n}>" for n in range(3)), "</edit>"]


# chunks


class Recorder:
    """A tokenizer that notes its chunks; each is one id."""

    def __init__(self) -> None:
        self.chunks: list[str] = []

    def encode(self, text: str) -> list[int]:
        self.chunks.append(text)
        return [900 + len(self.chunks)]

    def decode(self, ids: Sequence[int]) -> str:
        raise AssertionError("a prompt is only encoded")


def test_text_is_encoded_chunk_by_chunk_without_the_space_beside_added_tokens() -> None:
    recorder = Recorder()
    prompter = Prompter(WORDING, recorder, ADDED)
    ids = prompter.ids(prompter.parts(" red  one ", 2))
    assert recorder.chunks == [
        '  consider the edit " red  one ", which turns this',
        "into",
        "this",
        "into",
        ". it is kept in",
        ". now edit",
        ". so:\n",
    ]
    image, edit = ADDED.image, ADDED.edit
    assert ids == [901, *image, 902, *image, 903, *image, 904, *image, 905, *edit, 906, *image, 907]


def test_an_answer_is_encoded_on_its_own() -> None:
    recorder = Recorder()
    prompter = Prompter(WORDING, recorder, ADDED)
    layout = prompter.layout(prompter.parts(RED, 1), " Here it is: ")
    assert recorder.chunks[-2:] == [". so:\n", " Here it is:"]
    assert layout.ids[layout.answer :] == (906, *ADDED.image, END)


def test_white_space_alone_is_no_chunk() -> None:
    recorder = Recorder()
    ids = Prompter(WORDING, recorder, ADDED).ids(["a", ADDED.image, " \n", ADDED.edit, "", ADDED.image, " b\n"])
    assert recorder.chunks == ["a", "b\n"]
    assert ids == [901, *ADDED.image, *ADDED.edit, *ADDED.image, 902]


def test_what_follows_the_query_is_encoded_alike_alone() -> None:
    parts = PROMPTER.parts(RED, 1)
    tail = PROMPTER.ids([(), WORDING.closing])
    assert PROMPTER.ids(parts)[-len(tail) - 1 :] == [ADDED.image_end, *tail]


@pytest.fixture
def sentencepiece_model(tmp_path: Path) -> Path:
    """A tiny model of pairs of letters, with LLaMA's leading space; its training takes a moment."""
    sentencepiece = pytest.importorskip("sentencepiece", reason="the released tokenizer needs it: pip install it")
    texts = [*WORDING.pieces(), f'"{RED}"', f'"{SNOW}"', "done here:"] * 20
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_prefix=str(tmp_path / "tokenizer"),
        vocab_size=60,
        model_type="bpe",
        minloglevel=2,
    )
    return tmp_path / "tokenizer.model"


def test_with_sentencepiece_each_chunk_has_its_own_leading_space(sentencepiece_model: Path) -> None:
    import sentencepiece

    model = sentencepiece.SentencePieceProcessor(model_file=str(sentencepiece_model))
    text = SentencePieceTokens(sentencepiece_model)
    added = AddedTokens.after(60, 4, 3)
    ids = Prompter(WORDING, text, added).ids(["make it", added.image, " red ", added.image, " now\n"])
    assert ids == [*model.encode("make it"), *added.image, *model.encode("red"), *added.image, *model.encode("now\n")]
    pieces = model.id_to_piece([i for i in ids if i < 60])
    assert "".join(pieces) == "▁make▁it▁red▁now"
    assert text.decode(model.encode("make it red")) == RED


def test_a_sentencepiece_answer_may_hold_added_tokens(sentencepiece_model: Path) -> None:
    text = SentencePieceTokens(sentencepiece_model)
    assert text.decode([60, *text.encode("done"), 32104, *text.encode("here"), 32330, END]) == "done here"


def test_a_file_that_is_no_tokenizer_is_named(sentencepiece_model: Path) -> None:
    sentencepiece_model.write_bytes(b"not a model")
    with pytest.raises(InputError, match="tokenizer.model is no SentencePiece model"):
        SentencePieceTokens(sentencepiece_model)
    with pytest.raises(InputError, match="missing.model is no SentencePiece model"):
        SentencePieceTokens(sentencepiece_model.with_name("missing.model"))


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(InputError, match="needs the package sentencepiece: pip install it"):
        SentencePieceTokens(tmp_path / "tokenizer.model")


# words


def test_words_come_back_and_unknown_ones_are_one_token() -> None:
    ids = WORDS.encode('"Make it RED".')
    assert WORDS.decode(ids) == '" make it red " .' and len(ids) == 6
    assert WORDS.encode(WORDS.decode(ids)) == ids and min(ids) == WordTokens.FIRST > max(BEGIN, END, UNKNOWN)
    assert WORDS.encode("make it zebra-red") == [*WORDS.encode("make it"), UNKNOWN, UNKNOWN, *WORDS.encode("red")]
    assert WORDS.decode([UNKNOWN, *WORDS.encode("red"), len(WORDS), END]) == "? red ? ?"
    assert WordTokens.of(["red It", "it!"]).words == ["!", "it", "red"]


def test_a_wordings_pieces_are_words_of_their_own() -> None:
    # a joined text would have the words "turnsthis" and "intoand"
    pieces = dict.fromkeys(Wording.model_fields, "x") | {"pairs": "turns", "source": "this", "target": "into"}
    words = WordTokens.of(Wording(**pieces).pieces())
    assert words.words == ["into", "this", "turns", "x"]


def test_a_written_token_in_an_instruction_is_text() -> None:
    plain, odd = (PROMPTER.layout(PROMPTER.parts(text, 1)) for text in (RED, "make <img> red </img> <edit>"))
    added = set(ADDED.names)
    assert [i for i in odd.ids if i in added] == [i for i in plain.ids if i in added]
    further = len(odd.ids) - len(plain.ids)
    assert further > 0 and odd.images == tuple(place + further for place in plain.images)


# layouts


@pytest.mark.parametrize("pairs", [1, 2, 3])
@pytest.mark.parametrize("answer", [None, "", "done here"])
def test_a_layouts_places_are_those_of_its_ids(pairs: int, answer: str | None) -> None:
    layout = PROMPTER.layout(PROMPTER.parts(SNOW, pairs), answer)
    ids = layout.ids
    said = [] if answer is None else [*WORDS.encode(answer), *ADDED.image, END]
    start = len(ids) - len(said)
    starts, ends = ([place for place in range(len(ids)) if ids[place] == i] for i in (ADDED.image[0], ADDED.image[-1]))
    assert ids[0] == BEGIN and list(ids[start:]) == said
    assert len(starts) == 2 * pairs + 1 + (answer is not None)
    assert layout == Layout(
        ids=ids,
        images=tuple(place + 1 for place in starts),
        edit=ids.index(ADDED.edit[1]),
        blind=ends[2 * pairs - 1],
        edit_end=ids.index(ADDED.edit[-1]),
        query=starts[2 * pairs],
        answer=start,
    )
    for place in layout.images:
        assert ids[place - 1 : place + 5] == ADDED.image
    assert layout.images[2 * pairs - 1] < layout.blind < layout.edit < layout.edit_end < layout.query < layout.answer


@pytest.mark.parametrize(
    ("mode", "said"), [("instruction", f'"{RED}"'), ("dropped", ""), ("empty_quotes", '""')], ids=lambda value: value
)
def test_text_modes_say_what_they_name(mode: str, said: str) -> None:
    image, edit = ("".join(ADDED.names[i] for i in part) for part in (ADDED.image, ADDED.edit))
    pair = f" this {image} into {image}"
    tail = f". it is kept in {edit}. now edit {image} . so:\n"
    for pairs in (1, 2, 3):
        expected = f"  consider the edit {said}, which turns{pair * pairs}{tail}"
        assert PROMPTER.rendered(PROMPTER.parts(RED, pairs, mode)) == expected
        if mode != "instruction":
            assert PROMPTER.rendered(PROMPTER.parts(None, pairs, mode)) == expected


@pytest.mark.parametrize(
    ("instruction", "pairs", "mode", "expected"),
    [
        (
            RED,
            1,
            "droped",
            "text 'droped' is not a text mode .did you mean \"dropped\".*; use instruction, dropped, em",
        ),
        (None, 1, "instruction", "this exemplar has no instruction; take baselines.instamanip_no_text"),
        (RED, 0, "instruction", "no exemplar pair; give one or more"),
    ],
)
def test_wrong_prompts_are_refused(instruction: str | None, pairs: int, mode: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        PROMPTER.parts(instruction, pairs, mode)
