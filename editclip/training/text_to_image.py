"""Train a text-to-image latent diffusion model on captions of triplets.

The text encoder (of a CLIP folder) and the VAE are frozen. The result is a StableDiffusionPipeline folder.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from editclip.data.triplets import Triplets
from editclip.patch_vae import load_vae
from editclip.recipes.text_to_image import TextToImageRecipe
from editclip.training import diffusion, loop
from editclip.training.diffusion import Latents
from editclip.training.draws import Draws
from editclip.training.job import Job, build
from editclip.training.text_conditioner import TextConditioner


def training_loss(
    unet: UNet2DConditionModel, latents: Latents, text: TextConditioner, recipe: TextToImageRecipe
) -> loop.LossFunction:
    """Denoising loss of both images of each row, given their captions."""
    scheduler = diffusion.training_scheduler(recipe.prediction_type)
    triplets = latents.triplets

    def loss(batch: diffusion.Batch, draws: Draws) -> Mapping[str, Tensor]:
        clean = torch.cat([latents.latents("original", batch, draws), latents.latents("edited", batch, draws)])
        both = draws.repeated(2)
        rows = batch.indices.tolist()
        captions = [triplets.original_prompts[i] for i in rows] + [triplets.edited_prompts[i] for i in rows]
        dropped = both.uniform() < recipe.caption_dropout
        said = ["" if drop else caption for caption, drop in zip(captions, dropped.tolist(), strict=True)]
        noised = diffusion.add_noise(scheduler, clean, both)
        output = unet(noised.noisy, noised.timesteps, text(said)).sample
        return {"loss": diffusion.denoising_loss(scheduler, output, noised)}

    return loss


def train(
    recipe: TextToImageRecipe,
    latents: Latents,
    held_out: Latents,
    text: TextConditioner,
    seed: int,
    checkpoints: Path,
    logs: Path,
) -> UNet2DConditionModel:
    """Train a UNet from scratch on `latents`; see `loop.fit` for the folders."""
    channels = int(latents.vae.config.latent_channels)
    reduction = 2 ** (len(latents.vae.config.block_out_channels) - 1)
    unet = build(
        UNet2DConditionModel,
        recipe.unet,
        sample_size=recipe.resolution // reduction,
        in_channels=channels,
        out_channels=channels,
        cross_attention_dim=text.width,
    ).to(loop.device())
    validation = training_loss(unet, held_out, text, recipe)
    loop.fit(
        training_loss(unet, latents, text, recipe),
        loop.decay_groups(unet),
        recipe,
        modules={"unet": unet},
        draw=loop.shuffled_batches(len(latents.triplets), recipe.batch_size, seed),
        load=latents.load,
        seed=seed,
        validate=diffusion.validation_loss(validation, held_out, recipe.validation_examples),
        checkpoints=checkpoints,
        logs=logs,
    )
    return unet


def run(job: Job[TextToImageRecipe]) -> None:
    """Train and fill `job.out`."""
    vae = load_vae(job.weights["vae"]).to(loop.device())
    text = TextConditioner(job.weights["clip"]).to(loop.device())
    folder, size, cache = job.triplets, job.recipe.resolution, job.recipe.cache_latents
    sides = [Latents(vae, Triplets(folder, split, size), cache=cache) for split in ("train", "validation")]
    unet = train(job.recipe, sides[0], sides[1], text, job.seed, checkpoints=job.checkpoints, logs=job.logs)
    pipeline = diffusion.build_pipeline(StableDiffusionPipeline, unet, vae, text, job.recipe.prediction_type)
    pipeline.save_pretrained(job.out)
