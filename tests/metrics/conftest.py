"""Fixtures of the metric tests: weights once a session, a cache and a benchmark of its own for every test."""

from collections.abc import Callable
from pathlib import Path

import pytest
from metric_toys import write_bench, write_clip

from editclip.data.bench import Bench
from editclip.metrics.scores import Setting


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for every test."""
    monkeypatch.setenv("EDITCLIP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Plain CLIP."""
    return write_clip(tmp_path_factory.mktemp("weights") / "clip", 3, seed=1)


@pytest.fixture(scope="session")
def editclip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """EditCLIP: six channels."""
    return write_clip(tmp_path_factory.mktemp("weights") / "editclip", 6, seed=2)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """The benchmark with all texts, ground truths and masks."""
    return write_bench(tmp_path / "bench")


@pytest.fixture
def setting(bench: Bench, clip_folder: Path, editclip_folder: Path) -> Callable[..., Setting]:
    """`setting(config)`: what a family is built from, on the CPU."""
    weights = {"clip": clip_folder, "editclip": editclip_folder}
    return lambda config, bench=bench: Setting(config, bench, weights, batch_size=4, device="cpu")
