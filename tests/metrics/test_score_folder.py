"""`editclip score`: the row that the workflow's own stages give, folders with faults, and nothing done twice."""

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kept_trunks import link_trunks
from metric_toys import EXAMPLES, photo, rows_of, write_edits
from PIL import Image

from editclip import score
from editclip.data.bench import Bench
from editclip.errors import InputError
from editclip.metrics import scoring
from editclip.metrics.outputs import canonical, collect
from editclip.provenance import ROOT
from editclip.report import tables


@pytest.fixture
def config(tmp_path: Path, request: pytest.FixtureRequest) -> dict[str, Any]:
    """The micro config for the toy bench, small batches, one LPIPS net or those a test names; in config.yaml too."""
    config = yaml.safe_load((ROOT / "config" / "micro.yaml").read_text(encoding="utf-8"))
    config["bench"] |= {"resolution": 32}  # as the toy bench
    config["metrics"] |= {"batch_size": 4}
    config["metrics"]["lpips"]["nets"] = list(getattr(request, "param", ["alex"]))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return config


@pytest.fixture
def arguments(config: dict[str, Any], bench: Bench, tmp_path: Path, clip_folder: Path, editclip_folder: Path) -> Any:
    """`arguments(*more)`: the command line for the outputs in `edits/`, scored into `out/`."""
    common = [
        "--edits",
        str(tmp_path / "edits"),
        "--bench",
        str(bench.folder),
        "--config",
        str(tmp_path / "config.yaml"),
    ]
    common += ["--weights", f"clip={clip_folder}", f"editclip={editclip_folder}"]
    common += ["--threads", "1", "--name", "mine", "--out", str(tmp_path / "out")]
    return lambda *more: [*common, *map(str, more)]


@pytest.fixture
def outputs(bench: Bench, tmp_path: Path) -> Path:
    """A stranger's folder: images by sample id and nothing else."""
    folder = tmp_path / "edits"
    folder.mkdir()
    for index, sample in enumerate(bench.samples):
        photo(100 + index).save(folder / f"{sample.sample_id}.png")
    return folder


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_row_is_that_of_the_workflow(
    config: dict[str, Any], arguments: Callable[..., list[str]], bench: Bench, tmp_path: Path, cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for seed in (0, 1):
        folder = write_edits(tmp_path / "edits", bench, seed=seed) / f"seed={seed}"
        (folder / "method.json").write_text('{"editor": "editclip.method", "exemplars": "own"}')
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "mine").symlink_to(tmp_path / "edits")
    weights = arguments()[arguments().index("--weights") + 1 :][:2]
    scoring.main(
        ["--metrics", json.dumps(config["metrics"]), "--bench", str(bench.folder), "--edits", str(tmp_path / "edits"),
         "--method", "mine", "--seeds", "0", "1", "--weights", *weights, "--threads", "1",
         "--out", str(tmp_path / "scores" / "mine")]
    )  # fmt: skip
    method = {"editor": None, "weights": {}, "exemplars": "own", "seeds": [0, 1], "options": {}, "label": "mine",
              "paper": "", "license": "", "conditioning": "exemplar", "trained_on": []}  # fmt: skip
    declared = {"rows": ["mine"], "reference": None, "paper": str(score.PAPER), "bars": [], "representation": None,
                "study": None}  # fmt: skip
    run = {"name": "table1", "label": config["run"]["label"], "notice": None, "statistics": config["statistics"],
           "declaration": declared, "methods": {"mine": method}}  # fmt: skip
    folders = {part: [str(path) for path in tmp_path.glob(part)] for part in ("scores/mine/*", "all/mine")}
    stage = ["tables", "--table", json.dumps(run), "--bench", str(bench.folder), "--scores", *folders["scores/mine/*"],
             "--edits", *folders["all/mine"], "--out", str(tmp_path / "tables")]  # fmt: skip
    monkeypatch.setattr(sys, "argv", stage)
    tables.main()
    monkeypatch.setenv(
        "EDITCLIP_CACHE", str(link_trunks(tmp_path / "another"))
    )  # nothing else is handed over by the cache
    score.main(arguments())
    for name in ("table1.csv", "table1_full.csv", "rows.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "tables" / name).read_bytes()
    row = table(tmp_path / "out" / "table1.csv")[0]
    assert row["conditioning"] == "exemplar" and all(row[m] for m in ("lpips", "clip", "ec2t", "clip_dir", "ec2ec"))
    assert row["runtime_s"] == "" and "runtime_s empty: not timed" in row["notes"]  # edits are not timed one by one
    whole = [r for r in table(tmp_path / "out" / "table1_full.csv") if r["scope"] == "all" and r["metric"] == "ec2ec"]
    assert float(whole[0]["low"]) < float(row["ec2ec"]) < float(whole[0]["high"])


def test_a_tree_with_its_texts_gives_the_row_of_its_bench(
    arguments: Callable[..., list[str]], bench: Bench, outputs: Path, tmp_path: Path
) -> None:
    score.main(arguments())
    frames, kind = bench.folder / "frames", tmp_path / "tree" / "g" / "t"
    for part, letter in (("train", "e"), ("test", "q")):
        (kind / part).mkdir(parents=True)
        for path in frames.glob(f"{letter}*.png"):
            (kind / part / path.name).write_bytes(path.read_bytes())
    for number in range(3):
        (kind / "test" / f"q{number}_mask.png").write_bytes((frames / "mask.png").read_bytes())
    told = [{"group": "g", "type": "t", "query": s.query_id.removeprefix("g-t-"), "instruction": s.instruction,
             "caption_before": s.caption_before, "caption_after": s.caption_after, "origin": "benchmark",
             "family": "colour"} for s in bench.samples[:3]]  # fmt: skip
    texts = tmp_path / "my texts.jsonl"
    texts.write_text("".join(json.dumps(line) + "\n" for line in told), encoding="utf-8")
    score.main(arguments("--bench", tmp_path / "tree", "--texts", texts, "--out", tmp_path / "of tree"))
    for name in ("table1.csv", "table1_full.csv"):
        assert (tmp_path / "of tree" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    with pytest.raises(InputError, match="finished bench of 32 px"):
        score.main(arguments("--texts", texts))


@pytest.mark.parametrize("config", [("alex", "vgg")], indirect=True)
def test_the_example_pictures_of_lpips_have_their_published_distances(
    arguments: Callable[..., list[str]], tmp_path: Path, real_images: Callable[[str], Path]
) -> None:
    pictures, kind = real_images("lpips_example"), tmp_path / "tree" / "g" / "t"
    for part in ("train", "test"):
        (kind / part).mkdir(parents=True)
    for name in ("train/e_0", "train/e_1", "test/p0_0", "test/p1_0"):
        shutil.copy(pictures / ("ex_p0.png" if name == "train/e_1" else "ex_ref.png"), kind / f"{name}.png")
    (tmp_path / "edits").mkdir()
    for name in ("p0", "p1"):
        shutil.copy(pictures / f"ex_{name}.png", tmp_path / "edits" / f"g-t-e-{name}.png")
    score.main(arguments("--bench", tmp_path / "tree", "--resolution", "64"))
    scores = rows_of(tmp_path / "out" / "scores" / "mine" / "lpips" / "seed=0.csv")
    for net, expected in EXAMPLES.items():
        found = [float(scores[f"g-t-e-{name}", f"lpips_{net}"]["value"]) for name in ("p0", "p1")]
        assert found == pytest.approx(expected, abs=1e-4)


def test_what_is_wrong_with_a_folder_is_named_and_the_rest_is_scored(
    arguments: Callable[..., list[str]], bench: Bench, outputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [sample.sample_id for sample in bench.samples]
    (outputs / f"{names[0]}.png").unlink()
    (outputs / f"{names[1]}.png").rename(outputs / f"{names[1].upper()}.png")
    whole = (outputs / f"{names[2]}.png").read_bytes()
    (outputs / f"{names[2]}.png").write_bytes(whole[: len(whole) // 2])
    (outputs / f"{names[3]}.png").unlink()
    photo(103, (50, 40)).save(outputs / f"{names[3]}.jpg", quality=95)
    with pytest.raises(InputError, match=f"2 missing: {names[0]}, {names[1]}; 1 unreadable"):
        score.main(arguments("--strict"))
    assert not (tmp_path / "out").exists()
    score.main(arguments())
    printed = capsys.readouterr()
    assert f"warning: 2 missing: {names[0]}, {names[1]}\n" in printed.err
    assert f"warning: 1 unreadable: {names[2]}.png (is damaged" in printed.err
    assert f'warning: 1 of no sample: {names[1].upper()}.png (did you mean "{names[1]}"?)\n' in printed.err
    assert "Squashed to 32×32 px (bicubic), as the benchmark's own images are: 1 of 50×40." in printed.out
    row = table(tmp_path / "out" / "table1.csv")[0]
    notes = row["notes"].split("; ")
    assert {"n_failed=3", "n_missing=2", "n_unreadable=1", "n_extra=1", "n_squashed=1"} <= set(notes)
    assert row["conditioning"] == "unknown" and row["runtime_s"] == ""
    scores = rows_of(tmp_path / "out" / "scores" / "mine" / "clip" / "seed=0.csv")
    assert [scores[name, "clip"]["status"] for name in names] == ["failed"] * 3 + ["ok"] * 3
    whole_bench = [r for r in table(tmp_path / "out" / "table1_full.csv") if r["scope"] == "all"]
    assert {(r["n"], r["n_failed"]) for r in whole_bench if r["metric"] == "clip"} == {("3", "3")}


def test_the_answer_stands_beside_the_papers_rows_and_says_what_it_is(
    arguments: Callable[..., list[str]], outputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    score.main(arguments("--conditioning", "text"))
    text = (tmp_path / "out" / "table1.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out.strip() == text.strip()
    lines = text.splitlines()
    header, ec2ec = lines[0], next(line for line in lines if line.startswith("| EC2EC"))
    cells = dict(zip([c.strip() for c in header.split("|")], [c.strip() for c in ec2ec.split("|")], strict=True))
    assert cells["EditCLIP (paper)"] == "0.477" and cells["IP2P (paper)"] == "0.418" and cells["n"] == "6"
    row = table(tmp_path / "out" / "table1.csv")[0]
    assert float(cells["mine"].replace("−", "-")) == pytest.approx(float(row["ec2ec"]), abs=5e-4)
    assert row["conditioning"] == "text" and "random_trunk" not in row["notes"]
    assert "No human judged" in text and "random weights" not in text
    names = {"table1.csv", "table1.md", "table1_full.csv", "rows.csv"}
    names |= {"edits", "scores", "provenance.json"}
    assert {p.name for p in (tmp_path / "out").iterdir()} == names


def test_nothing_is_encoded_twice_and_a_known_answer_needs_no_torch(
    arguments: Callable[..., list[str]], bench: Bench, outputs: Path, tmp_path: Path, cache: Path
) -> None:
    def features() -> set[Path]:
        return set((cache / "features").rglob("*.safetensors"))

    score.main(arguments())
    first, encoded = (tmp_path / "out" / "table1_full.csv").read_bytes(), features()
    again = f"import sys; from editclip import score; score.main({arguments()!r})\n"
    again += "sys.exit(bool({'torch', 'pandas'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", again], cwd=ROOT).returncode == 0
    assert (tmp_path / "out" / "table1_full.csv").read_bytes() == first
    score.main(arguments("--name", "renamed"))  # known only by its features
    assert features() == encoded
    photo(999).save(outputs / f"{bench.samples[0].sample_id}.png")
    score.main(arguments())
    assert len(features() - encoded) == 3  # one batch each of CLIP, EditCLIP and LPIPS
    assert (tmp_path / "out" / "table1_full.csv").read_bytes() != first


def test_a_run_without_weights_is_refused_in_one_sentence(
    arguments: Callable[..., list[str]], outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    known = arguments()
    start = known.index("--weights")
    with pytest.raises(InputError, match="the weights clip are not in foundations/clip: give --weights"):
        score.main(known[:start] + known[start + 3 :])
    with pytest.raises(InputError, match=r'"clipp" \(did you mean "clip"\?\)'):
        score.main(arguments("--weights", f"clipp={tmp_path}"))
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_laid_out_otherwise_is_refused(bench: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "edits"

    def refused(match: str) -> None:
        with pytest.raises(InputError, match=match):
            collect(folder, bench, 10_000, 1)

    refused("does not exist")
    (folder / "ours").mkdir(parents=True)
    refused(r"neither images .* it holds the folders ours: give one of them")
    photo(1).save(folder / "result.png")
    refused(r"no usable output of benchmark 'toy'; 6 missing: .* and 1 more; 1 of no sample: result\.png; .*g-t-e0-q0")
    photo(1, (101, 100)).save(folder / "g-t-e0-q0.png")
    refused("unreadable: g-t-e0-q0.png .*more than max_pixels = 10000")
    photo(1).save(folder / "g-t-e0-q0.jpg")
    refused("g-t-e0-q0.jpg and g-t-e0-q0.png are both of this sample")
    (folder / "seed=0").mkdir()
    refused("both images and seed=<s> folders")


def test_edits_csv_adds_reasons_seconds_and_digests(bench: Bench, tmp_path: Path) -> None:
    folder = write_edits(tmp_path / "edits", bench) / "seed=0"
    names = [sample.sample_id for sample in bench.samples]
    rows = table(folder / "edits.csv")
    rows[0] |= {"status": "skipped", "reason": "no instruction"}
    (folder / f"{names[0]}.png").unlink()
    photo(999).save(folder / f"{names[1]}.png")
    with (folder / "edits.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    found = collect(tmp_path / "edits", bench, 10_000, 1)
    problems = [edit.problem for edit in found.edits[0]]
    assert problems[0] is not None and (problems[0].status, problems[0].reason) == ("skipped", "no instruction")
    assert found.unreadable == {f"{names[1]}.png": "is not the image that edits.csv recorded"}
    assert found.missing == [] and found.seconds[0, names[2]] == "0.1"


def test_an_image_is_brought_to_the_frame_as_the_benchmarks_own(tmp_path: Path) -> None:
    plain, large, clear = (tmp_path / f"{name}.png" for name in ("plain", "large", "clear"))
    photo(1).save(plain)
    photo(1, (64, 48)).save(large)
    Image.new("RGBA", (32, 32), (255, 0, 0, 0)).save(clear)
    assert canonical(plain, 32, 10_000) == plain
    with Image.open(canonical(large, 32, 10_000)) as image:
        assert image.tobytes() == photo(1, (64, 48)).resize((32, 32), Image.Resampling.BICUBIC).tobytes()
    with Image.open(canonical(clear, 32, 10_000)) as image:
        assert image.getpixel((5, 5)) == (255, 255, 255)  # transparency on white
