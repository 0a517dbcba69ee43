"""Fixtures of the metric tests: weights once a session, a cache and a benchmark of its own for every test."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kept_trunks import link_trunks
from metric_toys import METRICS, write_bench, write_clip, write_edits

from editclip.config.metrics import LPIPS, Clip, EditClip, GroundTruth
from editclip.config.section import checked
from editclip.data.bench import Bench
from editclip.metrics import scoring
from editclip.metrics.scores import Setting


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for every test, with the trunks of LPIPS."""
    monkeypatch.setenv("EDITCLIP_CACHE", str(tmp_path / "cache"))
    return link_trunks(tmp_path / "cache")


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
    """`setting(config)`: what a family is built from, on the CPU; `config` is the family's section as a dict."""
    weights = {"clip": clip_folder, "editclip": editclip_folder}

    def build(config: dict[str, Any], bench: Bench = bench) -> Setting:
        section = next(s for s in (LPIPS, Clip, EditClip, GroundTruth) if set(s.model_fields) == set(config))
        return Setting(checked(section, config, "metrics"), bench, weights, batch_size=4, device="cpu")

    return build


@pytest.fixture
def score(bench: Bench, edits: Path, tmp_path: Path, clip_folder: Path, editclip_folder: Path) -> Callable[..., Path]:
    """`score()` runs the stage on the edits; its output folder.

    Arguments: `metrics`, the config's section; `seeds`; `weights` and `shard`, as on the command line; `out`.
    """
    folders = (f"clip={clip_folder}", f"editclip={editclip_folder}")

    def run(
        metrics: dict[str, Any] = METRICS,
        seeds: tuple[int, ...] = (0, 1),
        weights: tuple[str, ...] = folders,
        out: str = "scores",
        shard: str = "0-of-1",
    ) -> Path:
        scoring.main(
            ["--metrics", json.dumps(metrics), "--bench", str(bench.folder), "--edits", str(edits), "--method", "mine",
             "--seeds", *map(str, seeds), "--weights", *weights, "--shard", shard, "--threads", "1",
             "--out", str(tmp_path / out)]
        )  # fmt: skip
        return tmp_path / out

    return run


@pytest.fixture
def edits(bench: Bench, tmp_path: Path) -> Path:
    """Two seeds of a method."""
    write_edits(tmp_path / "edits", bench, seed=0)
    return write_edits(tmp_path / "edits", bench, seed=1)
