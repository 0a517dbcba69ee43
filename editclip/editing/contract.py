"""The contract suite: what every method promises, checked on a few drawn images (`editclip check`)."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from editclip.editing import Editor, EditRequest, Exemplar, JointEditor
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
    """A method, requests it can answer, its answers to all of them in one batch, and the exemplars it prepared."""

    editor: Editor
    card: Card
    exemplars: tuple[Exemplar, ...]
    requests: tuple[EditRequest, ...]
    images: tuple[Image.Image, ...]


def _picture(resolution: int, seed: int) -> Image.Image:
    """Smooth random colours, RGB."""
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((resolution, resolution), Image.Resampling.BICUBIC)


def _ask(editor: Editor, card: Card, resolution: int) -> tuple[tuple[Exemplar, ...], tuple[EditRequest, ...]]:
    """Two exemplars and four requests, which like in a run hold nothing that the card does not ask for."""
    texts = ("make it snowy", "turn the red circle blue")
    exemplars, requests = [], []
    for number, text in enumerate(texts):
        pair = (_picture(resolution, 10 * number), _picture(resolution, 10 * number + 1))
        words = text if "instruction" in card.needs else None
        exemplars.append(Exemplar(f"check-{number}", (pair,) if "exemplar" in card.needs else (), words, number))
    prepared = [editor.prepare(exemplar) if exemplar.pairs else {} for exemplar in exemplars]
    for number in range(4):
        given: dict[str, Any] = {
            "instruction": texts[number % 2],
            "caption_before": "a red circle",
            "caption_after": "a blue circle in snow",
            "ground_truth": _picture(resolution, 200 + number),
        }
        wanted = {name: value if name in card.needs else None for name, value in given.items()}
        query = _picture(resolution, 100 + number)
        requests.append(EditRequest(query, exemplars[number % 2], prepared[number % 2], seed=1000 + number, **wanted))
    return tuple(exemplars), tuple(requests)


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
    images = [image for r in trial.requests for image in (r.query, r.ground_truth) if image is not None]
    images += [image for exemplar in trial.exemplars for pair in exemplar.pairs for image in pair]
    tensors = [t for r in trial.requests for t in r.prepared.values() if isinstance(t, torch.Tensor)]
    raw = [t.detach().cpu().reshape(-1).view(torch.uint8).numpy() for t in tensors]  # also bfloat16
    return [image.tobytes() for image in images] + [array.tobytes() for array in raw]


def _prepared(trial: Trial) -> str:
    for request in trial.requests:
        for name, tensor in request.prepared.items():
            if not isinstance(tensor, torch.Tensor) or tensor.device.type != "cpu" or tensor.requires_grad:
                return f"{name} is no CPU tensor without gradient"
            if not torch.isfinite(tensor).all():
                return f"{name} is not finite"
    return ""


def _together(trial: Trial) -> str:
    if not isinstance(trial.editor, JointEditor) or not trial.exemplars[0].pairs:
        return ""
    together = trial.editor.prepare_many(trial.exemplars)
    if len(together) != len(trial.exemplars):
        return f"{len(together)} results for {len(trial.exemplars)} exemplars"
    for number, (one, other) in enumerate(zip((r.prepared for r in trial.requests), together, strict=False)):
        if one.keys() != other.keys():
            return f"exemplar {number} has other tensors"
        for name, tensor in one.items():
            a, b = tensor.double(), other[name].double()
            if a.shape != b.shape or not (a - b).norm() <= JOINT_TOLERANCE * a.norm():  # not: also of a NaN
                return f"{name} of exemplar {number} is another one"
    return ""


def _size(trial: Trial) -> str:
    made = [(image.mode, image.size) for image in trial.images]
    wanted = [("RGB", request.query.size) for request in trial.requests]
    return "" if made == wanted else f"{made} instead of {wanted}"


def _blank(trial: Trial) -> str:
    extrema = [image.convert("RGB").getextrema() for image in trial.images]
    blank = [number for number, bands in enumerate(extrema) if all(low == high for low, high in bands)]  # type: ignore[misc]
    return f"image {blank[0]} has a single colour" if blank else ""


def _repeat(trial: Trial) -> str:
    again = trial.editor.edit(trial.requests)
    same = [a.tobytes() == b.tobytes() for a, b in zip(trial.images, again, strict=True)]
    return "" if all(same) else f"image {same.index(False)} is another one the second time"


def _batch(trial: Trial) -> str:
    return _unlike(trial.images, [image for r in trial.requests for image in trial.editor.edit([r])])


def _order(trial: Trial) -> str:
    return _unlike(trial.images, trial.editor.edit(trial.requests[::-1])[::-1])


def _hopeless(trial: Trial) -> dict[str, Callable[[], object]]:
    """Calls that must raise: an input in the card's NEEDS is missing, or what was prepared is not finite."""
    editor, request, change = trial.editor, trial.requests[0], dataclasses.replace
    calls: dict[str, Callable[[], object]] = {}
    for name in trial.card.needs:
        missing: dict[str, Any] = {name: None}
        calls[name] = functools.partial(editor.edit, [change(request, **missing)])
    if "exemplar" in calls:
        bare = change(request.exemplar, pairs=())
        calls["exemplar"] = lambda: editor.edit([change(request, exemplar=bare, prepared=editor.prepare(bare))])
    if request.prepared:
        nan = {k: torch.full_like(t, torch.nan) if t.is_floating_point() else t for k, t in request.prepared.items()}
        calls["finite prepared tensors"] = lambda: editor.edit([change(request, prepared=nan)])
    return calls


def _bad_input(trial: Trial) -> str:
    for what, call in _hopeless(trial).items():
        with contextlib.suppress(Exception):  # any exception keeps the promise
            call()
            return f"returns an image without {what}"
    return ""


# What is examined, and whether it is a promise of deterministic methods only.
CHECKS: tuple[tuple[str, Callable[[Trial], str], bool], ...] = (
    ("prepared tensors are on the CPU and finite", _prepared, False),
    ("who is prepared together does not matter", _together, True),
    ("size and mode", _size, False),
    ("no blank image", _blank, False),
    ("same seed, same image", _repeat, True),
    ("batch size does not matter", _batch, True),
    ("order does not matter", _order, True),
    ("raises when it cannot edit", _bad_input, False),
)


def _examine(editor: Editor, card: Card, resolution: int) -> list[Finding]:
    """The findings that follow from what the method returns or raises."""
    try:
        exemplars, requests = _ask(editor, card, resolution)
        given = Trial(editor, card, exemplars, requests, ())
        before = _bytes(given)
        trial = dataclasses.replace(given, images=tuple(editor.edit(requests)))
        others = editor.edit([dataclasses.replace(request, seed=request.seed + 1) for request in requests])
    except RAISED as error:  # the suite reports what a method raises
        return [Finding("runs", False, reason(error))]
    findings = [Finding("runs", True, "")]
    for name, examine, needs_determinism in CHECKS:
        if card.deterministic or not needs_determinism:
            try:
                detail = examine(trial)
            except RAISED as error:
                detail = reason(error)
            findings.append(Finding(name, not detail, detail))
    same = [a.tobytes() for a in trial.images] == [b.tobytes() for b in others]
    findings.append(Finding("another seed", True, "gives the same images" if same else "gives other images"))
    findings.append(Finding("inputs untouched", before == _bytes(given), ""))
    return findings


def check(editor: Editor, card: Card, resolution: int | None = None) -> list[Finding]:
    """Run the suite over a loaded method.

    Args:
        editor: the method.
        card: its card.
        resolution: side of the drawn images in pixels; default: the card's own, or 64.

    Returns:
        One finding a promise; only the first when the method does not run at all.
    """
    with observed() as effects:
        findings = _examine(editor, card, resolution or card.resolution or 64)
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
