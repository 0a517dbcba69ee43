"""A method of three stages in the workflow, from the benchmark to its gathered edits, in a copy of the smoke run."""

import csv
import re
import shutil
from pathlib import Path

import yaml
from workflow_project import ROOT, SMOKE, Project

METHOD = {"like": "copy_query", "editor": "baselines.planner", "seeds": [0, 1], "shards": 2}
ROWS = {"like": "table1", "rows": ["planner", "copy_exemplar_after"], "reference": None, "bars": [], "study": None}
OVERLAY = {"methods": {"planner": METHOD}, "tables": {"staged": ROWS}}


def test_each_stage_is_a_job_of_methods_that_name_it(smoke: Project, tmp_path: Path) -> None:
    project = Project(Path(shutil.copytree(smoke.folder, tmp_path / "project", symlinks=True)))
    shutil.copy(ROOT / "tests" / "three_stages.py", project.folder / "baselines" / "planner.py")
    (project.folder / "overlay.yaml").write_text(yaml.safe_dump(OVERLAY))
    run = project.folder / "results" / "smoke"
    done = project.snakemake("--configfile", SMOKE, "overlay.yaml", "--", "results/smoke/edits/planner")
    jobs = re.findall(r"^Job \d+: (.*)$", done.stdout + done.stderr, flags=re.MULTILINE)
    shards = ("shard 0-of-2", "shard 1-of-2")
    staged = [job for job in jobs if re.match("Preparing|Planning|Editing", job)]
    stages = ("Editing with planner", "Planning with planner", "Preparing the exemplars for planner")
    assert sorted(staged) == [f"{stage}, {shard}" for stage in stages for shard in shards]
    with (run / "bench" / "manifest.csv").open(newline="") as file:
        samples = {row["sample_id"] for row in csv.DictReader(file)}
    planned = [{path.stem for path in (run / "planned" / "planner").glob(f"{k}-of-2/*.safetensors")} for k in (0, 1)]
    assert planned[0] | planned[1] == samples and not planned[0] & planned[1] and all(planned)
    for seed in (0, 1):
        with (run / "edits" / "planner" / f"seed={seed}" / "edits.csv").open(newline="") as file:
            assert {row["sample_id"]: row["status"] for row in csv.DictReader(file)} == dict.fromkeys(samples, "ok")
    undeclared = "results/smoke/planned/copy_exemplar_after/0-of-1"
    refused = project.snakemake("-n", "--configfile", SMOKE, "overlay.yaml", "--", undeclared, check=False)
    assert refused.returncode and "MissingRuleException" in refused.stdout + refused.stderr
