"""Prompt Diffusion's training: one step worked out by hand, its shares of lost conditions, its tasks, its outputs."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from editclip.training.draws import Draws

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "training"))

import training_toys as toys
from diffusers import StableDiffusionPipeline
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from editing_toys import photo

from baselines.prompt_diffusion import tasks, training
from baselines.prompt_diffusion.editor import load_editor
from baselines.prompt_diffusion.network import Networks, load_networks
from baselines.prompt_diffusion.training import PromptDiffusionRecipe, dropped_conditions, start_networks, training_loss
from editclip.config.section import checked
from editclip.data.world import write_triplets
from editclip.editing import Exemplar
from editclip.errors import InputError
from editclip.patch_vae import load_vae
from editclip.training import __main__ as runner
from editclip.training.diffusion import Batch as Rows
from editclip.training.diffusion import Latents
from editclip.training.exemplars import Batch
from editclip.training.text_conditioner import TextConditioner

ROOT = Path(__file__).resolve().parents[2]
RECIPE: dict[str, Any] = {
    **toys.TRAINING,
    "resolution": 32,
    "tasks": "maps",
    "hint_channels": [4, 8],  # one stride, as the tiny VAE
    "hint_gain": 1.0,
    "trained_unet": "decoder",
    "text_dropout": 0.0,
    "joint_dropout": 0.0,
    "pair_dropout": 0.0,
    "validation_examples": 4,
}
COUNT = 6


def recipe(**changes: Any) -> PromptDiffusionRecipe:
    return checked(PromptDiffusionRecipe, {**RECIPE, **changes})


def pictures(first: int) -> Tensor:
    """uint8 COUNT×3×32×32."""
    return torch.stack([torch.from_numpy(np.array(photo(first + i))).permute(2, 0, 1) for i in range(COUNT)])


class Pairs:
    """Triplets' interface over pictures made here."""

    edited_prompts = [f"a {word} house" for word in ["red", "big", "old", "tiny", "new", "far"]]
    edit_ids = None

    def __len__(self) -> int:
        return COUNT


@pytest.fixture(scope="module")
def batch() -> Batch:
    rows = torch.arange(COUNT)
    return Batch(Rows(rows, pictures(0), pictures(100)), Rows(rows.roll(1), pictures(200), pictures(300)))


@pytest.fixture
def base(weights: dict[str, Path]) -> Path:
    """A text-to-image pipeline (the network's own base: its UNet has no image channels)."""
    return weights["prompt_diffusion"]


@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("task", ["maps", "edits"])
def test_one_step_equals_one_written_out(base: Path, batch: Batch, task: str, predicts: str) -> None:
    vae = load_vae(base / "vae")
    with torch.no_grad():  # a posterior without spread: samples are the mode
        vae.quant_conv.weight[4:] = 0
        vae.quant_conv.bias[4:] = -100
    networks = load_networks(base)  # no zeros: every part matters
    text = TextConditioner(base / "text_encoder", base / "tokenizer")
    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    scheduler.register_to_config(prediction_type=predicts)
    latents, seen = Latents(vae, Pairs(), cache=False), []
    networks.unet.register_forward_pre_hook(lambda module, inputs: seen.extend(inputs))
    found = training_loss(networks, latents, text, scheduler, recipe(tasks=task))(
        batch, Draws.whole(torch.Generator().manual_seed(4), COUNT)
    )["loss"]
    noisy, timesteps, states = seen

    if task == "edits":
        sides = (batch.exemplars.original, batch.exemplars.edited, batch.pairs.original, batch.pairs.edited)
        words = Pairs.edited_prompts
    else:
        drawn = torch.randint(6, (COUNT,), generator=torch.Generator().manual_seed(4)).tolist()
        examples, words = [], []
        for row, number in enumerate(drawn):
            name = list(tasks.MAPS)[number // 2]
            both = torch.stack([batch.exemplars.original[row], batch.pairs.edited[row]])
            ordered = [both, tasks.MAPS[name](both)]
            asked, answered = ordered[::-1] if number % 2 else ordered
            examples.append([asked[0], answered[0], asked[1], answered[1]])
            words.append(Pairs.edited_prompts[row] if number % 2 else name)
        sides = tuple(torch.stack(part) for part in zip(*examples, strict=True))
    assert torch.equal(states, text(words))
    before, after, query, answer = (side / 127.5 - 1 for side in sides)
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    alpha = torch.cumprod(1 - betas, 0)[timesteps].view(-1, 1, 1, 1)
    clean = vae.encode(answer).latent_dist.mode() * vae.config.scaling_factor
    noise = (noisy - alpha.sqrt() * clean) / (1 - alpha).sqrt()
    # What is left after taking the answer out of the UNet's input is white noise: the answer was what was noised.
    assert abs(float(noise.mean())) < 0.1 and float(noise.std()) == pytest.approx(1, abs=0.1)
    hint = networks.controlnet.pair_hint(torch.cat([before, after], 1)) + networks.controlnet.query_hint(query)
    output = networks.denoise(noisy, timesteps, states, hint)
    target = noise if predicts == "epsilon" else alpha.sqrt() * noise - (1 - alpha).sqrt() * clean
    expected = (output - target).square().mean()
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-4)
    parameters = [networks.controlnet.controlnet_query_cond_embedding.conv_in.weight, networks.unet.conv_out.weight]
    for mine, theirs in zip(
        torch.autograd.grad(found, parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        assert theirs.any() and (mine - theirs).abs().max() <= 1e-3 * theirs.abs().max()


def test_the_released_shares_of_lost_conditions() -> None:
    # official data set: text lost for u < 2p, pair for p <= u < 3p, p = 0.05
    uniform = (torch.arange(1000, dtype=torch.double) + 0.5) / 1000
    no_text, no_pair = dropped_conditions(uniform, recipe(text_dropout=0.05, joint_dropout=0.05, pair_dropout=0.05))
    assert torch.equal(no_text, uniform < 0.1) and torch.equal(no_pair, (uniform >= 0.05) & (uniform < 0.15))
    shares = [(no_text & ~no_pair), (no_text & no_pair), (no_pair & ~no_text)]
    assert [int(share.sum()) for share in shares] == [50, 50, 50]


def test_a_lost_pair_is_grey_and_a_lost_text_empty(base: Path, batch: Batch) -> None:
    networks, vae = load_networks(base), load_vae(base / "vae")
    text, seen = TextConditioner(base / "text_encoder", base / "tokenizer"), []
    scheduler = DDPMScheduler()
    networks.controlnet.controlnet_cond_embedding.conv_in.register_forward_pre_hook(lambda m, i: seen.append(i[0]))
    networks.unet.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[2]))
    losing = recipe(text_dropout=0.0, joint_dropout=1.0)
    loss = training_loss(networks, Latents(vae, Pairs(), cache=False), text, scheduler, losing)
    loss(batch, Draws.whole(torch.Generator(), COUNT))
    assert not seen[0].any() and torch.equal(seen[1], text([""] * COUNT))


def test_the_decoder_learns_and_the_encoder_does_not(base: Path) -> None:
    networks = start_networks(load_networks(base).unet, recipe())
    learning = {name.split(".")[0] for name, p in networks.unet.named_parameters() if p.requires_grad}
    assert learning == {"up_blocks", "conv_norm_out", "conv_out"}
    assert all(p.requires_grad for p in networks.controlnet.parameters())
    alone = start_networks(load_networks(base).unet, recipe(trained_unet="none"))
    assert not any(p.requires_grad for p in alone.unet.parameters())


def test_the_start_is_a_copy_between_zero_convolutions(base: Path) -> None:
    unet = load_networks(base).unet
    plain, louder = (start_networks(unet, recipe(hint_gain=gain)).controlnet for gain in (1.0, 3.0))
    for part in ("conv_in", "time_embedding", "down_blocks", "mid_block"):
        own, copy = getattr(unet, part).state_dict(), getattr(plain, part).state_dict()
        assert all(torch.equal(own[name], copy[name]) for name in own)
    zeros = [*plain.controlnet_down_blocks, plain.controlnet_mid_block, plain.controlnet_cond_embedding.conv_out]
    assert not any(p.any() for part in zeros for p in part.parameters())
    spread = [float(c.controlnet_query_cond_embedding.blocks[1].weight.detach().std()) for c in (plain, louder)]
    assert spread[1] / spread[0] == pytest.approx(3, rel=0.2)


def test_maps_keep_what_they_are_named_after() -> None:
    images = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    images[:, 0, :, 16:] = 250  # black to the left, red to the right
    edges = tasks.edge_map(images)[0, 0].float()
    assert edges[:, 14:18].min() > 50 and not edges[:, :13].any() and not edges[:, 19:].any()
    assert tasks.colour_map(images)[0, :, 5, [2, 29]].tolist() == [[64, 191], [64, 64], [64, 64]]
    shading = tasks.luminance_map(images)[0, 0].int()
    assert shading[0, 0] == 255 and shading[0, 31] == 255 - round(0.299 * 250) and shading[0, 13] > shading[0, 18]
    for make in tasks.MAPS.values():
        assert make(images).shape == images.shape and make(images).dtype == torch.uint8


@pytest.fixture(scope="module")
def triplets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("triplets")
    write_triplets(folder, {"resolution": 32, "train": 24, "validation": 8, "test": 2}, seed=7)
    return folder


@pytest.mark.parametrize("task", ["maps", "edits"])
def test_command_line_trains_what_the_editor_loads(
    base: Path, triplets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    asked = json.dumps({**RECIPE, "tasks": task, "steps": 2, "ema_decay": 0.9})
    arguments = ["--kind", "baselines.prompt_diffusion.recipe", "--recipe", asked, "--seed", "3", "--threads", "1"]
    arguments += ["--out", str(tmp_path / "out"), "--triplets", str(triplets), "--from", f"text_to_image={base}"]
    monkeypatch.setenv("EDITCLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "argv", ["training", *arguments])
    runner.main()
    torch.use_deterministic_algorithms(False)
    lines = [json.loads(line) for line in (tmp_path / "out/logs/metrics.jsonl").read_text().splitlines()]
    assert {"loss", "validation/loss", "validation/loss_without_pair"} <= lines[-1].keys()
    start, trained = load_networks(base).unet.state_dict(), load_networks(tmp_path / "out").unet.state_dict()
    changed = {name.split(".")[0] for name in start if not torch.equal(start[name], trained[name])}
    assert changed == {"up_blocks", "conv_norm_out", "conv_out"}
    options = {"num_inference_steps": 2, "guidance_scale": 9.0, "text": "none", "precision": "float32"}
    editor = load_editor(tmp_path / "out", options, "cpu", "prepare")
    exemplar = Exemplar("e", ((photo(1), photo(2)),), None, 0)
    assert editor.prepare(exemplar)["pair_hint"].shape == (1, 16, 16, 16)
    assert StableDiffusionPipeline.from_pretrained(tmp_path / "out", safety_checker=None).unet is not None


def test_hints_of_another_size_than_latents_are_refused(base: Path) -> None:
    networks = start_networks(load_networks(base).unet, recipe(hint_channels=[4, 8, 8]))
    assert isinstance(networks, Networks)
    with pytest.raises(InputError, match="hint_channels.* 2 entries"):
        networks.check(2, "recipe")


def test_edits_need_edit_ids() -> None:
    with pytest.raises(InputError, match="no column edit_id"):
        training.exemplar_batches(Pairs(), recipe(tasks="edits"), 0)
