"""The released checkpoint's names, both ways, against diffusers' own converters and written-out pairs."""

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint, convert_ldm_unet_checkpoint
from torch import Tensor

from baselines.prompt_diffusion import convert
from baselines.prompt_diffusion.convert import (
    empty_networks,
    latent_diffusion_names,
    load_latent_diffusion,
    to_latent_diffusion,
)
from baselines.prompt_diffusion.network import Networks, PairQueryControlNet, load_networks
from editclip.errors import InputError

HINTS = (4, 6, 8, 10)
SOURCE = Path("network.ckpt")


@pytest.fixture
def networks() -> Networks:
    """Stable Diffusion 1's levels and layers, narrow; no two tensors are equal."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        block_out_channels=(8, 16, 16, 16), norm_num_groups=8, cross_attention_dim=8, attention_head_dim=4
    )
    networks = Networks(unet, PairQueryControlNet.beside(unet, HINTS))
    with torch.no_grad():
        for part in networks:
            for parameter in part.parameters():
                parameter.normal_()
    return networks


@pytest.fixture
def released(networks: Networks) -> dict[str, Tensor]:
    """A checkpoint as released: all prefixes and the schedule's buffers."""
    rest = {"betas": torch.ones(3), "first_stage_model.encoder.conv_in.weight": torch.ones(1)}
    return to_latent_diffusion(networks) | rest | {"cond_stage_model.transformer.text_model.x": torch.ones(1)}


@pytest.mark.parametrize(
    ("ours", "theirs"),  # of the official module lists, for two layers a level and four levels
    [
        ("unet/conv_in.weight", "input_blocks.0.0.weight"),
        ("unet/time_embedding.linear_2.bias", "time_embed.2.bias"),
        ("unet/down_blocks.0.resnets.1.conv1.weight", "input_blocks.2.0.in_layers.2.weight"),
        ("unet/down_blocks.0.downsamplers.0.conv.weight", "input_blocks.3.0.op.weight"),
        ("unet/down_blocks.1.resnets.0.conv_shortcut.weight", "input_blocks.4.0.skip_connection.weight"),
        ("unet/down_blocks.2.attentions.1.proj_in.weight", "input_blocks.8.1.proj_in.weight"),
        ("unet/down_blocks.3.resnets.1.norm2.bias", "input_blocks.11.0.out_layers.0.bias"),
        ("unet/mid_block.resnets.1.time_emb_proj.weight", "middle_block.2.emb_layers.1.weight"),
        ("unet/up_blocks.0.upsamplers.0.conv.bias", "output_blocks.2.1.conv.bias"),  # no attention at this level
        ("unet/up_blocks.1.upsamplers.0.conv.bias", "output_blocks.5.2.conv.bias"),
        ("unet/up_blocks.3.resnets.2.conv2.weight", "output_blocks.11.0.out_layers.3.weight"),
        ("unet/conv_norm_out.weight", "out.0.weight"),
        ("controlnet/controlnet_down_blocks.11.bias", "zero_convs.11.0.bias"),
        ("controlnet/controlnet_mid_block.weight", "middle_block_out.0.weight"),
        ("controlnet/controlnet_cond_embedding.conv_in.weight", "input_hint_block.0.weight"),
        ("controlnet/controlnet_cond_embedding.blocks.5.weight", "input_hint_block.12.weight"),
        ("controlnet/controlnet_query_cond_embedding.conv_out.bias", "input_cond_block.14.bias"),
    ],
)
def test_names(networks: Networks, ours: str, theirs: str) -> None:
    part, name = ours.split("/")
    assert latent_diffusion_names(getattr(networks, part))[name] == theirs


def test_names_are_unique_and_complete(networks: Networks) -> None:
    names = [set(latent_diffusion_names(part).values()) for part in networks]
    assert [len(n) for n in names] == [len(part.state_dict()) for part in networks]
    assert len({n.split(".")[1] for n in names[1] if n.startswith("zero_convs.")}) == 12
    for block in ("input_hint_block", "input_cond_block"):
        assert {n.split(".")[1] for n in names[1] if n.startswith(block)} == {str(i) for i in range(0, 15, 2)}


def test_diffusers_reads_what_is_written_as_the_same_networks(networks: Networks, released: dict[str, Tensor]) -> None:
    unet = convert_ldm_unet_checkpoint(dict(released), dict(networks.unet.config))
    assert unet.keys() == networks.unet.state_dict().keys()
    assert all(torch.equal(unet[name], tensor) for name, tensor in networks.unet.state_dict().items())
    controlnet = convert_controlnet_checkpoint(dict(released), dict(networks.controlnet.config))
    own = {name: t for name, t in networks.controlnet.state_dict().items() if "query" not in name}
    assert own.keys() <= controlnet.keys()
    assert all(torch.equal(controlnet[name], tensor) for name, tensor in own.items())


def test_what_is_read_is_what_was_written(networks: Networks, released: dict[str, Tensor]) -> None:
    empty = empty_networks(networks.unet.config, HINTS)
    load_latent_diffusion(empty, released, SOURCE)
    for part, same in zip(networks, empty, strict=True):
        state = same.state_dict()
        assert all(torch.equal(tensor, state[name]) for name, tensor in part.state_dict().items())


@pytest.mark.parametrize(
    ("name", "tensor", "expected"),
    [
        ("control_model.zero_convs.3.0.bias", None, "controlnet_down_blocks.3.bias .* is missing"),
        ("model.diffusion_model.out.2.weight", torch.ones(2), "conv_out.weight has shape"),
        ("control_model.zero_convs.12.0.bias", torch.ones(2), "unknown tensor control_model.zero_convs.12.0.bias"),
        ("model_ema.decay", torch.ones(1), "unknown tensor model_ema.decay"),
    ],
)
def test_an_unfit_checkpoint_is_refused(
    networks: Networks, released: dict[str, Tensor], name: str, tensor: Tensor | None, expected: str
) -> None:
    if tensor is None:
        del released[name]
    else:
        released[name] = tensor
    with pytest.raises(InputError, match=expected):
        load_latent_diffusion(empty_networks(networks.unet.config, HINTS), released, SOURCE)


def test_command_line_writes_the_layout_that_is_loaded(
    weights: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = weights["prompt_diffusion"]
    unet = load_networks(base).unet
    torch.manual_seed(1)
    source = Networks(unet, PairQueryControlNet.beside(unet, convert.HINT_CHANNELS))
    torch.save({"state_dict": to_latent_diffusion(source)}, tmp_path / "network.ckpt")
    arguments = ["--checkpoint", str(tmp_path / "network.ckpt"), "--base", str(base), "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", ["convert", *arguments])
    convert.main()
    for part, same in zip(source, load_networks(tmp_path / "out"), strict=True):
        state = same.state_dict()
        assert all(torch.equal(tensor, state[name]) for name, tensor in part.state_dict().items())
    assert (tmp_path / "out" / "vae" / "config.json").is_file()
