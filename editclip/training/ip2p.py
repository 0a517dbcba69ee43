"""Train InstructPix2Pix from a text-to-image model.

The UNet gets the unscaled latents of the image to edit as further input channels, whose weights start at zero, and is
conditioned on the instruction (https://arxiv.org/abs/2211.09800). VAE, text encoder and prediction type are those of
the text-to-image pipeline. The result is a StableDiffusionInstructPix2PixPipeline folder.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from PIL import Image
from torch import Tensor

from editclip.data.triplets import Triplets
from editclip.patch_vae import load_vae
from editclip.recipes.ip2p import IP2PRecipe
from editclip.storage import write_json
from editclip.training import diffusion, loop
from editclip.training.diffusion import Latents
from editclip.training.draws import Draws
from editclip.training.job import Job
from editclip.training.processes import process_state
from editclip.training.text_conditioner import TextConditioner


def with_image_channels(unet: UNet2DConditionModel, image_channels: int) -> UNet2DConditionModel:
    """A copy of `unet` with further input channels whose weights are zero: at the start it ignores them."""
    wide = UNet2DConditionModel.from_config({**unet.config, "in_channels": unet.config.in_channels + image_channels})
    state = unet.state_dict()
    kernel = state["conv_in.weight"]
    added = kernel.new_zeros(kernel.shape[0], image_channels, *kernel.shape[2:])
    wide.load_state_dict({**state, "conv_in.weight": torch.cat([kernel, added], dim=1)})
    return wide


def training_loss(
    unet: UNet2DConditionModel, latents: Latents, text: TextConditioner, scheduler: DDPMScheduler, recipe: IP2PRecipe
) -> loop.LossFunction:
    """Denoising loss of the edited image, given the original one and the instruction."""
    prompts = latents.triplets.edit_prompts

    def loss(batch: diffusion.Batch, draws: Draws) -> Mapping[str, Tensor]:
        flips = draws.uniform() < 0.5 if recipe.random_flip else None
        clean = latents.latents("edited", batch, draws, flips)
        noised = diffusion.add_noise(scheduler, clean, draws, recipe.timesteps)
        image = latents.image_condition("original", batch, flips)
        no_text, no_image = diffusion.dropped_conditions(recipe.condition_dropout, draws)
        said = ["" if drop else prompts[i] for i, drop in zip(batch.indices.tolist(), no_text.tolist(), strict=True)]
        image = image.masked_fill(no_image.to(image.device)[:, None, None, None], 0)
        output = unet(torch.cat([noised.noisy, image], dim=1), noised.timesteps, text(said)).sample
        return {"loss": diffusion.denoising_loss(scheduler, output, noised)}

    return loss


def train(
    recipe: IP2PRecipe,
    start: UNet2DConditionModel,
    scheduler: DDPMScheduler,
    latents: tuple[Latents, Latents],
    text: TextConditioner,
    seed: int,
    checkpoints: Path,
    logs: Path,
) -> UNet2DConditionModel:
    """Train an 8-channel style UNet from the text-to-image UNet `start`.

    Args:
        recipe: the recipe.
        start: text-to-image UNet with in_channels = latent channels.
        scheduler: noise schedule and prediction type of `start`.
        latents: of the training and of the validation split.
        text: frozen text encoder.
        seed: see `loop.fit`, as for the folders.
        checkpoints: see `loop.fit`.
        logs: see `loop.fit`.
    """
    training, held_out = latents
    unet = with_image_channels(start, int(training.vae.config.latent_channels)).to(loop.device())
    validation = training_loss(unet, held_out, text, scheduler, recipe)
    kept = checkpoints / "kept"  # it outlives a kill, as checkpoints do

    def keep(step: int) -> None:
        half = {name: tensor.half() for name, tensor in unet.state_dict().items()}
        unet.save_pretrained(kept / f"{step:06d}", state_dict=half)

    loop.fit(
        training_loss(unet, training, text, scheduler, recipe),
        loop.decay_groups(unet),
        recipe,
        modules={"unet": unet},
        draw=loop.shuffled_batches(len(training.triplets), recipe.batch_size, seed),
        load=training.load,
        seed=seed,
        validate=diffusion.validation_loss(validation, held_out, recipe.validation_examples),
        keep=keep if recipe.keep_validated else None,
        checkpoints=checkpoints,
        logs=logs,
    )
    if kept.is_dir() and process_state().is_main_process:  # who may still write when others come here
        shutil.copytree(kept, logs / "kept", dirs_exist_ok=True)
    return unet


def validation_edits(
    pipeline: StableDiffusionInstructPix2PixPipeline, triplets: Triplets, recipe: IP2PRecipe, folder: Path
) -> None:
    """Edit held-out rows spread over the split; write edits.png (rows: query, edit, truth) and edits.json.

    edits.json compares with the true edited image: pooled PSNR of the edit and of the unedited query, and the share of
    rows where the edit is closer to it than the query is.
    """
    rows = torch.linspace(0, len(triplets) - 1, min(recipe.validation_edits, len(triplets))).long().tolist()
    queries, truth = triplets.batch(rows)
    made = []
    for part in torch.arange(len(rows)).split(32):
        generators = [loop.seeded(0, "edit", rows[i]) for i in part.tolist()]
        result = pipeline(
            prompt=[triplets.edit_prompts[rows[i]] for i in part.tolist()],
            image=[Image.fromarray(queries[i].permute(1, 2, 0).numpy()) for i in part.tolist()],
            num_inference_steps=recipe.num_inference_steps,
            guidance_scale=recipe.guidance_scale,
            image_guidance_scale=recipe.image_guidance_scale,
            generator=generators,
            output_type="pt",
        )
        made.append(result.images.cpu().mul(255).round().byte())
    edits = torch.cat(made)
    errors = [(x.double() - truth.double()).square().mean((1, 2, 3)) for x in (edits, queries)]
    values = {
        "rows": len(rows),
        "psnr_edit": diffusion.pooled_psnr(edits, truth, peak=255),
        "psnr_query": diffusion.pooled_psnr(queries, truth, peak=255),
        "closer_than_query": float((errors[0] < errors[1]).double().mean()),
    }
    write_json(folder / "edits.json", values)
    grid = torch.stack([queries, edits, truth])[:, :16].permute(0, 3, 1, 4, 2)
    Image.fromarray(grid.flatten(2, 3).flatten(0, 1).numpy()).save(folder / "edits.png")


def run(job: Job[IP2PRecipe]) -> None:
    """Train and fill `job.out`."""
    base, recipe = job.weights["text_to_image"], job.recipe
    vae = load_vae(base / "vae").to(loop.device())
    text = TextConditioner(base / "text_encoder", base / "tokenizer").to(loop.device())
    start = UNet2DConditionModel.from_pretrained(base, subfolder="unet")
    scheduler = DDPMScheduler.from_pretrained(base, subfolder="scheduler")
    held_out = Triplets(job.triplets, "validation", recipe.resolution)
    training = Triplets(job.triplets, "train", recipe.resolution)
    latents = Latents(vae, training, cache=recipe.cache_latents), Latents(vae, held_out, cache=recipe.cache_latents)
    unet = train(recipe, start, scheduler, latents, text, job.seed, checkpoints=job.checkpoints, logs=job.logs)
    kind, prediction = StableDiffusionInstructPix2PixPipeline, scheduler.config.prediction_type
    pipeline = diffusion.build_pipeline(kind, unet, vae, text, prediction)
    pipeline.save_pretrained(job.out)
    if recipe.validation_edits:
        pipeline.set_progress_bar_config(leave=False, desc="validation edits")
        validation_edits(pipeline, held_out, recipe, job.logs)
