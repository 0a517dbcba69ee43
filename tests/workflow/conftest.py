"""One run of the smoke config serves all tests of the workflow; a test that changes a file restores it."""

import pytest
from workflow_project import SMOKE, Project, checkout


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A finished smoke run."""
    project = checkout(tmp_path_factory.mktemp("smoke"))
    project.snakemake("--configfile", SMOKE)
    return project
