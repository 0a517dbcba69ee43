"""The fixtures of the editing tests, for the methods in `baselines/`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "editing"))

import pytest
import torch
from editing_toys import write_bench, write_weights

from editclip.data.bench import Bench

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny random weights by name."""
    return write_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Three edit types × 2 exemplars × 2 queries."""
    return write_bench(tmp_path / "bench")
