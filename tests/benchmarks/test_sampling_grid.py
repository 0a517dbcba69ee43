"""The sampling grid says of every setting what the ground truth does."""

import importlib
import json
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from editclip.data import bench, world
from editclip.editing.cards import parse_method

ROOT = Path(__file__).parents[2]
BENCH = {
    "name": "dev", "resolution": 32, "expect": None, "strict": False, "skip_incomplete": False, "max_pixels": 9999
}  # fmt: skip


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("sampling_grid")


@pytest.fixture
def development(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A benchmark of ten edit types with one sample each."""
    sizes = '{"resolution": 32, "types": 10, "multi_edits": 0, "exemplars": 1, "queries": 1}'
    tree, folder = tmp_path / "tree", tmp_path / "bench"
    made = [world, "bench", "--config", sizes, "--seed", "7", "--out", str(tree)]
    read = [bench, "--root", str(tree), "--config", json.dumps(BENCH), "--out", str(folder)]
    for module, *arguments in (made, read):
        monkeypatch.setattr("sys.argv", [module.__name__, *arguments, "--threads", "1"])
        module.main()
    return folder


def test_a_setting_is_a_line_for_all_edits_and_one_a_family(
    script: ModuleType, development: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for method, closer in (("ground_truth", 1.0), ("copy_query", 0.0)):
        out = tmp_path / f"{method}.csv"
        given = ["--config", str(ROOT / "config" / "micro.yaml"), "--bench", str(development), "--out", str(out)]
        monkeypatch.setattr("sys.argv", ["sampling_grid", method, *given, "--settings", "2", "10/1.5/1.1"])
        script.main()
        lines = pd.read_csv(out)
        assert lines.groupby("setting", sort=False).size().to_dict() == {"2": 11, "10/1.5/1.1": 11}
        assert lines[lines["family"] == "all"]["edits"].tolist() == [10, 10]
        assert (lines["closer"] == closer).all()


def test_what_a_setting_leaves_out_stays(script: ModuleType) -> None:
    options = {"num_inference_steps": 20, "guidance_scale": 7.0, "image_guidance_scale": 1.5}
    entry = {"name": "m", "editor": "baselines.ip2p", "exemplars": "own", "batch_size": 1, "options": options}
    method = parse_method(entry)
    changed = script.with_setting(method, "10/2").options
    assert changed == {**method.options, "num_inference_steps": 10, "guidance_scale": 2.0}
