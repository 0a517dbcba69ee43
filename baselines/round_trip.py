"""Control: the wanted image through the VAE of InstructPix2Pix and back.

What this row loses against the ground truth, sharpness above all, is the VAE's doing and no editor's.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editclip.editing import EditRequest, to_images

if TYPE_CHECKING:
    from diffusers import AutoencoderKL
    from PIL.Image import Image

    from editclip.patch_vae import PatchVAE

LABEL = "Ground truth through the VAE"
PAPER = ""
LICENSE = "Apache-2.0 (code), CreativeML OpenRAIL-M (weights)"
CONDITIONING = "none"
NEEDS = ("ground_truth",)
STAGES = ("edit",)
WEIGHTS = ("ip2p",)
RESOLUTION = None
GPU_GB = 8
DETERMINISTIC = True
TRAINED_ON = ()
OPTIONS: dict[str, Any] = {}


class RoundTrip:
    """Encodes the answer to the mode of its latents and decodes it."""

    def __init__(self, vae: "AutoencoderKL | PatchVAE") -> None:
        from diffusers.image_processor import VaeImageProcessor

        self._vae = vae.eval()
        self._processor = VaeImageProcessor(vae_scale_factor=2 ** (len(vae.config.block_out_channels) - 1))

    def edit(self, requests: Sequence[EditRequest]) -> "list[Image]":
        """Each wanted image, encoded and decoded."""
        import torch

        images = [request.require("ground_truth").convert("RGB") for request in requests]
        with torch.inference_mode():
            pixels = self._processor.preprocess(images).to(self._vae.device)
            decoded = self._vae.decode(self._vae.encode(pixels).latent_dist.mode()).sample
        return to_images(self._processor.postprocess(decoded, output_type="np"))


def load(weights: Mapping[str, Path], options: Mapping[str, Any], device: str, stage: str) -> RoundTrip:
    """The VAE of the pipeline folder `weights["ip2p"]`.

    Raises:
        InputError: the folder has no VAE.
    """
    from editclip.patch_vae import load_vae

    return RoundTrip(load_vae(weights["ip2p"] / "vae").to(device))
