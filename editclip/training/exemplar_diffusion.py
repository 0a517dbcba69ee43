"""Train EditCLIP-IP2P.

InstructPix2Pix goes on training with EditCLIP's tokens of an exemplar in place of the instruction; the UNet and the
projection of the tokens are trained, EditCLIP and the VAE are frozen (https://arxiv.org/abs/2503.20318, section 4; the
details are the released training code's). The result is `unet/`, `image_proj_model.safetensors` and
`conditioning.json`, which says what the tokens were.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers import CLIPImageProcessorPil, CLIPVisionModelWithProjection

from editclip.conditioning import Conditioning
from editclip.data.triplets import Triplets
from editclip.errors import InputError
from editclip.metrics.perceptual import load_network
from editclip.patch_vae import load_vae
from editclip.pipeline_parts import load_unet
from editclip.projection import ImageProjModel
from editclip.recipes.exemplar_diffusion import ExemplarDiffusionRecipe
from editclip.storage import path_digest
from editclip.training import diffusion, loop
from editclip.training.diffusion import Latents
from editclip.training.draws import Draws
from editclip.training.exemplars import Batch, exemplar_draw, mirrored
from editclip.training.job import Job

SPLIT_SEED = 42  # of the official held-out pairs of this stage, where the data has no validation shards


@dataclass
class Parts:
    """What one training works with: `unet` and `projection` are trained, the other networks are frozen."""

    unet: UNet2DConditionModel
    projection: ImageProjModel
    encoder: CLIPVisionModelWithProjection
    processor: CLIPImageProcessorPil
    conditioning: Conditioning
    scheduler: DDPMScheduler
    lpips: nn.Module | None


def start_unet(folder: Path, latent_channels: int, start: str) -> UNet2DConditionModel:
    """The UNet to begin with; see `ExemplarDiffusionRecipe.unet_start`.

    Raises:
        InputError: the folder's UNet has the wrong number of input channels for this start.
    """
    unet = load_unet(folder)
    needed = latent_channels * (2 if start == "inherited" else 1)
    if unet.config.in_channels != needed:
        kind = "InstructPix2Pix" if start == "inherited" else "text-to-image"
        raise InputError(
            f"{folder}: its UNet has {unet.config.in_channels} input channels, but unet_start: {start} needs {needed}; "
            f"give a {kind} folder."
        )
    if start == "zeroed":
        old = unet.conv_in
        unet.conv_in = nn.Conv2d(2 * latent_channels, old.out_channels, old.kernel_size, old.stride, old.padding)
        with torch.no_grad():
            unet.conv_in.weight.zero_()
            unet.conv_in.weight[:, :latent_channels] = old.weight
        unet.register_to_config(in_channels=2 * latent_channels)
    return unet


def perceptual_distance(network: nn.Module, images: Tensor, references: Tensor, resolution: int) -> Tensor:
    """Mean LPIPS of images to references, both B×3×R×R in [-1, 1], in fp32 whatever the training's precision."""
    with torch.autocast(images.device.type, enabled=False):
        sides = [images.float(), references.float()]
        if images.shape[-1] < resolution:
            sides = [interpolate(side, (resolution, resolution), mode="bilinear") for side in sides]
        return network(*sides).mean()


def training_loss(
    parts: Parts, latents: Latents, recipe: ExemplarDiffusionRecipe
) -> Callable[..., Mapping[str, Tensor]]:
    """Denoising loss plus weighted LPIPS, as a `loop.LossFunction` on a `Batch`."""
    scheduler, device = parts.scheduler, loop.device()

    def perceptual(output: Tensor, noised: diffusion.Noised, originals: Tensor, draws: Draws) -> Tensor:
        count = max(1, round(recipe.lpips_share * draws.total))  # the first rows of the whole batch
        part = draws.rows < count
        if not part.any():
            return output.new_zeros(())
        some = diffusion.Noised(*(value[part.to(value.device)] for value in noised))
        clean = diffusion.predicted_original(scheduler, output[part.to(device)], some) / latents.scaling_factor
        images = latents.vae.decode(clean.to(latents.vae.dtype)).sample
        references = diffusion.to_pixels(originals[part].to(device))
        assert parts.lpips is not None
        distance = perceptual_distance(parts.lpips, images, references, recipe.lpips_resolution)
        # The loop averages losses over a batch's parts: scaled so that this gives the mean over the first rows.
        return distance * (int(part.sum()) * draws.total / (count * len(part)))

    def loss(batch: Batch, draws: Draws) -> Mapping[str, Tensor]:
        flips = draws.uniform() < recipe.flip_probability
        clean = latents.latents("edited", batch.pairs, draws, flips)
        noised = diffusion.add_noise(scheduler, clean, draws, recipe.timesteps)
        condition = latents.image_condition("original", batch.pairs, flips)
        before, after = (mirrored(images.to(device), flips) for images in batch.exemplars[1:])
        tokens = parts.projection(parts.conditioning.tokens(parts.encoder, parts.processor, before, after))
        no_edit, no_image = (lost.to(device) for lost in diffusion.dropped_conditions(recipe.condition_dropout, draws))
        tokens = tokens.masked_fill(no_edit[:, None, None], 0)  # the null edit, after the projection's norm
        condition = condition.masked_fill(no_image[:, None, None, None], 0)
        output = parts.unet(torch.cat([noised.noisy, condition], dim=1), noised.timesteps, tokens).sample
        denoising = diffusion.denoising_loss(scheduler, output, noised)
        if parts.lpips is None:
            return {"loss": denoising}
        distance = perceptual(output, noised, mirrored(batch.pairs.original, flips), draws)
        finite = bool(torch.isfinite(distance))  # half precision can overflow where hardly any signal is left
        total = denoising + recipe.lpips_weight * distance if finite else denoising
        return {"loss": total, "denoising": denoising, "lpips": distance.nan_to_num(0, 0, 0)}

    return loss


def validation(parts: Parts, held_out: Latents, recipe: ExemplarDiffusionRecipe) -> Callable[[], Mapping[str, float]]:
    """Loss on a split with the pairs as their own exemplars, and with the next rows' edits as (wrong) exemplars.

    The more the second exceeds the first, the more the model looks at the exemplar.
    """
    loss = training_loss(parts, held_out, recipe)

    def own(pairs: diffusion.Batch, draws: Draws) -> Mapping[str, Tensor]:
        return loss(Batch(pairs, pairs), draws)

    def other(pairs: diffusion.Batch, draws: Draws) -> Mapping[str, Tensor]:
        return loss(Batch(pairs, diffusion.Batch(*(value.roll(1, 0) for value in pairs))), draws)

    runs = {
        "": diffusion.validation_loss(own, held_out, recipe.validation_examples),
        "_wrong_exemplar": diffusion.validation_loss(other, held_out, recipe.validation_examples),
    }
    return lambda: {f"loss{name}": run()["loss"] for name, run in runs.items()}


def train(
    parts: Parts, recipe: ExemplarDiffusionRecipe, latents: Latents, held_out: Latents, seed: int, **folders: Any
) -> None:
    """Train `parts.unet` and `parts.projection` in place; `folders` are `checkpoints` and `logs` of `loop.fit`.

    Raises:
        InputError: `exemplar: same_edit` without edit ids in the data.
    """
    edits = latents.triplets.edit_ids if recipe.exemplar == "same_edit" else None
    if recipe.exemplar == "same_edit" and edits is None:
        raise InputError("exemplar is same_edit, but the triplets have no column edit_id; use exemplar: self")
    unet, projection = list(parts.unet.parameters()), list(parts.projection.parameters())
    loop.fit(
        training_loss(parts, latents, recipe),
        [loop.Group(unet), loop.Group(projection, recipe.projection_learning_rate)],
        recipe,
        modules={"unet": parts.unet, "projection": parts.projection},
        draw=exemplar_draw(loop.shuffled_batches(len(latents.triplets), recipe.batch_size, seed), edits, seed),
        load=lambda rows: Batch(latents.load(rows[:, 0]), latents.load(rows[:, 1])),
        seed=seed,
        validate=validation(parts, held_out, recipe),
        clipped=[[*unet, *projection]] if recipe.clip_projection else [unet],
        **folders,
    )


def run(job: Job[ExemplarDiffusionRecipe]) -> None:
    """Train and fill `job.out`."""
    recipe, base, device = job.recipe, job.weights["ip2p"], loop.device()
    vae = load_vae(base / "vae").to(device)
    conditioning = Conditioning(recipe.condition, recipe.layer, path_digest(job.weights["encoder"]))
    encoder, processor = conditioning.load_encoder(job.weights["encoder"])
    unet = start_unet(base, vae.config.latent_channels, recipe.unet_start)
    if recipe.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    width = conditioning.token_width(encoder.config)
    lpips = load_network(recipe.lpips_net, recipe.lpips_trunk) if recipe.lpips_weight else None
    parts = Parts(
        unet=unet.to(device),
        projection=ImageProjModel(unet.config.cross_attention_dim, width).to(device),
        encoder=encoder.requires_grad_(False).to(device),
        processor=processor,
        conditioning=conditioning,
        scheduler=DDPMScheduler.from_pretrained(str(base), subfolder="scheduler"),
        lpips=None if lpips is None else lpips.requires_grad_(False).to(device),
    )
    train_split, held_out = (
        Latents(
            vae,
            Triplets(job.triplets, split, recipe.resolution, split_seed=SPLIT_SEED),
            cache=recipe.cache_latents,
        )
        for split in ("train", "validation")
    )
    train(parts, recipe, train_split, held_out, job.seed, checkpoints=job.checkpoints, logs=job.logs)
    unet.save_pretrained(job.out / "unet")
    parts.projection.save(job.out)
    conditioning.save(job.out)
