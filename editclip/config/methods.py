"""Methods: each entry is a row of a table."""

from typing import Any, Literal

from pydantic import Field

from editclip.config.resources import MethodRequest
from editclip.config.run import Seeds
from editclip.config.section import Count, Dotted, Section
from editclip.config.weights import Bindings


class Editing(Section):
    """What decides the images of a method, besides its weights."""

    editor: Dotted
    """the module: editclip.method, or baselines.NAME"""
    exemplars: Literal["own", "shuffled"]
    """own, or shuffled: a control that is fed the exemplar of another edit type"""
    batch_size: Count
    """edits of one call"""
    options: dict[str, Any]
    """the method's own options, checked against its card; those that are left out have the card's defaults"""


class MethodEntry(Editing):
    """One row."""

    weights: Bindings = Field(default_factory=dict)
    """role of the card: name of weights; a role that is not bound means the weights of the same name"""
    seeds: Seeds | None
    """repetitions; null = run.seeds"""
    shards: Count
    """jobs the bench is split into, to edit it and to score the edits"""
    resources: MethodRequest | None = None
    """what the jobs that edit or time ask for; a key that is left out = the section `resources`"""
