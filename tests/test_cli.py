"""The `editclip` command."""

import subprocess
import sys

from editclip.cli import COMMANDS


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
    for name in COMMANDS:
        done = editclip(name, "--help")
        assert done.returncode == 0, done.stderr
        assert f"editclip {name}" in done.stdout
