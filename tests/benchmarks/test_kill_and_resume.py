"""The comparison behind the resume benchmark sees what it must, and only that."""

import importlib.util
import os
import random
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "kill_and_resume.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kill_and_resume", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_times_are_not_compared_and_all_else_is(script: ModuleType, tmp_path: Path) -> None:
    def table(text: str) -> Path:
        (tmp_path / "table.csv").write_text(text)
        return tmp_path / "table.csv"

    first = script.content(table("sample_id,seconds,sha256\na,1.5,x\n"))
    assert script.content(table("sample_id,seconds,sha256\na,2.5,x\n")) == first
    assert script.content(table("sample_id,seconds,sha256\na,1.5,y\n")) != first
    means = script.content(table("method,metric,mean\nm,runtime_s,1\nm,ec2ec,0.5\n"))
    assert script.content(table("method,metric,mean\nm,runtime_s,2\nm,ec2ec,0.5\n")) == means
    assert script.content(table("method,metric,mean\nm,runtime_s,1\nm,ec2ec,0.6\n")) != means


def test_every_weight_image_and_table_is_compared(script: ModuleType, tmp_path: Path) -> None:
    compared = ["weights/clip/model.safetensors", "edits/m/seed=0/a.png", "scores/m/clip/seed=0.csv"]
    names = [*compared, "runtime/m/runtime.csv", "weights/clip/provenance.json"]
    for name in names:
        (tmp_path / "results" / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "results" / "run" / name).touch()
    assert set(script.artefacts(tmp_path)) == {f"results/run/{name}" for name in compared}


def test_kills_meet_each_kind_of_job_while_it_runs(script: ModuleType) -> None:
    rules = ["bench", "train_clip", "train_vae", "prepare", "edit", "time_edits", "score", "notebook", "publish"]
    jobs = [script.Job(f"job {i}", started=10.0 * i, rule=rule, finished=10.0 * i + 8) for i, rule in enumerate(rules)]
    kills = script.plan(jobs, 8, random.Random(0))
    assert [kill.rule for kill in kills] == rules[:8]
    assert all(2 <= kill.delay <= 8 for kill in kills)
    assert {kill.rule[:5] for kill in script.plan(jobs, 3, random.Random(1))} == {"train", "edit", "score"}
    assert script.plan(jobs, 8, random.Random(0)) == kills


def test_an_item_made_anew_is_seen(script: ModuleType, tmp_path: Path) -> None:
    image = tmp_path / ".cache" / "edits" / "key" / "a.png"
    image.parent.mkdir(parents=True)
    image.touch()
    (image.parent / ".b.half.png").touch()
    before = script.finished_items(tmp_path)
    assert list(before) == [str(image)]
    os.utime(image, ns=(1, 1))
    assert script.finished_items(tmp_path) != before
