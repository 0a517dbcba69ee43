"""Studies without votes, and with votes that people have given, beside those of the smoke run."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from workflow_project import SMOKE, Project

from editclip.report.files import read_json

VOTES = "my votes/people's.csv"
NOBODY = {"origin": {"source": "none"}}
LENIENT = {"catch_right": 0}  # an oracle's votes are taken for a person's here, lapses and all
PEOPLE = {"people": {"like": "text", "exclude": LENIENT, "origin": {"source": "path", "path": VOTES}}}


@pytest.fixture
def own(smoke: Project) -> Iterator[Path]:
    """A folder in the finished smoke run's checkout for files of the user's."""
    folder = smoke.folder / Path(VOTES).parent
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)
    for made in ("studies", "votes"):
        shutil.rmtree(smoke.folder / "results" / "smoke" / made / "people", ignore_errors=True)


def overlay(folder: Path, **sections: Any) -> str:
    """A file that changes the smoke config."""
    path = folder / "overlay.yaml"
    path.write_text(yaml.safe_dump(sections))
    return str(path)


def test_a_study_without_votes_is_drawn_and_nothing_else(smoke: Project, own: Path) -> None:
    """It needs no table and no claim, and is a target by itself."""
    planned = smoke.planned(overlay(own, studies={"later": {"like": "text", **NOBODY}}))
    rest = {job for job in planned if not re.match("Recording|Rendering|Writing", job)}
    assert rest == {"Drawing the comparisons of the study later"}


def test_where_nobody_has_voted_there_is_no_table2_and_claims_do_without(smoke: Project, own: Path) -> None:
    studies = {"exemplar": NOBODY, "text": NOBODY, "later": {"like": "text"}}
    changed = overlay(own, run={"name": "unvoted"}, studies=studies, tables={"table1": {"study": None}})
    done = smoke.snakemake("-n", "-p", "--configfile", SMOKE, changed)
    printed = done.stdout + done.stderr
    drawn = set(re.findall(r"Drawing the comparisons of the study (\w+)", printed))
    assert drawn == set(studies)
    assert not re.search("/votes/|/judgements/|editclip.report.table2|results/table2", printed)
    assert re.search(r"editclip.report.claims .* --judgements +--attention .* --out results/unvoted/claims", printed)
    bare = overlay(own, studies=studies, tables={"table1": {"study": None}}, claims=None)
    without = smoke.snakemake("-n", "--configfile", SMOKE, bare)
    assert not re.search("results/claims|Publishing Table", without.stdout + without.stderr)


def test_votes_of_people_are_read_from_any_path(smoke: Project, own: Path) -> None:
    oracle = pd.read_csv(smoke.folder / "results/smoke/votes/text/votes.csv", dtype=str, keep_default_na=False)
    oracle.assign(rater="Zoë").drop_duplicates(["item_id", "question"]).to_csv(smoke.folder / VOTES, index=False)
    changed = overlay(own, studies=PEOPLE)
    voting = {
        "Drawing the comparisons of the study people", "Checking the votes of the study people",
        "Holding methods and metrics against the votes of the study people",
    }  # fmt: skip
    assert {job for job in smoke.planned(changed) if job.endswith("the study people")} == voting
    smoke.snakemake("--configfile", SMOKE, changed, "--", "results/smoke/votes/people")
    folder = smoke.folder / "results/smoke/votes/people"
    read = pd.read_csv(folder / "votes.csv", dtype=str)
    assert set(read["rater"]) == {"Zoë"} and set(read["item_id"]) == set(oracle["item_id"])
    assert read_json(folder / "votes.json")["origin"] == "human"


def test_votes_that_are_not_there_are_refused_before_any_job(smoke: Project, own: Path) -> None:
    done = smoke.snakemake("-n", "--configfile", SMOKE, overlay(own, studies=PEOPLE), check=False)
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if line and not line.startswith("Using ")]
    assert said == [f"error: config value studies.people.origin.path: there is no file {VOTES}"]
