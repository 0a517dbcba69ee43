"""Make Table 1 of a run: score files in, CSV, Markdown and LaTeX tables out.

    python -m editclip.report.tables --config JSON --bench DIR --scores DIR --edits DIR --runtime DIR … \
        --out results/<run>/tables

A cell is the mean over samples of the mean over seeds. An undefined, skipped or failed value enters no mean and is
counted in the notes; a cell without any value is empty and the notes say why. docs/statistics.md says how the
intervals, differences and p-values of the full table are made and how to read them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from editclip import stage, stats
from editclip.errors import InputError
from editclip.report import render
from editclip.report.columns import CLIP_DIR, HEADLINE, MEASURED, TABLE1
from editclip.report.results import Method, RunResults, read_numbers, read_run

FULL = ("scope", "scope_value", "method", "conditioning", "metric", "mean", "seed_sd", "n", "n_undefined", "n_skipped",
        "n_failed", "seeds", "low", "high", "low_types", "high_types", "diff", "diff_low", "diff_high", "n_pairs", "p",
        "p_holm")  # fmt: skip
SCOPES = {"all": "all", "family": "family", "type": "type"}  # scope -> column of the long frame
REFERENCE = "editclip"  # the row that the paper's claims compare with
REFERENCE_EDITOR = "editclip.method"
TESTED_TYPES = 3  # with fewer, small p-values are too small: benchmarks/interval_coverage.py
CONFIG = ("label", "notice", "paper", "seeds", "statistics", "methods")


def reference_row(methods: Sequence[Mapping[str, Any]]) -> str | None:
    """The row that differences are taken from: the first of config's methods that is EditCLIP with its own exemplars.

    None without such a row.
    """
    rows = [m for m in methods if m["editor"] == REFERENCE_EDITOR and m["exemplars"] == "own"]
    return next((str(m["name"]) for m in rows if "table1" in m["tables"]), None)


def direction_metric(results: RunResults) -> str:
    """Which metric is the column clip_dir: the scoring card names one for the whole run, so that forms never mix.

    Raises:
        InputError: the card names none, or an unknown one.
    """
    metric = results.cards.get("clip", {}).get("clip_dir")
    if metric not in CLIP_DIR:
        known = ", ".join(CLIP_DIR)
        raise InputError(f"the scoring card of clip has clip_dir {metric!r}, not one of {known}: score again")
    return str(metric)


def long_scores(results: RunResults) -> pd.DataFrame:
    """The scores with the scope columns "all" and "type", and the exemplar and query of each sample.

    A type is called by its name, with its group in front where two groups share the name.
    """
    scores = results.scores
    groups = results.samples.groupby("edit_type")["group"].nunique()
    shared = scores["edit_type"].map(groups) > 1
    types = scores["edit_type"].where(~shared, scores["group"] + "-" + scores["edit_type"])
    crossed = results.samples[["exemplar_id", "query_id"]].set_axis(["exemplar", "query"], axis=1)
    return scores.assign(all="", type=types).join(crossed, on="sample_id")


def summarise(
    scores: pd.DataFrame, methods: Sequence[Method], settings: stats.Settings, reference: str | None
) -> pd.DataFrame:
    """One row per scope, scope value, method and metric: mean, sd over seeds, counts, intervals, difference.

    Args:
        scores: what `long_scores` gives.
        methods: rows in table order; within a scope, rows keep this order.
        settings: of the bootstrap.
        reference: the method that differences are taken from, see `reference_row`.

    Returns:
        Columns `FULL`, NaN where a number does not exist.

        - `n` counts samples with a value, `n_undefined`, `n_skipped` and `n_failed` outputs (sample × seed) without
          one; `seed_sd` is the sample standard deviation of the per-seed means (NaN for one seed).
        - `low`, `high` bound the mean for these edit types, `low_types`, `high_types` for the population that two or
          more types are drawn from.
        - `diff` is the mean of the method minus the reference over the `n_pairs` samples that both have, with its
          bounds for these types; `p`, for the whole bench alone, is its p-value, and `p_holm` the same adjusted for
          their number, methods × metrics.
    """
    rank = {m.name: i for i, m in enumerate(methods)}
    by_name = {m.name: m for m in methods}
    metrics = {name: i for i, name in enumerate(scores["metric"].unique())}
    parts = []
    for scope, key in SCOPES.items():
        keys = [key, "method", "metric"]
        rows = scores if scope == "all" else scores[scores[key] != ""]
        if rows.empty:
            continue
        valid = rows[rows["status"] == "ok"]
        of_samples = valid.groupby([*keys, "sample_id"])["value"].mean().groupby(keys)
        counts = rows.groupby([*keys, "status"]).size().unstack(fill_value=0)
        part = pd.DataFrame(index=counts.index)
        part["mean"] = of_samples.mean()
        part["seed_sd"] = valid.groupby([*keys, "seed"])["value"].mean().groupby(keys).std(ddof=1)
        part["n"] = of_samples.size().reindex(part.index, fill_value=0)
        for status in ("undefined", "skipped", "failed"):
            part[f"n_{status}"] = counts.get(status, 0)
        found = [_uncertainty(group, key, settings, reference) for _, group in valid.groupby(key)]
        part = part.join(pd.concat(found)) if found else part
        part = part.reset_index(names=["scope_value", "method", "metric"]).assign(scope=scope)
        order = part.assign(_m=part["method"].map(rank), _k=part["metric"].map(metrics))
        parts.append(order.sort_values(["scope_value", "_m", "_k"], kind="stable"))
    full = pd.concat(parts, ignore_index=True).reindex(columns=list(FULL))
    full["p_holm"] = stats.holm(full["p"])
    full["conditioning"] = [by_name[m].conditioning for m in full["method"]]
    full["seeds"] = [len(by_name[m].seeds) for m in full["method"]]
    return full


def _uncertainty(valid: pd.DataFrame, key: str, settings: stats.Settings, reference: str | None) -> pd.DataFrame:
    """Intervals and differences of one scope value, indexed by it, method and metric; the same draws for all.

    p-values are for scope "all" and TESTED_TYPES types or more.
    """
    values = valid.groupby(["sample_id", "method", "metric"])["value"].mean().unstack(["method", "metric"])
    samples = valid.drop_duplicates("sample_id").set_index("sample_id").loc[values.index]
    resamples, level = settings.resamples, settings.level
    weights = stats.draws(samples, resamples, settings.seed, types=False)
    scope = [(samples[key].iloc[0], *column) for column in values.columns]
    index = pd.MultiIndex.from_tuples(scope, names=[key, "method", "metric"])
    found = pd.DataFrame(index=index)
    freedom = stats.degrees_of_freedom(values, samples, types=False)
    found["low"], found["high"] = stats.interval(values, weights, level, freedom)
    found["low_types"] = found["high_types"] = np.nan
    if samples["type"].nunique() > 1:
        whole = stats.draws(samples, resamples, settings.seed, types=True)
        freedom = stats.degrees_of_freedom(values, samples, types=True)
        found["low_types"], found["high_types"] = stats.interval(values, whole, level, freedom)
    metrics = values.columns.get_level_values("metric")
    theirs = values.reindex(columns=[(reference, metric) for metric in metrics]).to_numpy()
    freedom = stats.degrees_of_freedom(values - theirs, samples, types=False)
    paired = stats.paired(values, theirs, weights, level, freedom)
    differences = ["diff", "diff_low", "diff_high", "p", "n_pairs"]
    found[differences] = np.column_stack(paired)
    found.loc[index.get_level_values("method") == reference, differences] = np.nan
    if key != "all" or samples["type"].nunique() < TESTED_TYPES:
        found["p"] = np.nan
    return found


def summarise_runtime(results: RunResults) -> pd.DataFrame:
    """The seconds of an edit as rows of the full table, for the methods that were timed.

    `runtime_s` counts the whole preparation of the exemplar, as for a user with one picture; `runtime_amortised_s` only
    the share of one of the benchmark's queries of that exemplar. Means, as all cells are: they add up to a run's time.

    Returns:
        Columns `FULL`, two rows a method of scope "all"; `n` counts timed edits.
    """
    timed = results.runtime
    seconds = {
        "runtime_s": timed["prepare_seconds"] + timed["edit_seconds"],
        "runtime_amortised_s": timed["prepare_seconds"] / timed["exemplar_queries"] + timed["edit_seconds"],
    }
    rows = []
    for method in results.methods:
        own = timed["method"] == method.name
        failed = int((timed.loc[own, "status"] == "failed").sum())
        for metric, values in seconds.items() if own.any() else ():
            row: dict[str, Any] = {
                "scope": "all",
                "scope_value": "",
                "method": method.name,
                "conditioning": method.conditioning,
            }
            row |= {"metric": metric, "mean": values[own].mean(), "n": values[own].count(), "n_failed": failed}
            rows.append(row | {"n_undefined": 0, "n_skipped": 0, "seeds": 1})
    return pd.DataFrame(rows, columns=list(FULL))


def headline(summary: pd.DataFrame, results: RunResults, label: str) -> pd.DataFrame:
    """Table 1: one row per method in config order, columns `columns.TABLE1`, missing cells NaN."""
    chosen = {**HEADLINE, "clip_dir": direction_metric(results)}
    whole = summary[summary["scope"] == "all"].set_index(["method", "metric"]).to_dict("index")
    rows = []
    for method in results.methods:
        row: dict[str, Any] = {"method": method.name, "conditioning": method.conditioning}
        for name in MEASURED:
            if (method.name, chosen[name]) not in whole:
                raise InputError(f"{method.name} has no metric {chosen[name]!r} in its scores: score it again")
            row[name] = whole[method.name, chosen[name]]["mean"]
        row |= {
            "wr_edit": None,
            "wr_pres": None,
            "runtime_s": whole.get((method.name, "runtime_s"), {}).get("mean", float("nan")),
        }
        row["notes"] = "; ".join([f"run={label}", *_labels(results), *_gaps(method, chosen, whole, results)])
        rows.append(row)
    return pd.DataFrame(rows, columns=list(TABLE1))


def _labels(results: RunResults) -> list[str]:
    """What a reader must know about the columns of every row."""
    trunk = results.cards["lpips"]["lpips"]["trunk"]
    lpips = [f"lpips={trunk}"] if trunk != "imagenet" else []
    return [*lpips, f"clip_dir={CLIP_DIR[direction_metric(results)]}", "votes=none"]


def _gaps(method: Method, chosen: Mapping[str, str], whole: Mapping[Any, Any], results: RunResults) -> list[str]:
    """What this row lacks: seeds, failed edits, values that are undefined or skipped, and why a cell is empty."""
    notes = [f"seeds={len(method.seeds)}"]
    if method.exemplars != "own":
        notes.append(f"exemplars={method.exemplars}")
    made = results.edits[results.edits["method"] == method.name]
    failed = int((made["status"] == "failed").sum())
    if failed:
        notes.append(f"n_failed={failed}")
    for column, metric in chosen.items():
        counts = whole[method.name, metric]
        if not counts["n"]:
            scores = results.scores[results.scores["metric"] == metric]
            notes.append(f"{column} empty: {_reason(scores, method.name) or 'no reason recorded'}")
            continue
        missing = [status for status in ("undefined", "skipped") if counts[f"n_{status}"]]
        notes += [f"n_{status}={column}:{counts[f'n_{status}']}" for status in missing]
    if not whole.get((method.name, "runtime_s"), {}).get("n"):
        notes.append(f"runtime_s empty: {_reason(results.runtime, method.name) or 'not timed'}")
    return notes


def _reason(rows: pd.DataFrame, method: str) -> str:
    """The commonest reason in the rows of `method`, or ""."""
    reasons = rows.loc[rows["method"] == method, "reason"].mode()
    return str(reasons.iloc[0]).replace(";", ",") if len(reasons) else ""


def against_paper(table: pd.DataFrame, paper: pd.DataFrame, reference: str | None) -> pd.DataFrame:
    """Our cells beside the paper's, for the methods that stand in both tables.

    Names match without case, hyphens and underscores (prompt_diffusion is PromptDiffusion), and `reference`, the row of
    EditCLIP here, is the paper's EditCLIP whatever it is called. `same_sign` says whether
    the difference from EditCLIP's row has the sign it has in the paper: the only part that carries over to another
    data set.

    Returns:
        Columns method, paper_method, metric, ours, paper, ours_minus_editclip, paper_minus_editclip, same_sign.
    """
    columns = [c for c in (*MEASURED, "runtime_s") if c in paper.columns]
    rows_here = table.to_dict("records")
    ours = {REFERENCE if row["method"] == reference else _plain(row["method"]): row for row in rows_here}
    theirs = {_plain(row["method"]): row for row in paper.to_dict("records")}
    rows = []
    for name in (n for n in ours if n in theirs):
        for column in columns:
            row = {"method": ours[name]["method"], "paper_method": theirs[name]["method"], "metric": column}
            row |= {"ours": ours[name][column], "paper": theirs[name][column]}
            if name != REFERENCE and REFERENCE in ours and REFERENCE in theirs:
                mine = ours[name][column] - ours[REFERENCE][column]
                published = theirs[name][column] - theirs[REFERENCE][column]
                row |= {"ours_minus_editclip": mine, "paper_minus_editclip": published}
                if pd.notna(mine) and published != 0:
                    row["same_sign"] = "yes" if mine * published > 0 else "no"
            rows.append(row)
    names = ["method", "paper_method", "metric", "ours", "paper", "ours_minus_editclip", "paper_minus_editclip"]
    return pd.DataFrame(rows, columns=[*names, "same_sign"])


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def write_tables(folder: Path, config: Mapping[str, Any], results: RunResults) -> None:
    """Write table1, table1_full and table1_vs_paper into `folder`, each as CSV, Markdown and (not the last) LaTeX."""
    settings = stats.Settings(**config["statistics"])
    reference = reference_row(config["methods"])
    summary = summarise(long_scores(results), results.methods, settings, reference)
    summary = pd.concat([summary, summarise_runtime(results)], ignore_index=True).infer_objects()
    table = headline(summary, results, config["label"])
    paper = read_numbers(Path(config["paper"]), ("method", *MEASURED))
    versus = against_paper(table, paper, reference)
    for name, frame in (("table1", table), ("table1_full", summary), ("table1_vs_paper", versus)):
        (folder / f"{name}.csv").write_bytes(render.csv(frame).encode())
    texts = {
        "table1.md": render.table1_markdown(table, summary, config["notice"], settings.level),
        "table1.tex": render.table1_latex(table, summary, config["notice"], settings.level),
        "table1_full.md": render.full_markdown(summary, config["notice"], settings.level),
        "table1_full.tex": render.full_latex(summary, config["notice"], settings.level),
        "table1_vs_paper.md": render.versus_markdown(versus, config["notice"]),
    }
    for name, text in texts.items():
        (folder / name).write_bytes(text.encode())


def main() -> None:
    """Command line of the stage."""
    parser = stage.parser(__doc__)
    parser.add_argument("--config", type=stage.config_value, required=True, help=", ".join(CONFIG))
    parser.add_argument("--bench", type=Path, required=True, help="bench folder with manifest.csv")
    parser.add_argument("--scores", type=Path, required=True, help="folder of <method>/<family>/seed=<s>.csv")
    parser.add_argument("--edits", type=Path, required=True, help="folder of <method>/seed=<s>/edits.csv")
    parser.add_argument("--runtime", type=Path, nargs="*", default=[], help="folders <method>/ with runtime.csv")
    arguments = parser.parse_args()
    config = arguments.config
    for key in CONFIG:
        if key not in config:
            raise InputError(f"the config of the tables lacks {key!r}: give {', '.join(CONFIG)}")
    results = read_run(config, arguments.bench, arguments.scores, arguments.edits, arguments.runtime)
    inputs = {"bench": arguments.bench / "manifest.csv", "scores": arguments.scores, "edits": arguments.edits}
    inputs["paper"] = Path(config["paper"])
    inputs |= {f"runtime of {folder.name}": folder for folder in arguments.runtime}
    facts: dict[str, Any] = {"module": "editclip.report.tables", "force": arguments.force}
    with stage.output_folder(arguments.out, config=config, inputs=inputs, **facts) as folder:
        write_tables(folder, config, results)


if __name__ == "__main__":
    stage.run(main)
