"""The processes that share one training run."""

import torch
from accelerate import PartialState


def process_state() -> PartialState:
    """This process among those that `accelerate launch` started (or alone), and its device: a GPU or the CPU."""
    return PartialState(cpu=not torch.cuda.is_available())
