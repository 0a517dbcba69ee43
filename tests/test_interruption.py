"""After a kill the same command goes on; while a run is alive, a second one is refused."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from workflow_project import SMOKE, Project, checkout

TARGET = "results/smoke/triplets"
COMMAND = [sys.executable, "-m", "snakemake", "--cores", "1", TARGET, "--configfile", SMOKE]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return checkout(tmp_path)


@pytest.fixture
def started(project: Project) -> Iterator["subprocess.Popen[bytes]"]:
    """A run, in a process group of its own, that has begun its first job."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(COMMAND, cwd=project.folder, start_new_session=True, **quiet)  # type: ignore[call-overload]
    log, patience = project.folder / "results" / "smoke" / "logs" / "world_triplets.log", time.monotonic() + 100
    while not log.exists() and process.poll() is None and time.monotonic() < patience:
        time.sleep(0.05)
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_the_same_command_goes_on_after_a_kill(project: Project, started: "subprocess.Popen[bytes]") -> None:
    os.killpg(started.pid, signal.SIGKILL)
    started.wait()
    assert list((project.folder / ".snakemake" / "locks").iterdir()), "the kill must leave Snakemake's locks behind"
    assert not (project.folder / TARGET).exists()
    again = project.snakemake(TARGET, "--configfile", SMOKE)
    assert "Drawing the procedural training triplets" in again.stdout + again.stderr
    assert (project.folder / TARGET / "provenance.json").exists()
    assert [path.name for path in (project.folder / TARGET).parent.glob(".triplets*")] == []


def test_a_second_run_is_refused_while_one_is_alive(project: Project, started: "subprocess.Popen[bytes]") -> None:
    os.killpg(started.pid, signal.SIGSTOP)  # alive, and not done before the second has started
    second = project.snakemake(TARGET, "--configfile", SMOKE, check=False)
    os.killpg(started.pid, signal.SIGCONT)
    assert second.returncode != 0 and "LockException" in second.stdout + second.stderr
    assert started.wait() == 0
