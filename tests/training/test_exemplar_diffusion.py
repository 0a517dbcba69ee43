"""EditCLIP-IP2P's training: the loss of one step worked out from what the UNet saw, and its options one by one."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest
import tiny_models as tiny
import torch
import training_toys as toys
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor, nn

from editclip.conditioning import Condition, Conditioning, Layer
from editclip.config.section import checked
from editclip.data.triplets import Triplets
from editclip.errors import InputError
from editclip.metrics.perceptual import load_network
from editclip.model import pair_pixels
from editclip.pipeline import EditCLIPPipeline
from editclip.projection import ImageProjModel
from editclip.storage import path_digest
from editclip.training import contrastive, diffusion, exemplar_diffusion
from editclip.training.draws import Draws
from editclip.training.exemplar_diffusion import ExemplarDiffusionRecipe, Parts, start_unet, training_loss
from editclip.training.exemplars import Batch, exemplar_draw

RECIPE: dict[str, Any] = {
    **toys.TRAINING,
    "schedule": "constant",
    "resolution": 32,
    "unet_start": "inherited",
    "condition": "edit",
    "layer": "hidden",
    "projection_learning_rate": None,
    "exemplar": "self",
    "timesteps": "uniform",
    "condition_dropout": 0.0,
    "flip_probability": 0.0,
    "lpips_weight": 0.05,
    "lpips_net": "alex",
    "lpips_trunk": "random",
    "lpips_resolution": 64,
    "lpips_share": 1.0,
    "clip_projection": False,
    "gradient_checkpointing": False,
    "cache_latents": False,
    "validation_examples": 4,
}
CONTRASTIVE: dict[str, Any] = {
    **toys.TRAINING,
    "steps": 2,
    "conv_learning_rate": None,
    "logit_scale": None,
    "logit_scale_learning_rate": None,
    "batches": "shuffled",
    "frequency_power": 1.0,
}
COUNT = 12


class Recorder(nn.Module):
    """Stands before a UNet and keeps what goes in and comes out."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, sample: Tensor, timesteps: Tensor, tokens: Tensor) -> Any:
        result = self.unet(sample, timesteps, tokens)
        self.sample, self.timesteps, self.tokens, self.output = sample, timesteps, tokens, result.sample
        return result


class Pairs:
    """Triplets' interface over pictures made here."""

    edit_ids = None

    def __len__(self) -> int:
        return COUNT

    def batch(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        return tuple(tiny.pixels([tiny.image(shift + i, (32, 32)) for i in indices]) for shift in (0, 100))


def recipe(**changes: Any) -> ExemplarDiffusionRecipe:
    return checked(ExemplarDiffusionRecipe, {**RECIPE, **changes})


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return tiny.save_released(tmp_path_factory.mktemp("released"))


@pytest.fixture
def parts(folders: dict[str, Path]) -> Parts:
    return parts_for(Conditioning("edit", "hidden"), folders["editclip"], folders)


def parts_for(conditioning: Conditioning, encoder_folder: Path, folders: dict[str, Path]) -> Parts:
    torch.manual_seed(0)
    encoder, processor = conditioning.load_encoder(encoder_folder)
    return Parts(
        unet=Recorder(tiny.unet(8)),
        projection=ImageProjModel(tiny.WIDTH, conditioning.token_width(encoder.config)),
        encoder=encoder.requires_grad_(False),
        processor=processor,
        conditioning=conditioning,
        scheduler=DDPMScheduler.from_pretrained(str(folders["base"]), subfolder="scheduler"),
        lpips=load_network("alex", "random").requires_grad_(False),
    )


@pytest.fixture
def latents() -> diffusion.Latents:
    vae = tiny.vae()
    with torch.no_grad():  # a posterior without spread: samples are the mode, as the independent computation assumes
        vae.quant_conv.weight[4:] = 0
        vae.quant_conv.bias[4:] = -100
    return diffusion.Latents(vae, Pairs(), cache=False)


def batch(latents: diffusion.Latents) -> Batch:
    rows = latents.load(torch.arange(COUNT))
    return Batch(rows, rows)


def run(parts: Parts, latents: diffusion.Latents, **changes: Any) -> dict[str, Tensor]:
    some = batch(latents)
    draws = Draws.whole(torch.Generator().manual_seed(1), len(some.pairs.indices))
    return dict(training_loss(parts, latents, recipe(**changes))(some, draws))


def modes(latents: diffusion.Latents, images: Tensor) -> Tensor:
    return latents.vae.encode(images / 127.5 - 1).latent_dist.mean


@pytest.mark.parametrize(("predicts", "share"), [("epsilon", 1.0), ("v_prediction", 0.5)])
def test_loss_equals_one_worked_out_from_the_unets_input(
    parts: Parts, latents: diffusion.Latents, predicts: str, share: float
) -> None:
    parts.scheduler.register_to_config(prediction_type=predicts)
    found = run(parts, latents, lpips_share=share)
    original, edited = Pairs().batch(list(range(COUNT)))
    unet = parts.unet
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    alpha = torch.cumprod(1 - betas, 0)[unet.timesteps].view(-1, 1, 1, 1)
    clean = modes(latents, edited) * 0.18215
    noisy, condition = unet.sample.split(4, dim=1)
    noise = (noisy - alpha.sqrt() * clean) / (1 - alpha).sqrt()
    assert abs(float(noise.mean())) < 0.1
    assert float(noise.std()) == pytest.approx(1, abs=0.1)
    assert len(unet.timesteps.unique()) > COUNT // 2
    assert (condition - modes(latents, original)).abs().max() < 1e-6  # not scaled by 0.18215
    seen = pair_pixels(original, edited, parts.processor)
    tokens = parts.projection(parts.encoder.vision_model(seen).last_hidden_state)
    assert torch.equal(unet.tokens, tokens)

    if predicts == "epsilon":
        target, estimate = noise, (noisy - (1 - alpha).sqrt() * unet.output) / alpha.sqrt()
    else:
        target = alpha.sqrt() * noise - (1 - alpha).sqrt() * clean
        estimate = alpha.sqrt() * noisy - (1 - alpha).sqrt() * unet.output
    denoising = (unet.output - target).square().mean()
    some = slice(round(share * COUNT))
    images = latents.vae.decode(estimate[some] / 0.18215).sample  # not clamped
    sides = [nn.functional.interpolate(x, (64, 64), mode="bilinear") for x in (images, original[some] / 127.5 - 1)]
    perceptual = parts.lpips(*sides).mean()
    assert float(found["denoising"].detach()) == pytest.approx(float(denoising.detach()), rel=1e-4)
    assert float(found["lpips"].detach()) == pytest.approx(float(perceptual.detach()), rel=1e-4)
    total = denoising + 0.05 * perceptual
    assert float(found["loss"].detach()) == pytest.approx(float(total.detach()), rel=1e-4)

    expected = torch.autograd.grad(total, [parts.projection.proj.weight, unet.unet.conv_in.weight], retain_graph=True)
    gradients = torch.autograd.grad(found["loss"], [parts.projection.proj.weight, unet.unet.conv_in.weight])
    for mine, theirs in zip(gradients, expected, strict=True):
        assert (mine - theirs).abs().max() <= 1e-3 * theirs.abs().max()


@pytest.mark.parametrize("layer", get_args(Layer))
@pytest.mark.parametrize("condition", get_args(Condition))
def test_pipeline_samples_on_the_tokens_that_were_trained_on(
    latents: diffusion.Latents, folders: dict[str, Path], tmp_path: Path, condition: Any, layer: Any
) -> None:
    encoder = folders["editclip"]
    if condition != "edit":
        encoder = tmp_path / "clip"
        tiny.save_clip(encoder)
    conditioning = Conditioning(condition, layer, path_digest(encoder))
    parts = parts_for(conditioning, encoder, folders)
    run(parts, latents, lpips_share=0.1)
    parts.unet.unet.save_pretrained(tmp_path / "out" / "unet")
    parts.projection.save(tmp_path / "out")
    conditioning.save(tmp_path / "out")
    pipeline = EditCLIPPipeline.from_released(editclip_ip2p=tmp_path / "out", editclip=encoder, base=folders["base"])
    assert torch.equal(pipeline.encode_exemplar(*Pairs().batch(list(range(COUNT)))), parts.unet.tokens)


def test_lost_conditions_are_zeros(parts: Parts, latents: diffusion.Latents) -> None:
    run(parts, latents, condition_dropout=0.5)  # then every sample loses its edit, and those with u ≥ ½ the image
    assert not parts.unet.tokens.any()
    lost = [not row.any() for row in parts.unet.sample[:, 4:]]
    assert 0 < sum(lost) < COUNT
    run(parts, latents, condition_dropout=0.0)
    assert all(row.any() for row in parts.unet.tokens)
    assert all(row.any() for row in parts.unet.sample[:, 4:])


def test_a_flip_mirrors_pair_and_exemplar_alike(parts: Parts, latents: diffusion.Latents) -> None:
    found = run(parts, latents, flip_probability=1.0)
    original, edited = (side.flip(-1) for side in Pairs().batch(list(range(COUNT))))
    assert (parts.unet.sample[:, 4:] - modes(latents, original)).abs().max() < 1e-6
    seen = pair_pixels(original, edited, parts.processor)
    assert torch.equal(parts.unet.tokens, parts.projection(parts.encoder.vision_model(seen).last_hidden_state))
    mirrored = diffusion.Latents(latents.vae, Pairs(), cache=False)
    mirrored.triplets.batch = lambda indices: (original, edited)
    assert float(run(parts, mirrored)["loss"].detach()) == pytest.approx(float(found["loss"].detach()), rel=1e-5)


def test_overflowing_lpips_leaves_the_denoising_loss(parts: Parts, latents: diffusion.Latents) -> None:
    class Overflow(nn.Module):
        def forward(self, images: Tensor, references: Tensor) -> Tensor:
            return images.mean((1, 2, 3), keepdim=True) * torch.inf

    parts.lpips = Overflow()
    found = run(parts, latents)
    assert torch.equal(found["loss"], found["denoising"])
    found["loss"].backward()
    assert all(torch.isfinite(p.grad).all() for p in parts.unet.parameters())


def test_lpips_of_a_cut_batch_averages_to_that_of_the_whole(parts: Parts, latents: diffusion.Latents) -> None:
    """As microbatches and processes cut it: a third of the rows lie in the first half alone."""
    loss = training_loss(parts, latents, recipe(lpips_share=1 / 3))
    found = []
    for rows in (torch.arange(COUNT), *torch.arange(COUNT).chunk(2)):
        some = latents.load(rows)
        found.append(dict(loss(Batch(some, some), Draws(torch.Generator().manual_seed(1), rows, COUNT))))
    whole, *cut = ({name: float(value.detach()) for name, value in part.items()} for part in found)
    for name in ("loss", "denoising", "lpips"):
        assert sum(part[name] for part in cut) / 2 == pytest.approx(whole[name], rel=1e-4), name
    assert cut[1]["lpips"] == 0 < whole["lpips"]


def test_no_lpips_weight_means_no_network(parts: Parts, latents: diffusion.Latents) -> None:
    with_network = run(parts, latents)
    parts.lpips = None
    assert torch.equal(run(parts, latents)["loss"], with_network["denoising"])


def test_inherited_unet_is_left_as_it_is(folders: dict[str, Path]) -> None:
    unet, source = start_unet(folders["base"], 4, "inherited"), tiny.unet(8)
    assert all(torch.equal(a, b) for a, b in zip(unet.parameters(), source.parameters(), strict=True))
    with pytest.raises(InputError, match="8 input channels, but unet_start: zeroed needs 4"):
        start_unet(folders["base"], 4, "zeroed")


def test_zeroed_unet_is_the_released_scripts_start(tmp_path: Path) -> None:
    source = tiny.unet(4)
    source.save_pretrained(tmp_path / "unet")
    unet = start_unet(tmp_path, 4, "zeroed")
    assert unet.config.in_channels == 8
    assert torch.equal(unet.conv_in.weight[:, :4], source.conv_in.weight)
    assert not unet.conv_in.weight[:, 4:].any()
    assert (unet.conv_in.bias - source.conv_in.bias).abs().max() > 1e-3  # a new layer's bias, not the old one's
    with pytest.raises(InputError, match="needs 8"):
        start_unet(tmp_path, 4, "inherited")


def test_exemplars_of_the_same_edit_are_other_pairs_of_it() -> None:
    edits = ["red", "red", "big", "red", "big", "alone"]
    draw = exemplar_draw(lambda step: torch.arange(6), edits, seed=0)
    seen = [draw(step) for step in range(60)]
    assert all(torch.equal(rows[:, 0], torch.arange(6)) for rows in seen)
    partners = [{int(rows[i, 1]) for rows in seen} for i in range(6)]
    assert partners == [{1, 3}, {0, 3}, {4}, {0, 1}, {2}, {5}]
    assert torch.equal(draw(7), seen[7])
    assert torch.equal(exemplar_draw(lambda step: torch.tensor([4, 2]), None, 0)(0), torch.tensor([[4, 4], [2, 2]]))


def test_same_edit_needs_edit_ids(parts: Parts, latents: diffusion.Latents, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no column edit_id"):
        exemplar_diffusion.train(
            parts, recipe(exemplar="same_edit"), latents, latents, 0, checkpoints=tmp_path, logs=tmp_path / "logs"
        )


@pytest.mark.parametrize(("condition", "layer"), [("edit", "hidden"), ("channels", "projected")])
def test_command_line_trains_what_the_pipeline_loads(
    train: Any, triplets: Path, foundations: Path, tmp_path: Path, condition: str, layer: str
) -> None:
    encoder = clip = foundations / "clip"
    if condition == "edit":
        encoder = train(contrastive, CONTRASTIVE, tmp_path / "editclip", triplets=triplets, clip=clip)
    options = {
        **RECIPE,
        "condition": condition,
        "layer": layer,
        "exemplar": "same_edit",
        "condition_dropout": 0.05,
        "flip_probability": 0.5,
        "cache_latents": True,
    }
    out = train(
        exemplar_diffusion,
        options,
        tmp_path / "editclip_ip2p",
        triplets=triplets,
        ip2p=foundations / "ip2p",
        encoder=encoder,
    )
    assert Conditioning.load(out) == Conditioning(condition, layer, path_digest(encoder))  # type: ignore[arg-type]
    pipeline = EditCLIPPipeline.from_released(editclip_ip2p=out, editclip=encoder, base=foundations / "ip2p")
    pipeline.set_progress_bar_config(disable=True)
    images = Triplets(triplets, "validation", 32).batch([0])[0][0].permute(1, 2, 0).numpy()
    query = tiny.Image.fromarray(images)
    assert pipeline(query, (query, query), num_inference_steps=2).images[0].size == (32, 32)
    lines = [json.loads(line) for line in (out / "logs" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {"loss", "denoising", "lpips", "validation/loss", "validation/loss_wrong_exemplar"} <= lines[-1].keys()
