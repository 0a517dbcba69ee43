"""What jobs ask of a cluster: the config's own section, and entries that say otherwise."""

import os
import re
import shutil
from pathlib import Path

import pytest
from workflow_project import ROOT, SMOKE, Project, checkout

from editclip.config.resources import MethodRequest, Request, Resources
from editclip.editing.cards import STAGES


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A checkout in which nothing has run, without the rules' messages: they stand where resources would be said."""
    project = checkout(tmp_path_factory.mktemp("resources"))
    for path in (project.folder / "workflow" / "rules").glob("*.smk"):
        path.write_text(re.sub(r"\n +message:\n.*", "", path.read_text()))
    return project


def requests(project: Project, folder: Path, *more: str) -> dict[tuple[str, str], str]:
    """(rule, method or "") → what a dry run says of the job's resources; `more` are lines of an overlay."""
    overlay = folder / "overlay.yaml"
    overlay.write_text("\n".join(["resources: {memory_gb: 2.5, minutes: 7, gpus: 2}", *more]))
    plan = project.snakemake("-n", "--configfile", SMOKE, str(overlay))
    found = {}
    for job in re.split(r"\n(?=(?:local)?rule )", plan.stdout + plan.stderr):
        rule, asked = re.match(r"(?:local)?rule (\w+):", job), re.search(r"^    resources: (.*)$", job, re.MULTILINE)
        method = re.search(r"^    wildcards: .*method=([\w-]+)", job, re.MULTILINE)
        if rule and asked:
            found[rule[1], method[1] if method else ""] = asked[1]
    return found


def test_every_heavy_job_asks_for_what_the_config_says(project: Project, tmp_path: Path) -> None:
    found = requests(project, tmp_path)
    heavy = [("train_clip", ""), ("edit", "ip2p"), ("prepare", "visii"), ("time_edits", "editclip"), ("score", "visii")]
    for job in (*heavy, ("representation", ""), ("attention", "")):
        assert "mem_mb=2500" in found[job] and "runtime=7" in found[job], job
    assert "gpu=0" in found["edit", "copy_query"]
    assert "runtime=" not in found["table", ""]


def test_an_entry_asks_for_what_it_says_and_else_for_what_all_ask(project: Project, tmp_path: Path) -> None:
    large = ["weights: {clip: {resources: {memory_gb: 40}}}", "methods: {ip2p: {resources: {minutes: 99}}}"]
    found = requests(project, tmp_path, *large)
    assert "mem_mb=40000" in found["train_clip", ""] and "runtime=7" in found["train_clip", ""]
    assert "mem_mb=2500" in found["edit", "ip2p"] and "runtime=99" in found["edit", "ip2p"]
    assert "runtime=99" in found["edit", "editclip"], "which is like ip2p"
    assert "mem_mb=2500" in found["train_vae", ""] and "runtime=7" in found["edit", "copy_query"]


def test_a_training_has_as_many_processes_as_gpus_and_else_as_it_says(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = requests(project, tmp_path, "weights: {clip: {resources: {gpus: 4, processes: 3}}}")
    assert "processes=3" in found["train_clip", ""] and "processes=1" in found["train_vae", ""]
    driver = tmp_path / "bin" / "nvidia-smi"  # a machine with GPUs has it
    driver.parent.mkdir()
    driver.touch(0o755)
    monkeypatch.setenv("PATH", str(driver.parent), prepend=os.pathsep)
    overlay = str(tmp_path / "overlay.yaml")
    plan = project.snakemake("-n", "-p", "--configfile", SMOKE, overlay, "--resources", "gpu=4")
    calls = [line for line in plan.stdout.splitlines() if "-m editclip.training" in line]
    shared = {re.search(r"weights/(\w+) 2>", call)[1]: re.search(r"--gpus (\d+)", call)[1] for call in calls}
    assert shared["clip"] == "4" and shared["vae"] == "2"
    threads = {re.search(r"weights/(\w+) 2>", call)[1]: re.search(r"--threads (\d+)", call)[1] for call in calls}
    assert threads["clip"] == "2", "four loaders on the two cores that this call may use"


STAGED = """
methods:
  planner:
    like: copy_query
    editor: baselines.planner
    resources: {memory_gb: 9, gpus: 1, prepare: {gpus: 0}, plan: {memory_gb: 40, minutes: 600}, edit: {minutes: 1}}
tables: {staged: {like: table1, rows: [planner, copy_exemplar_after, editclip], bars: []}}
"""


def test_each_stage_asks_for_what_it_says_and_else_for_what_its_method_asks(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(ROOT / "tests" / "three_stages.py", project.folder / "baselines" / "planner.py")
    # A node with a GPU, as far as the rules can see.
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    found = requests(project, tmp_path, STAGED)
    asked = {rule: found[rule, "planner"] for rule in ("prepare", "plan", "edit", "time_edits")}
    assert all(part in asked["prepare"] for part in ("mem_mb=9000", "runtime=7", "gpu=0")), asked
    assert all(part in asked["plan"] for part in ("mem_mb=40000", "runtime=600", "gpu=1")), asked
    assert all(part in asked["edit"] for part in ("mem_mb=9000", "runtime=1,", "gpu=1")), asked
    assert all(part in asked["time_edits"] for part in ("mem_mb=40000", "runtime=600", "gpu=1")), "the most of each"
    stages = {method: {rule for rule, other in found if other == method} for _, method in found}
    assert {"prepare", "plan", "edit"} <= stages["planner"] and "plan" not in stages["editclip"]
    assert not {"prepare", "plan"} & stages["copy_exemplar_after"], "which sees an exemplar, but edits alone"


def test_a_stage_overrides_its_method_key_by_key() -> None:
    request = MethodRequest(memory_gb=9, gpus=1, plan=Request(memory_gb=40), edit=Request(gpus=0))
    asked = {stage: Resources(memory_gb=4, minutes=60, gpus=2).asked(request.of(stage)) for stage in STAGES}
    assert asked == {
        "prepare": Resources(memory_gb=9, minutes=60, gpus=1),
        "plan": Resources(memory_gb=40, minutes=60, gpus=1),
        "edit": Resources(memory_gb=9, minutes=60, gpus=0),
    }


def test_only_the_keys_of_a_request_differ() -> None:
    all_jobs = Resources(memory_gb=4, minutes=60, gpus=1)
    assert all_jobs.asked(None) == all_jobs
    assert all_jobs.asked(Request(gpus=0)) == Resources(memory_gb=4, minutes=60, gpus=0)
