"""Edits of three parts, for a comparison of one shot with several turns (EditCLIP, Figure 5).

They are drawn for a benchmark and are no programs of the world: no training data has them, and the world is the same
with and without them. Each is three simple programs of different families that follow one another in most scenes and
of which none undoes or hides another: without any one of them the result would visibly be another.
"""

import random
from collections import Counter
from collections.abc import Iterator

from editclip.data.families import MULTI
from editclip.data.world_edits import Edit, programs, together
from editclip.data.world_pairs import Pair
from editclip.data.world_render import UNITS, render
from editclip.data.world_scene import random_scene

# Families of the parts, in the order in which they are told and done. Most looks (greyscale, thermal …) leave nothing
# of a colour, so that none follows one. Deformations, which fail even alone, are left out.
PATTERNS = (
    ("colour", "background", "addition"),
    ("replacement", "addition", "style"),
    ("texture", "background", "addition"),
    ("colour", "size", "background"),
    ("removal", "background", "addition"),
    ("replacement", "colour", "background"),
    ("size", "addition", "style"),
    ("colour", "texture", "addition"),
)
CANDIDATES = 20  # ours: edits of a pattern among which that with the fewest words of earlier ones is taken
SCENES = 12  # ours: on which one is tried
FITTING = 0.5  # ours: of these scenes: it follows through, and every part of it shows


def multi_types(rng: random.Random, count: int) -> list[Edit]:
    """`count` different edits over the patterns in turn, with as few words in common as can be."""
    chosen: list[Edit] = []
    words: Counter[str] = Counter()
    for i in range(count):
        known = {edit.id for edit in chosen}
        fitting = (e for e in _drawn(rng, PATTERNS[i % len(PATTERNS)]) if e.id not in known and _fits(rng, e))
        candidates = [next(fitting) for _ in range(CANDIDATES)]
        chosen.append(min(candidates, key=lambda e: sum(words[w] for w in e.id.split("_"))))
        words.update(chosen[-1].id.split("_"))
    return chosen


def _drawn(rng: random.Random, families: tuple[str, ...]) -> Iterator[Edit]:
    """Edits without end whose parts are of these families, whether they fit together or not."""
    catalogue = programs()
    while True:
        yield together(MULTI, *(rng.choice(catalogue[family]) for family in families))


def _fits(rng: random.Random, edit: Edit) -> bool:
    """Whether the parts of an edit follow one another in enough scenes, and every one of them shows.

    Nothing is added that is like what another part takes away or changes.
    """
    added = {word for part in edit.parts if part.family == "addition" for word in part.id.split("_")}
    if added.intersection(edit.wants.values()):
        return False
    scenes = [random_scene(rng, edit.wants) for _ in range(SCENES)]
    pairs = [(before, after) for before in scenes if (after := edit.apply(before)) is not None]
    if len(pairs) < FITTING * SCENES:
        return False
    shown = (Pair(edit, a, b, (render(a, UNITS), render(b, UNITS))).shows_every_part for a, b in pairs)
    return sum(shown) >= FITTING * SCENES
