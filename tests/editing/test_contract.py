"""The contract suite passes for every method here, and each of its checks catches the method that breaks it."""

import random
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from editing_toys import entry
from PIL import Image

from editclip.editing import EditRequest, Exemplar
from editclip.editing.cards import Card, editor_names, parse_method
from editclip.editing.contract import Finding, check

QUICK = {"num_inference_steps": 3, "skip": 1, "steps": 4, "caption_steps": 3}  # of those options that a method has
# What a weak method keeps over from one call to the next.
Hook = Callable[[list[Image.Image], Sequence[EditRequest]], Any]
STAGES = ("prepare", "edit")
CARD = Card("Weak", "", "Apache-2.0", "exemplar", ("exemplar", "instruction"), STAGES, (), None, 0, True, (), {})


class Weak:
    """An honest method (query, exemplar and noise averaged) whose result passes through `hook`."""

    def __init__(self, hook: Hook = lambda images, requests: images, prepared: Any = None) -> None:
        self.hook, self.prepared, self.calls = hook, prepared, 0

    def prepare(self, exemplar: Exemplar) -> dict[str, torch.Tensor]:
        if self.prepared is not None:
            return {"mean": self.prepared}
        return {"mean": torch.from_numpy(np.asarray(exemplar.after).mean((0, 1)))}

    def edit(self, requests: Sequence[EditRequest]) -> list[Image.Image]:
        self.calls += 1
        images = []
        for request in requests:
            request.require("instruction")
            noise = np.random.default_rng(request.seed).integers(0, 256, (*request.query.size, 3))
            pixels = (np.asarray(request.query) + request.prepared["mean"].numpy() + noise) / 3
            if not np.isfinite(pixels).all():
                raise FloatingPointError("not finite")
            images.append(Image.fromarray(pixels.astype(np.uint8)))
        result: list[Image.Image] = self.hook(images, requests)
        return result


def broken(editor: Any, card: Card = CARD) -> list[str]:
    """Names of the promises that are not kept."""
    return [finding.check for finding in examined(editor, card) if not finding.passed]


def examined(editor: Any, card: Card = CARD) -> list[Finding]:
    """The findings about one object that is loaded for all stages."""
    return check(dict.fromkeys(card.stages, editor), card)


def test_an_honest_method_passes() -> None:
    findings = examined(Weak())
    assert all(finding.passed for finding in findings) and len(findings) == 14
    assert next(f.detail for f in findings if f.check == "another seed") == "gives other images"


@pytest.mark.parametrize("name", editor_names())
def test_every_method_here_keeps_the_contract(name: str, weights: dict[str, Path]) -> None:
    options = {key: QUICK[key] for key in QUICK.keys() & parse_method(entry(name)).card.options.keys()}
    method = parse_method(entry(name, options=options))
    findings = check({s: method.load(weights, "cpu", s) for s in method.card.stages}, method.card, 32)
    assert [(f.check, f.detail) for f in findings if not f.passed] == []


def _brighten(image: Image.Image, by: int) -> Image.Image:
    return Image.fromarray((np.asarray(image, np.int16) + by).clip(0, 255).astype(np.uint8))


def _spoil_query(images: list[Image.Image], requests: Sequence[EditRequest]) -> list[Image.Image]:
    requests[0].query.putpixel((0, 0), (1, 2, 3))
    return images


def _spoil_prepared(images: list[Image.Image], requests: Sequence[EditRequest]) -> list[Image.Image]:
    requests[0].prepared["mean"].add_(1)
    return images


def _print(images: list[Image.Image], requests: Sequence[EditRequest]) -> list[Image.Image]:
    print("editing")
    return images


def _write(folder: Path) -> Hook:
    def hook(images: list[Image.Image], requests: Sequence[EditRequest]) -> list[Image.Image]:
        images[0].save(folder / "debug.png")
        return images

    return hook


def _write_from_c(images: list[Image.Image], requests: Sequence[EditRequest]) -> list[Image.Image]:
    from safetensors.torch import save_file  # written by Rust, which Python's audit does not see

    save_file({"a": torch.ones(1)}, "debug.safetensors")
    return images


def _print_from_c(images: list[Image.Image], requests: Sequence[EditRequest]) -> list[Image.Image]:
    import os

    os.write(1, b"editing")
    return images


def _draw(generator: Callable[[], Any]) -> Hook:
    def hook(images: list[Image.Image], requests: Sequence[EditRequest]) -> list[Image.Image]:
        generator()
        return images

    return hook


@pytest.mark.parametrize(
    ("hook", "promises"),
    [
        (lambda images, requests: [i.resize((8, 8)) for i in images], ["size and mode"]),
        (lambda images, requests: [i.convert("RGBA") for i in images], ["size and mode"]),
        (lambda images, requests: [Image.new("RGB", i.size) for i in images], ["no blank image"]),
        (lambda images, requests: [_brighten(i, 2 * len(images)) for i in images], ["batch size does not matter"]),
        (lambda images, requests: [_brighten(i, 9 * n) for n, i in enumerate(images)], ["order does not matter"]),
        (_spoil_query, ["inputs untouched"]),
        (_spoil_prepared, ["inputs untouched"]),
        (_print, ["nothing printed"]),
        (_print_from_c, ["nothing printed"]),
        (_write_from_c, ["no file written"]),
        (_draw(random.random), ["global random state untouched"]),
        (_draw(lambda: np.random.rand()), ["global random state untouched"]),
        (_draw(lambda: torch.rand(1)), ["global random state untouched"]),
    ],
)
def test_each_check_catches_its_method(hook: Hook, promises: list[str]) -> None:
    assert set(promises) <= set(broken(Weak(hook)))


class Joint(Weak):
    """Prepares several exemplars in one call, and does something to what it returns."""

    prepare_batch_size = 2

    def __init__(self, change: Callable[[list[dict[str, torch.Tensor]]], list[dict[str, torch.Tensor]]]) -> None:
        super().__init__(lambda images, requests: images)
        self.change = change

    def prepare_many(self, exemplars: Sequence[Exemplar]) -> list[dict[str, torch.Tensor]]:
        return self.change([self.prepare(exemplar) for exemplar in exemplars])


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        (lambda prepared: prepared, True),
        (lambda prepared: prepared[:1], False),
        (lambda prepared: prepared[::-1], False),
        (lambda prepared: [{k: v * torch.nan for k, v in p.items()} for p in prepared], False),
        (lambda prepared: [p | {"more": torch.ones(1)} for p in prepared], False),
    ],
)
def test_preparing_together_is_preparing_alone(change: Any, kept: bool) -> None:
    promise = "who is prepared together does not matter"
    assert (promise in broken(Joint(change))) != kept


def test_side_effects_are_found_alone(tmp_path: Path) -> None:
    assert broken(Weak(_print)) == ["nothing printed"]
    assert broken(Weak(_write(tmp_path))) == ["no file written"]
    assert broken(Weak(_draw(random.random))) == ["global random state untouched"]


def test_a_method_with_a_memory_is_caught_unless_it_says_so() -> None:
    def remember(editor: Weak) -> Weak:
        editor.hook = lambda images, requests: [_brighten(image, 3 * editor.calls) for image in images]
        return editor

    assert "same seed, same image" in broken(remember(Weak()))
    assert broken(remember(Weak()), replace(CARD, deterministic=False)) == []


def test_a_method_that_drops_an_image_is_caught() -> None:
    assert "size and mode" in broken(Weak(lambda images, requests: images[:-1]))


def test_a_method_that_raises_is_reported() -> None:
    def refuse(images: list[Image.Image], requests: Sequence[EditRequest]) -> list[Image.Image]:
        raise RuntimeError("out of memory\nsecond line")

    assert [(f.check, f.detail) for f in examined(Weak(refuse))] == [("runs", "RuntimeError: out of memory")]


@pytest.mark.parametrize("tensor", [torch.tensor([1.0, torch.nan, 1.0]), torch.ones(3, requires_grad=True), [1.0]])
def test_unusable_prepared_tensors_are_caught(tensor: Any) -> None:
    class Tolerant(Weak):
        def edit(self, requests: Sequence[EditRequest]) -> list[Image.Image]:
            return [request.query.copy() for request in requests]

    assert "prepared tensors are on the CPU and finite" in broken(Tolerant(prepared=tensor))


def test_an_image_instead_of_an_error_is_caught() -> None:
    class Tolerant(Weak):
        def edit(self, requests: Sequence[EditRequest]) -> list[Image.Image]:
            return [request.query.copy() for request in requests]

    findings = examined(Tolerant())
    assert [f.check for f in findings if not f.passed] == ["raises when it cannot edit"]


def test_a_method_that_exits_is_caught_wherever_it_does() -> None:
    def leave(images: list[Image.Image], requests: Sequence[EditRequest]) -> list[Image.Image]:
        sys.exit(0)

    assert [(f.check, f.passed, f.detail) for f in examined(Weak(leave))] == [("runs", False, "SystemExit: 0")]

    class Leaving(Weak):
        def edit(self, requests: Sequence[EditRequest]) -> list[Image.Image]:
            if requests[0].instruction is None:
                sys.exit("no instruction")
            return super().edit(requests)

    assert broken(Leaving()) == ["raises when it cannot edit"]


PLANNING = replace(CARD, stages=("prepare", "plan", "edit"))
Plan = dict[str, torch.Tensor]


class Planning(Weak):
    """Plans what it adds to the query, does something to the plan, and edits by it."""

    def __init__(self, change: Callable[["Planning", Plan], Plan] = lambda editor, plan: plan) -> None:
        super().__init__()
        self.change, self.plans = change, 0

    def plan(self, request: EditRequest) -> Plan:
        self.plans += 1
        added = request.prepared["mean"] * len(request.require("instruction")) / 25
        return self.change(self, {"added": added})

    def edit(self, requests: Sequence[EditRequest]) -> list[Image.Image]:
        return super().edit([replace(request, prepared={"mean": request.planned["added"]}) for request in requests])


class Spoiling(Planning):
    """Changes what was prepared while it plans."""

    def plan(self, request: EditRequest) -> Plan:
        plan = super().plan(request)
        request.prepared["mean"].mul_(0.5)
        return plan


class Ignoring(Planning):
    """Edits without a look at the plan."""

    def edit(self, requests: Sequence[EditRequest]) -> list[Image.Image]:
        return Weak.edit(self, requests)


def test_an_honest_method_that_plans_passes() -> None:
    findings = examined(Planning(), PLANNING)
    assert all(finding.passed for finding in findings) and len(findings) == 18


def remember(editor: Planning, plan: Plan) -> Plan:
    return {"added": plan["added"] + editor.plans}


class Carrying(Planning):
    """Adds a trace of the exemplar that was planned for before."""

    last = torch.zeros(3)

    def plan(self, request: EditRequest) -> Plan:
        plan, before, self.last = super().plan(request), self.last, request.prepared["mean"]
        return {"added": plan["added"] + before} if self.plans % 4 != 1 else plan


@pytest.mark.parametrize(
    ("editor", "promise"),
    [
        (Planning(remember), "same request, same plan"),
        (Carrying(), "plans do not depend on each other"),
        (Ignoring(lambda editor, plan: {"added": plan["added"].requires_grad_()}), "planned tensors are on the CPU"),
        (Ignoring(lambda editor, plan: {"added": plan["added"] * torch.nan}), "planned tensors are on the CPU"),
        (Spoiling(), "inputs untouched"),
        (Ignoring(), "raises when it cannot edit"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Planning) else value,
)
def test_a_plan_that_breaks_a_promise_is_caught(editor: Planning, promise: str) -> None:
    assert any(name.startswith(promise) for name in broken(editor, PLANNING))


class PlanningJointly(Planning):
    """Plans for several requests in one call, and does something to what it returns."""

    plan_batch_size = 3

    def __init__(self, together: Callable[[list[Plan]], list[Plan]]) -> None:
        super().__init__()
        self.together = together

    def plan_many(self, requests: Sequence[EditRequest]) -> list[Plan]:
        assert len(requests) <= self.plan_batch_size
        return self.together([self.plan(request) for request in requests])


@pytest.mark.parametrize(
    ("together", "detail"),
    [
        (lambda plans: plans, ""),
        (lambda plans: [{"added": plan["added"] * 1.001} for plan in plans], ""),
        (lambda plans: [{"added": plan["added"] * 1.1} for plan in plans], "added of request 0 is another one"),
        (lambda plans: [{"added": plan["added"] * torch.nan} for plan in plans], "added of request 0 is another one"),
        (lambda plans: [{"added": plan["added"][:2]} for plan in plans], "added of request 0 is another one"),
        (lambda plans: [*plans[1:], plans[0]], "added of request 0 is another one"),
        (lambda plans: [*plans[:-1], {}], "request 2 has other tensors"),
        (lambda plans: plans[:1], "2 results for 4 requests"),
    ],
)
def test_planning_together_is_planning_alone(together: Any, detail: str) -> None:
    promise = "who is planned together does not matter"
    editor = PlanningJointly(together)
    found = {finding.check: finding.detail for finding in examined(editor, PLANNING) if not finding.passed}
    assert found == ({promise: detail} if detail else {})
    assert promise not in {f.check for f in examined(editor, replace(PLANNING, deterministic=False))}


def test_an_edit_that_ignores_its_plan_is_told_so() -> None:
    details = {finding.check: finding.detail for finding in examined(Ignoring(), PLANNING)}
    assert details["raises when it cannot edit"] == "returns an image without its plan"


def test_the_method_of_three_stages_keeps_the_contract(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOY_LOG", raising=False)
    shutil.copy(Path(__file__).parents[1] / "three_stages.py", project / "planner.py")
    method = parse_method(entry("baselines.planner"))
    findings = check({stage: method.load({}, "cpu", stage) for stage in method.card.stages}, method.card)
    assert [(f.check, f.detail) for f in findings if not f.passed] == []
    assert {"planned tensors are on the CPU and finite", "same request, same plan"} <= {f.check for f in findings}
