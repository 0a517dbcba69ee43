"""Train InstaManip's renderer from an InstructPix2Pix: de-tokenizer and UNet learn together.

The frozen tower reads the edited image, the de-tokenizer turns its features into the UNet's conditions, and the UNet
denoises that image given the unscaled latents of the one before the edit: SEED-X's second stage, whose training is not
published. What of the UNet has the shape of InstructPix2Pix's starts as that; `logs/new_tensors.json` lists the rest,
which is SDXL's added embedding.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from torch import Tensor, nn

from baselines.instamanip.detokenizer import Detokenizer
from baselines.instamanip.renderer_layout import RendererSizes, empty_detokenizer, save_renderer
from baselines.instamanip.renderer_recipe import RendererRecipe
from baselines.instamanip.train_vision import with_noise
from baselines.instamanip.vision import VisionTower
from baselines.instamanip.vision_layout import load_vision
from editclip.data.triplets import Triplets
from editclip.errors import InputError
from editclip.patch_vae import load_vae
from editclip.pipeline_parts import load_unet
from editclip.storage import write_json
from editclip.training import diffusion, loop
from editclip.training.diffusion import Latents
from editclip.training.draws import Draws
from editclip.training.job import Job


class Networks(NamedTuple):
    """What is trained."""

    detokenizer: Detokenizer
    unet: UNet2DConditionModel


def with_added_embedding(
    unet: UNet2DConditionModel, context_width: int, pooled_width: int, time_width: int
) -> tuple[UNet2DConditionModel, list[str]]:
    """SDXL's kind of UNet with the tensors of InstructPix2Pix's, and the names of those that are new.

    What is added to the time embedding starts at zero.

    Raises:
        InputError: the context has another width than the UNet's.
    """
    if context_width != unet.config.cross_attention_dim:
        raise InputError(
            f"detokenizer.context_widths add up to {context_width}, but the InstructPix2Pix it starts from has "
            f"cross_attention_dim {unet.config.cross_attention_dim}; make them equal"
        )
    added: dict[str, Any] = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": time_width,
        "projection_class_embeddings_input_dim": 6 * time_width + pooled_width,
    }
    own = {key: value for key, value in unet.config.items() if not key.startswith("_")}  # one of which undoes `added`
    wide = UNet2DConditionModel.from_config({**own, **added})
    nn.init.zeros_(wide.add_embedding.linear_2.weight)
    nn.init.zeros_(wide.add_embedding.linear_2.bias)
    new = sorted(wide.load_state_dict(unet.state_dict(), strict=False).missing_keys)
    return wide, new


def size_numbers(side: int, count: int) -> Tensor:
    """SDXL's six numbers (original size, crop, target size) of uncropped squares, count×6."""
    return torch.tensor([side, side, 0, 0, side, side], dtype=torch.float32).expand(count, -1)


def training_loss(
    networks: Networks,
    vision: VisionTower,
    latents: Latents,
    scheduler: DDPMScheduler,
    recipe: RendererRecipe,
    wrong: bool = False,
) -> loop.LossFunction:
    """Denoising loss of the edited image, given its features and the original one.

    Args:
        networks: what is trained.
        vision: the frozen tower.
        latents: of the split.
        scheduler: noise schedule and prediction type.
        recipe: noise and dropout of conditions.
        wrong: give each row the features of the one before it; what that costs is what the features tell.
    """
    device = loop.device()
    with torch.no_grad():
        no_features = vision.no_features()

    def loss(batch: diffusion.Batch, draws: Draws) -> Mapping[str, Tensor]:
        clean = latents.latents("edited", batch, draws)
        noised = diffusion.add_noise(scheduler, clean, draws, recipe.timesteps)
        image = latents.image_condition("original", batch)
        with torch.no_grad():
            features = vision.features(vision.normalised(batch.edited.to(device).float() / 255))
        if wrong:
            features = features.roll(1, 0)
        features = with_noise(features, recipe.feature_noise, draws)
        no_edit, no_image = (lost.to(device) for lost in diffusion.dropped_conditions(recipe.condition_dropout, draws))
        features = torch.where(no_edit[:, None, None], no_features.to(features), features)
        image = image.masked_fill(no_image[:, None, None, None], 0)
        context, embedding = networks.detokenizer(features)
        added = {"text_embeds": embedding, "time_ids": size_numbers(recipe.resolution, len(context)).to(device)}
        noisy = torch.cat([noised.noisy, image], dim=1)
        output = networks.unet(noisy, noised.timesteps, context, added_cond_kwargs=added).sample
        return {"loss": diffusion.denoising_loss(scheduler, output, noised)}

    return loss


def train(
    networks: Networks,
    vision: VisionTower,
    recipe: RendererRecipe,
    latents: tuple[Latents, Latents],
    scheduler: DDPMScheduler,
    job: Job[RendererRecipe],
) -> None:
    """Train `networks` in place on the first of `latents`, validated on the second."""
    training, held_out = latents
    checks = {
        name: diffusion.validation_loss(
            training_loss(networks, vision, held_out, scheduler, recipe, wrong), held_out, recipe.validation_examples
        )
        for name, wrong in (("loss", False), ("loss_wrong_features", True))
    }
    loop.fit(
        training_loss(networks, vision, training, scheduler, recipe),
        [group for part in networks for group in loop.decay_groups(part)],
        recipe,
        modules=networks._asdict(),
        draw=loop.shuffled_batches(len(training.triplets), recipe.batch_size, job.seed),
        load=training.load,
        seed=job.seed,
        validate=lambda: {name: check()["loss"] for name, check in checks.items()},
        checkpoints=job.checkpoints,
        logs=job.logs,
    )


def run(job: Job[RendererRecipe]) -> None:
    """Train and fill `job.out`."""
    base, recipe, device = job.weights["ip2p"], job.recipe, loop.device()
    loop.refuse_cut_batches(recipe)  # the noise on features has the deviation of all rows
    widths = recipe.detokenizer.context_widths
    vae, vision = load_vae(base / "vae").to(device), load_vision(job.weights["instamanip_vision"]).to(device)
    scheduler = DDPMScheduler.from_pretrained(str(base), subfolder="scheduler")
    unet, new = with_added_embedding(load_unet(base), sum(widths), widths[1], recipe.time_width)
    sizes = RendererSizes(
        detokenizer=recipe.detokenizer, slots=vision.sizes.slots, feature_width=vision.sizes.feature_width
    )
    networks = Networks(empty_detokenizer(sizes).to(device), unet.to(device))
    splits = (Triplets(job.triplets, split, recipe.resolution) for split in ("train", "validation"))
    training, held_out = (Latents(vae, split, cache=recipe.cache_latents) for split in splits)
    train(networks, vision, recipe, (training, held_out), scheduler, job)
    save_renderer(job.out, sizes, networks.detokenizer)
    unet.save_pretrained(job.out / "unet")
    vae.save_pretrained(job.out / "vae")
    EulerDiscreteScheduler.from_config(scheduler.config).save_pretrained(job.out / "scheduler")
    write_json(job.logs / "new_tensors.json", new)
