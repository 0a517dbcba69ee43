"""The whole config of a run, checked before any job: what is wrong is one sentence with the key's path."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from editclip.config.bench import Bench
from editclip.config.bindings import bound_methods, bound_weights, check_names
from editclip.config.claims import Claims
from editclip.config.methods import MethodEntry
from editclip.config.metrics import Attention, Metrics, Representation, Retrieval
from editclip.config.reading import merged, read_whole, with_likes_resolved
from editclip.config.resources import Resources
from editclip.config.run import Run, Runtime, Statistics
from editclip.config.section import Name, Section, checked
from editclip.config.studies import Study
from editclip.config.tables import TableDeclaration
from editclip.config.triplets import Triplets
from editclip.config.weights import TrainedWeights, Weights
from editclip.errors import InputError
from editclip.recipes.kinds import read_kind


class Config(Section):
    """A run is exactly what its config says."""

    run: Run
    statistics: Statistics
    triplets: Triplets
    bench: Bench
    weights: dict[Name, Weights]
    """name: entry"""
    methods: dict[Name, MethodEntry]
    """name: entry"""
    tables: dict[Name, TableDeclaration]
    """name: entry; each becomes results/<name>.csv"""
    studies: dict[Name, Study]
    """name: entry; comparisons of edits, for people or an oracle to vote on; {} = none"""
    claims: Claims | None
    """null = the run is not held against the paper's claims"""
    runtime: Runtime
    resources: Resources
    metrics: Metrics
    representation: Representation | None
    """null = not measured"""
    attention: dict[Name, Attention] | None
    """weights of an edit encoder: entry; null = not measured"""
    retrieval: Retrieval | None
    """null = not made; needs `representation`, whose features it reads"""


def checked_config(values: Mapping[str, Any]) -> Config:
    """A parsed config with `like` and all bindings resolved and every recipe and option checked.

    Args:
        values: the mapping that the config files say together.

    Raises:
        InputError: the violation nearest the top, with key, value, what is allowed and the nearest match.
    """
    config = checked(Config, with_likes_resolved(values))
    weights = {name: _with_recipe(name, entry) for name, entry in bound_weights(config.weights).items()}
    config = config.model_copy(update={"weights": weights, "methods": bound_methods(config.methods, weights)})
    check_names(config)
    return config


def read_config(*paths: str | Path, change: Mapping[str, Any] | None = None) -> Config:
    """The config that one file holds, or a file with overlays.

    Args:
        paths: the files; each changes what those before it say.
        change: what changes all of them, such as `--config` of the command line.

    Raises:
        InputError: a file cannot be read, or together they make no config.
    """
    return checked_config(functools.reduce(merged, [*map(read_whole, paths), dict(change or {})]))


def _with_recipe(name: str, entry: Weights) -> Weights:
    """A trained entry with its recipe checked by the kind, numbers and all; other entries as they are."""
    if not isinstance(entry, TrainedWeights):
        return entry
    kind = read_kind(entry.kind)
    if kind.recipe is None:
        raise InputError(f"config value weights.{name}.source: {kind.name} cannot be trained here; use path or hub")
    recipe = checked(kind.recipe, entry.recipe, f"weights.{name}.recipe")
    return entry.model_copy(update={"recipe": recipe.model_dump(mode="json")})
