"""The run's configuration, checked before any job: a wrong key or value is one sentence with the nearest match."""

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from editclip.errors import InputError, nearest


def _place(error: jsonschema.ValidationError, key: str | None = None) -> str:
    parts: list[str] = []
    for part in [*error.absolute_path, *([key] if key else [])]:
        parts.append(f"[{part}]" if isinstance(part, int) else f".{part}" if parts else str(part))
    return "".join(parts) or "the config"


def _sentence(error: jsonschema.ValidationError) -> str:
    """What is wrong, what is allowed and the nearest match, for one schema violation."""
    if error.validator == "additionalProperties":
        allowed = sorted(error.schema["properties"])
        unknown = next(key for key in error.instance if key not in allowed)
        return f"unknown config key {_place(error, unknown)}{nearest(unknown, allowed)}; allowed: {', '.join(allowed)}"
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in error.instance)
        return f"config key {_place(error, missing)} is missing; every key is required, see config/micro.yaml"
    if error.validator == "enum":
        allowed = [str(value) for value in error.validator_value]
        return (
            f"config value {_place(error)}: {error.instance!r} is not allowed"
            f"{nearest(error.instance, allowed)}; allowed: {', '.join(allowed)}"
        )
    if error.validator == "type":
        types = error.validator_value
        wanted = types if isinstance(types, str) else " or ".join(types)
        return f"config value {_place(error)}: {error.instance!r} should be of type {wanted}"
    return f"config value {_place(error)}: {error.message}"


@functools.cache
def _validator(schema: Path) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(yaml.safe_load(schema.read_text(encoding="utf-8")))


def checked_config(config: Mapping[str, Any], schema: str | Path) -> dict[str, Any]:
    """`config` itself when it satisfies the schema and names every method once.

    Raises:
        InputError: the violation nearest the top of the file, with key, value, what is allowed and the nearest match.
    """
    violations = sorted(_validator(Path(schema)).iter_errors(config), key=lambda e: (len(e.absolute_path), str(e.path)))
    if violations:
        raise InputError(_sentence(violations[0]))
    names = [method["name"] for method in config["methods"]]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f'config value methods: the name "{name}" stands {names.count(name)} times; rename one')
    return dict(config)


def check_weights(config: Mapping[str, Any], needed: Mapping[str, Iterable[str]]) -> None:
    """Check that every set of weights that is asked for can be had.

    Args:
        config: the checked config.
        needed: names of weights by who needs them, e.g. "method ip2p".

    Raises:
        InputError: somebody needs weights that the config does not name, declares as none, looks for where there is no
            folder, or would take from a hub at no particular revision.
    """
    for who, names in needed.items():
        for name in names:
            source = config["weights"].get(name)
            if source is None:
                known = config["weights"]
                raise InputError(f'{who} needs the weights "{name}"{nearest(name, known)}; known: {", ".join(known)}')
            if source["source"] == "none":
                raise InputError(f"{who} needs weights.{name}, which the config declares as none")
            if source["source"] == "path" and not Path(source["path"]).is_dir():
                raise InputError(f"config value weights.{name}.path: {source['path']} is not a folder")
            if source["source"] == "hub" and source["revision"] is None and not config["run"]["allow_unpinned"]:
                raise InputError(
                    f"config value weights.{name}.revision is null: pin {source['repo']} to a 40-character commit, "
                    "or set run.allow_unpinned to true to take whatever the hub has today"
                )
