"""InstaManip's stages: what is planned and rendered, text modes, sizes, and weights that do not fit."""

import dataclasses
import shutil
import types
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from editing_toys import entry, photo
from PIL import Image
from safetensors.torch import load_file, save_file

from baselines.instamanip.editor import Learner, Painter, load_stage
from baselines.instamanip.method import OPTIONS
from baselines.instamanip.vision import VisionTower, pixels_of
from baselines.instamanip.vision_layout import load_vision, save_vision
from editclip.editing import EditRequest, Exemplar
from editclip.editing.cards import parse_method
from editclip.errors import InputError
from editclip.recipes.kinds import check_folder, read_kind

QUICK: dict[str, Any] = {**OPTIONS, "num_inference_steps": 2}


def exemplar(number: int = 0, pairs: int = 1, instruction: str | None = "make it red") -> Exemplar:
    shown = tuple((photo(10 * number + 2 * k), photo(10 * number + 2 * k + 1)) for k in range(pairs))
    return Exemplar(f"e{number}", shown, instruction, 0)


def request(learner: Learner, shown: Exemplar, number: int, size: int = 32) -> EditRequest:
    query = photo(100 + number).resize((size, size))
    return EditRequest(query, shown, learner.prepare(shown), "make it red", None, None, None, number)


def learner(weights: dict[str, Path], text: str = "instruction", **options: Any) -> Learner:
    loaded = load_stage(weights, {**QUICK, **options}, "cpu", "plan", text)
    assert isinstance(loaded, Learner)
    return loaded


def painter(weights: dict[str, Path], **options: Any) -> Painter:
    loaded = load_stage(weights, {**QUICK, **options}, "cpu", "edit", "instruction")
    assert isinstance(loaded, Painter)
    return loaded


def test_each_stage_loads_its_own_networks_alone(weights: dict[str, Path], tmp_path: Path) -> None:
    names = ("instamanip", "instamanip_renderer", "instamanip_vision")
    plans, edits = ({name: tmp_path / stage / name for name in names} for stage in ("plan", "edit"))
    for here in (plans, edits):
        for name, folder in here.items():
            shutil.copytree(weights[name], folder)
    renderer, vision = plans["instamanip_renderer"], plans["instamanip_vision"]
    for needless in (
        renderer / "detokenizer.safetensors",
        renderer / "unet" / "diffusion_pytorch_model.safetensors",
        vision / "no_features.safetensors",
    ):
        needless.unlink()
    learner(plans)
    (edits["instamanip_vision"] / "vision.safetensors").unlink()
    shutil.rmtree(edits["instamanip"])
    painter(edits)


def test_queries_of_several_exemplars_are_planned_together(weights: dict[str, Path]) -> None:
    loaded = learner(weights)
    shown = [exemplar(0), exemplar(1, pairs=2), exemplar(2, instruction="turn the circle blue")]
    asked = [request(loaded, each, number) for number, each in enumerate([*shown, shown[0]])]
    together = loaded.plan_many(asked)
    for one, other in zip(map(loaded.plan, asked), together, strict=True):
        assert one["features"].shape == (4, 16)
        assert torch.allclose(one["features"], other["features"], atol=1e-5)
    assert not torch.allclose(together[0]["features"], together[3]["features"], atol=1e-4), "the query matters"


def test_what_is_stored_of_an_exemplar_is_what_the_answer_sees(weights: dict[str, Path]) -> None:
    one, two = (learner(weights).prepare(exemplar(0, pairs=pairs)) for pairs in (1, 2))
    # 2 layers, 2 heads of width 8; ". kept in" <edit> 3 </edit> ". now" <img>
    assert one["keys"].shape == one["values"].shape == two["keys"].shape == (2, 2, 3 + 5 + 2 + 1, 8)
    assert int(two["position"]) > int(one["position"])


@pytest.mark.parametrize(("mode", "hears"), [("instruction", True), ("dropped", False), ("empty_quotes", False)])
def test_the_text_modes(weights: dict[str, Path], mode: str, hears: bool) -> None:
    loaded = learner(weights, text=mode)
    red, blue = (loaded.prepare(exemplar(0, instruction=words)) for words in ("make it red", "turn the circle blue"))
    assert torch.equal(red["position"], blue["position"]) != hears
    assert (not hears) == (red["keys"].shape == blue["keys"].shape and torch.equal(red["keys"], blue["keys"]))
    if hears:
        with pytest.raises(InputError, match="this exemplar has no instruction; take baselines.instamanip_no_text"):
            loaded.prepare(exemplar(0, instruction=None))
    else:
        loaded.prepare(exemplar(0, instruction=None))


def test_exemplars_are_brought_to_the_renderers_size_first(weights: dict[str, Path]) -> None:
    loaded = learner(weights)
    seen: list[torch.Tensor] = []
    loaded.vision.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    large = tuple(side.resize((200, 200)) for side in exemplar().pairs[0])
    loaded.prepare(dataclasses.replace(exemplar(), pairs=(large,)))
    at_canvas = [side.resize((loaded.canvas, loaded.canvas)) for side in large]
    assert loaded.canvas == 32 and torch.equal(seen[0], loaded.vision.normalised(pixels_of(at_canvas)))
    seen.clear()
    request_of_large = request(loaded, exemplar(), 0, size=200)
    seen.clear()
    loaded.plan(request_of_large)  # the query is resized once
    once = request_of_large.query.resize((32, 32), Image.Resampling.BILINEAR)
    assert torch.equal(seen[0], loaded.vision.normalised(pixels_of([once])))


def test_an_edit_has_the_size_of_its_query(weights: dict[str, Path]) -> None:
    planner, editor = learner(weights), painter(weights)
    asked = [request(planner, exemplar(), number, size=48) for number in range(2)]
    planned = [dataclasses.replace(each, planned=planner.plan(each)) for each in asked]
    assert [image.size for image in editor.edit(planned)] == [(48, 48)] * 2


def test_the_plan_decides_the_image(weights: dict[str, Path]) -> None:
    planner, editor = learner(weights), painter(weights, guidance_scale=3.0)
    asked = request(planner, exemplar(), 0)
    plans = [planner.plan(asked), {"features": torch.randn(4, 16, generator=torch.Generator().manual_seed(0))}]
    images = [editor.edit([dataclasses.replace(asked, planned=plan)])[0].tobytes() for plan in plans]
    assert images[0] != images[1]


def test_a_plan_of_other_weights_is_refused(weights: dict[str, Path]) -> None:
    asked = request(learner(weights), exemplar(), 0)
    with pytest.raises(InputError, match=r"features of shape \(9, 16\), but the renderer has slots for \(4, 16\)"):
        painter(weights).edit([dataclasses.replace(asked, planned={"features": torch.zeros(9, 16)})])


def test_a_manipulator_that_its_sizes_do_not_describe_is_refused(weights: dict[str, Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(weights["instamanip"], other)
    state = load_file(other / "model.safetensors")
    state["output_resampler.query"] = state["output_resampler.query"][:1].clone()
    save_file(state, other / "model.safetensors")
    with pytest.raises(InputError, match="output_resampler.query"):
        learner({**weights, "instamanip": other})
    with pytest.raises(InputError, match="output_resampler.query"):
        check_folder(read_kind("baselines.instamanip.recipe"), other)
    shutil.copy(weights["instamanip"] / "model.safetensors", other)
    sizes = other / "sizes.json"
    sizes.write_text(sizes.read_text().replace('"feature_width": 16', '"feature_width": 24'))
    with pytest.raises(InputError, match="has shape"):
        learner({**weights, "instamanip": other})


@pytest.mark.parametrize(
    ("stage", "does"),
    [("plan", "instamanip foretells 4 features of width 16"), ("edit", "instamanip_renderer renders 4 features of w")],
)
def test_another_tower_is_refused(weights: dict[str, Path], tmp_path: Path, stage: str, does: str) -> None:
    sizes = load_vision(weights["instamanip_vision"]).sizes
    for slots, width in ((1, 16), (4, 24)):
        tower = VisionTower(sizes.model_copy(update={"slots": slots, "feature_width": width}))
        save_vision(tmp_path, tower)
        with pytest.raises(InputError, match=rf"{does}.*, but {tmp_path} sees {slots} of width {width}; give the two"):
            load_stage({**weights, "instamanip_vision": tmp_path}, QUICK, "cpu", stage, "instruction")


@pytest.mark.parametrize(("stage", "purpose"), [("plan", "planning"), ("edit", "rendering")])
def test_too_little_memory_is_said_before_loading(
    weights: dict[str, Path], monkeypatch: pytest.MonkeyPatch, stage: str, purpose: str
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: types.SimpleNamespace(available=1000))
    monkeypatch.setattr("baselines.instamanip.editor.load_vision", lambda *given: pytest.fail("loaded"))
    monkeypatch.setattr("baselines.instamanip.renderer.load_unet", lambda *given: pytest.fail("loaded"))
    with pytest.raises(InputError, match=rf"{purpose} InstaManip needs \d+\.\d GB .* 0\.0 GB are free"):
        load_stage(weights, QUICK, "cpu", stage, "instruction")


@pytest.mark.parametrize(
    ("editor", "options", "sentence"),
    [
        ("instamanip_no_text", {"text": "drop"}, "text 'drop' is no text mode without an instruction (did you mean"),
        ("instamanip", {"plan_batch_size": 0}, "plan_batch_size 0 must be at least 1"),
        ("instamanip", {"guidance_scale": 0.5}, "guidance_scale 0.5"),
        ("instamanip", {"precision": "fp16"}, "precision 'fp16'"),
    ],
)
def test_options_out_of_range(weights: dict[str, Path], editor: str, options: dict[str, Any], sentence: str) -> None:
    method = parse_method(entry(f"baselines.{editor}", options=options))
    for stage in method.card.stages:
        with pytest.raises(InputError) as refusal:
            method.load(weights, "cpu", stage)
        assert sentence in str(refusal.value)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_half_precision_makes_nearly_the_same(weights: dict[str, Path], precision: str) -> None:
    made = []
    for name in ("float32", precision):
        planner, editor = learner(weights, precision=name), painter(weights, precision=name, guidance_scale=2.0)
        asked = request(planner, exemplar(), 0)
        plan = planner.plan(asked)["features"]
        assert plan.dtype == asked.prepared["keys"].dtype == getattr(torch, name)
        assert asked.prepared["position"].dtype == torch.int64
        plans = plan, torch.randn(plan.shape, generator=torch.Generator().manual_seed(0)).to(plan)
        images = [editor.edit([dataclasses.replace(asked, planned={"features": each})])[0] for each in plans]
        made.append((plan.float(), *(np.asarray(image, float) for image in images)))
    (plan, image, other), (half_plan, half_image, _) = made
    assert (plan - half_plan).norm() < 0.02 * plan.norm()
    away = np.abs(image - other).mean()
    assert np.abs(image - half_image).mean() < away / 3, "nearer than another plan's"


def test_a_failed_decoding_does_no_harm_to_the_next(weights: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    planner, editor = learner(weights, precision="float16"), painter(weights, precision="float16")
    asked = request(planner, exemplar(), 0)
    asked = dataclasses.replace(asked, planned=planner.plan(asked))
    wanted, vae = editor.edit([asked])[0], editor.renderer.pipeline.vae
    assert vae.config.force_upcast, "the pipeline brings it to fp32 and back"
    with monkeypatch.context() as patch:
        patch.setattr(vae, "decode", lambda *given, **more: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            editor.edit([asked])
    assert editor.edit([asked])[0].tobytes() == wanted.tobytes()


def test_a_prompt_beyond_the_models_positions_is_refused(weights: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=r"a prompt of \d+ ids is longer than the model's 256 positions"):
        learner(weights).prepare(exemplar(0, pairs=30))


def test_a_renderer_without_its_scheduler_is_refused(weights: dict[str, Path], tmp_path: Path) -> None:
    renderer = tmp_path / "renderer"
    shutil.copytree(weights["instamanip_renderer"], renderer)
    check_folder(read_kind("baselines.instamanip.renderer_recipe"), renderer)
    shutil.rmtree(renderer / "scheduler")
    with pytest.raises(InputError, match="scheduler/ cannot be loaded"):
        check_folder(read_kind("baselines.instamanip.renderer_recipe"), renderer)
