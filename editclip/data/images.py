"""Reading image files into one canonical form: RGB, upright, without transparency, at one resolution.

Nothing is decoded before the size in the header was checked, so a small file that declares a huge image is refused.
"""

import io
import threading
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from editclip.errors import InputError

MAX_PIXELS = 178_956_970  # where Pillow itself refuses (half a gibibyte of RGB)

_OPENING = threading.Lock()  # Image.MAX_IMAGE_PIXELS is a global of Pillow


def read_image(source: Path | bytes, name: str | None = None, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode a file into an upright RGB image; transparency is composited on white.

    Palette, grey (16-bit grey is scaled, not clipped), CMYK and EXIF-rotated files are all converted.

    Args:
        source: the file, or its bytes.
        name: what an error calls the image (default: the path).
        max_pixels: larger images are refused from their header.

    Raises:
        InputError: the file is missing, not an image, truncated, or too large.
    """
    name = name or str(source)
    try:
        with _open(source) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise InputError(
                    f"{name} is {width} x {height} pixels, more than max_pixels = {max_pixels}: "
                    "make it smaller or raise max_pixels"
                )
            image.load()
            return to_rgb(ImageOps.exif_transpose(image))
    except FileNotFoundError as error:
        raise InputError(f"{name} does not exist") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{name} is not an image that can be read: replace it by a PNG or JPEG file") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name} is damaged ({error}): replace the file") from error


def _open(source: Path | bytes) -> Image.Image:
    """Open lazily, without Pillow's own size limit, which is a constant; ours is an argument."""
    with _OPENING:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def to_rgb(image: Image.Image) -> Image.Image:
    """RGB of an image of any mode; transparent parts become white."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.float64) * (255 / 65535)
        return Image.fromarray(np.rint(np.clip(values, 0, 255)).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def squash(image: Image.Image, resolution: int) -> Image.Image:
    """Resize to `resolution` x `resolution` whatever the aspect ratio (antialiased bicubic), as EditCLIP does."""
    return image.resize((resolution, resolution), Image.Resampling.BICUBIC)
