"""Random numbers of a training step that do not depend on how its batch is cut.

Every row of the batch has numbers of its own, the same ones whichever process and microbatch it falls to: each draws
those of the whole batch, from a generator in the same state, and takes its rows.
"""

from typing import Any

import torch
from torch import Tensor


class Draws:
    """The random numbers of some rows of one batch.

    Args:
        generator: on the CPU; what does not belong to single rows is drawn from it directly.
        rows: places in the batch (int64) that are wanted, in their order.
        total: rows of the whole batch.
    """

    def __init__(self, generator: torch.Generator, rows: Tensor, total: int) -> None:
        self.generator, self.rows, self.total = generator, rows, total

    @classmethod
    def whole(cls, generator: torch.Generator, total: int) -> "Draws":
        """Those of a batch that is not cut."""
        return cls(generator, torch.arange(total), total)

    def repeated(self, times: int) -> "Draws":
        """Those of a batch that holds every row `times` times: first all of them once, then all of them again."""
        rows = torch.cat([self.rows + number * self.total for number in range(times)])
        return Draws(self.generator, rows, times * self.total)

    def uniform(self, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1), rows×`shape`."""
        return torch.rand(self.total, *shape, generator=self.generator)[self.rows]

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers, rows×`shape`."""
        return torch.randn(self.total, *shape, generator=self.generator)[self.rows]

    def integers(self, below: int) -> Tensor:
        """Whole numbers (int64) in [0, below), one a row."""
        return torch.randint(below, (self.total,), generator=self.generator)[self.rows]

    def posterior_sample(self, posterior: Any) -> Tensor:
        """A sample, of the mean's shape, of a VAE's posterior of the rows (diffusers' DiagonalGaussianDistribution)."""
        noise = self.normal(*posterior.mean.shape[1:]).to(posterior.mean)
        return posterior.mean + posterior.std * noise
