"""EF-DDPM: its noise maps lead back to the query, and a batch is what one call after another makes."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from editing_toys import entry, write_text_to_image
from torch import Tensor

from baselines.ef_ddpm import EFDDPM
from editclip.data.bench import Bench
from editclip.editing import EditRequest, noise_generators
from editclip.editing.cards import parse_method
from editclip.editing.requests import Requests
from editclip.errors import InputError
from editclip.text_to_image import TextToImage

QUICK = {"num_inference_steps": 8, "skip": 3}
Load = Callable[..., EFDDPM]


@pytest.fixture(scope="session", params=["epsilon", "v_prediction"])
def model(
    request: pytest.FixtureRequest, weights: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> TextToImage:
    """A model of either prediction type."""
    folder = tmp_path_factory.mktemp("text_to_image")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        write_text_to_image(folder, weights["ip2p"], prediction_type=request.param)
    return TextToImage.load(folder, "cpu", "float32")


@pytest.fixture
def load(model: TextToImage) -> Load:
    """The method with few steps, on that model."""

    def load(**options: Any) -> EFDDPM:
        return EFDDPM(model, parse_method(entry("baselines.ef_ddpm", options=QUICK | options)).options)

    return load


@pytest.fixture
def asked(bench: Bench) -> list[EditRequest]:
    """Three requests with different queries and all texts."""
    options = {"source": "caption_before"}
    requests = Requests(bench, parse_method(entry("baselines.ef_ddpm", options=options)), 0)
    found = [requests.request(sample, {}, 0) for sample in bench.samples[::5]]
    return [replace(request, instruction=f"make it {n}") for n, request in enumerate(found)]


def latents(method: EFDDPM, asked: list[EditRequest]) -> Tensor:
    with torch.inference_mode():
        return method.model.latents([request.query for request in asked])


def inverted(method: EFDDPM, asked: list[EditRequest], source: list[str] | None = None) -> tuple[Tensor, Tensor]:
    with torch.inference_mode():
        return method.invert(latents(method, asked), source, noise_generators(asked))


def test_the_noise_maps_lead_back_to_the_query(load: Load, asked: list[EditRequest]) -> None:
    options = {"source_guidance_scale": 2.0, "guidance_scale": 2.0}
    clean, texts = torch.randn(3, 4, 16, 16, generator=torch.Generator().manual_seed(0)), ["a house", "a tree", "sea"]

    def lost(**more: Any) -> tuple[Tensor, Tensor]:
        """What sampling under the inversion's own texts and guidance changes, and the last noise maps."""
        method = load(**options, **more)
        with torch.inference_mode():
            start, maps = method.invert(clean, texts, noise_generators(asked))
            return method.sample(start, maps, texts) - clean, maps[-1]

    exact, last = lost(keep_last_noise=True)
    released, zero = lost()
    assert exact.norm() / clean.norm() < 1e-6 and not zero.any()
    # What is left out is σ z of the last step, t = 1, with the released schedule: σ² = (1-ᾱ₀)/(1-ᾱ₁) (1-ᾱ₁/ᾱ₀).
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    first, second = (1 - betas).cumprod(0)[:2].tolist()
    deviation = math.sqrt((1 - first) / (1 - second) * (1 - second / first))
    assert deviation == pytest.approx(0.0206, abs=1e-4)
    torch.testing.assert_close(released, -deviation * last, rtol=1e-3, atol=1e-5)
    assert released.norm() > 1000 * exact.norm()


def test_a_step_in_closed_form(load: Load, asked: list[EditRequest]) -> None:
    """One kept step, t = 1: from x₁ with the null output alone, by DDPM's posterior (arXiv:2006.11239, equation 7)."""
    method = load(skip=7, keep_last_noise=True, guidance_scale=0.0)
    clean, (start, maps) = latents(method, asked), inverted(method, asked)
    assert method.timesteps.tolist() == [1] and maps.shape == (1, *clean.shape)
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    after, now = (1 - betas).cumprod(0)[:2]
    noise = torch.cat([torch.randn(1, *clean.shape[1:], generator=g) for g in noise_generators(asked)])
    torch.testing.assert_close(start, (now.sqrt() * clean + (1 - now).sqrt() * noise).float())
    with torch.inference_mode():
        null = method.model.texts([""]).expand(len(start), -1, -1)
        output = method.model.unet(start, torch.tensor(1), encoder_hidden_states=null).sample.double()
    if method.scheduler.config.prediction_type == "epsilon":
        original = (start - (1 - now).sqrt() * output) / now.sqrt()
    else:
        original = now.sqrt() * start - (1 - now).sqrt() * output
    beta = 1 - now / after
    mean = (after.sqrt() * beta * original + (now / after).sqrt() * (1 - after) * start) / (1 - now)
    deviation = (beta * (1 - after) / (1 - now)).sqrt()
    torch.testing.assert_close(maps[0].double(), (clean - mean) / deviation, rtol=2e-3, atol=2e-3)
    with torch.inference_mode():
        sampled = method.sample(start, torch.ones_like(maps), ["any"] * len(asked))
    torch.testing.assert_close(sampled.double(), mean + deviation, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("source", [None, ["a house", "a dog", "a tree"]])
def test_inverting_in_a_batch_is_inverting_step_by_step(
    load: Load, asked: list[EditRequest], source: list[str] | None
) -> None:
    together = inverted(load(inversion_batch_size=64), asked, source)
    for number, request in enumerate(asked):
        alone = inverted(load(inversion_batch_size=1), [request], source and [source[number]])
        torch.testing.assert_close(alone[0][0], together[0][number])
        torch.testing.assert_close(alone[1][:, 0], together[1][:, number], rtol=0, atol=1e-4)


def test_skipped_steps_change_nothing_about_the_others(load: Load, asked: list[EditRequest]) -> None:
    whole, part = load(skip=0), load(skip=5)
    assert part.timesteps.tolist() == whole.timesteps.tolist()[5:]
    torch.testing.assert_close(inverted(part, asked)[1], inverted(whole, asked)[1][5:], rtol=0, atol=1e-4)


def test_the_timesteps_are_the_released_ones(load: Load) -> None:
    timesteps = load(num_inference_steps=100, skip=36).timesteps.tolist()
    assert (len(timesteps), timesteps[0], timesteps[-1]) == (64, 631, 1)


def test_a_batch_is_its_single_calls(load: Load, asked: list[EditRequest]) -> None:
    for options in ({}, {"source": "caption_before", "guidance_scale": 1.0}, {"target": "instruction"}):
        method = load(**options)
        for image, request in zip(method.edit(asked), asked, strict=True):
            alone = np.asarray(method.edit([request])[0], int)
            assert np.abs(np.asarray(image, int) - alone).max() <= 1
            assert image.size == request.query.size


def test_target_source_and_seed_matter(load: Load, asked: list[EditRequest]) -> None:
    first = asked[0]
    images = [load().edit([r])[0] for r in (first, replace(first, caption_after="a red ship"), replace(first, seed=1))]
    images += load(source="caption_before").edit([first])
    images += load(target="instruction").edit([first])
    images += load(keep_last_noise=True).edit([first])
    assert len({image.tobytes() for image in images}) == 6
    assert load().edit([replace(first, caption_before="a red ship")])[0].tobytes() == images[0].tobytes()


def test_guidance_of_one_and_none_are_limits_of_the_formula(load: Load, asked: list[EditRequest]) -> None:
    for scale in (0.0, 1.0):
        exact = np.asarray(load(guidance_scale=scale).edit(asked[:1])[0], int)
        near = np.asarray(load(guidance_scale=scale + 1e-6).edit(asked[:1])[0], int)
        assert np.abs(exact - near).max() <= 1


def test_the_official_scheduler_has_the_same_schedule(load: Load) -> None:
    """Stable Diffusion 1.4's PNDM config, read as the official script reads it."""
    official = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    official.set_timesteps(100)
    ours = load(num_inference_steps=100, skip=36).scheduler
    assert torch.equal(ours.timesteps, official.timesteps)
    assert torch.equal(ours.alphas_cumprod, official.alphas_cumprod)
    assert ours.final_alpha_cumprod == official.final_alpha_cumprod


def test_what_an_option_names_is_needed_and_nothing_else() -> None:
    def needs(**options: str) -> tuple[str, ...]:
        return parse_method(entry("baselines.ef_ddpm", options=options)).card.needs

    assert needs() == ("caption_after",)
    assert needs(target="instruction") == ("instruction",)
    assert needs(source="caption_before") == ("caption_before", "caption_after")


def test_a_missing_caption_is_named(load: Load, asked: list[EditRequest]) -> None:
    with pytest.raises(InputError, match="this request has no caption_after; list 'caption_after' in the card's NEEDS"):
        load().edit([replace(asked[0], caption_after=None)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "caption_after"}, "source 'caption_after' must be one of empty, caption_before"),
        ({"target": "caption_before"}, "target 'caption_before' must be one of caption_after, instruction"),
        ({"precision": "half"}, "precision 'half' must be one of float32, float16, bfloat16"),
        ({"num_inference_steps": 0, "skip": 0}, "num_inference_steps 0 must be from 1 to 500"),
        ({"num_inference_steps": 36}, "skip 36 must be at least 0 and below num_inference_steps 36"),
        ({"skip": -1}, "skip -1 must be at least 0"),
        ({"guidance_scale": -1.0}, "guidance_scale -1.0 must not be negative"),
        ({"inversion_batch_size": 0}, "inversion_batch_size 0 must be at least 1"),
    ],
)
def test_bad_options_are_refused(weights: dict[str, Path], options: dict[str, Any], message: str) -> None:
    method = parse_method(entry("baselines.ef_ddpm", options=options))
    with pytest.raises(InputError, match=message):
        method.load(weights, "cpu", "edit")


def test_a_frame_that_does_not_fit_the_latent_is_refused(weights: dict[str, Path], asked: list[EditRequest]) -> None:
    method = parse_method(entry("baselines.ef_ddpm", options=QUICK)).load(weights, "cpu", "edit")
    with pytest.raises(InputError, match=r"images are \(31, 31\) pixels; make both sides multiples of 2"):
        method.edit([replace(asked[0], query=asked[0].query.resize((31, 31)))])
