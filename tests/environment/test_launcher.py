"""The conda commands: launcher.yml alone can plan a run, and CI runs what the README says."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
LAUNCHER = yaml.safe_load((ROOT / "launcher.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def launcher_packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of links to the installed packages that launcher.yml names for this machine, and to nothing else."""
    folder = tmp_path_factory.mktemp("launcher")
    (block,) = (entry["pip"] for entry in LAUNCHER["dependencies"] if isinstance(entry, dict))
    for pin in map(Requirement, block):
        if pin.marker is None or pin.marker.evaluate():
            installed = importlib.metadata.distribution(pin.name)
            for name in {file.parts[0] for file in installed.files or []} - {"..", "__pycache__"}:
                (folder / name).symlink_to(installed.locate_file(name))  # fails if two packages share a folder
    return folder


def run_in_launcher(packages: Path, folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run Python in `folder` with the launcher's packages.

    -S leaves out site-packages, with it this project's editable install; -P leaves out the current folder, which the
    command `snakemake` does not search either.
    """
    environment = {**os.environ, "PYTHONPATH": str(packages)}
    command = [sys.executable, "-S", "-P", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("module", ["editclip", "numpy", "pandas", "torch"])
def test_the_launcher_lacks(launcher_packages: Path, tmp_path: Path, module: str) -> None:
    done = run_in_launcher(launcher_packages, tmp_path, "-c", f"import {module}")
    assert done.stderr.endswith(f"ModuleNotFoundError: No module named '{module}'\n")


def test_the_launcher_plans_a_run(launcher_packages: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(ROOT, project, ignore=shutil.ignore_patterns(".*", "results", "tests", "__pycache__"))
    arguments = ["-n", "--configfile", "config/smoke.yaml"]
    done = run_in_launcher(launcher_packages, project, "-m", "snakemake", *arguments)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert re.search(r"^total +\d{2,}$", done.stdout + done.stderr, flags=re.MULTILINE)


def readme_commands() -> list[str]:
    """The lines of the README's block of conda commands, without comments."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    (block,) = (block for block in blocks if "conda " in block)
    return [line.split(" #")[0].strip() for line in block.splitlines()]


def test_the_documented_commands_make_and_activate_the_launcher() -> None:
    create, activate, *calls = readme_commands()
    assert create == "conda env create -f launcher.yml"
    assert activate == f"conda activate {LAUNCHER['name']}"
    assert calls[0] == "snakemake --cores all --use-conda"
    assert all(call.startswith(calls[0]) for call in calls)


def test_ci_runs_the_documented_commands() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "conda.yml").read_text(encoding="utf-8"))
    steps = workflow["jobs"]["smoke"]["steps"]
    create, activate, _, smoke = readme_commands()  # the third is the micro run
    first, second = (step["run"].splitlines() for step in steps if "snakemake" in step.get("run", ""))
    assert [step["run"] for step in steps if "run" in step][0] == create
    assert first == [activate, smoke]
    assert second[0] == activate and second[1].startswith(f"{smoke} ")
    # the action's own way to make an environment accepts files that these commands refuse
    assert all("environment-file" not in step.get("with", {}) for step in steps)
