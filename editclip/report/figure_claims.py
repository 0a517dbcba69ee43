"""The claims of the paper that a figure of it stands for, with their verdicts, to be shown below that figure."""

import re
from pathlib import Path

import pandas as pd

from editclip.report.claims import COLUMNS
from editclip.report.claims_table import table_html
from editclip.report.files import read_record, read_table


def names(text: str, source: str) -> bool:
    """Whether a claim's source names a figure or table.

    Args:
        text: the claim's source, such as "Sections 1 and 4.2, Figure 10a".
        source: that figure or table by its number, such as "Figure 10", of which "Figure 10a" is a part.
    """
    kind, number = source.split()
    parts = re.findall(rf"\b{kind}s?\s+([^A-Z]*)", text)  # up to the next word like Table
    return any(number in re.findall(r"\d+(?:\.\d+)*", part) for part in parts)


def named_claims(claims: pd.DataFrame, source: str) -> pd.DataFrame:
    """The rows of claims.csv whose source names a figure or table, see `names`."""
    return claims[[names(text, source) for text in claims["source"]]]


def claims_of_figure(run: Path, source: str) -> str:
    """The claims whose source names a figure, as an HTML table; "" if none does or the run was held against none.

    Args:
        run: folder of the run.
        source: the figure, such as "Figure 4".

    Raises:
        InputError: the config's record or the claims are missing or not what they should be.
    """
    if not read_record(run).get("claims"):
        return ""
    path = run / "claims" / "claims.csv"
    mine = named_claims(read_table(path, COLUMNS), source)
    return table_html(mine, path) if len(mine) else ""
