"""The score stage from files to files: rows, statuses, card, and the refusals."""

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from metric_toys import METRICS, photo, rows_of, write_bench, write_edits

from editclip import stage
from editclip.data.bench import Bench
from editclip.errors import InputError
from editclip.metrics.clip import ClipScores
from editclip.metrics.families import FAMILIES, Source
from editclip.metrics.ground_truth import GroundTruthScores
from editclip.metrics.outputs import collect
from editclip.metrics.scores import COLUMNS, Family, Setting, card, read_edits
from editclip.storage import file_digest


def change_row(table: Path, number: int, **values: str) -> None:
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows[number].update(values)
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def test_every_family_writes_a_row_for_each_sample_and_metric(
    bench: Bench, edits: Path, score: Callable[..., Path]
) -> None:
    scores, names = score(), set()
    assert {path.name for path in scores.iterdir()} == set(FAMILIES)
    for out in scores.iterdir():
        assert {path.name for path in out.iterdir()} == {"seed=0.csv", "seed=1.csv", "card.json", "provenance.json"}
        card = json.loads((out / "card.json").read_text())
        assert card["bench"] == {"name": "toy", "digest": bench.digest, "resolution": 32, "texts": ["benchmark"]}
        for seed in (0, 1):
            rows = rows_of(out / f"seed={seed}.csv")
            assert rows.keys() == {(s.sample_id, m) for s in bench.samples for m in card["metrics"]}
            for (sample_id, _), row in rows.items():
                assert tuple(row) == COLUMNS and row["method"] == "mine" and row["status"] == "ok" and not row["reason"]
                assert math.isfinite(float(row["value"]))
                assert row["image_sha256"] == file_digest(edits / f"seed={seed}" / f"{sample_id}.png")
        names |= set(card["metrics"])
    assert names == {
        *("lpips_alex", "clip", "clip_dir_captions", "clip_dir_instruction", "s_visual", "s_visual_dist"),
        *("ec2t", "ec2ec", "mse", "psnr", "ssim", "closer", "psnr_inside", "sharpness", "detail"),
        *("mse_background", "psnr_background"),
    }


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the families that a stage loads, in the order in which it does."""
    names: list[str] = []
    load = Source.build

    def build(source: Source, setting: Setting) -> Family:
        names.append(source.module.rpartition(".")[2])
        return load(source, setting)

    monkeypatch.setattr(Source, "build", build)
    return names


def test_only_the_families_asked_for_are_scored_under_the_card_of_the_whole(
    setting: Callable[..., Setting], tmp_path: Path
) -> None:
    """Three samples are of the family that has to be named, and lack a caption."""
    apart = {"family": "multi", "caption_after": ""}
    write_bench(tmp_path / "bench", lambda index, row: row.update(apart if index < 3 else {}))
    whole = Bench.load(tmp_path / "bench", [None, ["multi"]])
    folder = write_edits(tmp_path / "edits", whole) / "seed=0"
    assert [edit.sample for edit in read_edits(folder, whole)] == list(whole.samples)
    for parts, wanted in ([None], whole.samples[3:]), ([["multi"]], whole.samples[:3]):
        bench = Bench.load(tmp_path / "bench", parts)
        assert [edit.sample for edit in read_edits(folder, bench)] == list(wanted)
        assert collect(folder, bench, 10_000, 1).unknown == []
        cards = [card(ClipScores(setting(METRICS["clip"], bench=b)), b) for b in (bench, whole)]
        assert cards[0] == cards[1] and cards[0]["clip_dir"] == "clip_dir_instruction"


def test_only_what_is_new_is_computed(
    score: Callable[..., Path], built: list[str], edits: Path, bench: Bench, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    written = files(score())
    assert built == list(FAMILIES)
    assert files(score(out="again")) == written and built == list(FAMILIES)

    built.clear()
    changed = METRICS | {"clip": METRICS["clip"] | {"minimum_length": 0.5}}
    others = {name: text for name, text in files(score(changed, out="another length")).items() if "clip/" not in name}
    assert built == ["clip"] and others.items() <= written.items()

    built.clear()
    write_edits(edits, bench, seed=2)
    seen: list[int] = []
    scored = GroundTruthScores.score
    monkeypatch.setattr(GroundTruthScores, "score", lambda self, given: seen.append(len(given)) or scored(self, given))
    three = files(score(seeds=(0, 1, 2), out="another seed"))
    assert built == list(FAMILIES) and seen == [len(bench.samples)] and written.items() <= three.items()

    photo(999).save(edits / "seed=2" / "g-t-e0-q0.png")
    change_row(edits / "seed=2" / "edits.csv", 0, sha256=file_digest(edits / "seed=2" / "g-t-e0-q0.png"))
    assert files(score(seeds=(0, 1, 2), out="another image")) != three
    (tmp_path / "cache").rename(tmp_path / "old cache")
    assert files(score(out="no cache")) == written


def files(folder: Path) -> dict[str, str]:
    """The text of every file of scores, by name in the folder."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != "provenance.json"]
    return {path.relative_to(folder).as_posix(): path.read_text() for path in paths}


def test_failed_skipped_and_missing_edits_have_no_value(
    bench: Bench, edits: Path, score: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("editclip.failures.MAXIMUM_FAILED", 0.5)
    table = edits / "seed=0" / "edits.csv"
    change_row(table, 0, status="failed", reason="out of memory", file="", sha256="")
    change_row(table, 1, status="skipped", reason="no instruction", file="", sha256="")
    (edits / "seed=0" / f"{bench.samples[2].sample_id}.png").unlink()
    table.write_text("\n".join(table.read_text().splitlines()[:-1]) + "\n")  # the last sample loses its row
    rows = rows_of(score() / "ground_truth" / "seed=0.csv")
    found = [rows[sample.sample_id, "psnr"] for sample in bench.samples]
    assert [row["status"] for row in found] == ["failed", "skipped", "failed", "ok", "ok", "failed"]
    assert [bool(row["value"]) for row in found] == [False, False, False, True, True, False]
    assert [row["reason"] for row in found[:3]] == ["out of memory", "no instruction", "the image file is missing"]
    assert "no row" in found[5]["reason"]


def test_more_than_the_allowed_failures_stop_the_stage_without_output(
    edits: Path, score: Callable[..., Path], tmp_path: Path
) -> None:
    change_row(edits / "seed=1" / "edits.csv", 0, status="failed", reason="out of memory")
    with pytest.raises(InputError, match=r"mine failed on 1 of 12 .*g-t-e0-q0 seed=1 \(out of memory\)"):
        score()
    assert not (tmp_path / "scores").exists()


def test_wrong_edits_are_refused_by_name(bench: Bench, edits: Path) -> None:
    folder = edits / "seed=0"
    table = folder / "edits.csv"
    original = table.read_text()
    change_row(table, 0, sample_id="g-t-e9-q9")
    with pytest.raises(InputError, match="g-t-e9-q9"):
        read_edits(folder, bench)
    table.write_text(original + original.splitlines()[1] + "\n")
    with pytest.raises(InputError, match="two rows for sample 'g-t-e0-q0'"):
        read_edits(folder, bench)
    table.write_text(original.replace("sha256", "hash", 1))
    with pytest.raises(InputError, match="lacks the columns"):
        read_edits(folder, bench)
    table.write_text(original)
    photo(999).save(folder / "g-t-e0-q0.png")
    with pytest.raises(InputError, match=r"g-t-e0-q0\.png is not the image"):
        read_edits(folder, bench)
    table.unlink()
    with pytest.raises(InputError, match="does not exist"):
        read_edits(folder, bench)


@pytest.mark.parametrize(
    "change, word",
    [({"minimum_length": None}, "length"), ({"direction": "up"}, "'up'"), ({"x": 1}, "metrics.clip.x")],
)
def test_a_wrong_config_is_refused(score: Callable[..., Path], change: dict[str, Any], word: str) -> None:
    with pytest.raises(InputError, match=word):
        score(METRICS | {"clip": METRICS["clip"] | change})


def test_missing_weights_are_named(score: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="--weights clip=FOLDER"):
        score(weights=())


@pytest.mark.parametrize("given", ["clip", "clip=", "=folder"])
def test_weights_without_name_or_folder_are_refused(
    score: Callable[..., Path], capsys: pytest.CaptureFixture[str], given: str
) -> None:
    with pytest.raises(SystemExit):
        score(weights=(given,))
    assert f"'{given}' is not NAME=FOLDER" in capsys.readouterr().err


def test_command_line_reports_a_user_error_in_one_line(
    score: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_status:
        stage.run(lambda: score(METRICS | {"ground_truth": {"window": 7}}) and None)
    printed = capsys.readouterr()
    assert exit_status.value.code == 2 and printed.out == ""
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1 and "window" in printed.err
