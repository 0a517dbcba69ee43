"""Table 1 against closed-form means of planted scores."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from run_folder import (
    EXEMPLARS,
    METHODS,
    PAPER,
    QUERIES,
    STATISTICS,
    TIMED,
    TYPES,
    change,
    make_table,
    planted_table,
    read,
    written,
)  # fmt: skip
from scipy.stats import t as student

from editclip import stats
from editclip.config.section import checked
from editclip.config.tables import Table
from editclip.report import beside_paper, rows, tables
from editclip.report import summary as summaries
from editclip.report.columns import MEASURED, TABLE1
from editclip.report.files import read_numbers
from editclip.report.results import RunResults

SAMPLES = len(TYPES) * EXEMPLARS * QUERIES


def headline(results: RunResults) -> pd.DataFrame:
    table = checked(Table, planted_table())
    full = tables.full_table(table, results)
    return tables.headline(full, results, rows.row_facts(table, results, full))


def summary(results: RunResults, reference: str | None = "editclip") -> pd.DataFrame:
    settings = stats.Settings(**STATISTICS)
    return summaries.summarise(summaries.long_scores(results), results.methods, settings, reference)


def expected(method: str) -> float:
    """Mean over samples of the mean over seeds of a score that is base + 0.01 sample + 0.1 seed."""
    seeds = METHODS[method][2]
    return METHODS[method][3] + 0.01 * (SAMPLES - 1) / 2 + 0.1 * sum(seeds) / len(seeds)


def test_table1_has_the_planted_means_in_config_order(planted: Path, tmp_path: Path) -> None:
    table = read_numbers(written(planted, tmp_path / "t") / "table1.csv", TABLE1)
    assert tuple(table.columns) == TABLE1
    assert table["method"].tolist() == list(METHODS)
    for row in table.to_dict("records"):
        for name in MEASURED:
            if row["method"] == "copy_query" and name in ("clip_dir", "s_visual_dist"):
                assert pd.isna(row[name])
            else:
                assert row[name] == pytest.approx(expected(row["method"]), abs=1e-6)
    assert table["wr_edit"].isna().all()


def test_notes_name_the_run_the_trunk_the_form_and_why_a_cell_is_empty(planted: Path, tmp_path: Path) -> None:
    notes = read_numbers(written(planted, tmp_path / "t") / "table1.csv", TABLE1).set_index("method")["notes"]
    for part in ("run=planted", "lpips=random_trunk", "clip_dir=eq11"):
        assert notes.str.contains(part, regex=False).all()
    assert "clip_dir empty: the image did not change" in notes["copy_query"]
    assert "exemplars=shuffled" in notes["shuffled-editclip"]


def test_the_seconds_of_an_edit_include_the_preparation_whole_or_shared(planted: Path, tmp_path: Path) -> None:
    """Two timed edits of 3 + 0.5 and 6 + 1 seconds; an exemplar serves 3 queries: 1 + 0.5 and 2 + 1."""
    table = read_numbers(written(planted, tmp_path / "t") / "table1.csv", TABLE1).set_index("method")
    full = pd.read_csv(tmp_path / "t" / "table1_full.csv").query("metric.str.startswith('runtime')")
    means = full.set_index(["method", "metric"])["mean"].to_dict()
    for name in TIMED:
        assert table.loc[name, "runtime_s"] == means[name, "runtime_s"] == pytest.approx((3.5 + 7) / 2)
        assert means[name, "runtime_amortised_s"] == pytest.approx((1.5 + 3) / 2)
    assert (full["n"] == 2).all() and (full["seeds"] == 2).all() and len(full) == 2 * len(TIMED)
    spread = full.set_index(["method", "metric"])["seed_sd"]
    assert spread["ip2p", "runtime_s"] == pytest.approx(3.5 / 2**0.5, abs=1e-5)  # of two numbers 3.5 apart
    untimed = table.drop(index=list(TIMED))
    assert untimed["runtime_s"].isna().all() and untimed["notes"].str.contains("runtime_s empty: not timed").all()
    assert not table["notes"].str.contains("busy").any()


def test_seconds_that_were_measured_beside_other_work_say_so(run: Path, tmp_path: Path) -> None:
    change(run / "runtime" / "ip2p" / "runtime.csv", "load", 1, "2.5")
    notes = read_numbers(written(run, tmp_path / "t") / "table1.csv", TABLE1).set_index("method")["notes"]
    assert "runtime_s on a busy machine: load 2.5 on 2 cores" in notes["ip2p"]
    assert "busy" not in notes["editclip"]


def test_an_edit_that_failed_is_not_timed(run: Path) -> None:
    path = run / "runtime" / "ip2p" / "runtime.csv"
    for column, value in (("edit_seconds", ""), ("status", "failed"), ("reason", "out of memory")):
        change(path, column, 0, value)
    seconds = summaries.summarise_runtime(read(run)).query("method == 'ip2p'").set_index("metric")
    assert seconds.loc["runtime_s", ["mean", "n", "n_failed"]].tolist() == [7, 1, 1]


def test_an_undefined_value_is_counted_and_enters_no_mean(run: Path) -> None:
    """Without sample 0 (the smallest score) the mean rises from that of 0..17 to that of 1..17."""
    for seed in METHODS["ip2p"][2]:
        path = run / "scores" / "ip2p" / "clip" / f"seed={seed}.csv"
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        row = frame.index[frame["metric"] == "clip_dir_captions"][0]
        for column, value in (("value", ""), ("status", "undefined"), ("reason", "no change")):
            change(path, column, row, value)
    table = headline(read(run))
    assert table.loc[0, "clip_dir"] == pytest.approx(expected("ip2p") + 0.01 * 0.5, abs=1e-9)
    assert "n_undefined=clip_dir:2" in table.loc[0, "notes"]


def test_a_sample_with_one_lost_seed_weighs_as_much_as_the_others(run: Path) -> None:
    path = run / "scores" / "ip2p" / "editclip" / "seed=1.csv"
    row = pd.read_csv(path).query("metric == 'ec2ec'").index[0]
    for column, value in (("value", ""), ("status", "undefined"), ("reason", "r")):
        change(path, column, row, value)
    table = headline(read(run))
    # sample 0 keeps seed 0 alone: its mean falls by 0.05, the table's by 0.05 / 18
    assert table.loc[0, "ec2ec"] == pytest.approx(expected("ip2p") - 0.05 / SAMPLES, abs=1e-9)


def test_full_table_agrees_with_table1_and_has_sd_over_seeds_and_types(planted: Path, tmp_path: Path) -> None:
    out = written(planted, tmp_path / "t")
    full = pd.read_csv(out / "table1_full.csv", keep_default_na=False)
    table = pd.read_csv(out / "table1.csv", keep_default_na=False).set_index("method")
    whole = full[(full["scope"] == "all") & (full["metric"] == "ec2ec")].set_index("method")
    assert (whole["mean"].astype(str) == table["ec2ec"].astype(str)).all()
    assert float(whole.loc["ip2p", "seed_sd"]) == pytest.approx(0.1 / 2**0.5, abs=1e-6)  # sd of (x, x + 0.1), ddof 1
    assert whole.loc["copy_query", "seed_sd"] == ""
    types = full[(full["scope"] == "type") & (full["metric"] == "ec2ec") & (full["method"] == "copy_query")]
    first = dict(zip(types["scope_value"], types["mean"].astype(float), strict=True))
    each = EXEMPLARS * QUERIES  # samples of a type are consecutive: 0..5, 6..11, 12..17
    wanted = {t: 0.01 * (i * each + (each - 1) / 2) for i, t in enumerate(TYPES)}
    assert first == pytest.approx(wanted, abs=1e-6)
    assert set(full.loc[full["scope"] == "family", "scope_value"]) == set(TYPES.values())


def test_intervals_of_the_planted_scores_are_those_of_a_two_way_layout(planted: Path) -> None:
    """A type's scores are a grid of 2 exemplars x 3 queries, 0.03 apart and 0.01 apart, with no interaction.

    Variance of its mean: 0.03^2 / 2 / 2 (ddof 1) for exemplars + 0.01^2 / 3 for queries, with 1 and 2 degrees of
    freedom; the bench's is a third of it, with three times the degrees.
    """
    full = summary(read(planted)).set_index(["scope", "scope_value", "method", "metric"])
    parts = np.array([0.03**2 / 4, 0.01**2 / 3])
    freedom = parts.sum() ** 2 / (parts**2 / [1, 2]).sum()
    for key, types in ((("type", "add_hat"), 1), (("all", ""), 3)):
        row = full.loc[(*key, "ip2p", "ec2ec")]
        half = student.ppf(0.975, freedom * types) * np.sqrt(parts.sum() / types)
        assert (row["high"] - row["low"]) / 2 == pytest.approx(half, rel=0.05)  # 1,000 draws: 2 %
        assert (row["high"] + row["low"]) / 2 == pytest.approx(row["mean"])


def test_resampled_types_need_two_of_them(planted: Path) -> None:
    """Type means are 0.06 apart: their mean has the standard error 0.06 / sqrt(3), with 2 degrees of freedom."""
    full = summary(read(planted)).set_index(["scope", "scope_value", "method", "metric"])
    row = full.loc["all", "", "editclip", "ec2ec"]
    half = student.ppf(0.975, 2) * 0.06 / 3**0.5
    assert (row["high_types"] - row["low_types"]) / 2 == pytest.approx(half, rel=0.05)
    assert full.loc[["family", "type"], ["low_types", "high_types"]].isna().all(axis=None)


def test_differences_are_paired_with_the_reference_and_tested_on_the_whole_bench_alone(planted: Path) -> None:
    full = summary(read(planted))
    differences = ["diff", "diff_low", "diff_high", "n_pairs"]
    rows = full[(full["metric"] == "ec2ec") & (full["scope"] == "all")].set_index("method")
    assert rows.loc["editclip", [*differences, "p", "p_holm"]].isna().all()
    # every sample of ip2p is 0.1 below editclip: no scatter, so the interval has no width and p is at its floor
    assert rows.loc["ip2p", differences].tolist() == pytest.approx([-0.1, -0.1, -0.1, SAMPLES])
    assert rows.loc["ip2p", "p"] == pytest.approx(1 / 1001)
    tests = full["p"].notna()
    assert set(full.loc[tests, "scope"]) == {"all"} and full.loc[full["scope"] == "type", "diff"].notna().any()
    assert rows.loc["ip2p", "p_holm"] == pytest.approx(tests.sum() / 1001)
    undefined = full[(full["method"] == "copy_query") & (full["metric"] == "s_visual")]
    assert undefined[["mean", "low", *differences, "p"]].isna().all(axis=None)


def test_a_sample_that_one_method_lacks_is_no_pair(run: Path) -> None:
    for seed in METHODS["ip2p"][2]:
        path = run / "scores" / "ip2p" / "editclip" / f"seed={seed}.csv"
        row = pd.read_csv(path).query("metric == 'ec2ec'").index[-1]  # the largest score
        for column, value in (("value", ""), ("status", "undefined"), ("reason", "r")):
            change(path, column, row, value)
    full = summary(read(run)).set_index(["scope", "method", "metric"])
    row = full.loc["all", "ip2p", "ec2ec"]
    assert (row["diff"], row["n_pairs"]) == pytest.approx((-0.1, SAMPLES - 1))
    means = full.loc["all", "editclip", "ec2ec"]["mean"] - row["mean"]
    assert means > 0.1 + 0.004  # unpaired, the lost sample would count against ip2p


def test_without_the_reference_there_are_no_differences(planted: Path) -> None:
    columns = ["diff", "diff_low", "diff_high", "p", "p_holm"]
    assert summary(read(planted), reference=None)[columns].isna().all(axis=None)


def test_a_run_in_which_every_value_is_undefined_has_a_table(run: Path) -> None:
    results = read(run)
    lost = results.scores.assign(status="undefined", value=float("nan"))
    full = summary(replace(results, scores=lost))
    assert (full["n"] == 0).all() and full[["mean", "low", "diff", "p"]].isna().all(axis=None)


def test_types_of_one_name_in_two_groups_stay_apart(run: Path) -> None:
    manifest = run / "bench" / "manifest.csv"
    for row in range(3):
        change(manifest, "group", row, "02")
    long = summaries.long_scores(read(run))
    assert {"01-to_night", "02-to_night", "add_hat"} <= set(long["type"])


def test_the_paper_stands_beside_methods_of_both_tables_with_the_sign_of_the_difference() -> None:
    """The paper: IP2P 0.418 and EditCLIP 0.477 EC2EC; LPIPS 0.295 and 0.233 (Table 1)."""
    ours = pd.DataFrame(
        {"method": ["ip2p", "editclip", "copy_query"], "ec2ec": [0.1, 0.2, 0.0], "lpips": [0.1, 0.3, 0.0]}
    )
    ours = ours.reindex(columns=["method", *MEASURED, "runtime_s"])
    versus = beside_paper.against_paper(ours, pd.read_csv(PAPER), "editclip").set_index(["method", "metric"])
    assert set(versus.index.get_level_values("method")) == {"ip2p", "editclip"}
    assert versus.loc[("ip2p", "ec2ec"), ["paper", "same_sign"]].tolist() == [0.418, "yes"]
    assert versus.loc[("ip2p", "lpips"), "same_sign"] == "no"
    assert pd.isna(versus.loc[("ip2p", "runtime_s"), "same_sign"])


def test_prompt_diffusion_is_found_under_its_name_in_the_paper() -> None:
    ours = pd.DataFrame({"method": ["prompt_diffusion"], **{c: [0.5] for c in (*MEASURED, "runtime_s")}})
    assert beside_paper.against_paper(ours, pd.read_csv(PAPER), None)["paper_method"].unique().tolist() == [
        "PromptDiffusion"
    ]


def test_only_the_rows_of_the_table_are_read(run: Path) -> None:
    shutil.rmtree(run / "edits" / "ip2p")
    wanted = ["copy_query", "editclip"]
    results = read(run, rows=wanted)
    assert list(results.methods) == wanted and set(results.scores["method"]) == set(wanted)
    assert set(results.runtime["method"]) == {"editclip"}


def test_the_paper_tables_hold_the_papers_numbers() -> None:
    """EditCLIP, arXiv 2503.20318, Tables 1 and 2."""
    first = pd.read_csv(PAPER).set_index("method")
    assert tuple(first.reset_index().columns) == TABLE1[:-1]
    assert first.loc["EditCLIP", ["lpips", "ec2ec", "runtime_s"]].tolist() == [0.233, 0.477, 1.8]
    assert first.loc["PromptDiffusion", ["s_visual_dist", "wr_edit"]].tolist() == [0.906, 91.80]
    second = pd.read_csv(PAPER.with_name("table2.csv")).set_index("judgement")
    assert second.loc["edit", ["s_visual", "ec2ec"]].tolist() == [0.240, 0.372]


def test_what_a_killed_job_left_is_no_metric_family(run: Path) -> None:
    (run / "scores" / "ip2p" / ".lpips.x1").mkdir()
    (run / "scores" / "ip2p" / ".lpips.x1" / "card.json").write_text("{")
    assert sorted(read(run).cards) == ["clip", "editclip", "ground_truth", "lpips"]


def test_the_stage_writes_utf8_lf_files_and_is_repeatable(planted: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        written(planted, tmp_path / name)
    files = sorted(p.name for p in (tmp_path / "a").iterdir() if p.name != "provenance.json")
    assert files == ["evidence.csv", "rows.csv", "table1.csv", "table1.md", "table1.tex", "table1_full.csv",
                     "table1_full.md", "table1_full.tex", "table1_vs_paper.csv", "table1_vs_paper.md"]  # fmt: skip
    for name in files:
        content = (tmp_path / "a" / name).read_bytes()
        assert content == (tmp_path / "b" / name).read_bytes()
        assert b"\r" not in content and content.decode("utf-8").endswith("\n")
    inputs = json.loads((tmp_path / "a" / "provenance.json").read_text())["inputs"]
    paths = {name: facts["path"] for name, facts in inputs.items()}
    assert paths["bench"] == str(planted / "bench" / "manifest.csv") and paths["paper"] == str(PAPER)
    assert paths["edits of ip2p, seed 1"] == str(planted / "edits" / "ip2p" / "seed=1" / "edits.csv")
    assert paths["scores of ip2p, clip"] == str(planted / "scores" / "ip2p" / "clip")
    assert planted_table()["notice"] in (tmp_path / "a" / "table1_vs_paper.md").read_text()


ABLATED = {"shuffled-editclip": {"exemplars": "own"}}  # as another table may call the same outputs


def test_a_second_table_has_its_own_rows_reference_and_family_of_tests(planted: Path, tmp_path: Path) -> None:
    rows_of = ["ip2p", "shuffled-editclip"]
    table = planted_table("ablations", rows_of, ABLATED, reference="ip2p", paper=None)
    out = make_table(planted, table, tmp_path / "ablations")
    assert not list(out.glob("*_vs_paper*"))
    full = pd.read_csv(out / "ablations_full.csv")
    row = full[(full["scope"] == "all") & (full["metric"] == "ec2ec")].set_index("method").loc["shuffled-editclip"]
    assert row["diff"] == pytest.approx(expected("shuffled-editclip") - expected("ip2p"), abs=1e-6)
    tests = full["p"].notna().sum()
    assert tests == full.loc[full["scope"] == "all", "metric"].nunique() - 2, "one row, all metrics but the seconds"
    assert row["p_holm"] == pytest.approx(tests / 1001, abs=1e-6)
    assert "# Ablations\n" in (out / "ablations.md").read_text()
    assert "difference from ip2p" in (out / "ablations_full.md").read_text()
    facts = rows.read_facts(out).set_index("method")
    assert facts["reference"].tolist() == ["yes", "no"] and facts["control"].tolist() == ["no", "no"]


def test_a_table_without_a_reference_shows_no_differences(planted: Path, tmp_path: Path) -> None:
    out = make_table(planted, planted_table(reference=None), tmp_path / "out")
    assert pd.read_csv(out / "table1_full.csv")[["diff", "p", "p_holm"]].isna().all(axis=None)
    assert "difference" not in (out / "table1_full.md").read_text()
    assert set(rows.read_facts(out)["reference"]) == {"no"}


def test_facts_about_a_row_are_columns(run: Path, tmp_path: Path) -> None:
    edits = run / "edits" / "ip2p" / "seed=1" / "edits.csv"
    change(edits, "status", 3, "failed")
    change(edits, "reason", 3, "out of memory")
    scores = run / "scores" / "ip2p" / "clip" / "seed=1.csv"
    for column, value in (("value", ""), ("status", "skipped"), ("reason", "no caption; none at all")):
        change(scores, column, 0, value)
    weights = {"editclip": {"weights": {"editclip_ip2p": "lambda_0"}, "trained_on": ["world", "photos"]}}
    table = planted_table(changes=weights)
    facts = rows.read_facts(make_table(run, table, tmp_path / "out")).set_index("method")
    assert tuple(facts.reset_index().columns) != () and list(facts.index) == list(METHODS)
    ip2p, editclip, copy = facts.loc["ip2p"], facts.loc["editclip"], facts.loc["copy_query"]
    assert ip2p[["run", "label", "conditioning", "editor", "seeds"]].tolist() == [
        "planted", "The ip2p", "text", "baselines.ip2p", "0 1",
    ]  # fmt: skip
    assert ip2p[["n_outputs", "n_failed", "clip_n", "clip_skipped", "clip_empty", "runtime_s_n"]].tolist() == [
        str(2 * SAMPLES), "1", str(SAMPLES), "1", "", "2",
    ]  # fmt: skip
    assert editclip["weights"] == "editclip_ip2p=lambda_0" and editclip["trained_on"] == "world, photos"
    assert copy[["clip_dir_n", "clip_dir_undefined", "clip_dir_empty", "runtime_s_empty"]].tolist() == [
        "0", str(SAMPLES), "the image did not change", "not timed",
    ]  # fmt: skip
    assert facts["control"].tolist() == ["no", "no", "yes", "yes"]
    for column, value in (("lpips_trunk", "random_trunk"), ("clip_dir", "eq11"), ("votes", "none")):
        assert set(facts[column]) == {value}


def test_a_control_is_that_of_the_row_with_its_editor_options_and_weights(planted: Path, tmp_path: Path) -> None:
    def control_of(**changes: Any) -> str:
        out = make_table(planted, planted_table(changes={"shuffled-editclip": changes}), tmp_path / "out")
        return str(rows.read_facts(out).set_index("method").loc["shuffled-editclip", "control_of"])

    assert control_of() == "editclip"
    assert control_of(weights={"editclip_ip2p": "lambda_0"}) == ""
    assert control_of(options={"guidance_scale": 7.0}) == ""


def test_a_semicolon_in_a_reason_does_not_look_like_the_end_of_a_note(run: Path) -> None:
    for seed in METHODS["ip2p"][2]:
        path = run / "scores" / "ip2p" / "clip" / f"seed={seed}.csv"
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        frame.loc[frame["metric"] == "clip", ["value", "status", "reason"]] = ["", "skipped", "no caption; none at all"]
        frame.to_csv(path, index=False)
    assert "; clip empty: no caption, none at all" in headline(read(run)).loc[0, "notes"]


def test_a_table_of_the_paper_needs_only_the_columns_it_has(planted: Path, tmp_path: Path) -> None:
    paper = tmp_path / "paper.csv"
    pd.read_csv(PAPER)[["method", "ec2ec"]].to_csv(paper, index=False)
    out = make_table(planted, planted_table(paper=str(paper)), tmp_path / "out")
    assert set(pd.read_csv(out / "table1_vs_paper.csv")["metric"]) == {"ec2ec"}
