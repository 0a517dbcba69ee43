"""Which samples are meant by families of edits."""

import argparse

import pytest

from editclip.data.families import Families, add_argument, chosen
from editclip.errors import InputError

FOUND = ["style", "multi", "", "compound", "multi"]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([None], [True, False, True, True, False]),
        ([["multi"]], [False, True, False, False, True]),
        ([["style", "compound"]], [True, False, False, True, False]),
        ([None, ["multi"]], [True] * 5),
    ],
)
def test_edits_of_several_parts_are_meant_only_where_they_are_named(
    parts: list[Families], expected: list[bool]
) -> None:
    assert chosen(FOUND, parts, "the benchmark") == expected


def test_a_benchmark_without_families_is_meant_whole() -> None:
    assert chosen(["", ""], [None], "the benchmark") == [True, True] and chosen([], [None], "the benchmark") == []


@pytest.mark.parametrize(
    ("found", "parts", "said"),
    [
        (FOUND, [["multy"]], r'x has no edits of the family "multy" \(did you mean "multi"\?\): it has style, multi'),
        (["", ""], [None, ["style"]], 'the family "style": its edits have no families'),
        (["multi"], [None], 'the family "multi" alone, which only a table that names it takes in'),
    ],
)
def test_families_that_are_not_there_are_named(found: list[str], parts: list[Families], said: str) -> None:
    with pytest.raises(InputError, match=said):
        chosen(found, parts, "x")


@pytest.mark.parametrize("text", ["multi", "[]", '["multi"]', "[[]]", '[[""]]', "null", "[1]"])
def test_stages_take_nothing_else_than_parts(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_argument(parser)
    assert parser.parse_args([]).families == (None,)
    assert parser.parse_args(["--families", '[null, ["multi"]]']).families == [None, ["multi"]]
    with pytest.raises(SystemExit):
        parser.parse_args(["--families", text])
    assert "argument --families: " in capsys.readouterr().err
