"""The judgements of a small study, from planted edits, an oracle's votes and planted scores."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from study_toys import DESIGN, ORACLE, SEEDS, called, sheet, write_run, write_study

from editclip import stats
from editclip.errors import InputError
from editclip.report import table2
from editclip.report.files import read_numbers
from editclip.storage import write_json
from editclip.study import coefficients, judgements, oracle
from editclip.study.sheet import clustered

RIVALS = ("ours", "worse", "worst")
FAMILIES = {"lpips": ("lpips_alex",), "editclip": ("ec2ec",), "clip": ("clip", "clip_dir_captions"),
            "ground_truth": ("sharpness",)}  # fmt: skip
METRICS = ["ec2ec", "lpips_alex", "clip_dir"]
ENTRY = DESIGN | {"metrics": METRICS, "origin": ORACLE}
STATISTICS = {"resamples": 1000, "level": 0.95, "seed": 0}
UNDEFINED = "g-t0-0-0"  # has no CLIP-Dir, of no method


def score(method: str, metric: str, sample: int, seed: int) -> float:
    """The planted value, another one for every output."""
    return 1 - 0.1 * RIVALS.index(method) + 0.01 * sample + 0.001 * seed + 0.0001 * len(metric)


def write_scores(run: Path) -> None:
    samples = pd.read_csv(run / "bench" / "manifest.csv")["sample_id"]
    for method in RIVALS:
        for family, metrics in FAMILIES.items():
            folder = run / "scores" / method / family
            folder.mkdir(parents=True)
            write_json(folder / "card.json", {"metrics": list(metrics), "clip_dir": "clip_dir_captions"})
            for seed in SEEDS:
                digests = pd.read_csv(run / "edits" / method / f"seed={seed}" / "edits.csv").set_index("sample_id")
                rows = []
                for number, sample in enumerate(samples):
                    for metric in metrics:
                        lost = metric == "clip_dir_captions" and sample == UNDEFINED
                        value = "" if lost else repr(score(method, metric, number, seed))
                        outcome = ("undefined", "no change") if lost else ("ok", "")
                        rows.append((method, sample, metric, value, *outcome, digests.at[sample, "sha256"]))
                columns = ["method", "sample_id", "metric", "value", "status", "reason", "image_sha256"]
                pd.DataFrame(rows, columns=columns).to_csv(folder / f"seed={seed}.csv", index=False)


@pytest.fixture(scope="module")
def voted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with edits, scores, a study and an oracle's votes."""
    run = tmp_path_factory.mktemp("voted")
    write_run(run)
    study = write_study(run)
    called(oracle.main, "--study", study, "--bench", run / "bench", "--config", json.dumps(ORACLE), "--seed", 0,
           "--out", run / "votes" / "exemplar")  # fmt: skip
    write_scores(run)
    return run


@pytest.fixture
def run(voted: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(voted, tmp_path / "run"))


def judge(run: Path, **entry: Any) -> Path:
    """Make the judgements of the study, whose entry has some changes; their folder."""
    out = run / "judgements" / "exemplar"
    called(judgements.main, "--study-entry", json.dumps(ENTRY | entry), "--statistics", json.dumps(STATISTICS),
           "--study", run / "studies" / "exemplar", "--votes", run / "votes" / "exemplar", "--scores",
           *sorted(run.glob("scores/*/*")), "--bench", run / "bench", "--out", out)  # fmt: skip
    return out


@pytest.fixture(scope="module")
def judged(voted: Path) -> Path:
    return judge(voted)


def test_every_vote_stands_beside_the_scores_of_the_very_outputs(judged: Path, voted: Path) -> None:
    frame = read_numbers(judged / "comparisons.csv", judgements.COMPARISONS)
    scored = [f"{side}_{name}" for name in METRICS for side in ("first", "second")]
    assert list(frame.columns) == [*judgements.COMPARISONS, *scored]
    votes = pd.read_csv(voted / "votes" / "exemplar" / "votes.csv").set_index(["item_id", "rater", "question"])
    items = sheet(voted / "studies" / "exemplar").set_index("item_id")
    assert len(frame) == votes.index.get_level_values(0).map(items["kind"]).tolist().count("pair")
    samples = pd.read_csv(voted / "bench" / "manifest.csv")["sample_id"].tolist()
    for row in frame.to_dict("records"):
        item, vote = items.loc[row["item_id"]], votes.loc[(row["item_id"], row["rater"], row["question"])]
        assert row["won"] == (item[vote["choice"]] == item["first"])
        assert row["first"] == "ours" and row["second"] == item["second"] and row["query_id"] == item["query_id"]
        assert row["cluster"] == f"g-{item['edit_type']}" and row["seed"] == int(item["seed"])
        output = (samples.index(item["sample_id"]), int(item["seed"]))
        for side in ("first", "second"):
            assert row[f"{side}_ec2ec"] == pytest.approx(score(item[side], "ec2ec", *output))
            assert row[f"{side}_lpips_alex"] == pytest.approx(-score(item[side], "lpips_alex", *output)), "turned"
            assert pd.isna(row[f"{side}_clip_dir"]) == (item["sample_id"] == UNDEFINED)


def test_edits_that_have_to_be_named_are_neither_shown_nor_missed(tmp_path: Path) -> None:
    """One type is of the family `multi`; one of the methods has edited it too, the others have not."""
    run = tmp_path / "run"
    write_run(run)
    write_scores(run)
    manifest = run / "bench" / "manifest.csv"
    frame = pd.read_csv(manifest, dtype=str, keep_default_na=False)
    frame.assign(family=frame["family"].mask(frame["edit_type"] == "t0", "multi")).to_csv(manifest, index=False)
    for path in [*run.glob("edits/*/*/edits.csv"), *run.glob("scores/*/*/*.csv")]:
        if "ours" not in path.parts:
            rows = pd.read_csv(path, dtype=str, keep_default_na=False)
            rows[~rows["sample_id"].str.startswith("g-t0-")].to_csv(path, index=False)
    items = sheet(write_study(run))
    assert "t0" not in set(items["edit_type"]) and items["edit_type"].nunique() == frame["edit_type"].nunique() - 1
    called(oracle.main, "--study", run / "studies" / "exemplar", "--bench", run / "bench", "--config",
           json.dumps(ORACLE), "--seed", 0, "--out", run / "votes" / "exemplar")  # fmt: skip
    votes = read_numbers(judge(run) / "comparisons.csv", judgements.COMPARISONS)
    assert len(votes) and not votes["sample_id"].str.startswith("g-t0-").any()


def test_the_better_method_wins_and_every_table_says_whose_votes_they_are(judged: Path) -> None:
    table = read_numbers(judged / "preferences.csv", ["win_rate"])
    assert table[["question", "first", "second"]].to_numpy().tolist() == [
        [question, "ours", other] for question in ("edit", "preserves") for other in ("worse", "worst")
    ]
    assert (table["win_rate"] > 0.8).all() and set(table["origin"]) == {"oracle"}
    assert (table["votes"] == 72).all() and (table["items"] == 24).all()  # 12 samples, 2 seeds, 3 votes
    about = json.loads((judged / "judgement.json").read_text())
    assert about["study"] == "exemplar" and about["origin"] == "oracle" and about["level"] == 0.95
    assert about["clusters"] == "edit types" and about["questions"] == ["edit", "preserves"]
    assert about["metrics"]["lpips_alex"] == {"score": "lpips_alex", "turned": True, "votes_without": 0}
    assert about["metrics"]["clip_dir"] == {"score": "clip_dir_captions", "turned": False, "votes_without": 4 * 2 * 3}
    raters = pd.read_csv(judged / "raters.csv")
    assert about["counts"]["votes"] == raters["votes"].sum() == 4 * 72 and about["counts"]["raters"] == len(raters)
    assert pd.read_csv(judged / "agreement.csv")["alpha"].between(0.3, 1).all()
    for name in ("preferences", "raters", "agreement", "coefficients", "differences"):
        frame = pd.read_csv(judged / f"{name}.csv")
        assert frame.columns[-1] == "origin" or name == "preferences"
        assert set(frame["origin"]) == {"oracle"}, name


def test_metrics_are_held_against_the_votes(judged: Path) -> None:
    frame = read_numbers(judged / "comparisons.csv", judgements.COMPARISONS)
    settings = stats.Settings(**STATISTICS)
    for name in ("coefficients", "differences"):
        expected = getattr(coefficients, name)(frame, METRICS, settings)
        found = read_numbers(judged / f"{name}.csv", expected.columns)
        numbers = expected.select_dtypes("number").columns
        pd.testing.assert_frame_equal(found[numbers], expected[numbers], check_dtype=False)
    table = read_numbers(judged / "coefficients.csv", ["estimate"])
    pooled = table[(table["question"] == "edit") & (table["statistic"] == "d1")].set_index("metric")["estimate"]
    assert pooled["ec2ec"] > 0.5 > -0.5 > pooled["lpips_alex"]  # planted to prefer what is worse


def test_a_study_of_one_type_has_its_queries_for_clusters(run: Path) -> None:
    path = run / "studies" / "exemplar" / "study.csv"
    sheet(path.parent).assign(edit_type="t0").to_csv(path, index=False)
    out = judge(run)
    assert json.loads((out / "judgement.json").read_text())["clusters"] == "queries"
    frame = pd.read_csv(out / "comparisons.csv")
    assert (frame["cluster"] == frame["query_id"]).all()


def test_what_the_clusters_are_is_decided_over_the_whole_study() -> None:
    assert clustered(["t0", "t1", "t1"], ["q0", "q1", "q2"]) == (["t0", "t1", "t1"], "edit types")
    assert clustered(["t0", "t0"], ["q0", "q1"]) == (["q0", "q1"], "queries")


def test_table_2_takes_the_judgements_with_their_origin(judged: Path) -> None:
    published = pd.DataFrame({"judgement": ["edit", "preserves"], "ec2ec": [0.372, 0.297]})
    table = table2.full([table2.read_judged(judged)], published)
    assert set(table2.FULL) <= set(table.columns)
    assert table.columns.is_unique and set(table["origin"]) == {"oracle"} and set(table["study"]) == {"exemplar"}


def test_raters_who_are_left_out_are_counted(run: Path) -> None:
    path = run / "votes" / "exemplar" / "votes.csv"
    votes = pd.read_csv(path, dtype=str)
    hasty = votes["rater"].iloc[0]
    votes.loc[votes["rater"] == hasty, "seconds"] = "0.5"
    votes.to_csv(path, index=False)
    out = judge(run)
    counts = json.loads((out / "judgement.json").read_text())["counts"]
    raters = pd.read_csv(out / "raters.csv", keep_default_na=False).set_index("rater")
    assert "a median of 0.5 s" in raters.loc[hasty, "excluded"]
    assert counts["raters_left_out"] == 1 and counts["votes_left_out"] == raters.loc[hasty, "votes"]
    assert hasty not in set(pd.read_csv(out / "comparisons.csv")["rater"])


def _without_pairs(run: Path) -> None:
    kinds = sheet(run / "studies" / "exemplar").set_index("item_id")["kind"]
    path = run / "votes" / "exemplar" / "votes.csv"
    votes = pd.read_csv(path, dtype=str)
    votes[votes["item_id"].map(kinds) == "catch"].to_csv(path, index=False)


def _changed(run: Path, **change: str) -> None:
    path = run / "votes" / "exemplar" / "votes.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


def _another_image(run: Path) -> None:
    path = run / "scores" / "worse" / "editclip" / "seed=1.csv"
    pd.read_csv(path, dtype=str, keep_default_na=False).assign(image_sha256="0" * 64).to_csv(path, index=False)


@pytest.mark.parametrize(
    ("damage", "entry", "message"),
    [
        (None, {"metrics": ["ec2ce"]}, r'exemplar.metrics: the metric "ec2ce" was not scored \(did you mean "ec2ec"'),
        (None, {"metrics": ["sharpness"]}, 'of "sharpness" neither higher nor lower is better'),
        (lambda run: shutil.rmtree(run / "scores" / "worst"), {}, "no folder worst/<family> among those given as"),
        (lambda run: shutil.rmtree(run / "scores" / "worst" / "clip"), {}, "no folder worst/clip among those given"),
        (lambda run: (run / "scores/worst/editclip/seed=1.csv").unlink(), {}, "seed=1.csv is missing"),
        (None, {"methods": ["worse", "ours", "worst"]}, "compares ours with worse, but studies.exemplar of the config"),
        (_without_pairs, {}, "has no vote on a pair that counts: collect some"),
        (
            _another_image,
            {},
            "another output of worse for sample .*, seed 1, than the one whose editclip was scored",
        ),
        (lambda run: _changed(run, study="text"), {}, "votes.json is of the study 'text', not of exemplar"),
        (lambda run: _changed(run, origin="me"), {}, "origin 'me' is none of human, oracle"),
    ],
)
def test_what_cannot_be_judged_is_named(
    run: Path, damage: Callable[[Path], Any] | None, entry: dict[str, Any], message: str
) -> None:
    if damage:
        damage(run)
    with pytest.raises(InputError, match=message):
        judge(run, **entry)
