"""Resolve pyproject.toml into requirements.lock and copy its pins into environment.yml and launcher.yml (`make lock`).

requirements.lock holds every package of the project and of its `dev` group, for all platforms, with hashes. The pip
block of environment.yml holds the part of it that the project itself needs, that of launcher.yml what Snakemake needs.
The conda packages above these blocks are edited by hand. Arguments are handed to `uv pip compile`, e.g. `--upgrade` or
`--upgrade-package torch`.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "editclip-bench (pyproject.toml)"  # what `# via` says of a direct run-time dependency
ENVIRONMENTS = {"environment.yml": PROJECT, "launcher.yml": "snakemake"}  # file: whose needs it holds
PIN = re.compile(r"^(?P<pin>(?P<name>[a-z0-9._-]+)==[^\\#]+?) *\\?$")
PIP_BLOCK = "  - pip:\n"


def compile_lock(lock: Path, arguments: list[str]) -> None:
    """Resolve pyproject.toml for every platform; pins already in `lock` stay unless `arguments` say otherwise."""
    command = ["uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes"]
    command += ["--group", "dev", "--custom-compile-command", "make lock", "--no-emit-index-url"]
    subprocess.run([*command, "--output-file", lock.name, "pyproject.toml", *arguments], cwd=lock.parent, check=True)


def read_lock(text: str) -> dict[str, tuple[list[str], set[str]]]:
    """Per package: its pins with markers (more than one where versions differ by platform), and who asks for it."""
    packages: dict[str, tuple[list[str], set[str]]] = {}
    for line in text.splitlines():
        if match := PIN.match(line):
            pins, parents = packages.setdefault(match["name"], ([], set()))
            pins.append(match["pin"])
        elif line.startswith("    #"):
            parents.add(line.removeprefix("    #").strip().removeprefix("via").strip())
    return packages


def pins_for(root: str, lock: str) -> list[str]:
    """Pins of all that `root`, a package's name or `PROJECT`, needs, its own among them, in the lock's order.

    For `PROJECT` these are the run-time dependencies and what they need, without the `dev` tools.
    """
    packages = read_lock(lock)
    wanted = {root}
    size = 0
    while len(wanted) > size:
        size = len(wanted)
        wanted |= {name for name, (_, parents) in packages.items() if parents & wanted}
    return [pin for name, (pins, _) in packages.items() if name in wanted for pin in pins]


def with_pins(file: Path, pins: list[str]) -> str:
    """The text of an environment file with its pip block, which comes last, replaced by `pins`."""
    head, block, _ = file.read_text(encoding="utf-8").partition(PIP_BLOCK)
    if not block:
        raise SystemExit(f"error: {file.name} has no pip block: end its dependencies with '  - pip:'")
    return head + block + "".join(f"      - {pin}\n" for pin in pins)


def main() -> None:
    """Rewrite requirements.lock and the pip blocks of the environment files."""
    lock = ROOT / "requirements.lock"
    compile_lock(lock, sys.argv[1:])
    for name, root in ENVIRONMENTS.items():
        pins = pins_for(root, lock.read_text(encoding="utf-8"))
        (ROOT / name).write_text(with_pins(ROOT / name, pins), encoding="utf-8")


if __name__ == "__main__":
    main()
