"""What a run shows: each claim with its number, its interval and, where one was set beforehand, its bar.

    python -m editclip.report.evidence --config JSON --bench DIR --scores DIR --edits DIR --representation DIR --out CSV

The claims are the same for every run, whatever its scale; which rows they speak of follows from the config's methods.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from editclip import stage, stats
from editclip.report.columns import column
from editclip.report.results import RunResults, read_numbers, read_run
from editclip.report.tables import long_scores, summarise

COLUMNS = ("group", "claim", "estimate", "low", "high", "n", "bar", "met", "note")
RETRIEVAL_BAR = 0.7  # ours: recall at 1 of the instruction (the paper measures no retrieval)
CLOSER_BAR = 0.7  # ours: share of edits that end closer to the ground truth than the unedited query
COPY = "baselines.copy_query"
BARRED = ("editclip.method", "baselines.ip2p")  # the editors for which the bar of closeness was set
MEASURES = {
    "retrieval_edit": "An edit's nearest instruction is one of its own wordings",
    "retrieval_wording": "An edit's nearest instruction is the very wording of its pair",
    "same_edit_auc": "Two pairs of one edit are nearer than two of different edits (AUC)",
    "instruction_cosine": "Largest cosine between instructions of different edits",
}

Row = dict[str, Any]
Entry = Mapping[str, Any]


def representation_rows(measured: pd.DataFrame) -> list[Row]:
    """Claims about the encoders, from representation.csv."""
    rows = []
    for found in measured.to_dict("records"):
        barred = found["encoder"] == "editclip" and found["measure"] == "retrieval_edit"
        chance = "" if pd.isna(found["chance"]) else f"chance {found['chance']:.3g}"
        row = {key: found[key] for key in ("estimate", "low", "high", "n")}
        row |= {"group": "Representation", "claim": f"{MEASURES[found['measure']]}: {found['encoder']}", "note": chance}
        if barred:
            row |= {"bar": f"at least {RETRIEVAL_BAR}", "met": _yes(found["estimate"] >= RETRIEVAL_BAR)}
        rows.append(row)
    return rows


def controls_of(entry: Entry, entries: Sequence[Entry]) -> list[tuple[str, tuple[str, ...]]]:
    """The controls that a method has to beat, and on which metrics.

    The copy of the query, on what happens inside the mask; and the same method with the same options, fed exemplars of
    other edit types, on the exemplar's edit and on the ground truth.
    """
    copies = [e["name"] for e in entries if e["editor"] == COPY]
    own = (entry["editor"], entry["options"])
    shuffled = [e["name"] for e in entries if e["exemplars"] == "shuffled" and (e["editor"], e["options"]) == own]
    return [*((name, ("psnr_inside",)) for name in copies), *((name, ("ec2ec", "psnr")) for name in shuffled)]


def editing_rows(
    scores: pd.DataFrame, run: RunResults, entries: Sequence[Entry], settings: stats.Settings
) -> list[Row]:
    """Claims about the methods that are conditioned on something and get their own exemplars.

    Args:
        scores: what `tables.long_scores` gives.
        run: the `RunResults`.
        entries: the config's methods.
        settings: of the bootstrap.
    """
    by_name = {e["name"]: e for e in entries}
    methods = [m for m in run.methods if m.conditioning != "none" and m.exemplars == "own"]
    scores = scores[scores["metric"].isin(("closer", "ec2ec", "psnr", "psnr_inside"))]
    against: dict[str, pd.DataFrame] = {}
    rows = []
    for method in methods:
        for control, metrics in controls_of(by_name[method.name], entries):
            if control not in against:
                against[control] = summarise(scores, run.methods, settings, control)
            rows += [_difference(against[control], method.name, control, metric) for metric in metrics]
    whole = summarise(scores[scores["metric"] == "closer"], run.methods, settings, None)
    for method in methods:
        rows += _shares(whole[whole["method"] == method.name], by_name[method.name]["editor"] in BARRED)
    return [row for row in rows if pd.notna(row["estimate"])]


def _difference(summary: pd.DataFrame, method: str, control: str, metric: str) -> Row:
    rows = summary[(summary["scope"] == "all") & (summary["method"] == method) & (summary["metric"] == metric)]
    found = rows.iloc[0] if len(rows) else pd.Series(dict.fromkeys(("diff", "diff_low", "diff_high", "n_pairs")))
    return {
        "group": "Above its controls",
        "claim": f"{column(metric).label}: {method} above {control}",
        "estimate": found["diff"], "low": found["diff_low"], "high": found["diff_high"], "n": found["n_pairs"],
        "bar": "interval above 0", "met": _yes(found["diff_low"] > 0) if pd.notna(found["diff_low"]) else "",
    }  # fmt: skip


def _shares(summary: pd.DataFrame, barred: bool) -> list[Row]:
    """The share of a method's edits that end closer: of all (with a bar if `barred`), and by family."""
    rows = []
    for found in summary[summary["scope"].isin(("all", "family"))].to_dict("records"):
        whole = found["scope"] == "all"
        where = "" if whole else f" ({found['scope_value']})"
        row = {"group": "Closer to the ground truth than the query", "claim": f"{found['method']}{where}"}
        low, high = max(found["low"], 0.0), min(found["high"], 1.0)  # the t interval knows no bounds, a share has them
        row |= {"estimate": found["mean"], "low": low, "high": high, "n": found["n"]}
        if whole and barred:
            row |= {"bar": f"at least {CLOSER_BAR}", "met": _yes(found["mean"] >= CLOSER_BAR)}
        rows.append(row)
    return rows


def _yes(met: bool) -> str:
    return "yes" if met else "no"


def main() -> None:
    """Write the evidence of a run."""
    parser = stage.parser(__doc__)
    parser.add_argument("--config", type=stage.config_value, required=True, help="seeds, statistics and methods")
    parser.add_argument("--bench", type=Path, required=True, help="benchmark folder (manifest.csv)")
    parser.add_argument("--scores", type=Path, required=True, help="folder of <method>/<family>/")
    parser.add_argument("--edits", type=Path, required=True, help="folder of <method>/seed=<s>/")
    parser.add_argument("--representation", type=Path, nargs="*", default=[], help="folders of representation.csv")
    args = parser.parse_args()
    run = read_run(args.config, args.bench, args.scores, args.edits)
    settings = stats.Settings(**args.config["statistics"])
    inputs = {"bench": args.bench, "scores": args.scores, "edits": args.edits}
    rows = []
    for folder in args.representation:
        inputs["representation"] = folder
        needed = ["encoder", "measure", "estimate", "low", "high", "n", "chance"]
        rows += representation_rows(read_numbers(folder / "representation.csv", needed))
    rows += editing_rows(long_scores(run), run, args.config["methods"], settings)
    facts: dict[str, Any] = {"module": "editclip.report.evidence", "force": args.force}
    with stage.output_file(args.out, config=args.config, inputs=inputs, **facts) as path:
        pd.DataFrame(rows, columns=list(COLUMNS)).astype({"n": "Int64"}).to_csv(path, index=False)


if __name__ == "__main__":
    stage.run(main)
