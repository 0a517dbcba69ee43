"""Global looks of the procedural world: each maps an RGB array (R x R x 3, float, 0 to 255) to another."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Array = NDArray[np.floating[Any]]

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_SEPIA = np.array([[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]], np.float32)


def _luma(image: Array) -> Array:
    return image @ LUMA


def _ramp(level: Array, *colours: tuple[int, int, int]) -> Array:
    """Colour ramp: `level` (0 to 255) runs evenly through `colours`."""
    stops = np.linspace(0, 255, len(colours))
    return np.stack([np.interp(level, stops, channel) for channel in zip(*colours, strict=True)], -1).astype(np.float32)


def _edges(image: Array) -> Array:
    """Strength of the luma gradient, 0 to about 255."""
    luma = np.pad(_luma(image), 1, mode="edge")
    across = luma[1:-1, 2:] - luma[1:-1, :-2]
    down = luma[2:, 1:-1] - luma[:-2, 1:-1]
    return np.hypot(across, down)


def _filtered(image: Array, filter_: ImageFilter.Filter) -> Array:
    return np.asarray(_picture(image).filter(filter_), np.float32)


def _picture(image: Array) -> Image.Image:
    return Image.fromarray(np.rint(np.clip(image, 0, 255)).astype(np.uint8))


def _mosaic(image: Array) -> Array:
    side = image.shape[0]
    small = _picture(image).resize((8, 8), Image.Resampling.BOX)
    return np.asarray(small.resize((side, side), Image.Resampling.NEAREST), np.float32)


def _sunset(image: Array) -> Array:
    side = image.shape[0]
    glow = np.linspace(1, 0.3, side, dtype=np.float32)[:, None, None]
    return image * np.array([1.0, 0.72, 0.55], np.float32) + glow * np.array([70, 20, 0], np.float32)


FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "greyscale": lambda x: np.repeat(_luma(x)[..., None], 3, -1),
    "sepia": lambda x: x @ _SEPIA.T * 0.85,
    "negative": lambda x: 255 - x,
    "night": lambda x: x * np.array([0.28, 0.33, 0.55], np.float32),
    "poster": lambda x: np.rint(x / 127.5) * 127.5,
    "sketch": lambda x: np.repeat((250 - 1.1 * _edges(x))[..., None], 3, -1),
    "blur": lambda x: _filtered(x, ImageFilter.GaussianBlur(x.shape[0] * 1.6 / 32)),
    "mosaic": _mosaic,
    "sunset": _sunset,
    "fog": lambda x: 0.4 * x + 0.6 * 225,
    "blueprint": lambda x: _ramp(_edges(x), (30, 60, 140), (225, 235, 255)),
    "pop_art": lambda x: _ramp(np.clip(4 * (_luma(x) - 128) + 128, 0, 255), (200, 20, 130), (255, 225, 40)),
    "vintage": lambda x: _ramp(_luma(x), (70, 45, 80), (180, 140, 120), (250, 235, 190)) * 0.7 + 0.3 * x,
    "night_vision": lambda x: _ramp(_luma(x), (0, 25, 5), (60, 240, 90)),
    "thermal": lambda x: _ramp(_luma(x), (20, 0, 90), (180, 20, 120), (250, 130, 20), (255, 250, 170)),
    "neon": lambda x: x * np.minimum(_edges(x) / 80, 1.0)[..., None] + np.array([18, 8, 36], np.float32),
}
