"""docs/adding-a-baseline.md, followed to the letter in a copy of the project with a finished smoke run."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from workflow_project import ROOT, SMOKE, Project

PAGE = (ROOT / "docs" / "adding-a-baseline.md").read_text(encoding="utf-8")
OWN_CONFIG = "config/own.json"


def blocks(language: str) -> list[str]:
    """The page's code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def extended(smoke: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The finished smoke run with the page's files and config entries added."""
    folder = tmp_path_factory.mktemp("extended") / "project"
    shutil.copytree(smoke.folder, folder, symlinks=True)
    saved = re.findall(r"as `(baselines/[a-z_]+\.(?:py|sh))`", PAGE)
    texts = [*blocks("python"), blocks("sh")[-1]]
    assert [Path(name).suffix for name in saved] == [".py", ".py", ".sh"] and len(texts) == 3
    for name, text in zip(saved, texts, strict=True):
        (folder / name).write_text(text, encoding="utf-8")
    config = yaml.safe_load((folder / SMOKE).read_text())
    added = yaml.safe_load(blocks("yaml")[0])
    shell = {**added[0], "name": "from_shell", "editor": "baselines.from_shell"}
    config["methods"] += [*added, shell]
    (folder / OWN_CONFIG).write_text(json.dumps(config), encoding="utf-8")
    return Project(folder)


@pytest.mark.parametrize("name", ["colour_transfer", "from_shell"])
def test_the_examples_keep_every_promise(extended: Project, name: str) -> None:
    command = [sys.executable, "-m", "editclip", "check", f"baselines.{name}"]
    done = subprocess.run(command, cwd=extended.folder, capture_output=True, text=True)
    assert done.returncode == 0 and "**no**" not in done.stdout, done.stdout + done.stderr


def test_the_examples_run_to_table_rows_and_nothing_else_is_computed(extended: Project) -> None:
    before = {path: path.stat().st_mtime_ns for path in (extended.folder / "results/smoke/weights").rglob("*")}
    done = extended.snakemake("results/table1.csv", "--configfile", OWN_CONFIG)
    assert "Editing with colour_transfer" in done.stdout + done.stderr
    assert "Training" not in done.stdout + done.stderr and "Editing with editclip" not in done.stdout + done.stderr
    assert before == {path: path.stat().st_mtime_ns for path in before}
    table = pd.read_csv(extended.folder / "results/table1.csv", index_col="method")
    rows = ["colour_transfer", "shuffled-colour_transfer", "from_shell"]
    assert table.loc[rows, ["lpips", "ec2t", "ec2ec"]].notna().all(axis=None)
    # The shell script returns the exemplar's second image, as the control does.
    pd.testing.assert_series_equal(
        table.loc["from_shell"].drop(["runtime_s", "notes", "conditioning"]),
        table.loc["copy_exemplar_after"].drop(["runtime_s", "notes", "conditioning"]),
        check_names=False,
    )
