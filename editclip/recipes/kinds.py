"""A kind of weights: the card of a recipe module, which says what such weights are.

A recipe module is `editclip.recipes.NAME` or, in a method's folder, a module whose name ends in `recipe`:
`baselines.METHOD.recipe`, and of a method with several kinds also, say, `baselines.METHOD.renderer_recipe`. It needs
nothing but pydantic and holds

- `TRAINING`: the module whose `run(job)` trains such weights, or None where they are only to be had ready-made;
- `STARTS_FROM`: roles of the weights that a training starts from and that its result is used with;
- `LAYOUT`: "module:function", which is given a folder and raises an `InputError` if it does not hold such weights;
- `LOSS`: what the training loss is, for the axis of its curve;
- one subclass of `recipe.Recipe`, the keys of a training.
"""

import functools
import importlib
import inspect
import pkgutil
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from editclip.errors import InputError, nearest
from editclip.recipes.recipe import Recipe

ROOT = Path(__file__).resolve().parent.parent.parent
_OWN = {"recipe", "kinds"}  # modules of this package that are no kinds


@dataclass(frozen=True)
class Kind:
    """The card of a recipe module; see above.

    Attributes:
        name: dotted name of the module.
        training: the module that trains.
        starts_from: roles.
        layout: where a folder is checked.
        loss: label of the loss.
        recipe: the model of the recipe; None for a kind that nothing trains.
    """

    name: str
    training: str | None
    starts_from: tuple[str, ...]
    layout: str
    loss: str
    recipe: type[Recipe] | None


def kind_names() -> list[str]:
    """Dotted names of all recipe modules here."""
    own = (m.name for m in pkgutil.iter_modules([str(ROOT / "editclip" / "recipes")]) if m.name not in _OWN)
    methods = ((file.parent.name, file.stem) for file in ROOT.glob("baselines/*/*recipe.py"))
    return [
        *sorted(f"editclip.recipes.{name}" for name in own),
        *sorted(f"baselines.{method}.{name}" for method, name in methods),
    ]


def _entry(module: ModuleType, name: str) -> Any:
    """One entry of a card; `...`, which no entry may be, where it is missing."""
    return getattr(module, name, ...)


@functools.cache
def read_kind(name: str) -> Kind:
    """The kind of a recipe module given by dotted name.

    Raises:
        InputError: there is no such module, it cannot be imported, or its card is not complete.
    """
    if name not in kind_names():
        raise InputError(
            f"there is no kind of weights {name!r}{nearest(name, kind_names())}; known: {', '.join(kind_names())}"
        )
    try:
        module = importlib.import_module(name)
    except Exception as error:  # whatever a stranger's module raises concerns the reader of one sentence
        raise InputError(f"the recipe module {name} cannot be imported: {type(error).__name__}: {error}") from error
    training, starts_from, layout, loss = (
        _entry(module, entry) for entry in ("TRAINING", "STARTS_FROM", "LAYOUT", "LOSS")
    )
    for entry, right, what in (
        ("TRAINING", training is None or isinstance(training, str), "a dotted module, or None"),
        ("STARTS_FROM", isinstance(starts_from, tuple), "a tuple of roles"),
        ("LAYOUT", isinstance(layout, str) and ":" in layout, 'a text "module:function"'),
        ("LOSS", isinstance(loss, str), "a text"),
    ):
        if not right:
            raise InputError(f"the recipe module {name}: {entry} must be {what}")
    recipes = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, Recipe) and value.__module__ == name
    ]
    if len(recipes) != (training is not None):
        raise InputError(f"the recipe module {name} must define one subclass of Recipe if it has a TRAINING, else none")
    return Kind(name, training, starts_from, layout, loss, recipes[0] if recipes else None)


def check_folder(kind: Kind, folder: Path) -> None:
    """Check that a folder holds weights of a kind, whoever made them.

    Raises:
        InputError: it does not; the sentence is the kind's own.
    """
    module, _, function = kind.layout.partition(":")
    getattr(importlib.import_module(module), function)(folder)
