"""VISII's inversion: optimise the output of the text encoder so that InstructPix2Pix turns *before* into *after*."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor
from torch.nn import functional

from baselines.visii.caption import search_caption
from editclip.editing import Exemplar
from editclip.errors import InputError
from editclip.model import Clip, clip_pixels

COSINE_CEILING = 0.5  # official: above it the CLIP term no longer pulls
Prepared = dict[str, Tensor]
ALIKE = 1e-5  # shorter edit directions, relative to the feature, are rounding


@dataclass(frozen=True)
class Start:
    """All that the inversion of one exemplar starts from.

    Attributes:
        before: latents of the pairs' first images, n×c×h×w, unscaled as InstructPix2Pix takes them.
        after: latents of their second images, times the VAE's scaling factor.
        direction: CLIP's edit direction, D, of length 1.
        caption: the initial caption.
        embedding: its embedding, 1×L×C.
        eos: position of its first end token; tokens 1 to eos - 1 are learnt.
        generator: on the CPU, for noise and order.
    """

    before: Tensor
    after: Tensor
    direction: Tensor
    caption: str
    embedding: Tensor
    eos: int
    generator: torch.Generator


def check_options(options: Mapping[str, Any], timesteps: int) -> None:
    """Refuse option values that the inversion cannot follow.

    Raises:
        InputError: a count is below 1, there are more steps than timesteps, the checkpoint is none of them, or a
            guidance scale is in the range where the official script leaves guidance out.
    """
    for name in ("steps", "caption_tokens", "caption_steps", "prepare_batch_size"):
        if options[name] < 1:
            raise InputError(f"{name} {options[name]} must be at least 1")
    steps, checkpoint = options["steps"], options["checkpoint"]
    if steps > timesteps:
        raise InputError(f"steps {steps} must not exceed the {timesteps} timesteps: each is visited once")
    for name, least in (("training_guidance_scale", "above 1"), ("training_image_guidance_scale", "at least 1")):
        if options[name] < 1 or (options[name] == 1 and least == "above 1"):
            raise InputError(f"{name} {options[name]} must be {least}: below, there is no guidance to train with")
    named = checkpoint in ("best", "last")
    if not named and not (checkpoint.isdecimal() and 1 <= int(checkpoint) <= steps):
        raise InputError(f"checkpoint {checkpoint!r} must be best, last or the number of a step from 1 to {steps}")


@torch.no_grad()
def encode(pipeline: StableDiffusionInstructPix2PixPipeline, prompt: str) -> tuple[Tensor, int]:
    """Embedding 1×L×C of a prompt, cut to the encoder's context, and the position of its first end token."""
    tokenizer = pipeline.tokenizer
    ids = tokenizer(
        prompt,
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    ).input_ids
    states = pipeline.text_encoder(ids.to(pipeline.text_encoder.device)).last_hidden_state
    return states, int((ids[0] == tokenizer.eos_token_id).int().argmax())


def with_words(pipeline: StableDiffusionInstructPix2PixPipeline, embedding: Tensor, eos: int, words: str) -> Tensor:
    """A learnt embedding (1×L×C, end token at `eos`) followed by the embedding of `words`.

    As in the official script the words, from their start token to before their end token, are written two positions
    behind the learnt instruction's end token.

    Raises:
        InputError: they do not fit into the context.
    """
    said, length = encode(pipeline, words)
    first = eos + 2
    if first + length > embedding.shape[1]:
        raise InputError(
            f"hybrid_instruction {words!r} takes {length} tokens, but {max(embedding.shape[1] - first, 0)} are free "
            "behind the learnt instruction; shorten it or lower caption_tokens"
        )
    result = embedding.clone()
    result[:, first : first + length] = said[:, :length]
    return result


@torch.no_grad()
def start(
    pipeline: StableDiffusionInstructPix2PixPipeline, clip: Clip, exemplar: Exemplar, options: Mapping[str, Any]
) -> Start:
    """Caption, embedding, latents and edit direction of one exemplar of one or more pairs.

    One exemplar at a time, so that nothing of it, least of all the search of the caption, depends on a batch.

    Raises:
        InputError: there is no pair, before and after are alike to CLIP, or the caption has no token to learn.
    """
    if not exemplar.pairs:
        raise InputError(f"exemplar {exemplar.exemplar_id} has no pair of images; VISII learns from at least one")
    before, after = ([image.convert("RGB") for image in side] for side in zip(*exemplar.pairs, strict=True))
    features = [_mean_feature(clip, images) for images in (before, after)]
    direction = features[1] - features[0]
    if direction.norm() <= ALIKE * features[1].norm():
        raise InputError(
            f"exemplar {exemplar.exemplar_id}: before and after are identical, or alike to CLIP, so that there is no "
            "edit to learn; give a pair that differs"
        )
    generator = torch.Generator("cpu").manual_seed(exemplar.seed)
    caption = options["caption"] or search_caption(clip, after, generator, options)
    embedding, eos = encode(pipeline, caption)
    if eos < 2:
        raise InputError(f"exemplar {exemplar.exemplar_id}: the caption {caption!r} has no token to learn; give one")
    latents = [_latents(pipeline, images) for images in (before, after)]
    scaled = latents[1] * pipeline.vae.config.scaling_factor
    return Start(latents[0], scaled, functional.normalize(direction, dim=0), caption, embedding, eos, generator)


def _mean_feature(clip: Clip, images: Sequence[Any]) -> Tensor:
    """Mean projected image feature, D; not normalised, as in the official loss."""
    pixels = clip_pixels(images, clip.processor).to(clip.device, clip.model.dtype)
    return clip.model.get_image_features(pixels).pooler_output.mean(0)


def _latents(pipeline: StableDiffusionInstructPix2PixPipeline, images: Sequence[Any]) -> Tensor:
    """Modes of the images' posteriors, unscaled."""
    pixels = pipeline.image_processor.preprocess(list(images)).to(pipeline.vae.device, pipeline.vae.dtype)
    return pipeline.vae.encode(pixels).latent_dist.mode()


class Objective:
    """VISII's loss: InstructPix2Pix's denoising error with guidance inside it, and agreement with CLIP's direction."""

    def __init__(
        self, pipeline: StableDiffusionInstructPix2PixPipeline, clip: Clip, options: Mapping[str, Any]
    ) -> None:
        self.unet, self._project, self._options = pipeline.unet, clip.model.text_projection, options
        self._scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
        self.null, _ = encode(pipeline, "")

    def terms(
        self,
        embedding: Tensor,
        latents: tuple[Tensor, Tensor],
        noise: Tensor,
        timesteps: Tensor,
        directions: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Denoising error, and clamped cosine of the pooled embedding to the edit direction, B each.

        Args:
            embedding: B×L×C, with gradient.
            latents: of the images before (unscaled) and after (scaled), B×c×h×w.
            noise: of the same shape.
            timesteps: B whole numbers.
            directions: unit vectors B×D.
        """
        before, after = latents
        noisy = self._scheduler.add_noise(after, noise, timesteps)
        # The UNet's own target, so that v-prediction weighs the timesteps as its training did; official UNet: epsilon.
        velocity = self._scheduler.config.prediction_type == "v_prediction"
        target = self._scheduler.get_velocity(after, noise, timesteps) if velocity else noise
        full, image_only, neither = self.guided_rows(noisy, before, timesteps, embedding)
        text, image = self._options["training_guidance_scale"], self._options["training_image_guidance_scale"]
        output = neither + text * (full - image_only) + image * (image_only - neither)
        error = (output - target).square().flatten(1).mean(1)
        pooled = self._project(embedding.mean(1))  # over all positions, padding included
        return error, functional.cosine_similarity(directions, pooled).clamp(-1, COSINE_CEILING)

    def guided_rows(self, noisy: Tensor, before: Tensor, timesteps: Tensor, embedding: Tensor) -> tuple[Tensor, ...]:
        """UNet outputs given text and image, image only, and neither.

        Only the first sees the embedding; the others run without gradient, which changes neither loss nor gradient.
        With an image guidance of 1 the third cancels out, and the second stands in its place.
        """
        given = torch.cat([noisy, before], 1)
        full = self.unet(given, timesteps, encoder_hidden_states=embedding).sample
        others = [given]
        if self._options["training_image_guidance_scale"] != 1:
            others.append(torch.cat([noisy, torch.zeros_like(before)], 1))
        with torch.no_grad():
            null, rows = self.null.expand(len(others) * len(noisy), -1, -1), torch.cat(others)
            output = self.unet(rows, timesteps.repeat(len(others)), encoder_hidden_states=null).sample
        outputs = output.chunk(len(others))
        return full, outputs[0], outputs[-1]

    def loss(self, error: Tensor, cosine: Tensor) -> Tensor:
        """L = 4 · error - 0.1 · cosine with the official weights, B."""
        return self._options["mse_weight"] * error - self._options["clip_weight"] * cosine


def visits(starts: Sequence[Start], steps: int, total: int) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Timesteps (B), latents before and after, and noise (B×c×h×w each) of every step.

    The timesteps are `steps` out of `total`, evenly spread, each visited once with a noise of its own; order and noise
    follow from each exemplar's generator. At timestep t the pair t mod n is shown.
    """
    spread = ((torch.arange(steps) + 0.5) * total / steps).long()
    noises = [torch.randn((steps, *s.after.shape[1:]), generator=s.generator) for s in starts]  # one for each timestep
    orders = torch.stack([torch.randperm(steps, generator=s.generator) for s in starts])
    for order in orders.T:
        timesteps, like = spread[order], starts[0].after
        pairs = [t % len(s.after) for s, t in zip(starts, timesteps.tolist(), strict=True)]
        before = torch.stack([s.before[pair] for s, pair in zip(starts, pairs, strict=True)])
        after = torch.stack([s.after[pair] for s, pair in zip(starts, pairs, strict=True)])
        noise = torch.stack([own[index] for own, index in zip(noises, order, strict=True)])
        yield timesteps.to(like.device), before, after, noise.to(like)


def invert(objective: Objective, starts: Sequence[Start], total: int, options: Mapping[str, Any]) -> list[Prepared]:
    """Learn the embeddings of several exemplars in common UNet calls.

    Losses are summed, and both clipping and optimiser work element by element, so that no exemplar feels another.

    Args:
        objective: the loss.
        starts: what the exemplars start from.
        total: timesteps of the noise schedule.
        options: the card's options of the inversion.

    Returns:
        See `VISII.prepare_many`.

    Raises:
        FloatingPointError: an optimisation has diverged.
    """
    initial = torch.cat([s.embedding for s in starts])
    places = torch.arange(initial.shape[1], device=initial.device)
    learnt = torch.stack([(places >= 1) & (places < s.eos) for s in starts])[..., None]
    largest = torch.maximum(initial.amax((1, 2)), objective.null.max())[:, None, None]
    directions = torch.stack([s.direction for s in starts])
    steps, chosen = options["steps"], options["checkpoint"]
    wanted = steps if chosen == "last" else int(chosen) if chosen != "best" else None

    embedding = initial.clone().requires_grad_()
    optimiser = torch.optim.AdamW([embedding], lr=options["learning_rate"], weight_decay=options["weight_decay"])
    kept, lowest = initial.clone(), initial.new_full((len(starts),), torch.inf)
    trace: list[tuple[Tensor, Tensor, Tensor]] = []
    for step, (timesteps, before, after, noise) in enumerate(visits(starts, steps, total), 1):
        with torch.enable_grad():
            error, cosine = objective.terms(embedding, (before, after), noise, timesteps, directions)
            loss = objective.loss(error, cosine).sum()
            (gradient,) = torch.autograd.grad(options["loss_scale"] * loss, embedding)
        embedding.grad = torch.clamp(gradient, -largest, largest)
        optimiser.step()
        with torch.no_grad():
            embedding.copy_(torch.where(learnt, embedding, initial))
            error, cosine = error.detach(), cosine.detach()
            take = error <= lowest if wanted is None else torch.full_like(lowest, step == wanted).bool()
            kept, lowest = torch.where(take[:, None, None], embedding, kept), torch.minimum(lowest, error)
        trace.append((timesteps, error, cosine))
    times, errors, cosines = (torch.stack(values, 1).cpu() for values in zip(*trace, strict=True))  # B×steps
    if not (kept.isfinite().all() and errors.isfinite().all()):
        raise FloatingPointError("the inversion diverged: its embedding or error is not finite; lower learning_rate")
    return [
        {
            "embedding": kept[number][None].cpu(),
            "initial_embedding": s.embedding.cpu(),
            "caption": torch.tensor(list(s.caption.encode()), dtype=torch.uint8),
            "eos": torch.tensor(s.eos),
            "timesteps": times[number],
            "mse": errors[number],
            "cosine": cosines[number],
        }
        for number, s in enumerate(starts)
    ]
