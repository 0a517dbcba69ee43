"""InstructPix2Pix: the stock pipeline's images, one by one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
from editing_toys import entry

from editclip.data.bench import Bench
from editclip.editing import Editor, EditRequest
from editclip.editing.cards import parse_method
from editclip.editing.requests import Requests

OPTIONS = {"num_inference_steps": 3}


@pytest.fixture
def editor(weights: dict[str, Path]) -> Editor:
    """The method with few steps."""
    return parse_method(entry("baselines.ip2p", options=OPTIONS)).load(weights, "cpu", "edit")


@pytest.fixture
def asked(bench: Bench) -> list[EditRequest]:
    """Three requests with different instructions."""
    requests = Requests(bench, parse_method(entry("baselines.ip2p")), 0)
    return [requests.request(sample, {}, 0) for sample in bench.samples[::5]]


@pytest.mark.parametrize("guidance", [(7.5, 1.5), (7.5, 1.0), (1.0, 1.0)])
def test_batch_equals_the_stock_pipeline_called_directly(
    asked: list[EditRequest], weights: dict[str, Path], guidance: tuple[float, float]
) -> None:
    scales = dict(zip(("guidance_scale", "image_guidance_scale"), guidance, strict=True))
    method = parse_method(entry("baselines.ip2p", options=OPTIONS | scales))
    editor = method.load(weights, "cpu", "edit")
    stock = StableDiffusionInstructPix2PixPipeline.from_pretrained(weights["ip2p"], safety_checker=None)
    stock.set_progress_bar_config(disable=True)
    for image, request in zip(editor.edit(asked), asked, strict=True):
        generator = torch.Generator().manual_seed(request.seed)
        expected = stock(
            request.instruction,
            request.query,
            num_inference_steps=3,
            generator=generator,
            **scales,
        ).images[0]
        assert np.abs(np.asarray(image, int) - np.asarray(expected, int)).max() <= 1


def test_the_instruction_and_the_seed_matter(editor: Editor, asked: list[EditRequest]) -> None:
    first = asked[0]
    images = editor.edit([first, replace(first, instruction="let it snow"), replace(first, seed=1)])
    assert len({image.tobytes() for image in images}) == 3


def test_queries_of_other_modes_are_read_as_rgb(editor: Editor, asked: list[EditRequest]) -> None:
    transparent = replace(asked[0], query=asked[0].query.convert("RGBA"))
    assert editor.edit([transparent])[0].tobytes() == editor.edit(asked[:1])[0].tobytes()


def test_a_diverged_model_raises_instead_of_a_black_image(editor: Editor, asked: list[EditRequest]) -> None:
    with torch.no_grad():
        editor._pipeline.unet.conv_out.bias.fill_(torch.nan)  # type: ignore[attr-defined]
    with pytest.raises(FloatingPointError, match="not finite"):
        editor.edit(asked)
