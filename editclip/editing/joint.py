"""Making the tensors of a stage that are not in the cache yet, several at a time where the method can."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from tqdm import tqdm

from editclip.editing.work import Finished, reason

if TYPE_CHECKING:
    import torch

LOG = logging.getLogger(__name__)
T = TypeVar("T")  # what a method is given: an exemplar, or a request to plan


@dataclass(frozen=True)
class Maker(Generic[T]):
    """How a loaded method makes the tensors of a stage.

    Attributes:
        alone: makes those of one exemplar or request.
        together: makes those of several, in their order; None if the method takes one at a time.
        batch_size: how many at most.
    """

    alone: "Callable[[T], Mapping[str, torch.Tensor]]"
    together: "Callable[[Sequence[T]], Sequence[Mapping[str, torch.Tensor]]] | None" = None
    batch_size: int = 1

    def batches(self, keys: Mapping[str, str]) -> list[dict[str, str]]:
        """`keys` in parts of the batch size."""
        pairs = list(keys.items())
        return [dict(pairs[first : first + self.batch_size]) for first in range(0, len(pairs), self.batch_size)]

    def attempt(self, asked: Mapping[str, T], title: str) -> "dict[str, Mapping[str, torch.Tensor] | Exception]":
        """Tensors or an exception for each exemplar or sample; those that fail together are tried again one by one.

        Args:
            asked: what the method is given, by exemplar or sample.
            title: of the method and stage, for the log.
        """
        try:
            if len(asked) == 1 or self.together is None:
                return {name: self.alone(given) for name, given in asked.items()}
            made = self.together(list(asked.values()))
            if len(made) != len(asked):
                raise ValueError(f"the method returned {len(made)} results for {len(asked)}")
            return dict(zip(asked, made, strict=True))
        except Exception as error:  # whatever a method raises is its failure on these alone
            LOG.warning("%s of %s failed", title, ", ".join(asked), exc_info=True)
            if len(asked) == 1:
                return dict.fromkeys(asked, error)
        return {name: outcome for name in asked for name, outcome in self.attempt({name: asked[name]}, title).items()}


def make_missing(
    maker: Maker[T], ask: Callable[[str], T], batches: Sequence[Mapping[str, str]], finished: Finished, title: str
) -> dict[str, str]:
    """Make what the cache lacks; a batch of which something is missing is made as a whole, for the same bits.

    Args:
        maker: of the loaded method.
        ask: what the method is given for an exemplar or sample.
        batches: the cache's key by exemplar or sample, of those that are made together.
        finished: the cache.
        title: of the method and stage, for the progress bar and the log.

    Returns:
        The reason by exemplar or sample of those that failed.
    """
    failed: dict[str, str] = {}
    for batch in tqdm(batches, desc=title):
        if all(finished.get(key) for key in batch.values()):
            continue
        asked = {name: ask(name) for name in batch}
        start = time.monotonic()
        outcomes = maker.attempt(asked, title)
        seconds = (time.monotonic() - start) / len(batch)
        for name, outcome in outcomes.items():
            if finished.get(batch[name]) is not None:
                continue  # made before, or another job was faster: that is in use
            if isinstance(outcome, Exception):
                failed[name] = reason(outcome)
            else:
                finished.put_tensors(batch[name], outcome, seconds)
    return failed
