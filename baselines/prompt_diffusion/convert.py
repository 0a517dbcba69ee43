"""Bring the released checkpoint into the layout that is trained and loaded here.

    python -m baselines.prompt_diffusion.convert --checkpoint network-step=04999.ckpt --base DIR --out DIR

The checkpoint of zhendongw/prompt-diffusion names its tensors as the latent-diffusion code does. Stable Diffusion 1.5,
the `--base` folder, lends VAE, text encoder, tokenizer and scheduler, which the release left as they were.
"""

import re
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

import editclip.patch_vae  # noqa: F401  # diffusers loads a class of ours only when its module is imported
from baselines.prompt_diffusion.network import Networks, PairQueryControlNet
from editclip import stage
from editclip.checkpoints import load_strict, load_torch
from editclip.errors import InputError

HINT_CHANNELS = (16, 32, 96, 256)  # of the release
PREFIXES = {"model.diffusion_model.": "unet", "control_model.": "controlnet"}
UNCHANGED = ("first_stage_model.", "cond_stage_model.")  # VAE and text encoder, frozen in the release's training

# diffusers' name -> latent-diffusion's, outside the blocks and inside a residual block
_OUTSIDE = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "controlnet_mid_block": "middle_block_out.0",
}
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_HINTS = {"controlnet_cond_embedding": "input_hint_block", "controlnet_query_cond_embedding": "input_cond_block"}


def _module_name(name: str, layers: int, hint_convolutions: int) -> str:
    """latent-diffusion's name of one of diffusers' modules; `*` stands where the number depends on its block.

    Args:
        name: diffusers' name of the module that owns a parameter.
        layers: residual blocks of one level of the encoder; the decoder has one more, and either level a resampling.
        hint_convolutions: convolutions of a hint encoder, which stand at even places (activations at odd ones).
    """
    match name.split("."):
        case ["down_blocks", level, "downsamplers", "0", "conv"]:
            return f"input_blocks.{(int(level) + 1) * (layers + 1)}.0.op"
        case ["up_blocks", level, "upsamplers", "0", "conv"]:
            return f"output_blocks.{int(level) * (layers + 1) + layers}.*.conv"
        case ["down_blocks" | "up_blocks" as way, level, kind, position, *inner]:
            blocks, first = ("input_blocks", 1) if way == "down_blocks" else ("output_blocks", 0)
            place = f"0.{_RESNET[inner[0]]}" if kind == "resnets" else ".".join(["1", *inner])
            return f"{blocks}.{first + int(level) * (layers + 1) + int(position)}.{place}"
        case ["mid_block", "resnets", position, inner]:
            return f"middle_block.{2 * int(position)}.{_RESNET[inner]}"
        case ["mid_block", "attentions", "0", *inner]:
            return ".".join(["middle_block.1", *inner])
        case ["controlnet_down_blocks", number]:
            return f"zero_convs.{number}.0"
        case [hint, "blocks", number] if hint in _HINTS:
            return f"{_HINTS[hint]}.{2 * (int(number) + 1)}"
        case [hint, end] if hint in _HINTS:
            return f"{_HINTS[hint]}.{0 if end == 'conv_in' else 2 * (hint_convolutions - 1)}"
    return _OUTSIDE[name]


def latent_diffusion_names(network: UNet2DConditionModel | PairQueryControlNet) -> dict[str, str]:
    """The name in the released checkpoint, without prefix, of every tensor of `network`."""
    config, names = network.config, {}
    hints = 2 * len(config.get("conditioning_embedding_out_channels", ()))
    for name in network.state_dict():
        module, _, parameter = name.rpartition(".")
        names[name] = f"{_module_name(module, config.layers_per_block, hints)}.{parameter}"
    # The upsampling stands behind the residual block and, where the block has one, the attention.
    attending = {found[1] for theirs in names.values() if (found := re.match(r"(output_blocks\.\d+)\.1\.", theirs))}
    for name, theirs in names.items():
        block, _, rest = theirs.partition(".*.")
        if rest:
            names[name] = f"{block}.{2 if block in attending else 1}.{rest}"
    return names


def to_latent_diffusion(networks: Networks) -> dict[str, Tensor]:
    """The networks' tensors as the released checkpoint names them."""
    result: dict[str, Tensor] = {}
    for prefix, part in PREFIXES.items():
        network = getattr(networks, part)
        names = latent_diffusion_names(network)
        result |= {prefix + names[name]: tensor for name, tensor in network.state_dict().items()}
    return result


def load_latent_diffusion(networks: Networks, state: Mapping[str, Tensor], source: Path) -> None:
    """Put a checkpoint's tensors into `networks` (which may be on the meta device).

    Schedule buffers (names without a dot) and the parts the release left unchanged are passed over.

    Raises:
        InputError: a tensor is missing, misshapen or unknown.
    """
    foreign = [name for name in state if "." in name and not name.startswith((*PREFIXES, *UNCHANGED))]
    if foreign:
        raise InputError(f"{source}: unknown tensor {foreign[0]} ({len(foreign)} in all); give Prompt Diffusion's own")
    for prefix, part in PREFIXES.items():
        network = getattr(networks, part)
        ours = {prefix + theirs: name for name, theirs in latent_diffusion_names(network).items()}
        found = {ours.get(name, name): tensor for name, tensor in state.items() if name.startswith(prefix)}
        load_strict(network, found, source)


def empty_networks(unet_config: Mapping[str, object], hint_channels: tuple[int, ...]) -> Networks:
    """Networks of a UNet config on the meta device: shapes without memory."""
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(unet_config)
        return Networks(unet, PairQueryControlNet.beside(unet, hint_channels))


def main() -> None:
    """Convert from the command line."""
    parser: ArgumentParser = stage.parser(__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="the released .ckpt file")
    parser.add_argument("--base", type=Path, required=True, help="pipeline folder of the model it was trained from")
    given = parser.parse_args()
    inputs = {"checkpoint": given.checkpoint, "base": given.base}
    module = "baselines.prompt_diffusion.convert"
    with stage.output_folder(given.out, module=module, config=None, inputs=inputs, force=given.force) as folder:
        base = StableDiffusionPipeline.from_pretrained(
            given.base, safety_checker=None, requires_safety_checker=False, local_files_only=True
        )
        networks = empty_networks(base.unet.config, HINT_CHANNELS)
        load_latent_diffusion(networks, load_torch(given.checkpoint), given.checkpoint)
        base.register_modules(unet=networks.unet)
        base.save_pretrained(folder)
        networks.controlnet.save_pretrained(folder / "controlnet")


if __name__ == "__main__":
    stage.run(main)
