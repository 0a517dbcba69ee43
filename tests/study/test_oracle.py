"""Simulated raters prefer what is closer to the ground truth, as much as their noise lets them."""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from study_toys import ORACLE, SIDE, called, edited, picture, write_bench, write_run, write_study

from editclip.config.section import checked
from editclip.config.studies import OracleVotes
from editclip.data.bench import COLUMNS, Bench
from editclip.errors import InputError
from editclip.study import oracle
from editclip.study.votes import read_study, read_votes


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_run(folder)
    write_study(folder)
    return folder


def voted(run: Path, out: Path, study: str = "exemplar", seed: int = 0, **change: Any) -> Path:
    """The folder of an oracle's votes."""
    called(oracle.main, "--study", run / "studies" / study, "--bench", run / "bench", "--config",
           json.dumps(ORACLE | change), "--seed", seed, "--out", out)  # fmt: skip
    return out


def win_rates(run: Path, votes: Path, study: str = "exemplar") -> dict[tuple[str, str], float]:
    """Share of votes for the first method by question and second method."""
    sheet = read_study(run / "studies" / study)
    kept, _ = read_votes(votes / "votes.csv", sheet)
    frame = kept.join(sheet.items[["first", "second"]], on="item_id")
    won = frame["chosen"] == frame["first"]
    return dict(won.groupby([frame["question"], frame["second"]]).mean())


def test_the_truth_is_preferred_to_an_unedited_query(run: Path, tmp_path: Path) -> None:
    write_study(run, "controls", methods=["ground_truth", "copy_query"], catch=None)
    rates = win_rates(run, voted(run, tmp_path / "votes", "controls", noise=3.0), "controls")
    assert rates["edit", "copy_query"] == 1
    assert rates["preserves", "copy_query"] == pytest.approx(0.5, abs=0.35)  # both are the truth there: 36 coins


def test_without_noise_the_closer_one_wins_every_vote(run: Path, tmp_path: Path) -> None:
    out = voted(run, tmp_path / "votes", noise=0)
    assert set(win_rates(run, out).values()) == {1.0}
    sheet = read_study(run / "studies/exemplar")
    differences = oracle.judge(sheet, Bench.load(run / "bench"))
    votes = pd.read_csv(out / "votes.csv")
    apart = np.array([differences.at[row.item_id, row.question] for row in votes.itertuples()])
    assert ((votes["choice"] == "left") == (apart > 0))[apart != 0].all() and (apart != 0).sum() > 250


@pytest.mark.parametrize("change", [{"noise": 1e9}, {"lapse": 1.0}], ids=str)
def test_with_nothing_but_noise_every_vote_is_a_coin(run: Path, change: dict[str, float]) -> None:
    differences = pd.DataFrame({"edit": [20.0] * 2000, "preserves": [-20.0] * 2000}, [f"i{n}" for n in range(2000)])
    settings = checked(OracleVotes, ORACLE | change)
    votes = oracle.vote(differences, dict.fromkeys(differences.index, False), 3, settings, 0)
    shares = (votes["choice"] == "left").groupby(votes["question"]).mean()
    assert np.allclose(shares, 0.5, atol=5 * np.sqrt(0.25 / 6000))


@pytest.mark.parametrize("difference", [-2.0, 0.0, 1.0, 3.0])
def test_votes_follow_a_logistic_of_the_difference_in_units_of_the_noise(difference: float) -> None:
    items = [f"i{n}" for n in range(3000)]
    differences = pd.DataFrame({"edit": difference, "preserves": difference}, items)
    settings = checked(OracleVotes, ORACLE | {"raters": 300, "noise": 2.0, "lapse": 0.1})
    votes = oracle.vote(differences, dict.fromkeys(items, False), 3, settings, 1)
    spread = np.exp(oracle.SPREAD * np.random.default_rng(5).standard_normal(100_000))
    expected = 0.05 + 0.9 * expit(difference / (2.0 * spread)).mean()
    assert (votes["choice"] == "left").mean() == pytest.approx(expected, abs=0.02)  # 18000 votes: 5 deviations


def test_a_lapse_is_of_both_questions() -> None:
    items = [f"i{n}" for n in range(3000)]
    differences = pd.DataFrame({"edit": 50.0, "preserves": 50.0}, items)
    settings = checked(OracleVotes, ORACLE | {"lapse": 0.5})
    votes = oracle.vote(differences, dict.fromkeys(items, False), 1, settings, 0)
    right = votes.assign(right=votes["choice"] == "left").pivot(index="item_id", columns="question", values="right")
    both_wrong = (~right["edit"] & ~right["preserves"]).mean()
    assert both_wrong == pytest.approx(0.5 / 4, abs=0.03)  # were they of each question, it would be 1/16


def test_closeness_is_the_psnr_on_either_side_of_the_mask() -> None:
    random = np.random.default_rng(0)
    truth, query = random.random((2, SIDE, SIDE, 3)) / 2 + 0.25
    edited = np.zeros((SIDE, SIDE), bool)
    edited[:4] = True
    output = np.where(edited[..., None], truth + 0.1, truth - 0.01)
    close = oracle.closeness(output, truth, query, edited)
    assert close["edit"] == pytest.approx(20, abs=0.01)  # -10 log10 of 0.1²
    assert close["preserves"] == pytest.approx(40, abs=0.1)
    assert oracle.closeness(truth, truth, query, edited)["edit"] == pytest.approx(
        58.92, abs=0.01
    )  # 10 log10(12 · 255²)


def test_a_global_edit_preserves_the_edges_of_the_query() -> None:
    query = np.asarray(picture(1), dtype=float) / 255
    nowhere = np.ones((SIDE, SIDE), bool)
    nowhere[0, :8] = False  # 8 of 256 pixels are background: 3 %
    truth = query * 0.5
    noisy = np.clip(truth + np.random.default_rng(0).normal(0, 0.1, truth.shape), 0, 1)
    blank = np.full_like(truth, truth.mean())
    other = np.asarray(picture(2), dtype=float) / 510
    close = {
        name: oracle.closeness(output, truth, query, nowhere)["preserves"]
        for name, output in {"truth": truth, "noisy": noisy, "blank": blank, "other": other}.items()
    }
    assert close["truth"] == pytest.approx(30)  # the same edges, half as bright
    assert close["truth"] > close["noisy"] > max(close["blank"], close["other"])
    assert close["blank"] == pytest.approx(0, abs=0.01)  # no edge: the mean square of the query's, which is 1


def test_an_empty_mask_leaves_the_whole_picture() -> None:
    truth, query = np.full((2, SIDE, SIDE, 3), 0.5)
    close = oracle.closeness(truth + 0.1, truth, query, np.zeros((SIDE, SIDE), bool))
    assert close["edit"] == close["preserves"] == pytest.approx(20, abs=0.01)


def test_the_same_seed_gives_the_same_votes(run: Path, tmp_path: Path) -> None:
    one, same, other = (voted(run, tmp_path / f"v{n}", seed=seed) for n, seed in enumerate((0, 0, 1)))
    assert (one / "votes.csv").read_bytes() == (same / "votes.csv").read_bytes() != (other / "votes.csv").read_bytes()


def test_each_item_has_its_votes_from_as_many_raters(run: Path, tmp_path: Path) -> None:
    votes = pd.read_csv(voted(run, tmp_path / "votes") / "votes.csv")
    sheet = read_study(run / "studies/exemplar")
    for _, rows in votes.groupby(["item_id", "question"]):
        assert rows["rater"].nunique() == len(rows) == 3
    once = votes[votes["question"] == "edit"]
    assert set(once["item_id"]) == set(sheet.items.index)
    for kinds in (["catch"], ["pair", "catch"]):
        loads = Counter(once[once["item_id"].map(sheet.items["kind"]).isin(kinds)]["rater"])
        assert len(loads) == 6 and max(loads.values()) - min(loads.values()) <= 1


def test_raters_take_the_papers_time_and_one_item_after_the_other() -> None:
    items = [f"i{n}" for n in range(2000)]
    differences = pd.DataFrame({"edit": 0.0, "preserves": 0.0}, items)
    settings = checked(OracleVotes, ORACLE | {"raters": 200})
    votes = oracle.vote(differences, dict.fromkeys(items, False), 3, settings, 0)
    once = votes[votes["question"] == "edit"].assign(at=pd.to_datetime(votes["submitted_at"]))
    assert once["seconds"].mean() == pytest.approx(40, abs=4)  # of 200 raters whose pace differs
    for _, rows in once.groupby("rater"):
        rows = rows.sort_values("at")
        gaps = rows["at"].diff().dt.total_seconds().iloc[1:]
        assert np.allclose(gaps, rows["seconds"].iloc[1:], atol=1.01)


def test_attentive_raters_pass_the_catch_trials(run: Path, tmp_path: Path) -> None:
    sheet = read_study(run / "studies/exemplar")
    _, raters = read_votes(voted(run, tmp_path / "votes") / "votes.csv", sheet)
    assert set(raters["excluded"]) == {""} and (raters["catch_right"] == raters["catch_votes"]).all()


def test_votes_say_that_they_are_an_oracles(run: Path, tmp_path: Path) -> None:
    out = voted(run, tmp_path / "votes")
    facts = json.loads((out / "votes.json").read_text())
    assert (facts["origin"], facts["study"], facts["raters"], facts["settings"]) == ("oracle", "exemplar", 6, ORACLE)
    assert all(rater.startswith("oracle-") for rater in pd.read_csv(out / "votes.csv")["rater"])


@pytest.mark.parametrize(("column", "name"), [("ground_truth", "ground truth"), ("edit_mask", "edit mask")])
def test_without_truth_or_mask_nothing_is_made_up(run: Path, tmp_path: Path, column: str, name: str) -> None:
    (tmp_path / "bench/frames").mkdir(parents=True)
    for path in (run / "bench/frames").iterdir():
        (tmp_path / "bench/frames" / path.name).symlink_to(path)
    (tmp_path / "bench/bench.json").write_bytes((run / "bench/bench.json").read_bytes())
    with (run / "bench/manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = [{**row, column: ""} for row in csv.DictReader(file)]
    with (tmp_path / "bench/manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(InputError, match=f"sample g-t.* has no {name}, by which the oracle judges: give the study"):
        oracle.judge(read_study(run / "studies/exemplar"), Bench.load(tmp_path / "bench"))


def test_another_benchmark_is_refused(run: Path, tmp_path: Path) -> None:
    other = write_bench(tmp_path / "bench", group="h")
    with pytest.raises(InputError, match="is not of the benchmark"):
        oracle.judge(read_study(run / "studies/exemplar"), other)


def test_too_few_raters_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 raters cannot give 3 votes"):
        voted(run, tmp_path / "votes", raters=2)


def test_the_edit_of_the_toys_shows() -> None:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[:8, :8] = True
    before = picture(7)
    after = edited(before, mask)
    assert (after[:8, :8] > before[:8, :8]).mean() > 0.9 and (after[8:] == before[8:]).all()
