"""What the stages of a study share: columns of its sheet and of its votes, questions, even drawing, the clusters."""

import random
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

COLUMNS = ("item_id", "kind", "first", "second", "left", "right", "sample_id", "seed", "group", "edit_type", "query_id",
           "exemplar_id", "instruction", "query_image", "exemplar_before", "exemplar_after", "left_image",
           "right_image", "expected")  # fmt: skip
VOTE_COLUMNS = ("item_id", "rater", "question", "left", "right", "choice", "seconds", "submitted_at")
KINDS = ("pair", "catch")
SIDES = ("left", "right")
TYPES, QUERIES = "edit types", "queries"  # what the clusters of votes are
SECONDS = 40  # for an item, the mean of the paper's raters (appendix F)
# The paper (appendix F) asks for the quality of the edit and for what it preserves; the words are ours.
QUESTIONS = {
    "edit": "Which result makes the requested edit better?",
    "preserves": "Which result better preserves what the edit should not change?",
}

T = TypeVar("T")


def evenly(
    candidates: Sequence[T], count: int, draw: random.Random, stratum: Callable[[T], Hashable],
    unit: Callable[[T], Hashable],
) -> list[T]:  # fmt: skip
    """`count` of the candidates, as evenly over strata, and within a stratum over units, as there are candidates.

    Args:
        candidates: what is drawn from, without replacement.
        count: how many; all if there are not more.
        draw: decides what is left open.
        stratum: of a candidate, such as its edit type.
        unit: of a candidate, such as its sample.
    """
    queues = defaultdict(list)
    for candidate in draw.sample(candidates, len(candidates)):
        queues[stratum(candidate)].append(candidate)
    for queue in queues.values():
        seen: dict[Hashable, int] = defaultdict(int)
        turn = {}
        for number, candidate in enumerate(queue):
            seen[unit(candidate)] += 1
            turn[number] = seen[unit(candidate)]
        order = sorted(turn, key=lambda number: (turn[number], number))
        queue[:] = [queue[number] for number in order]
    chosen: list[T] = []
    while len(chosen) < count and any(queues.values()):
        going = [key for key, queue in queues.items() if queue]
        for key in draw.sample(going, min(len(going), count - len(chosen))):
            chosen.append(queues[key].pop(0))
    return chosen


def balanced(count: int, draw: random.Random) -> list[bool]:
    """`count` truth values in random order, of each as many as of the other, or one more."""
    values = [True, False] * (count // 2) + [draw.random() < 0.5] * (count % 2)
    draw.shuffle(values)
    return values


def clustered(types: Sequence[str], queries: Sequence[str]) -> tuple[list[str], str]:
    """The cluster of each item or vote of a study, which is resampled as a whole, and what the clusters are.

    Args:
        types: the edit type of each, of all pairs of methods together.
        queries: the query of each.

    Returns:
        The types and `TYPES`; in a study of a single type, the queries and `QUERIES`.
    """
    return (list(types), TYPES) if len(set(types)) > 1 else (list(queries), QUERIES)
