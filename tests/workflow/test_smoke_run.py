"""What one smoke run leaves behind, and that it is finished."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml
from workflow_project import SMOKE, Project, checkout

COLUMNS = [  # design of the published table
    "method", "conditioning", "lpips", "clip", "ec2t", "clip_dir", "s_visual_dist", "ec2ec",
    "wr_edit", "wr_pres", "runtime_s", "notes",
]  # fmt: skip


def test_table1_has_every_method_and_is_finite_where_defined(smoke: Project) -> None:
    table = pd.read_csv(smoke.folder / "results" / "table1.csv", index_col="method")
    config = yaml.safe_load((smoke.folder / SMOKE).read_text())
    assert list(table.reset_index().columns) == COLUMNS
    assert list(table.index) == config["tables"]["table1"]["rows"]
    defined = ["lpips", "clip", "ec2t", "clip_dir", "s_visual_dist", "ec2ec"]
    directionless = table.index[table["clip_dir"].isna()]
    assert len(directionless) == 1, "only a copy of the query has no direction"
    assert table.loc[directionless, ["lpips", "clip", "ec2t", "ec2ec"]].notna().all(axis=None)
    assert "clip_dir empty: " in table.loc[directionless[0], "notes"]
    assert table.drop(index=directionless)[defined].notna().all(axis=None)
    timed = table["runtime_s"].notna()
    methods = {"ip2p", "editclip", "visii", "prompt-diffusion", "instamanip"}
    assert set(table.index[timed]) == methods, "controls are not timed"
    assert table.loc[~timed, "notes"].str.contains("runtime_s empty: not timed").all()
    assert not table["notes"].str.contains("random_trunk").any()
    assert table["notes"].str.contains("run=smoke").all()


def test_copying_the_query_has_no_perceptual_distance_to_it(smoke: Project) -> None:
    full = pd.read_csv(smoke.folder / "results" / "table1_full.csv")
    own = full[(full["scope"] == "all") & (full["metric"] == "lpips_alex")].set_index("method")["mean"]
    copies = [name for name in own.index if "query" in name.lower()]
    assert copies and all(own[name] == pytest.approx(0.0, abs=1e-6) for name in copies)


def test_every_artefact_says_where_it_comes_from(smoke: Project) -> None:
    run = smoke.folder / "results" / "smoke"
    artefacts = [run / "triplets", run / "bench", run / "tables" / "table1", *(run / "weights").iterdir()]
    artefacts += [*(run / "edits").glob("*"), *(run / "scores").glob("*/*")]
    for folder in artefacts:
        provenance = json.loads((folder / "provenance.json").read_text())
        assert provenance["code"]["digest"] and provenance["packages"]["torch"], folder


def test_report_links_only_files_that_exist(smoke: Project) -> None:
    from html.parser import HTMLParser

    links: list[str] = []

    class Links(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            links.extend(v for k, v in attrs if k in ("href", "src") and v and not v.startswith(("data:", "#", "http")))

    report = smoke.folder / "results" / "report.html"
    Links().feed(report.read_text())
    assert any(link.endswith("table1.html") for link in links)
    assert all((report.parent / link).exists() for link in links), links


def test_a_second_run_has_nothing_to_do(smoke: Project) -> None:
    done = smoke.snakemake("--configfile", SMOKE)
    assert "Nothing to be done" in done.stdout + done.stderr


def test_a_fresh_clone_has_everything_to_do(tmp_path: Path) -> None:
    project = checkout(tmp_path)
    planned = project.planned()
    assert {"Drawing the procedural training triplets", "Training editclip", "Writing the report"} <= planned
    assert len(planned) > 30
    scored = {job for job in planned if "ip2p" in job and job.startswith(("Scoring", "Gathering"))}
    gathered = {"Gathering the shards of ip2p", "Gathering the scores of ip2p"}
    assert scored == {"Scoring ip2p, shard 0-of-2", "Scoring ip2p, shard 1-of-2", *gathered}
    with project.edited(SMOKE, lambda text: text.replace("shards: 2 ", "shards: 1 ")):
        whole = project.planned()
    assert "Gathering the shards of ip2p" in whole and "Scoring ip2p" in whole
    assert len(planned - whole) == 5 and len(whole - planned) == 2, "no job of sharding is left"
