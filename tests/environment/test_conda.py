"""`--use-conda` on a machine without conda says what to do, before anything is run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_use_conda_without_conda_stops_with_one_sentence(tmp_path: Path) -> None:
    path = os.defpath
    if shutil.which("conda", path=path):
        pytest.skip(f"conda lies in {path}")
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", tmp_path]
    command += ["--cores", "1", "--use-conda", "--configfile", ROOT / "config" / "smoke.yaml"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PATH": path}, capture_output=True, text=True)
    said = [line for line in (done.stdout + done.stderr).splitlines() if "profile" not in line]
    assert done.returncode == 1
    assert len(said) == 1, said
    assert said[0].startswith("error: ") and "conda" in said[0] and "launcher.yml" in said[0]
    assert not (tmp_path / "results").exists()
