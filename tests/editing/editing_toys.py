"""Writers of a toy benchmark, of a toy method, and of tiny random weights in the released layouts."""

import csv
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from safetensors.torch import save_file
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
)

from editclip.data.bench import Bench
from editclip.storage import file_digest

SIZE = 32
Run = Callable[..., Path]  # of the fixture `run`
MANIFEST = ("sample_id", "group", "edit_type", "family", "exemplar_id", "query_id", "exemplar_before",
            "exemplar_after", "query", "instruction", "caption_before", "caption_after", "text_origin", "ground_truth",
            "edit_mask")  # fmt: skip
EDITOR = '''
"""A method that shows all it is given, notes each call in a file, and fails or dies on demand."""

import os
import signal

import numpy as np
import torch
from PIL import Image

LABEL = "Toy"
PAPER = ""
LICENSE = "Apache-2.0"
CONDITIONING = "exemplar"
NEEDS = ("exemplar", "instruction")
STAGES = ("prepare", "edit")
WEIGHTS = ()
RESOLUTION = None
GPU_GB = 0
DETERMINISTIC = True
TRAINED_ON = ()
OPTIONS = {"strength": 40.0}


def note(what):
    with open(os.environ["TOY_LOG"], "a") as file:
        file.write(what + "\\n")
    if len(open(os.environ["TOY_LOG"]).readlines()) == int(os.environ.get("TOY_KILL", "-1")):
        os.kill(os.getpid(), signal.SIGKILL)


class Toy:
    def __init__(self, strength):
        self.strength = strength

    def prepare(self, exemplar):
        note("prepare " + exemplar.exemplar_id)
        if exemplar.exemplar_id in os.environ.get("TOY_BAD", ""):
            raise RuntimeError("cannot invert\\nthis second line is not a reason")
        change = np.asarray(exemplar.after, float).mean((0, 1)) - np.asarray(exemplar.before, float).mean((0, 1))
        return {"change": torch.from_numpy(change)}

    def edit(self, requests):
        images = []
        for request in requests:
            note("edit")
            if request.instruction in os.environ.get("TOY_BAD", "-"):
                raise RuntimeError("cannot edit")
            noise = np.random.default_rng(request.seed).normal(0, self.strength, (*request.query.size, 3))
            pixels = np.asarray(request.query) + request.prepared["change"].numpy() + noise
            images.append(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)))
        return images


def load(weights, options, device, stage):
    return Toy(options["strength"])
'''


def photo(seed: int) -> Image.Image:
    """A smooth random RGB image."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((SIZE, SIZE), Image.Resampling.BICUBIC)


def write_bench(
    folder: Path,
    exemplars: Mapping[str, int] | None = None,
    change: Callable[[int, dict[str, str]], None] = lambda index, row: None,
) -> Bench:
    """Edit types with the given numbers of exemplars (default: three of two) × 2 queries; `change` may alter rows."""
    (folder / "frames").mkdir(parents=True)
    rows: list[dict[str, str]] = []
    for number, (edit_type, count) in enumerate((exemplars or {"red": 2, "snow": 2, "ship": 2}).items()):
        for index in range(max(count, 2)):
            for side in (0, 1):
                photo(1000 * number + 10 * index + side).save(folder / f"frames/{edit_type}-e{index}_{side}.png")
                photo(1000 * number + 500 + 10 * index + side).save(folder / f"frames/{edit_type}-q{index}_{side}.png")
        for exemplar, query in ((e, q) for e in range(count) for q in range(2)):
            name = f"frames/{edit_type}"
            row = {
                "sample_id": f"g-{edit_type}-e{exemplar}-q{query}", "group": "g", "edit_type": edit_type, "family": "f",
                "exemplar_id": f"g-{edit_type}-e{exemplar}", "query_id": f"g-{edit_type}-q{query}",
                "exemplar_before": f"{name}-e{exemplar}_0.png", "exemplar_after": f"{name}-e{exemplar}_1.png",
                "query": f"{name}-q{query}_0.png", "instruction": f"make it {edit_type}",
                "caption_before": "a house", "caption_after": f"a {edit_type} house", "text_origin": "benchmark",
                "ground_truth": f"{name}-q{query}_1.png", "edit_mask": "",
            }  # fmt: skip
            change(len(rows), row)
            rows.append(row)
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, MANIFEST)
        writer.writeheader()
        writer.writerows(rows)
    facts = {"name": "toy", "resolution": SIZE, "digest": file_digest(folder / "manifest.csv"), "counts": {}}
    (folder / "bench.json").write_text(json.dumps(facts))
    return Bench.load(folder)


def rows_of(folder: Path, name: str = "edits.csv") -> list[dict[str, str]]:
    with open(folder / name, newline="") as file:
        return list(csv.DictReader(file))


def images_of(folder: Path) -> dict[str, bytes]:
    return {path.stem: Image.open(path).tobytes() for path in folder.glob("*.png")}


def entry(editor: str, **changes: Any) -> dict[str, Any]:
    """A method entry of a config."""
    name = editor.split(".")[-1]
    return {"name": name, "editor": editor, "exemplars": "own", "batch_size": 4, "options": {}} | changes


def write_tokenizer(folder: Path) -> CLIPTokenizer:
    """CLIP's byte alphabet without any merge: every letter is a token."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(code) for code in (*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 324))]
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    (folder / "special_tokens_map.json").write_text(json.dumps(special | {"pad_token": "<|endoftext|>"}))
    settings = {**special, "pad_token": "<|endoftext|>", "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return CLIPTokenizer.from_pretrained(str(folder))


def _tower(**more: Any) -> dict[str, Any]:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return {**sizes, "hidden_act": "quick_gelu", **more}


def _unet(in_channels: int = 8) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=SIZE // 2,
        in_channels=in_channels,
        out_channels=4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=8,
        cross_attention_dim=16,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )


def write_text_to_image(folder: Path, ip2p: Path, **scheduler: Any) -> None:
    """A random text-to-image UNet of three levels, with attention at a half and a quarter; the rest is `ip2p`'s."""
    unet = UNet2DConditionModel(
        sample_size=SIZE // 2,
        block_out_channels=(16, 32, 32),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=4,
        cross_attention_dim=16,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    )
    base = StableDiffusionInstructPix2PixPipeline.from_pretrained(ip2p, safety_checker=None)
    sampler = EulerAncestralDiscreteScheduler.from_config(base.scheduler.config, **scheduler)
    parts = {**base.components, "unet": unet, "scheduler": sampler}
    StableDiffusionPipeline(**parts, requires_safety_checker=False).save_pretrained(folder)


def write_prompt_diffusion(folder: Path, ip2p: Path) -> None:
    """Random weights in the layout of Prompt Diffusion's release, without zeros; the rest is taken from `ip2p`."""
    from baselines.prompt_diffusion.network import PairQueryControlNet

    unet = _unet(4)
    controlnet = PairQueryControlNet.beside(unet, (4, 8))  # one stride, as the VAE
    with torch.no_grad():
        for parameter in controlnet.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.2)
    base = StableDiffusionInstructPix2PixPipeline.from_pretrained(ip2p, safety_checker=None)
    StableDiffusionPipeline(**{**base.components, "unet": unet}, requires_safety_checker=False).save_pretrained(folder)
    controlnet.save_pretrained(folder / "controlnet")


def write_instamanip(manipulator: Path, renderer: Path, tower: Path, ip2p: Path) -> None:
    """Random weights in InstaManip's three layouts, whose answers begin with the image; the VAE is `ip2p`'s."""
    from baselines.instamanip.architecture import DetokenizerSizes, ManipulatorSizes, VisionSizes, Wording
    from baselines.instamanip.manipulator import Manipulator
    from baselines.instamanip.manipulator_layout import save_manipulator
    from baselines.instamanip.prompting import AddedTokens, WordTokens
    from baselines.instamanip.renderer_layout import RendererSizes, empty_detokenizer, save_renderer
    from baselines.instamanip.train_renderer import with_added_embedding
    from baselines.instamanip.vision import VisionTower
    from baselines.instamanip.vision_layout import save_vision

    vision = VisionSizes(
        image_size=32, patch_size=8, width=16, layers=1, heads=2, mlp_width=32, table_grid=2, tokens_grid=4,
        feature_width=16, feature_heads=2, slots=4,
    )  # fmt: skip
    detokenizer = DetokenizerSizes(width=16, layers=1, heads=2, head_width=8, context_widths=(8, 8))
    tower.mkdir(parents=True)
    save_vision(tower, VisionTower(vision))
    renderer.mkdir(parents=True)
    rendered = RendererSizes(detokenizer=detokenizer, slots=vision.slots, feature_width=vision.feature_width)
    save_renderer(renderer, rendered, empty_detokenizer(rendered))
    unet, _ = with_added_embedding(_unet(), 16, 8, 8)
    torch.nn.init.normal_(unet.add_embedding.linear_2.weight, std=0.2)
    unet.save_pretrained(renderer / "unet")
    shutil.copytree(ip2p / "vae", renderer / "vae")
    EulerDiscreteScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, steps_offset=1, timestep_spacing="leading"
    ).save_pretrained(renderer / "scheduler")
    sizes = ManipulatorSizes(width=16, layers=2, heads=2, mlp_width=32, resampler_heads=2, edit_tokens=3, positions=256)
    wording = Wording(
        opening="edit",
        pairs="turns",
        source="this",
        target="into",
        manipulation=". kept in",
        query=". now",
        closing=":",
    )
    words = WordTokens.of([*wording.pieces(), '"make it snowy red turn the circle blue ship'])
    added = AddedTokens.after(len(words), vision.slots, sizes.edit_tokens)
    made = Manipulator(sizes, vision.slots, vision.feature_width, len(words) + len(added.names))
    with torch.no_grad():  # a direction that all states share decides what is said first
        made.llm.model.embed_tokens.weight[:, 0] = 3
        made.llm.lm_head.weight.zero_()
        made.llm.lm_head.weight[added.image_start, 0] = 1
    manipulator.mkdir(parents=True)
    save_manipulator(manipulator, made, sizes, vision, wording, words)


def write_weights(folder: Path) -> dict[str, Path]:
    """Random weights for every method in baselines/ and EditCLIP's own, by name."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tokenizer = write_tokenizer(folder / "editclip")
        ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
        text = _tower(vocab_size=len(tokenizer), **ids)
        vae = AutoencoderKL(
            block_out_channels=(8, 16),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=4,
            latent_channels=4,
        )
        scheduler = EulerAncestralDiscreteScheduler(
            beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, steps_offset=1
        )
        StableDiffusionInstructPix2PixPipeline(
            vae=vae,
            text_encoder=CLIPTextModel(CLIPTextConfig(**text)),
            tokenizer=tokenizer,
            unet=_unet(),
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        ).save_pretrained(folder / "ip2p")
        vision = _tower(image_size=32, patch_size=16, num_channels=6)
        CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)).save_pretrained(
            folder / "editclip"
        )
        CLIPImageProcessorPil(size={"height": 32, "width": 32}, do_center_crop=False).save_pretrained(
            folder / "editclip"
        )
        _unet().save_pretrained(folder / "editclip_ip2p" / "unet")
        projection = {"proj.weight": torch.randn(16, 16) / 4, "proj.bias": torch.zeros(16)}
        projection |= {"norm.weight": torch.ones(16), "norm.bias": torch.zeros(16)}
        save_file(projection, folder / "editclip_ip2p" / "image_proj_model.safetensors")
        plain = CLIPConfig(text_config=text, vision_config=vision | {"num_channels": 3}, projection_dim=16)
        CLIPModel(plain).save_pretrained(folder / "clip")
        write_tokenizer(folder / "clip")
        CLIPImageProcessorPil(size={"height": 32, "width": 32}, do_center_crop=False).save_pretrained(folder / "clip")
        for name in ("prompt_diffusion", "prompt_diffusion_edits"):
            write_prompt_diffusion(folder / name, folder / "ip2p")
        write_instamanip(
            folder / "instamanip", folder / "instamanip_renderer", folder / "instamanip_vision", folder / "ip2p"
        )
        write_text_to_image(folder / "text_to_image", folder / "ip2p")
    return {path.name: path for path in folder.iterdir()}
