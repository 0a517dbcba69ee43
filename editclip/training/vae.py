"""Train a VAE on the images of triplets.

`architecture` is "patch" (a PatchVAE, for small images) or "autoencoder_kl" (diffusers' AutoencoderKL).
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor
from torch.nn import functional

from editclip.data.triplets import Triplets
from editclip.patch_vae import PatchVAE
from editclip.recipes.vae import VAERecipe
from editclip.training import loop
from editclip.training.diffusion import pooled_psnr, to_pixels
from editclip.training.draws import Draws
from editclip.training.job import Job, build

STATISTICS_IMAGES = 4096  # images behind the principal components and the latents' mean and deviation
SQUARE = 8  # side in pixels of the squares whose sharpness is compared
# Variance of the Laplacian (4² + 4 · 1²) of rounding to 8 bits (1/12 of a squared step), for pixels in [-1, 1]. It is
# added to variances, as by the metric `sharpness`, so that flat areas compare and roots have a gradient there.
ROUNDING = 20 / 12 / 127.5**2


def laplacian(images: Tensor) -> Tensor:
    """Neighbours minus 4 times the centre in each channel of B×C×H×W, edges repeated, in single precision."""
    images = images.float()  # differences of neighbours in half precision would mostly be rounding
    down, across = images.diff(dim=-2), images.diff(dim=-1)  # of a repeated edge they are zero
    return functional.pad(down, (0, 0, 1, 1)).diff(dim=-2) + functional.pad(across, (1, 1)).diff(dim=-1)


def local_sharpness(images: Tensor) -> Tensor:
    """Deviation of the Laplacian in each square of each channel: B×C×H×W in [-1, 1] → B×C×H/8×W/8."""
    edges = laplacian(images)
    mean, squared = functional.avg_pool2d(edges, SQUARE), functional.avg_pool2d(edges.square(), SQUARE)
    return ((squared - mean.square()).clamp_min(0) + ROUNDING).sqrt()  # rounding can make a variance negative


def relative_sharpness(images: Tensor, truth: Tensor) -> float:
    """Median over images of the Laplacian's variance over that of the truth, both B×C×H×W in [-1, 1]; 1 is as sharp."""
    made, wanted = (laplacian(each).flatten(1).var(1, correction=0) + ROUNDING for each in (images, truth))
    return float((made / wanted).quantile(0.5))


def training_loss(vae: PatchVAE | AutoencoderKL, recipe: VAERecipe) -> loop.LossFunction:
    """Reconstruction from a posterior sample, and its sharpness where that has a weight, plus the divergence."""

    def loss(images: Tensor, draws: Draws) -> Mapping[str, Tensor]:
        pixels = to_pixels(images.to(loop.device()))
        (posterior,) = vae.encode(pixels, return_dict=False)
        (decoded,) = vae.decode(draws.posterior_sample(posterior), return_dict=False)
        l1, mse, kl = functional.l1_loss(decoded, pixels), functional.mse_loss(decoded, pixels), posterior.kl().mean()
        total = recipe.l1_weight * l1 + recipe.mse_weight * mse + recipe.kl_weight * kl
        parts = {"l1": l1, "mse": mse, "kl": kl}
        if recipe.sharpness_weight > 0:
            parts["sharpness"] = functional.l1_loss(local_sharpness(decoded), local_sharpness(pixels))
            total = total + recipe.sharpness_weight * parts["sharpness"]
        return {"loss": total, **parts}

    return loss


def validation(vae: PatchVAE | AutoencoderKL, images: Tensor) -> Callable[[], Mapping[str, float]]:
    """PSNR and relative sharpness of held-out images (uint8) decoded from their posterior mode."""

    def validate() -> Mapping[str, float]:
        pixels = to_pixels(images.to(loop.device()))
        parts = [vae.decode(vae.encode(p, return_dict=False)[0].mode(), return_dict=False)[0] for p in pixels.split(64)]
        decoded = torch.cat(parts).clamp(-1, 1)
        return {"psnr": pooled_psnr(decoded, pixels, peak=2), "sharpness": relative_sharpness(decoded, pixels)}

    return validate


@torch.no_grad()
def scaling_factor(vae: PatchVAE | AutoencoderKL, pixels: Tensor) -> float:
    """1 / deviation of posterior samples, as Stable Diffusion's 0.18215 was set (arXiv:2112.10752, app. G)."""
    generator = loop.seeded(0, "scaling factor")
    return float(1 / torch.cat([vae.encode(p, return_dict=False)[0].sample(generator) for p in pixels.split(64)]).std())


def sample_images(triplets: Triplets, count: int) -> Tensor:
    """Up to `count` uint8 images spread evenly over a split, half of them edited."""
    rows = torch.linspace(0, len(triplets) - 1, min(count // 2, len(triplets))).long()
    return torch.cat(triplets.batch(rows.tolist()))


def train(
    recipe: VAERecipe, training: Triplets, held_out: Triplets, seed: int, checkpoints: Path, logs: Path
) -> PatchVAE | AutoencoderKL:
    """Train a VAE and set its scaling factor; see `loop.fit` for the folders."""
    statistics = to_pixels(sample_images(training, STATISTICS_IMAGES))
    vae: PatchVAE | AutoencoderKL
    if recipe.architecture == "patch":
        vae = build(PatchVAE, recipe.model, sample_size=recipe.resolution)
        vae.start_from_principal_components(statistics)
    else:
        vae = build(AutoencoderKL, recipe.model, sample_size=recipe.resolution)
    vae.to(loop.device())

    def load(indices: Tensor) -> Tensor:
        edited = indices >= len(training)
        original, after = training.batch((indices % len(training)).tolist())
        return torch.where(edited[:, None, None, None], after, original)

    loop.fit(
        training_loss(vae, recipe),
        loop.decay_groups(vae),
        recipe,
        modules={"vae": vae},
        draw=loop.shuffled_batches(2 * len(training), recipe.batch_size, seed),
        load=load,
        seed=seed,
        validate=validation(vae, sample_images(held_out, 512)),
        checkpoints=checkpoints,
        logs=logs,
    )
    if isinstance(vae, PatchVAE):
        vae.standardise(statistics.to(loop.device()))
    vae.register_to_config(scaling_factor=scaling_factor(vae, statistics.to(loop.device())))
    return vae


def run(job: Job[VAERecipe]) -> None:
    """Train and fill `job.out`."""
    folder, size = job.triplets, job.recipe.resolution
    training, held_out = (Triplets(folder, split, size) for split in ("train", "validation"))
    vae = train(job.recipe, training, held_out, job.seed, checkpoints=job.checkpoints, logs=job.logs)
    vae.save_pretrained(job.out)
