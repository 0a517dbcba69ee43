"""What the config's models say about themselves: a JSON schema for editors and a page of documentation.

python -m editclip.config.reference --schema config/schema.json --docs docs/configuration.md
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from editclip.config.reading import LIKE, WITH_LIKE
from editclip.config.tree import Config
from editclip.recipes.kinds import Kind, kind_names, read_kind
from editclip.recipes.recipe import GradientRecipe

Schema = dict[str, Any]
RECIPE = "a mapping with the keys of the kind's recipe"
INTRODUCTION = """# Configuration

*Made from the models in `editclip/config/` and the recipe modules by `make docs`; a test holds it equal to them.*

A run is exactly what its config says: every key is required, none has a hidden default, and a wrong key or value stops
the run before any job with one sentence. `config/micro.yaml` and `config/paper.yaml` are whole; `config/schema.json`
lets an editor complete and check what you type.

- **`like: FILE`** at the top of a file: equal to that file (named relative to this one) but for what is said here.
- **`like: NAME`** in an entry of `weights`, `methods`, `tables` or `studies`: equal to that entry of the same mapping
  but for what is said here. Mappings are changed key by key, lists and values as a whole, and a mapping that names
  another `source` starts anew. An entry that is `null` takes that one back.
- **Overlays**: `--configfile config/micro.yaml my-overlay.yaml` changes and adds entries; `--config` changes single
  values, `--config run='{seed: 1}'`.
- **Roles**: `from` of weights and `weights` of a method bind a role to the name of an entry of `weights`; a role that
  is not bound means the entry of the same name. What comes out is written into `results/<run>/config.yaml`.
- A number may be written with an exponent and no dot (`2e-3`), which YAML itself reads as a text.
"""


def schema() -> Schema:
    """The JSON schema for editors (draft 2020-12).

    It is laxer than the models where a file may leave things to what it is `like`: nothing is required.
    """
    result = _lax(Config.model_json_schema(by_alias=True))
    entries = [entry for name in WITH_LIKE for entry in result["properties"][name]["patternProperties"].values()]
    definitions: dict[str, Schema] = result["$defs"]
    named = {ref["$ref"].rsplit("/", 1)[1] for entry in entries for ref in entry.get("anyOf", [entry])}
    for target in (result, *(definitions[name] for name in named)):
        target["properties"] = {LIKE: {"type": "string", "description": "equal to that but for what is said"}} | (
            target["properties"]
        )
    for name in WITH_LIKE:  # an entry of null takes back one of what the file is like
        entries_of = result["properties"][name]["patternProperties"]
        for pattern, entry in entries_of.items():
            entries_of[pattern] = {"anyOf": [*entry.get("anyOf", [entry]), {"type": "null"}]}
    cases = []
    for kind in map(read_kind, kind_names()):
        if kind.recipe is not None:
            # Names of nested sections are told apart by the kind: two methods may use the same one.
            own = _lax(kind.recipe.model_json_schema(by_alias=True, ref_template=f"#/$defs/{kind.name}.{{model}}"))
            definitions |= {f"{kind.name}.{name}": nested for name, nested in own.pop("$defs", {}).items()}
            definitions[kind.name] = own
            recipe = {"properties": {"recipe": {"$ref": f"#/$defs/{kind.name}"}}}
            cases.append({"if": {"properties": {"kind": {"const": kind.name}}, "required": ["kind"]}, "then": recipe})
    definitions["TrainedWeights"]["allOf"] = cases
    definitions["TrainedWeights"]["properties"]["kind"] = {"type": "string", "examples": kind_names()}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **result}


def _lax(value: Any) -> Any:
    """A schema without what is required and without choices that a file which is `like` another could not make."""
    if isinstance(value, list):
        return [_lax(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {key: _lax(item) for key, item in value.items() if key not in ("discriminator",)}
    if isinstance(kept.get("required"), list):
        del kept["required"]
    if "oneOf" in kept:
        kept["anyOf"] = kept.pop("oneOf")
    return kept


def page() -> str:
    """The documentation of every key, in Markdown."""
    whole = Config.model_json_schema(by_alias=True)
    parts = [INTRODUCTION]
    for name, field in Config.model_fields.items():
        parts.append(f"## `{name}`\n")
        for model in dict.fromkeys(_models(field.annotation)):
            parts.append(_section(model, whole["$defs"].get(model.__name__) or model.model_json_schema(by_alias=True)))
    parts.append("## Recipes\n\nThe keys of `weights.<name>.recipe`, by the entry's `kind`.\n")
    kinds = [read_kind(name) for name in kind_names()]
    parts.append(
        f"### Every recipe that descends a gradient\n\n{_table(GradientRecipe, GradientRecipe.model_json_schema())}"
    )
    parts += [_recipe(kind) for kind in kinds]
    return "\n".join(parts)


def _named(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that an annotation itself names, in order."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _named(argument)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that an annotation names, each before those that its own fields name."""
    for model in _named(annotation):
        yield model
        for _, nested in _nested(model):
            yield nested


def _nested(model: type[BaseModel], place: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """The models that a model's fields name, and those below them, each with the dotted key that leads to it."""
    for name, field in model.model_fields.items():
        key = f"{place}{field.alias or name}"
        for found in _named(field.annotation):
            yield key, found
            yield from _nested(found, f"{key}.")


def _section(model: type[BaseModel], own: Mapping[str, Any]) -> str:
    source = model.model_fields.get("source")
    literal = source is not None and get_origin(source.annotation) is Literal  # by which models are told apart
    chosen = get_args(source.annotation) if source is not None and literal else ()
    choice = f" (`source: {chosen[0]}`)" if chosen else ""
    return f"{(model.__doc__ or '').strip()}{choice}\n\n{_table(model, own)}"


def _recipe(kind: Kind) -> str:
    starts = f"starts from `{'`, `'.join(kind.starts_from)}`" if kind.starts_from else "starts from nothing"
    head = f"### `{kind.name}`\n\n{(kind.recipe or Kind).__doc__} It {starts}; its loss is {kind.loss}.\n"
    if kind.recipe is None:
        return head
    inherited = GradientRecipe.model_fields if issubclass(kind.recipe, GradientRecipe) else {}
    parts = [f"{head}\n{_table(kind.recipe, kind.recipe.model_json_schema(), set(inherited))}"]
    parts += [f"#### `{key}`\n\n{_section(m, m.model_json_schema(by_alias=True))}" for key, m in _nested(kind.recipe)]
    return "\n".join(parts)


def _table(model: type[BaseModel], own: Mapping[str, Any], without: set[str] = frozenset()) -> str:  # type: ignore[assignment]
    """One line a key: what it may be and what it means."""
    lines = ["| key | value | meaning |", "|---|---|---|"]
    for name, field in model.model_fields.items():
        if name not in without:
            key = field.alias or name
            meaning = " ".join((field.description or "").split())
            lines.append(f"| `{key}` | {_value(own['properties'][key])} | {meaning} |".replace("  |", " |"))
    return "\n".join(lines) + "\n" if len(lines) > 2 else ""


def _value(own: Mapping[str, Any]) -> str:
    """What a value may be, in words."""
    if "anyOf" in own:
        return " or ".join(_value(option) for option in own["anyOf"])
    if "const" in own:
        return f"`{own['const']}`"
    if "enum" in own:
        return " or ".join(f"`{value}`" for value in own["enum"])
    if "$ref" in own or "oneOf" in own:
        return "a section"
    if own.get("type") == "array":
        return f"list, each {_value(own.get('items') or own['prefixItems'][0])}"
    words = {"integer": "whole number", "number": "number", "string": "text", "boolean": "`true` or `false`"}
    word = {**words, "null": "`null`", "object": "mapping"}.get(str(own.get("type")), "anything")
    limits = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    given = [f"{sign} {own[limit]:g}" for limit, sign in limits.items() if limit in own and abs(own[limit]) < 1e12]
    return f"{word} {', '.join(given)}".strip()


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schema", type=Path, required=True)
    parser.add_argument("--docs", type=Path, required=True)
    given = parser.parse_args()
    given.schema.write_text(json.dumps(schema(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    given.docs.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
