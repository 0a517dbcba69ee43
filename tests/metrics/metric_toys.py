"""Writers of tiny random CLIPs, of a benchmark of smooth random images, and of a method's folder of edits."""

import csv
import gzip
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel

from editclip.data.bench import Bench
from editclip.storage import file_digest

RESOLUTION = 32
SPECIAL = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
MANIFEST = ("sample_id", "group", "edit_type", "family", "exemplar_id", "query_id", "exemplar_before",
            "exemplar_after", "query", "instruction", "caption_before", "caption_after", "text_origin", "ground_truth",
            "edit_mask")  # fmt: skip
METRICS: dict[str, Any] = {  # the config's section
    "batch_size": 4,
    "lpips": {"nets": ["alex"], "trunk": "random", "resolution": 64},
    "clip": {"encoder": "clip", "direction": "auto", "minimum_length": 1.0e-4},
    "editclip": {"encoder": "editclip"},
    "ground_truth": {},
}

# LPIPS of ex_ref.png to ex_p0.png and ex_p1.png of its repository, richzhang/PerceptualSimilarity, by the package lpips
EXAMPLES = {"alex": (0.7218807, 0.1375656), "vgg": (0.5686128, 0.4216643)}

torch.set_num_threads(1)


def photo(seed: int, size: tuple[int, int] = (RESOLUTION, RESOLUTION)) -> Image.Image:
    """A smooth random RGB image that uses the whole range of grey levels."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def write_tokenizer(folder: Path) -> None:
    """CLIP's real vocabulary and merges, out of open_clip's copy."""
    vocabulary = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
    merges = gzip.decompress(vocabulary.read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    encoder = open_clip.SimpleTokenizer().encoder
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    ids = {names.get(token, token): number for token, number in encoder.items()}
    (folder / "vocab.json").write_text(json.dumps(ids))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    special = {**SPECIAL, "pad_token": "<|endoftext|>"}
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    settings = {**special, "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def write_clip(folder: Path, channels: int, seed: int) -> Path:
    """A CLIPModel folder with random weights, large enough that features differ well between images."""
    folder.mkdir(parents=True)
    shared = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = {**shared, "image_size": 32, "patch_size": 16, "num_channels": channels, "hidden_act": "quick_gelu"}
    text = {**shared, "vocab_size": 49408, "eos_token_id": 49407, "bos_token_id": 49406, "hidden_act": "quick_gelu"}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=16))
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "position" not in name:
                torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    processor = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 32}, "resample": 3,
                 "crop_size": {"height": 32, "width": 32}, "do_center_crop": True, "do_normalize": True,
                 "do_rescale": True, "do_resize": True, "do_convert_rgb": True, "rescale_factor": 1 / 255,
                 "image_mean": [0.48145466, 0.4578275, 0.40821073],
                 "image_std": [0.26862954, 0.26130258, 0.27577711]}  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    write_tokenizer(folder)
    return folder


def write_bench(folder: Path, change: Callable[[int, dict[str, str]], None] = lambda index, row: None) -> Bench:
    """One edit type, 2 exemplars × 3 queries; `change(index, row)` may alter each manifest row before it is written."""
    (folder / "frames").mkdir(parents=True, exist_ok=True)
    frames = ["e0_0", "e0_1", "e1_0", "e1_1", *(f"q{i}_{side}" for i in range(3) for side in (0, 1))]
    for number, name in enumerate(frames):
        photo(number).save(folder / "frames" / f"{name}.png")
    mask = np.zeros((RESOLUTION, RESOLUTION), np.uint8)
    mask[8:24, 4:16] = 255
    Image.fromarray(mask).save(folder / "frames" / "mask.png")
    rows = []
    for index, (exemplar, query) in enumerate((e, q) for e in range(2) for q in range(3)):
        row = {
            "sample_id": f"g-t-e{exemplar}-q{query}", "group": "g", "edit_type": "t", "family": "colour",
            "exemplar_id": f"g-t-e{exemplar}", "query_id": f"g-t-q{query}",
            "exemplar_before": f"frames/e{exemplar}_0.png", "exemplar_after": f"frames/e{exemplar}_1.png",
            "query": f"frames/q{query}_0.png", "instruction": "make the circle red",
            "caption_before": f"a blue circle {query}", "caption_after": f"a red circle {query}",
            "text_origin": "benchmark", "ground_truth": f"frames/q{query}_1.png", "edit_mask": "frames/mask.png",
        }  # fmt: skip
        change(index, row)
        rows.append(row)
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, MANIFEST)
        writer.writeheader()
        writer.writerows(rows)
    counts = {"edit_types": 1, "exemplars": 2, "queries": 3, "samples": 6}
    facts = {"name": "toy", "resolution": RESOLUTION, "digest": file_digest(folder / "manifest.csv"), "counts": counts}
    (folder / "bench.json").write_text(json.dumps(facts))
    return Bench.load(folder)


def write_edits(folder: Path, bench: Bench, images: Mapping[str, Image.Image] | None = None, seed: int = 0) -> Path:
    """A method's `seed=<s>` folder: `images` by sample id, another photo for every sample not named there."""
    target = folder / f"seed={seed}"
    target.mkdir(parents=True)
    with (target / "edits.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("sample_id", "seed", "file", "sha256", "native_size", "seconds", "status", "reason"))
        for index, sample in enumerate(bench.samples):
            path = target / f"{sample.sample_id}.png"
            (images or {}).get(sample.sample_id, photo(100 + 10 * seed + index)).save(path)
            writer.writerow((sample.sample_id, seed, path.name, file_digest(path), RESOLUTION, 0.1, "ok", ""))
    return folder


def rows_of(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """A score file by (sample id, metric)."""
    with path.open(newline="") as file:
        return {(row["sample_id"], row["metric"]): row for row in csv.DictReader(file)}
