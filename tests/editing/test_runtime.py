"""The runtime stage: what is timed and what is not."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
from editing_toys import entry, write_bench

from editclip.data.bench import Bench
from editclip.editing import runtime
from editclip.editing.cards import parse_method
from editclip.editing.edits import edit
from editclip.editing.prepared import prepare
from editclip.editing.work import Work


def timed(
    bench: Bench, out: Path, samples: int = 3, warm_up: int = 0, repeats: int = 1, **changes: object
) -> list[dict[str, str]]:
    out.mkdir(exist_ok=True)
    work = Work(parse_method(entry(**{"editor": "baselines.toy"} | changes)), bench, {}, 5, "cpu")
    runtime.measure(work, samples, warm_up, repeats, out)
    with open(out / "runtime.csv", newline="") as file:
        return list(csv.DictReader(file))


CLOCK = [0.0]


def test_preparation_and_edit_are_timed_apart(
    bench: Bench, toy: Path, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a clock that one preparation moves by 3 seconds and one edit by 0.5."""
    text = (project / "toy.py").read_text().replace('note("prepare "', 'CLOCK[0] += 3.0; note("prepare "')
    text = text.replace('note("edit")', 'CLOCK[0] += 0.5; note("edit")')
    (project / "toy.py").write_text(text.replace("import os\n", f"import os\nfrom {__name__} import CLOCK\n"))
    monkeypatch.setattr(runtime.time, "perf_counter", lambda: CLOCK[0])
    for row in timed(bench, tmp_path / "out"):
        assert (float(row["prepare_seconds"]), float(row["edit_seconds"])) == (3.0, 0.5)
        assert row["exemplar_queries"] == "2" and row["status"] == "ok"


def test_each_edit_is_made_alone_and_prepared_anew_after_the_warm_up(bench: Bench, toy: Path, tmp_path: Path) -> None:
    rows = timed(bench, tmp_path / "out", samples=3, warm_up=2, batch_size=4)
    # every fourth of 12 samples (3 types × 2 exemplars × 2 queries); the first of them warms up twice
    chosen = [bench.samples[index] for index in (0, 4, 8)]
    assert [row["sample_id"] for row in rows] == [sample.sample_id for sample in chosen]
    exemplars = [sample.exemplar_id for sample in [chosen[0], chosen[0], *chosen]]
    assert toy.read_text().splitlines() == [*(f"prepare {e}" for e in exemplars), *["edit"] * 5]


def test_stages_are_timed_one_after_the_other(
    bench: Bench, planner: Path, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is loaded once, when the one before it is done, and counted by itself."""
    text = (project / "planner.py").read_text().replace("import os\n", f"import os\nfrom {__name__} import CLOCK\n")
    text = text.replace('note("prepare")', 'CLOCK[0] += 3.0; note("prepare")')
    text = text.replace('note(f"plan', 'CLOCK[0] += 7.0; note(f"plan')
    (project / "planner.py").write_text(text)
    monkeypatch.setattr(runtime.time, "perf_counter", lambda: CLOCK[0])
    rows = timed(bench, tmp_path / "out", samples=2, editor="baselines.planner")
    names = ("prepare_seconds", "plan_seconds", "edit_seconds")
    assert [[float(row[name]) for name in names] for row in rows] == [[3.0, 7.0, 0.0]] * 2
    stages = [line.split()[0] for line in planner.read_text().splitlines()]
    assert stages == [call for stage in ("prepare", "plan", "edit") for call in ("load", stage, stage)]


def test_all_samples_are_repeated_one_round_after_the_other_beside_the_load(
    bench: Bench, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime.os, "getloadavg", lambda: (1.257, 9.0, 9.0))
    monkeypatch.setattr(runtime.os, "cpu_count", lambda: 2)
    rows = timed(bench, tmp_path / "out", samples=2, repeats=3)
    chosen = [bench.samples[index].sample_id for index in (0, 6)]
    assert [(row["sample_id"], row["repeat"]) for row in rows] == [(s, str(r)) for r in range(3) for s in chosen]
    assert {(row["load"], row["cores"]) for row in rows} == {("1.26", "2")}


def test_nothing_is_read_from_the_cache_or_left_in_it(bench: Bench, toy: Path, cache: Path, tmp_path: Path) -> None:
    work = Work(parse_method(entry("baselines.toy")), bench, {}, 5, "cpu")
    for name in ("prepared", "edits"):
        (tmp_path / name).mkdir()
    prepare(work, (0, 1), tmp_path / "prepared")
    edit(work, [tmp_path / "prepared"], [], 0, (0, 1), tmp_path / "edits")
    before, calls = sorted(cache.rglob("*")), len(toy.read_text().splitlines())
    timed(bench, tmp_path / "out", samples=2)
    assert len(toy.read_text().splitlines()) == calls + 4
    assert sorted(cache.rglob("*")) == before


def test_a_failure_is_recorded_and_the_rest_are_timed(
    bench: Bench, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_BAD", "make it red")
    rows = timed(bench, tmp_path / "out", samples=12)
    assert [row["status"] for row in rows] == ["failed"] * 4 + ["ok"] * 8
    assert rows[0]["reason"] == "RuntimeError: cannot edit" and rows[0]["edit_seconds"] == ""


def test_a_benchmark_without_the_methods_inputs_times_nothing(toy: Path, tmp_path: Path) -> None:
    bench = write_bench(tmp_path / "silent", change=lambda index, row: row.update(instruction=""))
    assert timed(bench, tmp_path / "out") == []


def test_command_line(bench: Bench, tmp_path: Path) -> None:
    method = '{"name": "copy", "editor": "baselines.copy_query", "exemplars": "own", "batch_size": 1, "options": {}}'
    command = [sys.executable, "-m", "editclip.editing.runtime", "--method", method, "--bench", str(bench.folder)]
    command += ["--base-seed", "1", "--samples", "2", "--warm-up", "1", "--repeats", "1", "--threads", "1"]
    command += ["--out", str(tmp_path / "r")]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2], capture_output=True)
    assert {path.name for path in (tmp_path / "r").iterdir()} == {"runtime.csv", "provenance.json"}
