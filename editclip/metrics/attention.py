r"""What the class token of EditCLIP and of plain CLIP attends to in the last block (paper, section 3.2, Figure 3).

    python -m editclip.metrics.attention --bench DIR --encoder NAME=FOLDER --clip NAME=FOLDER \
        --statistics JSON --out DIR

On every exemplar pair of a benchmark, once each, EditCLIP reads the pair and CLIP either image. Written are

- `attention.csv`: share of the attention inside the edit, the edit's area and the lift, by exemplar, reading and head
- `summary.csv`: their means, with intervals of the lift, for all edits, local ones and each family, and how much more
  of EditCLIP's attention lies inside the edit than of CLIP's
- `maps.csv`: the maps themselves, a row a patch
- `masks/<exemplar>.png`: the edits' masks, white where a pixel changes visibly
- `attention.json`: names of the encoders, their patches, level of the intervals

`editclip.metrics.attention_shares` says what these words mean. An edit that changes the whole image has a share of 1
whatever is attended to: it is kept in the values, and tells nothing.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from editclip import stage
from editclip.config.run import Statistics
from editclip.config.section import checked
from editclip.data.bench import Bench, Sample
from editclip.data.world_pairs import VISIBLE_LEVELS
from editclip.metrics.attention_shares import MAPS, VALUES, masked_fractions, shares, summarise
from editclip.model import Clip, EditCLIP, Images, clip_pixels, pair_pixels
from editclip.storage import write_json

BATCH = 16  # exemplars of one call
DIGITS = "%.6g"
Maps = dict[str, NDArray[np.float64]]  # by head: N×rows×columns


def edit_attention(encoder: EditCLIP, before: Images, after: Images) -> Tensor:
    """Attention of EditCLIP's class token over the patches of pairs, B×heads×rows×columns; see `class_attention`."""
    return class_attention(encoder, pair_pixels(before, after, encoder.processor))


def image_attention(encoder: Clip, images: Images) -> Tensor:
    """Attention of CLIP's class token over the patches of images, B×heads×rows×columns; see `class_attention`."""
    return class_attention(encoder, clip_pixels(images, encoder.processor))


@torch.no_grad()
def class_attention(encoder: Clip | EditCLIP, pixels: Tensor) -> Tensor:
    """Attention of the class token over the patches in the last block of the vision tower.

    It is the model's own softmax over all tokens, of which the class token's share for itself is left out and the rest
    brought to the sum 1: where in the image the token looks, not how much.

    Args:
        encoder: whose vision tower it is.
        pixels: its normalised input, B×3×S×S or B×6×S×S.

    Returns:
        B×heads×rows×columns on the CPU, float64, in the order of the tower's heads.
    """
    tower = encoder.model.vision_model
    caught: list[Tensor] = []

    def catch(module: torch.nn.Module, given: Any, result: tuple[Tensor, Tensor]) -> None:
        caught.append(result[1][:, :, 0, 1:])  # the class token is the first; heads stand before tokens

    usual = tower.config._attn_implementation
    hook = tower.encoder.layers[-1].self_attn.register_forward_hook(catch)
    tower.set_attn_implementation("eager")  # the others give no weights
    try:
        tower(pixels.to(encoder.device))
    finally:
        tower.set_attn_implementation(usual)
        hook.remove()
    weights = caught[0].double().cpu()
    side = tower.config.image_size // tower.config.patch_size
    return (weights / weights.sum(dim=-1, keepdim=True)).unflatten(-1, (side, side))


def edited(before: Image.Image, after: Image.Image) -> NDArray[np.bool_]:
    """The mask of an edit, H×W: which pixels differ visibly, by more than `VISIBLE_LEVELS` of 255 in some channel.

    It needs nothing but the two images, so that every benchmark has it. Where images come from a generative model or a
    camera it also holds what changed beside the edit.

    Args:
        before: RGB.
        after: RGB, of the same size.
    """
    first, second = (np.asarray(image.convert("RGB"), dtype=np.int16) for image in (before, after))
    return np.abs(first - second).max(axis=-1) > VISIBLE_LEVELS


def distinct_exemplars(bench: Bench) -> list[Sample]:
    """The first sample of each exemplar, in the order of the manifest."""
    found: dict[str, Sample] = {}
    for sample in bench.samples:
        found.setdefault(sample.exemplar_id, sample)
    return list(found.values())


def all_maps(editclip: EditCLIP, clip: Clip, pairs: Sequence[tuple[Image.Image, Image.Image]]) -> dict[str, Maps]:
    """The maps of pairs before → after, by reading and head."""
    parts: dict[str, list[Tensor]] = {"clip_before": [], "clip_after": [], "editclip": []}
    for start in tqdm(range(0, len(pairs), BATCH), desc="attention", unit="batch"):
        before, after = ([pair[side] for pair in pairs[start : start + BATCH]] for side in (0, 1))
        parts["clip_before"].append(image_attention(clip, before))
        parts["clip_after"].append(image_attention(clip, after))
        parts["editclip"].append(edit_attention(editclip, before, after))
    whole = {reading: torch.cat(found).numpy() for reading, found in parts.items()}
    return {reading: {"last": found[:, -1], "mean": found.mean(axis=1)} for reading, found in whole.items()}


def values_frame(
    exemplars: Sequence[Sample], masks: Sequence[NDArray[np.bool_]], maps: dict[str, Maps]
) -> pd.DataFrame:
    """attention.csv: columns `VALUES`, a row an exemplar, reading and head.

    A type is called by its name, with its group in front where two groups share the name.
    """
    groups = pd.DataFrame({"group": [e.group for e in exemplars], "type": [e.edit_type for e in exemplars]})
    shared = groups.groupby("type")["group"].nunique() > 1
    rows: list[dict[str, Any]] = []
    for number, (exemplar, mask) in enumerate(zip(exemplars, masks, strict=True)):
        kind = f"{exemplar.group}-{exemplar.edit_type}" if shared[exemplar.edit_type] else exemplar.edit_type
        row = {"exemplar_id": exemplar.exemplar_id, "type": kind, "family": exemplar.family or ""}
        for reading, of_heads in maps.items():
            fractions = masked_fractions(mask, *of_heads["last"].shape[1:])
            for head, found in of_heads.items():
                rows.append(row | {"reading": reading, "head": head} | shares(found[number], fractions))
    return pd.DataFrame(rows, columns=list(VALUES))


def write_maps(path: Path, exemplars: Sequence[Sample], maps: dict[str, Maps]) -> None:
    """maps.csv: columns `MAPS`, rows and columns of patches counted from the top left, from 0."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(MAPS)
        for number, exemplar in enumerate(exemplars):
            for reading, of_heads in maps.items():
                for head, found in of_heads.items():
                    places = np.ndenumerate(found[number])
                    writer.writerows((exemplar.exemplar_id, reading, head, *at, DIGITS % value) for at, value in places)


def main() -> None:
    """Write the attention of one edit encoder beside a plain CLIP's."""
    parser = stage.parser(__doc__)
    add = parser.add_argument
    add("--bench", type=Path, required=True, help="benchmark folder (manifest.csv)")
    add("--encoder", type=stage.weights_argument, required=True, metavar="NAME=FOLDER", help="EditCLIP weights")
    add("--clip", type=stage.weights_argument, required=True, metavar="NAME=FOLDER", help="plain CLIP beside it")
    add("--statistics", type=stage.config_value, required=True, help="config section `statistics`")
    args = parser.parse_args()
    stage.use_threads(args.threads)
    (name, weights), (plain, beside) = args.encoder, args.clip
    statistics, device = checked(Statistics, args.statistics, "statistics"), stage.device()
    facts: dict[str, Any] = {"module": "editclip.metrics.attention", "config": args.statistics}
    facts |= {"inputs": {"bench": args.bench, name: weights, plain: beside}, "threads": args.threads}
    with stage.output_folder(args.out, force=args.force, **facts) as folder:
        bench = Bench.load(args.bench)
        exemplars = distinct_exemplars(bench)
        pairs = [(bench.image(e.exemplar_before), bench.image(e.exemplar_after)) for e in exemplars]
        maps = all_maps(EditCLIP.load(weights, device), Clip.load(beside, device), pairs)
        masks = [edited(*pair) for pair in pairs]
        values = values_frame(exemplars, masks, maps)
        values.to_csv(folder / "attention.csv", index=False, float_format=DIGITS, lineterminator="\n")
        summary = summarise(values, statistics)
        summary.to_csv(folder / "summary.csv", index=False, float_format=DIGITS, lineterminator="\n")
        write_maps(folder / "maps.csv", exemplars, maps)
        (folder / "masks").mkdir()
        for exemplar, mask in zip(exemplars, masks, strict=True):
            Image.fromarray(mask).save(folder / "masks" / f"{exemplar.exemplar_id}.png")
        patches = {reading: list(found["last"].shape[1:]) for reading, found in maps.items()}
        told = {"encoder": name, "clip": plain, "level": statistics.level, "patches": patches}
        write_json(folder / "attention.json", told)


if __name__ == "__main__":
    stage.run(main)
