"""InstructPix2Pix turn by turn: each turn is a plain edit of what the turn before has made."""

from dataclasses import replace
from pathlib import Path

import pytest
from editing_toys import entry

from editclip.data.bench import Bench
from editclip.editing import Editor, EditRequest, noise_seed
from editclip.editing.cards import parse_method, read_card
from editclip.editing.requests import Requests

OPTIONS = {"num_inference_steps": 2}


@pytest.fixture
def plain(weights: dict[str, Path]) -> Editor:
    return parse_method(entry("baselines.ip2p", options=OPTIONS)).load(weights, "cpu", "edit")


@pytest.fixture
def turns(weights: dict[str, Path]) -> Editor:
    return parse_method(entry("baselines.ip2p_turn_by_turn", options=OPTIONS)).load(weights, "cpu", "edit")


@pytest.fixture
def asked(bench: Bench) -> list[EditRequest]:
    """Three requests of one instruction."""
    requests = Requests(bench, parse_method(entry("baselines.ip2p_turn_by_turn")), 0)
    return [requests.request(sample, {}, 0) for sample in bench.samples[::5]]


def test_one_instruction_is_a_plain_edit_bit_for_bit(plain: Editor, turns: Editor, bench: Bench) -> None:
    pixels = []
    for editor, name in ((plain, "baselines.ip2p"), (turns, "baselines.ip2p_turn_by_turn")):
        requests = Requests(bench, parse_method(entry(name)), 0)
        images = editor.edit([requests.request(sample, {}, 0) for sample in bench.samples[::5]])
        pixels.append([image.tobytes() for image in images])
    assert pixels[0] == pixels[1] and len(set(pixels[0])) == 3


def test_a_turn_edits_what_the_turn_before_has_made(plain: Editor, turns: Editor, asked: list[EditRequest]) -> None:
    told = ("make it red", "add a star", "make it night")
    request = replace(asked[0], instructions=told)
    image = request.query
    for turn, (instruction, seed) in enumerate(zip(told, (request.seed, None, None), strict=True)):
        seed = noise_seed(request.seed, "turn", turn) if seed is None else seed
        image = plain.edit([replace(request, query=image, instruction=instruction, seed=seed)])[0]
    assert turns.edit([request])[0].tobytes() == image.tobytes()


def test_requests_of_one_batch_may_have_fewer_turns(turns: Editor, asked: list[EditRequest]) -> None:
    mixed = [replace(asked[0], instructions=("make it red", "add a star")), asked[1]]
    together = [image.tobytes() for image in turns.edit(mixed)]
    assert together == [turns.edit([request])[0].tobytes() for request in mixed]
    assert turns.edit([replace(mixed[0], instructions=mixed[0].instructions[:1])])[0].tobytes() != together[0]


def test_every_turn_has_the_options_of_plain_edits() -> None:
    cards = [read_card(name) for name in ("baselines.ip2p", "baselines.ip2p_turn_by_turn")]
    assert cards[0].options == cards[1].options and cards[0].weights == cards[1].weights
