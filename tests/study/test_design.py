"""A study is drawn evenly and shows what it says; its power is the exact test's, and its page and guide work."""

import csv
import json
import random
import re
import string
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats
from study_toys import DESIGN, QUERIES, TYPES, called, sheet, write_bench, write_edits, write_run, write_study

from editclip.config.section import checked
from editclip.config.studies import Design
from editclip.errors import InputError
from editclip.storage import file_digest
from editclip.study import design
from editclip.study.power import Power, critical_count, design_effect, smallest_win_rate
from editclip.study.sheet import COLUMNS, QUESTIONS, balanced, evenly
from editclip.study.votes import read_study, read_votes

SAMPLES = 12  # of the toy benchmark


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with one study."""
    run = tmp_path_factory.mktemp("run")
    write_run(run)
    write_study(run)
    return run


@pytest.fixture(scope="module")
def study(planted: Path) -> Path:
    """The study."""
    return planted / "studies/exemplar"


def test_every_pair_sample_and_repetition_is_an_item_once(study: Path) -> None:
    items = sheet(study)
    assert tuple(items.columns) == COLUMNS and items["item_id"].is_unique
    pairs = items[items["kind"] == "pair"]
    assert Counter(zip(pairs["first"], pairs["second"], strict=True)) == {
        ("ours", "worse"): 2 * SAMPLES,
        ("ours", "worst"): 2 * SAMPLES,
    }
    assert not pairs.duplicated(["first", "second", "sample_id", "seed"]).any()
    for item in items.itertuples():
        assert {item.left, item.right} == {item.first, item.second}


def test_the_pictures_shown_are_those_of_the_row(planted: Path, study: Path) -> None:
    for item in sheet(study).to_dict("records"):
        for side in ("left", "right"):
            edit = planted / "edits" / item[side] / f"seed={item['seed']}" / f"{item['sample_id']}.png"
            assert file_digest(study / item[f"{side}_image"]) == file_digest(edit)
        query = item["query_id"].removeprefix("g-").replace("-", "-q")
        exemplar = item["exemplar_id"].removeprefix("g-").replace("-", "-e")
        frames = {"query_image": f"{query}_0", "exemplar_before": f"{exemplar}_0", "exemplar_after": f"{exemplar}_1"}
        for column, frame in frames.items():
            assert file_digest(study / item[column]) == file_digest(planted / f"bench/frames/{frame}.png")


def test_nothing_that_a_rater_sees_names_a_method(study: Path) -> None:
    page = (study / "hit.html").read_text(encoding="utf-8")
    names = {*DESIGN["methods"], "ground_truth", "copy_query"}
    assert not [name for name in names if re.search(rf"\b{name}\b", page)]
    assert all(re.fullmatch(r"[0-9a-f]{24}\.png", path.name) for path in (study / "images").iterdir())
    assert all(re.fullmatch(r"item-\d+", item) for item in sheet(study)["item_id"])


def test_each_method_of_a_pair_stands_as_often_on_either_side(planted: Path, study: Path) -> None:
    items = sheet(study)
    for _, pair in items.groupby(["kind", "first", "second"]):
        left = (pair["left"] == pair["first"]).sum()
        assert abs(2 * left - len(pair)) == len(pair) % 2


def test_sides_and_order_are_drawn_anew_with_another_seed(planted: Path) -> None:
    toy = checked(Design, DESIGN)
    edits = design.read_folders(sorted((planted / "edits").iterdir()), toy.shown, design.Bench.load(planted / "bench"))
    first, places = Counter[tuple[str, int]](), []
    draws = 200
    for seed in range(draws):
        drawn = design.draw_study(toy, edits, seed).items
        places += [number / (len(drawn) - 1) for number, item in enumerate(drawn) if item.kind == "catch"]
        first.update((i.sample.sample_id, i.seed) for i in drawn if i.first_left and i.methods[1] == "worse")
    assert len(first) == 2 * SAMPLES
    # each item's side is a fair coin: 5 standard deviations over 24 items
    assert all(abs(count - draws / 2) < 5 * np.sqrt(draws / 4) for count in first.values())
    assert np.mean(places) == pytest.approx(0.5, abs=5 * np.sqrt(1 / 12 / len(places)))


def test_a_seed_decides_everything(planted: Path, tmp_path: Path) -> None:
    for name in ("bench", "edits"):
        (tmp_path / name).symlink_to(planted / name)
    one, same, other = (write_study(tmp_path, f"s{number}", seed) for number, seed in enumerate((3, 3, 4)))
    assert (one / "study.csv").read_bytes() == (same / "study.csv").read_bytes()
    assert (one / "study.csv").read_bytes() != (other / "study.csv").read_bytes()


def test_a_pair_is_drawn_alike_whatever_else_is_compared(planted: Path) -> None:
    bench = design.Bench.load(planted / "bench")
    folders = sorted((planted / "edits").iterdir())

    def items(methods: list[str]) -> set[tuple[str, int, bool]]:
        toy = checked(Design, DESIGN | {"methods": methods, "seeds": 1, "items": 5})
        drawn = design.draw_study(toy, design.read_folders(folders, toy.shown, bench), 0)
        return {(i.sample.sample_id, i.seed, i.first_left) for i in drawn.items if i.methods == ("ours", "worst")}

    assert items(["ours", "worse", "worst"]) == items(["ours", "worst"])


@pytest.mark.parametrize("count", [3, 7, 15, 24])
def test_drawn_items_are_even_over_edit_types_and_samples(planted: Path, count: int) -> None:
    toy = checked(Design, DESIGN | {"items": count})
    edits = design.read_folders(sorted((planted / "edits").iterdir()), toy.shown, design.Bench.load(planted / "bench"))
    drawn = [i for i in design.draw_study(toy, edits, 0).items if i.methods == ("ours", "worse")]
    assert len(drawn) == count
    types, samples = (Counter(getattr(i.sample, name) for i in drawn) for name in ("edit_type", "sample_id"))
    assert len(types) == TYPES and max(types.values()) - min(types.values()) <= 1
    assert max(samples.values()) == (1 if count <= SAMPLES else 2)


def test_one_repetition_of_two_is_either(planted: Path) -> None:
    toy = checked(Design, DESIGN | {"seeds": 1})
    edits = design.read_folders(sorted((planted / "edits").iterdir()), toy.shown, design.Bench.load(planted / "bench"))
    drawn = [i for seed in range(40) for i in design.draw_study(toy, edits, seed).items if i.kind == "pair"]
    assert len(drawn) == 40 * 2 * SAMPLES
    later = sum(i.seed for i in drawn)
    assert abs(later - len(drawn) / 2) < 5 * np.sqrt(len(drawn) / 4)


def test_all_pairs_keep_the_order_of_the_methods(planted: Path, tmp_path: Path) -> None:
    for name in ("bench", "edits"):
        (tmp_path / name).symlink_to(planted / name)
    items = sheet(write_study(tmp_path, pairs="all", seeds=1))
    pairs = items[items["kind"] == "pair"]
    assert set(zip(pairs["first"], pairs["second"], strict=True)) == {
        ("ours", "worse"), ("ours", "worst"), ("worse", "worst"),
    }  # fmt: skip


def test_only_repetitions_that_both_have_are_shown(tmp_path: Path) -> None:
    bench = write_bench(tmp_path / "bench")
    write_edits(tmp_path / "edits/ours", bench, (0, 1, 2))
    write_edits(tmp_path / "edits/worse", bench, (1, 2, 5))
    out = write_study(tmp_path, methods=["ours", "worse"], catch=None, seeds=3)
    assert set(sheet(out)["seed"]) == {"1", "2"} and len(sheet(out)) == 2 * SAMPLES
    write_edits(tmp_path / "edits/worst", bench, (7,))
    with pytest.raises(InputError, match=r"ours has the repetitions \[0, 1, 2\] and worst \[7\].*common"):
        write_study(tmp_path, methods=["ours", "worst"], catch=None)


def test_what_failed_is_not_shown_and_counted(tmp_path: Path) -> None:
    bench = write_bench(tmp_path / "bench")
    write_edits(tmp_path / "edits/ours", bench, problems={"g-t0-0-0": "failed"})
    write_edits(tmp_path / "edits/worse", bench, problems={"g-t0-0-0": "failed", "g-t1-1-1": "skipped"})
    out = write_study(tmp_path, methods=["ours", "worse"], catch=None)
    assert not {"g-t0-0-0", "g-t1-1-1"} & set(sheet(out)["sample_id"])
    (counts,) = json.loads((out / "study.json").read_text())["counts"]
    assert (counts["without_output"], counts["identical"], counts["items"]) == (4, 0, 2 * SAMPLES - 4)


def test_another_repetition_stands_in_for_a_failed_one(tmp_path: Path) -> None:
    bench = write_bench(tmp_path / "bench")
    write_edits(tmp_path / "edits/ours", bench)
    worse = write_edits(tmp_path / "edits/worse", bench)
    path = worse / "seed=0/edits.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows([{**row, "status": "failed", "file": "", "sha256": ""} for row in rows])
    items = sheet(write_study(tmp_path, methods=["ours", "worse"], catch=None, seeds=1))
    assert len(items) == SAMPLES and set(items["seed"]) == {"1"}


def test_identical_outputs_are_no_item_and_counted(tmp_path: Path) -> None:
    bench = write_bench(tmp_path / "bench")
    for name in ("ours", "worse", "worst"):
        write_edits(tmp_path / "edits" / name, bench, noise=0 if name != "worst" else 9)
    worse = tmp_path / "edits/worse/seed=1/g-t0-0-0.png"
    Image.new("RGB", (16, 16), "red").save(worse)
    path = worse.parent / "edits.csv"
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    frame.loc[frame["sample_id"] == "g-t0-0-0", "sha256"] = file_digest(worse)
    frame.to_csv(path, index=False)
    out = write_study(tmp_path, methods=["ours", "worse"], catch=None)
    assert sheet(out)[["sample_id", "seed"]].values.tolist() == [["g-t0-0-0", "1"]]
    (counts,) = json.loads((out / "study.json").read_text())["counts"]
    assert (counts["identical"], counts["items"]) == (2 * SAMPLES - 1, 1)
    write_edits(tmp_path / "edits/same", bench, noise=0)
    with pytest.raises(InputError, match="ours and same have no sample with two different outputs .*24 identical"):
        write_study(tmp_path, methods=["ours", "same"], catch=None)


def test_outputs_that_samples_share_are_one_item_of_their_query(tmp_path: Path) -> None:
    bench = write_bench(tmp_path / "bench")
    for name in ("ours", "worse"):
        write_edits(tmp_path / "edits" / name, bench, by_query=True)
    folder = write_study(tmp_path, methods=["ours", "worse"], catch=None)
    items = sheet(folder)
    assert len(items) == TYPES * QUERIES * 2 and not items.duplicated(["query_id", "seed"]).any()
    counts = json.loads((folder / "study.json").read_text())["counts"][0]
    assert (counts["shared"], counts["items"]) == (2 * SAMPLES - len(items), len(items))


@pytest.mark.parametrize(("share", "expected"), [(0.1, 5), (0.001, 1), (0.2, 6), (0.5, 6)])  # of 48; 6 are there
def test_catch_trials_are_their_share_and_know_their_answer(
    planted: Path, tmp_path: Path, share: float, expected: int
) -> None:
    for name in ("bench", "edits"):
        (tmp_path / name).symlink_to(planted / name)
    items = sheet(write_study(tmp_path, catch={**DESIGN["catch"], "share": share}))
    trials = items[items["kind"] == "catch"]
    assert len(trials) == expected
    assert set(trials["expected"]) == {"ground_truth"} and set(items[items["kind"] == "pair"]["expected"]) == {""}
    assert set(trials["first"]) == {"ground_truth"} and set(trials["second"]) == {"copy_query"}


def test_a_method_without_edits_is_named(planted: Path, tmp_path: Path) -> None:
    for name in ("bench", "edits"):
        (tmp_path / name).symlink_to(planted / name)
    with pytest.raises(InputError, match=r'no folder wors in those given as --edits \(did you mean "worse?t?"\?\)'):
        write_study(tmp_path, methods=["ours", "wors"])


def test_the_votes_that_a_study_needs_follow_the_exact_test() -> None:
    assert critical_count(5, 0.05) is None and smallest_win_rate(5) is None  # 2 / 2^5 > 0.05
    for votes in (6, 20, 101, 1178):
        count = critical_count(votes, 0.05)
        assert count is not None
        assert stats.binomtest(count, votes).pvalue <= 0.05 < stats.binomtest(count - 1, votes).pvalue
        rate = smallest_win_rate(votes)
        assert rate is not None and stats.binom.sf(count - 1, votes, rate) == pytest.approx(0.8)
    # normal approximation: 1/2 + (1.95996 + 0.84162 · sqrt(4 p (1 - p))) / (2 sqrt(n))
    assert smallest_win_rate(10_000) == pytest.approx(0.5 + (1.95996 + 0.84162) / 200, abs=2e-4)


def test_votes_that_are_alike_find_less() -> None:
    assert design_effect(100, 100) == 1
    assert design_effect(240, 24, 0.05) == pytest.approx(1.45)  # 1 + (10 - 1) 0.05
    power = Power.of(589, 2, 25, 8)
    assert (power.items, power.votes, power.clusters) == (589, 1178, 25)
    assert power.majorities == pytest.approx(smallest_win_rate(589), abs=1e-4)
    assert power.win_rate and power.win_rate_clustered and power.win_rate_holm
    assert 0.5 < power.win_rate < power.win_rate_clustered < power.win_rate_holm < 1
    assert power.win_rate_clustered == pytest.approx(smallest_win_rate(int(1178 / power.design_effect)), abs=1e-4)


def test_the_study_says_what_its_votes_can_find(study: Path) -> None:
    facts = json.loads((study / "study.json").read_text())
    assert facts["votes"] == 3 and facts["questions"] == QUESTIONS and facts["items"] == len(sheet(study))
    pair = facts["power"]["pairs"][0]
    assert (pair["first"], pair["second"], pair["votes"], pair["clusters"]) == ("ours", "worse", 3 * 2 * SAMPLES, TYPES)
    assert f"{pair['win_rate']:.1%}" in (study / "hit.md").read_text(encoding="utf-8")


def test_of_one_edit_type_the_queries_are_the_clusters(planted: Path) -> None:
    toy = checked(Design, DESIGN | {"methods": ["ours", "worse"], "catch": None})
    edits = design.read_folders(sorted((planted / "edits").iterdir()), toy.shown, design.Bench.load(planted / "bench"))
    drawn = design.draw_study(toy, edits, 0)
    kept = [i for i in drawn.items if i.sample.edit_type == "t1"]
    (power,) = design.power(design.Drawn(kept, drawn.counts), toy)
    assert power["clusters"] == QUERIES


def test_a_pair_of_one_edit_type_in_a_study_of_more_is_one_cluster(planted: Path) -> None:
    """As in the judgements, where all pairs have the same kind of cluster."""
    toy = checked(Design, DESIGN | {"catch": None})
    edits = design.read_folders(sorted((planted / "edits").iterdir()), toy.shown, design.Bench.load(planted / "bench"))
    drawn = design.draw_study(toy, edits, 0)
    kept = [i for i in drawn.items if i.methods == ("ours", "worse") or i.sample.edit_type == "t1"]
    powers = design.power(design.Drawn(kept, drawn.counts), toy)
    assert {p["second"]: p["clusters"] for p in powers} == {"worse": TYPES, "worst": 1}


@pytest.mark.parametrize(
    ("told", "expected"),
    [(("text", "text"), "instruction"), (("text", "none"), "instruction"), (("exemplar", "text"), "exemplar")],
)
def test_raters_are_told_what_the_methods_were(tmp_path: Path, told: tuple[str, str], expected: str) -> None:
    bench = write_bench(tmp_path / "bench")
    for name, conditioning in zip(("ours", "worse"), told, strict=True):
        write_edits(tmp_path / "edits" / name, bench, conditioning=conditioning)
    out = write_study(tmp_path, methods=["ours", "worse"], catch=None)
    page = (out / "hit.html").read_text(encoding="utf-8")
    assert ("${instruction}" in page, "${exemplar_after}" in page) == (
        expected == "instruction", expected == "exemplar"
    )  # fmt: skip


def test_the_page_is_filled_from_the_sheet(study: Path) -> None:
    page = (study / "hit.html").read_text(encoding="utf-8")
    placeholders = set(re.findall(r"\$\{(\w+)\}", page))
    assert placeholders == {"exemplar_before", "exemplar_after", "query_image", "left_image", "right_image"}
    filled = string.Template(page).substitute(sheet(study).iloc[0].to_dict())
    shown = re.findall(r'<img src="([^"]+)"', filled)
    assert len(shown) == 5 and all((study / path).is_file() for path in shown)
    radios = re.findall(r'<input type="radio" name="(\w+)" value="(\w+)" required>', page)
    assert radios == [(question, side) for question in QUESTIONS for side in ("left", "right")]


def test_the_guide_asks_for_masters_and_leads_to_votes(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guide = (study / "hit.md").read_text(encoding="utf-8")
    assert "**Masters**" in guide and "40 seconds an item" in guide and "less than 75%" in guide
    publish, collect = re.findall(r"```python\n(.*?)```", guide, flags=re.DOTALL)
    (tmp_path / "study.csv").write_bytes((study / "study.csv").read_bytes())
    monkeypatch.chdir(tmp_path)
    exec(re.sub(r"^   ", "", publish, flags=re.MULTILINE), {})
    turk = pd.read_csv("turk.csv", dtype=str)
    assert turk["left_image"].str.startswith("https://").all()
    assert not {"first", "left", "expected"} & set(turk.columns)
    # the columns that Mechanical Turk adds to a batch, and those of a form whose answers are flat objects
    right = turk.merge(sheet(study)[["item_id", "expected", "left"]], on="item_id")
    chosen = ((right["expected"] == "") | (right["left"] == right["expected"])).map({True: "true", False: "false"})
    results = turk.add_prefix("Input.").assign(WorkTimeInSeconds="31", SubmitTime="Wed Mar 26 12:00:00 PDT 2025")
    for question in QUESTIONS:
        results[f"Answer.{question}.left"] = chosen
    pd.concat([results.assign(WorkerId=name) for name in ("A1", "A2")]).to_csv("results.csv", index=False)
    exec(collect, {})
    kept, raters = read_votes(tmp_path / "votes.csv", read_study(study))
    assert list(raters["rater"]) == ["rater-1", "rater-2"] and set(raters["excluded"]) == {""}
    assert len(kept) == 2 * 2 * 48 and set(kept["submitted_at"]) == {"2025-03-26T12:00:00-07:00"}


@pytest.mark.parametrize("count", [0, 1, 2, 9, 10])
def test_balanced_values_are_halves(count: int) -> None:
    values = [balanced(count, random.Random(seed)) for seed in range(50)]
    assert {abs(2 * sum(v) - count) for v in values} == {count % 2}


def test_even_drawing_takes_what_there_is() -> None:
    candidates = [("a", 0), ("b", 0), ("b", 1), ("b", 2)]
    drawn = evenly(candidates, 3, random.Random(0), lambda c: c[0], lambda c: c)
    assert len(set(drawn)) == 3 and ("a", 0) in drawn
    assert sorted(evenly(candidates, 9, random.Random(0), lambda c: c[0], lambda c: c)) == candidates


def test_a_design_that_is_none_is_refused(planted: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="config value studies.out.pairs: 'frist' is not allowed.*\"first\""):
        called(design.main, "--study", json.dumps(DESIGN | {"pairs": "frist"}), "--bench", planted / "bench",
               "--edits", planted / "edits/ours", "--seed", 0, "--out", tmp_path / "out")  # fmt: skip
    assert not (tmp_path / "out").exists()
