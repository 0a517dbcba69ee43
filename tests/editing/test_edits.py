"""The edits stage: sharding, order and batches, interruption, failures, and the files it writes."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
from editing_toys import EDITOR, Run, entry, images_of, rows_of, write_bench

from editclip import stage, storage
from editclip.data.bench import Bench
from editclip.editing import cards, edits
from editclip.editing.cards import parse_method
from editclip.editing.edits import edit, gather
from editclip.editing.prepared import prepare
from editclip.editing.work import Work
from editclip.errors import InputError
from editclip.provenance import code_digest


def another_cache(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    monkeypatch.setenv("EDITCLIP_CACHE", str(path))


def test_result_depends_on_neither_shards_nor_batch_nor_order(
    run: Run, bench: Bench, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = images_of(run("reference"))
    assert len(set(reference.values())) == len(bench.samples) == 12
    for name, changes in {"four": {"shards": 4}, "one": {"batch_size": 1}, "eight": {"batch_size": 8}}.items():
        another_cache(monkeypatch, tmp_path / f"cache-{name}")
        assert images_of(run(name, **changes)) == reference, name
    another_cache(monkeypatch, tmp_path / "cache-reversed")
    bench.__dict__["samples"] = bench.samples[::-1]
    assert images_of(run("reversed", bench=bench)) == reference


def test_only_the_families_asked_for_are_edited(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    """Two samples of each edit type, of which `red` is of the family that has to be named."""

    def call(*arguments: object) -> None:
        monkeypatch.setattr("sys.argv", ["edits", *map(str, arguments), "--bench", str(tmp_path / "families")])
        stage.run(edits.main)

    def edited(name: str, *families: str) -> list[str]:
        asked = ["--families", *families] if families else []
        call("prepare", *method, *asked, "--out", tmp_path / name / "prepared")
        prepared = ["--prepared", tmp_path / name / "prepared"]
        call("edit", *method, *asked, "--seeds", 0, *prepared, "--out", tmp_path / name / "shard")
        call("gather", *asked, "--shards", tmp_path / name / "shard", "--out", tmp_path / name / "edits")
        return [row["sample_id"].split("-")[1] for row in rows_of(tmp_path / name / "edits" / "seed=0")]

    monkeypatch.setattr(stage, "use_threads", lambda threads: None)  # it would hold for the whole test session
    method = ["--method", json.dumps(entry("baselines.toy")), "--base-seed", 5]
    kinds = {"red": "multi", "snow": "compound", "ship": "style"}
    write_bench(
        tmp_path / "families", dict.fromkeys(kinds, 1), lambda _, row: row.update(family=kinds[row["edit_type"]])
    )
    assert edited("usual") == ["snow", "snow", "ship", "ship"]
    assert edited("some", '[["compound", "multi"]]') == ["red", "red", "snow", "snow"]
    assert edited("whole", '[null, ["multi"]]') == ["red", "red", "snow", "snow", "ship", "ship"]
    same = images_of(tmp_path / "whole" / "edits" / "seed=0")
    for name in ("usual", "some"):  # what else is edited does not show
        assert images_of(tmp_path / name / "edits" / "seed=0").items() <= same.items()
    with pytest.raises(SystemExit):
        call("gather", "--shards", tmp_path / "some" / "shard", "--out", tmp_path / "none")
    assert "no shard has sample g-ship-e0-q0 (2 missing in all)" in capfd.readouterr().err


def test_more_shards_than_samples(run: Run, bench: Bench, toy: Path) -> None:
    assert len(images_of(run("many", shards=15))) == 12


def test_what_was_prepared_is_read_once_for_all_samples_and_seeds(
    bench: Bench, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    load = safetensors.torch.load_file
    monkeypatch.setattr(safetensors.torch, "load_file", lambda file: read.append(file.stem) or load(file))
    work = Work(parse_method(entry("baselines.toy", batch_size=1)), bench, {}, 5, "cpu")
    (tmp_path / "prepared").mkdir()
    prepare(work, (0, 1), tmp_path / "prepared")
    for seed in (0, 1):
        (tmp_path / f"seed={seed}").mkdir()
        edit(work, [tmp_path / "prepared"], [], seed, (0, 1), tmp_path / f"seed={seed}")
        assert sorted(read) == sorted({sample.exemplar_id for sample in bench.samples})
    assert toy.read_text().count("edit") == 2 * len(bench.samples)


def test_seeds_give_other_images(run: Run, toy: Path) -> None:
    first, second = images_of(run("a", seed=0)), images_of(run("b", seed=1))
    assert all(first[name] != second[name] for name in first)


@pytest.fixture
def text(project: Path, toy: Path) -> Path:
    """The toy method without exemplars as `baselines.text`; the file it notes its calls in."""
    source = EDITOR
    for old, new in (
        ('NEEDS = ("exemplar", "instruction")', 'NEEDS = ("instruction",)'),
        ('STAGES = ("prepare", "edit")', 'STAGES = ("edit",)'),
        ("def prepare(", "def _prepare("),
        (' + request.prepared["change"].numpy()', ""),
    ):
        assert old in source
        source = source.replace(old, new)
    (project / "text.py").write_text(source)
    return toy


@pytest.mark.parametrize(("shards", "batch_size"), [(1, 4), (1, 1), (4, 4), (7, 1)])
def test_a_method_without_exemplars_edits_a_query_once(
    run: Run, bench: Bench, text: Path, shards: int, batch_size: int
) -> None:
    folders = [run(f"seed {n}", "baselines.text", shards=shards, seed=n, batch_size=batch_size) for n in (0, 1)]
    assert text.read_text().count("edit") == 2 * 6  # two repetitions of six queries, each of which meets two exemplars
    made = [images_of(folder) for folder in folders]
    by_query: dict[str, set[bytes]] = {}
    for sample in bench.samples:
        by_query.setdefault(sample.query_id, set()).add(made[0][sample.sample_id])
    assert all(len(images) == 1 for images in by_query.values()) and len(set.union(*by_query.values())) == 6
    assert all(made[0][name] != made[1][name] for name in made[0])
    queries = {sample.sample_id: sample.query_id for sample in bench.samples}
    seconds: dict[str, set[str]] = {}
    for row in rows_of(folders[0]):
        assert row["status"] == "ok" and row["sha256"] == storage.file_digest(folders[0] / row["file"])
        seconds.setdefault(queries[row["sample_id"]], set()).add(row["seconds"])
    assert all(len(times) == 1 for times in seconds.values())  # those of the one edit, an image's share of its batch


def test_a_failed_query_is_that_of_all_its_samples(
    run: Run, bench: Bench, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_BAD", "make it snow")
    monkeypatch.setattr("editclip.failures.MAXIMUM_FAILED", 0.5)
    rows = rows_of(run("failed", "baselines.text"))
    assert [row["status"] for row in rows] == ["ok"] * 4 + ["failed"] * 4 + ["ok"] * 4
    assert {row["reason"] for row in rows} == {"", "RuntimeError: cannot edit"}


def test_files_of_a_run(run: Run, bench: Bench, toy: Path) -> None:
    folder = run("files", shards=2, seed=3)
    rows = rows_of(folder)
    assert list(rows[0]) == ["sample_id", "seed", "file", "sha256", "native_size", "seconds", "status", "reason"]
    assert [row["sample_id"] for row in rows] == [sample.sample_id for sample in bench.samples]
    for row in rows:
        assert (row["seed"], row["native_size"], row["status"], row["reason"]) == ("3", "32", "ok", "")
        assert row["sha256"] == storage.file_digest(folder / row["file"]) and float(row["seconds"]) > 0
    card = json.loads((folder / "method.json").read_text())
    assert (card["name"], card["conditioning"], card["options"]) == ("toy", "exemplar", {"strength": 40.0})
    assert not (folder / "exemplars.csv").exists()


def test_shuffled_feeds_other_types_the_same_in_every_seed(run: Run, bench: Bench, toy: Path) -> None:
    folder, again = run("shuffled", exemplars="shuffled", shards=3), run("again", exemplars="shuffled", seed=1)
    types = {sample.exemplar_id: sample.edit_type for sample in bench.samples}
    rows = rows_of(folder, "exemplars.csv")
    assert rows == rows_of(again, "exemplars.csv")
    assert sorted(r["exemplar_id"] for r in rows) == sorted(r["fed_exemplar_id"] for r in rows) == sorted(types)
    assert all(types[row["exemplar_id"]] != types[row["fed_exemplar_id"]] for row in rows)
    own = images_of(run("own"))
    assert all(image != own[name] for name, image in images_of(folder).items())
    assert json.loads((folder / "method.json").read_text())["exemplars"] == "shuffled"


def test_a_control_prepares_from_the_other_end(run: Run, toy: Path) -> None:
    run("shuffled", exemplars="shuffled")
    prepared = [line.split()[1] for line in toy.read_text().splitlines() if line.startswith("prepare")]
    assert len(prepared) == 6 and prepared == sorted(prepared, reverse=True)
    run("own")
    assert toy.read_text().count("prepare") == 6  # the cache is shared


def test_copying_a_shuffled_exemplar(run: Run, bench: Bench) -> None:
    folder = run("copy", "baselines.copy_exemplar_after", exemplars="shuffled")
    fed = {row["exemplar_id"]: row["fed_exemplar_id"] for row in rows_of(folder, "exemplars.csv")}
    after = {sample.exemplar_id: bench.image(sample.exemplar_after).tobytes() for sample in bench.samples}
    images = images_of(folder)
    assert all(images[s.sample_id] == after[fed[s.exemplar_id]] for s in bench.samples)


def test_finished_work_is_not_redone(run: Run, toy: Path) -> None:
    run("first")
    calls = toy.read_text()
    assert calls.count("prepare") == 6 and calls.count("edit") == 12
    run("second", shards=3, batch_size=1)
    assert toy.read_text() == calls
    run("other", options={"strength": 10.0})
    assert toy.read_text().count("edit") == 24  # another option is another result


def test_a_changed_method_is_run_again(run: Run, toy: Path, project: Path) -> None:
    run("first")
    (project / "toy.py").write_text((project / "toy.py").read_text() + "_CHANGED = 1\n")
    run("second")
    assert toy.read_text().count("edit") == 24


def test_a_method_that_is_only_presented_otherwise_is_not_run_again(run: Run, toy: Path, project: Path) -> None:
    before = (run("first") / "method.json").read_text()
    text = (project / "toy.py").read_text()
    for old, new in (
        ('LABEL = "Toy"', 'LABEL = "Doll"  # renamed'),
        ('PAPER = ""', 'PAPER = "https://example.org"'),
        ('LICENSE = "Apache-2.0"', 'LICENSE = "MIT"'),
        ("TRAINED_ON = ()", 'TRAINED_ON = ("triplets",)'),
    ):
        assert old in text
        text = text.replace(old, new)
    (project / "toy.py").write_text(text)
    assert (run("second") / "method.json").read_text() == before
    assert toy.read_text().count("edit") == 12


def test_a_damaged_cache_entry_is_made_again(run: Run, toy: Path, cache: Path) -> None:
    before = images_of(run("first"))
    damaged = next((cache / "edits").rglob("*.png"))
    damaged.unlink()  # the run's own image is a link to the same file
    damaged.write_bytes(b"half a picture")
    assert images_of(run("second")) == before
    assert toy.read_text().count("edit") == 13


def test_a_killed_run_goes_on_where_it_stopped(run: Run, toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_KILL", "11")  # the fifth edit of the second batch: 6 preparations, then 4 + 1 images
    child = os.fork()
    if child == 0:
        run("killed", batch_size=2)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 9
    assert not (toy.parent / "killed" / "edits").exists()
    assert toy.read_text().count("edit") == 5
    monkeypatch.setenv("TOY_KILL", "-1")
    images = images_of(run("resumed", batch_size=2))
    assert toy.read_text().count("prepare") == 6
    assert toy.read_text().count("edit") == 5 + 8  # 4 images were finished, 8 of 12 were not
    monkeypatch.setenv("EDITCLIP_CACHE", str(toy.parent / "fresh"))
    assert images_of(run("whole")) == images


def large(tmp_path: Path, bad: int) -> Bench:
    """100 samples in two types, `bad` of which have the instruction "explode"."""

    def change(index: int, row: dict[str, str]) -> None:
        if index % 10 == 7 and index < 10 * bad:
            row["instruction"] = "explode"

    return write_bench(tmp_path / "large", {"red": 25, "snow": 25}, change)


def test_one_failed_sample_in_a_hundred_is_recorded(
    run: Run, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_BAD", "explode")
    folder = run("failed", bench=large(tmp_path, 1), batch_size=8, shards=2)
    failed = [row for row in rows_of(folder) if row["status"] != "ok"]
    assert [(row["status"], row["reason"]) for row in failed] == [("failed", "RuntimeError: cannot edit")]
    assert failed[0]["file"] == failed[0]["sha256"] == failed[0]["seconds"] == ""
    assert len(images_of(folder)) == 99


def test_two_failed_samples_in_a_hundred_stop_the_run(
    run: Run, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = large(tmp_path, 2)
    monkeypatch.setenv("TOY_BAD", "explode")
    with pytest.raises(InputError, match=r"failed on 2 of 100 samples.*g-red-e3-q1 \(RuntimeError: cannot edit\)"):
        run("one shard", bench=bench)
    assert not (tmp_path / "one shard" / "shards" / "0").exists()
    with pytest.raises(InputError, match="failed on 2 of 100 samples"):
        run("spread", bench=bench, shards=5)  # samples 7 and 17 are of one shard
    with pytest.raises(InputError, match="failed on 2 of 100 samples"):
        run("gathered", bench=bench, shards=4)  # of two: seen when gathered
    assert (tmp_path / "gathered" / "shards" / "3").exists()
    toy.write_text("")
    monkeypatch.setenv("TOY_BAD", "-")
    run("mended", bench=bench)
    assert toy.read_text().count("edit") == 2  # only what had failed


def test_a_failed_preparation_takes_its_samples_with_it(
    run: Run, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_BAD", "g-red-e0")
    with pytest.raises(InputError, match=r"failed on 2 of 12.*g-red-e0-q0 \(RuntimeError: cannot invert\)"):
        run("stopped")
    monkeypatch.setattr("editclip.failures.MAXIMUM_FAILED", 0.2)
    rows = rows_of(run("allowed"))
    assert [row["reason"] for row in rows[:2]] == ["preparation: RuntimeError: cannot invert"] * 2
    assert [row["status"] for row in rows] == ["failed"] * 2 + ["ok"] * 10


def test_wrong_output_of_a_method_is_a_failure(
    run: Run, project: Path, toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("editclip.failures.MAXIMUM_FAILED", 1)
    source = (project / "toy.py").read_text()
    for name, wrong, message in (
        ("grey", "return [image.convert('L') for image in images]", "returned L (32, 32), not RGB (32, 32)"),
        ("small", "return [image.resize((8, 8)) for image in images]", "returned RGB (8, 8), not RGB (32, 32)"),
        ("few", "return []", "returned 0 images for 1 requests"),
    ):
        (project / f"{name}.py").write_text(source.replace("return images", wrong))
        rows = rows_of(run(name, f"baselines.{name}"))
        assert {row["reason"] for row in rows} == {f"ValueError: the method {message}"}


def test_samples_without_a_needed_input_are_skipped(run: Run, tmp_path: Path) -> None:
    def change(index: int, row: dict[str, str]) -> None:
        row["ground_truth"] = "" if index % 2 else row["ground_truth"]

    bench = write_bench(tmp_path / "half", change=change)
    folder = run("truth", "baselines.ground_truth", bench=bench)
    rows = rows_of(folder)
    assert [row["status"] for row in rows] == ["ok", "skipped"] * 6
    assert rows[1]["reason"] == "no ground truth" and len(images_of(folder)) == 6


def test_a_method_of_one_stage_edits_alone(run: Run, bench: Bench, tmp_path: Path) -> None:
    images = images_of(run("query", "baselines.copy_query"))
    work = Work(parse_method(entry("baselines.copy_query")), bench, {}, 5, "cpu")
    with pytest.raises(InputError, match="has no stage prepare; the STAGES of baselines.copy_query are edit"):
        prepare(work, (0, 1), tmp_path)
    assert all(images[s.sample_id] == bench.image(s.query).tobytes() for s in bench.samples)


def test_gather_refuses_incomplete_or_mixed_shards(run: Run, bench: Bench, toy: Path, tmp_path: Path) -> None:
    run("two", shards=2)
    run("weaker", shards=2, options={"strength": 1.0})
    run("later", shards=2, seed=1)
    first, second = (tmp_path / "two" / "shards" / str(k) for k in range(2))

    def refused(shards: Sequence[Path], message: str) -> None:
        (tmp_path / message[:5]).mkdir()
        with pytest.raises(InputError, match=message):
            gather(bench, shards, tmp_path / message[:5])

    refused([first], r"no shard has sample g-red-e0-q1 \(6 missing in all\)")
    refused([first, first, second], "repeats sample g-red-e0-q0")
    refused([first, tmp_path / "weaker" / "shards" / "1"], "are of different methods")
    refused([first, tmp_path / "later" / "shards" / "1"], "another seed")


def test_edit_wants_every_exemplar_prepared(bench: Bench, toy: Path, tmp_path: Path) -> None:
    work = Work(parse_method(entry("baselines.toy")), bench, {}, 5, "cpu")
    prepare(work, (0, 2), tmp_path)
    with pytest.raises(InputError, match="exemplar g-red-e1 is in none of the --prepared folders"):
        edit(work, [tmp_path], [], 0, (0, 1), tmp_path)


def test_command_line(bench: Bench, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    def call(*arguments: object) -> None:
        monkeypatch.setattr("sys.argv", ["edits", *map(str, arguments), "--bench", str(tmp_path / "bench")])
        stage.run(edits.main)

    monkeypatch.setattr(stage, "use_threads", lambda threads: None)  # it would hold for the whole test session
    method = ["--method", json.dumps(entry("baselines.toy")), "--base-seed", 5]
    call("prepare", *method, "--out", tmp_path / "prepared")
    for k in range(2):
        part = ["--shard", f"{k}-of-2", "--seeds", 0, 7, "--prepared", tmp_path / "prepared"]
        call("edit", *method, *part, "--out", tmp_path / f"shard{k}")
    made = json.loads((tmp_path / "shard0" / "provenance.json").read_text())
    assert made["inputs"]["prepared 1"]["path"] == str(tmp_path / "prepared")
    own = {"module": "baselines.toy", "digest": code_digest("baselines.toy", root=cards.ROOT)}
    assert made["code"]["method"] == own
    assert json.loads((tmp_path / "prepared" / "provenance.json").read_text())["code"]["method"] == own
    assert json.loads((tmp_path / "shard0" / "seed=7" / "method.json").read_text())["code"] == own
    call("gather", "--shards", tmp_path / "shard0", tmp_path / "shard1", "--out", tmp_path / "edits")
    for seed in ("0", "7"):
        rows = rows_of(tmp_path / "edits" / f"seed={seed}")
        assert len(rows) == 12 and {row["seed"] for row in rows} == {seed}
    gathered = json.loads((tmp_path / "edits" / "provenance.json").read_text())["code"]
    assert gathered["module"] == "editclip.editing.edits" and "method" not in gathered
    assert capfd.readouterr().out == ""
    with pytest.raises(SystemExit) as caught:
        call("gather", "--shards", tmp_path / "shard0", "--out", tmp_path / "half")
    assert caught.value.code == 2 and not (tmp_path / "half").exists()
    (tmp_path / "one seed" / "seed=0").mkdir(parents=True)
    inside, fewer = [tmp_path / "shard0" / "seed=0"], [tmp_path / "shard0", tmp_path / "one seed"]
    for shards, said in ((inside, "no folder seed=<s>"), (fewer, "different seeds")):
        with pytest.raises(SystemExit):
            call("gather", "--shards", *shards, "--out", tmp_path / "half")
        assert said in capfd.readouterr().err
    with pytest.raises(SystemExit):
        call("edit", *method, "--shard", "2-of-2", "--seeds", 0, "--out", tmp_path / "none")
    assert "'2-of-2' is not K-of-N with K from 0 to N - 1" in capfd.readouterr().err
