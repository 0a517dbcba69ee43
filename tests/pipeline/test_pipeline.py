"""The pipeline against loops written out by hand, the stock InstructPix2Pix pipeline and the released folder layout."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
from safetensors.torch import load_file, save_file
from tiny_models import SIZE, TOKENS, WIDTH, image, pixels, save_clip, save_released, scheduler, unet, vae

from editclip.conditioning import Conditioning
from editclip.errors import InputError
from editclip.model import pair_pixels
from editclip.pipeline import EditCLIPPipeline
from editclip.pipeline_parts import load_unet
from editclip.projection import ImageProjModel
from editclip.storage import path_digest

EXEMPLAR = (image(10), image(11))
QUERIES = [image(seed) for seed in (20, 21, 22)]
STEPS = 6


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return save_released(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def pipe(released: dict[str, Path]) -> EditCLIPPipeline:
    result = EditCLIPPipeline.from_released(**released)
    result.set_progress_bar_config(disable=True)
    return result


def noise(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def latents(pipe: EditCLIPPipeline, steps: int = STEPS, **options: Any) -> torch.Tensor:
    return pipe(**options, num_inference_steps=steps, output_type="latent").images


@torch.no_grad()
def by_hand(pipe: EditCLIPPipeline, query: torch.Tensor, tokens: torch.Tensor, seed: int, steps: int) -> torch.Tensor:
    """Euler-ancestral sampling with three-branch guidance, from the papers' formulas; latents 1×4×h×w."""
    predicts_v = pipe.scheduler.config.prediction_type == "v_prediction"
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alphas = torch.cumprod(1 - betas, 0)
    all_sigmas = ((1 - alphas) / alphas).sqrt().numpy()
    times = np.linspace(999, 0, steps)
    sigmas = [*np.interp(times, np.arange(1000), all_sigmas), 0.0]
    condition = pipe.vae.encode(query / 127.5 - 1).latent_dist.mean
    generator = noise(seed)
    x = torch.randn(condition.shape, generator=generator) * float(sigmas[0])

    def model(
        x: torch.Tensor, sigma: float, time: float, c: torch.Tensor, image_condition: torch.Tensor
    ) -> torch.Tensor:
        scaled = x / (sigma**2 + 1) ** 0.5
        return pipe.unet(torch.cat([scaled, image_condition], 1), torch.tensor(time, dtype=torch.float32), c).sample

    for sigma, after, time in zip(sigmas, sigmas[1:], times, strict=False):
        sigma, after = float(sigma), float(after)
        null, black = torch.zeros_like(tokens), torch.zeros_like(condition)
        full, image_only = model(x, sigma, time, tokens, condition), model(x, sigma, time, null, condition)
        neither = model(x, sigma, time, null, black)
        output = neither + 7 * (full - image_only) + 1.5 * (image_only - neither)
        clean = x - sigma * output
        if predicts_v:  # v of the variance-preserving x / √(σ²+1), arXiv:2202.00512
            clean = x / (sigma**2 + 1) - output * sigma / (sigma**2 + 1) ** 0.5
        up = (after**2 * (sigma**2 - after**2) / sigma**2) ** 0.5
        down = (after**2 - up**2) ** 0.5
        x = x + (x - clean) / sigma * (down - sigma)
        x = x + torch.randn(x.shape, generator=generator) * up
    return x


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_equals_a_loop_written_by_hand(pipe: EditCLIPPipeline, prediction_type: str) -> None:
    before = pipe.scheduler
    pipe.scheduler = scheduler(prediction_type)
    found = latents(pipe, image=QUERIES[0], exemplar=EXEMPLAR, generator=noise(7))
    expected = by_hand(pipe, pixels(QUERIES[:1]), pipe.encode_exemplar(*EXEMPLAR), 7, STEPS)
    pipe.scheduler = before
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max().clamp_min(1)


def test_fifty_steps_are_those_of_the_official_scheduler(pipe: EditCLIPPipeline) -> None:
    pipe.scheduler.set_timesteps(50)  # values measured with the IP2P scheduler config
    times = pipe.scheduler.timesteps
    assert times[[0, 1, 2, -2, -1]].tolist() == pytest.approx([999, 978.61, 958.22, 20.39, 0], abs=0.01)
    assert float(pipe.scheduler.sigmas[0]) == pytest.approx(14.6146, abs=1e-3)


@pytest.mark.parametrize("image_guidance", [1.5, 1.0])
def test_equals_stock_instruct_pix2pix_fed_with_the_tokens(
    pipe: EditCLIPPipeline, released: dict[str, Path], image_guidance: float
) -> None:
    stock = StableDiffusionInstructPix2PixPipeline.from_pretrained(
        str(released["base"]), unet=pipe.unet, safety_checker=None, requires_safety_checker=False
    )
    stock.set_progress_bar_config(disable=True)
    tokens = pipe.encode_exemplar(*EXEMPLAR)
    expected = stock(
        image=QUERIES[0],
        prompt_embeds=tokens,
        negative_prompt_embeds=torch.zeros_like(tokens),
        guidance_scale=7,
        image_guidance_scale=image_guidance,
        num_inference_steps=STEPS,
        generator=noise(3),
        output_type="np",
    ).images
    asked = {"image_guidance_scale": image_guidance, "num_inference_steps": STEPS, "output_type": "np"}
    found = pipe(QUERIES[0], EXEMPLAR, generator=noise(3), **asked).images
    assert np.abs(found - expected).max() <= 1e-5


def test_results_do_not_depend_on_the_batch(pipe: EditCLIPPipeline) -> None:
    exemplars = [(image(10), image(11)), (image(12), image(13)), (image(14), image(15))]
    sides = ([e[0] for e in exemplars], [e[1] for e in exemplars])
    together = latents(pipe, image=QUERIES, exemplar=sides, generator=[noise(s) for s in (0, 1, 2)])
    reverse = latents(
        pipe, image=QUERIES[::-1], exemplar=(sides[0][::-1], sides[1][::-1]), generator=[noise(s) for s in (2, 1, 0)]
    )
    alone = [
        latents(pipe, image=q, exemplar=e, generator=noise(s))
        for s, (q, e) in enumerate(zip(QUERIES, exemplars, strict=True))
    ]
    rounding = 1e-5 * together.abs().max()  # kernels are chosen by the batch's shape, and steps carry it on
    assert (together - torch.cat(alone)).abs().max() < rounding
    assert (together - reverse.flip(0)).abs().max() < rounding
    assert (together[0] - together[1]).abs().max() > 0.1


def test_tokens_may_be_encoded_beforehand_and_shared(pipe: EditCLIPPipeline) -> None:
    tokens = pipe.encode_exemplar(*EXEMPLAR)
    assert tokens.shape == (1, TOKENS, WIDTH)
    seeds = [noise(0), noise(1)]
    shared = latents(pipe, image=QUERIES[:2], edit_tokens=tokens, generator=seeds)
    encoded = latents(pipe, image=QUERIES[:2], exemplar=EXEMPLAR, generator=[noise(0), noise(1)])
    assert torch.equal(shared, encoded)


def test_either_half_of_the_pipeline_is_loaded_alone(pipe: EditCLIPPipeline, released: dict[str, Path]) -> None:
    encoding = EditCLIPPipeline.from_released(**{**released, "base": None})
    editing = EditCLIPPipeline.from_released(**{**released, "editclip": None})
    editing.set_progress_bar_config(disable=True)
    assert [encoding.vae, encoding.unet, encoding.scheduler] == [None] * 3
    assert [editing.edit_encoder, editing.image_proj_model, editing.feature_extractor] == [None] * 3
    tokens = encoding.encode_exemplar(*EXEMPLAR)
    found = latents(editing, image=QUERIES[0], edit_tokens=tokens, generator=noise(4))
    assert torch.equal(found, latents(pipe, image=QUERIES[0], exemplar=EXEMPLAR, generator=noise(4)))
    with pytest.raises(InputError, match="no edit encoder; give edit_tokens, or load it with editclip=FOLDER"):
        editing(QUERIES[0], EXEMPLAR)
    with pytest.raises(InputError, match="only encodes exemplars; load it with base=FOLDER"):
        encoding(QUERIES[0], EXEMPLAR)


def test_exemplar_order_and_guidance_matter(pipe: EditCLIPPipeline) -> None:
    base = latents(pipe, image=QUERIES[0], exemplar=EXEMPLAR, generator=noise(0))
    swapped = latents(pipe, image=QUERIES[0], exemplar=EXEMPLAR[::-1], generator=noise(0))
    stronger = latents(pipe, image=QUERIES[0], exemplar=EXEMPLAR, generator=noise(0), guidance_scale=9.0)
    assert (base - swapped).abs().max() > 1e-3
    assert (base - stronger).abs().max() > 1e-3


@pytest.mark.parametrize(("edit", "picture"), [(1.0, 1.5), (7.0, 0.5)])
def test_guidance_is_off_as_in_diffusers(pipe: EditCLIPPipeline, edit: float, picture: float) -> None:
    rows = []
    handle = pipe.unet.register_forward_pre_hook(lambda module, inputs: rows.append(len(inputs[0])))
    latents(pipe, image=QUERIES[0], exemplar=EXEMPLAR, steps=1, guidance_scale=edit, image_guidance_scale=picture)
    for image_guidance in (1.0, 1.1):  # at 1.0 the branch without the image cancels out
        scales = {"guidance_scale": 1.1, "image_guidance_scale": image_guidance}
        latents(pipe, image=QUERIES[0], exemplar=EXEMPLAR, steps=1, **scales)
    handle.remove()
    assert rows == [1, 2, 3]


def test_without_guidance_is_guidance_with_both_weights_one(pipe: EditCLIPPipeline) -> None:
    options = {"image": QUERIES[0], "exemplar": EXEMPLAR, "image_guidance_scale": 1.0}
    one_pass = latents(pipe, **options, generator=noise(0), guidance_scale=1.0)
    two_branches = latents(pipe, **options, generator=noise(0), guidance_scale=1.0 + 1e-9)
    torch.testing.assert_close(one_pass, two_branches, rtol=1e-4, atol=1e-4)


def test_saved_pipeline_gives_the_same_images(pipe: EditCLIPPipeline, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path)
    again = EditCLIPPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    options = {"image": image(1), "exemplar": (image(30, (40, 24)), image(31, (40, 24)))}
    assert torch.equal(latents(pipe, **options, generator=noise(0)), latents(again, **options, generator=noise(0)))


def released_with(released: dict[str, Path], root: Path, conditioning: Conditioning) -> dict[str, Path]:
    """The released folders, but edited by a set that was trained on a plain CLIP's tokens."""
    folders = {**released, "editclip_ip2p": root / "editclip_ip2p", "editclip": root / "clip"}
    save_clip(folders["editclip"])
    unet(8, seed=4).save_pretrained(folders["editclip_ip2p"] / "unet")
    encoder, _ = conditioning.load_encoder(folders["editclip"])
    ImageProjModel(WIDTH, conditioning.token_width(encoder.config)).save(folders["editclip_ip2p"])
    replace(conditioning, encoder=path_digest(folders["editclip"])).save(folders["editclip_ip2p"])
    return folders


def test_saved_pipeline_keeps_its_conditioning(released: dict[str, Path], tmp_path: Path) -> None:
    folders = released_with(released, tmp_path, Conditioning("channels", "projected"))
    first = EditCLIPPipeline.from_released(**folders)
    first.save_pretrained(tmp_path / "saved")
    again = EditCLIPPipeline.from_pretrained(tmp_path / "saved")
    assert (again.config.condition, again.config.layer) == ("channels", "projected")
    # Equal weights at another alignment in memory: a product with a single row may round differently.
    assert (again.encode_exemplar(*EXEMPLAR) - first.encode_exemplar(*EXEMPLAR)).abs().max() < 1e-5


def test_released_folder_needs_no_conditioning_file(pipe: EditCLIPPipeline, released: dict[str, Path]) -> None:
    assert not (released["editclip_ip2p"] / "conditioning.json").exists()
    assert (pipe.config.condition, pipe.config.layer) == ("edit", "hidden")
    hidden = pipe.edit_encoder.vision_model(pair_pixels([EXEMPLAR[0]], [EXEMPLAR[1]], pipe.feature_extractor))
    assert torch.equal(pipe.encode_exemplar(*EXEMPLAR), pipe.image_proj_model(hidden.last_hidden_state))


def test_weights_are_not_sampled_on_tokens_they_were_not_trained_on(released: dict[str, Path], tmp_path: Path) -> None:
    folders = released_with(released, tmp_path, Conditioning("sum", "hidden"))
    EditCLIPPipeline.from_released(**folders)
    with pytest.raises(InputError, match="was trained with the encoder"):
        EditCLIPPipeline.from_released(**{**folders, "editclip": released["editclip"]})
    save_clip(tmp_path / "other", seed=9)
    with pytest.raises(InputError, match="other: its digest is .*editclip_ip2p was trained with the encoder"):
        EditCLIPPipeline.from_released(**{**folders, "editclip": tmp_path / "other"})
    Conditioning("edit", "hidden").save(folders["editclip_ip2p"])  # as if somebody had trained it without noting
    with pytest.raises(InputError, match="clip: 3 input channels, but condition 'edit' needs 6"):
        EditCLIPPipeline.from_released(**folders)


def test_projection_loads_from_both_layouts(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = ImageProjModel(WIDTH, 48, 2)
    model.save(tmp_path)
    assert load_file(tmp_path / "image_proj_model.safetensors").keys() == {
        "proj.weight",
        "proj.bias",
        "norm.weight",
        "norm.bias",
    }
    released = tmp_path / "released"
    released.mkdir()
    torch.save(model.state_dict(), released / "image_proj_model.pt")
    hidden = torch.randn(2, 5, 48)
    for folder in (tmp_path, released):
        found = ImageProjModel.load(folder)(hidden)
        assert found.shape == (2, 10, WIDTH)
        assert torch.equal(found, model(hidden))
    # token by token: Linear, cut into n tokens, LayerNorm
    row = (model.proj.weight @ hidden[1, 3] + model.proj.bias).view(2, WIDTH)
    row = (row - row.mean(1, keepdim=True)) / (row.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    assert (row - model(hidden)[1, 6:8]).abs().max() < 1e-5


def test_wrong_inputs_are_named(pipe: EditCLIPPipeline) -> None:
    tokens = pipe.encode_exemplar(*EXEMPLAR)
    for options, words in (
        ({"image": QUERIES[0]}, "exemplar pair or edit_tokens"),
        ({"image": QUERIES[0], "exemplar": EXEMPLAR, "edit_tokens": tokens}, "not both"),
        ({"image": [], "edit_tokens": tokens}, "image"),
        ({"image": [image(0), image(0, (SIZE, 2 * SIZE))], "edit_tokens": tokens}, "one size"),
        ({"image": image(0, (SIZE + 1, SIZE)), "edit_tokens": tokens}, "multiple of 2"),
        ({"image": QUERIES, "edit_tokens": tokens.repeat(2, 1, 1)}, "2 exemplars for 3"),
        ({"image": QUERIES[0], "edit_tokens": tokens[..., 1:]}, "edit_tokens have shape"),
        ({"image": QUERIES, "edit_tokens": tokens, "generator": [noise(0)]}, "1 generators for 3"),
        ({"image": QUERIES[0], "exemplar": ([image(0)], [image(1), image(2)])}, "1 images before and 2"),
    ):
        with pytest.raises(InputError, match=words):
            pipe(**options)


def test_parts_that_do_not_fit_are_refused(pipe: EditCLIPPipeline) -> None:
    parts = dict(pipe.components)
    for name, part, words in (
        ("unet", unet(4), "input channels"),
        ("image_proj_model", ImageProjModel(WIDTH, 48), "edit encoder's width"),
        ("image_proj_model", ImageProjModel(16, WIDTH), "context width"),
    ):
        with pytest.raises(InputError, match=words):
            EditCLIPPipeline(**{**parts, name: part})
    for conditioning, words in (
        ({"condition": "sum"}, "the edit encoder: 6 input channels, but condition 'sum' needs 3"),
        ({"layer": "projected"}, "edit encoder's width are 24, but must be 32"),
        ({"layer": "last"}, "layer 'last' is not allowed"),
    ):
        with pytest.raises(InputError, match=words):
            EditCLIPPipeline(**parts, **conditioning)


def test_incomplete_folders_are_named(released: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="empty"):
        load_unet(tmp_path / "empty")
    with pytest.raises(InputError, match="InstructPix2Pix"):
        EditCLIPPipeline.from_released(**{**released, "base": tmp_path / "nothing"})
    with pytest.raises(InputError, match="image_proj_model"):
        ImageProjModel.load(tmp_path)


@pytest.mark.parametrize("damage", ["missing", "misshapen"])
def test_unet_with_a_wrong_tensor_is_refused(tmp_path: Path, damage: str) -> None:
    unet(8).save_pretrained(tmp_path / "unet")
    file = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    bias = state.pop("conv_in.bias")
    if damage == "misshapen":
        state["conv_in.bias"] = torch.zeros(len(bias) + 1)
    save_file(state, file)
    with pytest.raises(InputError, match=r"conv_in\.bias") as error:
        load_unet(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_image_condition_is_not_scaled(pipe: EditCLIPPipeline) -> None:
    seen: list[torch.Tensor] = []
    handle = pipe.unet.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    latents(pipe, image=QUERIES[0], exemplar=EXEMPLAR, steps=1)
    handle.remove()
    expected = vae().encode(pixels(QUERIES[:1]) / 127.5 - 1).latent_dist.mean
    assert (seen[0][:2, 4:] - expected).abs().max() < 1e-5
    assert seen[0][2, 4:].abs().max() == 0
