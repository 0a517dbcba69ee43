"""Fixtures of the editing tests: a cache of its own for every test, tiny weights once a session, a toy method."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from editing_toys import EDITOR, write_bench, write_weights

import baselines
from editclip.data.bench import Bench
from editclip.editing import cards

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for every test."""
    monkeypatch.setenv("EDITCLIP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny random weights by role."""
    made = write_weights(tmp_path_factory.mktemp("weights"))
    # The roles with a dot are bound by a config: what editclip_ip2p was trained from.
    return made | {"editclip_ip2p.encoder": made["editclip"], "editclip_ip2p.ip2p": made["ip2p"]}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Three edit types × 2 exemplars × 2 queries."""
    return write_bench(tmp_path / "bench")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A `baselines/` folder of its own, in which a test may put methods."""
    folder = tmp_path / "project" / "baselines"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    monkeypatch.setattr(cards, "ROOT", folder.parent)
    monkeypatch.setattr(baselines, "__path__", [str(folder)])
    known = set(sys.modules)
    yield folder
    for name in set(sys.modules) - known:
        if name.startswith("baselines."):
            del sys.modules[name]


@pytest.fixture
def toy(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The toy method as `baselines.toy`; the file it notes its calls in."""
    (project / "toy.py").write_text(EDITOR)
    monkeypatch.delitem(sys.modules, "baselines.toy", raising=False)
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "calls.txt"))
    return tmp_path / "calls.txt"
