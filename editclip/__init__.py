"""EditCLIP Bench: train, run and score EditCLIP and its baselines (https://arxiv.org/abs/2503.20318)."""

__version__ = "0.1.0"
