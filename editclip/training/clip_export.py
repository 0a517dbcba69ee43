"""An open_clip CLIP as a transformers CLIPModel folder, tokenizer and image processor included, and back."""

import json
from pathlib import Path

import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from open_clip.tokenizer import SimpleTokenizer
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

from editclip.checkpoints import from_open_clip, load_strict, read_config, read_state, to_open_clip

START, END = "<|startoftext|>", "<|endoftext|>"


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
    state = {name: tensor.detach().cpu() for name, tensor in from_open_clip(model.state_dict()).items()}
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


def imported_clip(folder: Path) -> tuple[CLIP, CLIPConfig]:
    """The open_clip CLIP in a folder that `export_clip` has written, and its configuration.

    Raises:
        InputError: the folder holds no CLIP, or one that is not of open_clip's architecture.
    """
    state = read_state(folder)
    config = read_config(folder, state)
    seen, said = config.vision_config, config.text_config
    vision = CLIPVisionCfg(
        layers=seen.num_hidden_layers,
        width=seen.hidden_size,
        head_width=seen.hidden_size // seen.num_attention_heads,
        mlp_ratio=seen.intermediate_size / seen.hidden_size,
        patch_size=seen.patch_size,
        image_size=seen.image_size,
    )
    text = CLIPTextCfg(
        context_length=said.max_position_embeddings,
        vocab_size=said.vocab_size,
        width=said.hidden_size,
        heads=said.num_attention_heads,
        layers=said.num_hidden_layers,
        mlp_ratio=said.intermediate_size / said.hidden_size,
    )
    model = CLIP(config.projection_dim, vision, text, quick_gelu=seen.hidden_act == "quick_gelu")
    load_strict(model, to_open_clip(state), folder)
    return model, config


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
