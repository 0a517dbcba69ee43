"""Metrics against ratings: scipy's numbers on made and real ratings, degenerate cases, the command and its refusals."""

import json
import subprocess
import sys
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats as reference

from editclip import stats
from editclip.errors import InputError
from editclip.study import ratings as command
from editclip.study.rating_statistics import COLUMNS, DIFFERENCES, Ratings, agreement, differences
from editclip.study.ratings import read_ratings

SETTINGS = stats.Settings(resamples=1000, level=0.95, seed=0)
RATERS = ["r1", "r2", "r3"]
DOCUMENT = Path(__file__).parents[2] / "docs" / "judging-metrics.md"
JUDGES = ("gpt4o", "gpt4v", "gemini", "llava")


def rated(items: int = 40, seed: int = 0) -> pd.DataFrame:
    """Edits by three methods; `good` follows the single edit's quality, `fame` the method's alone, `bad` is -good."""
    random = np.random.default_rng(seed)
    rows = []
    for item in range(items):
        for method, level in {"a": 0.8, "b": 0.0, "c": -0.6}.items():
            quality = level + random.normal()
            row = {"item": f"i{item}", "method": method, "good": round(quality + random.normal(), 1)}
            row |= {name: int(np.clip(np.round(quality + 2 + random.normal()), 0, 4)) for name in RATERS}
            rows.append(row | {"fame": level + random.normal(scale=0.3)})
    return pd.DataFrame(rows).assign(bad=lambda t: -t["good"])


def written(table: pd.DataFrame, folder: Path) -> Path:
    path = folder / "ratings.csv"
    table.to_csv(path, index=False)
    return path


def read(table: pd.DataFrame, folder: Path, metrics: list[str] | None = None, **more: str) -> Ratings:
    return read_ratings(written(table, folder), "item", "method", RATERS, metrics or ["good", "fame"], **more)


def by_hand(table: pd.DataFrame, values: "pd.Series[float]", target: "pd.Series[float]") -> dict[str, float]:
    """Every statistic as it is defined, for the rows that have both; methods that hardly vary are not in within."""
    known = values.notna() & target.notna()
    rows = table[known].assign(x=values[known], y=target[known])
    found = {"pooled": reference.pearsonr(rows["x"], rows["y"])[0]}
    means = rows.groupby("method")["x"].transform("mean")
    found["method_means"] = reference.pearsonr(means, rows["y"])[0]
    z, weights = [], []
    for name, mine in rows.groupby("method"):
        if mine["y"].nunique() > 1:
            found[f"within {name}"] = reference.pearsonr(mine["x"], mine["y"])[0]
        if len(mine) - mine["y"].value_counts().iloc[0] >= 10:
            z.append(np.arctanh(found[f"within {name}"]))
            weights.append(len(mine) - 3)
    found["within"] = np.tanh(np.average(z, weights=weights))
    right = []
    for _, edits in rows.groupby(table.columns[0]):
        for one, other in combinations(edits[["x", "y"]].to_numpy(), 2):
            if not np.isclose(one[1], other[1]):
                right.append(0.5 if one[0] == other[0] else float((one[0] > other[0]) == (one[1] > other[1])))
    return found | {"accuracy": np.mean(right)}


def ceiling_by_hand(table: pd.DataFrame, raters: list[str]) -> dict[str, float]:
    each = [by_hand(table, table[name], table[[r for r in raters if r != name]].mean(axis=1)) for name in raters]
    found = {}
    for name in set().union(*each):
        known = [one[name] for one in each if name in one]
        found[name] = np.mean(known) if name == "accuracy" else np.tanh(np.mean(np.arctanh(known)))
    return found


def agree(table: pd.DataFrame, metric: str, expected: dict[str, float]) -> None:
    mine = table[table["metric"] == metric].set_index(["statistic", "method"])["estimate"]
    for name, value in expected.items():
        statistic, _, method = name.partition(" ")
        key = ("within_method", method) if method else (statistic, "")
        assert mine[key] == pytest.approx(value, abs=1e-9), name


def test_estimates_are_what_the_definitions_give_in_scipy(tmp_path: Path) -> None:
    frame = rated()
    frame.loc[[3, 70], "good"] = np.nan
    table = agreement(read(frame, tmp_path), SETTINGS)
    assert tuple(table.columns) == COLUMNS
    target = frame[RATERS].mean(axis=1)
    for metric in ("good", "fame"):
        agree(table, metric, by_hand(frame, frame[metric], target))
    agree(table, "human", ceiling_by_hand(frame, RATERS))
    good = table[(table["metric"] == "good") & (table["method"] == "")].set_index("statistic")
    assert (good["rows"] == 118).all() and (good["missing"] == 2).all() and (good["items"] == 40).all()
    assert ((good["low"] < good["estimate"]) & (good["estimate"] < good["high"])).all()


@pytest.mark.parametrize("question", ["sc", "pq"])
def test_real_ratings_give_scipys_numbers_and_the_documents(question: str, real_images: Callable[[str], Path]) -> None:
    """ImagenHub's ratings (TIGER-AI-Lab/ImagenHub 439f72c) and VIEScore's judges (TIGER-AI-Lab/VIEScore 2cbea4e)."""
    path = real_images("imagenhub_ratings") / "ratings.csv"
    raters = [f"rater{i}_{question}" for i in (1, 2, 3)]
    judges = [f"viescore_{name}_{question}_min" for name in JUDGES]
    ratings = read_ratings(path, "uid", "method", raters, ["-lpips", *judges])
    table = agreement(ratings, stats.Settings(10_000, 0.95, 0))
    frame = pd.read_csv(path).assign(lpips=lambda t: -t["lpips"])
    target = frame[raters].mean(axis=1)
    for metric in ("-lpips", *judges):
        agree(table, metric, by_hand(frame, frame[metric.removeprefix("-")], target))
    agree(table, "human", ceiling_by_hand(frame, raters))
    pooled = table[table["statistic"] == "pooled"].set_index("metric")
    assert pooled.loc["human", "rows"] == 1611 and pooled.loc["-lpips", "missing"] == 179  # one method has no values
    document = DOCUMENT.read_text(encoding="utf-8").replace("−", "-")
    for metric, rows in table[table["method"] == ""].groupby("metric"):
        cells = [command._cell(*row) for row in rows[["estimate", "low", "high"]].to_numpy()]
        assert f"| {' | '.join(cells)} | {rows['null'].iloc[-1]:.3f} | {rows['rows'].iloc[0]} |" in document, metric


def test_a_metric_that_knows_only_methods_shows_in_pooled_and_not_within(tmp_path: Path) -> None:
    table = agreement(read(rated(items=300), tmp_path), SETTINGS).set_index(["metric", "statistic"])
    fame = table.loc["fame"]
    assert fame.loc["pooled", "low"] > 0.3 and fame.loc["within", "low"] < 0 < fame.loc["within", "high"]
    assert fame.loc["pooled", "from_means"] == pytest.approx(fame.loc["pooled", "estimate"], abs=0.05)
    assert fame.loc["pooled", "null"] == pytest.approx(fame.loc["method_means", "estimate"])
    assert table.loc[("good", "within"), "low"] > 0.3
    compared = differences(read(rated(items=300), tmp_path), SETTINGS).set_index("statistic")
    assert compared.loc["within", "low"] > 0.2 and compared.loc["within", "p_holm"] < 0.05


def test_differences_are_of_the_rows_that_have_both(tmp_path: Path) -> None:
    frame = rated()
    frame.loc[[3, 70], "good"] = np.nan
    frame.loc[[5], "fame"] = np.nan
    table = differences(read(frame, tmp_path), SETTINGS)
    assert tuple(table.columns) == DIFFERENCES and (table["rows"] == 117).all()
    both = frame.drop([3, 5, 70])
    target = both[RATERS].mean(axis=1)
    one, other = (by_hand(both, both[name], target) for name in ("good", "fame"))
    for name, diff in table.set_index("statistic")["diff"].items():
        assert diff == pytest.approx(one[str(name)] - other[str(name)], abs=1e-9)


def test_lower_is_better_turns_every_sign(tmp_path: Path) -> None:
    table = agreement(read(rated(), tmp_path, ["good", "-bad"]), SETTINGS)
    one, other = (table[table["metric"] == name].reset_index(drop=True) for name in ("good", "-bad"))
    pd.testing.assert_frame_equal(one.drop(columns="metric"), other.drop(columns="metric"))
    compared = differences(read(rated(), tmp_path, ["good", "-bad"]), SETTINGS)
    assert (compared["diff"] == 0).all() and (compared["p"] == 1).all()


def test_two_equal_raters_are_a_perfect_ceiling_without_an_interval(tmp_path: Path) -> None:
    frame = rated().assign(r2=lambda t: t["r1"], r3=lambda t: t["r1"])
    table = agreement(read(frame, tmp_path), SETTINGS)
    human = table[(table["metric"] == "human") & (table["method"] == "")].set_index("statistic")
    assert human.loc[["pooled", "within", "accuracy"], "estimate"].to_numpy() == pytest.approx([1, 1, 1], abs=1e-8)
    assert np.isnan(human.loc["pooled", "low"]) and human.loc["pooled", "note"] == "a perfect correlation: no interval"


def test_a_method_rated_alike_is_left_out_of_within_with_a_word(tmp_path: Path) -> None:
    frame = rated()
    frame.loc[frame["method"] == "c", RATERS] = 0
    frame.loc[frame["method"] == "b", RATERS] = 1
    frame.loc[frame[frame["method"] == "b"].index[:4], RATERS] = 3
    table = agreement(read(frame, tmp_path), SETTINGS).set_index(["metric", "statistic", "method"])
    note = table.loc[("good", "within", ""), "note"]
    assert note == "left out: b (ratings other than the commonest in 4 of 40 clusters), c (all ratings are alike)"
    assert table.loc[("good", "within", ""), "estimate"] == table.loc[("good", "within_method", "a"), "estimate"]
    assert np.isnan(table.loc[("good", "within_method", "c"), "estimate"])
    counts = ["rows", "items", "clusters", "missing"]
    assert table.loc[("good", "within", ""), counts].tolist() == [40, 40, 40, 0], "of method a"
    assert table.loc[("human", "within", ""), "rows"] == 40
    assert table.loc[("good", "pooled", ""), "rows"] == 120
    compared = differences(read(frame, tmp_path), SETTINGS).set_index("statistic")
    assert compared["rows"].to_dict() == {"pooled": 120, "method_means": 120, "within": 40, "accuracy": 120}


def test_two_metrics_are_compared_within_the_methods_that_both_can_use(tmp_path: Path) -> None:
    frame = rated().assign(flat=lambda t: t["bad"].where(t["method"] != "c", 1.0))
    table = differences(read(frame, tmp_path, ["good", "flat"]), SETTINGS).set_index("statistic")
    rest = frame[frame["method"] != "c"]
    one, other = (by_hand(rest, rest[name], rest[RATERS].mean(axis=1))["within"] for name in ("good", "flat"))
    assert table.loc["within", "diff"] == pytest.approx(one - other) and table.loc["within", "rows"] == 80
    assert table.loc["within", "note"] == "left out: c (the scores are all the same)"


def test_constant_and_absent_metrics_are_undefined_with_a_reason(tmp_path: Path) -> None:
    frame = rated().assign(flat=1.0, none="")
    table = agreement(read(frame, tmp_path, ["flat", "none"]), SETTINGS).set_index(["metric", "statistic"])
    for name in ("pooled", "method_means", "within"):
        assert np.isnan(table.loc[("flat", name), "estimate"]) and table.loc[("flat", name), "note"] != ""
    assert table.loc[("flat", "accuracy"), "estimate"] == 0.5
    none = table.loc["none"]
    assert none["estimate"].isna().all() and (none["note"] == "0 ratings, fewer than 4").all()
    assert (none["missing"] == 120).all()


def test_one_item_and_one_method_have_reasons_too(tmp_path: Path) -> None:
    frame = rated()
    alone = agreement(read(frame[frame["method"] == "a"], tmp_path), SETTINGS).set_index(["metric", "statistic"])
    assert alone.loc[("good", "method_means"), "note"] == "the methods' means are all the same"
    assert "0 pairs rated differently" in alone.loc[("good", "accuracy"), "note"]
    assert alone.loc[("good", "pooled"), "estimate"] == pytest.approx(alone.loc[("good", "within"), "estimate"])
    together = agreement(read(rated().assign(item=lambda t: "x", method=lambda t: t.index), tmp_path), SETTINGS)
    pooled = together[(together["metric"] == "good") & (together["statistic"] == "pooled")]
    assert pooled["note"].item() == "one cluster: no interval" and pooled["estimate"].notna().all()


def test_clusters_are_the_items_or_a_column(tmp_path: Path) -> None:
    frame = rated().assign(picture=lambda t: "p" + t["item"].str[-1])
    frame = pd.concat([frame, frame.assign(item=frame["item"] + "again")], ignore_index=True)
    items, pictures = (agreement(read(frame, tmp_path, **c), SETTINGS) for c in ({}, {"cluster": "picture"}))
    assert items["clusters"].max() == 80 and pictures["clusters"].max() == 10
    pd.testing.assert_series_equal(items["estimate"], pictures["estimate"])
    pooled = items["statistic"] == "pooled"
    assert ((pictures["high"] - pictures["low"])[pooled] > (items["high"] - items["low"])[pooled]).all()


def test_unrated_edits_are_counted_and_single_ratings_have_no_ceiling(tmp_path: Path) -> None:
    frame = rated().astype(dict.fromkeys(RATERS, object))
    frame.loc[0, RATERS] = ""
    frame.loc[1, RATERS[1:]] = ""
    ratings = read(frame, tmp_path)
    table = agreement(ratings, SETTINGS)
    pooled = table[table["statistic"] == "pooled"].set_index("metric")
    assert pooled["rows"].to_dict() == {"good": 119, "fame": 119, "human": 118}
    assert pooled["missing"].to_dict() == {"good": 0, "fame": 0, "human": 1}
    assert "1 edits that no one rated" in command.summary(ratings, table, differences(ratings, SETTINGS), SETTINGS)


def test_the_command_writes_its_three_files_and_prints_the_summary(tmp_path: Path) -> None:
    path, out = written(rated(), tmp_path), tmp_path / "out"
    words = [sys.executable, "-m", "editclip", "study", "analyse", "--ratings", str(path), "--item", "item", "--method"]
    words += ["method", "--raters", *RATERS, "--metrics", "good", "-bad", "fame", "--resamples", "200"]
    words += ["--out", str(out)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip() == (out / "summary.md").read_text().rstrip()
    assert "| -bad " in done.stdout and "120 edits of 40 items by 3 methods, 3 raters" in done.stdout
    assert tuple(pd.read_csv(out / "ratings.csv").columns) == COLUMNS
    assert tuple(pd.read_csv(out / "differences.csv").columns) == DIFFERENCES
    record = json.loads((out / "provenance.json").read_text())
    assert record["config"]["metrics"] == ["good", "-bad", "fame"] and record["config"]["resamples"] == 200
    help_text = subprocess.run([*words[:5], "--help"], capture_output=True, text=True).stdout
    assert "lower is better" in help_text and "editclip study analyse" in help_text
    near = subprocess.run([*words[:4], "analyze"], capture_output=True, text=True)
    assert near.returncode == 2 and 'did you mean "analyse"?' in near.stderr


@pytest.mark.parametrize(
    ("change", "metrics", "words"),
    [
        (lambda t: t.rename(columns={"item": "items"}), ["good"], "has no column 'item' (did you mean \"items\"?)"),
        (lambda t: t, ["god"], "has no column 'god' (did you mean \"good\"?)"),
        (lambda t: t.assign(r2=["bad", *t["r2"][1:]]), ["good"], "row 2 has r2 'bad': it is to be a number, or empty"),
        (lambda t: t.assign(r2=[*t["r2"][:-1], "nan"]), ["good"], "row 121 has r2 'nan'"),
        (lambda t: t.assign(good=["inf", *t["good"][1:]]), ["good"], "row 2 has good 'inf'"),
        (lambda t: pd.concat([t, t[:1]]), ["good"], "row 122 repeats item 'i0', method 'a'"),
        (lambda t: t.assign(method=["", *t["method"][1:]]), ["good"], "row 2 has no 'method'"),
        (lambda t: t[:0], ["good"], "has no rows"),
        (lambda t: t, ["good", "-good"], "the column 'good' is named twice"),
        (lambda t: t, ["r1"], "the column 'r1' is named twice"),
        (lambda t: t.rename(columns={"good": "human"}), ["human"], "is called like the human ceiling"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(
    change: Callable[[pd.DataFrame], pd.DataFrame], metrics: list[str], words: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as refusal:
        read(change(rated()), tmp_path, metrics)
    assert words in str(refusal.value) and "\n" not in str(refusal.value)


def test_one_rater_an_absent_file_and_split_clusters_are_refused(tmp_path: Path) -> None:
    path = written(rated().assign(picture=lambda t: t.index), tmp_path)
    with pytest.raises(InputError, match="--raters names 1 column: name two or more"):
        read_ratings(path, "item", "method", ["r1"], ["good"])
    with pytest.raises(InputError, match="absent.csv is no file"):
        read_ratings(tmp_path / "absent.csv", "item", "method", RATERS, ["good"])
    with pytest.raises(InputError, match="item 'i0' lies in two clusters of 'picture'"):
        read_ratings(path, "item", "method", RATERS, ["good"], "picture")


@pytest.mark.parametrize("words", [["--level", "95"], ["--level", "x"], ["--resamples", "5"], ["--resamples", "many"]])
def test_impossible_settings_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--ratings", "f", "--item", "i", "--method", "m", "--raters", "a", "b", "--metrics", "x", "--out", "o"]
    with pytest.raises(SystemExit):
        command.main([*given, *words])
    assert words[1] in capsys.readouterr().err
