"""A run folder with planted scores, made once a module."""

import shutil
from pathlib import Path

import pytest
from run_folder import write_run


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("planted")
    write_run(run)
    return run


@pytest.fixture
def run(planted: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(planted, tmp_path / "run"))
