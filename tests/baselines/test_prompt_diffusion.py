"""Prompt Diffusion's network against stock parts, and its editor against a sampler written out here."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from editing_toys import entry, photo
from torch import Tensor
from torch.nn import functional

from baselines.prompt_diffusion.convert import empty_networks
from baselines.prompt_diffusion.editor import NEGATIVE, QUALITY, PromptDiffusion, guidance_branches
from baselines.prompt_diffusion.network import Networks, PairQueryControlNet, load_networks
from editclip.data.bench import Bench
from editclip.editing import EditRequest, Exemplar
from editclip.editing.cards import parse_method
from editclip.editing.requests import Requests
from editclip.errors import InputError

HINTS = (4, 6, 8, 10)  # four widths, three strides, as released
SD1 = {"cross_attention_dim": 768, "attention_head_dim": 8, "in_channels": 4, "out_channels": 4}  # Stable Diffusion 1.5


def small_unet() -> UNet2DConditionModel:
    """Stable Diffusion 1's four levels of two layers, narrow."""
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32, 32, 32),
        norm_num_groups=8,
        cross_attention_dim=12,
        attention_head_dim=4,
    ).eval()


@pytest.fixture
def networks() -> Networks:
    """Random weights everywhere, zero convolutions included."""
    unet = small_unet()
    controlnet = PairQueryControlNet.beside(unet, HINTS).eval()
    with torch.no_grad():
        for parameter in controlnet.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.3)
    return Networks(unet, controlnet)


@pytest.fixture
def given() -> dict[str, Tensor]:
    """Two examples: latents, timesteps, text states, pairs and queries of 64 px."""
    generator = torch.Generator().manual_seed(1)
    shapes = {"noisy": (2, 4, 8, 8), "text": (2, 77, 12), "pair": (2, 6, 64, 64), "query": (2, 3, 64, 64)}
    made = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return made | {"timesteps": torch.tensor([7, 801])}


def hint_by_hand(images: Tensor, state: Mapping[str, Tensor], prefix: str) -> Tensor:
    """The hint encoder of ControlNet (arXiv:2302.05543): eight convolutions, every second but the last halves."""
    names = ["conv_in", *(f"blocks.{k}" for k in range(6)), "conv_out"]
    for number, name in enumerate(names):
        weight, bias = state[f"{prefix}.{name}.weight"], state[f"{prefix}.{name}.bias"]
        images = functional.conv2d(images, weight, bias, stride=2 if number in (2, 4, 6) else 1, padding=1)
        images = functional.silu(images) if name != "conv_out" else images
    return images


@torch.no_grad()
def test_residuals_and_output_are_a_bare_controlnets_with_the_summed_hint(
    networks: Networks, given: dict[str, Tensor]
) -> None:
    state = networks.controlnet.state_dict()
    stock = ControlNetModel.from_config(dict(networks.controlnet.config)).eval()
    stock.load_state_dict({name: value for name, value in state.items() if "query" not in name})
    query = hint_by_hand(given["query"], state, "controlnet_query_cond_embedding")
    hook = stock.conv_in.register_forward_hook(lambda module, inputs, output: output + query)
    noisy, timesteps, text = given["noisy"], given["timesteps"], given["text"]
    expected = stock(noisy, timesteps, text, given["pair"])
    hook.remove()

    hint = networks.controlnet.pair_hint(given["pair"]) + networks.controlnet.query_hint(given["query"])
    pair = hint_by_hand(given["pair"], state, "controlnet_cond_embedding")
    assert (hint - pair - query).abs().max() < 1e-5
    residuals, middle = networks.controlnet(noisy, timesteps, text, hint, return_dict=False)
    assert len(residuals) == 12
    for found, wanted in zip(
        [*residuals, middle], [*expected.down_block_res_samples, expected.mid_block_res_sample], strict=True
    ):
        assert wanted.abs().max() > 0.1 and (found - wanted).abs().max() < 1e-4
    wanted = networks.unet(
        noisy,
        timesteps,
        text,
        down_block_additional_residuals=expected.down_block_res_samples,
        mid_block_additional_residual=expected.mid_block_res_sample,
    ).sample
    found = networks.denoise(noisy, timesteps, text, hint)
    assert (found - wanted).abs().max() < 1e-5
    assert (found - networks.unet(noisy, timesteps, text).sample).abs().max() > 0.01


@torch.no_grad()
def test_a_fresh_controlnet_leaves_the_unet_as_it_is(given: dict[str, Tensor]) -> None:
    unet = small_unet()
    networks = Networks(unet, PairQueryControlNet.beside(unet, HINTS))
    hint = networks.controlnet.pair_hint(given["pair"]) + networks.controlnet.query_hint(given["query"])
    assert not hint.any()
    found = networks.denoise(given["noisy"], given["timesteps"], given["text"], hint + torch.randn(2, 16, 8, 8))
    assert torch.equal(found, unet(given["noisy"], given["timesteps"], given["text"]).sample)


def test_the_full_size_has_the_releases_parameters() -> None:
    # counted on the official code: ControlNet 362,366,032, of these pair 1,086,912 and query 1,086,480
    controlnet = empty_networks(SD1, (16, 32, 96, 256)).controlnet
    parts = (controlnet, controlnet.controlnet_cond_embedding, controlnet.controlnet_query_cond_embedding)
    assert [sum(p.numel() for p in part.parameters()) for part in parts] == [362_366_032, 1_086_912, 1_086_480]


def test_saved_networks_are_loaded_strictly(networks: Networks, tmp_path: Path) -> None:
    networks.unet.save_pretrained(tmp_path / "unet")
    networks.controlnet.save_pretrained(tmp_path / "controlnet")
    loaded = load_networks(tmp_path)
    for part, same in zip(networks, loaded, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(part.parameters(), same.parameters(), strict=True))
    loaded.check(8, tmp_path)
    with pytest.raises(InputError, match="8 times, but the VAE 4 times; .* 3 entries"):
        loaded.check(4, tmp_path)
    ControlNetModel.from_unet(networks.unet, conditioning_embedding_out_channels=HINTS).save_pretrained(
        tmp_path / "controlnet"
    )
    with pytest.raises(InputError, match="missing keys, e.g. controlnet_query_cond_embedding"):
        load_networks(tmp_path)


def editor_of(weights: dict[str, Path], name: str = "baselines.prompt_diffusion", **options: Any) -> PromptDiffusion:
    editor = parse_method(entry(name, options={"num_inference_steps": 4, **options})).load(weights, "cpu", "edit")
    assert isinstance(editor, PromptDiffusion)
    return editor


def test_to_prepare_the_controlnet_alone_is_loaded(weights: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "controlnet").symlink_to(weights["prompt_diffusion"] / "controlnet")
    preparer = parse_method(entry("baselines.prompt_diffusion")).load({"prompt_diffusion": tmp_path}, "cpu", "prepare")
    exemplar = Exemplar("e", ((photo(1), photo(2)),), None, 0)
    expected = editor_of(weights).prepare(exemplar)["pair_hint"]
    assert torch.equal(preparer.prepare(exemplar)["pair_hint"], expected)


@pytest.fixture
def asked(bench: Bench, weights: dict[str, Path]) -> list[EditRequest]:
    """Three requests of different exemplars."""
    method = parse_method(entry("baselines.prompt_diffusion_instruction"))
    requests, editor = Requests(bench, method, 0), editor_of(weights)
    return [
        requests.request(sample, editor.prepare(requests.exemplar(sample.exemplar_id)), 0)
        for sample in bench.samples[::5]
    ]


@torch.no_grad()
def every_step_and_branch(
    editor: PromptDiffusion, request: EditRequest, prompts: tuple[str, str], scale: float, null_pair: bool = False
) -> np.ndarray:
    """One edit with all of guidance and all hints at every step, by DDIM's closed form (eta 0) in float64."""
    networks, vae = editor.networks, editor.vae
    images = [torch.from_numpy(np.array(i)).permute(2, 0, 1)[None] / 127.5 - 1 for i in (
        request.exemplar.before, request.exemplar.after, request.query)]  # fmt: skip
    pair, query = torch.cat(images[:2], dim=1), images[2]
    pairs = torch.cat([pair, pair * (0 if null_pair else 1)])
    text = torch.cat([editor.text([prompt]) for prompt in prompts])
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.double) ** 2
    alphas = torch.cumprod(1 - betas, 0)
    latents = torch.randn((1, 4, 16, 16), generator=torch.Generator().manual_seed(request.seed)).double()
    times = [751, 501, 251, 1]
    for time in times:
        hint = networks.controlnet.pair_hint(pairs) + networks.controlnet.query_hint(torch.cat([query] * 2))
        both = networks.denoise(latents.float().expand(2, -1, -1, -1), torch.tensor(time), text, hint).double()
        noise = both[1:] + scale * (both[:1] - both[1:])
        now, before = alphas[time], alphas[max(time - 250, 0)]
        clean = (latents - (1 - now).sqrt() * noise) / now.sqrt()
        latents = before.sqrt() * clean + (1 - before).sqrt() * noise
    decoded = vae.decode(latents.float() / vae.config.scaling_factor).sample
    return ((decoded[0].permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).numpy()


@pytest.mark.parametrize(
    ("text", "prompts", "null_pair"),
    [("none", ("", ""), False), ("quality", (QUALITY, NEGATIVE), False), ("pair_cfg", ("", ""), True)],
)
def test_edits_equal_the_whole_computation(
    weights: dict[str, Path], asked: list[EditRequest], text: str, prompts: tuple[str, str], null_pair: bool
) -> None:
    editor = editor_of(weights, text=text, guidance_scale=3)
    for image, request in zip(editor.edit(asked), asked, strict=True):
        expected = every_step_and_branch(editor, request, prompts, 3, null_pair)
        assert np.abs(np.asarray(image, float) - expected).max() <= 1


def test_the_instruction_is_a_card_of_its_own(weights: dict[str, Path], asked: list[EditRequest]) -> None:
    editor = editor_of(weights, "baselines.prompt_diffusion_instruction", guidance_scale=3)
    prompts = (f"{asked[0].instruction}, {QUALITY}", NEGATIVE)
    expected = every_step_and_branch(editor, asked[0], prompts, 3)
    assert np.abs(np.asarray(editor.edit(asked[:1])[0], float) - expected).max() <= 1
    with pytest.raises(InputError, match="baselines.prompt_diffusion_instruction"):
        editor_of(weights, text="instruction")


def test_equal_branches_are_computed_once(weights: dict[str, Path], asked: list[EditRequest]) -> None:
    seen: list[int] = []
    for text in ("none", "quality"):
        editor = editor_of(weights, text=text)
        editor.networks.unet.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
        editor.edit(asked)
    assert seen == [3] * 4 + [6] * 4


def test_hints_are_encoded_once_an_image(weights: dict[str, Path], asked: list[EditRequest]) -> None:
    editor, seen = editor_of(weights, text="quality"), []
    for encoder in ("controlnet_cond_embedding", "controlnet_query_cond_embedding"):
        part = getattr(editor.networks.controlnet, encoder).conv_in
        part.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape)))
    editor.edit(asked)
    assert [shape for shape in seen if shape[1] == 3] == [(3, 3, 32, 32)]
    assert all(not shape[0] > 1 for shape in seen if shape[1] == 6)


def test_a_stored_hint_is_the_pairs_own(weights: dict[str, Path], asked: list[EditRequest]) -> None:
    editor = editor_of(weights)
    stored = asked[1].prepared["pair_hint"]
    sides = [editor.pixels([image]) for image in (asked[1].exemplar.before, asked[1].exemplar.after)]
    with torch.no_grad():
        fresh = editor.networks.controlnet.pair_hint(torch.cat([torch.cat(sides, dim=1)] * 2))
    assert (fresh - stored).abs().max() < 1e-6
    assert sides[0].min() < -0.5 and sides[0].max() <= 1  # hints are in [-1, 1]


def test_exemplar_query_and_seed_matter(weights: dict[str, Path], asked: list[EditRequest]) -> None:
    editor, first = editor_of(weights), asked[0]
    changed = [replace(first, prepared=asked[1].prepared), replace(first, query=asked[1].query), replace(first, seed=1)]
    assert len({image.tobytes() for image in editor.edit([first, *changed])}) == 4


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"text": "qualty"}, 'did you mean "quality"'),
        ({"precision": "half"}, "float32, float16"),
        ({"num_inference_steps": 0}, "from 1 to 1000"),
        ({"guidance_scale": -1}, "must not be negative"),
    ],
)
def test_wrong_options_are_named(weights: dict[str, Path], options: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        editor_of(weights, **options)


def test_a_query_of_odd_size_is_refused(weights: dict[str, Path], asked: list[EditRequest]) -> None:
    with pytest.raises(InputError, match="multiples of 2"):
        editor_of(weights).edit([replace(asked[0], query=asked[0].query.resize((31, 32)))])


def test_only_no_text_beside_the_pair_makes_guidance_inert() -> None:
    inert = [t for t in ("none", "quality", "instruction", "pair_cfg") if len(set(guidance_branches(t, "x"))) == 1]
    assert inert == ["none"]
