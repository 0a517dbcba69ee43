"""Claims held against planted scores, seconds and judgements, whose effects and intervals have closed forms."""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from attention_folder import ALIKE, write_attention
from run_folder import FAMILIES, STATISTICS, TIMED, arguments, planted_table, read
from scipy.stats import binomtest

from editclip import stats
from editclip.config.claims import Claims
from editclip.config.section import checked
from editclip.data import world_edits
from editclip.errors import InputError
from editclip.report import claim_evidence, claims
from editclip.report.claim_evidence import Evidence, Part, read_attention, read_judgement
from editclip.report.claim_rules import Claim, read_claims
from editclip.report.claims_table import claims_html
from editclip.report.columns import HEADLINE
from editclip.report.results import RunResults
from editclip.study import coefficients, preferences

SHIPPED = Path(__file__).parents[2] / "paper" / "claims.yaml"
NAMES = {"EditCLIP": "editclip", "IP2P": "ip2p", "Query": "copy_query", "VISII": "visii", "InstaManip": "instamanip"}
T2 = 4.302653  # t quantile of 97.5 % with 2 degrees of freedom

BEST = {"kind": "best", "table": "table1", "metrics": ["ec2ec"], "method": "EditCLIP", "rivals": ["IP2P"],
        "families": None}  # fmt: skip
FASTER = {"kind": "faster", "table": "table1", "method": "EditCLIP", "rivals": ["IP2P"], "times": 1}
PREFERRED = {"kind": "preferred", "study": "exemplar", "questions": ["edit"], "method": "EditCLIP", "rivals": ["IP2P"]}
POSITIVE = {"kind": "correlates", "study": "exemplar", "questions": ["edit"], "statistic": "d1", "metric": "ec2ec"}
MORE = POSITIVE | {"kind": "correlates_more", "rivals": ["s_visual"]}


def claim(rule: Mapping[str, Any], *scopes: str) -> Claim:
    return checked(Claim, {"text": "A holds.", "source": "Table 9", "scopes": list(scopes or ["micro"]), "rule": rule})


@pytest.fixture(scope="module")
def results(planted: Path) -> RunResults:
    return read(planted)


@pytest.fixture(scope="module")
def judgements(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The judgements of a study that people voted in."""
    folder = tmp_path_factory.mktemp("judgements") / "exemplar"
    write_judgements(folder, "human")
    return folder


def write_judgements(folder: Path, origin: str) -> None:
    folder.mkdir()
    facts = {"study": "exemplar", "origin": origin, "level": 0.95, "clusters": "edit types"}
    (folder / "judgement.json").write_text(json.dumps(facts))
    preferences = [
        ("edit", "editclip", "ip2p", 300, 100, 0.6, 0.55, 0.65),
        ("preserves", "editclip", "ip2p", 290, 100, 0.48, 0.42, 0.54),
        ("edit", "visii", "editclip", 60, 20, 0.7, 0.62, 0.78),  # the other way round
        ("edit", "editclip", "copy_query", 30, 10, 1.0, "", ""),
        ("preserves", "editclip", "copy_query", 6, 2, 0.0, "", ""),
        ("preserves", "visii", "editclip", 4, 2, 0.25, "", ""),  # votes on one type alone
    ]
    names = ["question", "first", "second", "votes", "items", "win_rate", "low", "high"]
    pd.DataFrame(preferences, columns=names).to_csv(folder / "preferences.csv", index=False)
    coefficients = [
        ("edit", "ec2ec", "d1", "", 0.4, 0.3, 0.5, 390),
        ("edit", "ec2ec", "within", "", 0.1, -0.02, 0.2, 390),
        ("edit", "ec2ec", "within_pair", "editclip–ip2p", 0.2, 0.1, 0.3, 300),
        ("preserves", "ec2ec", "d1", "", -0.2, -0.3, -0.1, 300),
        ("edit", "s_visual", "d1", "", 0.2, 0.1, 0.3, 390),
        ("edit", "clip_dir", "d1", "", "", "", "", 0),
    ]
    names = ["question", "metric", "statistic", "pair", "estimate", "low", "high", "votes"]
    pd.DataFrame(coefficients, columns=names).to_csv(folder / "coefficients.csv", index=False)
    differences = [
        ("edit", "d1", "s_visual", "ec2ec", -0.2, -0.3, -0.1, 390),
        ("edit", "within", "s_visual", "ec2ec", 0.05, -0.1, 0.2, 380),
        ("edit", "d1", "ec2ec", "clip_dir", "", "", "", ""),
    ]
    names = ["question", "statistic", "metric", "other", "diff", "low", "high", "votes"]
    pd.DataFrame(differences, columns=names).to_csv(folder / "differences.csv", index=False)


def decided(rule: Mapping[str, Any], results: RunResults, folder: Path | None = None) -> dict[str, Any]:
    """What is said of a claim with a rule, by a run with a table and, if given, judgements."""
    studies = {"exemplar": read_judgement(folder, 0.95)} if folder else {}
    run = Evidence(NAMES, {"table1": results}, studies, stats.Settings(**STATISTICS))
    return claims.decide(claim(rule), run, "micro")


def by_type(results: RunResults, **shifts: float) -> RunResults:
    """The results with EditCLIP's scores of some types shifted; as planted they exceed IP2P's by 0.1."""
    scores = results.scores
    shift = scores["edit_type"].map(shifts).fillna(0).where(scores["method"] == "editclip", 0)
    return dataclasses.replace(results, scores=scores.assign(value=scores["value"] + shift))


@pytest.mark.parametrize(
    ("metric", "width", "verdict", "sign"),
    [
        ("ec2ec", 0.02, "supported", 1),
        ("ec2ec", 0.2, "undecided at this n", 1),
        ("lpips", 0.02, "not supported", -1),  # the lower the better, and EditCLIP's is higher
        ("s_visual", 0.02, "supported", 1),
        ("s_visual_dist", 0.02, "not supported", -1),
    ],
)
def test_a_difference_is_decided_by_its_interval_over_types(
    results: RunResults, metric: str, width: float, verdict: str, sign: int
) -> None:
    found = decided(BEST | {"metrics": [metric]}, by_type(results, to_night=width, add_hat=-width))
    half = T2 * width / math.sqrt(3)  # of type means 0.1 + width, 0.1 and 0.1 - width
    assert found["verdict"] == verdict and found["n"] == 18 and found["note"] == ""
    assert found["effect"] == pytest.approx(sign * 0.1)
    assert found["low"] == pytest.approx(sign * 0.1 - half, rel=0.1)  # 1,000 draws
    assert found["high"] == pytest.approx(sign * 0.1 + half, rel=0.1)
    assert found["bar"] == "above 0"


def test_a_difference_of_nothing_is_undecided_whatever_its_sign(results: RunResults) -> None:
    same = decided(BEST, by_type(results, to_night=-0.1, colour_red=-0.1, add_hat=-0.1))
    assert same["effect"] == pytest.approx(0, abs=1e-12)
    assert claims.verdict([Part("A", 0.0, 0.0, 0.0, 9)], 0) == "undecided at this n"


def test_of_several_rivals_the_weakest_comparison_is_reported(results: RunResults) -> None:
    found = decided(BEST | {"rivals": ["Query", "IP2P"]}, by_type(results, to_night=0.02, add_hat=-0.02))
    assert found["verdict"] == "supported" and found["note"] == "closest: IP2P"
    assert found["effect"] == pytest.approx(0.1), "0.35 above the copy"
    found = decided(BEST | {"metrics": ["ec2ec", "lpips"], "rivals": ["Query"]}, results)
    assert found["verdict"] == "not supported" and found["note"] == "against it: Query (LPIPS)"
    assert found["effect"] == pytest.approx(-0.35)


ABOVE, BELOW, OPEN, BARE = (
    Part("above", 0.2, 0.1, 0.3, 9), Part("below", -0.1, -0.15, -0.05, 9), Part("open", 0.1, -0.1, 0.3, 9),
    Part("bare", 0.1, math.nan, math.nan, 9),
)  # fmt: skip


@pytest.mark.parametrize(
    ("needed", "verdict", "weakest"),
    [
        ([ABOVE, ABOVE], "supported", "above"),
        ([ABOVE, OPEN], "undecided at this n", "open"),
        ([ABOVE, BARE], "undecided at this n", "bare"),
        ([ABOVE, OPEN, BELOW, BARE], "not supported", "below"),
        ([Part("wide", 0.3, 0.01, 0.6, 9), ABOVE], "supported", "wide"),  # nearest to 0 by its own interval
    ],
)
def test_a_claim_needs_all_of_its_comparisons(needed: list[Part], verdict: str, weakest: str) -> None:
    assert claims.verdict(needed, 0) == verdict
    assert min(needed, key=lambda part: claims.standing(part, 0)).against == weakest


def test_families_are_taken_together(results: RunResults) -> None:
    shifted = by_type(results, to_night=1.0)
    found = decided(BEST | {"families": ["colour", "addition"]}, shifted)
    assert found["effect"] == pytest.approx(0.1) and found["n"] == 12
    assert decided(BEST | {"families": ["global"]}, shifted)["effect"] == pytest.approx(1.1)


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (BEST | {"rivals": ["IP2P", "VISII", "LEDITS++"]}, "VISII and LEDITS++: no row of table1"),
        (BEST | {"table": "tabel1"}, 'no table tabel1 (did you mean "table1"?)'),
        (BEST | {"metrics": ["ec2ec", "mse"]}, "MSE: not scored"),
        (BEST | {"families": ["colour", "style"]}, "no edits of style"),
        (BEST | {"metrics": ["clip_dir"], "rivals": ["Query"]}, "Query: nothing has a value of both"),
        (FASTER | {"rivals": ["Query"]}, "Query: not timed"),
        (PREFERRED | {"study": "text"}, "no judgements of a study text"),
        (PREFERRED | {"rivals": ["InstaManip"]}, "InstaManip: no method of the study exemplar"),
        (PREFERRED | {"method": "VISII"}, "IP2P: no votes on edit quality against VISII"),
        (POSITIVE | {"metric": "ec2t"}, "EC2T: not held against the votes"),
        (POSITIVE | {"metric": "clip_dir"}, "no d1 with votes on edit quality"),
        (POSITIVE | {"metric": "clip_dir_captions"}, "CLIP-Dir (captions): not held against the votes"),
        (MORE | {"statistic": "d4"}, "was not compared with that of EC2EC"),
        (MORE | {"rivals": ["clip_dir"]}, "CLIP-Dir: nothing has a value of both"),
    ],
)
def test_what_the_run_lacks_is_named(results: RunResults, judgements: Path, rule: dict[str, Any], reason: str) -> None:
    found = decided(rule, results, judgements)
    assert found["verdict"] == "not testable here" and reason in found["note"] and "effect" not in found


@pytest.mark.parametrize("form", ["clip_dir_captions", "clip_dir_instruction"])
def test_a_form_of_clip_dir_that_the_study_held_is_not_taken_for_clip_dir(
    results: RunResults, tmp_path: Path, form: str
) -> None:
    folder = tmp_path / "exemplar"
    write_judgements(folder, "human")
    path = folder / "coefficients.csv"
    path.write_text(path.read_text().replace("clip_dir", form).replace("ec2ec", "lpips_alex"))
    found = decided(POSITIVE | {"metric": "clip_dir"}, results, folder)
    assert found["verdict"] == "not testable here" and "CLIP-Dir: not held against the votes" in found["note"]
    assert decided(POSITIVE | {"metric": "lpips"}, results, folder)["effect"] == pytest.approx(0.4), "one form alone"


@pytest.mark.parametrize("status", ["undefined", "failed"])
def test_rows_without_any_valid_score_or_time_are_not_testable(results: RunResults, status: str) -> None:
    scores = results.scores.assign(status=status, value=math.nan)
    found = decided(BEST, dataclasses.replace(results, scores=scores))
    assert (found["verdict"], found["note"]) == ("not testable here", "IP2P: nothing has a value of both")
    run = timed(results, editclip=(1, 2), ip2p=(3, 4))
    found = decided(FASTER, dataclasses.replace(run, runtime=run.runtime.assign(status=status)))
    assert (found["verdict"], found["note"]) == ("not testable here", "IP2P: nothing has a value of both")


def timed(results: RunResults, **seconds: tuple[float, float]) -> RunResults:
    """The results with edits timed twice on a sample of each of two types, by method."""
    samples = [results.samples.index[0], results.samples.index[-1]]
    rows = [
        {"method": name, "sample_id": sample, "repeat": repeat, "prepare_seconds": 0.25, "plan_seconds": 0.25,
         "edit_seconds": spent - 0.5, "status": "ok"}
        for name, both in seconds.items() for sample, spent in zip(samples, both, strict=True) for repeat in (0, 1)
    ]  # fmt: skip
    return dataclasses.replace(results, runtime=pd.DataFrame(rows))


def test_seconds_are_compared_on_the_same_samples(results: RunResults) -> None:
    found = decided(FASTER, timed(results, editclip=(1, 2), ip2p=(3, 4)))
    assert (found["verdict"], found["n"]) == ("supported", 2) and found["effect"] == pytest.approx(2)
    assert decided(FASTER, timed(results, editclip=(3, 4), ip2p=(1, 2)))["verdict"] == "not supported"
    # Two types whose savings are 2 ± 1: standard error 1, and one degree of freedom.
    found = decided(FASTER, timed(results, editclip=(1, 2), ip2p=(4, 3)))
    assert found["verdict"] == "undecided at this n"
    assert found["high"] - found["effect"] == pytest.approx(12.7062, rel=0.1)


def test_a_rival_may_be_allowed_some_lead(results: RunResults) -> None:
    run = timed(results, editclip=(1.05, 1.05), ip2p=(1, 1))
    assert decided(FASTER | {"times": 1.06}, run)["effect"] == pytest.approx(0.01)
    assert decided(FASTER | {"times": 1.06}, run)["verdict"] == "supported"
    assert decided(FASTER, run)["verdict"] == "not supported"


@pytest.mark.parametrize(
    ("changes", "verdict", "numbers"),
    [
        ({}, "supported", (0.6, 0.55, 0.65, 300)),
        ({"questions": ["preserves"]}, "undecided at this n", (0.48, 0.42, 0.54, 290)),
        ({"rivals": ["VISII"]}, "not supported", (0.3, 0.22, 0.38, 60)),
        ({"method": "VISII", "rivals": ["EditCLIP"]}, "supported", (0.7, 0.62, 0.78, 60)),
        ({"rivals": ["IP2P", "VISII"]}, "not supported", (0.3, 0.22, 0.38, 60)),
        ({"questions": ["edit", "preserves"]}, "undecided at this n", (0.48, 0.42, 0.54, 290)),
    ],
)
def test_preferences_are_held_against_a_half(
    results: RunResults, judgements: Path, changes: dict[str, Any], verdict: str, numbers: tuple[float, ...]
) -> None:
    found = decided(PREFERRED | changes, results, judgements)
    assert (found["verdict"], found["bar"]) == (verdict, "above 0.5")
    assert [found[name] for name in ("effect", "low", "high", "n")] == pytest.approx(list(numbers))


def test_votes_that_all_agree_have_wilsons_interval_of_their_items(results: RunResults, judgements: Path) -> None:
    found = decided(PREFERRED | {"rivals": ["Query"]}, results, judgements)
    expected = binomtest(10, 10).proportion_ci(0.95, method="wilson")
    assert (found["low"], found["high"]) == (pytest.approx(expected.low), 1)
    assert found["verdict"] == "supported"
    few = decided(PREFERRED | {"rivals": ["Query"], "questions": ["preserves"]}, results, judgements)
    assert few["verdict"] == "undecided at this n", "six votes, but on two items"
    assert few["high"] == pytest.approx(binomtest(0, 2).proportion_ci(0.95, method="wilson").high)


def test_a_share_without_an_interval_is_undecided(results: RunResults, judgements: Path) -> None:
    found = decided(PREFERRED | {"rivals": ["VISII"], "questions": ["preserves"]}, results, judgements)
    assert found["verdict"] == "undecided at this n" and found["effect"] == 0.75
    assert found["note"].startswith("no interval: too few units")


@pytest.mark.parametrize(
    ("rule", "verdict", "numbers"),
    [
        (POSITIVE, "supported", (0.4, 0.3, 0.5, 390)),
        (POSITIVE | {"statistic": "within"}, "undecided at this n", (0.1, -0.02, 0.2, 390)),
        (POSITIVE | {"questions": ["edit", "preserves"]}, "not supported", (-0.2, -0.3, -0.1, 300)),
        (MORE, "supported", (0.2, 0.1, 0.3, 390)),
        (MORE | {"metric": "s_visual", "rivals": ["ec2ec"]}, "not supported", (-0.2, -0.3, -0.1, 390)),
        (MORE | {"statistic": "within"}, "undecided at this n", (-0.05, -0.2, 0.1, 380)),
    ],
)
def test_correlations_are_decided_by_their_intervals(
    results: RunResults, judgements: Path, rule: dict[str, Any], verdict: str, numbers: tuple[float, ...]
) -> None:
    found = decided(rule, results, judgements)
    assert found["verdict"] == verdict
    assert [found[name] for name in ("effect", "low", "high", "n")] == pytest.approx(list(numbers))


@pytest.mark.parametrize("rule", [PREFERRED, POSITIVE, MORE], ids=lambda rule: rule["kind"])
def test_whose_votes_they_are_is_said(
    results: RunResults, judgements: Path, tmp_path: Path, rule: dict[str, Any]
) -> None:
    assert decided(rule, results, judgements)["note"] == "votes of people"
    write_judgements(tmp_path / "exemplar", "oracle")
    assert "no person judged" in decided(rule, results, tmp_path / "exemplar")["note"]


def test_judgements_of_another_level_are_refused(judgements: Path) -> None:
    with pytest.raises(InputError, match=r"intervals of level 0\.95, the tables of 0\.9"):
        read_judgement(judgements, 0.9)


ATTENDS = {"kind": "attends", "encoder": "editclip", "head": "last", "rivals": ["clip_after", "even"]}


def attended(rule: Mapping[str, Any], results: RunResults, folder: Path) -> dict[str, Any]:
    """What is said of a claim with a rule, by a run whose encoder's attention lies in a folder."""
    measured = read_attention(folder, 0.95)
    run = Evidence(NAMES, {"table1": results}, {}, stats.Settings(**STATISTICS), {measured.encoder: measured})
    return claims.decide(claim(rule), run, "micro")


@pytest.mark.parametrize(
    ("weights", "verdict", "effect"),
    [
        (ALIKE, "supported", 0.25),  # w - 1/4 and w / 2 - 1/8 over CLIP's and evenly spread attention
        ({"colour_red": 0.75, "add_hat": 0.5}, "undecided at this n", 0.3125),
        ({"colour_red": 0.125, "add_hat": 0.0}, "not supported", -0.125),
    ],
)
def test_attention_is_decided_on_local_edits_alone(
    results: RunResults, tmp_path: Path, weights: dict[str, float], verdict: str, effect: float
) -> None:
    """The third type, which changes everything, would halve the effect."""
    found = attended(ATTENDS, results, write_attention(tmp_path, weights | {"to_night": 0.5}))
    assert (found["verdict"], found["n"], found["bar"]) == (verdict, 4, "above 0")
    assert found["effect"] == pytest.approx(effect)
    assert found["note"].endswith("attention over 2 × 2 patches")


def test_attention_has_to_be_ahead_of_each_rival_and_of_the_head_that_is_named(
    results: RunResults, tmp_path: Path
) -> None:
    folder = write_attention(tmp_path)
    assert attended(ATTENDS | {"head": "mean"}, results, folder)["verdict"] == "undecided at this n"
    summary = pd.read_csv(folder / "summary.csv", keep_default_na=False)
    behind = (summary["reading"] == "editclip - clip_before") & (summary["scope"] == "local")
    summary.loc[behind, ["lift", "low", "high"]] = -0.2, -0.3, -0.1
    summary.to_csv(folder / "summary.csv", index=False)
    assert attended(ATTENDS, results, folder)["verdict"] == "supported", "which does not ask for it"
    found = attended(ATTENDS | {"rivals": ["clip_before", "clip_after", "even"]}, results, folder)
    assert found["verdict"] == "not supported" and found["effect"] == -0.2
    assert "against it: CLIP's of the image before" in found["note"]


def test_attention_that_was_not_measured_is_named(results: RunResults, tmp_path: Path) -> None:
    folder = write_attention(tmp_path, types=("to_night",))
    found = attended(ATTENDS, results, folder)
    assert (found["verdict"], found["note"]) == ("not testable here", "the benchmark has no local edits")
    found = attended(ATTENDS | {"encoder": "editclp"}, results, folder)
    assert found["note"] == 'the run has no attention of an encoder editclp (did you mean "editclip"?)'
    with pytest.raises(InputError, match=r"intervals of level 0\.95, the tables of 0\.9"):
        read_attention(folder, 0.9)


def test_the_judgements_have_the_columns_that_claims_read() -> None:
    assert set(claim_evidence.COEFFICIENTS) <= set(coefficients.COLUMNS)
    assert set(claim_evidence.DIFFERENCES) <= set(coefficients.DIFFERENCES)
    assert set(claim_evidence.PREFERENCES) <= set(preferences.PREFERENCES)


def made(run: Path, declared: Mapping[str, Any], *more: object, names: Mapping[str, str] = NAMES) -> Path:
    """The folder that the stage makes of a run and claims."""
    path = run / "claims.yaml"
    path.write_text(yaml.safe_dump({"claims": declared}, sort_keys=False))
    timing = ["--runtime", *(run / "runtime" / name for name in TIMED)]
    given = ["--claims", path, "--scope", "micro", "--names", json.dumps(names), *timing, *more]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["claims", *arguments(run, planted_table(), run / "claims", *given)])
        claims.main()
    return run / "claims"


def declared(rule: Mapping[str, Any], scopes: tuple[str, ...] = ("micro", "paper")) -> dict[str, Any]:
    return {"text": "A <b> holds.", "source": "Table 1", "scopes": list(scopes), "rule": dict(rule)}


ALL = {
    "ahead": declared(BEST),
    "behind": declared(BEST | {"metrics": ["lpips"]}) | {"source": "Table 2"},
    "even": declared(FASTER),
    "elsewhere": declared(BEST, ("paper",)),
    "voted": declared(PREFERRED),
    "ablated": declared(BEST | {"table": "ablations"}),
}


def test_the_stage_writes_a_row_a_claim_and_says_what_it_read(run: Path, judgements: Path) -> None:
    out = made(run, ALL, "--judgements", judgements)
    found = pd.read_csv(out / "claims.csv", index_col="id", keep_default_na=False)
    assert list(found.columns) == list(claims.COLUMNS[1:])
    assert found["verdict"].to_dict() == {
        "ahead": "supported", "behind": "not supported", "even": "undecided at this n",
        "elsewhere": "not testable here", "voted": "supported", "ablated": "not testable here",
    }  # fmt: skip
    assert found.loc["elsewhere", "note"] == "a micro run cannot test it" and found.loc["elsewhere", "scope"] == "paper"
    assert found.loc["ablated", "note"] == "the run has no table ablations"
    assert found.loc["ahead", "rule"] == "Table 1: EC2EC higher for EditCLIP than for IP2P"
    text = (out / "claims.md").read_text()
    assert "Of 6 claims: 2 supported, 1 not supported, 1 undecided at this n, 2 not testable here." in text
    assert "0.600 [0.550, 0.650]" in text and "−0.100" in text and "Planted scores of a test." in text
    inputs = json.loads((out / "provenance.json").read_text())["inputs"]
    assert {"claims", "bench", "judgements of exemplar"} <= set(inputs)


def test_the_stage_reads_attention(run: Path) -> None:
    out = made(run, {"attended": declared(ATTENDS)}, "--attention", write_attention(run))
    found = pd.read_csv(out / "claims.csv").iloc[0]
    assert (found["verdict"], found["effect"], found["n"]) == ("supported", 0.25, 4)
    assert found["rule"] == (
        "Class token of editclip, last block, last head, local edits: more of its attention inside the edit than of "
        "CLIP's of the image after and attention spread evenly"
    )
    assert "attention of editclip" in json.loads((out / "provenance.json").read_text())["inputs"]


def test_claims_in_html_stand_under_their_source(run: Path, judgements: Path) -> None:
    path = made(run, ALL, "--judgements", judgements) / "claims.csv"
    html = claims_html(path)
    assert html.count('class="group"') == 3, "Table 1, Table 2, and Table 1 again"
    assert html.count("A &lt;b&gt; holds.") == 6 and html.startswith("<p>Of 6 claims: 2 supported")
    assert "<b>0.600</b> <small>[0.550, 0.650]</small>" in html and '<td class="bar">above 0.5</td>' in html
    for kind, count in {"met": 2, "missed": 1, "open": 3}.items():
        assert html.count(f'<tr class="{kind}">') == count
    assert html.count('<td class="value"></td><td class="n"></td><td class="bar"></td>') == 2
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    for column, value, message in (("verdict", "yes", "use one of supported"), ("low", "x", "low of ahead is 'x'")):
        frame.assign(**{column: value}).to_csv(path, index=False)
        with pytest.raises(InputError, match=message):
            claims_html(path)


def test_only_tables_that_claims_of_the_scope_speak_of_are_read() -> None:
    rules = {"a": claim(BEST), "b": claim(PREFERRED | {"study": "table2"}), "c": claim(FASTER | {"table": "slow"})}
    assert claims._asked(rules | {"d": claim(BEST | {"table": "other"}, "paper")}, "micro") == {"table1", "slow"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"rule": BEST | {"kind": "bst"}},
            r"claims\.ahead\.rule\.kind: 'bst' is not allowed \(did you mean \"best\"\?\)",
        ),
        ({"rule": BEST | {"metrics": ["ec2ek"]}}, r'metrics\[0\]: "ec2ek" is no metric with a better.*mean "ec2ec"'),
        ({"rule": BEST | {"metrics": ["sharpness"]}}, '"sharpness" is no metric with a better direction'),
        ({"rule": BEST | {"rivals": ["IP2P", "EditCLIP"]}}, "EditCLIP is among its own rivals"),
        ({"rule": MORE | {"rivals": ["ec2ec"]}}, "ec2ec is among its own rivals"),
        ({"rule": PREFERRED | {"questions": ["quality"]}}, r"questions\[0\]: 'quality' is not allowed"),
        ({"scopes": ["macro"]}, r"scopes\[0\]: 'macro' is not allowed \(did you mean \"micro\"\?\)"),
        ({"sorce": "Table 1"}, r'unknown config key claims\.ahead\.sorce \(did you mean "source"\?\)'),
        ({"rule": {k: v for k, v in BEST.items() if k != "method"}}, r"rule\.method is missing.*see docs/claims\.md"),
    ],
)
def test_a_wrong_claim_is_one_sentence(run: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as refusal:
        made(run, {"ahead": declared(BEST) | change})
    assert str(refusal.value).startswith(f"{run / 'claims.yaml'}: ") and "\n" not in str(refusal.value)


def test_a_method_stands_for_one_name_alone(run: Path) -> None:
    with pytest.raises(InputError, match='names: EditCLIP and Ours are both "editclip"'):
        made(run, {"ahead": declared(BEST)}, names=NAMES | {"Ours": "editclip"})
    section = checked(Claims, {"file": "paper/claims.yaml", "scope": "paper", "names": NAMES})
    assert section.names == NAMES


def test_the_shipped_claims_speak_of_metrics_families_and_methods_that_exist() -> None:
    shipped = read_claims(SHIPPED)
    metrics = {*HEADLINE, "clip_dir", "detail", *(name for names in FAMILIES.values() for name in names)}
    published = set(pd.read_csv(SHIPPED.parent / "table1.csv")["method"]) | {"unedited query"}
    kinds = set()
    for name, entry in shipped.items():
        rule = entry.rule.model_dump()
        kinds.add(rule["kind"])
        assert {*rule.get("metrics", []), rule.get("metric", "ec2ec")} <= metrics, name
        assert set(rule.get("families") or []) <= set(world_edits.FAMILIES), name
        assert not rule.get("families") or entry.scopes == ["micro"], "TOP-Bench's types have no families"
        if rule.get("table") == "table1":
            assert {rule["method"], *rule["rivals"]} <= published, name
        assert entry.rule.words and len(entry.text) < 250
        if len(rule.get("families") or []) > 1:
            assert "taken together" in entry.text, name
    assert kinds == {"best", "faster", "preferred", "correlates", "correlates_more", "attends"}


def test_every_shipped_claim_has_a_verdict_in_a_run_that_lacks_most(run: Path) -> None:
    shipped = yaml.safe_load(SHIPPED.read_text())["claims"]
    names = {"EditCLIP": "editclip", "IP2P": "ip2p", "unedited query": "copy_query"}
    found = pd.read_csv(made(run, shipped, names=names) / "claims.csv", keep_default_na=False)
    assert list(found["id"]) == list(shipped) and set(found["verdict"]) == {"not testable here"}
    assert (found["note"] != "").all()
