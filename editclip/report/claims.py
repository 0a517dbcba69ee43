"""Hold a run against the paper's claims: one verdict a claim, decided by intervals and never by a sign.

    python -m editclip.report.claims --claims paper/claims.yaml --scope micro --names JSON --table JSON … \
        --bench results/<run>/bench --edits results/<run>/edits/* --scores results/<run>/scores/*/* \
        --runtime results/<run>/runtime/* --judgements results/<run>/judgements/* \
        --attention results/<run>/attention/* --out results/<run>/claims

--table takes what `editclip.report.tables` is told of each table. claims.csv and claims.md have a row a claim:
"supported" if every interval that it needs lies on its side, "not supported" if at least one lies on the other, else
"undecided at this n". What the run has no rows, scores, votes or attention for is "not testable here". docs/claims.md
says more.
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from editclip import stage, stats
from editclip.config.claims import Claims
from editclip.config.section import checked
from editclip.config.tables import Table
from editclip.report import render
from editclip.report.claim_evidence import Evidence, NotTestableError, Part, parts, read_attention, read_judgement
from editclip.report.claim_rules import Attends, Best, Claim, Faster, listed, read_claims
from editclip.report.columns import VOTES
from editclip.report.results import read_results, result_folders
from editclip.report.trainings import taken_together

SUPPORTED, NOT_SUPPORTED, UNDECIDED, NOT_TESTABLE = VERDICTS = (
    "supported",
    "not supported",
    "undecided at this n",
    "not testable here",
)
COLUMNS = ("id", "claim", "source", "verdict", "effect", "low", "high", "n", "scope", "rule", "bar", "note")


def standing(part: Part, null: float) -> tuple[float, float]:
    """How far a comparison's effect is above `null` in units of the half of its interval on that side, and as it is.

    Above 1 the interval lies above `null`, below -1 it lies below; without an interval 0.
    """
    distance = part.effect - null
    half = part.effect - part.low if distance > 0 else part.high - part.effect
    if math.isnan(half):
        return 0.0, distance
    if half <= 1e-9 * abs(distance):  # every sample, draw by draw, has the same difference
        return math.copysign(math.inf, distance) if distance else 0.0, distance
    return distance / half, distance


def verdict(needed: Sequence[Part], null: float) -> str:
    """The verdict of a claim: by the intervals, where trainings were repeated also by the effect of each of them.

    Args:
        needed: its comparisons, all of which have to hold.
        null: the value that their intervals have to lie above.
    """
    if all(min((part.low, *part.trainings)) > null for part in needed):
        return SUPPORTED
    return NOT_SUPPORTED if any(max((part.high, *part.trainings)) < null for part in needed) else UNDECIDED


def decide(claim: Claim, run: Evidence, scope: str) -> dict[str, Any]:
    """What claims.csv has to say of a claim: columns `COLUMNS` from verdict to note, but for missing numbers.

    The effect is that of the weakest comparison, see `standing`.

    Args:
        claim: the claim.
        run: what it is held against.
        scope: of the run.
    """
    rule = claim.rule
    said = {"scope": ", ".join(claim.scopes), "rule": rule.words, "bar": f"above {rule.null:g}"}
    if scope not in claim.scopes:
        return said | {"verdict": NOT_TESTABLE, "note": f"a {scope} run cannot test it"}
    try:
        found = sorted(parts(rule, run), key=lambda part: standing(part, rule.null))
    except NotTestableError as reason:
        return said | {"verdict": NOT_TESTABLE, "note": str(reason)}
    notes = _against(found, rule.null)
    if isinstance(rule, Best):
        notes += _trainings(rule, found, run)
    elif isinstance(rule, Attends):
        notes.append("attention over {} × {} patches".format(*run.attention[rule.encoder].patches))
    elif not isinstance(rule, Faster):
        notes.append(VOTES[run.judgements[rule.study].origin])
    weakest = found[0]
    numbers = {"effect": weakest.effect, "low": weakest.low, "high": weakest.high, "n": weakest.n}
    return said | numbers | {"verdict": verdict(found, rule.null), "note": "; ".join(notes)}


def _against(found: Sequence[Part], null: float) -> list[str]:
    """Which of the comparisons, weakest first, decide the verdict; of a lone one only that it has no interval."""
    lacking = [part.against for part in found if math.isnan(part.low)]
    below = [part.against for part in found if part.high < null]
    neither = [part.against for part in found if part.low <= null <= part.high]
    if len(found) == 1:
        return ["no interval: too few units"] if lacking else []
    named = {"against it": below, "undecided": neither, "no interval, too few units": lacking}
    notes = [f"{what}: {listed(which)}" for what, which in named.items() if which]
    return notes or [f"closest: {found[0].against}"]


def _trainings(rule: Best, found: Sequence[Part], run: Evidence) -> list[str]:
    """On how many trainings of this run's own a comparison of rows rests, and which comparisons they disagree about."""
    rows = run.tables[rule.table]
    once: list[str] = []
    several: list[str] = []
    for name in (rule.method, *rule.rivals):
        count = rows.scores.loc[rows.scores["method"] == run.names[name], "training"].nunique()
        if rows.methods[run.names[name]].trained:
            (several if count > 1 else once).append(name)
    torn = [
        part.against for part in found if part.trainings and min(part.trainings) <= rule.null <= max(part.trainings)
    ]
    notes = {"trainings disagree": torn, "several trainings of": several, "one training of": once}
    return [f"{what} {listed(which)}" for what, which in notes.items() if which]


def claims_frame(claims: Mapping[str, Claim], run: Evidence, scope: str) -> pd.DataFrame:
    """claims.csv: columns `COLUMNS`, a row a claim.

    Args:
        claims: by id.
        run: what they are held against.
        scope: of the run.
    """
    rows = [
        {"id": name, "claim": claim.text, "source": claim.source} | decide(claim, run, scope)
        for name, claim in claims.items()
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"n": "Int64"})


def tally(verdicts: "pd.Series[str]") -> str:
    """How many claims have which verdict, as one sentence."""
    counts = [f"{int((verdicts == name).sum())} {name}" for name in VERDICTS]
    return f"Of {len(verdicts)} claims: {', '.join(counts)}."


def claims_markdown(frame: pd.DataFrame, notice: str | None, level: float) -> str:
    """claims.md.

    Args:
        frame: claims.csv.
        notice: shown above the table.
        level: confidence level of the intervals.
    """
    cells = frame[["claim", "source", "verdict"]].set_axis(["Claim", "Source", "Verdict"], axis=1)
    cells = cells.assign(**{f"Effect [{100 * level:g} %]": [_effect(row) for row in frame.to_dict("records")]})
    cells = cells.assign(n=["" if pd.isna(n) else str(n) for n in frame["n"]], Rule=frame["rule"], Note=frame["note"])
    reading = (
        "An effect is that of the claim's weakest comparison and counts towards the claim: it is supported if every "
        "interval it needs lies above 0 (shares of votes: above 0.5). See docs/claims.md."
    )
    table = render.markdown_table(cells)
    return f"{render.heading('Claims of the paper', notice)}{tally(frame['verdict'])}\n\n{table}\n{reading}\n"


def _effect(row: Mapping[Any, Any]) -> str:
    """The effect and its bounds, three decimals each."""
    effect, low, high = (f"{row[name]:.3f}".replace("-", "−") for name in ("effect", "low", "high"))
    if pd.isna(row["effect"]):
        return ""
    return effect if pd.isna(row["low"]) else f"{effect} [{low}, {high}]"


def _arguments() -> argparse.Namespace:
    parser = stage.parser(__doc__)
    add = parser.add_argument
    add("--claims", type=Path, required=True, help="the file of claims")
    add("--scope", required=True, help="micro or paper: claims that only the other can test are left open")
    add("--names", type=stage.config_value, required=True, help="the claims' names of methods: those of the run")
    add("--table", type=stage.config_value, nargs="+", required=True, help="the tables of the run")
    add("--bench", type=Path, required=True, help="bench folder with manifest.csv")
    add("--edits", type=Path, nargs="+", required=True, help="folders <method> of seed=<s>/ with edits.csv")
    add("--scores", type=Path, nargs="+", required=True, help="folders <method>/<family> with card.json, seed=<s>.csv")
    add("--runtime", type=Path, nargs="*", default=[], help="folders <method> with runtime.csv")
    add("--judgements", type=Path, nargs="*", default=[], help="folders <study> with judgement.json and its tables")
    add("--attention", type=Path, nargs="*", default=[], help="folders <encoder> with attention.json and summary.csv")
    return parser.parse_args()


def _asked(claims: Mapping[str, Claim], scope: str) -> set[str]:
    """The tables that claims of the scope speak of."""
    rules = [claim.rule for claim in claims.values() if scope in claim.scopes]
    return {rule.table for rule in rules if isinstance(rule, Best | Faster)}


def main() -> None:
    """Command line of the stage."""
    given = _arguments()
    section = checked(Claims, {"file": str(given.claims), "scope": given.scope, "names": given.names})
    claims = read_claims(given.claims)
    tables = [checked(Table, table, f"--table[{i}]") for i, table in enumerate(given.table)]
    asked = _asked(claims, section.scope)
    statistics, notice = tables[0].statistics, tables[0].notice
    results, inputs = {}, {"claims": given.claims}
    for table in (table for table in tables if table.name in asked):
        folders = result_folders(table, given.bench, given.edits, given.scores, given.runtime)
        results[table.name] = taken_together(table, read_results(table.of_rows, folders))
        inputs |= folders.inputs
    judged = [read_judgement(folder, statistics.level) for folder in given.judgements]
    inputs |= {f"judgements of {folder.name}": folder for folder in given.judgements}
    by_study = {judgement.study: judgement for judgement in judged}
    attention = [read_attention(folder, statistics.level) for folder in given.attention]
    inputs |= {f"attention of {folder.name}": folder for folder in given.attention}
    by_encoder = {measured.encoder: measured for measured in attention}
    settings = stats.Settings(**statistics.model_dump())
    run = Evidence(section.names, results, by_study, settings, by_encoder)
    config = {"claims": section.model_dump(mode="json"), "tables": [table.model_dump(mode="json") for table in tables]}
    facts: dict[str, Any] = {"module": "editclip.report.claims", "force": given.force}
    with stage.output_folder(given.out, config=config, inputs=inputs, **facts) as folder:
        frame = claims_frame(claims, run, section.scope)
        (folder / "claims.csv").write_bytes(render.csv(frame).encode())
        (folder / "claims.md").write_bytes(claims_markdown(frame, notice, statistics.level).encode())


if __name__ == "__main__":
    stage.run(main)
