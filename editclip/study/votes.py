r"""A study's votes, checked against its sheet, and the raters who are left out by the rules set before it.

    python -m editclip.study.votes --study results/<run>/studies/<study> --votes votes.csv \
        --out results/<run>/votes/<study>

takes in a file of votes that people have given: one row a rater, item and question, with the columns `VOTE_COLUMNS`.
left and right are the methods as shown, so that votes on another drawing of the study are not mistaken for this one's;
`seconds` is the time that the rater had the item before them, the same for both questions, and `submitted_at` the
moment of the answer, in ISO 8601 with its time zone.
"""

import logging
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from editclip import stage
from editclip.config.section import checked
from editclip.config.studies import Exclusion
from editclip.errors import InputError, nearest
from editclip.report.files import read_json, read_table, refuse_duplicates
from editclip.storage import write_json
from editclip.study.sheet import COLUMNS, KINDS, QUESTIONS, SIDES, VOTE_COLUMNS

log = logging.getLogger(__name__)
MODULE = "editclip.study.votes"
RATER_COLUMNS = ("rater", "votes", "catch_votes", "catch_right", "median_seconds", "excluded")


@dataclass(frozen=True)
class Sheet:
    """A study as it was drawn.

    Attributes:
        folder: it lies there.
        name: of the study.
        items: study.csv, all text, indexed by item_id.
        facts: study.json.
        exclude: the rules by which raters are left out.
    """

    folder: Path
    name: str
    items: pd.DataFrame
    facts: dict[str, Any]
    exclude: Exclusion

    @property
    def methods(self) -> list[str]:
        """All methods shown."""
        return sorted({*self.items["first"], *self.items["second"]})


def read_study(folder: Path) -> Sheet:
    """The study in a folder that `editclip.study.design` has written.

    Raises:
        InputError: a file is missing or incomplete, or an item stands twice in the sheet or is of no known kind.
    """
    path, facts = folder / "study.csv", read_json(folder / "study.json")
    items = read_table(path, COLUMNS)
    refuse_duplicates(items, ["item_id"], path)
    _refuse(~items["kind"].isin(KINDS), items["kind"], path, f"kind {{value!r}} is none of {', '.join(KINDS)}")
    if not isinstance(design := facts.get("design"), dict) or "exclude" not in design:
        raise InputError(f"{folder / 'study.json'} has no design with the rules of exclusion: design the study again")
    exclude = checked(Exclusion, design["exclude"], "design.exclude")
    return Sheet(folder, str(facts.get("study", folder.name)), items.set_index("item_id"), facts, exclude)


def read_votes(path: Path, study: Sheet) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The votes that count, and what is known of the raters.

    A rater is left out, with all votes, whose share of catch trials right (on the question `edit`) or whose median time
    for an item is below the study's rule; one who has met no catch trial is not judged by the first.

    Args:
        path: votes.csv, see above.
        study: what was voted on.

    Returns:
        The votes on pairs of the raters that are not left out, with the columns of the file, `seconds` as numbers, and
        `chosen`, the method whose output was chosen; and one row a rater with the columns `RATER_COLUMNS`: votes on
        pairs, votes on catch trials and how many of these were right, median seconds for an item, and why they are left
        out ("" = they are not).

    Raises:
        InputError: something in the file is missing, unknown, repeated or impossible, or nobody's votes are left.
    """
    votes = checked_votes(path, study)
    kinds, expected = (votes["item_id"].map(study.items[name]) for name in ("kind", "expected"))
    votes["chosen"] = votes["left"].where(votes["choice"] == "left", votes["right"])
    trials = (kinds == "catch") & (votes["question"] == "edit")
    right = trials & (votes["chosen"] == expected)
    seconds = votes.groupby(["rater", "item_id"])["seconds"].mean().groupby("rater").median()
    counted = pd.DataFrame({"votes": kinds == "pair", "catch_votes": trials, "catch_right": right})
    raters = counted.groupby(votes["rater"]).sum().assign(median_seconds=seconds)
    reasons = [_reason(row, study.exclude) for row in raters.to_dict("records")]
    raters = raters.assign(excluded=reasons).reset_index()[list(RATER_COLUMNS)]
    left_out = raters.loc[raters["excluded"] != "", "rater"]
    if len(left_out) == len(raters):
        raise InputError(
            f"{path}: all {len(raters)} raters are left out by the study's rules, the first one for "
            f"{reasons[0]}: collect votes of others"
        )
    return votes[(kinds == "pair") & ~votes["rater"].isin(left_out)].reset_index(drop=True), raters


def _reason(row: Any, exclude: Exclusion) -> str:
    """Why a rater is left out, or ""."""
    reasons = []
    if row["catch_votes"] and row["catch_right"] / row["catch_votes"] < exclude.catch_right:
        reasons.append(
            f"{row['catch_right']} of {row['catch_votes']} catch trials right, less than {exclude.catch_right:.0%}"
        )
    if row["median_seconds"] < exclude.median_seconds:
        reasons.append(f"a median of {row['median_seconds']:.3g} s an item, less than {exclude.median_seconds:g} s")
    return "; ".join(reasons)


def checked_votes(path: Path, study: Sheet) -> pd.DataFrame:
    """All rows of votes.csv with the columns `VOTE_COLUMNS`, `seconds` as numbers.

    Raises:
        InputError: see `read_votes`.
    """
    votes = read_table(path, ())
    for name in VOTE_COLUMNS:
        if name not in votes.columns:
            raise InputError(
                f"{path} lacks the column {name!r}{nearest(name, votes.columns)}: add it, the columns are "
                f"{', '.join(VOTE_COLUMNS)}"
            )
    if votes.empty:
        raise InputError(f"{path} has no vote: collect some, or give the study the origin none")
    votes = votes[list(VOTE_COLUMNS)]
    _refuse(votes["rater"] == "", votes["rater"], path, "rater is empty: name the one who voted")
    unknown = "item_id {value!r} is no item of the study{near}: give the votes on this study"
    _refuse(~votes["item_id"].isin(study.items.index), votes["item_id"], path, unknown, study.items.index)
    for name, known in (("question", list(QUESTIONS)), ("choice", list(SIDES))):
        sentence = f"{name} {{value!r}} is unknown{{near}}: write one of {', '.join(known)}"
        _refuse(~votes[name].isin(known), votes[name], path, sentence, known)
    for side in SIDES:
        sentence = f"{side} {{value!r}} is no method of the study{{near}}: write the one that study.csv has there"
        _refuse(~votes[side].isin(study.methods), votes[side], path, sentence, study.methods)
        shown = votes["item_id"].map(study.items[side])
        for row, (item, said, wanted) in enumerate(zip(votes["item_id"], votes[side], shown, strict=True), 2):
            if said != wanted:
                raise InputError(
                    f"{path} row {row}: {side} is {said}, but the study shows {wanted} there of {item}: give the votes "
                    "on this study, or write what was shown"
                )
    refuse_duplicates(votes, ["rater", "item_id", "question"], path)
    numbers = pd.to_numeric(votes["seconds"], errors="coerce")
    bad = ~((numbers >= 0) & (numbers < float("inf")))
    _refuse(bad, votes["seconds"], path, "seconds {value!r} is not a number from 0 on: write the seconds on the item")
    sentence = "submitted_at {value!r} {why}: write it like 2025-03-26T12:00:00+00:00"
    for row, text in enumerate(votes["submitted_at"], 2):
        if why := _no_moment(text):
            raise InputError(f"{path} row {row}: {sentence.format(value=text, why=why)}")
    return votes.assign(seconds=numbers.astype(float))


def _no_moment(text: str) -> str:
    """Why a text is no moment in time, or ""."""
    try:
        return "" if datetime.fromisoformat(text).tzinfo else "has no time zone"
    except ValueError:
        return "is no time in ISO 8601"


def _refuse(wrong: "pd.Series[bool]", values: "pd.Series[str]", path: Path, sentence: str, known: Any = ()) -> None:
    """Raise an `InputError` for the first row that is `wrong`; {value} and {near} of the sentence are filled in."""
    for row in wrong.index[wrong][:1]:
        said = sentence.format(value=values[row], near=nearest(values[row], known))
        raise InputError(f"{path} row {row + 2}: {said}")


def write_votes(folder: Path, votes: pd.DataFrame, study: Sheet, origin: str, **facts: Any) -> None:
    """Write votes.csv and votes.json into a folder.

    Args:
        folder: to write to.
        votes: with the columns `VOTE_COLUMNS`.
        study: what was voted on.
        origin: "human" or "oracle".
        facts: what else votes.json says.
    """
    votes[list(VOTE_COLUMNS)].to_csv(folder / "votes.csv", index=False, lineterminator="\n")
    counts = {"votes": len(votes), "raters": int(votes["rater"].nunique()), "items": int(votes["item_id"].nunique())}
    write_json(folder / "votes.json", {"origin": origin, "study": study.name, **counts, **facts})


def main() -> None:
    """Command line of the stage."""
    parser = stage.parser(__doc__)
    parser.add_argument("--study", type=Path, required=True, help="folder written by editclip.study.design")
    parser.add_argument("--votes", type=Path, required=True, help="file of the votes")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    study = read_study(given.study)
    _, raters = read_votes(given.votes, study)
    for row in raters[raters["excluded"] != ""].itertuples():
        log.warning("%s is left out: %s", row.rater, row.excluded)
    inputs = {"study": given.study, "votes": given.votes}
    facts: dict[str, Any] = {"config": None, "inputs": inputs, "threads": given.threads, "force": given.force}
    with stage.output_folder(given.out, module=MODULE, **facts) as folder:
        write_votes(folder, read_table(given.votes, VOTE_COLUMNS), study, "human")  # as given, seconds and all


if __name__ == "__main__":
    stage.run(main)
