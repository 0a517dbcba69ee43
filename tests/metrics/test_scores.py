"""The score stage from files to files: rows, statuses, card, and the refusals."""

import csv
import json
import math
from pathlib import Path

import pytest
from metric_toys import photo, rows_of, write_edits

from editclip import stage
from editclip.data.bench import Bench
from editclip.errors import InputError
from editclip.metrics import clip, editclip, ground_truth, lpips
from editclip.metrics.scores import COLUMNS, read_edits
from editclip.storage import file_digest

CLIP = '{"encoder": "clip", "direction": "auto", "minimum_length": 0.0001}'


def arguments(bench: Bench, edits: Path, out: Path, config: str, *more: str) -> list[str]:
    """The common part of a family's command line, for two seeds."""
    root = bench.path(bench.samples[0].query).parent.parent
    return ["--config", config, "--bench", str(root), "--edits", str(edits), "--method", "mine", "--seeds", "0", "1",
            "--batch-size", "4", "--threads", "1", "--out", str(out), *more]  # fmt: skip


@pytest.fixture
def edits(bench: Bench, tmp_path: Path) -> Path:
    """Two seeds of a method."""
    write_edits(tmp_path / "edits", bench, seed=0)
    return write_edits(tmp_path / "edits", bench, seed=1)


def change_row(table: Path, number: int, **values: str) -> None:
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows[number].update(values)
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def test_every_family_writes_a_row_for_each_sample_and_metric(
    bench: Bench, edits: Path, tmp_path: Path, clip_folder: Path, editclip_folder: Path
) -> None:
    weights = ["--weights", f"clip={clip_folder}", f"editclip={editclip_folder}"]
    pairs = '{"nets": ["alex"], "trunk": "random", "resolution": 64}'
    configs = {clip: CLIP, editclip: '{"encoder": "editclip"}', lpips: pairs, ground_truth: "{}"}
    names = set()
    for family, config in configs.items():
        out = tmp_path / "scores" / family.__name__.split(".")[-1]
        family.main(arguments(bench, edits, out, config, *weights))
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
        *(
            "lpips_alex",
            "clip",
            "clip_dir_captions",
            "clip_dir_instruction",
            "s_visual",
            "s_visual_dist",
            "ec2t",
            "ec2ec",
        ),
        *("mse", "psnr", "ssim", "closer", "psnr_inside", "mse_background", "psnr_background"),
    }


def test_failed_skipped_and_missing_edits_have_no_value(
    bench: Bench, edits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("editclip.failures.MAXIMUM_FAILED", 0.5)
    table = edits / "seed=0" / "edits.csv"
    change_row(table, 0, status="failed", reason="out of memory", file="", sha256="")
    change_row(table, 1, status="skipped", reason="no instruction", file="", sha256="")
    (edits / "seed=0" / f"{bench.samples[2].sample_id}.png").unlink()
    table.write_text("\n".join(table.read_text().splitlines()[:-1]) + "\n")  # the last sample loses its row
    ground_truth.main(arguments(bench, edits, tmp_path / "out", "{}"))
    rows = rows_of(tmp_path / "out" / "seed=0.csv")
    found = [rows[sample.sample_id, "psnr"] for sample in bench.samples]
    assert [row["status"] for row in found] == ["failed", "skipped", "failed", "ok", "ok", "failed"]
    assert [bool(row["value"]) for row in found] == [False, False, False, True, True, False]
    assert [row["reason"] for row in found[:3]] == ["out of memory", "no instruction", "the image file is missing"]
    assert "no row" in found[5]["reason"]


def test_more_than_the_allowed_failures_stop_the_stage_without_output(
    bench: Bench, edits: Path, tmp_path: Path
) -> None:
    change_row(edits / "seed=1" / "edits.csv", 0, status="failed", reason="out of memory")
    with pytest.raises(InputError, match=r"mine failed on 1 of 12 .*g-t-e0-q0 seed=1 \(out of memory\)"):
        ground_truth.main(arguments(bench, edits, tmp_path / "out", "{}"))
    assert not (tmp_path / "out").exists()


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
    [({"minimum_length": None}, "length"), ({"direction": "up"}, "'up'"), ({"x": 1}, "metrics.x")],
)
def test_a_wrong_config_is_refused(bench: Bench, edits: Path, tmp_path: Path, change: dict, word: str) -> None:
    config = json.dumps(json.loads(CLIP) | change)
    with pytest.raises(InputError, match=word):
        clip.main(arguments(bench, edits, tmp_path / "out", config))


def test_missing_weights_are_named(bench: Bench, edits: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--weights clip=FOLDER"):
        clip.main(arguments(bench, edits, tmp_path / "out", CLIP))


@pytest.mark.parametrize("given", ["clip", "clip=", "=folder"])
def test_weights_without_name_or_folder_are_refused(
    bench: Bench, edits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], given: str
) -> None:
    with pytest.raises(SystemExit):
        clip.main(arguments(bench, edits, tmp_path / "out", CLIP, "--weights", given))
    assert f"'{given}' is not NAME=FOLDER" in capsys.readouterr().err


def test_command_line_reports_a_user_error_in_one_line(
    bench: Bench, edits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_status:
        stage.run(lambda: ground_truth.main(arguments(bench, edits, tmp_path / "out", '{"window": 7}')))
    printed = capsys.readouterr()
    assert exit_status.value.code == 2 and printed.out == ""
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1 and "window" in printed.err
