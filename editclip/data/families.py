"""Which samples of a benchmark somebody wants, by the families of their edits.

The family `MULTI` stands apart: its edits of several parts are a benchmark of their own (EditCLIP, Figure 5) that lies
in the same folder. Who does not name it does not get it, so that tables, studies and pictures of the other edits are
the same with and without it.
"""

import argparse
import json
from collections.abc import Sequence

from editclip.errors import InputError, nearest

MULTI = "multi"
Families = Sequence[str] | None  # some families; None = all but MULTI
USUAL: tuple[Families, ...] = (None,)  # what is meant where nobody says


def chosen(families: Sequence[str], parts: Sequence[Families], place: str) -> list[bool]:
    """Which samples are in at least one of the parts.

    Args:
        families: of the samples, "" for one without.
        parts: what is wanted.
        place: where the samples are from, for messages.

    Raises:
        InputError: a part names a family that no sample has, or no sample is in any of them.
    """
    known = dict.fromkeys(name for name in families if name)
    wanted = dict.fromkeys(name for part in parts for name in part or ())
    for name in wanted:
        if name not in known:
            there = f"it has {', '.join(known)}" if known else "its edits have no families"
            raise InputError(f'{place} has no edits of the family "{name}"{nearest(name, known)}: {there}')
    found = [name in wanted or (None in parts and name != MULTI) for name in families]
    if families and not any(found):
        raise InputError(f'{place} has edits of the family "{MULTI}" alone, which only a table that names it takes in')
    return found


def add_argument(parser: argparse.ArgumentParser) -> None:
    """Give a stage's parser `--families`, a list of parts."""
    asked = (
        f'what is wanted of the bench, a JSON list of null (all families of edits but "{MULTI}") or lists of families, '
        "which count together (default: [null])"
    )
    parser.add_argument("--families", type=_parts, default=USUAL, metavar="JSON", help=asked)


def _parts(text: str) -> list[Families]:
    try:
        parts = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"not valid JSON ({error}): {text[:80]}") from error
    if not isinstance(parts, list) or not parts or not all(map(_is_part, parts)):
        raise argparse.ArgumentTypeError(f'{text[:80]} is no list of null or lists of names, such as [null, ["style"]]')
    return parts


def _is_part(part: object) -> bool:
    named = isinstance(part, list) and part and all(isinstance(name, str) and name for name in part)
    return part is None or bool(named)
