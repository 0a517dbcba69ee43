"""A checkout of the project in which tests run workflows."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kept_trunks import link_trunks

ROOT = Path(__file__).resolve().parents[1]
SMOKE = "config/smoke.yaml"


@dataclass(frozen=True)
class Project:
    """A checkout of the project in which workflows run.

    Attributes:
        folder: the checkout.
        site: folder of installed packages to use instead of the interpreter's own.
    """

    folder: Path
    site: Path | None = None

    def snakemake(self, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Run Snakemake here; stdout holds its plan, stderr the rest."""
        command = [sys.executable, *(["-S"] if self.site else []), "-m", "snakemake", "--cores", "2", *arguments]
        environment = os.environ | ({"PYTHONPATH": str(self.site)} if self.site else {})
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)
        assert not check or done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
        return done

    def planned(self, *arguments: str) -> set[str]:
        """What a dry run of the smoke config would do: the message of every job."""
        done = self.snakemake("-n", "--configfile", SMOKE, *arguments)
        return set(re.findall(r"^Job \d+: (.*)$", done.stdout + done.stderr, flags=re.MULTILINE))

    def changed(self) -> set[str]:
        """Outputs that will be made anew because parameters of their own, the code digest among them, have changed."""
        done = self.snakemake("--summary", "--configfile", SMOKE)
        rows = [line.split("\t") for line in done.stdout.splitlines() if line.startswith("results/")]
        changed = {row[0] for row in rows if "params changed" in row}
        assert all(row[-1] == "update pending" for row in rows if row[0] in changed)
        return changed

    @contextlib.contextmanager
    def edited(self, name: str, change: Callable[[str], str]) -> Iterator[None]:
        """Rewrite one file of the project inside the block, then restore it."""
        path = self.folder / name
        original = path.read_text(encoding="utf-8")
        assert change(original) != original
        path.write_text(change(original), encoding="utf-8")
        try:
            yield
        finally:
            path.write_text(original, encoding="utf-8")


def checkout(folder: Path) -> Project:
    """The project's files as git would commit them, without outputs; its cache holds LPIPS's trunks alone."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", "-z"],
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    if "EDITCLIP_CACHE" not in os.environ:
        link_trunks(folder / ".cache")
    return Project(folder)
