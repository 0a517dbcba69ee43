"""The win rates of a table: shares of the votes of a study for the reference row against each other row.

They are what `editclip.study.judgements` made of the votes; nothing is computed of single votes here.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from editclip.config.tables import Table
from editclip.errors import InputError
from editclip.report.columns import WIN_RATES
from editclip.report.files import read_judgement_facts, read_numbers
from editclip.report.summary import FULL

PREFERENCES = ("question", "first", "second", "votes", "win_rate", "low", "high")


@dataclass(frozen=True)
class Judgements:
    """What the votes of a study say of its methods.

    Attributes:
        study: its name.
        origin: whose votes they are: human or oracle.
        types: whether its intervals are over edit types like these; False = over the queries of a single type.
        preferences: preferences.csv.
    """

    study: str
    origin: str
    types: bool
    preferences: pd.DataFrame


def read_judgements(folder: Path) -> Judgements:
    """The judgements of a study.

    Raises:
        InputError: a file is missing or incomplete.
    """
    facts = read_judgement_facts(folder, ("study", "origin", "clusters"))
    preferences = read_numbers(folder / "preferences.csv", PREFERENCES)
    return Judgements(facts["study"], facts["origin"], facts["clusters"] == "edit types", preferences)


def win_rates(table: Table, judgements: Judgements) -> pd.DataFrame:
    """The win rates as rows of the full table, of the rows that the study compares with the reference.

    Args:
        table: the table, whose declaration names the study.
        judgements: of that study.

    Returns:
        Columns `FULL`, metrics wr_edit and wr_pres, scope "all"; means and bounds are percentages, `n` counts votes.
        `low_types`, `high_types` bound it for edit types like the study's, `low`, `high` where it has only one.

    Raises:
        InputError: the table's study is another one, or the study compares nothing with the table's reference.
    """
    declared, reference = table.declaration.study, table.declaration.reference
    if declared != judgements.study:
        raise InputError(
            f"--judgements are of the study {judgements.study}, but the win rates of {table.name} are those of "
            f"{declared or 'none'}: give that one's folder, or set tables.{table.name}.study"
        )
    known = judgements.preferences
    over = "_types" if judgements.types else ""
    rows = []
    for name, method in table.rows.items():
        for metric, question in WIN_RATES.items():
            asked = known[known["question"] == question]
            ours = asked[(asked["first"] == reference) & (asked["second"] == name)]
            theirs = asked[(asked["first"] == name) & (asked["second"] == reference)]
            for found, turned in ((ours, False), (theirs, True)):
                for votes in found.to_dict("records"):
                    mean, low, high = (100 * votes[key] for key in ("win_rate", "low", "high"))
                    mean, low, high = (100 - mean, 100 - high, 100 - low) if turned else (mean, low, high)
                    row: dict[str, Any] = {"scope": "all", "scope_value": "", "method": name, "metric": metric}
                    row |= {"conditioning": method.conditioning, "mean": mean, f"low{over}": low, f"high{over}": high}
                    row |= {"n": int(votes["votes"]), "n_undefined": 0, "n_skipped": 0, "n_failed": 0}
                    rows.append(row)
    if not rows:
        methods = ", ".join(dict.fromkeys([*known["first"], *known["second"]]))
        raise InputError(
            f"the study {declared} compares no row of {table.name} with its reference {reference}: its methods are "
            f"{methods}"
        )
    return pd.DataFrame(rows, columns=list(FULL))
