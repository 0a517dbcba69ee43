"""The plan stage: once a sample for all repetitions, kept like what is prepared, and given to `edit` as it was made."""

import itertools
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from editing_toys import Run, entry, images_of, rows_of, write_bench

from editclip import stage
from editclip.data.bench import Bench
from editclip.editing import edits
from editclip.editing.cards import parse_method
from editclip.editing.edits import edit
from editclip.editing.planned import plan
from editclip.editing.prepared import prepare
from editclip.editing.requests import Requests
from editclip.editing.stored import PLANNED, PREPARED, load_tensors
from editclip.editing.work import Work
from editclip.errors import InputError

PLANNER = "baselines.planner"
TOGETHER = """

class Joint(Planner):
    plan_batch_size = 3

    def plan_many(self, requests):
        note("plans " + " ".join(str(request.seed) for request in requests))
        if any(request.instruction in os.environ.get("TOY_BAD", "-") for request in requests):
            raise RuntimeError("cannot plan these together")
        plans = []
        for request in requests:
            length = len(request.require("instruction"))
            plans.append({"added": request.prepared["change"] * length / 20, "length": torch.tensor(length)})
        return plans[: int(os.environ.get("TOY_PLANS", "3"))]


alone = load


def load(weights, options, device, stage):
    loaded = alone(weights, options, device, stage)
    return Joint() if stage == "plan" else loaded
"""


def calls(log: Path, stage: str) -> list[str]:
    return [line for line in log.read_text().splitlines() if line.split()[0] == stage]


def bad_bench(folder: Path, exemplars: int = 2) -> Bench:
    """A benchmark of two types in which the first sample has the instruction "explode"."""

    def change(index: int, row: dict[str, str]) -> None:
        row["instruction"] = "explode" if index == 0 else row["instruction"]

    return write_bench(folder, {"red": exemplars, "snow": exemplars}, change)


def test_a_sample_is_planned_once_for_all_repetitions(run: Run, bench: Bench, planner: Path) -> None:
    first, second = run("a", PLANNER, shards=2), run("b", PLANNER, seed=1)
    planned = calls(planner, "plan")
    assert len(planned) == len(set(planned)) == 12, "the second repetition takes the first's from the cache"
    assert all(line.endswith("[]") for line in planned), "nothing is planned yet"
    seeds = {line.split()[1] for line in planned} | {line.split()[1] for line in calls(planner, "edit")}
    assert len(seeds) == 12 + 24, "plans and all repetitions have seeds of their own"
    one, other = images_of(first), images_of(second)
    assert all(one[name] != other[name] for name in one)
    assert calls(planner, "load") == [f"load {name}" for name in ("prepare", "plan", "edit", "edit")]


@pytest.mark.parametrize("shards", [1, 5])
def test_a_method_without_exemplars_is_planned_once_a_query(
    run: Run, bench: Bench, planner: Path, project: Path, tmp_path: Path, shards: int
) -> None:
    source = (project / "planner.py").read_text()
    for old, new in (
        ('NEEDS = ("exemplar", "instruction")', 'NEEDS = ("instruction",)'),
        ('STAGES = ("prepare", "plan", "edit")', 'STAGES = ("plan", "edit")'),
        ('request.prepared["change"] * length', "torch.ones(3) * length"),
    ):
        assert old in source
        source = source.replace(old, new)
    (project / "told.py").write_text(source)
    folder = run("told", "baselines.told", shards=shards)
    assert len(calls(planner, "plan")) == len(calls(planner, "edit")) == 6
    images, queries = images_of(folder), {s.sample_id: s.query_id for s in bench.samples}
    assert len(images) == 12 and len({(queries[name], image) for name, image in images.items()}) == 6
    rows = [row for k in range(shards) for row in rows_of(tmp_path / "told" / "planned" / str(k), "planned.csv")]
    assert {row["sample_id"] for row in rows} == set(queries) and {row["status"] for row in rows} == {"ok"}


def test_shards_and_their_order_do_not_matter(
    run: Run, planner: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = images_of(run("reference", PLANNER))
    monkeypatch.setenv("EDITCLIP_CACHE", str(tmp_path / "another"))
    assert images_of(run("shards", PLANNER, shards=5, batch_size=1)) == reference


def test_edit_is_given_what_plan_returned(run: Run, bench: Bench, planner: Path, tmp_path: Path) -> None:
    run("kept", PLANNER)
    folder = tmp_path / "kept"
    method, prepared = parse_method(entry(PLANNER)), PREPARED.read([folder / "prepared" / "0"])
    requests, rows = Requests(bench, method, 5), PLANNED.read([folder / "planned" / "0"])
    table = rows_of(folder / "planned" / "0", "planned.csv")
    assert list(table[0]) == ["sample_id", "file", "sha256", "seconds", "status", "reason"]
    assert [row["sample_id"] for row in table] == [sample.sample_id for sample in bench.samples]
    for sample in bench.samples:
        request = requests.request(sample, load_tensors(prepared[sample.exemplar_id]), None)
        expected, found = method.load({}, "cpu", "plan").plan(request), load_tensors(rows[sample.sample_id])
        assert expected.keys() == found.keys() == {"added", "length"}
        assert all(torch.equal(expected[name], found[name]) for name in found)
        assert found["length"] == len(sample.instruction or "")


def test_another_plan_is_another_edit(run: Run, planner: Path, project: Path) -> None:
    before = images_of(run("before", PLANNER))
    (project / "planner.py").write_text((project / "planner.py").read_text().replace("length / 20", "length / 5"))
    del sys.modules[PLANNER]
    after = images_of(run("after", PLANNER))
    assert len(calls(planner, "plan")) == 24 and all(after[name] != before[name] for name in before)


def test_a_failed_plan_is_recorded_with_its_sample(
    run: Run, planner: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_BAD", "explode")
    folder = run("failed", PLANNER, bench=bad_bench(tmp_path / "bad", 25))
    failed = [row for row in rows_of(folder) if row["status"] != "ok"]
    assert [(row["status"], row["reason"]) for row in failed] == [("failed", "plan: RuntimeError: cannot plan")]
    rows = rows_of(tmp_path / "failed" / "planned" / "0", "planned.csv")
    assert [(r["status"], r["reason"], r["file"]) for r in rows][:2] == [
        ("failed", "RuntimeError: cannot plan", ""),
        ("ok", "", "g-red-e0-q1.safetensors"),
    ]
    assert len(images_of(folder)) == 99


def test_more_than_one_percent_failed_stop_before_any_edit(
    run: Run, planner: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_BAD", "explode")
    bench = bad_bench(tmp_path / "bad")
    with pytest.raises(InputError, match=r"failed on 1 of 8 samples.*g-red-e0-q0 \(RuntimeError: cannot plan\)"):
        run("stopped", PLANNER, bench=bench)
    assert not (tmp_path / "stopped" / "planned" / "0").exists() and calls(planner, "edit") == []
    monkeypatch.setenv("TOY_BAD", "-")
    planner.write_text("")
    run("mended", PLANNER, bench=bench)
    assert len(calls(planner, "plan")) == 1, "only what had failed"


@pytest.fixture
def joint(planner: Path, project: Path) -> Path:
    """The method of three stages, which plans for three samples in one call; the file it notes its calls in."""
    with (project / "planner.py").open("a") as file:
        file.write(TOGETHER)
    return planner


def test_samples_are_planned_together(
    run: Run, joint: Path, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(monotonic=itertools.count(step=6).__next__)
    monkeypatch.setattr("editclip.editing.joint.time", clock)
    found = images_of(run("joint", PLANNER, shards=2))
    batches = [line.split()[1:] for line in calls(joint, "plans")]
    assert [len(batch) for batch in batches] == [3, 3, 3, 3] and calls(joint, "plan") == []
    assert len({seed for batch in batches for seed in batch}) == 12
    seconds = [row["seconds"] for row in rows_of(tmp_path / "joint" / "planned" / "0", "planned.csv")]
    assert seconds == ["2.0"] * 6, "an equal share for each"
    monkeypatch.setenv("EDITCLIP_CACHE", str(tmp_path / "another"))
    (project / "planner.py").write_text((project / "planner.py").read_text().replace("Joint() if", "Planner() if"))
    del sys.modules[PLANNER]
    assert images_of(run("alone", PLANNER)) == found and len(calls(joint, "plan")) == 12


def test_one_bad_sample_does_not_take_its_batch_with_it(
    run: Run, joint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_BAD", "explode")
    folder = run("failed", PLANNER, bench=bad_bench(tmp_path / "bad", 25))
    failed = [(row["sample_id"], row["reason"]) for row in rows_of(folder) if row["status"] != "ok"]
    assert failed == [("g-red-e0-q0", "plan: RuntimeError: cannot plan")]
    assert len(calls(joint, "plans")) == 33 and len(images_of(folder)) == 99
    assert len(calls(joint, "plan")) == 3 + 1, "those of the batch that raises, and the hundredth, which is alone"


def test_too_few_plans_are_made_one_by_one(
    run: Run, joint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_PLANS", "2")
    assert len(images_of(run("few", PLANNER))) == len(calls(joint, "plan")) == 12


def test_who_is_planned_together_does_not_depend_on_the_cache(
    run: Run, joint: Path, cache: Path, tmp_path: Path
) -> None:
    run("whole", PLANNER)
    notes = {path.stem: path for path in cache.rglob("planned/**/*.json")}
    assert len(notes) == 12
    table = rows_of(tmp_path / "whole" / "planned" / "0", "planned.csv")
    lost = next(path for path in notes.values() if json.loads(path.read_text())["sha256"] == table[4]["sha256"])
    kept = {path: path.stat().st_mtime_ns for path in notes.values() if path != lost}
    lost.unlink()
    before = calls(joint, "plans")
    run("again", PLANNER)
    assert calls(joint, "plans") == [*before, before[1]], "the batch of the lost plan, whole"
    assert lost.exists() and all(path.stat().st_mtime_ns == then for path, then in kept.items())


def test_a_plan_that_is_kept_is_not_lost_to_a_later_failure(
    run: Run, joint: Path, bench: Bench, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("whole", PLANNER)
    table = rows_of(tmp_path / "whole" / "planned" / "0", "planned.csv")
    digests = {json.loads(p.read_text())["sha256"]: p for p in cache.rglob("planned/**/*.json")}
    digests[table[0]["sha256"]].unlink()  # of an instruction that the others of its batch share
    monkeypatch.setenv("TOY_BAD", bench.samples[0].instruction or "")
    with pytest.raises(InputError, match=r"failed on 1 of 12 samples.*g-red-e0-q0"):
        run("again", PLANNER)


def test_a_sample_without_a_needed_input_is_not_planned(run: Run, planner: Path, tmp_path: Path) -> None:
    def change(index: int, row: dict[str, str]) -> None:
        row["instruction"] = "" if index else row["instruction"]

    folder = run("silent", PLANNER, bench=write_bench(tmp_path / "silent-bench", change=change))
    rows = rows_of(tmp_path / "silent" / "planned" / "0", "planned.csv")
    assert [row["status"] for row in rows] == [row["status"] for row in rows_of(folder)] == ["ok"] + ["skipped"] * 11
    assert rows[1]["reason"] == "no instruction" and len(calls(planner, "plan")) == 1


def test_edit_wants_every_sample_planned(bench: Bench, planner: Path, tmp_path: Path) -> None:
    work = Work(parse_method(entry(PLANNER)), bench, {}, 5, "cpu")
    prepared, planned = tmp_path / "prepared", tmp_path / "planned"
    for folder in (prepared, planned):
        folder.mkdir()
    prepare(work, (0, 1), prepared)
    plan(work, [prepared], (1, 2), planned)
    with pytest.raises(InputError, match="sample g-red-e0-q0 is in none of the --planned folders"):
        edit(work, [prepared], [planned], 0, (0, 2), tmp_path)
    with pytest.raises(InputError, match="planned.csv repeats sample g-red-e0-q1: give a shard once"):
        edit(work, [prepared], [planned, planned], 0, (1, 2), tmp_path)


def test_command_line(
    bench: Bench, toy: Path, planner: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    def call(command: str, *arguments: object, editor: str = PLANNER) -> None:
        method = ["--method", json.dumps(entry(editor)), "--base-seed", "5", "--bench", str(bench.folder)]
        monkeypatch.setattr("sys.argv", ["edits", command, *method, *map(str, arguments)])
        stage.run(edits.main)

    monkeypatch.setattr(stage, "use_threads", lambda threads: None)  # it would hold for the whole test session
    call("prepare", "--out", tmp_path / "prepared")
    call("plan", "--prepared", tmp_path / "prepared", "--out", tmp_path / "planned")
    given = ["--prepared", tmp_path / "prepared", "--planned", tmp_path / "planned"]
    call("edit", *given, "--seeds", 0, 1, "--out", tmp_path / "shard")
    inputs = json.loads((tmp_path / "shard" / "provenance.json").read_text())["inputs"]
    assert inputs.keys() == {"bench", "prepared 1", "planned 1"}
    assert len(images_of(tmp_path / "shard" / "seed=1")) == len(calls(planner, "plan")) == 12
    with pytest.raises(SystemExit):
        call("plan", "--out", tmp_path / "none", editor="baselines.toy")
    assert "method toy has no stage plan; the STAGES of baselines.toy are prepare, edit" in capfd.readouterr().err
