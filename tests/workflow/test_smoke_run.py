"""What one smoke run leaves behind, and that it is finished."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from workflow_project import SMOKE, Project, checkout

from editclip.config.studies import Study
from editclip.config.tree import read_config
from editclip.report.claims import NOT_TESTABLE, VERDICTS
from editclip.report.page import OWN_SECTIONS, STUDY_PICTURES
from editclip.study.sheet import COLUMNS as ITEM_COLUMNS
from editclip.study.sheet import QUESTIONS

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


def test_win_rates_are_an_oracles_and_say_so(smoke: Project) -> None:
    table = pd.read_csv(smoke.folder / "results" / "table1.csv", index_col="method")
    reference, *rivals = studies(smoke)["exemplar"].methods
    judged = table["wr_edit"].notna()
    assert set(table.index[judged]) == set(rivals) and (judged == table["wr_pres"].notna()).all()
    assert table.loc[judged, ["wr_edit", "wr_pres"]].apply(lambda rates: rates.between(0, 100)).all(axis=None)
    assert set(table.index[table["notes"].str.contains("votes=oracle")]) == {reference, *rivals}
    assert table.drop(index=[reference, *rivals])["notes"].str.contains("votes=none").all()
    assert "(oracle)" in (smoke.folder / "results" / "table1.md").read_text()


def studies(smoke: Project) -> dict[str, Study]:
    """The studies of the smoke config."""
    return read_config(smoke.folder / SMOKE).studies


def test_every_study_is_drawn_of_the_methods_that_it_names(smoke: Project) -> None:
    for name, study in studies(smoke).items():
        folder = smoke.folder / "results" / "smoke" / "studies" / name
        items = pd.read_csv(folder / "study.csv", dtype=str, keep_default_na=False)
        assert list(items.columns) == list(ITEM_COLUMNS)
        pairs = items[items["kind"] == "pair"]
        assert set(zip(pairs["first"], pairs["second"], strict=True)) == set(study.compared)
        assert study.catch is not None
        assert set(items.loc[items["kind"] == "catch", "expected"]) == {study.catch.right}
        shown = {path for column in items.columns if column.endswith(("_image", "_before", "_after"))
                 for path in items[column]}  # fmt: skip
        assert all((folder / path).is_file() for path in shown)
        assert (folder / "hit.html").is_file()


def test_table2_is_whole_and_finite_where_defined(smoke: Project) -> None:
    results, paper = smoke.folder / "results", pd.read_csv(smoke.folder / "paper" / "table2.csv")
    table = pd.read_csv(results / "table2.csv")
    assert list(table.columns) == [*paper.columns, "notes"] and list(table["judgement"]) == list(QUESTIONS)
    assert table["notes"].str.startswith("run=smoke; votes=oracle; ").all()
    full = pd.read_csv(results / "table2_full.csv", keep_default_na=False)
    estimates = pd.to_numeric(full["estimate"])
    assert set(full["study"]) == set(studies(smoke)) and np.isfinite(estimates[estimates.notna()]).all()
    assert (full.loc[estimates.isna(), "note"] != "").all()
    shown = full[full["statistic"] == "d1"].set_index(["question", "metric"])
    for row in table.to_dict("records"):
        for metric in paper.columns[1:]:
            assert np.isfinite(row[metric]) or shown.loc[(row["judgement"], metric), "note"], metric


def test_every_claim_has_its_verdict(smoke: Project) -> None:
    claims = pd.read_csv(smoke.folder / "results" / "claims.csv", keep_default_na=False)
    declared = yaml.safe_load((smoke.folder / "paper" / "claims.yaml").read_text())["claims"]
    assert list(claims["id"]) == list(declared) and set(claims["verdict"]) <= set(VERDICTS)
    left = claims["verdict"] == NOT_TESTABLE
    assert (claims.loc[left, "note"] != "").all() and pd.to_numeric(claims.loc[~left, "effect"]).notna().all()
    of_votes = claims["note"].str.contains("votes of an oracle") & ~left
    assert of_votes.any() and (~left & ~of_votes).any()


def test_copying_the_query_has_no_perceptual_distance_to_it(smoke: Project) -> None:
    full = pd.read_csv(smoke.folder / "results" / "table1_full.csv")
    own = full[(full["scope"] == "all") & (full["metric"] == "lpips_alex")].set_index("method")["mean"]
    copies = [name for name in own.index if "query" in name.lower()]
    assert copies and all(own[name] == pytest.approx(0.0, abs=1e-6) for name in copies)


def test_every_artefact_says_where_it_comes_from(smoke: Project) -> None:
    run = smoke.folder / "results" / "smoke"
    artefacts = [run / "triplets", run / "bench", run / "tables" / "table1", *(run / "weights").iterdir()]
    artefacts += [run / "table2", run / "claims"]
    artefacts += [path for part in ("studies", "votes", "judgements") for path in (run / part).iterdir()]
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
    assert {"table1.html", "table2.csv", "claims.csv"} <= {Path(link).name for link in links}
    assert all((report.parent / link).exists() for link in links), links


def test_every_notebook_without_a_section_of_its_own_is_among_the_figures_of_the_report(smoke: Project) -> None:
    rendered = {path.stem for path in (smoke.folder / "results/smoke/notebooks").glob("*.html")}
    shown = set(re.findall(r'<article id="(\w+)">', (smoke.folder / "results/report.html").read_text()))
    assert (
        {"fig04_comparison", "fig08_queries", "fig10_failures", "fig14_gallery"}
        <= shown
        == rendered - set(OWN_SECTIONS)
    )


def test_the_notebook_of_table2_draws_every_study(smoke: Project) -> None:
    drawn = {path.name for path in (smoke.folder / "results/smoke/figures/table2").glob("*.png")}
    assert drawn == {f"{part}_{name}.png" for part in STUDY_PICTURES for name in studies(smoke)}


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
