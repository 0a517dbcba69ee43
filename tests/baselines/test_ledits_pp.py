"""LEDITS++: diffusers' pipeline on one image, and what that pipeline cannot do."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import LEditsPPPipelineStableDiffusion, StableDiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor2_0
from editing_toys import entry, write_text_to_image
from PIL import Image
from transformers import CLIPTokenizer

from baselines.ledits_pp.masks import attention_mask, noise_mask
from baselines.ledits_pp.method import LEDITSPP
from editclip.data.bench import Bench
from editclip.editing import EditRequest, noise_generators
from editclip.editing.cards import parse_method
from editclip.editing.requests import Requests
from editclip.errors import InputError

QUICK = {"num_inference_steps": 6, "skip": 0.2}
Load = Callable[..., LEDITSPP]


@pytest.fixture(scope="session", params=["epsilon", "v_prediction"])
def folder(request: pytest.FixtureRequest, weights: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of either prediction type."""
    folder = tmp_path_factory.mktemp("text_to_image")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        write_text_to_image(folder, weights["ip2p"], prediction_type=request.param)
    return folder


@pytest.fixture
def load(folder: Path) -> Load:
    """The method with few steps, on that model."""

    def load(**options: Any) -> LEDITSPP:
        method = parse_method(entry("baselines.ledits_pp", options=QUICK | options))
        loaded: LEDITSPP = method.load({"text_to_image": folder}, "cpu", "edit")
        return loaded

    return load


@pytest.fixture
def asked(bench: Bench) -> list[EditRequest]:
    """Three requests with captions of different lengths."""
    requests = Requests(bench, parse_method(entry("baselines.ledits_pp")), 0)
    found = [requests.request(sample, {}, 0) for sample in bench.samples[::5]]
    captions = ("a red house", "snow", "a ship at sea")
    return [replace(r, caption_after=c, instruction=f"make {c}") for r, c in zip(found, captions, strict=True)]


class Counting(CLIPTokenizer):
    """A tokenizer whose lengths are those without padding, as they were when diffusers' pipeline was written."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        found = super().__call__(*args, **kwargs)
        if kwargs.get("return_length"):
            found["length"] = found["attention_mask"].sum(1)
        return found


def bare(
    folder: Path,
    requests: list[EditRequest],
    tokenizer: type[CLIPTokenizer] = Counting,
    skip: float = QUICK["skip"],
    **edit: Any,
) -> Any:
    """Images of diffusers' own pipeline, one by one."""
    stock = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    tokens = tokenizer.from_pretrained(str(folder / "tokenizer"))
    parts = {name: getattr(stock, name) for name in ("vae", "text_encoder", "unet", "scheduler")}
    pipeline = LEditsPPPipelineStableDiffusion(
        **parts, tokenizer=tokens, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    images = []
    for request in requests:
        generator = noise_generators([request])[0]
        pipeline.invert(request.query, num_inversion_steps=6, skip=skip, generator=generator)
        images += pipeline(editing_prompt=[request.caption_after], output_type="np", **edit).images.tolist()
    return np.array(images) * 255


@pytest.mark.parametrize(
    ("options", "edit"),
    [
        ({}, {"edit_guidance_scale": 10.0, "edit_threshold": 0.75}),
        ({"edit_guidance_scale": 3.0, "edit_threshold": 0.4}, {"edit_guidance_scale": 3.0, "edit_threshold": 0.4}),
        ({"mask": "noise"}, {"edit_guidance_scale": 10.0, "edit_threshold": 0.75, "use_intersect_mask": False}),
        ({"edit_guidance_scale": 0.0}, {"edit_guidance_scale": 0.0, "edit_threshold": 0.75}),
        ({"skip": 0.0}, {"skip": 0.0, "edit_guidance_scale": 10.0, "edit_threshold": 0.75}),  # first timestep: 853
    ],
)
def test_a_batch_is_what_diffusers_pipeline_makes_of_each_image(
    load: Load, folder: Path, asked: list[EditRequest], options: dict[str, Any], edit: dict[str, Any]
) -> None:
    expected = bare(folder, asked, **edit)
    for image, wanted in zip(load(**options).edit(asked), expected, strict=True):
        assert np.abs(np.asarray(image) - wanted).max() < 1.5  # half a level is rounding


def test_without_a_concept_the_query_comes_back_if_the_last_noise_is_kept(load: Load, asked: list[EditRequest]) -> None:
    clean = torch.randn(3, 4, 16, 16, generator=torch.Generator().manual_seed(0))

    def lost(**options: Any) -> tuple[float, float]:
        """Share of the latents' length, and the length of the last noise map."""
        sampler = load(edit_guidance_scale=0.0, **options).sampler
        with torch.inference_mode():
            start, maps = sampler.invert(clean, noise_generators(asked))
            back = sampler.sample(start, maps, ["any"] * 3)
        return float((back - clean).norm() / clean.norm()), float(maps[-1].norm())

    kept, released = lost(keep_last_noise=True), lost()
    assert kept[0] < 1e-5 and kept[1] > 0 and released[1] == 0
    assert released[0] > 1000 * kept[0]
    assert lost(keep_last_noise=True, num_inference_steps=16)[0] < 1e-5  # more steps end in second order


def test_the_tokens_of_a_concept_are_counted_without_padding(
    load: Load, folder: Path, asked: list[EditRequest]
) -> None:
    """Every letter is a token of the toy; the tokenizer's own length, which diffusers takes, is the padded one."""
    tokenizer = CLIPTokenizer.from_pretrained(str(folder / "tokenizer"))
    padded = tokenizer(["snow"], padding="max_length", return_length=True)["length"]
    assert list(padded) == [77]
    method = load()
    assert method.sampler.model.token_counts(["snow", "a red house", "x" * 200]) == [4, 9, 75]
    edit = {"edit_guidance_scale": 10.0, "edit_threshold": 0.75}
    ours = np.array([np.asarray(image) for image in method.edit(asked)])
    assert np.abs(ours - bare(folder, asked, CLIPTokenizer, **edit)).max() > 1.5


def test_a_batch_is_its_single_calls(load: Load, asked: list[EditRequest]) -> None:
    for options in ({}, {"mask": "noise", "concept": "instruction"}, {"inversion_batch_size": 1}):
        method = load(**options)
        for image, request in zip(method.edit(asked), asked, strict=True):
            alone = np.asarray(method.edit([request])[0], int)
            assert (np.abs(np.asarray(image, int) - alone) <= 1).mean() > 0.999


def test_concept_mask_and_seed_matter(load: Load, asked: list[EditRequest]) -> None:
    first = asked[0]
    changes: list[dict[str, Any]] = [{}, {"caption_after": "snow"}, {"seed": 1}]
    images = [load().edit([replace(first, **change)])[0] for change in changes]
    for options in ({"mask": "noise"}, {"concept": "instruction"}, {"edit_threshold": 0.2}, {"skip": 0.5}):
        images += load(**options).edit([first])
    assert len({image.tobytes() for image in images}) == len(images)
    assert load().edit([replace(first, instruction="let it snow")])[0].tobytes() == images[0].tobytes()


def test_the_unet_has_its_processors_back(load: Load, asked: list[EditRequest]) -> None:
    method = load()
    unet = method.sampler.model.unet
    before = unet.attn_processors
    assert {type(processor) for processor in before.values()} == {AttnProcessor2_0}
    method.edit(asked)
    assert unet.attn_processors == before
    with torch.no_grad():
        unet.conv_out.bias.fill_(torch.nan)
    with pytest.raises((FloatingPointError, RuntimeError)):
        method.edit(asked)
    assert unet.attn_processors == before


def test_masks_by_hand() -> None:
    change = torch.zeros(2, 3, 4, 4)
    change[0, 0, 0, 0], change[0, 2, 0, 1], change[1, 1, 3, 3] = -5, 4, 1
    found = noise_mask(change, 15 / 16)
    assert found.shape == (2, 1, 4, 4) and found[0].nonzero().tolist() == [[0, 0, 0]]
    assert found[1].nonzero().tolist() == [[0, 3, 3]]
    attention = torch.zeros(1, 9)
    attention[0, 8] = 1
    upper = attention_mask(attention, (12, 12), 8 / 9)[0, 0]
    expected = torch.zeros(12, 12)
    expected[8:, 8:] = 1  # a ninth of the map, enlarged to its part of the latent
    assert torch.equal(upper, expected)


def test_a_frame_that_diffusers_refuses(load: Load, folder: Path, asked: list[EditRequest]) -> None:
    """The sides that a quarter of the latent allows: multiples of 8 here, where diffusers wants multiples of 32."""
    small = [replace(request, query=request.query.resize((24, 24))) for request in asked]
    with pytest.raises(ValueError, match="factor of 32"):
        bare(folder, small)
    assert [image.size for image in load().edit(small)] == [(24, 24)] * 3
    with pytest.raises(InputError, match=r"images are \(28, 28\) pixels; make both sides multiples of 8"):
        load().edit([replace(asked[0], query=asked[0].query.resize((28, 28), Image.Resampling.BICUBIC))])


def test_a_unet_without_small_attention_needs_the_other_mask(
    weights: dict[str, Path], asked: list[EditRequest]
) -> None:
    """The toy InstructPix2Pix's UNet attends at half the latent's side alone."""
    base = {"text_to_image": weights["prompt_diffusion"]}

    def edit(mask: str) -> list[Image.Image]:
        method = parse_method(entry("baselines.ledits_pp", options=QUICK | {"mask": mask}))
        loaded: LEDITSPP = method.load(base, "cpu", "edit")
        return loaded.edit(asked)

    with pytest.raises(InputError, match="no cross-attention of 16 pixels, .* set mask: noise"):
        edit("intersect")
    assert len(edit("noise")) == 3


def test_a_missing_caption_is_named(load: Load, asked: list[EditRequest]) -> None:
    with pytest.raises(InputError, match="this request has no caption_after; list 'caption_after' in the card's NEEDS"):
        load().edit([replace(asked[0], caption_after=None)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concept": "caption_before"}, "concept 'caption_before' must be one of caption_after, instruction"),
        ({"mask": "attention"}, "mask 'attention' must be one of intersect, noise"),
        ({"precision": "half"}, "precision 'half' must be one of float32, float16, bfloat16"),
        ({"num_inference_steps": 1}, "num_inference_steps 1 must be from 2 to 400"),
        ({"skip": 1.5}, "skip 1.5 must be from 0 to 1"),
        ({"edit_threshold": -0.1}, "edit_threshold -0.1 must be from 0 to 1"),
        ({"edit_guidance_scale": -1.0}, "edit_guidance_scale -1.0 must not be negative"),
        ({"inversion_batch_size": 0}, "inversion_batch_size 0 must be from 1"),
    ],
)
def test_bad_options_are_refused(weights: dict[str, Path], options: dict[str, Any], message: str) -> None:
    method = parse_method(entry("baselines.ledits_pp", options=options))
    with pytest.raises(InputError, match=message):
        method.load(weights, "cpu", "edit")
