"""The code digest follows imports, and provenance says what made an artefact."""

import ast
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import editclip
from editclip.provenance import ROOT, code_digest, import_closure, write_provenance


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
    (tree / "editclip/data/bench.py").write_text("import csv\n")
    import_closure.cache_clear()
    after = {m: code_digest(m, root=tree) for m in modules}
    assert [m for m in modules if before[m] != after[m]] == ["editclip.loop", "editclip.score"]


SOURCE = '''"""A method."""

import math

LABEL = "Mine"
PAPER = ""
LICENSE = "MIT"
GPU_GB = 8
TRAINED_ON: tuple[str, ...] = ("a",)
LOSS = "loss"
NEEDS = ("exemplar",)
OPTIONS = {"steps": 10}


class Recipe:
    """A recipe."""

    rate: float = 1e-3
    """Learning rate."""


def edit(scale: float = 7.5, *, text: str = "a"):
    """Edit."""
    if scale > 1:
        return [scale * math.pi, f"{text!r} of {scale:.2f}", {**OPTIONS, "text": text}]
    return None
'''
SAME = {
    "comment": ("import math", "import math  # the library\n# of numbers"),
    "docstring of the module": ('"""A method."""', '"""Another."""'),
    "no docstring": ('    """A recipe."""\n', ""),
    "docstring of a function": ('"""Edit."""', '"""Edit.\n\n    At length.\n    """'),
    "docstring of an attribute": ('"""Learning rate."""', '"""Learning rate of the optimiser."""'),
    "formatting": ('(scale: float = 7.5, *, text: str = "a")', "(\n    scale : float=7.50, *,\n  text: str='a',\n)"),
    "string in two parts": ('text: str = "a"', 'text: str = "" "a"'),
    "LABEL": ('"Mine"', '"Yours"'),
    "PAPER": ('PAPER = ""', 'PAPER = "https://example.org"'),
    "LICENSE": ('"MIT"', '"BSD"'),
    "GPU_GB": ("GPU_GB = 8", "GPU_GB = 9.5"),
    "TRAINED_ON": ('("a",)', '("a", "b")'),
    "LOSS": ('LOSS = "loss"', 'LOSS = "error"'),
    "no LOSS": ('LOSS = "loss"\n', ""),
}
OTHER = {
    "NEEDS": ('("exemplar",)', "()"),
    "OPTIONS": ('"steps": 10', '"steps": 11'),
    "type of a constant": ('"steps": 10', '"steps": 10.0'),
    "annotated constant": ("1e-3", "1e-4"),
    "default": ("7.5", "8"),
    "operator": ("scale > 1", "scale >= 1"),
    "name": ("math.pi", "math.e"),
    "conversion": ("!r", "!s"),
    "format": (":.2f", ":.3f"),
    "text": ('"text": text', '"texts": text'),
    "unpacking": ("{**OPTIONS", "{None: OPTIONS"),
    "order": ("scale * math.pi", "math.pi * scale"),
    "indentation": ("    return None", "        return None"),
    "keyword only": (" *,", ""),
    "LABEL that is computed": ('"Mine"', "math.factorial(3)"),
    "LABEL of a class": ("rate: float", 'LABEL = "Mine"\n    rate: float'),
}


def digest_of(folder: Path, source: str) -> str:
    (folder / "editclip").mkdir(parents=True)
    (folder / "editclip" / "method.py").write_text(source)
    return code_digest("editclip.method", root=folder)


@pytest.mark.parametrize("change", SAME)
def test_what_computes_nothing_leaves_the_digest(tmp_path: Path, change: str) -> None:
    assert SAME[change][0] in SOURCE
    assert digest_of(tmp_path / "new", SOURCE.replace(*SAME[change])) == digest_of(tmp_path / "old", SOURCE)


@pytest.mark.parametrize("change", OTHER)
def test_what_computes_changes_the_digest(tmp_path: Path, change: str) -> None:
    assert OTHER[change][0] in SOURCE
    assert digest_of(tmp_path / "new", SOURCE.replace(*OTHER[change])) != digest_of(tmp_path / "old", SOURCE)


def test_code_written_anew_from_its_syntax_tree_has_the_same_digest(tmp_path: Path) -> None:
    for package in ("editclip", "baselines"):
        for file in (ROOT / package).rglob("*.py"):
            copy = tmp_path / file.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(ast.unparse(ast.parse(file.read_text())))
    for module in ("editclip.score", "baselines.visii.method", "baselines.prompt_diffusion.training"):
        assert code_digest(module, root=tmp_path) == code_digest(module)


def test_one_file_is_moved_to_another_name(tree: Path) -> None:
    before = code_digest("baselines.mine", root=tree)
    (tree / "baselines/mine.py").rename(tree / "baselines/other.py")
    assert code_digest("baselines.other", root=tree) != before


def test_digest_and_version_where_the_package_is_not_installed() -> None:
    """As in the conda environment: without site-packages there is neither metadata nor an installed copy."""
    modules = ["editclip.score", "baselines.visii.method"]
    code = (
        "import editclip, importlib.metadata as m; from editclip.provenance import code_digest\n"
        "assert not any(d.name == 'editclip-bench' for d in m.distributions())\n"
        f"print(editclip.__version__, *map(code_digest, {modules}))"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert done.stdout.split() == [stated, *map(code_digest, modules)]


def test_the_version_stands_in_one_place_and_in_the_citation() -> None:
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == stated
    done = subprocess.run([sys.executable, "-m", "editclip", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"editclip {stated}\n"
    assert stated not in (ROOT / "editclip" / "__init__.py").read_text()
    with pytest.raises(AttributeError, match="no attribute 'versions'"):
        _ = editclip.versions  # type: ignore[attr-defined]


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
