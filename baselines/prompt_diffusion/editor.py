"""Prompt Diffusion as an editor: the exemplar as the pair, the query as the query.

Hints depend on neither the step nor the text, so each is computed once: the pair's once an exemplar, the query's once
an image. The sampler is the release's, DDIM with eta 0.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from torch import Tensor

from baselines.prompt_diffusion.network import (
    PAIR_CHANNELS,
    Networks,
    PairQueryControlNet,
    load_controlnet,
    load_networks,
)
from editclip.editing import PRECISIONS, EditRequest, Exemplar, noise_generators, to_images
from editclip.errors import InputError, nearest
from editclip.patch_vae import PatchVAE, load_vae
from editclip.training.text_conditioner import TextConditioner

# What the released notebook appends to every prompt, and its negative prompt (that of ControlNet's demos).
QUALITY = "best quality, extremely detailed"
NEGATIVE = (
    "longbody, lowres, bad anatomy, bad hands, missing fingers, extra digit, fewer digits, cropped, worst quality, "
    "low quality"
)
# diffusers' name for the release's sampler: with these it has the same timesteps and the same last step
DDIM: dict[str, Any] = {
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}


class Branch(NamedTuple):
    """What one side of classifier-free guidance is given, besides query and noise."""

    prompt: str
    sees_pair: bool


def guidance_branches(text: str, instruction: str | None) -> tuple[Branch, Branch]:
    """The guided and the null branch of a text mode; where they are equal, guidance changes nothing.

    Args:
        text: "none", no text on either side; "quality", the release's quality words against its negative prompt;
            "instruction", the same with the instruction before the quality words; "pair_cfg", no text, and the null
            branch sees no pair, which training allows because it drops a tenth of the pairs (ours).
        instruction: the edit in words, used by "instruction" alone.

    Raises:
        InputError: there is no such mode.
    """
    modes = {
        "none": (Branch("", True), Branch("", True)),
        "quality": (Branch(QUALITY, True), Branch(NEGATIVE, True)),
        "instruction": (Branch(f"{instruction}, {QUALITY}", True), Branch(NEGATIVE, True)),
        "pair_cfg": (Branch("", True), Branch("", False)),
    }
    if text not in modes:
        raise InputError(f"text {text!r} is not a text mode{nearest(text, modes)}; use {', '.join(modes)}")
    return modes[text]


class PairHints:
    """The method loaded to prepare: the ControlNet, whose encoder turns exemplars into hints."""

    def __init__(self, controlnet: PairQueryControlNet) -> None:
        self.controlnet = controlnet

    @torch.no_grad()
    def prepare(self, exemplar: Exemplar) -> dict[str, Tensor]:
        """The exemplar's hint, 1×C×h×w."""
        pair = torch.cat([self.pixels([exemplar.before]), self.pixels([exemplar.after])], dim=1)
        return {"pair_hint": self.controlnet.pair_hint(pair).cpu()}

    def pixels(self, images: Sequence[Image.Image]) -> Tensor:
        """Images of one size as B×3×H×W in [-1, 1], the range the hint encoders were trained on (not [0, 1]).

        Raises:
            InputError: a side is no multiple of the VAE's reduction.
        """
        values = torch.from_numpy(np.stack([np.asarray(image.convert("RGB")) for image in images]))
        reduction = self.controlnet.reduction
        if values.shape[1] % reduction or values.shape[2] % reduction:
            raise InputError(f"images are {images[0].size} pixels; make both sides multiples of {reduction}")
        scaled = values.permute(0, 3, 1, 2).float() / 127.5 - 1
        return scaled.to(self.controlnet.device, self.controlnet.dtype)


class PromptDiffusion(PairHints):
    """The method loaded to edit, which can prepare as well.

    Args:
        networks: UNet and ControlNet of one release.
        vae: VAE whose reduction is the hints'.
        text: text encoder.
        scheduler: DDIM with the noise schedule and prediction type the networks were trained with.
        mode: text mode of `guidance_branches`.
        steps: denoising steps; a divisor of 1000 gives the release's timesteps.
        guidance_scale: weight of the guided branch; 1 is no guidance.
    """

    def __init__(
        self,
        networks: Networks,
        vae: PatchVAE | AutoencoderKL,
        text: TextConditioner,
        scheduler: DDIMScheduler,
        mode: str,
        steps: int,
        guidance_scale: float,
    ) -> None:
        super().__init__(networks.controlnet)
        self.networks, self.vae, self.text, self.scheduler = networks, vae, text, scheduler
        self.mode, self.steps, self.guidance_scale = mode, steps, guidance_scale

    def edit(self, requests: Sequence[EditRequest]) -> list[Image.Image]:
        """Edit a batch, each query by its own exemplar's hint."""
        pair_hint = torch.cat([request.prepared["pair_hint"] for request in requests])
        mode = self.mode
        branches = [
            guidance_branches(mode, request.require("instruction") if mode == "instruction" else None)
            for request in requests
        ]
        queries = self.pixels([request.query for request in requests])
        return to_images(self.sample(queries, pair_hint, branches, noise_generators(requests)))

    @torch.no_grad()
    def sample(
        self,
        queries: Tensor,
        pair_hint: Tensor,
        branches: Sequence[tuple[Branch, Branch]],
        generators: list[torch.Generator],
    ) -> np.ndarray:
        """Answers to queries as pixels B×H×W×3 in [0, 1].

        Args:
            queries: B×3×H×W in [-1, 1].
            pair_hint: B×C×h×w, from `prepare` or `null_hint`.
            branches: B pairs of branches; where each is a pair of equals, one of them is computed.
            generators: B sources of the initial noise.
        """
        guided = any(shown != null for shown, null in branches) and self.guidance_scale != 1
        sides = list(zip(*branches, strict=True))[: 2 if guided else 1]
        query_hint = self.networks.controlnet.query_hint(queries)
        pair_hint, null_hint = pair_hint.to(query_hint), self.null_hint(queries.shape[-2:])
        sees = torch.tensor([[branch.sees_pair for branch in side] for side in sides], device=query_hint.device)
        hint = torch.cat([query_hint + torch.where(seen[:, None, None, None], pair_hint, null_hint) for seen in sees])
        context = torch.cat([self.text([branch.prompt for branch in side]) for side in sides]).to(hint.dtype)
        shape = (len(queries), self.vae.config.latent_channels, *hint.shape[-2:])
        latents = randn_tensor(shape, generators, hint.device, hint.dtype)
        self.scheduler.set_timesteps(self.steps, device=hint.device)
        for time in self.scheduler.timesteps:
            output = self.networks.denoise(torch.cat([latents] * len(sides)), time, context, hint)
            if guided:
                shown, null_output = output.chunk(2)
                output = null_output + self.guidance_scale * (shown - null_output)
            latents = self.scheduler.step(output, time, latents).prev_sample
        decoded = self.vae.decode(latents / self.vae.config.scaling_factor, return_dict=False)[0]
        return decoded.float().div(2).add(0.5).clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()

    @torch.no_grad()
    def null_hint(self, size: Sequence[int]) -> Tensor:
        """The hint of no pair, 1×C×h×w, for images of `size` (height, width)."""
        return self.networks.controlnet.pair_hint(
            torch.zeros(1, PAIR_CHANNELS, *size, device=self.vae.device, dtype=self.vae.dtype)
        )


def check_options(options: Mapping[str, Any], text: str) -> None:
    """Refuse options outside their range before anything is loaded.

    Raises:
        InputError: an unknown precision or text mode, no steps, or a negative guidance scale.
    """
    guidance_branches(text, "")
    if options.get("text") == "instruction":
        raise InputError(
            "text instruction needs a card that asks for it: editor baselines.prompt_diffusion_instruction"
        )
    if options["precision"] not in PRECISIONS:
        raise InputError(f"precision {options['precision']!r} must be one of {', '.join(PRECISIONS)}")
    if not 1 <= options["num_inference_steps"] <= 1000:
        raise InputError(f"num_inference_steps {options['num_inference_steps']} must be from 1 to 1000")
    if options["guidance_scale"] < 0:
        raise InputError(f"guidance_scale {options['guidance_scale']} must not be negative")


def load_editor(
    folder: Path, options: Mapping[str, Any], device: str, stage: str, text: str | None = None
) -> PairHints:
    """The method from a pipeline folder with `controlnet/`: trained here, converted, or as released for diffusers.

    Args:
        folder: the weights.
        options: those of the card.
        device: "cpu" or "cuda".
        stage: "prepare", for which the ControlNet is loaded, or "edit", a `PromptDiffusion`.
        text: the text mode where the card fixes it; None = the option `text`.

    Raises:
        InputError: an option is out of range, or the weights are incomplete or do not fit each other.
    """
    mode = text or options["text"]
    check_options(options, mode)
    dtype = getattr(torch, options["precision"])
    if stage == "prepare":
        controlnet = load_controlnet(folder, dtype)
        return PairHints(controlnet.to(device).eval())
    vae = load_vae(folder / "vae").to(device, dtype).eval()
    networks = load_networks(folder, dtype)
    networks.check(2 ** (len(vae.config.block_out_channels) - 1), folder)
    return PromptDiffusion(
        Networks(*(network.to(device).eval() for network in networks)),
        vae,
        TextConditioner(folder / "text_encoder", folder / "tokenizer").to(device, dtype),
        DDIMScheduler.from_pretrained(str(folder), subfolder="scheduler", **DDIM),
        mode,
        options["num_inference_steps"],
        options["guidance_scale"],
    )
