"""InstaManip's two trainings: what they start from, what a batch is, their losses, what the method loads of them."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "training"))

import training_toys as toys
from diffusers import UNet2DConditionModel
from editing_toys import photo

from baselines.instamanip import training
from baselines.instamanip.editor import load_stage
from baselines.instamanip.manipulator_layout import load_manipulator
from baselines.instamanip.method import OPTIONS
from baselines.instamanip.recipe import ManipulatorRecipe
from baselines.instamanip.renderer_layout import load_no_features, load_vision
from baselines.instamanip.train_renderer import with_added_embedding
from baselines.instamanip.vision import pooled
from editclip.config.section import checked
from editclip.data.triplets import Triplets
from editclip.data.world import write_triplets
from editclip.editing import EditRequest, Exemplar
from editclip.errors import InputError
from editclip.model import Clip
from editclip.training import __main__ as runner
from editclip.training.draws import Draws

SIDE = 32
VISION = {
    "image_size": SIDE, "patch_size": 8, "width": 16, "layers": 1, "heads": 2, "mlp_width": 32, "table_grid": 4,
    "tokens_grid": 4, "feature_width": 16, "feature_heads": 2, "slots": 4,
}  # fmt: skip
RENDERER: dict[str, Any] = {
    **toys.TRAINING,
    "resolution": SIDE,
    "vision": VISION,
    "detokenizer": {"width": 16, "layers": 1, "heads": 2, "head_width": 8, "context_widths": [8, 8]},
    "time_width": 8,
    "new_learning_rate": 1e-3,
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
) -> dict[str, float]:
    """Train by the command line into `out`; the last logged values."""
    arguments = ["--kind", f"baselines.instamanip.{kind}", "--recipe", json.dumps(recipe), "--seed", "3"]
    arguments += ["--threads", "1", "--out", str(out), "--triplets", str(triplets), "--from"]
    arguments += [f"{role}={folder}" for role, folder in starts.items()]
    patch.setenv("EDITCLIP_CACHE", str(out.parent / "cache"))
    patch.setattr(sys, "argv", ["training", *arguments])
    runner.main()
    torch.use_deterministic_algorithms(False)
    lines = (out / "logs" / "metrics.jsonl").read_text().splitlines()
    last: dict[str, float] = json.loads(lines[-1])
    return last


def test_the_command_line_trains_what_the_method_loads(
    weights: dict[str, Path], triplets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renderer, manipulator = tmp_path / "renderer", tmp_path / "manipulator"
    last = trained("renderer_recipe", RENDERER, {"ip2p": weights["ip2p"]}, triplets, renderer, monkeypatch)
    assert {"validation/loss", "validation/loss_wrong_features"} <= last.keys()
    new = json.loads((renderer / "logs" / "new_tensors.json").read_text())
    assert new == [f"add_embedding.linear_{layer}.{part}" for layer in (1, 2) for part in ("bias", "weight")]
    starts = {"instamanip_renderer": renderer, "clip": weights["clip"]}
    recipe = {**MANIPULATOR, "steps": 60, "answers": ["done"], "exemplars": 1}  # until it has learnt to answer
    last = trained("recipe", recipe, starts, triplets, manipulator, monkeypatch)
    assert {"language", "reconstruction", "relation", "validation/reconstruction_wrong_exemplar"} <= last.keys()
    folders = {"instamanip": manipulator, "instamanip_renderer": renderer}
    options = {**OPTIONS, "num_inference_steps": 2}
    learner, painter = (load_stage(folders, options, "cpu", stage) for stage in ("plan", "edit"))
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


def test_the_features_of_no_image_are_those_of_the_trained_tower(
    weights: dict[str, Path], triplets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained("renderer_recipe", RENDERER, {"ip2p": weights["ip2p"]}, triplets, tmp_path / "r", monkeypatch)
    with torch.no_grad():
        assert torch.allclose(load_no_features(tmp_path / "r"), load_vision(tmp_path / "r").no_features(), atol=1e-6)


def parts_of(weights: dict[str, Path], triplets: Triplets) -> training.Parts:
    manipulator, prompter = load_manipulator(weights["instamanip"])
    similarity = training.instruction_similarity(Clip.load(weights["clip"]))
    vision = load_vision(weights["instamanip_renderer"])
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
    starts = {"instamanip_renderer": weights["instamanip_renderer"], "clip": weights["clip"]}
    cut = {**MANIPULATOR, "microbatch_size": 2}
    with pytest.raises(InputError, match="microbatch_size must be null"):
        trained("recipe", cut, starts, triplets, tmp_path / "out", monkeypatch)
    monkeypatch.setattr(training.Triplets, "__init__", lambda self, *given: setattr(self, "edit_ids", None))
    with pytest.raises(InputError, match="no column edit_id"):
        trained("recipe", MANIPULATOR, starts, triplets, tmp_path / "out", monkeypatch)
