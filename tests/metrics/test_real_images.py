"""Preprocessing and token ids on optional real images against published check values (30 MagicBrush pairs).

The values were computed with PIL: frame squashed to 256 px, then CLIP's 224 px, both halves of the pair in 6 channels.
"""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from editclip.model import EditCLIP, image_processor, pair_pixels

MEANS = {
    0: (0.27251, -0.20616, -0.06168, 0.29454, -0.18678, -0.03999),
    19: (0.27300, 0.56801, -0.14251, 0.15571, 0.47676, -0.00331),
    21: (0.80286, 0.95707, 0.84349, 0.72879, 1.01834, 1.11060),
}
SUM_OF_SQUARES = {0: 401046.77, 19: 267394.80, 21: 622072.16}


def pairs(folder: Path) -> dict[int, dict[str, str]]:
    with (folder / "pairs.csv").open(newline="", encoding="utf-8") as file:
        return {int(row["id"]): row for row in csv.DictReader(file)}


@pytest.mark.parametrize("number", sorted(MEANS))
def test_pixels_of_a_real_pair(number: int, editclip_folder: Path, real_images: Callable[[str], Path]) -> None:
    data = real_images("magicbrush30")
    row = pairs(data)[number]
    frames = []
    for side in ("source", "target"):
        with Image.open(data / row[side]) as image:
            frames.append(image.convert("RGB").resize((256, 256), Image.Resampling.BICUBIC))
    pixels = pair_pixels([frames[0]], [frames[1]], image_processor(editclip_folder, 224))
    assert pixels.shape == (1, 6, 224, 224)
    assert pixels.mean(dim=(0, 2, 3)).tolist() == pytest.approx(MEANS[number], abs=1e-5)
    assert float(pixels.double().square().sum()) == pytest.approx(SUM_OF_SQUARES[number], abs=0.05)


def test_token_ids_of_a_real_instruction(editclip_folder: Path, real_images: Callable[[str], Path]) -> None:
    instruction = pairs(real_images("magicbrush30"))[0]["instruction"]
    tokens = EditCLIP.load(editclip_folder).tokenizer(instruction)["input_ids"]
    assert tokens == [49406, 1799, 518, 2175, 556, 320, 1929, 49407]
