"""The base of every section of a config: a strict pydantic model, whose violations become one sentence.

Nothing has a default, nothing unknown is taken, NaN and infinities are refused. Snakemake reads YAML 1.1, for which
`2e-3`, without a dot, is a text: `Number` takes it as the number it looks like. The text below a field is its
documentation, in the editor's schema and in docs/configuration.md.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    Strict,
    model_validator,
)
from pydantic import ValidationError as Violation
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from editclip.errors import InputError, nearest

UNKNOWN, MISSING = "unknown_key", "missing_key"


class Section(BaseModel):
    """A part of a config with exactly its own keys."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )

    @classmethod
    def keys(cls) -> list[str]:
        """The keys of the section, as a config writes them."""
        return [field.alias or name for name, field in cls.model_fields.items()]

    @model_validator(mode="before")
    @classmethod
    def _only_known_keys(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            known = cls.keys()
            for key in values:
                if key not in known:
                    raise PydanticCustomError(UNKNOWN, "", {"key": str(key), "known": known})
            for name, field in cls.model_fields.items():
                if field.is_required() and (field.alias or name) not in values:
                    raise PydanticCustomError(MISSING, "", {"key": field.alias or name})
        return values


def as_number(value: Any) -> Any:
    """`value`, or the number that a text without a dot, such as 2e-3, was meant to be."""
    looks_like_one = isinstance(value, str) and re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", value)
    return float(value) if looks_like_one else value


def _distinct(values: list[Any]) -> list[Any]:
    for value in values:
        if values.count(value) > 1:
            raise PydanticCustomError("repeated", "{value} stands in it more than once", {"value": str(value)})
    return values


T = TypeVar("T")
NUMERIC = BeforeValidator(as_number)
Number = Annotated[float, NUMERIC]
Rate = Annotated[float, Field(ge=0), NUMERIC]
Share = Annotated[float, Field(ge=0, le=1), NUMERIC]
Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Text = Annotated[str, Field(min_length=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
"""Of a run, a method, a set of weights or a table: it becomes part of file names."""
Dotted = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$")]
Distinct = Annotated[list[T], AfterValidator(_distinct)]


class _WithoutNulls:
    """Of a mapping: its entries of null are left out, and a schema for editors allows them."""

    def __get_pydantic_core_schema__(self, kind: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def kept(entries: Any) -> Any:
            return {k: v for k, v in entries.items() if v is not None} if isinstance(entries, dict) else entries

        return core_schema.no_info_before_validator_function(kept, handler(kind))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        found = handler(schema)
        return found | {"additionalProperties": {"anyOf": [found["additionalProperties"], {"type": "null"}]}}


Named = Annotated[dict[Annotated[str, Field(min_length=1)], T], _WithoutNulls()]
"""Entries by name; one of null takes back that of a file below."""
Tuple = Annotated[T, Strict(False)]
"""A tuple, which YAML writes as a list."""

S = TypeVar("S", bound=BaseModel)


def checked(kind: type[S], values: Any, place: str = "") -> S:
    """`values` as a `kind`.

    Args:
        kind: the section.
        values: a parsed part of a config.
        place: where it stands in the config, such as "weights.clip.recipe"; "" for the whole config.

    Raises:
        InputError: the violation nearest the top, with key, value, what is allowed and the nearest match.
    """
    try:
        return kind.model_validate(values)
    except Violation as violation:
        errors = sorted(violation.errors(include_url=False), key=lambda error: len(error["loc"]))
        raise InputError(_sentence(errors[0], values, place)) from None


def joined(place: str, parts: Iterable[Any]) -> str:
    """`place` followed by keys and positions: ("bench", ["path", 0]) is bench.path[0]."""
    for part in parts:
        place += f"[{part}]" if isinstance(part, int) else f".{part}" if place else str(part)
    return place


def _location(error: Any, values: Any) -> list[Any]:
    """The keys and positions that lead to the violation; pydantic also names the `source` by which it told models."""
    parts, passed = [], False
    for part in error["loc"]:
        if not passed and isinstance(values, Mapping) and values.get("source") == part:
            passed = True
            continue
        try:
            values, passed = values[part], False
        except (KeyError, IndexError, TypeError):
            continue
        parts.append(part)
    return parts


def _sentence(error: Any, values: Any, place: str) -> str:
    """What is wrong, what is allowed and the nearest match, for one of pydantic's errors."""
    context, parts, value = error.get("ctx", {}), _location(error, values), error["input"]
    where = joined(place, parts) or "the config"
    if error["type"] == UNKNOWN:
        key, known = context["key"], context["known"]
        allowed = ", ".join(known) or "none"
        return f"unknown config key {joined(place, [*parts, key])}{nearest(key, known)}; allowed: {allowed}"
    if error["type"] in (MISSING, "union_tag_not_found"):
        key = context.get("key") or context["discriminator"].strip("'")
        return f"config key {joined(place, [*parts, key])} is missing; every key is required, see docs/configuration.md"
    if error["type"] in ("literal_error", "union_tag_invalid"):
        if error["type"] == "union_tag_invalid":
            where, value = joined(place, [*parts, context["discriminator"].strip("'")]), context["tag"]
        names = re.findall(r"'([^']*)'", context.get("expected_tags") or context["expected"])
        return f"config value {where}: {value!r} is not allowed{nearest(value, names)}; allowed: {', '.join(names)}"
    if error["type"] == "value_error":  # of a validator of ours, which knows best
        return f"config value {where}: {context['error']}"
    problem = error["msg"][:1].lower() + error["msg"][1:]
    return f"config value {where}: {value!r}: {problem.removeprefix('input ')}"
