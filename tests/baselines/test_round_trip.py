"""The ground truth through the VAE: the pipeline's own encoder and decoder, and nothing else."""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from editing_toys import entry

from editclip.data.bench import Bench
from editclip.editing.cards import parse_method
from editclip.editing.requests import Requests


def test_images_are_the_vaes_decoding_of_its_latents_mode(bench: Bench, weights: dict[str, Path]) -> None:
    method = parse_method(entry("baselines.round_trip"))
    requests = Requests(bench, method, 0)
    asked = [requests.request(sample, {}, 0) for sample in bench.samples[:3]]
    vae = AutoencoderKL.from_pretrained(weights["ip2p"], subfolder="vae")
    for image, request in zip(method.load(weights, "cpu", "edit").edit(asked), asked, strict=True):
        pixels = torch.tensor(np.asarray(request.require("ground_truth"))).permute(2, 0, 1)[None] / 127.5 - 1
        with torch.inference_mode():
            decoded = vae.decode(vae.encode(pixels).latent_dist.mode()).sample[0]
        expected = ((decoded / 2 + 0.5).clamp(0, 1) * 255).permute(1, 2, 0).numpy()
        assert np.abs(np.asarray(image) - expected).max() < 0.6
        assert image.size == request.query.size and request.instruction is None
