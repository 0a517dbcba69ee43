"""Train Prompt Diffusion from a text-to-image model.

The ControlNet starts as a copy of the UNet's encoder; it and the UNet's decoder are trained, everything else is frozen
(https://arxiv.org/abs/2305.01115 and the released code's default). The result has the layout of the released
zhendongw/prompt-diffusion-diffusers: a StableDiffusionPipeline folder with `controlnet/`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor

from baselines.prompt_diffusion.network import Networks, PairQueryControlNet
from baselines.prompt_diffusion.recipe import PromptDiffusionRecipe
from baselines.prompt_diffusion.tasks import edit_episode, map_episode
from editclip.data.triplets import Triplets
from editclip.errors import InputError
from editclip.patch_vae import load_vae
from editclip.pipeline_parts import load_part
from editclip.training import diffusion, loop
from editclip.training.diffusion import Latents
from editclip.training.draws import Draws
from editclip.training.exemplars import Batch, exemplar_draw
from editclip.training.job import Job
from editclip.training.text_conditioner import TextConditioner


def dropped_conditions(uniform: Tensor, recipe: PromptDiffusionRecipe) -> tuple[Tensor, Tensor]:
    """Which examples lose their text and which their pair, from one uniform number each (the official intervals)."""
    text, joint = recipe.text_dropout, recipe.text_dropout + recipe.joint_dropout
    return uniform < joint, (uniform >= text) & (uniform < joint + recipe.pair_dropout)


def training_loss(
    networks: Networks, latents: Latents, text: TextConditioner, scheduler: DDPMScheduler, recipe: PromptDiffusionRecipe
) -> Callable[[Batch, Draws], Mapping[str, Tensor]]:
    """Denoising loss of the answer, given the query, the exemplar pair and the text."""
    device, controlnet = loop.device(), networks.controlnet
    compose = {"maps": map_episode, "edits": edit_episode}[recipe.tasks]

    def loss(batch: Batch, draws: Draws) -> Mapping[str, Tensor]:
        episode = compose(batch, latents.triplets, draws)
        clean = draws.posterior_sample(latents.encode(episode.answer)) * latents.scaling_factor
        noised = diffusion.add_noise(scheduler, clean, draws)
        no_text, no_pair = dropped_conditions(draws.uniform(), recipe)
        before, after, query = (diffusion.to_pixels(images.to(device)) for images in episode[:3])
        pair = torch.cat([before, after], dim=1).masked_fill(no_pair.to(device)[:, None, None, None], 0)
        said = ["" if drop else words for words, drop in zip(episode.texts, no_text.tolist(), strict=True)]
        hint = controlnet.pair_hint(pair) + controlnet.query_hint(query)
        output = networks.denoise(noised.noisy, noised.timesteps, text(said), hint)
        return {"loss": diffusion.denoising_loss(scheduler, output, noised)}

    return loss


def start_networks(unet: UNet2DConditionModel, recipe: PromptDiffusionRecipe) -> Networks:
    """The networks to begin with: what `unet` computes, whatever the hints; only what is trained has gradients."""
    controlnet = PairQueryControlNet.beside(unet, recipe.hint_channels)
    for encoder in (controlnet.controlnet_cond_embedding, controlnet.controlnet_query_cond_embedding):
        for hidden in (encoder.conv_in, *encoder.blocks):
            hidden.weight.data.mul_(recipe.hint_gain)
    unet.requires_grad_(False)
    if recipe.trained_unet == "decoder":
        for part in (unet.up_blocks, unet.conv_norm_out, unet.conv_out):
            part.requires_grad_(True)
    return Networks(unet, controlnet)


def exemplar_batches(triplets: Triplets, recipe: PromptDiffusionRecipe, seed: int) -> Callable[[int], Tensor]:
    """Step → rows of the batch and of their exemplars, B×2.

    The exemplar of a map is any other row, since a row of ours has no second picture of its own captions as the
    folders of InstructPix2Pix have; the exemplar of an edit is another row with the same edit.

    Raises:
        InputError: edits are to be learnt from triplets that do not name theirs.
    """
    rows = loop.shuffled_batches(len(triplets), recipe.batch_size, seed)
    if recipe.tasks == "maps":
        return exemplar_draw(rows, ["any"] * len(triplets), seed)
    if triplets.edit_ids is None:
        raise InputError("tasks is edits, but the triplets have no column edit_id; use tasks: maps")
    return exemplar_draw(rows, triplets.edit_ids, seed)


def validation(
    networks: Networks,
    latents: Latents,
    text: TextConditioner,
    scheduler: DDPMScheduler,
    recipe: PromptDiffusionRecipe,
) -> Callable[[], Mapping[str, float]]:
    """Losses on a split without any text, with the exemplar pair and without it: their gap is what the pair tells."""
    count = min(recipe.validation_examples, len(latents.triplets))
    recipe = recipe.model_copy(update={"batch_size": count})
    rows = exemplar_batches(latents.triplets, recipe, 0)(0)
    batch = Batch(latents.load(rows[:, 0]), latents.load(rows[:, 1]))
    shares = {"loss": (1.0, 0.0), "loss_without_pair": (0.0, 1.0)}
    losses = {
        name: training_loss(
            networks,
            latents,
            text,
            scheduler,
            recipe.model_copy(update={"text_dropout": alone, "joint_dropout": joint, "pair_dropout": 0.0}),
        )
        for name, (alone, joint) in shares.items()
    }

    def value(loss: loop.LossFunction) -> float:
        return float(loss(batch, Draws.whole(loop.seeded(0, "validation"), count))["loss"])

    return lambda: {name: value(loss) for name, loss in losses.items()}


def train(
    networks: Networks,
    recipe: PromptDiffusionRecipe,
    latents: tuple[Latents, Latents],
    text: TextConditioner,
    scheduler: DDPMScheduler,
    seed: int,
    checkpoints: Path,
    logs: Path,
) -> None:
    """Train `networks` in place on the first of `latents`, validated on the second; see `loop.fit` for the rest."""
    training, held_out = latents
    trained = [parameter for part in networks for parameter in part.parameters() if parameter.requires_grad]
    loop.fit(
        training_loss(networks, training, text, scheduler, recipe),
        [loop.Group(trained)],
        recipe,
        modules=networks._asdict(),
        draw=exemplar_batches(training.triplets, recipe, seed),
        load=lambda rows: Batch(training.load(rows[:, 0]), training.load(rows[:, 1])),
        seed=seed,
        validate=validation(networks, held_out, text, scheduler, recipe),
        checkpoints=checkpoints,
        logs=logs,
    )


def run(job: Job[PromptDiffusionRecipe]) -> None:
    """Train and fill `job.out`."""
    base, recipe, device = job.weights["text_to_image"], job.recipe, loop.device()
    vae = load_vae(base / "vae").to(device)
    text = TextConditioner(base / "text_encoder", base / "tokenizer").to(device)
    scheduler = DDPMScheduler.from_pretrained(str(base), subfolder="scheduler")
    networks = start_networks(load_part(UNet2DConditionModel, base, "unet"), recipe)
    networks.check(2 ** (len(vae.config.block_out_channels) - 1), "recipe")
    networks = Networks(*(part.to(device) for part in networks))
    splits = [Triplets(job.triplets, split, recipe.resolution) for split in ("train", "validation")]
    latents = Latents(vae, splits[0], cache=False), Latents(vae, splits[1], cache=False)
    train(networks, recipe, latents, text, scheduler, job.seed, checkpoints=job.checkpoints, logs=job.logs)
    kind, prediction = StableDiffusionPipeline, scheduler.config.prediction_type
    diffusion.build_pipeline(kind, networks.unet, vae, text, prediction).save_pretrained(job.out)
    networks.controlnet.save_pretrained(job.out / "controlnet")
