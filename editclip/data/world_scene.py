"""The scene graph of the procedural world: backgrounds and things, their words, and random draws of them.

A scene is composed of one background and up to two things, each in one of four cells, so that a CLIP patch of half
the image side sees one thing. Coordinates are units of 1/32 of the image side, whatever the resolution.
"""

import functools
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass

from editclip.storage import digest

COLOURS = {
    "red": (214, 40, 40),
    "orange": (244, 140, 30),
    "yellow": (250, 220, 60),
    "green": (50, 160, 70),
    "blue": (45, 95, 215),
    "purple": (140, 60, 180),
    "white": (246, 246, 246),
    "black": (38, 38, 42),
}
SHAPES = ("ball", "box", "triangle", "star", "heart", "ring", "cross", "moon", "house", "fish")
TEXTURES = ("striped", "spotted", "checkered", "glass")
_TILT = math.radians(35)
FORMS = {  # name -> what becomes of the silhouette: rows of the matrix that maps its (x, y)
    "": ((1.0, 0.0), (0.0, 1.0)),
    "stretched": ((0.6, 0.0), (0.0, 1.25)),
    "flattened": ((1.25, 0.0), (0.0, 0.6)),
    "tilted": ((math.cos(_TILT), -math.sin(_TILT)), (math.sin(_TILT), math.cos(_TILT))),
}
BACKGROUNDS = {  # name -> where the scene is, in words
    "meadow": "in a meadow",
    "beach": "on a beach",
    "desert": "in a desert",
    "snow": "in a snowy field",
    "space": "in outer space",
    "sea": "under the sea",
    "wall": "in front of a brick wall",
    "sunrise": "in front of a pink sunrise",
}
WEATHERS = {  # name -> what a caption adds
    "sun": "under a bright sun",
    "rainbow": "under a rainbow",
    "rain": "in the rain",
    "snowfall": "in falling snow",
    "frame": "inside a golden frame",
}
STYLES = {  # name -> what a caption calls the picture
    "greyscale": "a black and white photo",
    "sepia": "a sepia photo",
    "negative": "a photographic negative",
    "night": "a night view",
    "poster": "a flat poster",
    "sketch": "a pencil sketch",
    "blur": "a blurry picture",
    "mosaic": "a pixelated picture",
    "sunset": "a sunset view",
    "fog": "a foggy view",
    "blueprint": "a blueprint",
    "pop_art": "a pop art print",
    "vintage": "a faded vintage photo",
    "night_vision": "a night vision picture",
    "thermal": "a thermal camera picture",
    "neon": "a neon drawing",
}
CELLS = {  # name -> centre (x, y)
    "top left": (8, 8),
    "top right": (24, 8),
    "bottom left": (8, 24),
    "bottom right": (24, 24),
}
SIZES = {"": 1.0, "big": 1.35, "small": 0.5}  # factor on the radius
RADII = (6.5, 7.0, 7.5)
SHADES = range(-8, 9)  # brightness added to the background, of 255


@dataclass(frozen=True)
class Thing:
    """One object: what it is, where it is, and the small jitter that no caption mentions."""

    shape: str
    colour: str
    cell: str
    texture: str = "plain"
    size: str = ""
    form: str = ""
    shift: tuple[int, int] = (0, 0)
    radius: float = 7.0

    @property
    def words(self) -> str:
        """For example "small tilted striped red star"."""
        parts = (self.size, self.form, "" if self.texture == "plain" else self.texture, self.colour, self.shape)
        return " ".join(p for p in parts if p)


@dataclass(frozen=True)
class Scene:
    """A background, its things, and the effects that an edit has put over them."""

    background: str
    things: tuple[Thing, ...]
    shade: int = 0
    weather: str = ""
    style: str = ""

    @functools.cached_property
    def digest(self) -> str:
        """Digest of the scene graph without jitter: scenes that differ by jitter alone count as the same.

        An empty scene is nothing but its background and shade, so there the shade counts.
        """
        things = sorted((t.cell, t.shape, t.colour, t.texture, t.size, t.form) for t in self.things)
        return digest(self.background, self.weather, self.style, things or self.shade)

    @property
    def caption(self) -> str:
        """The scene in one English sentence fragment, as CLIP's training text."""
        ordered = sorted(self.things, key=lambda t: tuple(CELLS).index(t.cell))
        what = " and ".join(f"{article(t.words)} {t.words}" for t in ordered) or "an empty scene"
        text = f"{what} {BACKGROUNDS[self.background]}"
        if self.weather:
            text += f" {WEATHERS[self.weather]}"
        return f"{STYLES[self.style]} of {text}" if self.style else text


def article(words: str) -> str:
    """ "a" or "an", by the first letter."""
    return "an" if words[0] in "aeiou" else "a"


def random_scene(rng: random.Random, first: Mapping[str, str]) -> Scene:
    """A random scene whose first thing has the attributes `first` (shape, colour); shapes and colours are distinct."""
    count = rng.choice((1, 2, 2))
    cells = rng.sample(tuple(CELLS), count)
    shapes = _distinct(rng, SHAPES, first.get("shape"), count)
    colours = _distinct(rng, tuple(COLOURS), first.get("colour"), count)
    things = tuple(
        Thing(
            shape,
            colour,
            cell,
            texture=rng.choice(TEXTURES[:3]) if rng.random() < 0.2 else "plain",
            shift=(rng.randint(-1, 1), rng.randint(-1, 1)),
            radius=rng.choice(RADII),
        )
        for shape, colour, cell in zip(shapes, colours, cells, strict=True)
    )
    return Scene(rng.choice(tuple(BACKGROUNDS)), things, shade=rng.choice(SHADES))


def _distinct(rng: random.Random, values: tuple[str, ...], first: str | None, count: int) -> list[str]:
    if first is None:
        return rng.sample(values, count)
    return [first, *rng.sample([v for v in values if v != first], count - 1)]
