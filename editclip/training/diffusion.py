"""What every latent diffusion training shares: latents, noise, targets, condition dropout, validation, saving.

Images enter as uint8 tensors B×3×R×R and are scaled to [-1, 1]. "Latents" are posterior samples times the VAE's
scaling factor; an "image condition" is the posterior mode without it (InstructPix2Pix, https://arxiv.org/abs/2211.09800).
Nothing here assumes epsilon prediction: the scheduler's `prediction_type` decides.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_euler_ancestral_discrete import EulerAncestralDiscreteScheduler
from torch import Tensor
from torch.nn import functional

from editclip.data.triplets import Triplets
from editclip.errors import InputError
from editclip.patch_vae import PatchVAE
from editclip.training.draws import Draws
from editclip.training.loop import seeded
from editclip.training.text_conditioner import TextConditioner

Side = Literal["original", "edited"]
PredictionType = Literal["epsilon", "v_prediction"]
Timesteps = Literal["uniform", "cubic"]
P = TypeVar("P", bound=DiffusionPipeline)

ENCODED_AT_ONCE = 16  # images: more leave the cache of a core, 256 of the micro run take nearly three times as long

# Stable Diffusion's noise schedule, as in the scheduler folder of timbrooks/instruct-pix2pix
NOISE_SCHEDULE: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def training_scheduler(prediction_type: PredictionType) -> DDPMScheduler:
    """The noise schedule for training."""
    return DDPMScheduler(**NOISE_SCHEDULE, prediction_type=prediction_type, clip_sample=False)


def sampling_scheduler(prediction_type: PredictionType) -> EulerAncestralDiscreteScheduler:
    """The sampler saved with every pipeline: Euler-ancestral as in timbrooks/instruct-pix2pix (linspace, offset 1)."""
    return EulerAncestralDiscreteScheduler(**NOISE_SCHEDULE, prediction_type=prediction_type, steps_offset=1)


def to_pixels(images: Tensor) -> Tensor:
    """uint8 images B×3×R×R as floats in [-1, 1]."""
    return images.float().div(127.5).sub(1)


def pooled_psnr(images: Tensor, truth: Tensor, peak: float) -> float:
    """Peak signal-to-noise ratio in dB of the error pooled over all images.

    Args:
        images: images of any shape and type; clamp them to their range first.
        truth: what they should be, of the same shape and range.
        peak: width of that range, 255 for uint8 and 2 for [-1, 1].
    """
    return float(10 * torch.log10(peak**2 / functional.mse_loss(images.double(), truth.double())))


class Batch(NamedTuple):
    """Rows of a split (B, int64) and their images, uint8 B×3×R×R."""

    indices: Tensor
    original: Tensor
    edited: Tensor


class Latents:
    """Posteriors of the images of one split under a frozen VAE, computed on demand or once for the whole split.

    Args:
        vae: a frozen VAE with AutoencoderKL's interface; it is moved nowhere, so put it on its device first.
        triplets: the split.
        cache: keep the posteriors of all images in memory (2 × channels × latent size² floats each); else encode
            each batch again, as large data sets must.
    """

    def __init__(self, vae: PatchVAE | AutoencoderKL, triplets: Triplets, *, cache: bool) -> None:
        self.vae = vae.requires_grad_(False).eval()
        self.triplets = triplets
        self.cache = cache
        self.scaling_factor = float(vae.config.scaling_factor)
        self._kept: dict[tuple[Side, bool], Tensor] = {}

    def load(self, indices: Tensor) -> Batch:
        """Decode the images of some rows: the `load` of `loop.fit`."""
        return Batch(indices, *self.triplets.batch(indices.tolist()))

    def latents(self, side: Side, batch: Batch | Tensor, draws: Draws, flips: Tensor | None = None) -> Tensor:
        """Scaled posterior samples B×C×h×w of one side's images; `flips` (B booleans) mirrors some horizontally."""
        return draws.posterior_sample(self.posterior(side, batch, flips)) * self.scaling_factor

    def image_condition(self, side: Side, batch: Batch | Tensor, flips: Tensor | None = None) -> Tensor:
        """Unscaled posterior modes B×C×h×w of one side's images."""
        return self.posterior(side, batch, flips).mode()

    def posterior(self, side: Side, batch: Batch | Tensor, flips: Tensor | None = None) -> DiagonalGaussianDistribution:
        """Posterior of one side's images of a loaded batch (or of row numbers), mirrored where `flips` is true."""
        if isinstance(batch, Tensor):
            batch = self.load(batch)
        if not self.cache:
            return self.encode(batch.original if side == "original" else batch.edited, flips)
        parameters = self._all(side, False)[batch.indices]
        if flips is not None and flips.any():
            mirrored = self._all(side, True)[batch.indices]
            parameters = torch.where(flips.cpu()[:, None, None, None], mirrored, parameters)
        return DiagonalGaussianDistribution(parameters.to(self._device))

    @torch.no_grad()
    def encode(self, images: Tensor, flips: Tensor | None = None) -> DiagonalGaussianDistribution:
        """Posterior of uint8 images B×3×R×R, mirrored where `flips` is true."""
        pixels = to_pixels(images.to(self._device))
        if flips is not None and flips.any():
            pixels = torch.where(flips.to(self._device)[:, None, None, None], pixels.flip(-1), pixels)
        parts = pixels.to(self.vae.dtype).split(ENCODED_AT_ONCE)
        return DiagonalGaussianDistribution(torch.cat([self.vae.encode(part).latent_dist.parameters for part in parts]))

    @property
    def _device(self) -> torch.device:
        return next(self.vae.parameters()).device

    def _all(self, side: Side, flipped: bool) -> Tensor:
        """Posterior parameters N×2C×h×w (mean, log-variance) of the whole split, on the CPU."""
        if (side, flipped) not in self._kept:
            parts = []
            for part in torch.arange(len(self.triplets)).split(ENCODED_AT_ONCE):
                batch, flips = self.load(part), torch.full((len(part),), flipped)
                images = batch.original if side == "original" else batch.edited
                parts.append(self.encode(images, flips).parameters.cpu())
            self._kept[side, flipped] = torch.cat(parts)
        return self._kept[side, flipped]


class Noised(NamedTuple):
    """Latents B×C×h×w, the noise added to them, the noisy result, and the timesteps (B, int64)."""

    latents: Tensor
    noise: Tensor
    noisy: Tensor
    timesteps: Tensor


def draw_timesteps(total: int, how: Timesteps, draws: Draws) -> Tensor:
    """One timestep (int64) in [0, total) for each row.

    Args:
        total: timesteps of the schedule.
        how: "uniform"; or "cubic", ⌊(1 - u³) total⌋ with uniform u in [0, 1), which favours much noise: there a model
            has its condition alone to go by (T2I-Adapter, https://arxiv.org/abs/2302.08453, section 3.4).
        draws: the rows' random numbers.
    """
    if how == "uniform":
        return draws.integers(total)
    return ((1 - draws.uniform() ** 3) * total).long().clamp(max=total - 1)


def add_noise(scheduler: DDPMScheduler, latents: Tensor, draws: Draws, timesteps: Timesteps = "uniform") -> Noised:
    """Noise the `latents` of some rows at one timestep each; see `draw_timesteps`."""
    drawn = draw_timesteps(scheduler.config.num_train_timesteps, timesteps, draws).to(latents.device)
    noise = draws.normal(*latents.shape[1:]).to(latents)
    return Noised(latents, noise, scheduler.add_noise(latents, noise, drawn), drawn)


def _signal_and_noise(scheduler: DDPMScheduler, timesteps: Tensor) -> tuple[Tensor, Tensor]:
    """√ᾱ_t and √(1 - ᾱ_t), each B×1×1×1."""
    alphas = scheduler.alphas_cumprod.to(timesteps.device)[timesteps].view(-1, 1, 1, 1)
    return alphas.sqrt(), (1 - alphas).sqrt()


def training_target(scheduler: DDPMScheduler, noised: Noised) -> Tensor:
    """What the UNet must output: the noise ε, or the velocity v = √ᾱ_t ε - √(1-ᾱ_t) z₀ (arXiv:2202.00512, app. D).

    Raises:
        InputError: the scheduler predicts something else.
    """
    if scheduler.config.prediction_type == "epsilon":
        return noised.noise
    if scheduler.config.prediction_type == "v_prediction":
        return scheduler.get_velocity(noised.latents, noised.noise, noised.timesteps)
    raise InputError(f"prediction_type is {scheduler.config.prediction_type!r}; use epsilon or v_prediction")


def predicted_original(scheduler: DDPMScheduler, output: Tensor, noised: Noised) -> Tensor:
    """The estimate ẑ₀ of the clean scaled latents that a UNet output stands for (B×C×h×w, not clamped)."""
    signal, noise = _signal_and_noise(scheduler, noised.timesteps)
    if scheduler.config.prediction_type == "epsilon":
        return (noised.noisy - noise * output) / signal
    if scheduler.config.prediction_type == "v_prediction":
        return signal * noised.noisy - noise * output
    raise InputError(f"prediction_type is {scheduler.config.prediction_type!r}; use epsilon or v_prediction")


def denoising_loss(scheduler: DDPMScheduler, output: Tensor, noised: Noised) -> Tensor:
    """Mean squared error between a UNet output and its target, over all elements."""
    return functional.mse_loss(output.float(), training_target(scheduler, noised).float())


def dropped_conditions(probability: float, draws: Draws) -> tuple[Tensor, Tensor]:
    """Which rows lose their edit condition and which their image condition (two boolean tensors, one value a row).

    One uniform u per row, p = `probability`: edit if u < 2p, image if p ≤ u < 3p; hence p of the rows lose the
    edit only, p both, p the image only (InstructPix2Pix §3.2.1; EditCLIP keeps it with p = 0.05).
    """
    uniform = draws.uniform()
    return uniform < 2 * probability, (uniform >= probability) & (uniform < 3 * probability)


def validation_loss(
    loss: Callable[[Batch, Draws], Mapping[str, Tensor]], latents: Latents, examples: int
) -> Callable[[], Mapping[str, float]]:
    """A `validate` for `loop.fit`: a training loss over the first rows of a split, with the same noise each time."""
    parts = torch.arange(min(examples, len(latents.triplets))).split(64)

    def validate() -> Mapping[str, float]:
        generator = seeded(0, "validation")
        values = [float(loss(latents.load(p), Draws.whole(generator, len(p)))["loss"]) * len(p) for p in parts]
        return {"loss": sum(values) / sum(map(len, parts))}

    return validate


def build_pipeline(
    kind: type[P],
    unet: UNet2DConditionModel,
    vae: PatchVAE | AutoencoderKL,
    text: TextConditioner,
    prediction_type: PredictionType,
) -> P:
    """A Stable Diffusion style pipeline of class `kind`, without safety checker."""
    return kind(
        vae=vae,
        text_encoder=text.encoder,
        tokenizer=text.tokenizer,
        unet=unet,
        scheduler=sampling_scheduler(prediction_type),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
