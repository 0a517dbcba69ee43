"""Bring the released weights into the three folders that are loaded here.

    python -m baselines.instamanip.convert vision --vision Qwen-VL-Chat --out DIR
    python -m baselines.instamanip.convert renderer --detokenizer second_stage/pytorch_model.bin
        --sdxl stable-diffusion-xl-base-1.0 --out DIR
    python -m baselines.instamanip.convert manipulator --checkpoint InstaManip-17B-1shot/pytorch_model.bin
        --tokenizer tokenizer.model --wording wording.json --out DIR

Of Qwen-VL-Chat only the vision tower is read, and only the shards that hold it. SEED-X's second stage is de-tokenizer
and UNet; Stable Diffusion XL lends the UNet's config, its VAE and its scheduler. InstaManip's checkpoint is a language
model with LoRA, which is merged, and its resamplers; the wording is what `baselines.instamanip.released_prompt` writes.
Released files are mapped into memory, so that what is needed of it is what is written.
"""

import argparse
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from baselines.instamanip.architecture import (
    RELEASED_DETOKENIZER,
    RELEASED_MANIPULATOR,
    RELEASED_VISION,
    RELEASED_VOCABULARY,
    ManipulatorSizes,
    VisionSizes,
    Wording,
)
from baselines.instamanip.manipulator import Manipulator
from baselines.instamanip.manipulator_layout import SENTENCEPIECE, save_manipulator
from baselines.instamanip.released_prompt import check_released
from baselines.instamanip.released_weights import Weights, cast, stored
from baselines.instamanip.renderer_layout import RendererSizes, empty_detokenizer, load_scheduler, save_renderer
from baselines.instamanip.vision import VisionTower, sine_table
from baselines.instamanip.vision_layout import save_vision
from baselines.instamanip.weight_files import read_json, refuse_memory
from editclip import stage
from editclip.checkpoints import load_strict
from editclip.errors import InputError
from editclip.pipeline_parts import load_part

M = TypeVar("M", bound=nn.Module)
VISION_PREFIX = "transformer.visual."  # in Qwen-VL-Chat
UNET_PREFIX, DETOKENIZER_PREFIX = "unet.", "resampler."  # in SEED-X's second stage
UNET_CHANNELS = 8  # noisy and condition latents
LLM_PREFIX = "llm.base_model.model."  # peft's, before the names of the language model
PATCH_POSITIONS = "patch_pos_embed"
PROJECTION = re.compile(r"llm\.model\.layers\.\d+\.(self_attn\.[qkvo]|mlp\.(gate|up|down))_proj\.weight")  # with LoRA
DTYPES = ("float16", "bfloat16", "float32")


class Lora(NamedTuple):
    """The rank of a checkpoint's LoRA, and the alpha that scales it by alpha/rank."""

    rank: int
    alpha: int


class ManipulatorKind(NamedTuple):
    """Sizes of a checkpoint: language model, tower (whose weights it lacks), ids and LoRA."""

    sizes: ManipulatorSizes
    vision: VisionSizes
    vocabulary: int
    lora: Lora


RELEASED_LORA = Lora(rank=32, alpha=32)


class Merged(NamedTuple):
    """What one tensor is made of: a weight and, where it has LoRA, the two factors (r×inputs, outputs×r)."""

    weight: Tensor
    factors: tuple[Tensor, Tensor] | None = None

    def value(self, lora: Lora) -> Tensor:
        """The weight, in fp32 if something is added to it."""
        if self.factors is None:
            return self.weight
        down, up = (factor.float() for factor in self.factors)
        return self.weight.float() + lora.alpha / lora.rank * (up @ down)


def converted(module: M, weights: Weights, prefix: str, dtype: torch.dtype) -> M:
    """A module on the meta device with the weights under a prefix.

    Raises:
        InputError: a tensor is missing, superfluous, misshapen or not finite.
    """
    load_strict(module, weights.under(prefix), weights.source)  # complains before anything is converted
    state = {name: cast(tensor, dtype, name, weights.source) for name, tensor in module.state_dict().items()}
    module.load_state_dict(state, assign=True)
    return module.requires_grad_(False).eval()


def empty_unet(sdxl: Path) -> UNet2DConditionModel:
    """SDXL's UNet with channels for the condition, on the meta device; of `sdxl` only its config is read.

    Raises:
        InputError: there is no such config.
    """
    try:
        config = UNet2DConditionModel.load_config(str(sdxl), subfolder="unet", local_files_only=True)
    except (OSError, ValueError) as error:
        raise InputError(f"{sdxl}: its unet/config.json cannot be read ({error}); give a folder of SDXL") from error
    with torch.device("meta"):
        return UNet2DConditionModel.from_config({**config, "in_channels": UNET_CHANNELS})


def convert_vision(vision: Path, sizes: VisionSizes, dtype: torch.dtype, out: Path) -> None:
    """Fill a vision tower's folder.

    Args:
        vision: Qwen-VL-Chat's folder, or one file of it if that holds the whole tower.
        sizes: of the tower.
        dtype: of the tower; the features of "no image" are computed in fp32.
        out: an empty folder.

    Raises:
        InputError: a file is missing or unreadable, or a tensor is missing, superfluous, misshapen or not finite.
    """
    with torch.device("meta"):
        empty = VisionTower(sizes)
    save_vision(out, converted(empty, stored([vision], VISION_PREFIX), VISION_PREFIX, dtype))


def convert_renderer(detokenizer: Path, sdxl: Path, sizes: RendererSizes, dtype: torch.dtype, out: Path) -> None:
    """Fill a renderer's folder.

    Args:
        detokenizer: SEED-X's second stage.
        sdxl: Stable Diffusion XL's folder, with `unet/config.json`, `vae/` and `scheduler/`.
        sizes: of the de-tokenizer and the features that it takes.
        dtype: of all but the VAE, which is kept as it is.
        out: an empty folder.

    Raises:
        InputError: a file is missing or unreadable, or a tensor is missing, superfluous, misshapen or not finite.
    """
    second_stage = stored([detokenizer])
    foreign = sorted(name for name in second_stage.tensors if not name.startswith((UNET_PREFIX, DETOKENIZER_PREFIX)))
    if foreign:
        raise InputError(
            f"{detokenizer}: unknown tensor {foreign[0]} ({len(foreign)} in all); give SEED-X's second stage"
        )
    load_part(AutoencoderKL, sdxl, "vae").save_pretrained(out / "vae")
    load_scheduler(sdxl).save_pretrained(out / "scheduler")
    converted(empty_unet(sdxl), second_stage, UNET_PREFIX, dtype).save_pretrained(out / "unet")
    with torch.device("meta"):
        empty = empty_detokenizer(sizes)
    save_renderer(out, sizes, converted(empty, second_stage, DETOKENIZER_PREFIX, dtype))


class _Untaken:
    """Weights of which each tensor is taken once."""

    def __init__(self, weights: Weights) -> None:
        self.weights, self.left = weights, set(weights.tensors)

    def take(self, shape: Sequence[int], *names: str, fix: str = "give the complete checkpoint") -> Tensor:
        """The tensor of the first of some names that is there.

        Raises:
            InputError: none is, or it has another shape.
        """
        name = next((name for name in names if name in self.left), None)
        if name is None:
            raise InputError(f"{self.weights.source}: tensor {names[0]} {tuple(shape)} is missing; {fix}")
        tensor = self.weights.tensors[name]
        if tensor.shape != torch.Size(shape):
            raise InputError(
                f"{self.weights.source}: tensor {name} has shape {tuple(tensor.shape)} instead of {tuple(shape)}; give "
                "the released checkpoint"
            )
        self.left.remove(name)
        return tensor


def merged_parts(own: Mapping[str, Tensor], weights: Weights, base: Weights | None, lora: Lora) -> dict[str, Merged]:
    """What each tensor of a manipulator is made of.

    Names are peft's, with or without the `base_layer` that it has had since 0.5. What was trained in full besides the
    LoRA is the copy `modules_to_save.default`; embeddings and head may be without it.

    Args:
        own: the manipulator's tensors (on the meta device, say), of which names and shapes count.
        weights: the checkpoint's.
        base: the language model's before the training, for a checkpoint that lacks what was frozen.
        lora: of the checkpoint.

    Raises:
        InputError: a tensor is missing, superfluous or misshapen.
    """
    untaken, lent = _Untaken(weights), _Untaken(base or Weights({}, weights.source))
    result: dict[str, Merged] = {}
    for name, tensor in own.items():
        shape, plain = tensor.shape, name.removeprefix("llm.")
        module = LLM_PREFIX + plain.removesuffix(".weight")
        if PROJECTION.fullmatch(name):
            factors = (
                untaken.take((lora.rank, shape[1]), f"{module}.lora_A.default.weight"),
                untaken.take((shape[0], lora.rank), f"{module}.lora_B.default.weight"),
            )
            names = f"{module}.base_layer.weight", f"{module}.weight"
            if base is not None and untaken.left.isdisjoint(names):
                result[name] = Merged(lent.take(shape, plain, fix="give SEED-X's complete language model"), factors)
                continue
            fix = "give the complete checkpoint, or --base for one that holds only what was trained"
            result[name] = Merged(untaken.take(shape, *names, fix=fix), factors)
        elif plain != name:
            names = f"{module}.modules_to_save.default.weight", f"{module}.weight"
            result[name] = Merged(untaken.take(shape, *(names[:1] if "norm." in name else names)))
        elif base is not None and name.endswith(".pos_embed") and name not in untaken.left:
            # frozen as well, but no weights of the base: fixed positions
            result[name] = Merged(sine_table(shape[1], round(shape[0] ** 0.5)))
        else:
            result[name] = Merged(untaken.take(shape, name))
    if PATCH_POSITIONS in untaken.left:
        # It tells the crops of a large image apart; InstaManip shows images whole and never adds it.
        untaken.take((4, own["llm.model.norm.weight"].shape[0]), PATCH_POSITIONS)
    original = ".original_module.weight"  # of a trained copy
    needless = {
        name
        for name in untaken.left
        if name.endswith(".rotary_emb.inv_freq")  # constants, in files written by older versions of transformers
        or (
            name.endswith(original)
            and name.removesuffix(original) + ".modules_to_save.default.weight" in weights.tensors
        )
    }
    if extra := sorted(untaken.left - needless):
        raise InputError(
            f"{weights.source}: unknown tensor {extra[0]} ({len(extra)} in all); give InstaManip's own checkpoint"
        )
    return result


def empty_manipulator(kind: ManipulatorKind) -> Manipulator:
    """A manipulator on the meta device: shapes without memory."""
    with torch.device("meta"):
        return Manipulator(kind.sizes, kind.vision.slots, kind.vision.feature_width, kind.vocabulary)


def merged_manipulator(
    weights: Weights, base: Weights | None, kind: ManipulatorKind, dtype: torch.dtype
) -> Manipulator:
    """The manipulator of a checkpoint, its LoRA merged in fp32; arguments as `merged_parts`.

    Raises:
        InputError: a tensor is missing, superfluous, misshapen or not finite, or the memory does not suffice.
    """
    manipulator = empty_manipulator(kind)
    own = manipulator.state_dict()
    parts = merged_parts(own, weights, base, kind.lora)
    refuse_memory(sum(tensor.numel() for tensor in own.values()), "cpu", dtype, "converting")
    state = {name: cast(part.value(kind.lora), dtype, name, weights.source) for name, part in parts.items()}
    load_strict(manipulator, state, weights.source)
    return manipulator.requires_grad_(False).eval()


def read_wording(file: Path) -> Wording:
    """The released wording.

    Raises:
        InputError: the file is missing, or holds something else.
    """
    if not file.is_file():
        raise InputError(
            f"{file} is missing; make it from a checkout of BolinLai/InstaManip: python -m "
            "baselines.instamanip.released_prompt --from CHECKOUT --out DIR writes DIR/wording.json"
        )
    wording = read_json(file, Wording)
    check_released(wording, file)
    return wording


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    vision, renderer, manipulator = parts = [
        commands.add_parser(name, parents=[stage.parser(None)], conflict_handler="resolve")
        for name in ("vision", "renderer", "manipulator")
    ]
    vision.add_argument("--vision", type=Path, required=True, help="Qwen-VL-Chat's folder")
    renderer.add_argument("--detokenizer", type=Path, required=True, help="SEED-X's second stage, pytorch_model.bin")
    renderer.add_argument("--sdxl", type=Path, required=True, help="SDXL's folder; of its UNet only the config is read")
    checkpoint = "InstaManip's checkpoint: a file, its shards, or their folder"
    manipulator.add_argument("--checkpoint", type=Path, nargs="+", required=True, help=checkpoint)
    base = "SEED-X's language model, for a checkpoint that holds only what was trained"
    manipulator.add_argument("--base", type=Path, help=base)
    manipulator.add_argument("--tokenizer", type=Path, required=True, help="LLaMA's tokenizer.model")
    wording = "the released wording, as baselines.instamanip.released_prompt writes it"
    manipulator.add_argument("--wording", type=Path, required=True, help=wording)
    for command in parts:
        command.add_argument("--dtype", choices=DTYPES, default=DTYPES[0], help="of the weights (default: %(default)s)")
    return parser.parse_args()


def main() -> None:
    """Convert from the command line."""
    given = _arguments()
    stage.use_threads(given.threads)
    dtype: torch.dtype = getattr(torch, given.dtype)
    module, config = "baselines.instamanip.convert", {"command": given.command, "dtype": given.dtype}
    if given.command == "vision":
        inputs: dict[str, Path] = {"vision": given.vision}
        with stage.output_folder(given.out, module=module, config=config, inputs=inputs, force=given.force) as folder:
            convert_vision(given.vision, RELEASED_VISION, dtype, folder)
        return
    if given.command == "renderer":
        inputs = {name: getattr(given, name) for name in ("detokenizer", "sdxl")}
        with stage.output_folder(given.out, module=module, config=config, inputs=inputs, force=given.force) as folder:
            sizes = RendererSizes(
                detokenizer=RELEASED_DETOKENIZER,
                slots=RELEASED_VISION.slots,
                feature_width=RELEASED_VISION.feature_width,
            )
            convert_renderer(**inputs, sizes=sizes, dtype=dtype, out=folder)
        return
    inputs = {f"checkpoint {number}": place for number, place in enumerate(given.checkpoint, 1)}
    inputs |= {"tokenizer": given.tokenizer, "wording": given.wording} | ({"base": given.base} if given.base else {})
    wording = read_wording(given.wording)
    if not given.tokenizer.is_file():
        raise InputError(f"{given.tokenizer} is missing; give LLaMA's tokenizer.model, which SEED-X's tokenizer has")
    kind = ManipulatorKind(RELEASED_MANIPULATOR, RELEASED_VISION, RELEASED_VOCABULARY, RELEASED_LORA)
    with stage.output_folder(given.out, module=module, config=config, inputs=inputs, force=given.force) as folder:
        base = stored([given.base]) if given.base else None
        manipulator = merged_manipulator(stored(given.checkpoint), base, kind, dtype)
        save_manipulator(folder, manipulator, kind.sizes, kind.vision, wording, text=None)
        shutil.copyfile(given.tokenizer, folder / SENTENCEPIECE)


if __name__ == "__main__":
    stage.run(main)
