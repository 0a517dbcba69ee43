"""InstaManip's three trainings: what they start from, what a batch is, their losses, what the method loads of them."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "training"))

import training_toys as toys
from diffusers import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from editing_toys import photo

from baselines.instamanip import train_renderer, training
from baselines.instamanip.architecture import VisionSizes
from baselines.instamanip.editor import load_stage
from baselines.instamanip.manipulator_layout import load_manipulator
from baselines.instamanip.method import OPTIONS
from baselines.instamanip.recipe import ManipulatorRecipe
from baselines.instamanip.renderer_layout import load_detokenizer
from baselines.instamanip.renderer_recipe import RendererRecipe
from baselines.instamanip.train_renderer import with_added_embedding
from baselines.instamanip.vision import DEVIATION, MEAN, pooled
from baselines.instamanip.vision_layout import load_no_features, load_vision
from editclip.config.section import checked
from editclip.data.triplets import Triplets
from editclip.data.world import write_triplets
from editclip.editing import EditRequest, Exemplar
from editclip.errors import InputError
from editclip.model import Clip
from editclip.patch_vae import load_vae
from editclip.pipeline_parts import load_unet
from editclip.training import __main__ as runner
from editclip.training.diffusion import Latents
from editclip.training.draws import Draws

SIDE = 32
VISION: dict[str, Any] = {
    **toys.TRAINING,
    "resolution": SIDE,
    "vision": {
        "image_size": SIDE, "patch_size": 8, "width": 16, "layers": 1, "heads": 2, "mlp_width": 32, "table_grid": 4,
        "tokens_grid": 4, "feature_width": 16, "feature_heads": 2, "slots": 4,
    },
    "feature_noise": 0.1,
    "validation_examples": 8,
}  # fmt: skip
RENDERER: dict[str, Any] = {
    **toys.TRAINING,
    "resolution": SIDE,
    "detokenizer": {"width": 16, "layers": 1, "heads": 2, "head_width": 8, "context_widths": [8, 8]},
    "time_width": 8,
    "timesteps": "cubic",
    "feature_noise": 0.1,
    "condition_dropout": 0.05,
    "cache_latents": True,
    "validation_examples": 4,
}
MANIPULATOR: dict[str, Any] = {
    **toys.TRAINING,
    "learning_rate": 3e-3,
    "resolution": SIDE,
    "manipulator": {
        "width": 16, "layers": 2, "heads": 2, "mlp_width": 32, "resampler_heads": 2, "edit_tokens": 3, "positions": 256,
    },
    "wording": {
        "opening": "edit", "pairs": "turns", "source": "this", "target": "into", "manipulation": "as", "query": "now",
        "closing": ":",
    },
    "answers": ["done", ""],
    "exemplars": 2,
    "text_dropout": 0.5,
    "language_weight": 1.0,
    "reconstruction_weight": 6.0,
    "relation_weight": 0.6,
    "validation_examples": 8,
}  # fmt: skip


@pytest.fixture(scope="module")
def triplets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("triplets")
    write_triplets(folder, {"resolution": SIDE, "train": 24, "validation": 8, "test": 2}, seed=7)
    return folder


def trained(
    kind: str, recipe: dict[str, Any], starts: dict[str, Path], triplets: Path, out: Path, patch: pytest.MonkeyPatch
) -> list[dict[str, float]]:
    """Train by the command line into `out`; the logged values, line by line."""
    arguments = ["--kind", f"baselines.instamanip.{kind}", "--recipe", json.dumps(recipe), "--seed", "3"]
    arguments += ["--threads", "1", "--out", str(out), "--triplets", str(triplets)]
    arguments += ["--from"] * bool(starts) + [f"{role}={folder}" for role, folder in starts.items()]
    patch.setenv("EDITCLIP_CACHE", str(out.parent / "cache"))
    patch.setattr(sys, "argv", ["training", *arguments])
    runner.main()
    torch.use_deterministic_algorithms(False)
    return [json.loads(line) for line in (out / "logs" / "metrics.jsonl").read_text().splitlines()]


def test_the_command_line_trains_what_the_method_loads(
    weights: dict[str, Path], triplets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vision, renderer, manipulator = (tmp_path / name for name in ("vision", "renderer", "manipulator"))
    *_, last = trained("vision_recipe", VISION, {}, triplets, vision, monkeypatch)
    assert {"loss", "validation/loss", "validation/psnr"} <= last.keys()
    starts = {"ip2p": weights["ip2p"], "instamanip_vision": vision}
    *_, last = trained("renderer_recipe", RENDERER, starts, triplets, renderer, monkeypatch)
    assert {"validation/loss", "validation/loss_wrong_features"} <= last.keys()
    new = json.loads((renderer / "logs" / "new_tensors.json").read_text())
    assert new == [f"add_embedding.linear_{layer}.{part}" for layer in (1, 2) for part in ("bias", "weight")]
    starts = {"instamanip_vision": vision, "clip": weights["clip"]}
    recipe = {**MANIPULATOR, "steps": 60, "answers": ["done"], "exemplars": 1}  # until it has learnt to answer
    *_, last = trained("recipe", recipe, starts, triplets, manipulator, monkeypatch)
    assert {"language", "reconstruction", "relation", "validation/reconstruction_wrong_exemplar"} <= last.keys()
    folders = {"instamanip": manipulator, "instamanip_renderer": renderer, "instamanip_vision": vision}
    options = {**OPTIONS, "num_inference_steps": 2}
    learner, painter = (load_stage(folders, options, "cpu", stage, "instruction") for stage in ("plan", "edit"))
    shown = Exemplar("e", ((photo(0), photo(1)),), "make it snowy", 0)
    asked = EditRequest(photo(2), shown, learner.prepare(shown), "make it snowy", None, None, None, 5)
    asked.planned.update(learner.plan(asked))
    (image,) = painter.edit([asked])
    assert image.size == (SIDE, SIDE)


def test_the_renderer_starts_as_instructpix2pix(weights: dict[str, Path]) -> None:
    unet = UNet2DConditionModel.from_pretrained(weights["ip2p"], subfolder="unet").eval()
    wide, _ = with_added_embedding(unet, 16, 8, 8)
    noisy, context = torch.randn(2, 8, 16, 16), torch.randn(2, 4, 16)
    added = {"text_embeds": torch.randn(2, 8), "time_ids": torch.rand(2, 6)}
    with torch.no_grad():
        before = unet(noisy, 7, context).sample
        assert torch.equal(wide.eval()(noisy, 7, context, added_cond_kwargs=added).sample, before)
    with pytest.raises(InputError, match=r"context_widths add up to 20, .* cross_attention_dim 16"):
        with_added_embedding(unet, 20, 10, 8)


def test_the_towers_features_learn_to_tell_the_image(
    triplets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = {**VISION, "steps": 80, "log_every": 10, "validate_every": 10, "learning_rate": 3e-3}
    lines = trained("vision_recipe", recipe, {}, triplets, tmp_path / "v", monkeypatch)
    first, last = lines[0], lines[-1]
    assert (first["step"], last["step"]) == (10, 80)
    assert last["validation/psnr"] > first["validation/psnr"] + 1
    assert last["validation/loss"] < first["validation/loss"]
    tower = load_vision(tmp_path / "v")
    with torch.no_grad():
        assert torch.allclose(load_no_features(tmp_path / "v"), tower.no_features(), atol=1e-6)


def renderer_recipe(**changes: Any) -> RendererRecipe:
    still = {"feature_noise": 0.0, "condition_dropout": 0.0, "timesteps": "uniform"}
    return checked(RendererRecipe, {**RENDERER, **still, **changes})


def renderer_parts(weights: dict[str, Path], triplets: Path) -> tuple[train_renderer.Networks, Latents]:
    """The networks of a renderer, and latents of a posterior without spread: samples are the mode."""
    folder = weights["instamanip_renderer"]
    vae = load_vae(folder / "vae")
    with torch.no_grad():
        vae.quant_conv.weight[4:] = 0
        vae.quant_conv.bias[4:] = -100
    networks = train_renderer.Networks(load_detokenizer(folder).requires_grad_(True), load_unet(folder))
    return networks, Latents(vae, Triplets(triplets, "train", SIDE), cache=False)


@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("wrong", [False, True])
def test_the_renderers_loss_equals_one_written_out(
    weights: dict[str, Path], triplets: Path, wrong: bool, predicts: str
) -> None:
    count = 6
    networks, latents = renderer_parts(weights, triplets)
    vision = load_vision(weights["instamanip_vision"]).requires_grad_(True)
    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    scheduler.register_to_config(prediction_type=predicts)
    batch, seen = latents.load(torch.arange(count)), []
    networks.unet.register_forward_pre_hook(lambda module, inputs: seen.extend(inputs))
    loss = train_renderer.training_loss(networks, vision, latents, scheduler, renderer_recipe(), wrong)
    found = loss(batch, Draws.whole(torch.Generator().manual_seed(4), count))["loss"]
    given, timesteps, _ = seen

    before, after = (side.float() / 127.5 - 1 for side in (batch.original, batch.edited))
    encoded = [latents.vae.encode(side).latent_dist.mode() for side in (before, after)]
    noisy, clean = given[:, :4], encoded[1] * latents.vae.config.scaling_factor
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    alpha = torch.cumprod(1 - betas, 0)[timesteps].view(-1, 1, 1, 1)
    noise = (noisy - alpha.sqrt() * clean) / (1 - alpha).sqrt()
    # What is left after taking the edited image out of the UNet's input is white noise: it was what was noised.
    assert abs(float(noise.mean())) < 0.1 and float(noise.std()) == pytest.approx(1, abs=0.1)
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, DEVIATION))
    with torch.no_grad():
        features = pooled(vision((batch.edited / 255 - mean) / deviation), 4)
    shown = [(row + count - 1) % count if wrong else row for row in range(count)]
    context, embedding = networks.detokenizer(features[shown])
    added = {"text_embeds": embedding, "time_ids": torch.tensor([[32.0, 32, 0, 0, 32, 32]] * count)}
    joint = torch.cat([noisy, encoded[0]], dim=1)  # the original's latents are not scaled
    output = networks.unet(joint, timesteps, context, added_cond_kwargs=added).sample
    target = noise if predicts == "epsilon" else alpha.sqrt() * noise - (1 - alpha).sqrt() * clean
    expected = (output - target).square().mean()
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-4)
    parameters = [
        networks.detokenizer.proj_in.weight,
        networks.unet.add_embedding.linear_1.weight,
        networks.unet.conv_out.weight,
    ]
    wanted = torch.autograd.grad(expected, parameters)
    found.backward()
    for parameter, theirs in zip(parameters, wanted, strict=True):
        assert parameter.grad is not None
        assert theirs.any() and (parameter.grad - theirs).abs().max() <= 1e-3 * theirs.abs().max()
    assert all(parameter.grad is None for parameter in vision.parameters()), "the tower is frozen"


def test_lost_conditions_are_those_of_no_image_and_features_are_noised(
    weights: dict[str, Path], triplets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks, latents = renderer_parts(weights, triplets)
    vision, batch, seen = load_vision(weights["instamanip_vision"]), latents.load(torch.arange(4)), []
    networks.detokenizer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    networks.unet.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0][:, 4:]))
    lost = torch.tensor([[True, True, False, False], [False, True, True, False]])
    monkeypatch.setattr(train_renderer.diffusion, "dropped_conditions", lambda probability, draws: tuple(lost))
    scheduler = DDPMScheduler()
    for noise in (0.0, 0.5):
        recipe = renderer_recipe(feature_noise=noise)
        loss = train_renderer.training_loss(networks, vision, latents, scheduler, recipe)
        loss(batch, Draws.whole(torch.Generator().manual_seed(0), 4))
    clean, image, noised, _ = seen
    with torch.no_grad():
        own = vision.features(vision.normalised(batch.edited.float() / 255))
        assert torch.allclose(clean[2:], own[2:], atol=1e-6)
        for features in (clean, noised):
            assert torch.allclose(features[:2], vision.no_features().expand(2, -1, -1), atol=1e-6)
    assert torch.equal(image.flatten(1).any(1), ~lost[1])
    assert float((noised - clean)[2:].std() / own.std()) == pytest.approx(0.5, rel=0.2)


def parts_of(weights: dict[str, Path], triplets: Triplets) -> training.Parts:
    manipulator, prompter = load_manipulator(weights["instamanip"])
    similarity = training.instruction_similarity(Clip.load(weights["clip"]))
    vision = load_vision(weights["instamanip_vision"])
    return training.Parts(manipulator, vision, prompter, triplets.edit_prompts, similarity)


def group_of(triplets: Triplets, exemplars: int, count: int = 6) -> training.Group:
    assert triplets.edit_ids is not None
    rows = training.group_draw(lambda step: torch.arange(count), triplets.edit_ids, exemplars, 0)(0)
    return training.load_group(triplets)(rows)


@pytest.mark.parametrize("exemplars", [1, 2])
def test_the_loss_is_the_weighted_sum_over_groups(weights: dict[str, Path], triplets: Path, exemplars: int) -> None:
    rows = Triplets(triplets, "train", SIDE)
    recipe = checked(ManipulatorRecipe, {**MANIPULATOR, "exemplars": exemplars, "text_dropout": 0.0, "answers": [""]})
    parts, group = parts_of(weights, rows), group_of(rows, exemplars)
    found = training.training_loss(parts, recipe)(group, Draws.whole(torch.Generator().manual_seed(0), 6))
    # official weights: 1, 6 and 6 · 0.1
    total = found["language"] + 6 * found["reconstruction"] + 0.6 * found["relation"]
    assert float(found["loss"]) == pytest.approx(float(total), rel=1e-6)
    # The query's features are foretold of its own image and the exemplars' alone, as when it is planned.
    vision, (manipulator, prompter) = parts.vision, (parts.manipulator, parts.prompter)

    def tokens(images: torch.Tensor) -> torch.Tensor:
        return vision(vision.normalised(images.float() / 255))

    errors = []
    with torch.no_grad():
        for row in range(6):
            sides = [tokens(side[row, 1:]) for side in (group.before, group.after)]
            shown = torch.stack(sides, dim=1).flatten(0, 1)
            asked = prompter.parts(rows.edit_prompts[row], exemplars)
            learnt = manipulator.learn(prompter.layout(asked), shown)
            features = manipulator.foretell([learnt], tokens(group.before[row, :1]), prompter).features
            errors.append((features - pooled(tokens(group.after[row, :1]), 4)).square().mean())
    assert float(found["reconstruction"]) == pytest.approx(float(torch.stack(errors).mean()), rel=1e-4)


def test_the_shown_pairs_are_others_of_the_same_edit(triplets: Path) -> None:
    rows = Triplets(triplets, "train", SIDE)
    edits = ["a", "b", "a", "a", "b", "c"] * 4
    drawn = training.group_draw(lambda step: torch.arange(24), edits, 3, 0)(5)
    assert drawn.shape == (24, 4) and torch.equal(drawn[:, 0], torch.arange(24))
    for row in drawn.tolist():
        assert {edits[number] for number in row} == {edits[row[0]]}
        assert row[0] not in row[1:], "every edit here has several rows"
    group = training.load_group(rows)(drawn[:2])
    assert torch.equal(group.after[1, 2], rows.batch([int(drawn[1, 2])])[1][0])


def test_text_is_left_out_as_often_as_asked(weights: dict[str, Path], triplets: Path) -> None:
    rows = Triplets(triplets, "train", SIDE)
    parts, group = parts_of(weights, rows), group_of(rows, 1)

    def found(share: float, instructions: list[str]) -> float:
        recipe = checked(ManipulatorRecipe, {**MANIPULATOR, "exemplars": 1, "text_dropout": share, "answers": [""]})
        loss = training.training_loss(parts._replace(instructions=instructions), recipe)
        return float(loss(group, Draws.whole(torch.Generator().manual_seed(0), 6))["reconstruction"])

    others = ["make it blue"] * len(rows)
    assert found(1.0, others) == found(1.0, list(rows.edit_prompts))
    assert found(0.0, others) != found(0.0, list(rows.edit_prompts))


def test_data_without_edits_and_cut_batches_are_refused(
    weights: dict[str, Path], triplets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = {"instamanip_vision": weights["instamanip_vision"], "clip": weights["clip"]}
    cut = {**MANIPULATOR, "microbatch_size": 2}
    with pytest.raises(InputError, match="microbatch_size must be null"):
        trained("recipe", cut, starts, triplets, tmp_path / "out", monkeypatch)
    monkeypatch.setattr(training.Triplets, "__init__", lambda self, *given: setattr(self, "edit_ids", None))
    with pytest.raises(InputError, match="no column edit_id"):
        trained("recipe", MANIPULATOR, starts, triplets, tmp_path / "out", monkeypatch)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"patch_size": 7}, "image_size is 32, no multiple of patch_size, 7"),
        ({"heads": 3}, "width is 16, no multiple of heads, 3"),
        ({"slots": 8}, "slots is 8, but must be a square number"),
        ({"tokens_grid": 5}, "tokens_grid² is 25, no multiple of slots, 4"),
        ({"feature_width": 18}, "feature_width is 18, no multiple of the waves of its positions, 4"),
    ],
)
def test_sizes_that_cannot_be_are_refused_before_any_job(changes: dict[str, int], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence.replace("²", ".")):
        checked(VisionSizes, {**VISION["vision"], **changes})


def test_relations_are_compared_in_single_precision(weights: dict[str, Path]) -> None:
    similarity = training.instruction_similarity(Clip.load(weights["clip"]))
    texts = ["make it snowy", "turn the circle blue"]
    plain = training.instruction_similarity(Clip.load(weights["clip"]))(texts)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(similarity(texts), plain)
