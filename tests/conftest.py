"""What all tests share: no network, one thread a process, and which tests must stay in one process."""

import os
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when huggingface_hub is imported
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two test processes on two cores; read when torch is imported

WORKFLOW = "tests/workflow/"  # its files share one run of the smoke config


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The workflow goes first: it takes longest."""
    items.sort(key=lambda item: not item.nodeid.startswith(WORKFLOW))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `-n`, each file stays in one process, and all of tests/workflow in one, so that fixtures are made once."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return WORKFLOW if nodeid.startswith(WORKFLOW) else nodeid.split("::")[0]

    config.option.loadscopereorder = False  # keep the order of collection
    return ByFile(config, log)
