"""One training as a training module is given it: `run(job)` trains and fills `job.out`."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from editclip.errors import InputError, nearest
from editclip.recipes.recipe import Recipe

R = TypeVar("R", bound=Recipe)
T = TypeVar("T")


@dataclass(frozen=True)
class Job(Generic[R]):
    """What is to be trained, and where its files go.

    Attributes:
        recipe: the checked recipe.
        seed: seed of initialisation, batches and noise.
        triplets: folder of the training data.
        weights: folders of what the training starts from, by role (the kind's STARTS_FROM).
        out: folder to fill (temporary; it becomes `--out` when the run succeeds).
        checkpoints: cache folder that belongs to exactly this run (recipe, seed, threads, code and input contents).
    """

    recipe: R
    seed: int
    triplets: Path
    weights: Mapping[str, Path]
    out: Path
    checkpoints: Path

    @property
    def logs(self) -> Path:
        """Folder of the logs inside `out`."""
        return self.out / "logs"


def build(kind: Callable[..., T], config: Mapping[str, Any], **fixed: Any) -> T:
    """`kind(**config, **fixed)`, after checking that `kind` takes every key of `config`.

    Raises:
        InputError: a key that `kind` does not take, or that is given by the training itself.
    """
    known = [name for name in inspect.signature(kind).parameters if name not in fixed]
    for key in config:
        if key not in known:
            name = getattr(kind, "__name__", kind)
            raise InputError(f"{name} takes no key {key!r} here{nearest(key, known)}; its keys: {', '.join(known)}")
    return kind(**config, **fixed)
