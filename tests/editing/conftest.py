"""Fixtures of the editing tests: a cache of its own for every test, tiny weights once a session, a toy method."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from editing_toys import EDITOR, Run, entry, write_bench, write_weights

import baselines
from editclip import storage
from editclip.data.bench import Bench
from editclip.editing import cards
from editclip.editing.cards import parse_method
from editclip.editing.edits import edit, gather
from editclip.editing.planned import plan
from editclip.editing.prepared import prepare
from editclip.editing.work import Work

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


@pytest.fixture
def planner(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The method of three stages as `baselines.planner`; the file it notes its calls in."""
    shutil.copy(Path(__file__).parents[1] / "three_stages.py", project / "planner.py")
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "calls.txt"))
    return tmp_path / "calls.txt"


@pytest.fixture
def run(bench: Bench, tmp_path: Path) -> Run:
    """`run(name, shards=…, order=…, **entry)` prepares, edits and gathers; gives the gathered folder."""

    def run(
        name: str, editor: str = "baselines.toy", shards: int = 1, bench: Bench = bench, seed: int = 0, **changes: Any
    ) -> Path:
        work = Work(parse_method(entry(editor, **changes)), bench, {}, 5, "cpu")
        folder = tmp_path / name
        prepared = [folder / "prepared" / str(k) for k in range(shards) if "prepare" in work.method.card.stages]
        for k, place in enumerate(prepared):
            place.mkdir(parents=True)
            prepare(work, (k, shards), place)
        for k in range(shards):
            planned = [folder / "planned" / str(k)] if "plan" in work.method.card.stages else []
            for place in planned:
                with storage.atomic_folder(place) as out:
                    plan(work, prepared, (k, shards), out)
            with storage.atomic_folder(folder / "shards" / str(k)) as out:
                edit(work, prepared, planned, seed, (k, shards), out)
        with storage.atomic_folder(folder / "edits") as out:
            gather(bench, [folder / "shards" / str(k) for k in range(shards)], out)
        return folder / "edits"

    return run
