"""The processes that share one training run."""

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch import Tensor
from torch.distributed.nn.functional import all_gather


def process_state() -> PartialState:
    """This process among those that a launcher has started (or alone), and its device: a GPU or the CPU."""
    return PartialState(cpu=not torch.cuda.is_available())


def gathered(features: Tensor) -> Tensor:
    """The rows of all processes, as many from each, so that each one's are negatives of all others'.

    Gradients flow back to the process a row came from, summed over the processes' equal losses. `loop.fit` averages
    over processes, so the update is that of one process with the whole batch. (The official code lets gradients
    through its own rows only and thus gets 1/processes of it, which Adam cancels but for its epsilon.)
    """
    if process_state().num_processes == 1:
        return features
    return torch.cat(all_gather(features))


def averaged(values: Tensor) -> Tensor:
    """The mean over all processes."""
    return values if process_state().num_processes == 1 else reduce(values, "mean")
