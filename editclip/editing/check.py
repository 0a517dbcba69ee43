r"""Check one method: its card, its module, what trains its weights, and with its weights the whole contract suite.

    editclip check baselines.ip2p --weights ip2p=FOLDER --options '{"num_inference_steps": 4}'
    editclip check ip2p --config config/micro.yaml

The second takes options from a method of that config, and weights from the run's folder. What needs weights that are
not there is reported as not checked. Exit status: 1 when a promise is broken, 2 when the method cannot be loaded.
"""

import argparse
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from editclip import stage
from editclip.config.bindings import weights_of
from editclip.config.tree import read_config
from editclip.editing import cards
from editclip.editing.cards import (
    Method,
    NamedEditing,
    check_stages,
    editor_file,
    editor_module,
    editor_names,
    parse_method,
)
from editclip.editing.contract import RAISED, Finding, check, markdown
from editclip.editing.work import reason
from editclip.errors import InputError, nearest
from editclip.recipes.kinds import kind_names, read_kind

LOAD = ("weights", "options", "device", "stage")


@dataclass(frozen=True)
class Subject:
    """The method that is checked, and what it stands on.

    Attributes:
        method: the method.
        weights: folders by role, of those that are there.
        kinds: the kinds of its weights, as far as they are known.
        files: the config that names the method, if one was given.
        places: where a run of that config has its weights, by role.

    Raises:
        InputError: weights for a role that the method has not.
    """

    method: Method
    weights: Mapping[str, Path]
    kinds: list[str]
    files: list[str] = field(default_factory=list)
    places: Mapping[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        roles = self.method.card.weights
        for role in self.weights:
            if role not in roles:
                known = ", ".join(roles) or "none"
                raise InputError(
                    f"{self.method.name} asks for no weights {role!r}{nearest(role, roles)}; its roles: {known}"
                )

    def missing(self) -> str:
        """Which weights are not there, and how to come by them; "" when all are."""
        roles = [role for role in self.method.card.weights if role not in self.weights]
        if not roles:
            return ""
        given = " ".join(f"{role}=FOLDER" for role in roles)
        remedy = f"train them, then check again with --weights {given}"
        if self.places:
            targets = " ".join(dict.fromkeys(str(self.places[role]) for role in roles))
            remedy = f"`make reproduce ARGS='--configfile {' '.join(self.files)} -- {targets}'`, then check again"
        return f"needs the weights {', '.join(roles)}: {remedy}"


def _raised(error: BaseException) -> str:
    """Class and first line of an exception, and the last place in the project's code that it came through."""
    what = reason(error) + ("; it must raise an exception, not exit" if isinstance(error, SystemExit) else "")
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename)
        if file != Path(__file__) and any(file.is_relative_to(cards.ROOT / part) for part in ("baselines", "editclip")):
            return f"{what} ({file.relative_to(cards.ROOT)} line {frame.lineno})"
    return what


def function_of(module: str, name: str, *parameters: str) -> Callable[..., Any]:
    """The function `name` of a module, which is called with `parameters` in this order.

    Raises:
        InputError: the module cannot be imported, or has no such function with such parameters.
    """
    try:
        found = getattr(importlib.import_module(module), name, None)
    except InputError:
        raise
    except RAISED as error:  # whatever a stranger's module does, its author gets one sentence
        raise InputError(f"{module} cannot be imported: {_raised(error)}") from error
    called = f"{name}({', '.join(parameters)})"
    if not callable(found):
        raise InputError(f"{module} has no function {called}")
    signature = inspect.signature(found)
    try:
        signature.bind(*parameters)
    except TypeError as error:
        raise InputError(f"{module}: it is {name}{signature}, but is called as {called} ({error})") from error
    return found


def check_kind(name: str) -> Finding:
    """Whether a kind of weights has all that trains and checks them.

    Raises:
        InputError: its card is not complete, or a function is missing.
    """
    kind = read_kind(name)
    module, _, function = kind.layout.partition(":")
    function_of(module, function, "folder")
    if kind.training is not None:
        function_of(kind.training, "run", "job")
    return Finding(f"kind of weights {name}", True, "")


def loaded(subject: Subject) -> dict[str, Any]:
    """The method for each stage of its card, by its `load`.

    Raises:
        InputError: whatever `load` raises, or what it returns does not agree with the card.
    """
    method, result = subject.method, {}
    load = function_of(editor_module(method.editor), "load", *LOAD)
    for name in method.card.stages:
        try:
            result[name] = load(method.weights(subject.weights), method.options, stage.device(), name)
        except InputError:
            raise
        except RAISED as error:
            raise InputError(f"load of {method.editor} for the stage {name} failed: {_raised(error)}") from error
        check_stages(method.editor, method.card, name, result[name])
    return result


def examine(subject: Subject, resolution: int | None = None) -> list[Finding]:
    """All findings: of card and module, and with all weights those of the suite.

    Raises:
        InputError: the method, or what trains its weights, cannot be loaded.
    """
    method = subject.method
    card = editor_file(method.editor).relative_to(cards.ROOT).as_posix()
    findings = [Finding("card", True, card), *map(check_kind, subject.kinds)]
    function_of(editor_module(method.editor), "load", *LOAD)
    findings.append(Finding(f"load({', '.join(LOAD)})", True, f"stages {', '.join(method.card.stages)}"))
    if missing := subject.missing():
        return [*findings, Finding("all else", None, missing)]
    return [*findings, *check(loaded(subject), method.card, resolution)]


def _by_editor(name: str, options: Mapping[str, Any], given: Mapping[str, Path]) -> Subject:
    """A method given by the dotted name of its module."""
    entry = {"name": name, "editor": name, "exemplars": "own", "batch_size": 4, "options": options}
    kinds = [kind for kind in kind_names() if kind.startswith(f"{name}.")]
    return Subject(parse_method(entry), given, kinds)


def subject_of_config(name: str, files: list[str], options: Mapping[str, Any], given: Mapping[str, Path]) -> Subject:
    """A method of a config, with those of its weights that lie in the run's folder.

    Args:
        name: of the method.
        files: a config, and overlays upon it.
        options: other options than the config's, by name.
        given: folders of weights by role, in place of those in the run's folder.

    Raises:
        InputError: the config has no such method, or something in it is wrong.
    """
    config = read_config(*files)
    if name not in config.methods:
        known = ", ".join(config.methods)
        raise InputError(f'{files[-1]} has no method "{name}"{nearest(name, config.methods)}; known: {known}')
    entry = config.methods[name]
    values = entry.model_dump(include=set(NamedEditing.model_fields))
    method = parse_method({**values, "name": name, "options": {**entry.options, **options}})
    names = weights_of(f"methods.{name}", method.card, entry, config.weights)
    places = {role: Path("results", config.run.name, "weights", weights) for role, weights in names.items()}
    there = {role: folder.resolve() for role, folder in places.items() if folder.is_dir()}
    kinds = list(dict.fromkeys(config.weights[weights].kind for weights in names.values()))
    return Subject(method, {**there, **given}, kinds, files, places)


def main() -> None:
    """Command line of this stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help=f"one of {', '.join(editor_names())}; with --config, a method of the config")
    parser.add_argument("--config", nargs="+", default=[], metavar="FILE", help="a config, and overlays upon it")
    parser.add_argument("--weights", type=stage.weights_argument, nargs="*", default=[], metavar="ROLE=FOLDER")
    parser.add_argument("--options", type=stage.config_value, default={}, help="options of the method, as JSON")
    parser.add_argument("--resolution", type=int, help="side of the drawn images (default: the method's, or 64)")
    given = parser.parse_args()
    folders = {role: folder.resolve() for role, folder in given.weights}
    if given.config:
        subject = subject_of_config(given.name, given.config, given.options, folders)
    else:
        subject = _by_editor(given.name, given.options, folders)
    findings = examine(subject, given.resolution)
    sys.stdout.write(markdown(findings))
    if any(finding.passed is False for finding in findings):
        sys.exit(1)


if __name__ == "__main__":
    stage.run(main)
