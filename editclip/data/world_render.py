"""Drawing scenes of the procedural world: silhouettes at four times the resolution, box-reduced, composited in RGB."""

import functools
import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFilter
from scipy.ndimage import minimum_filter

from editclip.data.world_scene import CELLS, COLOURS, FORMS, SIZES, Scene, Thing
from editclip.data.world_styles import FUNCTIONS, LUMA

Array = NDArray[np.floating[Any]]
Points = Sequence[tuple[float, float]]
UNITS = 32  # the image side in scene units
SAMPLES = 4  # antialiasing: silhouettes are drawn this many times larger
SOFTNESS = 0.35  # blur of every edge in units, as a lens has: still crisp, and within reach of a small autoencoder


def _ellipse(x: float, y: float, across: float, down: float) -> Points:
    turns = (2 * math.pi * k / 64 for k in range(64))
    return [(x + across * math.cos(t), y + down * math.sin(t)) for t in turns]


def _rectangle(left: float, top: float, right: float, bottom: float) -> Points:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def _star() -> Points:
    corners = ((math.pi * k / 5, 0.5 if k % 2 else 1.12) for k in range(10))
    return [(size * math.sin(turn), -size * math.cos(turn)) for turn, size in corners]


def _heart() -> Points:
    turns = [2 * math.pi * k / 64 for k in range(64)]
    rise = [13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t) for t in turns]
    return [(1.08 * math.sin(t) ** 3, -y / 15.5) for t, y in zip(turns, rise, strict=True)]


_ROOF = ((0.0, -1.1), (1.05, -0.1), (0.8, -0.1), (0.8, 0.95), (-0.8, 0.95), (-0.8, -0.1), (-1.05, -0.1))
SILHOUETTES: dict[str, tuple[Sequence[Points], Sequence[Points]]] = {  # polygons filled, then polygons cut out
    "ball": ([_ellipse(0, 0, 1, 1)], []),
    "box": ([_rectangle(-0.88, -0.88, 0.88, 0.88)], []),
    "triangle": ([((0, -1), (1.05, 0.85), (-1.05, 0.85))], []),
    "star": ([_star()], []),
    "heart": ([_heart()], []),
    "ring": ([_ellipse(0, 0, 1, 1)], [_ellipse(0, 0, 0.45, 0.45)]),
    "cross": ([_rectangle(-0.36, -1, 0.36, 1), _rectangle(-1, -0.36, 1, 0.36)], []),
    "moon": ([_ellipse(0, 0, 1, 1)], [_ellipse(0.5, -0.3, 0.85, 0.85)]),
    "house": ([_ROOF], [_rectangle(-0.2, 0.3, 0.25, 0.95)]),
    "fish": (
        [_ellipse(-0.25, 0, 0.85, 0.68), ((0.25, 0), (1.1, -0.72), (1.1, 0.72))],
        [_ellipse(-0.65, -0.15, 0.14, 0.14)],
    ),
}


def render(scene: Scene, resolution: int) -> NDArray[np.uint8]:
    """Draw `scene`: R x R x 3 RGB, 0 to 255. The same scene always gives the same bytes."""
    image = _background(scene.background, resolution) + scene.shade
    if scene.weather in _BEHIND:
        image = _weather(image, scene.weather)
    for thing in scene.things:
        image = _draw(image, thing)
    if scene.weather and scene.weather not in _BEHIND:
        image = _weather(image, scene.weather)
    image = np.clip(image, 0, 255)
    if scene.style:
        image = FUNCTIONS[scene.style](image)
    return np.rint(np.clip(image, 0, 255)).astype(np.uint8)


def _draw(image: Array, thing: Thing) -> Array:
    side = image.shape[0]
    x, y = (c + s for c, s in zip(CELLS[thing.cell], thing.shift, strict=True))
    radius = thing.radius * SIZES[thing.size]
    outer, inner = _silhouette(thing.shape, thing.form, x, y, radius, side)
    colour = np.array(COLOURS[thing.colour], np.float32)
    brightness = float(colour @ LUMA)
    light = 1.08 - 0.14 * (_grid(side)[1] - y)[..., None] / radius
    fill = colour * light
    opacity = outer[..., None]
    if thing.texture == "glass":
        opacity = outer[..., None] * (1 - 0.72 * inner[..., None])
        fill = fill * 0.6 + 0.4 * 255
    elif thing.texture != "plain":
        mark = colour * 0.4 + 0.6 * 255 if brightness < 120 else colour * 0.45
        pattern = _pattern(thing.texture, x, y, side)[..., None]
        fill = fill * (1 - pattern) + mark * pattern
    outline = colour * 0.6 if brightness > 60 else colour * 0.4 + 0.6 * 150  # black stands out from dark backgrounds
    paint = outline * (1 - inner[..., None]) + fill * inner[..., None]
    return image * (1 - opacity) + paint * opacity


@functools.cache
def _grid(side: int) -> tuple[Array, Array]:
    """x and y of the pixel centres, in scene units."""
    y, x = np.mgrid[:side, :side].astype(np.float32)
    return (x + 0.5) * UNITS / side, (y + 0.5) * UNITS / side


@functools.cache
def _pattern(texture: str, x: float, y: float, side: int) -> Array:
    """Share of each pixel that the texture's mark covers, for a thing centred at (x, y)."""
    across, down = (g - c + UNITS for g, c in zip(_grid(side * SAMPLES), (x, y), strict=True))
    if texture == "striped":
        marked = (down + 1) % 4 < 2
    elif texture == "checkered":
        marked = (across // 3 + down // 3) % 2 < 1
    else:
        marked = np.hypot((across + 2) % 4 - 2, (down + 2) % 4 - 2) < 1.15
    return _coverage(marked, side)


@functools.lru_cache(maxsize=4096)
def _silhouette(shape: str, form: str, x: float, y: float, radius: float, side: int) -> tuple[Array, Array]:
    """Coverage (0 to 1) of the whole shape, and of what lies inside its outline."""
    scale = side * SAMPLES / UNITS
    canvas = Image.new("L", (side * SAMPLES, side * SAMPLES))
    pen = ImageDraw.Draw(canvas)
    matrix = radius * np.array(FORMS[form])
    for polygons, value in zip(SILHOUETTES[shape], (255, 0), strict=True):
        for points in polygons:
            places = (np.array(points) @ matrix.T + (x, y)) * scale
            pen.polygon([(float(a), float(b)) for a, b in places], fill=value)
    erosion = 2 * max(1, round(0.6 * scale)) + 1  # 0.6 units of outline
    inner = Image.fromarray(minimum_filter(np.asarray(canvas), erosion, mode="nearest"))
    outer, inside = _reduced(canvas, side), _reduced(inner, side)
    return outer, np.divide(inside, outer, out=np.zeros_like(outer), where=outer > 0)


def _reduced(canvas: Image.Image, side: int) -> Array:
    """Coverage (0 to 1) of each pixel by what is 255 on the enlarged canvas, with soft edges."""
    blurred = canvas.filter(ImageFilter.GaussianBlur(SOFTNESS * side * SAMPLES / UNITS))
    return np.asarray(blurred.reduce(SAMPLES), np.float32) / 255


def _coverage(marked: NDArray[np.bool_], side: int) -> Array:
    """Coverage (0 to 1) of each pixel by what is marked on a grid `SAMPLES` times as fine."""
    return _reduced(Image.fromarray(marked.astype(np.uint8) * 255), side)


def _blend(image: Array, colour: tuple[int, int, int], opacity: ArrayLike) -> Array:
    cover = np.asarray(opacity, np.float32)
    cover = cover[..., None] if cover.ndim else cover
    return image * (1 - cover) + np.array(colour, np.float32) * cover


def _gradient(side: int, top: tuple[int, int, int], bottom: tuple[int, int, int]) -> Array:
    share = (_grid(side)[1] / UNITS)[..., None]
    return np.array(top, np.float32) * (1 - share) + np.array(bottom, np.float32) * share


def _below(side: int, line: Array | float) -> Array:
    """Coverage of the area under `line` (y in units), with a one-pixel soft edge."""
    return np.clip((_grid(side)[1] - line) * side / UNITS + 0.5, 0, 1).astype(np.float32)


def _dots(side: int, count: int, radius: float, seed: str) -> Array:
    """Coverage of `count` small discs at fixed pseudo-random places."""
    rng = random.Random(seed)
    x, y = _grid(side)
    cover = np.zeros((side, side), np.float32)
    for _ in range(count):
        distance = np.hypot(x - rng.uniform(0, UNITS), y - rng.uniform(0, UNITS))
        cover = np.maximum(cover, np.clip((radius - distance) * side / UNITS + 0.5, 0, 1))
    return cover


@functools.cache
def _background(name: str, side: int) -> Array:
    x, y = _grid(side)
    if name == "meadow":
        image = _gradient(side, (120, 190, 250), (220, 240, 255))
        return _blend(image, (110, 190, 90), _below(side, 18 + 2 * np.sin(x / 6)))
    if name == "beach":
        image = _gradient(side, (170, 220, 250), (235, 245, 250))
        image = _blend(image, (60, 150, 200), _below(side, 12))
        return _blend(image, (238, 214, 160), _below(side, 19 + np.sin(x / 4)))
    if name == "desert":
        image = _gradient(side, (250, 205, 150), (255, 235, 200))
        image = _blend(image, (225, 160, 90), _below(side, 15 + 3 * np.sin(x / 7 + 1)))
        return _blend(image, (205, 135, 70), _below(side, 23 + 3 * np.sin(x / 6 + 4)))
    if name == "snow":
        image = _gradient(side, (165, 180, 200), (205, 215, 225))
        return _blend(image, (240, 245, 250), _below(side, 17 + 2 * np.sin(x / 5 + 2)))
    if name == "space":
        return _blend(_gradient(side, (14, 12, 40), (48, 26, 80)), (255, 250, 220), 0.7 * _dots(side, 20, 0.6, "stars"))
    if name == "sea":
        image = _gradient(side, (40, 160, 190), (10, 50, 110))
        return _blend(image, (130, 215, 230), 0.5 * _dots(side, 12, 1.0, "bubbles"))
    if name == "wall":
        return _blend(_gradient(side, (178, 104, 84), (160, 90, 74)), (196, 150, 132), _mortar(side))
    return _gradient(side, (200, 120, 190), (255, 200, 150))  # sunrise


def _mortar(side: int) -> Array:
    """Coverage of the lines between bricks."""
    x, y = _grid(side * SAMPLES)
    return _coverage((y % 4 < 0.9) | ((x + 4 * (y // 4 % 2)) % 8 < 0.9), side)


_BEHIND = ("sun", "rainbow")  # weather that things stand in front of


@functools.cache
def _streaks(side: int) -> Array:
    """Coverage of slanting drops of rain."""
    x, y = _grid(side * SAMPLES)
    across = x + y * 0.5
    return _coverage((across % 5 < 1.1) & ((y + 7 * (across // 5)) % 11 < 7), side)


def _weather(image: Array, name: str) -> Array:
    side = image.shape[0]
    x, y = _grid(side)
    soft = side / UNITS
    if name == "sun":
        distance = np.hypot(x - 16, y - 6)
        image = _blend(image, (255, 235, 130), 0.7 * np.clip(1.4 - distance / 7, 0, 1))
        return _blend(image, (255, 215, 20), np.clip((4.5 - distance) * soft + 0.5, 0, 1))
    if name == "rainbow":
        distance = np.hypot(x - 16, y - 26)
        for band, colour in enumerate(((225, 60, 60), (250, 200, 60), (80, 190, 90), (80, 110, 230))):
            inside = np.clip((23 - 2 * band - distance) * soft + 0.5, 0, 1)
            image = _blend(image, colour, 0.85 * inside * np.clip((distance - 15) * soft + 0.5, 0, 1))
        return image
    if name == "rain":
        return _blend(_blend(image, (120, 130, 150), 0.3), (215, 232, 250), 0.9 * _streaks(side))
    if name == "snowfall":
        return _blend(image, (255, 255, 255), 0.9 * _dots(side, 32, 1.0, "flakes"))
    edge = np.minimum(np.minimum(x, UNITS - x), np.minimum(y, UNITS - y))
    within, rim = (np.clip((width - edge) * soft + 0.5, 0, 1) for width in (3.2, 2.0))
    return _blend(_blend(image, (110, 75, 20), within), (212, 170, 60), rim)
