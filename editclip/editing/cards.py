"""Cards of methods, read without importing them, and the method entries of a config.

A card is the block of literal constants that opens a method's module, which is `baselines/NAME.py`, or in a package
`baselines/NAME/method.py`. Reading it with `ast` means that the workflow
is planned without torch, and that a method whose imports are broken hurts only its own rows.
"""

import ast
import importlib
import math
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from editclip.config.methods import Editing
from editclip.config.section import Name, as_number, checked
from editclip.errors import InputError, nearest

ROOT = Path(__file__).resolve().parent.parent.parent
OWN_METHOD = "editclip.method"
CONDITIONINGS = ("text", "exemplar", "none")
NEEDS = ("exemplar", "instruction", "instructions", "caption_before", "caption_after", "ground_truth")
# In the order in which a sample passes them, each with what it calls the loaded method with.
STAGES = {"prepare": "exemplar", "plan": "request", "edit": "requests"}


@dataclass(frozen=True)
class Card:
    """What a method is; each field is the module's constant of the same name in capitals.

    Attributes:
        label: name for people, in rows.csv and the report.
        paper: address of the paper, or "".
        license: licence of code and weights.
        conditioning: what tells the method which edit to make: "text", "exemplar" or "none".
        needs: inputs it cannot do without; it is given nothing else. A sample that lacks one is skipped. As read,
            "options.NAME" may stand for the input that the value of an option names; a `Method` has it resolved.
        stages: what it computes in jobs of their own: "prepare" once an exemplar, "plan" once a sample, "edit".
        weights: roles that an entry of the config binds to names of its `weights`.
        resolution: the side in pixels that it was made for, or None for any; it is given the benchmark's all the same.
        gpu_gb: GPU memory it needs at that side, in GB, for the reader; 0 for none.
        deterministic: same inputs and seed, same image.
        trained_on: datasets its weights have seen.
        options: allowed options and their defaults.
    """

    label: str
    paper: str
    license: str
    conditioning: str
    needs: tuple[str, ...]
    stages: tuple[str, ...]
    weights: tuple[str, ...]
    resolution: int | None
    gpu_gb: float
    deterministic: bool
    trained_on: tuple[str, ...]
    options: Mapping[str, Any]


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _texts(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(v, str) for v in value)


_OPTION = "options."  # start of an entry of NEEDS that an option decides


_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "label": (lambda v: isinstance(v, str) and bool(v), "a text that is not empty"),
    "paper": (lambda v: isinstance(v, str), "a text"),
    "license": (lambda v: isinstance(v, str) and bool(v), "a text that is not empty"),
    "conditioning": (lambda v: v in CONDITIONINGS, f"one of {', '.join(CONDITIONINGS)}"),
    "needs": (
        lambda v: _texts(v) and {n for n in v if not n.startswith(_OPTION)} <= set(NEEDS),
        f"a tuple out of {', '.join(NEEDS)}, or options.NAME of an option that names one of them",
    ),
    "stages": (
        lambda v: _texts(v) and "edit" in v and v == tuple(stage for stage in STAGES if stage in v),
        f"a tuple out of {', '.join(STAGES)}, in this order and with edit",
    ),
    "weights": (_texts, "a tuple of roles"),
    "resolution": (lambda v: v is None or (_whole(v) and v > 0), "a number of pixels, or None"),
    "gpu_gb": (lambda v: _number(v) and v >= 0, "a number of GB"),
    "deterministic": (lambda v: isinstance(v, bool), "True or False"),
    "trained_on": (_texts, "a tuple of dataset names"),
    "options": (lambda v: isinstance(v, dict) and all(isinstance(k, str) for k in v), "a dict of defaults by name"),
}


def editor_names() -> list[str]:
    """Dotted names of all methods here: EditCLIP's own, and the public modules and packages of `baselines/`."""
    folder = ROOT / "baselines"
    found = [
        f"baselines.{m.name}"
        for m in pkgutil.iter_modules([str(folder)])
        if not m.name.startswith("_") and (not m.ispkg or (folder / m.name / "method.py").is_file())
    ]
    return [OWN_METHOD, *sorted(found)]


def editor_file(editor: str) -> Path:
    """The file with the card of a method given by dotted name.

    Raises:
        InputError: there is no such method.
    """
    names = editor_names()
    if editor not in names:
        raise InputError(f"there is no method {editor!r}{nearest(editor, names)}; known: {', '.join(names)}")
    path = ROOT.joinpath(*editor.split("."))
    return path / "method.py" if path.is_dir() else path.with_suffix(".py")


def editor_module(editor: str) -> str:
    """The module with a method's card and `load`: `baselines.visii.method` of the package `baselines.visii`.

    Raises:
        InputError: there is no such method.
    """
    return ".".join(editor_file(editor).relative_to(ROOT).with_suffix("").parts)


def read_card(editor: str) -> Card:
    """The card of a method given by dotted name, without importing the method.

    Raises:
        InputError: no such method, or an entry of its card is missing, unknown, not a literal or not allowed.
    """
    file = editor_file(editor)
    try:
        body = ast.parse(file.read_text(encoding="utf-8"), str(file)).body
    except SyntaxError as error:
        raise InputError(f"{file} line {error.lineno} is not Python ({error.msg})") from error
    known = [field.name.upper() for field in fields(Card)]
    found: dict[str, Any] = {}
    for statement in body:
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        for name in [t.id for t in targets if isinstance(t, ast.Name) and t.id.isupper() and t.id[0] != "_"]:
            if name not in known:
                raise InputError(f"{file}: {name} is no card entry{nearest(name, known)}; start other constants with _")
            found[name] = _literal(file, name, getattr(statement, "value", None))
    for name in known:
        if name not in found:
            raise InputError(f"{file}: the card entry {name} is missing ({_RULES[name.lower()][1]})")
        allowed, wanted = _RULES[name.lower()]
        if not allowed(found[name]):
            raise InputError(f"{file}: the card entry {name} is {found[name]!r}, but must be {wanted}")
    for need in found["NEEDS"]:
        if need.startswith(_OPTION) and not isinstance(found["OPTIONS"].get(need.removeprefix(_OPTION)), str):
            raise InputError(f"{file}: the card entry NEEDS has {need}, but OPTIONS has no such option with a text")
    if "prepare" in found["STAGES"] and "exemplar" not in found["NEEDS"]:
        raise InputError(f"{file}: the card entry STAGES has prepare, which sees an exemplar: add exemplar to NEEDS")
    return Card(**{name.lower(): value for name, value in found.items()})


def _resolved(card: Card, options: Mapping[str, Any]) -> Card:
    """The card with the needs that its options' values name, in the order of `NEEDS`; other values name none."""
    named = {options[need.removeprefix(_OPTION)] if need.startswith(_OPTION) else need for need in card.needs}
    return replace(card, needs=tuple(name for name in NEEDS if name in named))


def _literal(file: Path, name: str, node: ast.expr | None) -> Any:
    try:
        return ast.literal_eval(node)  # type: ignore[arg-type]  # None and non-literals raise ValueError alike
    except ValueError as error:
        raise InputError(f"{file}: the card entry {name} must be a literal, because cards are not executed") from error


@dataclass(frozen=True)
class Method:
    """A method entry of the config with its card and effective options.

    Attributes:
        name: row name, unique in a config.
        editor: dotted name of its module or package.
        card: its card, with the needs that its options name.
        options: the card's defaults updated by the entry's options.
        shuffled: whether exemplars of another edit type are fed (a control).
        batch_size: images per call of `Editor.edit`.
    """

    name: str
    editor: str
    card: Card
    options: Mapping[str, Any]
    shuffled: bool
    batch_size: int

    @property
    def label(self) -> str:
        """Name for people."""
        return f"{self.card.label} (shuffled exemplar)" if self.shuffled else self.card.label

    def weights(self, given: Mapping[str, Path]) -> dict[str, Path]:
        """Those of the `given` folders that the card names.

        Raises:
            InputError: one is not given or not a folder.
        """
        for name in self.card.weights:
            if name not in given:
                raise InputError(f"method {self.name} needs the weights {name!r}; give --weights {name}=FOLDER")
            if not given[name].is_dir():
                raise InputError(f"weights {name}: {given[name]} is not a folder")
        return {name: given[name] for name in self.card.weights}

    def check_stage(self, stage: str) -> None:
        """Refuse what is to be done in a stage that the card does not name.

        Raises:
            InputError: there is no such stage.
        """
        if stage not in self.card.stages:
            stages = ", ".join(self.card.stages)
            raise InputError(f"method {self.name} has no stage {stage}; the STAGES of {self.editor} are {stages}")

    def load(self, given: Mapping[str, Path], device: str, stage: str) -> Any:
        """The method itself, on `device` and for one stage; only here the module is imported.

        Returns:
            A `Preparer`, `Planner` or `Editor`, by the stage.

        Raises:
            InputError: the card has no such stage, or what is loaded does not agree with it.
        """
        self.check_stage(stage)
        module = importlib.import_module(editor_module(self.editor))
        loaded = module.load(self.weights(given), self.options, device, stage)
        check_stages(self.editor, self.card, stage, loaded)
        return loaded


def check_stages(editor: str, card: Card, stage: str, loaded: Any) -> None:
    """Refuse a loaded method that lacks the function of its stage, or has that of one which its card does not name.

    Args:
        editor: dotted name of the method.
        card: its card.
        stage: what it was loaded for.
        loaded: what its `load` returned.

    Raises:
        InputError: the two do not agree.
    """
    if not callable(getattr(loaded, stage, None)):
        raise InputError(
            f"{editor}: what its load returns for the stage {stage} has no {stage}({STAGES[stage]}); "
            "write it, or take the stage out of the card's STAGES"
        )
    for other, argument in STAGES.items():
        if other not in card.stages and hasattr(loaded, other):
            raise InputError(
                f"{editor}: what its load returns for the stage {stage} has {other}({argument}), which would never be "
                f"called; add {other} to the card's STAGES, or remove it"
            )


class NamedEditing(Editing):
    """The part of a method's entry that the editing stages are given."""

    name: Name


def parse_method(values: Mapping[str, Any]) -> Method:
    """The method that a config entry describes.

    Args:
        values: name, editor, exemplars ("own" or "shuffled"), batch_size, options.

    Raises:
        InputError: a key is missing or unknown, or a value is not allowed; names the nearest match.
    """
    place = f"methods.{values.get('name', '?')}"
    entry = checked(NamedEditing, values, place)
    card = read_card(entry.editor)
    check_exemplars(f"{place}.exemplars", card, entry.exemplars)
    options = effective_options(f"{place}.options", card, entry.options)
    card = _resolved(card, options)
    return Method(entry.name, entry.editor, card, options, entry.exemplars == "shuffled", entry.batch_size)


def check_exemplars(place: str, card: Card, exemplars: str) -> None:
    """Refuse a control that would shuffle what its method never sees.

    Raises:
        InputError: exemplars are shuffled, but the card does not need any.
    """
    if exemplars == "shuffled" and "exemplar" not in card.needs:
        raise InputError(f"config value {place}: {card.label} sees no exemplar, so it must be own")


def effective_options(place: str, card: Card, given: Mapping[str, Any]) -> dict[str, Any]:
    """The card's defaults updated by `given`.

    Args:
        place: where `given` stands, for messages.
        card: the method's card.
        given: options by name.

    Raises:
        InputError: an option is unknown, not finite, or of another type than its default.
    """
    options = dict(card.options)
    for key, value in given.items():
        if key not in options:
            allowed = ", ".join(options) or "none"
            raise InputError(f"unknown config key {place}.{key}{nearest(key, options)}; allowed: {allowed}")
        default = card.options[key]
        if isinstance(default, float):
            value = as_number(value)
        same = type(value) is type(default) or (isinstance(default, float) and _whole(value))
        if default is not None and not same:
            raise InputError(
                f"config value {place}.{key}: {value!r} must be of type {type(default).__name__} "
                f"like its default {default!r}"
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"config value {place}.{key}: {value!r} must be a finite number")
        options[key] = value
    return options
