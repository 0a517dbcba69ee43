"""Weights: each entry is trained here by a recipe, or taken from a path or a hub."""

from typing import Annotated, Any, Literal

from pydantic import Field

from editclip.config.resources import TrainingRequest
from editclip.config.section import Dotted, Name, Section, Text, Whole

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Bindings = dict[str, Name]


class _Weights(Section):
    kind: Dotted
    """the recipe module that says what such weights are"""
    starts_from: Bindings = Field(default_factory=dict, alias="from")
    """role: name of the weights that a training starts from and its result is used with; a role that is not bound means
    the weights of the same name"""


class TrainedWeights(_Weights):
    """Trained here."""

    source: Literal["train"]
    recipe: dict[str, Any]
    """the keys of the kind's recipe, all of them"""
    seed: Annotated[Whole, Field(lt=2**63)] | None = None
    """of the training; null = run.seed. Trainings that differ in it alone say how much of a result is chance"""
    resources: TrainingRequest = Field(default_factory=TrainingRequest)
    """what the training asks for; a key that is left out = the section `resources`"""


class LocalWeights(_Weights):
    """A folder on this disk."""

    source: Literal["path"]
    path: Text
    """the folder, in the kind's layout or packed by `python -m editclip.packed`"""
    sha256: Sha256 | None
    """its digest, which is checked before any job; null = taken as it is"""


class HubWeights(_Weights):
    """A repository of the model hub."""

    source: Literal["hub"]
    repo: Annotated[str, Field(pattern="^[^/]+/[^/]+$")]
    """owner/name"""
    revision: Annotated[str, Field(pattern="^[0-9a-f]{40}$")] | None
    """the commit; null = not known, refused unless run.allow_unpinned"""
    sha256: Sha256 | None
    """digest of the files; null = taken as they are"""


Weights = Annotated[TrainedWeights | LocalWeights | HubWeights, Field(discriminator="source")]
