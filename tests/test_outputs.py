"""Nothing of the user's is destroyed: a stage replaces only its own earlier output, and never an input.

Each refusal is one sentence and exit status 2, and leaves every file as it was.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from editclip import cli
from editclip.data.bench import MODULE, Bench

BENCH = {"resolution": 16, "max_pixels": 10_000, "skip_incomplete": False, "expect": None, "strict": False, "name": "t"}
WORLD = {"resolution": 16, "types": 1, "multi_edits": 0, "exemplars": 1, "queries": 1}
TRIPLETS = {"resolution": 16, "train": 1, "validation": 1, "test": 1}
SCORE = "score --edits edits --bench bench --weights clip=weights editclip=weights"
BUILD = f"bench --root tree --config {json.dumps(BENCH, separators=(',', ':'))}"
FETCH, FETCH_LINK, FETCH_SLASH = (
    f'weights editclip --config {{"kind":"editclip.recipes.contrastive","source":"path","path":"{path}","sha256":null}}'
    for path in ("weights", "link", "results/../weights/")
)
DRAW = "world {} --seed 0 --config {}"
DRAW_TREE = DRAW.format("bench", json.dumps(WORLD, separators=(",", ":")))
DRAW_TRIPLETS = DRAW.format("triplets", json.dumps(TRIPLETS, separators=(",", ":")))

Call = Callable[[str], str]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's home with papers, and in it the working directory `work` with a tree, outputs, weights and results."""
    work = tmp_path / "home" / "work"
    for part in ("train", "test"):
        folder = work / "tree" / "own" / "invert" / part
        folder.mkdir(parents=True)
        for side, value in enumerate((40, 200)):
            Image.fromarray(np.full((16, 16, 3), value, np.uint8)).save(folder / f"{part}_{side}.png")
    files = [
        "../Documents/thesis.tex", "../Documents/deep/photo.jpg", "weights/model.safetensors", "results/table1.csv",
        "results/micro/bench/manifest.csv", "foreign/table1.csv", "foreign/notes.txt", "recorded/provenance.json",
        "existing.jsonl", "results/scored/mine/table1.csv",
    ]  # fmt: skip
    for name in files:
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text("mine")
    (work / "edits").mkdir()
    Image.new("RGB", (16, 16)).save(work / "edits" / "own-invert-train-test.png")
    (work / "link").symlink_to("weights")
    (work / "of links").mkdir()
    (work / "of links" / "model.safetensors").symlink_to(work / "weights" / "model.safetensors")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EDITCLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(work)
    return tmp_path / "home"


@pytest.fixture
def call(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """`call("bench --root …")`: run `editclip` and return what it says on stderr; |a b| is one word."""

    def run(line: str) -> str:
        monkeypatch.setattr("sys.argv", ["editclip", *_words(line)])
        cli.main()
        return capsys.readouterr().err

    return run


@pytest.fixture
def refused(call: Call, home: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    """`refused(line)`: the sentence that `call` is refused with, once it is sure that no file has changed."""

    def run(line: str) -> str:
        before = _state(home)
        with pytest.raises(SystemExit) as stopped:
            call(line)
        lines = capsys.readouterr().err.splitlines()
        told = [line for line in lines if line and "image/s]" not in line]  # but for bars of progress
        assert stopped.value.code == 2
        assert _state(home) == before
        assert len(told) == 1 and told[0].startswith("error: "), told
        return told[0]

    return run


def _words(line: str) -> list[str]:
    """Words of a command line; a part between bars is one word, whatever is in it."""
    words: list[str] = []
    for number, part in enumerate(line.split("|")):
        words += [part] if number % 2 else part.split()
    return words


def _state(folder: Path) -> dict[str, str]:
    """Every entry below a folder with the digest of its bytes or the target of its link."""
    found = {}
    for path in sorted(folder.rglob("*")):
        content = os.readlink(path).encode() if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        found[path.relative_to(folder).as_posix()] = hashlib.sha256(content).hexdigest()
    return found


def _built(call: Call) -> None:
    """The benchmark folder `bench`, which scoring reads."""
    call(f"{BUILD} --out bench")


# --- the calls that destroyed something, one test each


@pytest.mark.parametrize(
    ("line", "holds"),
    [
        (f"{SCORE} --out results", "results exists"),
        (f"{SCORE} --name mine", "results/scored/mine exists"),
        (f"{SCORE} --out foreign", "foreign exists"),
        (f"{BUILD} --out ../Documents", "Documents exists"),
        (f"{BUILD} --out recorded", "did not write provenance.json"),
        (f"{DRAW_TREE} --out ../Documents", "Documents exists"),
        (f"{DRAW_TRIPLETS} --out ../Documents", "Documents exists"),
        (f"{FETCH} --out foreign", "foreign exists"),
        ("texts --root tree --out existing.jsonl", "existing.jsonl exists"),
    ],
)
def test_what_the_stage_did_not_write_is_kept_and_force_is_named(
    call: Call, refused: Call, line: str, holds: str
) -> None:
    _built(call)
    told = refused(line)
    assert holds in told and "or give --force to replace it" in told


@pytest.mark.parametrize("name", ["..", ".", "a/b", "../mine", "", ".hidden", "two words", "a\nb", "a" * 101])
def test_a_name_that_is_no_folders_is_refused(call: Call, refused: Call, name: str) -> None:
    _built(call)
    assert "is to be a folder's: give --name" in refused(f"{SCORE} --name |{name}|")


@pytest.mark.parametrize("force", ["", " --force"])
@pytest.mark.parametrize(
    ("line", "clause"),
    [
        (f"{BUILD} --out tree", "is the input root (tree)"),
        (f"{BUILD} --out tree/own/invert/bench", "lies in the input root (tree)"),
        (f"{BUILD} --out .", "contains the input root (tree)"),
        (f"{BUILD} --out foreign/../tree", "is the input root (tree)"),
        (f"{FETCH} --out weights", "is the input origin (weights)"),
        (f"{FETCH} --out link", "is the input origin (weights)"),
        (f"{FETCH} --out link/new", "lies in the input origin (weights)"),
        (f"{FETCH_LINK} --out weights", "is the input origin (link)"),
        (f"{FETCH_SLASH} --out ../work/weights", "is the input origin (results/../weights)"),
        (f"{SCORE} --out edits", "is the input edits (edits)"),
        (f"{SCORE} --out bench/frames", "lies in the input bench (bench)"),
        (f"{SCORE} --out weights", "is the input clip (weights)"),
        (f"{SCORE} --bench tree --texts foreign/texts.jsonl --out foreign",
         "contains the input texts (foreign/texts.jsonl)"),
        (f"{SCORE} --weights |clip=of links| |editclip=of links| --out weights",
         "contains the input clip (of links/model.safetensors)"),
        (f"{DRAW_TREE} --out .", "is the working directory"),
        (f"{DRAW_TREE} --out ..", "contains the working directory"),
        (f"{DRAW_TREE} --out /", "contains the working directory"),
        (f"{DRAW_TREE} --out existing.jsonl", "is a file"),
        ("texts --root tree --out tree/texts.jsonl", "exists and lies in the input root (tree)"),
        ("texts --root tree --out foreign", "is a folder"),
    ],
)  # fmt: skip
def test_neither_inputs_nor_where_the_user_works_are_replaced_even_by_force(
    call: Call, refused: Call, home: Path, line: str, clause: str, force: str
) -> None:
    _built(call)
    row = json.dumps({"type": "invert", "instruction": "invert it", "origin": "human"}) + "\n"
    (home / "work" / "tree" / "texts.jsonl").write_text(row)
    (home / "work" / "foreign" / "texts.jsonl").write_text(row)
    assert clause in refused(line + force)


def test_the_home_folder_is_kept_from_elsewhere(refused: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert "is the home folder" in refused(f"{DRAW_TREE} --out {tmp_path / 'home'} --force")


# --- what a stage has written is its own until somebody changes it


def test_an_own_earlier_output_is_replaced(call: Call, home: Path) -> None:
    out = home / "work" / "bench"
    _built(call)
    (out / ".snakemake_timestamp").touch()
    (home / "work" / "tree" / "texts.jsonl").write_text(
        json.dumps({"type": "invert", "instruction": "invert it", "origin": "human"})
    )
    _built(call)
    assert Bench.load(out).samples[0].instruction == "invert it" and not (out / ".snakemake_timestamp").exists()
    (out / "manifest.csv").unlink()  # nothing is lost by what is missing
    _built(call)
    assert Bench.load(out).samples


@pytest.mark.parametrize("where", ["notes.txt", "frames/notes.txt", ".hidden/notes.txt", "logs/notes.txt"])
def test_a_file_beside_what_the_stage_wrote_is_kept(call: Call, refused: Call, home: Path, where: str) -> None:
    _built(call)
    file = home / "work" / "bench" / where
    file.parent.mkdir(exist_ok=True)
    file.write_text("mine")
    assert f"{MODULE} did not write {where} in it" in refused(f"{BUILD} --out bench")


def test_a_link_or_a_pipe_in_an_own_output_is_kept(call: Call, refused: Call, home: Path) -> None:
    _built(call)
    (home / "work" / "bench" / "link").symlink_to(home / "Documents")
    assert "did not write link in it" in refused(f"{BUILD} --out bench")
    (home / "work" / "bench" / "link").unlink()
    os.mkfifo(home / "work" / "bench" / "pipe")
    assert "did not write pipe in it" in refused(f"{BUILD} --out bench")


def test_an_output_that_was_edited_since_is_kept(call: Call, refused: Call, home: Path) -> None:
    _built(call)
    manifest = home / "work" / "bench" / "manifest.csv"
    manifest.write_text(manifest.read_text() + "\n")
    assert "did not write manifest.csv in it, or not as it is now" in refused(f"{BUILD} --out bench")


def test_an_output_of_another_stage_is_kept(call: Call, refused: Call) -> None:
    _built(call)
    assert "editclip.data.world did not write" in refused(f"{DRAW_TREE} --out bench")


def test_an_empty_folder_and_a_link_to_an_own_output_are_written_to(call: Call, home: Path) -> None:
    (home / "work" / "bench").mkdir()
    _built(call)
    (home / "work" / "shown").symlink_to("bench")
    call(f"{BUILD} --out shown")
    assert (home / "work" / "shown").is_symlink() and Bench.load(home / "work" / "bench").samples


def test_force_replaces_a_foreign_folder_and_nothing_else(call: Call, home: Path) -> None:
    before = _state(home)
    call(f"{BUILD} --out foreign --force")
    assert not (home / "work" / "foreign" / "notes.txt").exists() and Bench.load(home / "work" / "foreign").samples
    kept = {name: content for name, content in before.items() if not name.startswith("work/foreign")}
    assert kept.items() <= _state(home).items()


def test_texts_are_replaced_until_somebody_fills_them_in(call: Call, refused: Call, home: Path) -> None:
    line, texts = "texts --root tree --out new.jsonl", home / "work" / "new.jsonl"
    call(line)
    empty = texts.read_text()
    call(line)
    texts.write_text(empty.replace('"instruction": ""', '"instruction": "invert it"'))
    assert "or not as it is now" in refused(line)
    call(f"{line} --force")
    assert texts.read_text() == empty
    call("texts --root tree --out tree/texts.jsonl")  # a new file beside the photographs takes nothing away
    call("texts --root tree --out tree/texts.jsonl")
    assert (home / "work" / "tree" / "texts.jsonl").read_text() == empty
