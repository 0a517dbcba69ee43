"""Judge methods and metrics by the votes of a study.

    python -m editclip.study.judgements --study-entry JSON --statistics JSON --study results/<run>/studies/<study> \
        --votes results/<run>/votes/<study> --scores results/<run>/scores/*/* --bench results/<run>/bench \
        --out results/<run>/judgements/<study>

Every vote on a pair, of a rater who is not left out, is put beside the scores of the very outputs that were shown
(comparisons.csv). From that come preferences.csv and agreement.csv (`editclip.study.preferences`), coefficients.csv and
differences.csv (`editclip.study.coefficients`), raters.csv, and judgement.json, which says what was counted. A metric
of which lower is better is turned: its scores stand with the opposite sign, so that higher is better in all files.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from editclip import stage, stats
from editclip.config.run import Statistics
from editclip.config.section import checked
from editclip.config.studies import Study
from editclip.errors import InputError, nearest
from editclip.report.columns import better
from editclip.report.files import read_json, read_manifest
from editclip.report.results import common_card, read_scores
from editclip.report.rows import direction_metric
from editclip.storage import file_digest, write_json
from editclip.study.coefficients import coefficients, differences
from editclip.study.preferences import agreement, preferences
from editclip.study.sheet import QUESTIONS, SIDES, clustered
from editclip.study.votes import Sheet, read_study, read_votes

MODULE = "editclip.study.judgements"
COMPARISONS = ("item_id", "rater", "question", "first", "second", "won", "cluster", "sample_id", "query_id", "seed")
ORIGINS = ("human", "oracle")
OUTPUT = ["method", "sample_id", "seed"]  # what identifies an output

Folders = Mapping[tuple[str, str], Path]  # of scores, by method and metric family


@dataclass(frozen=True)
class Metric:
    """A metric that is held against votes.

    Attributes:
        name: as the study calls it.
        score: as the score files call it.
        family: that it belongs to.
        sign: +1 if higher is better, -1 if lower is.
    """

    name: str
    score: str
    family: str
    sign: int


def score_folders(folders: Sequence[Path], methods: Sequence[str]) -> Folders:
    """The folders `<method>/<family>` of some methods.

    Raises:
        InputError: a method has none, or lacks a family that another one has.
    """
    known = sorted({path.parent.name for path in folders})
    found = {(path.parent.name, path.name): path for path in folders if path.parent.name in methods}
    for name in methods:
        if name not in known:
            raise InputError(f"there is no folder {name}/<family> among those given as --scores{nearest(name, known)}")
        for family in sorted({family for _, family in found}):
            if (name, family) not in found:
                raise InputError(f"there is no folder {name}/{family} among those given as --scores: score {name}")
    return found


def held_metrics(names: Sequence[str], methods: Sequence[str], folders: Folders, place: str) -> list[Metric]:
    """The metrics that a study names, found in the scores.

    Args:
        names: of the study's entry; clip_dir is the form that the card of clip names.
        methods: of the study.
        folders: of their scores.
        place: of the names in the config, for messages.

    Raises:
        InputError: one was not scored, or has no better direction; or the methods were scored with different cards.
    """
    families = sorted({family for _, family in folders})
    cards = {family: common_card(family, methods, folders) for family in families}
    family_of = {metric: family for family, card in cards.items() for metric in card.get("metrics", ())}
    found = []
    for name in names:
        score = direction_metric(cards) if name == "clip_dir" else name
        if score not in family_of:
            known = [*family_of, "clip_dir"]
            raise InputError(
                f'config value {place}: the metric "{name}" was not scored{nearest(name, known)}; scored were '
                f"{', '.join(family_of)}"
            )
        found.append(Metric(name, score, family_of[score], better(score, place)))
    return found


def read_outputs(sheet: Sheet, metrics: Sequence[Metric], folders: Folders, manifest: pd.DataFrame) -> pd.DataFrame:
    """The scores of every output that the pairs of a study show.

    Args:
        sheet: the study.
        metrics: those wanted.
        folders: of the scores.
        manifest: of the bench, indexed by sample_id.

    Returns:
        A row an output, indexed by method, sample_id and seed, a column a metric, turned so that higher is better; NaN
        where an output has no score.

    Raises:
        InputError: scores are missing or contradictory, or are of another image than the study shows.
    """
    items = sheet.items[sheet.items["kind"] == "pair"]
    shown = pd.concat([
        items[[side, "sample_id", "seed", f"{side}_image"]].set_axis([*OUTPUT, "image"], axis=1) for side in SIDES
    ]).astype({"seed": int})  # fmt: skip
    shown = shown.drop_duplicates(OUTPUT).set_index(OUTPUT).sort_index()
    shown["shown_sha256"] = [_digest(sheet.folder / image) for image in shown["image"]]
    result = pd.DataFrame(index=shown.index)
    for family in dict.fromkeys(metric.family for metric in metrics):
        pairs = shown.reset_index()[["method", "seed"]].drop_duplicates().itertuples(index=False)
        scores = pd.concat([read_scores(name, seed, folders[name, family], manifest) for name, seed in pairs])
        ok = scores[scores["status"] == "ok"].set_index(OUTPUT)
        _refuse_other_images(shown, ok, family)
        for metric in (metric for metric in metrics if metric.family == family):
            values = ok.loc[ok["metric"] == metric.score, "value"]
            result[metric.name] = metric.sign * values.reindex(result.index)
    return result[[metric.name for metric in metrics]]


def _digest(image: Path) -> str:
    if not image.is_file():
        raise InputError(f"{image} is missing: design the study again")
    return file_digest(image)


def _refuse_other_images(shown: pd.DataFrame, scores: pd.DataFrame, family: str) -> None:
    """Refuse scores of another image than the study shows: then votes and scores speak of different outputs."""
    both = shown.join(scores.loc[~scores.index.duplicated(), "image_sha256"], how="inner")
    for method, sample, seed in both.index[both["shown_sha256"] != both["image_sha256"]][:1]:
        raise InputError(
            f"the study shows another output of {method} for sample {sample}, seed {seed}, than the one whose {family} "
            "was scored: design the study, vote and score on the same edits"
        )


def compared(votes: pd.DataFrame, sheet: Sheet, outputs: pd.DataFrame, study: Study) -> tuple[pd.DataFrame, str]:
    """comparisons.csv with the column `choice`, and what its clusters are.

    Args:
        votes: the votes that count.
        sheet: the study.
        outputs: scores of every output shown.
        study: its entry in the config, which orders the pairs.

    Returns:
        A row a vote, by question, pair, item and rater. A cluster is an edit type, or, in a study of one type, a query.

    Raises:
        InputError: the sheet compares methods that the entry does not.
    """
    items = votes[["item_id"]].join(sheet.items.drop(columns=["left", "right"]), on="item_id").drop(columns="item_id")
    frame = pd.concat([votes, items], axis=1).astype({"seed": int})
    order, pairs = study.compared, list(zip(frame["first"], frame["second"], strict=True))
    for first, second in [pair for pair in pairs if pair not in order][:1]:
        raise InputError(
            f"{sheet.folder / 'study.csv'} compares {first} with {second}, but studies.{sheet.name} of the config does "
            "not: design the study again"
        )
    frame["won"] = (frame["chosen"] == frame["first"]).astype(int)
    frame["cluster"], clusters = clustered(list(frame["group"] + "-" + frame["edit_type"]), list(frame["query_id"]))
    for side in ("first", "second"):
        scores = outputs.reindex(pd.MultiIndex.from_frame(frame[[side, "sample_id", "seed"]]))
        frame[[f"{side}_{name}" for name in outputs.columns]] = scores.to_numpy()
    frame["_question"] = frame["question"].map(list(QUESTIONS).index)
    frame["_pair"] = [order.index(pair) for pair in pairs]
    frame = frame.sort_values(["_question", "_pair", "item_id", "rater"], ignore_index=True)
    scored = [f"{side}_{name}" for name in outputs.columns for side in ("first", "second")]
    return frame[[*COMPARISONS, *scored, "choice"]], clusters


def origin_of(votes: Path, sheet: Sheet) -> str:
    """Whose votes are in a folder: "human" or "oracle".

    Raises:
        InputError: they are votes of another study, or votes.json does not say.
    """
    path = votes / "votes.json"
    about = read_json(path)
    if about.get("study") != sheet.name:
        raise InputError(f"{path} is of the study {about.get('study')!r}, not of {sheet.name}: give the votes of that")
    if about.get("origin") not in ORIGINS:
        raise InputError(f"{path}: origin {about.get('origin')!r} is none of {', '.join(ORIGINS)}: make it again")
    return str(about["origin"])


def judged(
    comparisons: pd.DataFrame, raters: pd.DataFrame, metrics: Sequence[str], settings: stats.Settings, origin: str
) -> dict[str, pd.DataFrame]:
    """All tables of the judgements, by name; all but the comparisons have a last column `origin`.

    Args:
        comparisons: what `compared` gives.
        raters: what is known of the raters.
        metrics: held against the votes.
        settings: of the bootstrap.
        origin: whose votes they are.
    """
    tables = {
        "preferences": preferences(comparisons, settings, origin),
        "raters": raters,
        "agreement": agreement(comparisons),
        "coefficients": coefficients(comparisons, metrics, settings),
        "differences": differences(comparisons, metrics, settings),
    }
    by_origin = {name: frame.assign(origin=origin) for name, frame in tables.items()}
    return {"comparisons": comparisons.drop(columns="choice"), **by_origin}


def counted(comparisons: pd.DataFrame, raters: pd.DataFrame, metrics: Sequence[Metric]) -> dict[str, Any]:
    """What judgement.json says of the votes that count, of those that do not, and of the metrics."""
    out = raters["excluded"] != ""
    counts = {"votes": len(comparisons), "items": int(comparisons["item_id"].nunique())}
    counts |= {"raters": int((~out).sum()), "raters_left_out": int(out.sum())}
    counts |= {"votes_left_out": int(raters.loc[out, "votes"].sum()), "catch_votes": int(raters["catch_votes"].sum())}
    held = {}
    for metric in metrics:
        without = comparisons[[f"{side}_{metric.name}" for side in ("first", "second")]].isna().any(axis=1)
        held[metric.name] = {"score": metric.score, "turned": metric.sign < 0, "votes_without": int(without.sum())}
    return {"questions": list(comparisons["question"].unique()), "counts": counts, "metrics": held}


def _arguments() -> argparse.Namespace:
    parser = stage.parser(__doc__)
    add = parser.add_argument
    add("--study-entry", type=stage.config_value, required=True, help="the study's entry in the config")
    add("--statistics", type=stage.config_value, required=True, help="the config's statistics")
    add("--study", type=Path, required=True, help="folder written by editclip.study.design")
    add("--votes", type=Path, required=True, help="folder with votes.csv and votes.json")
    add("--scores", type=Path, nargs="+", required=True, help="folders <method>/<family> with card.json, seed=<s>.csv")
    add("--bench", type=Path, required=True, help="bench folder with manifest.csv")
    return parser.parse_args()


def main() -> None:
    """Command line of the stage."""
    given = _arguments()
    sheet = read_study(given.study)
    place = f"studies.{sheet.name}"
    study = checked(Study, given.study_entry, place)
    settings = stats.Settings(**checked(Statistics, given.statistics, "statistics").model_dump())
    folders = score_folders(given.scores, study.methods)
    metrics = held_metrics(study.metrics, study.methods, folders, f"{place}.metrics")
    origin = origin_of(given.votes, sheet)
    votes, raters = read_votes(given.votes / "votes.csv", sheet)
    if votes.empty:
        raise InputError(f"{given.votes / 'votes.csv'} has no vote on a pair that counts: collect some")
    inputs = {"study": given.study, "votes": given.votes, "bench": given.bench / "manifest.csv"}
    needed = {metric.family for metric in metrics}
    inputs |= {f"scores of {name}, {family}": path for (name, family), path in folders.items() if family in needed}
    config = {"study": study.model_dump(mode="json"), "statistics": given.statistics}
    facts: dict[str, Any] = {"module": MODULE, "config": config, "inputs": inputs, "threads": given.threads}
    with stage.output_folder(given.out, force=given.force, **facts) as folder:
        outputs = read_outputs(sheet, metrics, folders, read_manifest(given.bench))
        comparisons, clusters = compared(votes, sheet, outputs, study)
        for name, frame in judged(comparisons, raters, study.metrics, settings, origin).items():
            frame.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
        about = {"study": sheet.name, "origin": origin, "level": settings.level, "clusters": clusters}
        write_json(folder / "judgement.json", about | counted(comparisons, raters, metrics))


if __name__ == "__main__":
    stage.run(main)
