"""The released weights: sizes, names and shapes, the merged LoRA, and all folders from small files of that form."""

import dataclasses
import json
import re
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest
import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor, nn

from baselines.instamanip import convert, released_prompt
from baselines.instamanip.architecture import (
    RELEASED_DETOKENIZER,
    RELEASED_MANIPULATOR,
    RELEASED_VISION,
    RELEASED_VOCABULARY,
    DetokenizerSizes,
    ManipulatorSizes,
    VisionSizes,
    Wording,
)
from baselines.instamanip.convert import (
    DETOKENIZER_PREFIX,
    PROJECTION,
    RELEASED_LORA,
    VISION_PREFIX,
    Lora,
    ManipulatorKind,
    Merged,
    convert_renderer,
    convert_vision,
    empty_manipulator,
    merged_manipulator,
    merged_parts,
)
from baselines.instamanip.detokenizer import Detokenizer
from baselines.instamanip.manipulator import Manipulator
from baselines.instamanip.manipulator_layout import load_manipulator, save_manipulator, weight_files
from baselines.instamanip.prompting import AddedTokens, Prompter, WordTokens
from baselines.instamanip.released_weights import Weights, stored, weight_shards
from baselines.instamanip.renderer import Renderer
from baselines.instamanip.renderer_layout import RendererSizes, canvas_side, check_renderer, load_detokenizer
from baselines.instamanip.vision import VisionTower
from baselines.instamanip.vision_layout import check_folder, load_no_features, load_vision
from baselines.instamanip.weight_files import check_memory, tensors_one_by_one
from editclip.checkpoints import load_strict
from editclip.errors import InputError

M = TypeVar("M", bound=nn.Module)
VISION = VisionSizes(
    image_size=32, patch_size=8, width=16, layers=1, heads=2, mlp_width=32, table_grid=2, tokens_grid=4,
    feature_width=16, feature_heads=2, slots=4,
)  # fmt: skip
DETOKENIZER = DetokenizerSizes(width=16, layers=1, heads=2, head_width=8, context_widths=(8, 8))
SIZES = ManipulatorSizes(width=8, layers=2, heads=2, mlp_width=16, resampler_heads=2, edit_tokens=3, positions=256)
WORDING = Wording(
    opening="edit", pairs="turns", source="this", target="into", manipulation=". kept in", query=". now", closing=":"
)
WORDS = WordTokens.of([*WORDING.model_dump().values(), '"make it red'])
ADDED = AddedTokens.after(len(WORDS), VISION.slots, SIZES.edit_tokens)
KIND = ManipulatorKind(SIZES, VISION, len(WORDS) + len(ADDED.names), Lora(rank=2, alpha=6))
RELEASED = ManipulatorKind(RELEASED_MANIPULATOR, RELEASED_VISION, RELEASED_VOCABULARY, RELEASED_LORA)
LLM = "llm.base_model.model."
QUERY = f"{LLM}model.layers.1.self_attn.q_proj"
SOURCE = Path("pytorch_model.bin")


def randomised(module: M) -> M:
    """No two tensors are equal, nor at their start."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if not name.endswith("pos_embed"):
                parameter.normal_(std=0.3)
    return module.requires_grad_(False).eval()


def manipulator(seed: int = 0, kind: ManipulatorKind = KIND) -> Manipulator:
    torch.manual_seed(seed)
    return randomised(Manipulator(kind.sizes, kind.vision.slots, kind.vision.feature_width, kind.vocabulary))


def released(made: Manipulator, lora: Lora, base_layer: bool = True) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A checkpoint as released, by which `made` is what is merged, and the language model from before its training."""
    checkpoint: dict[str, Tensor] = {}
    base: dict[str, Tensor] = {}
    for name, tensor in made.state_dict().items():
        owner, _, module = name.removesuffix(".weight").partition(".")
        kind = module.split(".")[-1]
        if owner != "llm":
            checkpoint[name] = tensor
        elif kind in {f"{part}_proj" for part in ("q", "k", "v", "o", "gate", "up", "down")}:
            down = torch.randn(lora.rank, tensor.shape[1], device=tensor.device)
            up = torch.randn(tensor.shape[0], lora.rank, device=tensor.device)
            base[f"{module}.weight"] = tensor - lora.alpha / lora.rank * (up @ down)
            checkpoint[f"{LLM}{module}.{'base_layer.' * base_layer}weight"] = base[f"{module}.weight"]
            checkpoint[f"{LLM}{module}.lora_A.default.weight"] = down
            checkpoint[f"{LLM}{module}.lora_B.default.weight"] = up
        elif "norm" in kind:
            base[f"{module}.weight"] = torch.ones_like(tensor)
            checkpoint[f"{LLM}{module}.original_module.weight"] = base[f"{module}.weight"]
            checkpoint[f"{LLM}{module}.modules_to_save.default.weight"] = tensor
        else:
            assert kind in ("embed_tokens", "lm_head")
            base[f"{module}.weight"] = torch.zeros_like(tensor[:-1])  # the vocabulary grew
            checkpoint[f"{LLM}{module}.weight"] = tensor
    checkpoint |= {"patch_pos_embed": torch.empty(4, made.llm.config.hidden_size)}
    checkpoint |= {f"{LLM}model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    return checkpoint, base


def outputs(made: Manipulator) -> list[Tensor]:
    """Of a sequence with an exemplar, a query and an answer, and the two resamplers' of random tokens."""
    prompter = Prompter(WORDING, WORDS, ADDED)
    layout = prompter.layout(prompter.parts("make it red", 1), answer="")
    images = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    rotary = made.llm.model.rotary_emb
    made.llm.model.rotary_emb = type(rotary)(made.llm.config)  # no weights: empty on the meta device
    with torch.no_grad():
        logits, states = made([layout], images)
        return [logits, *states, made.input_resampler(images[0]), made.output_resampler(states[-1][:, :4])]


def same(one: Manipulator, other: Manipulator, tolerance: float = 1e-5) -> bool:
    return all(torch.allclose(a, b, atol=tolerance) for a, b in zip(outputs(one), outputs(other), strict=True))


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(scope="module")
def full_size() -> Manipulator:
    return empty_manipulator(RELEASED)


def test_full_sizes_have_as_many_values_as_the_release(full_size: Manipulator) -> None:
    # counted from the released configs, network by network
    with torch.device("meta"):
        tower = VisionTower(RELEASED_VISION)
        detokenizer = Detokenizer(RELEASED_DETOKENIZER, RELEASED_VISION.slots, RELEASED_VISION.feature_width)
    assert count(tower) == 1_935_610_624
    assert count(detokenizer) == 61_245_696
    assert count(full_size.input_resampler) == 126_525_440
    assert count(full_size.output_resampler) == 88_637_440
    assert count(full_size.llm) == 13_019_960_320
    assert full_size.llm.lm_head.weight.shape == full_size.llm.model.embed_tokens.weight.shape == (32_400, 5120)
    adapted = [tensor for name, tensor in full_size.state_dict().items() if PROJECTION.fullmatch(name)]
    assert len(adapted) == 40 * 7
    assert RELEASED_LORA.rank * sum(sum(tensor.shape) for tensor in adapted) == 125_173_760


@pytest.mark.parametrize("base_layer", [True, False])
def test_a_full_size_checkpoint_has_the_names_and_shapes_that_are_asked_for(
    full_size: Manipulator, base_layer: bool
) -> None:
    own = full_size.state_dict()
    checkpoint, base = released(full_size, RELEASED_LORA, base_layer)
    # embeddings, head, last norm and two resamplers of 11; each layer's two norms and seven projections; the rest
    assert len(checkpoint) == 2 + 2 + 2 * 11 + 40 * (2 * 2 + 7 * 3) + 2
    parts = merged_parts(own, Weights(checkpoint, SOURCE), None, RELEASED_LORA)
    assert {name: part.value(RELEASED_LORA).shape for name, part in parts.items()} == {
        name: tensor.shape for name, tensor in own.items()
    }
    frozen = re.compile(r".*(_proj(\.base_layer)?\.weight|pos_embed)")
    trained = {name: t for name, t in checkpoint.items() if "resampler" in name or not frozen.fullmatch(name)}
    lent = merged_parts(own, Weights(trained, SOURCE), Weights(base, SOURCE), RELEASED_LORA)
    assert lent.keys() == parts.keys()


POOL = "pos_embed query attn.in_proj_weight attn.in_proj_bias attn.out_proj.weight attn.out_proj.bias kv_proj.weight"


def with_bias(name: str, *shape: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def norms(width: int, *names: str) -> dict[str, tuple[int, ...]]:
    return {key: shape for name in names for key, shape in with_bias(name, width).items()}


def tower_shapes() -> dict[str, tuple[int, ...]]:
    """Of Qwen-VL-Chat's `transformer.visual`, as its own code declares them."""
    wide, narrow, hidden = 4096, 1664, 8192
    pool = [(256, wide), (256, wide), (3 * wide, wide), (3 * wide,), (wide, wide), (wide,), (wide, narrow)]
    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (narrow, 3, 14, 14), "positional_embedding": (256, narrow)}
    shapes |= {f"attn_pool.{name}": shape for name, shape in zip(POOL.split(), pool, strict=True)}
    shapes |= norms(wide, "attn_pool.ln_q", "attn_pool.ln_kv", "ln_post") | norms(narrow, "ln_pre")
    for block in (f"transformer.resblocks.{number}" for number in range(48)):
        shapes |= norms(narrow, f"{block}.ln_1", f"{block}.ln_2")
        shapes |= with_bias(f"{block}.attn.in_proj", 3 * narrow, narrow)
        shapes |= with_bias(f"{block}.attn.out_proj", narrow, narrow)
        shapes |= with_bias(f"{block}.mlp.c_fc", hidden, narrow) | with_bias(f"{block}.mlp.c_proj", narrow, hidden)
    return shapes | {"proj": (wide, wide)}


def detokenizer_shapes() -> dict[str, tuple[int, ...]]:
    """Of the `resampler` in SEED-X's second stage, as its own code declares them."""
    width, hidden = 1024, 4096
    shapes: dict[str, tuple[int, ...]] = {"latents": (1, 64, width)} | with_bias("proj_in", width, 4096)
    for number in range(4):
        attention, forward = f"layers.{number}.0", f"layers.{number}.1"
        shapes |= norms(width, f"{attention}.norm1", f"{attention}.norm2", f"{forward}.0")
        shapes |= {f"{attention}.{part}.weight": (width, width) for part in ("to_q", "to_out")}
        shapes |= {f"{attention}.to_kv.weight": (2 * width, width)}
        shapes |= {f"{forward}.1.weight": (hidden, width), f"{forward}.3.weight": (width, hidden)}
    shapes |= norms(width, "norm_out") | with_bias("unet_proj_1", 768, width) | with_bias("unet_proj_2", 1280, width)
    shapes |= {"unet_attnpool.positional_embedding": (65, width)} | with_bias("unet_attnpool.c_proj", 1280, width)
    for part in "qkv":
        shapes |= with_bias(f"unet_attnpool.{part}_proj", width, width)
    return shapes


def test_released_tower_and_detokenizer_have_the_names_and_shapes_of_ours() -> None:
    with torch.device("meta"):
        tower = VisionTower(RELEASED_VISION)
        detokenizer = Detokenizer(RELEASED_DETOKENIZER, RELEASED_VISION.slots, RELEASED_VISION.feature_width)
        qwen = {f"transformer.visual.{name}": torch.empty(shape) for name, shape in tower_shapes().items()}
        second_stage = {f"resampler.{name}": torch.empty(shape) for name, shape in detokenizer_shapes().items()}
    load_strict(tower, Weights(qwen, SOURCE).under(VISION_PREFIX), SOURCE)
    load_strict(detokenizer, Weights(second_stage, SOURCE).under(DETOKENIZER_PREFIX), SOURCE)


def test_merged_lora_is_lora_at_run_time() -> None:
    torch.manual_seed(0)
    lora, inputs, weight = Lora(rank=4, alpha=4), torch.randn(5, 24), torch.randn(16, 24) / 5
    down, up = torch.randn(4, 24) / 5, torch.randn(16, 4) / 5
    merged = Merged(weight, (down, up)).value(lora)
    assert torch.allclose(inputs @ merged.T, inputs @ weight.T + inputs @ down.T @ up.T, rtol=0, atol=1e-6)
    doubled = Merged(weight, (down, up)).value(Lora(rank=4, alpha=8))
    assert torch.allclose(doubled - weight, 2 * (merged - weight), atol=1e-6)
    half = Merged(weight.half(), (down.half(), up.half())).value(lora)
    assert half.dtype == torch.float32, "the sum is rounded once, when it is cast"
    assert Merged(weight).value(lora) is weight


@pytest.mark.parametrize("base_layer", [True, False])
def test_a_checkpoint_becomes_the_merged_manipulator(tmp_path: Path, base_layer: bool) -> None:
    made = manipulator()
    torch.save(released(made, KIND.lora, base_layer)[0], tmp_path / "pytorch_model.bin")
    weights = stored([tmp_path])
    converted = merged_manipulator(weights, None, KIND, torch.float32)
    assert same(converted, made)
    assert not same(converted, manipulator(seed=1)), "the outputs tell them apart"
    layer = converted.llm.model.layers[1]
    assert torch.equal(layer.input_layernorm.weight, made.llm.model.layers[1].input_layernorm.weight)
    save_manipulator(tmp_path / "out", converted, SIZES, VISION, WORDING, WORDS)
    assert same(load_manipulator(tmp_path / "out").manipulator, made)


def test_half_precision_is_what_is_written(tmp_path: Path) -> None:
    checkpoint, _ = released(manipulator(), KIND.lora)
    converted = merged_manipulator(Weights(checkpoint, SOURCE), None, KIND, torch.float16)
    save_manipulator(tmp_path, converted, SIZES, VISION, WORDING, None)
    read = dict(tensors_one_by_one(weight_files(tmp_path)[0]))
    assert {tensor.dtype for tensor in read.values()} == {torch.float16}
    for name, tensor in manipulator().state_dict().items():
        assert torch.allclose(read[name].float(), tensor, atol=0.01), name


def test_wrapped_embeddings_are_taken_from_their_trained_copy() -> None:
    made = manipulator()
    checkpoint, _ = released(made, KIND.lora)
    for module in (f"{LLM}model.embed_tokens", f"{LLM}lm_head"):
        tensor = checkpoint.pop(f"{module}.weight")
        checkpoint |= {f"{module}.modules_to_save.default.weight": tensor}
        checkpoint |= {f"{module}.original_module.weight": torch.zeros_like(tensor)}
    assert same(merged_manipulator(Weights(checkpoint, SOURCE), None, KIND, torch.float32), made)


@pytest.fixture
def trained_only(tmp_path: Path) -> tuple[Path, Path, Manipulator]:
    """A checkpoint without what was frozen, and the language model's folder; both in shards."""
    made = manipulator()
    checkpoint, base = released(made, KIND.lora)
    trained = {n: t for n, t in checkpoint.items() if "base_layer" not in n and not n.endswith("pos_embed")}
    small, large = tmp_path / "trained", tmp_path / "llm"
    write_shards(small, trained, "bin")
    write_shards(large, base, "safetensors")
    return small, large, made


def write_shards(folder: Path, state: Mapping[str, Tensor], ending: str) -> None:
    """Two shards with an index, each of every second tensor."""
    folder.mkdir()
    stem = "pytorch_model" if ending == "bin" else "model"
    places = {}
    for number in (0, 1):
        part = dict(list(state.items())[number::2])
        file = f"{stem}-0000{number + 1}-of-00002.{ending}"
        if ending == "bin":
            torch.save(part, folder / file)
        else:
            save_file({name: tensor.contiguous() for name, tensor in part.items()}, folder / file)
        places |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (folder / f"{stem}.{ending}.index.json").write_text(json.dumps(index), encoding="utf-8")


def test_the_base_lends_what_was_frozen(trained_only: tuple[Path, Path, Manipulator]) -> None:
    small, large, made = trained_only
    assert same(merged_manipulator(stored([small]), stored([large]), KIND, torch.float32), made)
    shards = sorted(small.glob("*.bin"))  # given one by one
    assert same(merged_manipulator(stored(shards), stored([large]), KIND, torch.float32), made)
    with pytest.raises(InputError, match=r"q_proj\.base_layer\.weight \(8, 8\) is missing; give .*--base"):
        merged_manipulator(stored([small]), None, KIND, torch.float32)
    base = stored([large])
    lacking = {name: tensor for name, tensor in base.tensors.items() if name != "model.layers.1.mlp.up_proj.weight"}
    expected = rf"{large}: tensor model.layers.1.mlp.up_proj.weight \(16, 8\) is missing"
    with pytest.raises(InputError, match=expected):
        merged_manipulator(stored([small]), Weights(lacking, large), KIND, torch.float32)


@pytest.mark.parametrize(
    ("name", "tensor", "expected"),
    [
        (f"{QUERY}.base_layer.weight", None, rf"tensor {QUERY}.base_layer.weight \(8, 8\) is missing"),
        (f"{QUERY}.lora_B.default.weight", None, rf"tensor {QUERY}.lora_B.default.weight \(8, 2\) is missing"),
        (f"{LLM}model.norm.modules_to_save.default.weight", None, "norm.modules_to_save.default.weight .* is missing"),
        (f"{LLM}lm_head.weight", None, "lm_head.* is missing"),
        ("input_resampler.query", None, r"input_resampler.query \(4, 8\) is missing"),
        ("output_resampler.pos_embed", None, r"output_resampler.pos_embed \(4, 16\) is missing"),
        (
            f"{QUERY}.lora_A.default.weight",
            torch.ones(3, 8),
            r"lora_A.default.weight has shape \(3, 8\) instead of",
        ),
        (f"{QUERY}.base_layer.weight", torch.ones(9, 8), r"base_layer.weight has shape \(9, 8\) instead of \(8, 8\)"),
        ("patch_pos_embed", torch.ones(4, 9), r"patch_pos_embed has shape \(4, 9\) instead of \(4, 8\)"),
        (f"{QUERY}.weight", torch.ones(8, 8), rf"unknown tensor {QUERY}.weight \(1 in all\)"),
        (f"{QUERY}.bias", torch.ones(8), f"unknown tensor {QUERY}.bias"),
        (f"{LLM}lm_head.original_module.weight", torch.ones(8), "unknown tensor .*lm_head.original_module.weight"),
        (f"{LLM}lm_head.weight", torch.full((KIND.vocabulary, 8), 1e6), "llm.lm_head.weight is not finite in torch.fl"),
    ],
)
def test_an_unfit_checkpoint_is_refused(name: str, tensor: Tensor | None, expected: str) -> None:
    checkpoint, _ = released(manipulator(), KIND.lora)
    if tensor is None:
        del checkpoint[name]
    else:
        checkpoint[name] = tensor
    with pytest.raises(InputError, match=expected) as refusal:
        merged_manipulator(Weights(checkpoint, SOURCE), None, KIND, torch.float16)
    assert str(refusal.value).startswith("pytorch_model.bin: ")


def test_files_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no model\*.safetensors and no pytorch_model\*.bin"):
        weight_shards(tmp_path)
    for file in ("a.bin", "b.bin"):
        torch.save({"same": torch.ones(1)}, tmp_path / file)
    with pytest.raises(InputError, match="b.bin: another of the given files holds same as well"):
        stored([tmp_path / "a.bin", tmp_path / "b.bin"])
    (tmp_path / "pytorch_model.bin.index.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match=r"index.json is no index of weights \(KeyError\('weight_map'\)\)"):
        weight_shards(tmp_path)


def test_too_little_memory_is_said_before_loading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: types.SimpleNamespace(available=3e8))
    file = tmp_path / "model.safetensors"
    save_file({"weight": torch.empty(200_000_000, dtype=torch.uint8)}, file)  # of which the header alone is read
    check_memory([file], "cpu", torch.uint8, "planning")
    with pytest.raises(InputError, match="planning InstaManip needs 0.4 GB on the cpu .* 0.3 GB are free"):
        check_memory([file], "cpu", torch.float16, "planning")
    monkeypatch.setattr(convert, "cast", lambda *given: pytest.fail("converted"))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: types.SimpleNamespace(available=1000))
    checkpoint, _ = released(manipulator(), KIND.lora)
    with pytest.raises(InputError, match="converting InstaManip needs 0.0 GB on the cpu .* 0.0 GB are free"):
        merged_manipulator(Weights(checkpoint, SOURCE), None, KIND, torch.float16)


@dataclasses.dataclass
class Sources:
    """Small files of the form that the sources of tower and renderer have, and the networks in them."""

    qwen: Path
    second_stage: Path
    sdxl: Path
    tower: VisionTower
    detokenizer: Detokenizer
    unet: UNet2DConditionModel

    def convert(self, out: Path, dtype: torch.dtype = torch.float32) -> None:
        sizes = RendererSizes(detokenizer=DETOKENIZER, slots=VISION.slots, feature_width=VISION.feature_width)
        convert_renderer(self.second_stage, self.sdxl, sizes, dtype, out)

    def rewrite(self, **added: Any) -> None:
        """Add tensors to the second stage, or with None take them away."""
        state = torch.load(self.second_stage, weights_only=True) | added
        torch.save({name: tensor for name, tensor in state.items() if tensor is not None}, self.second_stage)


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    torch.manual_seed(0)
    config: dict[str, Any] = {
        "sample_size": 8,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "transformer_layers_per_block": (1, 2),
        "attention_head_dim": (2, 4),
        "norm_num_groups": 4,
        "cross_attention_dim": 16,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 8 + 6 * 8,
    }
    sdxl, qwen, second_stage = tmp_path / "sdxl", tmp_path / "qwen", tmp_path / "second_stage.bin"
    UNet2DConditionModel(**config).save_config(sdxl / "unet")  # of 4 channels; its weights are not needed
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    AutoencoderKL(block_out_channels=(8, 16), norm_num_groups=4, sample_size=16, **blocks).save_pretrained(sdxl / "vae")
    EulerDiscreteScheduler(beta_schedule="scaled_linear", steps_offset=1).save_pretrained(sdxl / "scheduler")
    tower = randomised(VisionTower(VISION))
    detokenizer = randomised(Detokenizer(DETOKENIZER, VISION.slots, VISION.feature_width))
    unet = randomised(UNet2DConditionModel(in_channels=8, **config))
    second = {f"unet.{name}": tensor for name, tensor in unet.state_dict().items()}
    second |= {f"resampler.{name}": tensor for name, tensor in detokenizer.state_dict().items()}
    torch.save(second, second_stage)
    whole = {f"transformer.visual.{name}": tensor for name, tensor in tower.state_dict().items()}
    write_shards(qwen, whole, "bin")
    index = json.loads((qwen / "pytorch_model.bin.index.json").read_text("utf-8"))
    shard = qwen / index["weight_map"]["transformer.visual.proj"]
    torch.save(torch.load(shard, weights_only=True) | {"lm_head.weight": torch.ones(1)}, shard)
    index["weight_map"]["transformer.wte.weight"] = "pytorch_model-00003-of-00003.bin"  # which was not fetched
    (qwen / "pytorch_model.bin.index.json").write_text(json.dumps(index), encoding="utf-8")
    return Sources(qwen, second_stage, sdxl, tower, detokenizer, unet)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Empty ones, for a tower and a renderer."""
    vision, renderer = tmp_path / "vision", tmp_path / "renderer"
    vision.mkdir()
    renderer.mkdir()
    return vision, renderer


def test_tower_and_renderer_are_made_of_their_sources(sources: Sources, folders: tuple[Path, Path]) -> None:
    vision, renderer = folders
    convert_vision(sources.qwen, VISION, torch.float32, vision)
    sources.convert(renderer)
    check_folder(vision)
    check_renderer(renderer)
    assert {file.name for file in vision.iterdir()} == {
        "sizes.json", "vision.safetensors", "no_features.safetensors"
    }  # fmt: skip
    assert {file.name for file in renderer.iterdir()} == {
        "sizes.json", "detokenizer.safetensors", "unet", "vae", "scheduler"
    }  # fmt: skip
    assert canvas_side(renderer) == 16
    images, features = torch.randn(2, 3, 32, 32), torch.randn(2, 4, 16)
    with torch.no_grad():
        assert torch.equal(load_vision(vision)(images), sources.tower(images))
        assert torch.allclose(load_no_features(vision), sources.tower.no_features(), atol=1e-6)
        for one, other in zip(load_detokenizer(renderer)(features), sources.detokenizer(features), strict=True):
            assert torch.equal(one, other)
    loaded = Renderer.load(renderer, vision, "cpu", torch.float32)
    assert torch.equal(loaded.no_features, load_no_features(vision))
    for name, tensor in sources.unet.state_dict().items():
        assert torch.equal(loaded.pipeline.unet.state_dict()[name], tensor), name
    assert loaded.pipeline.unet.config.in_channels == 8
    assert loaded.pipeline.scheduler.config.beta_schedule == "scaled_linear"
    assert {file.name for file in (renderer / "vae").iterdir()} == {
        "config.json", "diffusion_pytorch_model.safetensors"
    }  # fmt: skip


def test_tower_and_renderer_in_half_precision_are_near(sources: Sources, folders: tuple[Path, Path]) -> None:
    vision, renderer = folders
    convert_vision(sources.qwen, VISION, torch.float16, vision)
    sources.convert(renderer, torch.float16)
    check_folder(vision)
    check_renderer(renderer)
    unet = renderer / "unet" / "diffusion_pytorch_model.safetensors"
    for part in (vision / "vision.safetensors", renderer / "detokenizer.safetensors", unet):
        assert {tensor.dtype for _, tensor in tensors_one_by_one(part)} == {torch.float16}
    vae = dict(tensors_one_by_one(renderer / "vae" / "diffusion_pytorch_model.safetensors"))
    assert {tensor.dtype for tensor in vae.values()} == {torch.float32}
    assert load_no_features(vision).dtype == torch.float32
    with torch.no_grad():
        assert torch.allclose(load_no_features(vision), sources.tower.no_features(), atol=0.05)


def test_unfit_sources_of_a_renderer_are_refused(sources: Sources, folders: tuple[Path, Path]) -> None:
    out = folders[1]
    sources.rewrite(**{"vae.conv": torch.ones(1)})
    with pytest.raises(InputError, match=r"second_stage.bin: unknown tensor vae.conv \(1 in all\)"):
        sources.convert(out)
    sources.rewrite(**{"vae.conv": None, "unet.conv_in.weight": torch.ones(8, 4, 3, 3)})
    with pytest.raises(InputError, match=r"tensor conv_in.weight has shape \(8, 4, 3, 3\) .* \(8, 8, 3, 3\)"):
        sources.convert(out)
    sources.rewrite(**{"unet.conv_in.weight": torch.ones(8, 8, 3, 3), "resampler.latents": None})
    with pytest.raises(InputError, match="second_stage.bin: tensor latents .* is missing"):
        sources.convert(out)
    sources.rewrite(**{"resampler.latents": torch.ones(1, 4, 16), "resampler.proj_out.weight": torch.ones(1)})
    with pytest.raises(InputError, match="second_stage.bin: unknown tensor proj_out.weight"):
        sources.convert(out)
    (sources.sdxl / "scheduler" / "scheduler_config.json").unlink()
    with pytest.raises(InputError, match=r"its scheduler/ cannot be loaded .*; give a complete folder"):
        sources.convert(out)
    (sources.sdxl / "unet" / "config.json").unlink()
    with pytest.raises(InputError, match="its unet/config.json cannot be read .*; give a folder of SDXL"):
        convert.empty_unet(sources.sdxl)


def test_unfit_sources_of_a_tower_are_refused(sources: Sources, folders: tuple[Path, Path]) -> None:
    out, file = folders[0], sources.qwen / "whole.bin"
    state = {f"transformer.visual.{name}": tensor for name, tensor in sources.tower.state_dict().items()}
    for name, tensor, expected in (
        ("ln_post.bias", None, "tensor ln_post.bias .* is missing"),
        ("ln_post.bias", torch.ones(3), r"tensor ln_post.bias has shape \(3,\)"),
        ("ln_post.bias", torch.full((16,), torch.nan), "ln_post.bias is not finite"),
        ("ln_final.bias", torch.ones(3), "unknown tensor ln_final.bias"),
    ):
        changed = {**state, f"transformer.visual.{name}": tensor}
        torch.save({key: value for key, value in changed.items() if value is not None}, file)
        with pytest.raises(InputError, match=rf"whole.bin: .*{expected}"):
            convert_vision(file, VISION, torch.float32, out)
    shard = sources.qwen / "pytorch_model-00002-of-00002.bin"
    shard.unlink()
    with pytest.raises(InputError, match=f"{shard} is missing, but pytorch_model.bin.index.json names it; download it"):
        convert_vision(sources.qwen, VISION, torch.float32, out)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The release is as small as here, and its wording this one."""
    monkeypatch.setattr(convert, "RELEASED_VISION", VISION)
    monkeypatch.setattr(convert, "RELEASED_DETOKENIZER", DETOKENIZER)
    monkeypatch.setattr(convert, "RELEASED_MANIPULATOR", SIZES)
    monkeypatch.setattr(convert, "RELEASED_VOCABULARY", KIND.vocabulary)
    monkeypatch.setattr(convert, "RELEASED_LORA", KIND.lora)
    monkeypatch.setattr(released_prompt, "DIGESTS", released_prompt.digests(WORDING))


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    threads = ("--threads", 1) if arguments else ()
    monkeypatch.setattr("sys.argv", ["convert", *map(str, (*arguments, *threads))])
    convert.main()


@pytest.mark.usefixtures("small")
def test_command_line_writes_all_layouts(
    sources: Sources,
    trained_only: tuple[Path, Path, Manipulator],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vision, renderer = tmp_path / "vision", tmp_path / "renderer"
    call(monkeypatch, "vision", "--vision", sources.qwen, "--out", vision)
    check_folder(vision)
    given = ["--detokenizer", sources.second_stage, "--sdxl", sources.sdxl]
    call(monkeypatch, "renderer", *given, "--out", renderer)
    check_renderer(renderer)
    Renderer.load(renderer, vision, "cpu", torch.float32)
    taken = [json.loads((folder / "provenance.json").read_text("utf-8"))["inputs"] for folder in (vision, renderer)]
    assert list(map(set, taken)) == [{"vision"}, {"detokenizer", "sdxl"}]
    small, large, made = trained_only
    wording, tokenizer = tmp_path / "wording.json", tmp_path / "llama.model"
    wording.write_text(json.dumps(WORDING.model_dump()), encoding="utf-8")
    tokenizer.write_bytes(b"sentences")
    given = ["--checkpoint", *sorted(small.glob("*.bin")), "--base", large, "--tokenizer", tokenizer]
    out = tmp_path / "manipulator"
    call(monkeypatch, "manipulator", *given, "--wording", wording, "--dtype", "float32", "--out", out)
    assert (out / "tokenizer.model").read_bytes() == b"sentences"
    (out / "tokenizer.model").unlink()  # of which sentencepiece would make nothing: read it with our words
    (out / "words.json").write_text(json.dumps({"words": WORDS.words}), encoding="utf-8")
    loaded = load_manipulator(out)
    assert loaded.prompter.wording == WORDING
    assert same(loaded.manipulator, made)
    inputs = json.loads((out / "provenance.json").read_text("utf-8"))["inputs"]
    assert set(inputs) == {"checkpoint 1", "checkpoint 2", "tokenizer", "wording", "base"}


def test_a_wording_that_is_not_the_released_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wording, out = tmp_path / "wording.json", tmp_path / "out"
    given = ["manipulator", "--checkpoint", tmp_path, "--tokenizer", tmp_path / "tokenizer.model"]
    missing = r"wording.json is missing; make it .* python -m baselines.instamanip.released_prompt --from CHECKOUT"
    with pytest.raises(InputError, match=missing):
        call(monkeypatch, *given, "--wording", wording, "--out", out)
    wording.write_text(json.dumps(WORDING.model_dump()), encoding="utf-8")
    with pytest.raises(InputError, match=r"wording.json: its prompt with 1 exemplar\(s\), text instruction, has the d"):
        call(monkeypatch, *given, "--wording", wording, "--out", out)
    monkeypatch.setattr(released_prompt, "DIGESTS", released_prompt.digests(WORDING))
    with pytest.raises(InputError, match="tokenizer.model is missing; give LLaMA's"):
        call(monkeypatch, *given, "--wording", wording, "--out", out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "the following arguments are required: command"),
        (("renderer", "--out", "o"), "required: --detokenizer, --sdxl"),
        (("vision", "--out", "o"), "required: --vision"),
        (("manipulator", "--out", "o"), "required: --checkpoint, --tokenizer, --wording"),
        (("renderer", "--dtype", "int8"), "invalid choice: 'int8'"),
    ],
)
def test_command_line_says_what_is_missing(
    arguments: tuple[str, ...], expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        call(monkeypatch, *arguments)
    assert expected in capsys.readouterr().err
