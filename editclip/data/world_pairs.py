"""Drawing pairs of scenes before and after a program, each from the one pool of data that may hold it."""

import hashlib
import io
import random
from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from editclip.data.families import MULTI
from editclip.data.world_edits import Edit
from editclip.data.world_render import render
from editclip.data.world_scene import Scene, random_scene
from editclip.errors import InputError

POOLS = {  # percent of all scene graphs
    "bench": range(10),
    "validation": range(10, 15),
    "test": range(15, 20),
    "train": range(20, 100),
}
ATTEMPTS = 200_000  # draws before a pool counts as exhausted
VISIBLE_LEVELS = 16  # of 255: a pixel that changes by more than this changes visibly
VISIBLE_SHARE = 0.04  # of all pixels: an edit must change as many visibly


@dataclass(frozen=True)
class Pair:
    """A scene before and after a program: the two scenes and their pixels (R x R x 3, 0 to 255)."""

    edit: Edit
    before: Scene
    after: Scene
    pixels: tuple[NDArray[np.uint8], NDArray[np.uint8]]

    @property
    def mask(self) -> NDArray[np.bool_]:
        """R x R: which pixels the edit changed."""
        return np.any(self.pixels[0] != self.pixels[1], axis=-1)

    @property
    def visible(self) -> bool:
        """Whether a viewer would notice the edit."""
        return differ(*self.pixels)

    @property
    def shows_every_part(self) -> bool:
        """Whether a viewer would notice if any part of the edit had been left out: none undoes or hides another."""
        without = (_without(self.before, self.edit.parts, left_out) for left_out in self.edit.parts)
        return all(differ(render(scene, len(self.pixels[1])), self.pixels[1]) for scene in without)

    @property
    def digests(self) -> tuple[str, str]:
        """Digests of the pixels before and after."""
        first, second = (hashlib.sha256(p.tobytes()).hexdigest() for p in self.pixels)
        return first, second


def differ(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    """Whether a viewer would tell two images of R x R x 3 pixels apart."""
    changed = np.abs(one.astype(np.int16) - other.astype(np.int16)).max(-1) > VISIBLE_LEVELS
    return bool(changed.mean() >= VISIBLE_SHARE)


def _without(scene: Scene, parts: Sequence[Edit], left_out: Edit) -> Scene:
    """The scene after all parts but one; what cannot be done without that one is not done either."""
    for part in parts:
        if part is not left_out:
            scene = part.apply(scene) or scene
    return scene


def pool(scene: Scene) -> str:
    """The only pool of data that may hold this scene."""
    percent = int(scene.digest[:8], 16) % 100
    return next(name for name, part in POOLS.items() if percent in part)


def draw_pair(
    rng: random.Random,
    edit: Edit,
    pool_name: str,
    resolution: int,
    *,
    unseen: bool | None,
    excluded: Set[str] = frozenset(),
) -> Pair:
    """A random pair of this program with both scenes in one pool. Of one of the family `MULTI`, every part shows.

    Args:
        rng: draws the scenes.
        edit: the program.
        pool_name: one of `POOLS`.
        resolution: side of the images.
        unseen: whether the scene must (True) or must not (False) hold a combination kept out of training; None: either.
        excluded: digests of scene graphs and of pixels that the pair must not have.

    Raises:
        InputError: no fitting pair turned up, which happens when a split asks for more than the world holds.
    """
    for _ in range(ATTEMPTS):
        before = random_scene(rng, edit.wants)
        if unseen is not None and edit.unseen(before) != unseen:
            continue
        if pool(before) != pool_name:
            continue
        after = edit.apply(before)
        if after is None or after == before or pool(after) != pool_name:
            continue
        if before.digest in excluded:
            continue
        pair = Pair(edit, before, after, (render(before, resolution), render(after, resolution)))
        if pair.visible and (edit.family != MULTI or pair.shows_every_part) and excluded.isdisjoint(pair.digests):
            return pair
    raise InputError(f"the world has no further {pool_name} scene for {edit.id}: ask for fewer pairs")


def png(pixels: NDArray[np.uint8]) -> bytes:
    """PNG file of an image."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
