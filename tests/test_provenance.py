"""The code digest follows imports, and provenance says what made an artefact."""

import json
from pathlib import Path

import pytest

from editclip.provenance import code_digest, import_closure, write_provenance


def package(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / (name.replace("__dot__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "editclip" / "data").mkdir(parents=True)
    (tmp_path / "baselines").mkdir()
    sources = {
        "editclip/__init__.py": "",
        "editclip/data/__init__.py": "",
        "editclip/data/bench.py": "import json\n",
        "editclip/storage.py": "",
        "editclip/score.py": "def main():\n    from editclip.data.bench import Bench\n",
        "editclip/relative.py": "from .data import bench\nfrom . import storage as s\n",
        "editclip/loop.py": "import editclip.score\n",
        "baselines/__init__.py": "",
        "baselines/mine.py": "from editclip import storage\n",
    }
    for name, text in sources.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def names(root: Path, *modules: str) -> list[str]:
    return [f.relative_to(root).as_posix() for f in import_closure(*modules, root=root)]


def test_closure_follows_functions_relative_imports_and_packages(tree: Path) -> None:
    assert names(tree, "editclip.score") == [
        "editclip/__init__.py",
        "editclip/data/__init__.py",
        "editclip/data/bench.py",
        "editclip/score.py",
    ]
    assert "editclip/data/bench.py" in names(tree, "editclip.relative")
    assert "editclip/storage.py" in names(tree, "editclip.relative")
    assert names(tree, "baselines.mine") == [
        "baselines/__init__.py",
        "baselines/mine.py",
        "editclip/__init__.py",
        "editclip/storage.py",
    ]


def test_digest_changes_exactly_with_the_closure(tree: Path) -> None:
    modules = ["editclip.loop", "editclip.score", "baselines.mine"]
    before = {m: code_digest(m, root=tree) for m in modules}
    (tree / "editclip/data/bench.py").write_text("import json  # edited\n")
    import_closure.cache_clear()
    after = {m: code_digest(m, root=tree) for m in modules}
    assert [m for m in modules if before[m] != after[m]] == ["editclip.loop", "editclip.score"]


def test_unknown_entry_module_is_an_error(tree: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match=r"editclip\.nothing"):
        code_digest("editclip.nothing", root=tree)


def test_provenance_names_code_config_inputs_and_cost(tmp_path: Path) -> None:
    (tmp_path / "input").write_bytes(b"abc")
    path = tmp_path / "provenance.json"
    write_provenance(
        path,
        module="editclip.storage",
        config={"steps": 3},
        inputs={"it": tmp_path / "input"},
        files={"a": "0"},
        seconds=1.5,
        threads=2,
        seed=7,
    )
    found = json.loads(path.read_text())
    assert found["config"] == {"steps": 3} and found["seconds"] == 1.5 and found["threads"] == 2 and found["seed"] == 7
    # SHA-256 of "abc", FIPS 180-2 appendix B.1
    assert found["inputs"]["it"]["sha256"] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert found["code"]["digest"] == code_digest("editclip.storage")
    assert found["peak_memory_mib"] > 0 and "torch" in found["packages"]
