"""docs/adding-a-baseline.md, followed to the letter in a copy of the project with a finished smoke run."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from workflow_project import ROOT, SMOKE, Project

from editclip.storage import file_digest

PAGE = (ROOT / "docs" / "adding-a-baseline.md").read_text(encoding="utf-8")
MADE = {"results", ".snakemake", ".cache"}  # by runs, in a checkout
METRICS = ["lpips", "clip", "ec2t", "clip_dir", "s_visual_dist", "ec2ec"]
EXAMPLES = ("own", "affine", "shell")  # overlays in config/
SUFFIXES = {"python": ".py", "sh": ".sh", "yaml": ".yaml"}  # by language of a block; other blocks are excerpts
TABLES = {  # rows by table
    "own": ["editclip", "colour_transfer", "shuffled-colour_transfer"],
    "fitted": ["editclip", "affine"],
    "shell": ["from_shell", "copy_exemplar_after"],
}


def files_of_the_page() -> dict[str, str]:
    """The text of every file that the page tells the reader to save: the block whose prose names it last."""
    files = {}
    blocks = re.split(r"^```(\w*)\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    for prose, language, text in zip(blocks[::3], blocks[1::3], blocks[2::3], strict=False):
        names = re.findall(r"`((?:baselines|config)/\w[\w/]*\.(?:py|sh|yaml))`", prose)
        if names and Path(names[-1]).suffix == SUFFIXES.get(language):
            files[names[-1]] = text
    return files


def command(like: str) -> list[str]:
    """The page's shell command that contains a text, for the smoke config, without the program it begins with."""
    found = [line for line in re.findall(r"^(?:make|\.venv).*$", PAGE, flags=re.MULTILINE) if like in line]
    assert len(found) == 1, found
    line = found[0].replace("config/micro.yaml", SMOKE).replace("results/micro/", "results/smoke/")
    program, *arguments = shlex.split(line)
    return shlex.split(arguments[1].removeprefix("ARGS=")) if program == "make" else arguments


def copied(smoke: Project, folder: Path, overlays: tuple[str, ...]) -> Project:
    """A copy of the finished run, dates included, with the page's files for some overlays added."""
    shutil.copytree(smoke.folder, folder, symlinks=True)  # with copy2: without their dates all outputs would be due
    before = digests(folder)
    for name, text in files_of_the_page().items():
        if not name.startswith("config/") or Path(name).stem in overlays:
            (folder / name).parent.mkdir(exist_ok=True)
            assert not (folder / name).exists(), f"{name} is there already"
            (folder / name).write_text(text, encoding="utf-8")
    assert digests(folder).items() >= before.items(), "a file of the project has changed"
    return Project(folder)


def digests(folder: Path) -> dict[str, str]:
    """Digest by name of all files that no run has made."""
    files = [path for top in folder.iterdir() if top.name not in MADE for path in [top, *top.rglob("*")]]
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in files if path.is_file()}


def dates(project: Project) -> dict[Path, int]:
    """When the outputs of the run were written that there are so far, but for the published tables."""
    run = project.folder / "results" / "smoke"
    parts = ("triplets", "bench", "weights", "prepared", "shards", "edits", "scores", "runtime", "tables")
    parts += ("studies", "votes", "judgements", "table2", "claims")
    return {path: path.lstat().st_mtime_ns for part in parts for path in (run / part).rglob("*")}


def others(done: "subprocess.CompletedProcess[str]", *mine: str) -> set[str]:
    """The jobs of a run that neither speak of one of `mine` nor publish tables."""
    names = "|".join([*mine, "Publishing the tables"])
    return {message for message in messages(done) if not re.search(rf"\b({names})\b", message)}


@pytest.fixture(scope="module")
def extended(smoke: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The finished smoke run with the page's three examples added."""
    return copied(smoke, tmp_path_factory.mktemp("extended") / "project", EXAMPLES)


def checked(project: Project, overlay: str, method: str) -> str:
    """What `editclip check` prints of a method, which must be content."""
    arguments = ["check", method, "--config", SMOKE, f"config/{overlay}.yaml"]
    done = subprocess.run(
        [sys.executable, "-m", "editclip", *arguments], cwd=project.folder, capture_output=True, text=True
    )
    assert done.returncode == 0 and "**no**" not in done.stdout, done.stdout + done.stderr
    return done.stdout


def messages(done: "subprocess.CompletedProcess[str]") -> set[str]:
    """The messages of the jobs of a run."""
    return set(re.findall(r"^Job \d+: (.*)$", done.stdout + done.stderr, flags=re.MULTILINE))


def test_the_page_has_the_files_that_it_speaks_of() -> None:
    names = files_of_the_page()
    parts = {f"baselines/affine/{part}.py" for part in ("__init__", "recipe", "model", "training", "method")}
    single = {"baselines/colour_transfer.py", "baselines/from_shell.py", "baselines/from_shell.sh"}
    assert set(names) == parts | single | {f"config/{name}.yaml" for name in (*EXAMPLES, "ablation")}


def test_the_examples_keep_every_promise_before_and_after_training(extended: Project) -> None:
    assert "| size and mode | yes |" in checked(extended, "own", "colour_transfer")
    assert "| size and mode | yes |" in checked(extended, "shell", "from_shell")
    untrained = checked(extended, "affine", "affine")
    advice = " ".join(command("-- results/micro/weights/affine"))
    assert "| kind of weights baselines.affine.recipe | yes |" in untrained and "not checked" in untrained
    assert f"make reproduce ARGS='{advice}'" in untrained
    assert command("check affine") == ["check", "affine", "--config", SMOKE, "config/affine.yaml"]
    done = extended.snakemake(*command("-- results/micro/weights/affine"))
    assert messages(done) == {"Training affine"}
    assert "| size and mode | yes |" in checked(extended, "affine", "affine")


def test_the_examples_become_rows_and_nothing_else_is_computed(extended: Project) -> None:
    before = dates(extended)
    configs = [f"config/{name}.yaml" for name in EXAMPLES]
    done = extended.snakemake("--configfile", SMOKE, *configs, "--", *(f"results/{t}.csv" for t in TABLES))
    assert others(done, "colour_transfer", "affine", "from_shell", *TABLES) == set()
    assert "Editing with affine, shard 0-of-1" in messages(done)
    assert before == {path: path.lstat().st_mtime_ns for path in before}
    for table, rows in TABLES.items():
        values = pd.read_csv(extended.folder / f"results/{table}.csv", index_col="method")
        assert list(values.index) == rows
        assert values[METRICS].notna().all(axis=None)
    # The shell script returns the exemplar's second image, as the control does.
    own, control = (values.loc[name].drop(["runtime_s", "notes", "conditioning"]) for name in TABLES["shell"])
    pd.testing.assert_series_equal(own, control, check_names=False)


def test_an_ablation_of_three_lines_trains_edits_and_scores_itself_alone(smoke: Project, tmp_path: Path) -> None:
    project = copied(smoke, tmp_path / "project", ("ablation",))
    assert len((project.folder / "config/ablation.yaml").read_text().splitlines()) == 3
    before = dates(project)
    done = project.snakemake(*command("results/ablation.csv"))
    assert others(done, "no_lpips", "ablation") == set() and "Training no_lpips" in messages(done)
    assert before == {path: path.lstat().st_mtime_ns for path in before}
    table = pd.read_csv(project.folder / "results/ablation.csv", index_col="method")
    assert list(table.index) == ["editclip", "no_lpips"] and table[METRICS].notna().all(axis=None)
    assert table.loc["editclip", "ec2ec"] != table.loc["no_lpips", "ec2ec"]
