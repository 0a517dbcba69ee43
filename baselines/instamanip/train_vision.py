"""Train InstaManip's vision tower from nothing: a linear map has to read the image off its features.

The release has Qwen-VL's, which is not trained further. The linear map is dropped afterwards.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from baselines.instamanip.vision import VisionTower
from baselines.instamanip.vision_layout import save_vision
from baselines.instamanip.vision_recipe import VisionRecipe
from editclip.data.triplets import Triplets
from editclip.training import loop
from editclip.training.diffusion import pooled_psnr, to_pixels
from editclip.training.draws import Draws
from editclip.training.job import Job


class Networks(NamedTuple):
    """What is trained: the tower, and the map from all its features to pixels."""

    vision: VisionTower
    probe: nn.Linear

    def read(self, features: Tensor) -> Tensor:
        """The image B×3×R×R in [-1, 1] that features B×slots×width tell."""
        side = round((self.probe.out_features / 3) ** 0.5)
        pixels: Tensor = self.probe(features.flatten(1)).unflatten(1, (3, side, side))
        return pixels


def with_noise(features: Tensor, deviation: float, draws: Draws) -> Tensor:
    """Features B×slots×width with noise, whose deviation is given in theirs over all rows."""
    noise = draws.normal(*features.shape[1:]).to(features) * features.detach().std()
    return features + deviation * noise


def training_loss(networks: Networks, recipe: VisionRecipe) -> loop.LossFunction:
    """Squared error of the images (uint8) read off their features, to which noise is added."""

    def loss(images: Tensor, draws: Draws) -> Mapping[str, Tensor]:
        images = images.to(loop.device())
        features = networks.vision.features(networks.vision.normalised(images.float() / 255))
        read = networks.read(with_noise(features, recipe.feature_noise, draws))
        return {"loss": functional.mse_loss(read.float(), to_pixels(images))}

    return loss


def validation(networks: Networks, images: Tensor) -> Callable[[], Mapping[str, float]]:
    """Loss and PSNR of held-out images without noise."""

    def validate() -> Mapping[str, float]:
        parts = [images[first : first + 64].to(loop.device()) for first in range(0, len(images), 64)]
        vision = networks.vision
        read = torch.cat([networks.read(vision.features(vision.normalised(each.float() / 255))) for each in parts])
        wanted = to_pixels(images).to(read)
        clamped = read.clamp(-1, 1)
        return {"loss": float(functional.mse_loss(read, wanted)), "psnr": pooled_psnr(clamped, wanted, peak=2)}

    return validate


def run(job: Job[VisionRecipe]) -> None:
    """Train and fill `job.out`."""
    recipe, sizes, device = job.recipe, job.recipe.vision, loop.device()
    loop.refuse_cut_batches(recipe)  # the noise on features has the deviation of all rows
    training, held_out = (Triplets(job.triplets, split, recipe.resolution) for split in ("train", "validation"))
    probe = nn.Linear(sizes.slots * sizes.feature_width, 3 * recipe.resolution**2)
    networks = Networks(VisionTower(sizes).to(device), probe.to(device))

    def load(indices: Tensor) -> Tensor:
        edited = indices >= len(training)
        before, after = training.batch((indices % len(training)).tolist())
        return torch.where(edited[:, None, None, None], after, before)

    watched = torch.cat(held_out.batch(range(min(recipe.validation_examples, len(held_out)))))
    loop.fit(
        training_loss(networks, recipe),
        [group for part in networks for group in loop.decay_groups(part)],
        recipe,
        modules=networks._asdict(),
        draw=loop.shuffled_batches(2 * len(training), recipe.batch_size, job.seed),
        load=load,
        seed=job.seed,
        validate=validation(networks, watched),
        checkpoints=job.checkpoints,
        logs=job.logs,
    )
    save_vision(job.out, networks.vision)
