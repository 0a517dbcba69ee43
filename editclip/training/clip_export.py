"""An open_clip CLIP as a transformers CLIPModel folder, tokenizer and image processor included."""

import json
from pathlib import Path

import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

# names of modules in open_clip → in transformers (whose vision tower really says "layrnorm")
RENAMED = {
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm",
    "visual.transformer.resblocks": "vision_model.encoder.layers",
    "visual.proj": "visual_projection.weight",
    "token_embedding": "text_model.embeddings.token_embedding",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "transformer.resblocks": "text_model.encoder.layers",
    "ln_final": "text_model.final_layer_norm",
    "text_projection": "text_projection.weight",
}
RENAMED_IN_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
TRANSPOSED = ("visual.proj", "text_projection")  # plain matrices there, linear layers here
START, END = "<|startoftext|>", "<|endoftext|>"


def transformers_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of an open_clip CLIP under transformers' names.

    Query, key and value come as one matrix there: its thirds along dimension 0.
    """
    result: dict[str, Tensor] = {}
    for name, tensor in state.items():
        prefix = max((p for p in RENAMED if name.startswith(p)), key=len, default="")
        new = RENAMED.get(prefix, "") + name[len(prefix) :]
        if ".attn.in_proj_" in new:
            block, kind = new.split(".attn.in_proj_")
            for letter, third in zip("qkv", tensor.chunk(3), strict=True):
                result[f"{block}.self_attn.{letter}_proj.{kind}"] = third.contiguous()
            continue
        for old, replacement in RENAMED_IN_BLOCK.items():
            new = new.replace(f".{old}.", f".{replacement}.")
        result[new] = tensor.T.contiguous() if name in TRANSPOSED else tensor
    return result


def transformers_config(embed_dim: int, vision: CLIPVisionCfg, text: CLIPTextCfg, *, quick_gelu: bool) -> CLIPConfig:
    """The transformers configuration of an open_clip CLIP of these sizes."""
    activation = "quick_gelu" if quick_gelu else "gelu"
    assert isinstance(vision.layers, int)
    vision_config = {
        "hidden_size": vision.width,
        "intermediate_size": int(vision.width * vision.mlp_ratio),
        "num_hidden_layers": vision.layers,
        "num_attention_heads": vision.width // vision.head_width,
        "image_size": vision.image_size,
        "patch_size": vision.patch_size,
        "hidden_act": activation,
        "projection_dim": embed_dim,
    }
    text_config = {
        "vocab_size": text.vocab_size,
        "hidden_size": text.width,
        "intermediate_size": int(text.width * text.mlp_ratio),
        "num_hidden_layers": text.layers,
        "num_attention_heads": text.heads,
        "max_position_embeddings": text.context_length,
        "hidden_act": activation,
        "projection_dim": embed_dim,
        "bos_token_id": 49406,
        "eos_token_id": 49407,
        "pad_token_id": 49407,
    }
    return CLIPConfig(text_config=text_config, vision_config=vision_config, projection_dim=embed_dim)


def export_clip(model: CLIP, config: CLIPConfig, folder: Path) -> CLIPModel:
    """Write `model` to `folder` (weights, configuration, tokenizer, image processor) and return what was written."""
    with torch.device("meta"):
        converted = CLIPModel(config)
    state = {name: tensor.detach().cpu() for name, tensor in transformers_state(model.state_dict()).items()}
    for name, buffer in converted.named_buffers():  # position numbers, not part of a state dict
        parent, _, leaf = name.rpartition(".")
        setattr(converted.get_submodule(parent), leaf, torch.arange(buffer.shape[-1])[None])
    converted.load_state_dict(state, strict=True, assign=True)
    converted.eval().save_pretrained(folder)
    size = config.vision_config.image_size
    processor = CLIPImageProcessor(
        size={"shortest_edge": size},
        crop_size={"height": size, "width": size},
        image_mean=list(OPENAI_DATASET_MEAN),
        image_std=list(OPENAI_DATASET_STD),
    )
    processor.save_pretrained(folder)
    save_tokenizer(folder, config.text_config.max_position_embeddings)
    return converted


def save_tokenizer(folder: Path, context_length: int) -> None:
    """Write the files of transformers' CLIPTokenizer for the vocabulary that open_clip brings along."""
    tokenizer = SimpleTokenizer()
    names = {"<start_of_text>": START, "<end_of_text>": END}  # open_clip's names → the released vocabulary's
    vocabulary = {names.get(token, token): index for token, index in tokenizer.encoder.items()}
    merges = sorted(tokenizer.bpe_ranks, key=tokenizer.bpe_ranks.__getitem__)
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    settings = {**special, "tokenizer_class": "CLIPTokenizer", "model_max_length": context_length}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
