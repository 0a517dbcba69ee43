"""The lock, environment.yml, launcher.yml and pyproject.toml agree; environment.yml alone can run a compute rule."""

import importlib.metadata
import json
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
UV = Path(sys.executable).with_name("uv")
FILES = ("environment.yml", "launcher.yml")


@pytest.fixture(scope="module")
def lock_text() -> str:
    return (ROOT / "requirements.lock").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def lock(lock_text: str) -> dict[str, list[Requirement]]:
    """Pins of the lock by canonical name: one, or one for each range of Python versions."""
    pins: dict[str, list[Requirement]] = {}
    for line in lock_text.splitlines():
        if line[:1].isalnum():
            pin = Requirement(line.removesuffix("\\"))
            pins.setdefault(canonicalize_name(pin.name), []).append(pin)
    return pins


@pytest.fixture(scope="module")
def project() -> dict[str, list[Requirement]]:
    """Direct dependencies of pyproject.toml: `run` and `dev`."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = {"run": table["project"]["dependencies"], "dev": table["dependency-groups"]["dev"]}
    return {group: [Requirement(line) for line in lines] for group, lines in groups.items()}


def pip_block(file: str) -> list[str]:
    """The pip requirements of an environment file, as they stand there."""
    environment = yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))
    (block,) = (entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    return list(block)


def installed_closure(roots: list[Requirement]) -> set[str]:
    """Canonical names of all that `roots` need on this machine, as the installed packages' own metadata have it."""
    pending = [(canonicalize_name(root.name), frozenset(root.extras)) for root in roots]
    seen: set[tuple[str, frozenset[str]]] = set()
    while pending:
        name, extras = node = pending.pop()
        if node in seen:
            continue
        seen.add(node)
        for line in importlib.metadata.requires(name) or []:
            need = Requirement(line)
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                pending.append((canonicalize_name(need.name), frozenset(need.extras)))
    return {name for name, _ in seen}


def test_every_direct_dependency_is_locked_within_its_range(
    project: dict[str, list[Requirement]], lock: dict[str, list[Requirement]]
) -> None:
    for need in project["run"] + project["dev"]:
        pins = lock.get(canonicalize_name(need.name), [])
        assert pins, f"{need.name} is not in requirements.lock: run `make lock`"
        for pin in pins:
            (exact,) = pin.specifier
            assert exact.operator == "==", pin
            assert need.specifier.contains(exact.version), f"{pin} is outside {need}: run `make lock`"


def test_every_lock_entry_has_hashes_and_names_no_host(lock_text: str) -> None:
    entries = re.split(r"\n(?=[a-z0-9])", lock_text)[1:]  # [0] is the header
    assert len(entries) > 100
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert re.findall(r"\S*(?:://|--index|--find-links|-i |@ )\S*", lock_text) == []
    header = lock_text[: lock_text.index(entries[0])]
    assert "/" not in header, f"a path in the lock's header: {header}"


@pytest.mark.parametrize("file", FILES)
def test_conda_forge_and_python_are_all_that_conda_is_asked_for(file: str) -> None:
    # conda >= 26.7 fails at a channel `nodefaults`; conda as a dependency would bring 45 packages, whose own
    # dependencies pip's pins overwrite
    environment = yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))
    assert environment["channels"] == ["conda-forge"]
    asked = [entry.split()[0] for entry in environment["dependencies"] if isinstance(entry, str)]
    assert asked == ["python", "pip"]


@pytest.mark.parametrize("file", FILES)
def test_environment_pins_are_the_locks(file: str, lock: dict[str, list[Requirement]]) -> None:
    locked = {str(pin) for pins in lock.values() for pin in pins}
    assert [line for line in pip_block(file) if str(Requirement(line)) not in locked] == []


@pytest.mark.parametrize("file", FILES)
def test_environment_holds_all_that_is_needed_and_no_tools(
    file: str, project: dict[str, list[Requirement]], lock: dict[str, list[Requirement]]
) -> None:
    listed = [canonicalize_name(Requirement(line).name) for line in pip_block(file)]
    needed = installed_closure(project["run"] if file == "environment.yml" else [Requirement("snakemake")])
    assert needed - set(listed) == set()
    for name in set(listed):
        assert listed.count(name) == len(lock[name]), f"{name}: a pin for some Python versions is missing"
    tools = {canonicalize_name(need.name) for need in project["dev"]} - needed
    assert {"pytest", "ruff", "mypy", "uv"} <= tools
    assert tools & set(listed) == set()


def test_make_lock_would_leave_the_environment_files_as_they_are(lock_text: str) -> None:
    script = runpy.run_path(str(ROOT / "workflow" / "scripts" / "lock_environment.py"))
    assert set(script["ENVIRONMENTS"]) == set(FILES)
    for file, root in script["ENVIRONMENTS"].items():
        committed = (ROOT / file).read_text(encoding="utf-8")
        assert script["with_pins"](ROOT / file, script["pins_for"](root, lock_text)) == committed


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment that holds environment.yml's pip block and nothing else."""
    if not UV.exists():
        pytest.skip(f"no uv beside {sys.executable}: the tests were not started by `make test`")
    folder = tmp_path_factory.mktemp("environment")
    (folder / "pip.txt").write_text("\n".join(pip_block("environment.yml")), encoding="utf-8")
    python = folder / "venv" / "bin" / "python"
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, folder / "venv"], check=True)
    install = [UV, "pip", "install", "--offline", "--no-deps", "--link-mode", "hardlink", "--python", python]
    done = subprocess.run([*install, "-r", folder / "pip.txt"], capture_output=True, text=True)
    if done.returncode and "network was disabled" in done.stderr.lower():
        pytest.skip(f"uv's cache lacks a package of environment.yml: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return python


def test_pip_block_is_complete(bare_python: Path) -> None:
    check = subprocess.run([UV, "pip", "check", "--python", bare_python], capture_output=True, text=True)
    assert check.returncode == 0, check.stderr


def test_pip_block_alone_runs_a_compute_rule(bare_python: Path, tmp_path: Path) -> None:
    config = {"resolution": 32, "train": 8, "validation": 4, "test": 2}
    command = [bare_python, "-m", "editclip.data.world", "triplets", "--config", json.dumps(config), "--seed", "1"]
    command += ["--threads", "1", "--out", tmp_path / "triplets"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "triplets").glob("train-*.parquet"))
    provenance = json.loads((tmp_path / "triplets" / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["config"] == config
