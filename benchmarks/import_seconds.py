"""What every stage imports before it works, in core-seconds.

    python benchmarks/import_seconds.py

A stage is a module that the rules call; the training or the metric families that it loads by name are imported too.
What a method imports in its `load` is not counted. Each line is the least of several fresh processes, so that files are
in memory and bytecode is written; core-seconds are the processes' own and not spoiled by other load.
"""

import argparse
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator

from editclip.metrics.families import FAMILIES
from editclip.provenance import ROOT
from editclip.recipes.kinds import kind_names, read_kind


def stages() -> Iterator[tuple[str, list[str]]]:
    """Every stage of the workflow, with the modules that it imports."""
    rules = "\n".join(path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("workflow/rules/*.smk")))
    for module in dict.fromkeys(re.findall(r"python -m ([\w.]+)", rules)):
        if module == "editclip.training":
            for kind in map(read_kind, kind_names()):
                if kind.training:
                    yield f"train: {kind.name}", [module, kind.training]
        elif module == "editclip.metrics.scoring":
            yield "score", [module, *(family.module for family in FAMILIES.values())]
        else:
            yield module, [module]
    yield "editclip --help", ["editclip.cli"]


def core_seconds(modules: list[str]) -> float:
    """Core-seconds of a fresh process that imports some modules."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": ""}  # as the Makefile sets it for a run
    subprocess.run([sys.executable, "-c", f"import {', '.join(modules)}"], cwd=ROOT, env=environment, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="processes of each stage (default: 3)")
    repeats = parser.parse_args().repeats
    print("| stage | core-seconds |\n|---|---|")
    for name, modules in stages():
        print(f"| {name} | {min(core_seconds(modules) for _ in range(repeats)):.1f} |", flush=True)


if __name__ == "__main__":
    main()
