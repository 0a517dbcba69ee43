"""The `editclip` command."""

import subprocess
import sys
from pathlib import Path

from editclip.cli import COMMANDS
from editclip.provenance import ROOT
from editclip.study.command import COMMANDS as STUDY_COMMANDS


def editclip(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "editclip", *arguments], capture_output=True, text=True)


def test_help_lists_every_command() -> None:
    done = editclip("--help")
    assert done.returncode == 0
    assert all(f"\n  {name} " in done.stdout for name in COMMANDS)


def test_a_misspelt_command_names_the_nearest() -> None:
    done = editclip("chek")
    assert done.returncode == 2
    assert done.stderr.splitlines() == ['error: unknown command "chek" (did you mean "check"?); see editclip --help']


def test_every_command_has_help() -> None:
    for words in [*([name] for name in COMMANDS), *(["study", name] for name in STUDY_COMMANDS)]:
        done = editclip(*words, "--help")
        assert done.returncode == 0, done.stderr
        assert " ".join(["editclip", *words]) in done.stdout


def test_a_misspelt_command_of_studies_names_the_nearest() -> None:
    done = editclip("study", "analize")
    assert done.returncode == 2
    said = 'error: unknown command "analize" (did you mean "analyse"?); see editclip study --help'
    assert done.stderr.splitlines() == [said]


def modules_of(part: str) -> list[Path]:
    return sorted(path for path in (ROOT / "editclip" / part).glob("*.py") if path.stem != "__init__")


def test_what_reads_configs_and_text_files_imports_no_torch() -> None:
    """Nor do the stages that may find all in the cache, until something is missing there."""
    parts = ("config", "report", "recipes", "study")
    names = [f"editclip.{part}.{path.stem}" for part in parts for path in modules_of(part)]
    names += ["editclip.cli", "editclip.score", "editclip.metrics.scoring", "editclip.metrics.fetch_trunks"]
    names += ["editclip.editing.edits", "editclip.editing.runtime", "editclip.data.bench", "editclip.data.world"]
    names += ["editclip.metrics.retrieval"]
    imports = "".join(f"import {name}\n" for name in names)
    script = imports + "import sys\nprint(*{'torch', 'transformers', 'diffusers'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert len(names) > 60 and done.stdout.strip() == ""
