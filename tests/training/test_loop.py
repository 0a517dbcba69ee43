import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import training_toys as toys
from torch import Tensor, nn

from editclip.config.section import checked
from editclip.errors import InputError
from editclip.recipes.recipe import GradientRecipe
from editclip.training import loop
from editclip.training.draws import Draws
from editclip.training.learning_rate import learning_rate_factor

INPUTS = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))


def make_recipe(**changes: Any) -> GradientRecipe:
    return checked(GradientRecipe, {**toys.TRAINING, **changes})


def make_model() -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(5, 2)


def noisy_loss(model: nn.Module, stop: int | None = None) -> loop.LossFunction:
    """A loss that draws random numbers; it breaks off in call `stop`."""
    calls = 0

    def loss(indices: Tensor, draws: Draws) -> Mapping[str, Tensor]:
        nonlocal calls
        calls += 1
        if calls == stop:
            raise KeyboardInterrupt
        noise = draws.normal(5)
        return {"loss": model(INPUTS[indices] + noise).square().mean()}

    return loss


def fit(
    model: nn.Module,
    folder: Path,
    recipe: GradientRecipe,
    loss: loop.LossFunction | None = None,
    validate: Callable[[], Mapping[str, float]] | None = None,
    **options: Any,
) -> list[dict[str, float]]:
    """Train `model`; the logged lines."""
    (folder / "cache").mkdir(parents=True, exist_ok=True)
    loop.fit(
        loss or noisy_loss(model),
        options.pop("groups", None) or loop.decay_groups(model),
        recipe,
        modules={"model": model},
        draw=loop.shuffled_batches(len(INPUTS), recipe.batch_size, 0),
        seed=0,
        checkpoints=folder / "cache",
        logs=folder / "logs",
        validate=validate,
        **options,
    )
    return [json.loads(line) for line in (folder / "logs" / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("stop", [4, 8])
def test_a_run_that_broke_off_ends_bitwise_equal(tmp_path: Path, stop: int) -> None:
    recipe = make_recipe(steps=10, ema_decay=0.9)
    whole, broken = make_model(), make_model()
    expected = fit(whole, tmp_path / "whole", recipe)
    with pytest.raises(KeyboardInterrupt):
        fit(broken, tmp_path / "broken", recipe, noisy_loss(broken, stop))
    resumed = make_model()
    nn.init.constant_(resumed.weight, 9.0)  # whatever it starts from, the checkpoint decides
    assert fit(resumed, tmp_path / "broken", recipe) == expected
    assert torch.equal(resumed.weight, whole.weight) and torch.equal(resumed.bias, whole.bias)
    assert not torch.equal(resumed.weight, make_model().weight)


def test_the_cost_is_what_all_parts_of_a_run_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = 0.0
    monkeypatch.setattr("editclip.training.run_state.time.process_time", lambda: seconds)

    def slow(stop: int | None = None) -> loop.LossFunction:
        inner = noisy_loss(model, stop)

        def loss(indices: Tensor, draws: Draws) -> Mapping[str, Tensor]:
            nonlocal seconds
            seconds += 3
            return inner(indices, draws)

        return loss

    recipe, model = make_recipe(steps=10), make_model()
    with pytest.raises(KeyboardInterrupt):
        fit(model, tmp_path, recipe, slow(stop=8))
    seconds += 1000
    fit(make_model(), tmp_path, recipe, slow())
    cost = json.loads((tmp_path / "logs" / "cost.json").read_text())
    assert cost == {"seconds": 30, "of": "cores"}  # what was lost after the last checkpoint does not count


def test_a_log_line_cut_short_by_a_kill_is_forgotten(tmp_path: Path) -> None:
    recipe = make_recipe(steps=10)
    whole, broken = make_model(), make_model()
    expected = fit(whole, tmp_path / "whole", recipe)
    with pytest.raises(KeyboardInterrupt):
        fit(broken, tmp_path / "broken", recipe, noisy_loss(broken, 8))
    with open(tmp_path / "broken" / "cache" / "metrics.jsonl", "a") as log:
        log.write('{"step": 7, "lo')
    assert fit(make_model(), tmp_path / "broken", recipe) == expected


def test_a_step_is_adamw_with_clipping_warmup_and_no_decay_of_biases(tmp_path: Path) -> None:
    """Two steps against AdamW written out (arXiv:1711.05101, algorithm 2)."""
    rates = {"warmup_steps": 2, "schedule": "constant", "learning_rate": 0.01}
    recipe = make_recipe(steps=2, max_grad_norm=0.1, weight_decay=0.1, **rates)
    model, twin = make_model(), make_model()
    fit(model, tmp_path, recipe)
    draw = loop.shuffled_batches(len(INPUTS), recipe.batch_size, 0)
    moments = {name: [torch.zeros_like(p), torch.zeros_like(p)] for name, p in twin.named_parameters()}
    for step, rate in enumerate([0.005, 0.01]):
        draws = Draws.whole(loop.seeded(0, "step", step, 0), 4)
        loss = noisy_loss(twin)(draw(step), draws)["loss"]
        gradients = dict(zip(moments, torch.autograd.grad(loss, list(twin.parameters())), strict=True))
        norm = math.sqrt(sum(float(g.square().sum()) for g in gradients.values()))
        assert norm > 0.1
        with torch.no_grad():
            for name, parameter in twin.named_parameters():
                gradient = gradients[name] * 0.1 / norm
                first, second = moments[name]
                first.mul_(0.9).add_(0.1 * gradient)
                second.mul_(0.999).add_(0.001 * gradient.square())
                parameter.mul_(1 - rate * (0.1 if name == "weight" else 0.0))
                corrected = (second / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
                parameter.sub_(rate * first / (1 - 0.9 ** (step + 1)) / corrected)
    torch.testing.assert_close(model.weight, twin.weight, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(model.bias, twin.bias, rtol=1e-4, atol=1e-7)


def test_lists_are_clipped_on_their_own(tmp_path: Path) -> None:
    seen: list[tuple[float, float]] = []
    model = make_model()
    step = torch.optim.AdamW.step

    def watch(self: Any, *arguments: Any, **keywords: Any) -> Any:
        seen.append((float(model.weight.grad.norm()), float(model.bias.grad.norm())))
        return step(self, *arguments, **keywords)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", watch)
        fit(model, tmp_path, make_recipe(steps=1, max_grad_norm=0.01), clipped=[[model.weight]])
    assert seen[0][0] == pytest.approx(0.01, rel=1e-3)
    assert seen[0][1] > 0.01


def test_the_average_follows_its_closed_form(tmp_path: Path) -> None:
    """After n updates the decay is min(decay, (1 + n) / (10 + n)), as in InstructPix2Pix; the first copies."""
    recipe = make_recipe(steps=5, ema_decay=0.3, log_every=1)
    averaged, plain = make_model(), make_model()
    fit(averaged, tmp_path / "averaged", recipe)
    trace: list[Tensor] = []
    loss = noisy_loss(plain)

    def traced(indices: Tensor, draws: Draws) -> Mapping[str, Tensor]:
        trace.append(plain.weight.detach().clone())
        return loss(indices, draws)

    fit(plain, tmp_path / "plain", make_recipe(steps=5), traced)
    trace.append(plain.weight.detach().clone())
    expected = trace[1]
    for updates, weight in enumerate(trace[2:], start=1):
        decay = min(0.3, (1 + updates) / (10 + updates))
        expected = decay * expected + (1 - decay) * weight
    torch.testing.assert_close(averaged.weight.detach(), expected)


def test_microbatches_give_the_gradient_of_the_whole_batch(tmp_path: Path) -> None:
    def loss_of(model: nn.Module) -> loop.LossFunction:
        return lambda indices, generator: {"loss": model(INPUTS[indices]).square().mean()}

    models = [make_model(), make_model()]
    for model, size in zip(models, (None, 3), strict=True):
        fit(model, tmp_path / str(size), make_recipe(steps=3, batch_size=8, microbatch_size=size), loss_of(model))
    torch.testing.assert_close(models[0].weight, models[1].weight)


@pytest.mark.parametrize(
    ("step", "factor"),
    [(0, 0.25), (3, 1.0), (4, 1.0), (7, (1 + math.cos(math.pi / 4)) / 2), (10, 0.5), (16, 0.0)],
)
def test_cosine_with_warmup(step: int, factor: float) -> None:
    recipe = make_recipe(steps=16, warmup_steps=4)
    assert learning_rate_factor(step, recipe) == pytest.approx(factor, abs=1e-12)


def test_the_released_schedule_of_editclip() -> None:
    """One warm-up step, then half a cosine over the rest: factor (1 + cos(π (t-1) / (T-1))) / 2, and 1 at t = 0."""
    recipe = make_recipe(steps=12160)
    assert learning_rate_factor(0, recipe) == 1.0
    for t in (1, 5000, 12159):
        assert learning_rate_factor(t, recipe) == pytest.approx((1 + math.cos(math.pi * (t - 1) / 12159)) / 2)


def test_groups_keep_their_own_rates(tmp_path: Path) -> None:
    model = make_model()
    start = make_model()
    groups = [loop.Group([model.weight], learning_rate=0.0), loop.Group([model.bias], weight_decay=0.0)]
    fit(model, tmp_path, make_recipe(steps=1, schedule="constant", max_grad_norm=None), groups=groups)
    assert torch.equal(model.weight, start.weight)
    torch.testing.assert_close((model.bias - start.bias).abs(), torch.full((2,), 1e-3), rtol=1e-4, atol=0)


def test_an_epoch_shows_every_example_once() -> None:
    draw = loop.shuffled_batches(20, 6, seed=4)
    epochs = [torch.cat([draw(step) for step in range(first, first + 3)]) for first in (0, 3)]
    assert all(len(set(epoch.tolist())) == 18 for epoch in epochs)
    assert not torch.equal(*epochs)
    assert torch.equal(draw(1), epochs[0][6:12])  # whatever was asked before


def test_too_few_examples_are_refused() -> None:
    with pytest.raises(InputError, match="batch_size is 6, but there are only 5"):
        loop.shuffled_batches(5, 6, seed=0)


def test_validation_sees_averaged_weights_in_evaluation_mode(tmp_path: Path) -> None:
    model = make_model()
    seen: list[tuple[bool, Tensor]] = []

    def validate() -> Mapping[str, float]:
        seen.append((model.training, model.weight.detach().clone()))
        return {"score": 1.0}

    lines = fit(model, tmp_path, make_recipe(steps=6, ema_decay=0.9, validate_every=4), validate=validate)
    assert [line["step"] for line in lines if "validation/score" in line] == [4, 6]
    assert [training for training, _ in seen] == [False, False]
    assert torch.equal(seen[-1][1], model.weight)  # what was validated last is what is left


def test_a_diverging_run_says_so(tmp_path: Path) -> None:
    model = make_model()
    with pytest.raises(InputError, match="diverged: the loss is nan at step 2; lower learning_rate"):
        fit(model, tmp_path, make_recipe(), lambda i, g: {"loss": model(INPUTS[i]).sum() * math.nan})


def test_bf16_is_fp32_where_it_has_no_fast_instructions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for fast, seen in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(loop, "_fast_bf16", lambda fast=fast: fast)
        model, types = make_model(), []

        def loss(indices: Tensor, draws: Draws) -> Mapping[str, Tensor]:
            output = model(INPUTS[indices])  # noqa: B023
            types.append(output.dtype)  # noqa: B023
            return {"loss": output.float().square().mean()}

        caplog.clear()
        fit(model, tmp_path / str(fast), make_recipe(precision="bf16", steps=2), loss)
        assert types == [seen, seen]
        assert ("computing in fp32" in caplog.text) != fast


def test_a_run_whose_validation_loss_rises_for_too_long_stops(tmp_path: Path) -> None:
    losses = iter([3.0, 2.0, 2.5, 1.5, 1.6, 1.7, 1.8])  # at steps 1, 2, …: the least at step 4
    recipe = make_recipe(steps=20, log_every=1, validate_every=1, patience=3)
    with pytest.raises(InputError, match=r"is 1\.8 at step 7, and it was 1\.5 at step 4, 3 steps ago; lower"):
        fit(make_model(), tmp_path, recipe, validate=lambda: {"loss": next(losses)})


def test_validated_weights_can_be_kept(tmp_path: Path) -> None:
    model = make_model()
    kept = {}
    recipe = make_recipe(steps=6, ema_decay=0.9, validate_every=4)

    def keep(step: int) -> None:
        kept[step] = model.weight.detach().clone()

    fit(model, tmp_path, recipe, validate=lambda: {"score": 1.0}, keep=keep)
    assert list(kept) == [4, 6]
    assert torch.equal(kept[6], model.weight) and not torch.equal(kept[4], kept[6])
