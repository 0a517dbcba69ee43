"""Kill a run again and again, start it again with the same command, and compare it with an unbroken run bit by bit.

    python benchmarks/kill_and_resume.py --config config/smoke.yaml --cores 2 --out outcome.md

Both runs happen in fresh copies of the project's files (those that git tracks) with a cache each. The unbroken run says
how long each job takes; the kills (SIGKILL to the whole process group) are spread over the kinds of jobs, each at a
random moment of a random job. In the end all weights, images and tables must have the same bits in both runs, times
apart, and nothing that was finished when a kill came may have been made anew. Exit status 1 if not.
"""

import argparse
import contextlib
import csv
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import torch
import yaml

from editclip.config.tree import read_config
from editclip.report.evidence import MEASURES

ROOT = Path(__file__).resolve().parents[1]
CONFIG = "config/interrupted.yaml"  # in the copies: the given one with what the options change
# The kinds of jobs in the order in which they get a kill, and the rules of each.
KINDS = {
    "training": r"train_\w+",
    "editing": "edit",
    "scoring": "score|score_shard",
    "notebook": "notebook",
    "preparing": "prepare|plan",
    "timing": "time_edits",
    "data": r"world_\w+|bench",
}
COMPARED = (".safetensors", ".png", ".csv", ".parquet")
TIMED = ("seconds", "runtime_s", "runtime_s_busy")  # columns of tables that hold times or loads
# Columns and how the values of rows begin that are times: of table1_full.csv, representation.csv, evidence.csv.
TIMED_ROWS = (("metric", "runtime"), ("measure", "core_minutes"), ("claim", MEASURES["core_minutes"]))
STARTED, FINISHED = re.compile(r"Job (\d+): (.+)"), re.compile(r"Finished jobid: (\d+) \(Rule: (\w+)\)")
STEP = re.compile(r"\s*\d+%\|[^|]*\| (\d+)/\d+ \[")  # of a training's progress bar: the others have a name


@dataclass
class Job:
    """A job as the workflow's output tells of it; times in CPU seconds of the whole run (see `Attempt.clock`)."""

    message: str
    started: float
    rule: str = ""
    finished: float | None = None
    step: int = 0


@dataclass
class Attempt:
    """One call of Snakemake in `folder` and the jobs it has begun, in order."""

    folder: Path
    cores: int
    jobs: dict[int, Job] = field(default_factory=dict)
    output: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Start it, in a process group of its own."""
        command = [sys.executable, "-m", "snakemake", "--cores", str(self.cores), "--configfile", CONFIG]
        environment = {k: v for k, v in os.environ.items() if k not in ("EDITCLIP_CACHE", "PYTHONPATH")}
        self.process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def clock(self) -> float:
        """CPU seconds of all its processes so far: unlike the wall's, they do not depend on what else runs here."""
        total = 0.0
        with contextlib.suppress(psutil.NoSuchProcess):
            main = psutil.Process(self.process.pid)
            for process in [main, *main.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    total += sum(process.cpu_times()[:4])  # own user and system, and those of ended children
        return total

    def _read(self) -> None:
        current: Job | None = None
        for line in self.process.stdout or ():
            self.output.append(line)
            if match := STARTED.match(line):
                current = self.jobs[int(match[1])] = Job(match[2].strip(), self.clock())
            elif (match := FINISHED.match(line)) and int(match[1]) in self.jobs:  # `all` ends without having begun
                self.jobs[int(match[1])].rule = match[2]
                self.jobs[int(match[1])].finished = self.clock()
            elif current is not None and (match := STEP.match(line)):
                current.step = int(match[1])

    def kill(self) -> None:
        """End the whole process group at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def success(self) -> bool:
        """Wait for the end; whether all went well."""
        self.reader.join()
        return self.process.wait() == 0


@dataclass
class Kill:
    """A kill planned `delay` CPU seconds into a job, and what it met."""

    message: str
    rule: str
    delay: float
    met: str = ""


def project(folder: Path, config: dict) -> Path:  # type: ignore[type-arg]
    """A fresh copy of the project's tracked files, with `config`."""
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / CONFIG).write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return folder


def plan(jobs: list[Job], count: int, draw: random.Random) -> list[Kill]:
    """`count` different jobs, the kinds in turn; each to be killed in the last three quarters of its time.

    (The first quarter is mostly imports, where a kill costs nothing.)
    """
    pools = [[job for job in jobs if re.fullmatch(rules, job.rule)] for rules in KINDS.values()]
    chosen: list[Job] = []
    while len(chosen) < count and any(pools):
        for pool in filter(None, pools):
            chosen.append(pool.pop(draw.randrange(len(pool))))
    return [
        Kill(job.message, job.rule, draw.uniform(0.25, 1) * ((job.finished or job.started) - job.started))
        for job in sorted(chosen[:count], key=lambda job: job.started)
    ]


def finished_items(folder: Path) -> dict[str, int]:
    """What the cache of a run holds: file → time of writing in ns; checkpoints, which are meant to change, left out."""
    files = (p for kind in ("prepared", "planned", "edits", "features") for p in (folder / ".cache" / kind).rglob("*"))
    return {str(p): p.stat().st_mtime_ns for p in files if p.is_file() and not p.name.startswith(".")}


def checkpoint_step(folder: Path, since: float) -> int:
    """Step of the newest checkpoint written after `since` (seconds of the clock); 0 without one."""
    found = [p for p in (folder / ".cache" / "checkpoints").rglob("checkpoint.pt") if p.stat().st_mtime >= since]
    newest = max(found, key=lambda p: p.stat().st_mtime, default=None)
    return 0 if newest is None else int(torch.load(newest, map_location="cpu", weights_only=True)["step"])


def wait_for(attempt: Attempt, pending: list[Kill]) -> tuple[Kill, Job] | None:
    """The first of the planned kills that is due, with its job; None when the run has ended before."""
    while attempt.process.poll() is None:
        now = attempt.clock()
        for job in list(attempt.jobs.values()):
            for kill in pending:
                late = now - job.started >= kill.delay
                if job.message == kill.message and (late or job.finished is not None):
                    return kill, job
        time.sleep(0.05)
    return None


def break_off(folder: Path, cores: int, pending: list[Kill]) -> Iterator[tuple[Kill, dict[str, int]]]:
    """Run to the end through all kills; yield each with what was finished then.

    Raises:
        RuntimeError: a run failed without being killed.
    """
    while True:
        attempt, begun = Attempt(folder, cores), time.time()
        due = wait_for(attempt, pending)
        if due is None:
            if not attempt.success():
                raise RuntimeError("".join(attempt.output[-60:]))
            return
        kill, job = due
        attempt.kill()
        pending.remove(kill)
        if kill.rule.startswith("train_"):
            saved = checkpoint_step(folder, begun)
            kill.met = f"step {max(job.step, saved)}, checkpoint of step {saved}"
        else:
            kept = finished_items(folder)
            exemplars, images = (sum(f"/{kind}/" in name for name in kept) // 2 for kind in ("prepared", "edits"))
            batches = sum("/features/" in name for name in kept)  # the other two: each a file and its note
            kill.met = f"{exemplars} exemplars, {images} images, {batches} batches of features"
        kill.met += "" if job.finished is None else " (the job had just ended)"
        yield kill, finished_items(folder)


def content(file: Path) -> bytes | list[dict[str, str]]:
    """What is compared of a file: its bytes; of a table, what is no time."""
    if file.suffix != ".csv":
        return file.read_bytes()
    with open(file, newline="", encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if not any(row.get(k, "").startswith(v) for k, v in TIMED_ROWS)]
    kept = [{key: value for key, value in row.items() if key not in TIMED} for row in rows]
    return [
        {key: re.sub(r"; runtime_s on a busy machine: [^;]*", "", value) for key, value in row.items()} for row in kept
    ]


def artefacts(folder: Path) -> dict[str, Path]:
    """The files to compare by name; runtime/ holds nothing but times."""
    found = ((p.relative_to(folder), p) for p in (folder / "results").rglob("*") if p.suffix in COMPARED)
    return {str(name): p for name, p in found if "runtime" not in name.parts}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=ROOT / "config" / "smoke.yaml")
    parser.add_argument("--methods", nargs="*", help="keep only these methods of the config")
    parser.add_argument(
        "--checkpoint-seconds", type=float, default=0.5, help="of every recipe, so that kills meet some"
    )
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the kills")
    parser.add_argument(
        "--cores", type=int, default=1, help="one makes the order of jobs, and so the kills, repeatable"
    )
    parser.add_argument("--work", type=Path, help="folder for the two copies, kept (default: a temporary one)")
    parser.add_argument("--out", type=Path, help="Markdown file for the outcome, besides standard output")
    given = parser.parse_args()
    config = read_config(given.config).model_dump(mode="json", by_alias=True)  # whole: nothing is `like` another file
    if given.methods is not None:
        for table in config["tables"].values():
            table |= {"rows": given.methods, "reference": None, "bars": [], "study": None}
    for weights in config["weights"].values():
        if "checkpoint_seconds" in weights.get("recipe", {}):
            weights["recipe"]["checkpoint_seconds"] = given.checkpoint_seconds
    with tempfile.TemporaryDirectory() as temporary:
        text, equal = compare_runs(config, given, given.work or Path(temporary))
    sys.stdout.write(text)
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    sys.exit(0 if equal else 1)


def compare_runs(config: dict, given: argparse.Namespace, work: Path) -> tuple[str, bool]:  # type: ignore[type-arg]
    """Both runs in `work`: the outcome as Markdown, and whether it is as it should be."""
    whole, broken = project(work / "whole", config), project(work / "broken", config)
    start = time.monotonic()
    unbroken = Attempt(whole, given.cores)
    if not unbroken.success():
        raise RuntimeError("".join(unbroken.output[-60:]))
    middle = time.monotonic()
    kills = plan(list(unbroken.jobs.values()), given.kills, random.Random(given.seed))
    lines = ["| kill | job | after | at that moment |", "|---|---|---|---|"]
    before: dict[str, int] = {}
    again = 0
    for number, (kill, kept) in enumerate(break_off(broken, given.cores, list(kills)), 1):
        again += sum(kept.get(name) != written for name, written in before.items())
        before = kept
        lines.append(f"| {number} | {kill.message} | {kill.delay:.1f} CPU s | {kill.met} |")
        sys.stderr.write(lines[-1] + "\n")
    now = finished_items(broken)
    again += sum(now.get(name) != written for name, written in before.items())
    seconds = (middle - start, time.monotonic() - middle)
    first, second = artefacts(whole), artefacts(broken)
    other = sorted(n for n in first.keys() | second.keys() if n not in first or n not in second)
    other += sorted(n for n in first.keys() & second.keys() if content(first[n]) != content(second[n]))
    by_kind = ", ".join(f"{sum(n.endswith(s) for n in first)} {s}" for s in COMPARED)
    lines += [
        "",
        f"Unbroken {seconds[0]:.0f} s, broken off {len(lines) - 2} times {seconds[1]:.0f} s, {given.cores} core(s).",
        f"Finished items made anew: {again}.",
        f"Files compared: {len(first)} ({by_kind}). Differing: {len(other)}.",
        *(f"- {name}" for name in other[:20]),
    ]
    return "\n".join(lines) + "\n", not other and not again and len(kills) == given.kills


if __name__ == "__main__":
    main()
