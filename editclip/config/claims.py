"""Claims: which of the paper's claims a run is held against, and what its rows are called there."""

from typing import Annotated, Literal

from pydantic import AfterValidator

from editclip.config.section import Name, Named, Section, Text

Scope = Literal["micro", "paper"]


def _one_row_each(names: dict[str, str]) -> dict[str, str]:
    rows: dict[str, str] = {}
    for name, row in names.items():
        if row in rows:
            raise ValueError(f'{rows[row]} and {name} are both "{row}"; a claim compares different methods')
        rows[row] = name
    return names


class Claims(Section):
    """The paper's claims, each decided by an interval (docs/claims.md)."""

    file: Text
    """the claims, such as paper/claims.yaml"""
    scope: Scope
    """what kind of run this is: a claim that only the other can test is not decided here"""
    names: Annotated[Named[Name], AfterValidator(_one_row_each)]
    """the claims' name of a method: the method of this run that stands for it; a claim about others is not decided"""
