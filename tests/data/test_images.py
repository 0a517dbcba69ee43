"""Every accepted file becomes the right RGB pixels; bad files are refused by name."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from editclip.data.images import read_image, squash
from editclip.errors import InputError


def save(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def huge_png(side: int) -> bytes:
    """A PNG of under 100 bytes whose header declares side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def pixel(data: bytes, at: tuple[int, int] = (0, 0)) -> tuple:
    image = read_image(data)
    assert image.mode == "RGB"
    return image.getpixel(at)


def test_transparency_is_composited_on_white():
    # alpha 128 of 255: 200 -> 200 * 128/255 + 255 * 127/255 = 227.4, 0 -> 127
    for image in (Image.new("RGBA", (2, 2), (200, 0, 0, 128)), Image.new("LA", (2, 2), (200, 128))):
        assert pixel(save(image))[0] == pytest.approx(227.4, abs=1)
    assert pixel(save(Image.new("RGBA", (2, 2), (200, 0, 0, 128))))[1] == pytest.approx(127, abs=1)
    assert pixel(save(Image.new("RGBA", (2, 2), (9, 9, 9, 0)))) == (255, 255, 255)


def test_palette_with_and_without_transparency():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    assert [pixel(save(image), (x, 0)) for x in (0, 1)] == [(10, 20, 30), (200, 100, 50)]
    assert [pixel(save(image, transparency=0), (x, 0)) for x in (0, 1)] == [(255, 255, 255), (200, 100, 50)]


def test_grey_of_8_and_16_bits():
    assert pixel(save(Image.new("L", (2, 2), 77))) == (77, 77, 77)
    levels = np.array([[0, 256, 32768, 65535]], np.uint16)
    image = read_image(save(Image.fromarray(levels)))
    # scaled by 255 / 65535, not clipped at 255: 256 -> 0.996, 32768 -> 127.5019
    assert [image.getpixel((x, 0))[0] for x in range(4)] == [0, 1, 128, 255]


def test_cmyk_jpeg():
    data = save(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100)
    np.testing.assert_allclose(pixel(data, (8, 8)), (255, 0, 0), atol=3)  # no cyan, full magenta and yellow = red


def test_exif_rotation_is_applied():
    image = Image.new("RGB", (32, 16), "black")
    image.paste("white", (0, 0, 16, 16))  # left half white
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate 90 degrees clockwise to view" (EXIF 2.3, orientation)
    upright = read_image(save(image, "JPEG", exif=exif, quality=100))
    assert upright.size == (16, 32)
    np.testing.assert_allclose([upright.getpixel((8, y))[0] for y in (3, 28)], [255, 0], atol=3)  # left is now the top


def test_non_square_is_squashed_not_cropped():
    image = Image.new("RGB", (40, 10), "black")
    image.paste("white", (20, 0, 40, 10))
    small = squash(image, 8)
    assert small.size == (8, 8)
    assert [small.getpixel((x, 4))[0] for x in (0, 7)] == [0, 255]


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_truncated(kind, tmp_path):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    path = tmp_path / "cut"
    path.write_bytes(save(noise, kind)[:-2000])
    with pytest.raises(InputError, match=r"cut is damaged .*replace the file"):
        read_image(path)


@pytest.mark.parametrize("max_pixels", [50_000_000, 1_000_000_000])
def test_huge_image_is_refused_from_its_header(max_pixels):
    data = huge_png(40_000)  # decoded it would take 4.8 GB
    assert len(data) < 100
    with pytest.raises(InputError, match=rf"x.png is 40000 x 40000 pixels, more than max_pixels = {max_pixels}"):
        read_image(data, "x.png", max_pixels=max_pixels)
    assert Image.MAX_IMAGE_PIXELS is not None, "Pillow's own limit is restored"


def test_limit_is_inclusive():
    data = save(Image.new("RGB", (10, 10)))
    assert read_image(data, max_pixels=100).size == (10, 10)
    with pytest.raises(InputError, match="10 x 10"):
        read_image(data, max_pixels=99)


def test_no_image_and_no_file(tmp_path):
    with pytest.raises(InputError, match="a.png is not an image"):
        read_image(b"<html>", "a.png")
    with pytest.raises(InputError, match=r"gone\.png does not exist"):
        read_image(tmp_path / "gone.png")
