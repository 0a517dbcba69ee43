"""Reading CLIP weights strictly, in the two layouts EditCLIP is found in.

A weights folder is a transformers `CLIPModel` folder: config.json beside model.safetensors (whole or sharded) or
pytorch_model.bin. Instead of these it may hold one open_clip training checkpoint `*.pt` (or a bare state dict), whose
tensors are renamed here; its architecture, activation included, is then the one config.json names. OpenAI's weights
and the published EditCLIP config are `quick_gelu`, which is also what a config without `hidden_act` means.
"""

import json
import logging
import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from editclip.errors import InputError

logger = logging.getLogger(__name__)

PATCH_EMBEDDING = "vision_model.embeddings.patch_embedding.weight"

# open_clip name -> transformers name of what lies outside the transformer blocks, per tower.
_VISION = {
    "conv1.weight": "embeddings.patch_embedding.weight",
    "class_embedding": "embeddings.class_embedding",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_pre.weight": "pre_layrnorm.weight",  # transformers' own spelling
    "ln_pre.bias": "pre_layrnorm.bias",
    "ln_post.weight": "post_layernorm.weight",
    "ln_post.bias": "post_layernorm.bias",
}
_TEXT = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}
_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_TRANSPOSED = {"visual.proj": "visual_projection.weight", "text_projection": "text_projection.weight"}
_RESBLOCK = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)\.(weight|bias)")


def from_open_clip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename an open_clip CLIP state dict to transformers' `CLIPModel` names; unknown names are kept as they are.

    The attention's joint input projection is cut in thirds (query, key, value) and the two output projections are
    transposed. A `module.` prefix, left by distributed training, is dropped.
    """
    result: dict[str, Tensor] = {}
    for name, tensor in state.items():
        name = name.removeprefix("module.")
        block = _RESBLOCK.fullmatch(name)
        joint = re.fullmatch(r"(visual\.)?transformer\.resblocks\.(\d+)\.attn\.in_proj_(weight|bias)", name)
        if name in _TRANSPOSED:
            result[_TRANSPOSED[name]] = tensor.T.contiguous()
        elif joint:
            tower = "vision_model" if joint[1] else "text_model"
            for part, third in zip("qkv", tensor.chunk(3), strict=True):
                result[f"{tower}.encoder.layers.{joint[2]}.self_attn.{part}_proj.{joint[3]}"] = third.contiguous()
        elif block and block[3] in _BLOCK:
            tower = "vision_model" if block[1] else "text_model"
            result[f"{tower}.encoder.layers.{block[2]}.{_BLOCK[block[3]]}.{block[4]}"] = tensor
        elif name.startswith("visual.") and name.removeprefix("visual.") in _VISION:
            result["vision_model." + _VISION[name.removeprefix("visual.")]] = tensor
        else:
            result["text_model." + _TEXT[name] if name in _TEXT else name] = tensor
    return result


def to_open_clip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `from_open_clip`: a transformers `CLIPModel` state dict under open_clip's names."""
    blocks = {theirs: ours for ours, theirs in _BLOCK.items()}
    plain = {f"vision_model.{theirs}": f"visual.{ours}" for ours, theirs in _VISION.items()}
    plain |= {f"text_model.{theirs}": ours for ours, theirs in _TEXT.items()}
    transposed = {theirs: ours for ours, theirs in _TRANSPOSED.items()}
    result: dict[str, Tensor] = {}
    for name, tensor in state.items():
        block = re.fullmatch(r"(vision|text)_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", name)
        if name in transposed:
            result[transposed[name]] = tensor.T.contiguous()
        elif block is None:
            result[plain.get(name, name)] = tensor
        else:
            prefix = f"{'visual.' if block[1] == 'vision' else ''}transformer.resblocks.{block[2]}."
            if block[3] in blocks:
                result[f"{prefix}{blocks[block[3]]}.{block[4]}"] = tensor
            elif block[3] == "self_attn.q_proj":
                parts = [state[name.replace("q_proj", f"{part}_proj")] for part in "qkv"]
                result[f"{prefix}attn.in_proj_{block[4]}"] = torch.cat(parts)
    return result


def load_torch(path: Path, *, mapped: bool = False) -> dict[str, Tensor]:
    """Read a PyTorch file (tensors and plain containers only); a training checkpoint gives its `state_dict`.

    Args:
        path: the file.
        mapped: leave the tensors in the file, mapped into memory: a tensor is read when it is used, and its pages are
            given up when memory is short, so that weights may be larger than it. The file must then stay as it is. It
            has to be of the zip format, PyTorch's own since 1.6; an older one can only be read whole.

    Raises:
        InputError: the file cannot be read (in this way), or holds something other than named tensors.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise InputError(f"{path}: not a PyTorch weights file ({error}); download or convert it again.") from error
    state = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"{path}: holds no state dict of named tensors; give the checkpoint's state dict.")
    return state


def read_state(folder: Path) -> dict[str, Tensor]:
    """The state dict of a CLIP folder under transformers' names, whichever of the layouts it has.

    Raises:
        InputError: there is no weights file, more than one candidate, or it cannot be read.
    """
    shards = sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    checkpoints = sorted(folder.glob("*.pt"))
    if not shards and len(checkpoints) != 1:
        found = f"{len(checkpoints)} .pt files" if checkpoints else "no weights file"
        raise InputError(f"{folder}: {found}; it must hold model.safetensors, pytorch_model.bin or one open_clip *.pt.")
    if not shards:
        return from_open_clip(load_torch(checkpoints[0]))
    state: dict[str, Tensor] = {}
    for shard in shards:
        if shard.suffix == ".bin":
            state |= load_torch(shard)
            continue
        try:
            state |= load_file(shard)
        except (OSError, SafetensorError) as error:
            raise InputError(f"{shard}: not a safetensors file ({error}); download or convert it again.") from error
    # Files written before transformers 4.31 carry these constants.
    return {name: tensor for name, tensor in state.items() if not name.endswith("position_ids")}


def read_config(folder: Path, state: Mapping[str, Tensor]) -> CLIPConfig:
    """The folder's `CLIPConfig`; a `num_channels` it does not name is taken from the patch embedding in `state`.

    The published EditCLIP config lacks `vision_config.num_channels` although its convolution has 6 input channels.

    Raises:
        InputError: config.json is missing or is not a CLIP config.
    """
    path = folder / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); copy the config.json of the CLIP model there.") from error
    if values.get("model_type") != "clip":
        raise InputError(f"{path}: model_type is {values.get('model_type')!r}, not 'clip'; give a CLIPModel folder.")
    vision = values.setdefault("vision_config", {})
    if "num_channels" not in vision and PATCH_EMBEDDING in state:
        vision["num_channels"] = state[PATCH_EMBEDDING].shape[1]
        logger.info("%s names no num_channels: %d, from its weights", path, vision["num_channels"])
    return CLIPConfig.from_dict(values)


def load_strict(model: torch.nn.Module, state: Mapping[str, Tensor], source: Path) -> None:
    """Put `state` into `model` (which may be on the meta device); every tensor must be there and fit.

    Raises:
        InputError: a tensor is missing, superfluous or has another shape.
    """
    wanted = model.state_dict()
    for name, tensor in wanted.items():
        if name not in state:
            raise InputError(f"{source}: tensor {name} {tuple(tensor.shape)} is missing; give the complete weights.")
        if state[name].shape != tensor.shape:
            raise InputError(
                f"{source}: tensor {name} has shape {tuple(state[name].shape)} but its config asks for "
                f"{tuple(tensor.shape)}; put the config.json that belongs to these weights beside them."
            )
    extra = sorted(set(state) - set(wanted))
    if extra:
        raise InputError(f"{source}: unknown tensor {extra[0]} ({len(extra)} in all); give this model's weights only.")
    model.load_state_dict(dict(state), assign=True)


def load_clip_model(folder: str | Path, dtype: torch.dtype = torch.float32) -> CLIPModel:
    """Load a `CLIPModel` (3 or 6 input channels) in evaluation mode, strictly and without touching random state.

    Args:
        folder: a CLIP folder in one of the layouts of this module.
        dtype: type of the weights in memory.

    Raises:
        InputError: a file, key or tensor is missing or does not fit; the message names it and the fix.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give a folder with the config and weights of a CLIP model.")
    state = read_state(folder)
    config = read_config(folder, state)
    with torch.device("meta"):  # neither time nor random numbers are spent on weights that are replaced
        model = CLIPModel(config)
    load_strict(model, state, folder)
    for embeddings in (model.vision_model.embeddings, model.text_model.embeddings):
        embeddings.position_ids = torch.arange(embeddings.position_embedding.num_embeddings)[None]
    return model.to(dtype=dtype).eval()
