"""The contract suite: what every method promises, checked on a few drawn images (`editclip check`)."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from editclip.editing import Editor, EditRequest, Exemplar, JointPlanner, JointPreparer, Planner, Preparer
from editclip.editing.cards import Card
from editclip.editing.observe import observed
from editclip.editing.work import reason

TOLERANCE = 1  # grey level of 255 (design: batch size and order may change float rounding, no more)
JOINT_TOLERANCE = 0.01  # of a tensor's length: what an optimisation may make of float rounding
SHARE = 0.999  # of the pixels' channels that must be within it
RAISED = (Exception, SystemExit)  # what a method may end with; one that exits would end a job as if it were done


@dataclass(frozen=True)
class Finding:
    """Outcome of one check; `passed` is None where it could not be made."""

    check: str
    passed: bool | None
    detail: str


@dataclass(frozen=True)
class Trial:
    """A method, requests it can answer, its answers to all of them in one batch, and the exemplars it was shown.

    Attributes:
        loaded: the method by stage.
        card: its card.
        exemplars: two.
        to_plan: four requests with what was prepared, as they are planned.
        requests: the same to edit, with what was planned.
        images: what was made of them.
    """

    loaded: Mapping[str, Any]
    card: Card
    exemplars: tuple[Exemplar, ...]
    to_plan: tuple[EditRequest, ...]
    requests: tuple[EditRequest, ...] = ()
    images: tuple[Image.Image, ...] = ()

    def prepare(self, exemplar: Exemplar) -> dict[str, torch.Tensor]:
        """What the method prepares of an exemplar; nothing without that stage."""
        preparer: Preparer | None = self.loaded.get("prepare")
        return preparer.prepare(exemplar) if preparer else {}

    def plan(self, request: EditRequest) -> dict[str, torch.Tensor]:
        """What the method plans for a request; nothing without that stage."""
        planner: Planner | None = self.loaded.get("plan")
        return planner.plan(request) if planner else {}

    def edit(self, requests: Sequence[EditRequest]) -> list[Image.Image]:
        """The images of requests that are prepared and planned."""
        editor: Editor = self.loaded["edit"]
        return editor.edit(requests)


def _picture(resolution: int, seed: int) -> Image.Image:
    """Smooth random colours, RGB."""
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((resolution, resolution), Image.Resampling.BICUBIC)


def _asked(loaded: Mapping[str, Any], card: Card, resolution: int) -> Trial:
    """Two exemplars, prepared, and four requests, which like in a run hold nothing that the card does not ask for."""
    texts = ("make it snowy", "turn the red circle blue")
    exemplars, requests = [], []
    for number, text in enumerate(texts):
        pair = (_picture(resolution, 10 * number), _picture(resolution, 10 * number + 1))
        words = text if "instruction" in card.needs else None
        exemplars.append(Exemplar(f"check-{number}", (pair,) if "exemplar" in card.needs else (), words, number))
    trial = Trial(loaded, card, tuple(exemplars), ())
    prepared = [trial.prepare(exemplar) for exemplar in exemplars]
    for number in range(4):
        given: dict[str, Any] = {
            "instruction": texts[number % 2],
            "instructions": (texts[number % 2], "make it night"),
            "caption_before": "a red circle",
            "caption_after": "a blue circle in snow",
            "ground_truth": _picture(resolution, 200 + number),
        }
        wanted: dict[str, Any] = {name: value if name in card.needs else None for name, value in given.items()}
        query = _picture(resolution, 100 + number)
        requests.append(EditRequest(query, exemplars[number % 2], prepared[number % 2], **wanted, seed=500 + number))
    return dataclasses.replace(trial, to_plan=tuple(requests))


def _unlike(one: Sequence[Image.Image], other: Sequence[Image.Image]) -> str:
    """How two lists of images differ beyond the tolerance, or ""."""
    for number, (a, b) in enumerate(zip(one, other, strict=True)):
        if a.size != b.size or a.mode != b.mode:
            return f"image {number} is {b.mode} {b.size} instead of {a.mode} {a.size}"
        share = np.mean(np.abs(np.asarray(a, np.int16) - np.asarray(b, np.int16)) <= TOLERANCE)
        if share < SHARE:
            return f"image {number}: only {share:.1%} of the pixels are within {TOLERANCE}/255"
    return ""


def _bytes(trial: Trial) -> list[bytes]:
    """All that the method was given, as bytes."""
    images = [image for r in trial.to_plan for image in (r.query, r.ground_truth) if image is not None]
    images += [image for exemplar in trial.exemplars for pair in exemplar.pairs for image in pair]
    asked = trial.requests or trial.to_plan
    given = [tensor for r in asked for tensor in (*r.prepared.values(), *r.planned.values())]
    tensors = [tensor for tensor in given if isinstance(tensor, torch.Tensor)]
    raw = [t.detach().cpu().reshape(-1).view(torch.uint8).numpy() for t in tensors]  # also bfloat16
    return [image.tobytes() for image in images] + [array.tobytes() for array in raw]


def _unusable(found: Sequence[Mapping[str, torch.Tensor]]) -> str:
    for tensors in found:
        for name, tensor in tensors.items():
            if not isinstance(tensor, torch.Tensor) or tensor.device.type != "cpu" or tensor.requires_grad:
                return f"{name} is no CPU tensor without gradient"
            if not torch.isfinite(tensor).all():
                return f"{name} is not finite"
    return ""


def _prepared(trial: Trial) -> str:
    return _unusable([request.prepared for request in trial.requests])


def _planned(trial: Trial) -> str:
    return _unusable([request.planned for request in trial.requests])


def _unlike_tensors(
    alone: Sequence[Mapping[str, torch.Tensor]], together: Sequence[Mapping[str, torch.Tensor]], owner: str
) -> str:
    """How tensors made together differ beyond the tolerance from those made one by one for each `owner`, or ""."""
    if len(together) != len(alone):
        return f"{len(together)} results for {len(alone)} {owner}s"
    for number, (one, other) in enumerate(zip(alone, together, strict=True)):
        if one.keys() != other.keys():
            return f"{owner} {number} has other tensors"
        for name, tensor in one.items():
            a, b = tensor.double(), other[name].double()
            if a.shape != b.shape or not (a - b).norm() <= JOINT_TOLERANCE * a.norm():  # not: also of a NaN
                return f"{name} of {owner} {number} is another one"
    return ""


def _together(trial: Trial) -> str:
    preparer = trial.loaded["prepare"]
    if not isinstance(preparer, JointPreparer):
        return ""
    alone = [request.prepared for request in trial.requests[: len(trial.exemplars)]]
    return _unlike_tensors(alone, preparer.prepare_many(trial.exemplars), "exemplar")


def _plan_together(trial: Trial) -> str:
    planner = trial.loaded["plan"]
    if not isinstance(planner, JointPlanner):
        return ""
    size = max(planner.plan_batch_size, 2)  # as exemplars are: also of a method that its options tell to take one
    batches = [trial.to_plan[first : first + size] for first in range(0, len(trial.to_plan), size)]
    together = [plan for batch in batches for plan in planner.plan_many(batch)]
    return _unlike_tensors([request.planned for request in trial.requests], together, "request")


def _other_plan(trial: Trial, order: slice) -> str:
    """Which plan is another one when all are made again in the given order, or ""."""
    again = [trial.plan(request) for request in trial.to_plan[order]][order]
    for number, (request, other) in enumerate(zip(trial.requests, again, strict=True)):
        one = request.planned
        if one.keys() != other.keys() or not all(torch.equal(one[name], other[name]) for name in one):
            return f"plan {number} is another one"
    return ""


def _plan_repeat(trial: Trial) -> str:
    return _other_plan(trial, slice(None))


def _plan_order(trial: Trial) -> str:
    return _other_plan(trial, slice(None, None, -1))


def _size(trial: Trial) -> str:
    made = [(image.mode, image.size) for image in trial.images]
    wanted = [("RGB", request.query.size) for request in trial.requests]
    return "" if made == wanted else f"{made} instead of {wanted}"


def _blank(trial: Trial) -> str:
    extrema = [image.convert("RGB").getextrema() for image in trial.images]
    blank = [number for number, bands in enumerate(extrema) if all(low == high for low, high in bands)]  # type: ignore[misc]
    return f"image {blank[0]} has a single colour" if blank else ""


def _repeat(trial: Trial) -> str:
    again = trial.edit(trial.requests)
    same = [a.tobytes() == b.tobytes() for a, b in zip(trial.images, again, strict=True)]
    return "" if all(same) else f"image {same.index(False)} is another one the second time"


def _batch(trial: Trial) -> str:
    return _unlike(trial.images, [image for r in trial.requests for image in trial.edit([r])])


def _order(trial: Trial) -> str:
    return _unlike(trial.images, trial.edit(trial.requests[::-1])[::-1])


def _not_a_number(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k: torch.full_like(t, torch.nan) if t.is_floating_point() else t for k, t in tensors.items()}


def _hopeless(trial: Trial) -> dict[str, Callable[[], object]]:
    """Calls that must raise: an input in the card's NEEDS or the plan is missing, or what was stored is not finite."""
    request, change = trial.to_plan[0], dataclasses.replace

    def answer(changed: EditRequest) -> object:  # whichever stage looks at what is missing
        return trial.edit([change(changed, planned=trial.plan(changed))])

    def answer_shown(exemplar: Exemplar, **missing: Any) -> object:
        return answer(change(request, exemplar=exemplar, prepared=trial.prepare(exemplar), **missing))

    calls: dict[str, Callable[[], object]] = {}
    for name in trial.card.needs:
        missing: dict[str, Any] = {name: None}
        calls[name] = functools.partial(answer, change(request, **missing))
    if "exemplar" in calls:
        calls["exemplar"] = lambda: answer_shown(change(request.exemplar, pairs=()))
    if "instruction" in calls:  # which is the exemplar's as well
        calls["instruction"] = lambda: answer_shown(change(request.exemplar, instruction=None), instruction=None)
    if request.prepared:
        calls["finite prepared tensors"] = lambda: answer(change(request, prepared=_not_a_number(request.prepared)))
    if planned := trial.requests[0].planned:
        calls["its plan"] = lambda: trial.edit([change(request, planned={})])
        calls["finite planned tensors"] = lambda: trial.edit([change(request, planned=_not_a_number(planned))])
    return calls


def _bad_input(trial: Trial) -> str:
    for what, call in _hopeless(trial).items():
        with contextlib.suppress(Exception):  # any exception keeps the promise
            call()
            return f"returns an image without {what}"
    return ""


# What is examined, in methods with which stage, and whether it is a promise of deterministic methods only.
CHECKS: tuple[tuple[str, Callable[[Trial], str], str, bool], ...] = (
    ("prepared tensors are on the CPU and finite", _prepared, "prepare", False),
    ("who is prepared together does not matter", _together, "prepare", True),
    ("planned tensors are on the CPU and finite", _planned, "plan", False),
    ("same request, same plan", _plan_repeat, "plan", True),
    ("plans do not depend on each other", _plan_order, "plan", True),
    ("who is planned together does not matter", _plan_together, "plan", True),
    ("size and mode", _size, "edit", False),
    ("no blank image", _blank, "edit", False),
    ("same seed, same image", _repeat, "edit", True),
    ("batch size does not matter", _batch, "edit", True),
    ("order does not matter", _order, "edit", True),
    ("raises when it cannot edit", _bad_input, "edit", False),
)


def _examine(loaded: Mapping[str, Any], card: Card, resolution: int) -> list[Finding]:
    """The findings that follow from what the method returns or raises."""
    change = dataclasses.replace
    try:
        asked = _asked(loaded, card, resolution)
        shown = _bytes(asked)
        # Another seed than the plan's, as in a run.
        requests = tuple(change(r, planned=asked.plan(r), seed=1000 + n) for n, r in enumerate(asked.to_plan))
        given = change(asked, requests=requests)
        before = _bytes(given)
        trial = change(given, images=tuple(given.edit(requests)))
        others = given.edit([change(request, seed=request.seed + 1) for request in requests])
    except RAISED as error:  # the suite reports what a method raises
        return [Finding("runs", False, reason(error))]
    findings = [Finding("runs", True, "")]
    for name, examine, stage, needs_determinism in CHECKS:
        if stage in card.stages and (card.deterministic or not needs_determinism):
            try:
                detail = examine(trial)
            except RAISED as error:
                detail = reason(error)
            findings.append(Finding(name, not detail, detail))
    same = [a.tobytes() for a in trial.images] == [b.tobytes() for b in others]
    findings.append(Finding("another seed", True, "gives the same images" if same else "gives other images"))
    findings.append(Finding("inputs untouched", shown == _bytes(asked) and before == _bytes(given), ""))
    return findings


def check(loaded: Mapping[str, Any], card: Card, resolution: int | None = None) -> list[Finding]:
    """Run the suite over a loaded method.

    Args:
        loaded: the method, for each stage of its card.
        card: its card.
        resolution: side of the drawn images in pixels; default: the card's own, or 64.

    Returns:
        One finding a promise; only the first when the method does not run at all.
    """
    with observed() as effects:
        findings = _examine(loaded, card, resolution or card.resolution or 64)
    if not findings[0].passed:
        return findings
    for name, seen in (
        ("global random state untouched", ", ".join(effects.moved)),
        ("no file written", ", ".join(dict.fromkeys(effects.written))),
        ("nothing printed", effects.printed.strip()),
    ):
        findings.append(Finding(name, not seen, seen[:200]))
    return findings


def markdown(findings: Sequence[Finding]) -> str:
    """The findings as a Markdown table."""
    kept = {True: "yes", False: "**no**", None: "not checked"}
    rows = [f"| {f.check} | {kept[f.passed]} | {f.detail.replace('|', '¦')} |" for f in findings]
    return "\n".join(["| promise | kept | detail |", "|---|---|---|", *rows, ""])
