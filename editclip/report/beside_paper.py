"""A table beside the paper's: the same cells of the methods that stand in both, and the signs of their differences."""

import pandas as pd

from editclip.report.columns import MEASURED

REFERENCE = "editclip"  # the row that the paper's claims compare with, as `_plain` writes it
VERSUS = ("method", "paper_method", "metric", "ours", "paper", "ours_minus_editclip", "paper_minus_editclip",
          "same_sign")  # fmt: skip


def against_paper(table: pd.DataFrame, paper: pd.DataFrame, reference: str | None) -> pd.DataFrame:
    """Our cells beside the paper's, for the methods that stand in both tables and the columns that the paper has.

    Names match without case, hyphens and underscores (prompt_diffusion is PromptDiffusion), and `reference`, the row of
    EditCLIP here, is the paper's EditCLIP whatever it is called. `same_sign` says whether the difference from
    EditCLIP's row has the sign it has in the paper: the only part that carries over to another data set.

    Returns:
        Columns `VERSUS`.
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
    return pd.DataFrame(rows, columns=list(VERSUS))


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def sign_sentence(versus: pd.DataFrame) -> str:
    """How many differences from EditCLIP have the sign that they have in the paper, as one sentence."""
    signs = versus.loc[versus["same_sign"].isin(["yes", "no"]), "same_sign"]
    if signs.empty:
        return "No method of the paper's table stands beside EditCLIP here, so no difference can be compared."
    same = int((signs == "yes").sum())
    return f"Of {len(signs)} differences from EditCLIP's row, {same} have the sign that they have in the paper."
