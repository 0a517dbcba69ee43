"""What all tests share: no network, one thread a process, which tests must stay in one process, optional real images.

The environment variable EDITCLIP_TEST_DATA names the folder of the optional real images; without it that is
`../shared/data` beside the checkout. Tests that need images which are not there are skipped.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when huggingface_hub is imported
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two test processes on two cores; read when torch is imported

WORKFLOW = "tests/workflow/"  # its files share one run of the smoke config, but for:
APART = (f"{WORKFLOW}test_foundations.py",)


@pytest.fixture(scope="session")
def real_images() -> Callable[[str], Path]:
    """`real_images(name)`: that folder of the optional real images; skips the test where it is absent."""
    root = os.environ.get("EDITCLIP_TEST_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data"

    def folder(name: str) -> Path:
        if not (Path(root) / name).is_dir():
            pytest.skip(f"optional real images {name} are not in {root} (EDITCLIP_TEST_DATA)")
        return Path(root) / name

    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The workflow goes first: it takes longest."""
    items.sort(key=lambda item: not item.nodeid.startswith(WORKFLOW))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `-n`, each file stays in one process, and those that share the smoke run in one, so that it is made once."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::")[0]
            return WORKFLOW if file.startswith(WORKFLOW) and file not in APART else file

    config.option.loadscopereorder = False  # keep the order of collection
    return ByFile(config, log)
