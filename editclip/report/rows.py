"""Facts about the rows of a table, one column each in rows.csv, and the notes that are made of them.

Everything that a reader must know of a row stands here as a value. Renderings and the report read the columns; the
prose in a table's column `notes` is made last, and nothing reads it back.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from editclip.config.tables import Table, TableMethod
from editclip.errors import InputError
from editclip.report.columns import CLIP_DIR, HEADLINE, MEASURED, VOTES, WIN_RATES
from editclip.report.files import read_table
from editclip.report.results import RunResults

UNCOUNTED = ("undefined", "skipped", "failed")  # statuses of outputs without a value
FACTS = ("run", "method", "label", "conditioning", "editor", "weights", "exemplars", "reference", "control",
         "control_of", "seeds", "paper", "license", "trained_on", "lpips_trunk", "clip_dir", "votes", "n_outputs",
         "n_failed", *(f"{name}_{fact}" for name in MEASURED for fact in ("n", *UNCOUNTED, "empty")), "runtime_s_n",
         "runtime_s_empty", "runtime_s_busy", "outputs")  # fmt: skip


def direction_metric(cards: Mapping[str, Mapping[str, Any]]) -> str:
    """Which metric is the column clip_dir: the scoring card names one for the whole run, so that forms never mix.

    Args:
        cards: by metric family.

    Raises:
        InputError: the card names none, or an unknown one.
    """
    metric = cards.get("clip", {}).get("clip_dir")
    if metric not in CLIP_DIR:
        known = ", ".join(CLIP_DIR)
        raise InputError(f"the scoring card of clip has clip_dir {metric!r}, not one of {known}: score again")
    return str(metric)


def headline_metrics(results: RunResults) -> dict[str, str]:
    """The metric of the score files behind each measured column."""
    return {**HEADLINE, "clip_dir": direction_metric(results.cards)}


def row_facts(
    table: Table, results: RunResults, summary: pd.DataFrame, outputs: Sequence[str] = (), votes: str = "none"
) -> pd.DataFrame:
    """rows.csv: columns `FACTS`, one line per row of the table, all texts and "" where there is nothing to say.

    - `control` (yes, no): the row shows what a metric gives for free; `control_of`: the row it differs from in its
      exemplars alone; `reference` (yes, no): differences are taken from it.
    - `seeds`: its repetitions; `n_outputs`, `n_failed`: edits (sample × seed), and those that failed.
    - `lpips_trunk`, `clip_dir` (eq11, eq12): what the columns of this name mean, the same in all rows.
    - `votes`: whose votes the row's win rates are (human, oracle), none where there are none.
    - of each measured column, `_n` samples with a value, `_undefined`, `_skipped` and `_failed` outputs without one,
      and why the cell is `_empty`; `runtime_s_busy`: the load, if the machine that timed it was busy.

    Args:
        table: the table.
        results: its results.
        summary: the full table, with seconds.
        outputs: counts of what is odd about a folder of outputs that was scored by itself, such as "n_missing=2".
        votes: whose votes the win rates of the full table are.
    """
    judged = set(summary.loc[summary["metric"].isin(WIN_RATES), "method"])
    judged |= {table.declaration.reference} if judged else set()
    whole = summary[summary["scope"] == "all"].set_index(["method", "metric"]).to_dict("index")
    lines = []
    for name, method in table.rows.items():
        edits = results.edits[results.edits["method"] == name]
        facts: dict[str, Any] = {
            "run": table.label, "method": name, "label": method.label, "conditioning": method.conditioning,
            "editor": method.editor or "", "exemplars": method.exemplars, "paper": method.paper,
            "weights": " ".join(f"{role}={weights}" for role, weights in method.weights.items()),
            "reference": _yes(name == table.declaration.reference), "control": _yes(method.control),
            "control_of": _control_of(method, table.rows), "seeds": " ".join(map(str, method.seeds)),
            "license": method.license, "trained_on": ", ".join(method.trained_on),
            "lpips_trunk": results.cards["lpips"]["lpips"]["trunk"],
            "clip_dir": CLIP_DIR[direction_metric(results.cards)], "votes": votes if name in judged else "none",
            "n_outputs": len(edits), "n_failed": int((edits["status"] == "failed").sum()),
            "outputs": " ".join(outputs),
        }  # fmt: skip
        for column, metric in headline_metrics(results).items():
            counts = whole[name, metric]
            facts |= {f"{column}_{status}": int(counts[f"n_{status}"]) for status in UNCOUNTED}
            scores = results.scores[results.scores["metric"] == metric]
            empty = "" if counts["n"] else _reason(scores, name) or "no reason recorded"
            facts |= {f"{column}_n": int(counts["n"]), f"{column}_empty": empty}
        timed = int(whole.get((name, "runtime_s"), {}).get("n", 0))
        empty = "" if timed else _reason(results.runtime, name) or "not timed"
        facts |= {"runtime_s_n": timed, "runtime_s_empty": empty, "runtime_s_busy": _busy(results.runtime, name)}
        lines.append(facts)
    return pd.DataFrame(lines, columns=list(FACTS)).astype(str)


def read_facts(folder: Path) -> pd.DataFrame:
    """rows.csv of a table's folder, as `row_facts` made it.

    Raises:
        InputError: the file is missing or lacks a column.
    """
    return read_table(folder / "rows.csv", FACTS)


def _yes(true: bool) -> str:
    return "yes" if true else "no"


def _control_of(method: TableMethod, rows: Mapping[str, TableMethod]) -> str:
    """The row that a shuffled control is the control of, or ""."""
    if method.exemplars == "own":
        return ""
    return next((name for name, row in rows.items() if method.differs_in_exemplars_alone(row)), "")


def _reason(rows: pd.DataFrame, method: str) -> str:
    """The commonest reason in the rows of `method`, or ""."""
    reasons = rows.loc[rows["method"] == method, "reason"].mode()
    return str(reasons.iloc[0]) if len(reasons) else ""


def _busy(runtime: pd.DataFrame, method: str) -> str:
    """The highest load at which a method was timed, if it was above the machine's cores by half a process or more."""
    own = runtime[runtime["method"] == method].astype({"load": float, "cores": float})
    crowded = own[own["load"] >= own["cores"] + 0.5]
    return f"load {crowded['load'].max():.1f} on {crowded['cores'].iloc[0]:.0f} cores" if len(crowded) else ""


def notes(facts: "pd.Series[str]") -> list[str]:
    """What a reader must know of a row, as short notes.

    Args:
        facts: a line of rows.csv.
    """
    lpips = [f"lpips={facts['lpips_trunk']}"] if facts["lpips_trunk"] != "imagenet" else []
    texts = [f"run={facts['run']}", *lpips, f"clip_dir={facts['clip_dir']}", f"votes={facts['votes']}"]
    texts.append(f"seeds={len(facts['seeds'].split())}")
    if facts["exemplars"] != "own":
        texts.append(f"exemplars={facts['exemplars']}")
    if facts["n_failed"] != "0":
        texts.append(f"n_failed={facts['n_failed']}")
    for column in (*HEADLINE, "clip_dir"):
        if facts[f"{column}_empty"]:
            texts.append(f"{column} empty: {facts[f'{column}_empty']}")
            continue
        counts = {status: facts[f"{column}_{status}"] for status in ("undefined", "skipped")}
        texts += [f"n_{status}={column}:{count}" for status, count in counts.items() if count != "0"]
    if facts["runtime_s_empty"]:
        texts.append(f"runtime_s empty: {facts['runtime_s_empty']}")
    if facts["runtime_s_busy"]:
        texts.append(f"runtime_s on a busy machine: {facts['runtime_s_busy']}")
    return [*texts, *facts["outputs"].split()]


def prose(facts: pd.DataFrame) -> list[str]:
    """The notes of every row as one text each, the column `notes`; a semicolon within a note becomes a comma."""
    return ["; ".join(note.replace(";", ",") for note in notes(row)) for _, row in facts.iterrows()]


def shared_and_own(facts: pd.DataFrame) -> tuple[list[str], dict[str, list[str]]]:
    """The notes that all rows share, and by row those that it has beside them."""
    by_row = {row["method"]: notes(row) for _, row in facts.iterrows()}
    first, *others = by_row.values()
    shared = [note for note in first if all(note in texts for texts in others)]
    return shared, {method: [note for note in texts if note not in shared] for method, texts in by_row.items()}


def honest_labels(facts: pd.DataFrame, notice: str | None) -> list[str]:
    """What a reader must know before the first number.

    Args:
        facts: rows.csv.
        notice: the config's.
    """
    labels = [notice] if notice else []
    if (facts["lpips_trunk"] == "random_trunk").any():
        labels.append(
            "LPIPS runs on a trunk with random weights (fixed seed), not on ImageNet's: no published value compares."
        )
    if (facts["votes"] == "none").all():
        labels.append("No human judged these images: the win-rate columns are empty.")
    elif (facts["votes"] == "oracle").any():
        labels.append(f"Win rates are {VOTES['oracle']}.")
    return labels
