"""Write docs/figures.md: each figure, what the paper claims of it, and what a run says of that.

python -m editclip.report.figures_page --run results/<run> --notebooks notebooks --out docs/figures.md
"""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from editclip import stage
from editclip.report.claims import COLUMNS, NOT_TESTABLE
from editclip.report.figure_claims import named_claims
from editclip.report.files import read_record, read_table
from editclip.report.notebook_code import declaration, opening
from editclip.report.page import OWN_SECTIONS
from editclip.storage import atomic_file

HEAD = """# Figures

Every figure of the paper, and those beyond it: what the paper claims there, and what run **{label}** says of it. Each
is made by the notebook that is named, from the run's data, by a rule that the notebook states; the report shows them
all. [Claims](claims.md) says how a verdict is reached. The effect is that of the comparison that decides, with its
{level:g} % interval.

{notice}

| Figure | Claim | Verdict | Effect | Made by |
|---|---|---|---|---|
"""
FOOT = """
Figures 6, 9, 11, 12 and 13 need a run with `config/ablations.yaml`. Figures 1 and 2 of the paper are a teaser and a
diagram. Captions of edits made of their embeddings, which the paper names as future work, are out of scope: they need a
language model trained on them.

This page is written by `python -m editclip.report.figures_page --run results/micro --notebooks notebooks --out
docs/figures.md`.
"""


def figure_rows(notebook: Path, claims: pd.DataFrame) -> list[tuple[str, str, str, str, str]]:
    """The lines of one notebook: a line a claim, or one line where the paper claims nothing that a rule decides.

    Args:
        notebook: with its title and, if it stands for a figure of the paper, that figure.
        claims: claims.csv, as texts.

    Raises:
        InputError: it is no notebook as `notebook_code` has it.
    """
    source, (title, _) = declaration(notebook).source, opening(notebook)
    name = f"{source}: {title}" if source else title
    made = f"[{notebook.stem}](../notebooks/{notebook.name})"
    found = named_claims(claims, source) if source else claims[:0]
    if found.empty:
        return [
            (name, "shown, with no claim that a comparison decides" if source else "beyond the paper", "", "", made)
        ]
    rows = []
    for i, row in enumerate(found.to_dict("records")):
        rows.append((name if i == 0 else "", row["claim"], row["verdict"], _effect(row), made if i == 0 else ""))
    return rows


def _effect(row: Any) -> str:
    """Effect and interval, or why there is none."""
    if row["verdict"] == NOT_TESTABLE:
        return str(row["note"])
    effect, low, high = (f"{float(row[name]):+.3f}".replace("-", "−") if row[name] else "" for name in
                         ("effect", "low", "high"))  # fmt: skip
    return f"{effect} [{low}, {high}]" if low else effect


def figures_page(run: Path, notebooks: Iterable[Path]) -> str:
    """The page, as Markdown.

    Args:
        run: folder of a run that was held against the paper's claims.
        notebooks: those of the figures, in order.

    Raises:
        InputError: the run has no claims, or a file is not what it should be.
    """
    config = read_record(run)
    claims = read_table(run / "claims" / "claims.csv", COLUMNS)
    rows = [row for path in notebooks for row in figure_rows(path, claims)]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in rows]
    about = config["run"]
    head = HEAD.format(label=about["label"], level=100 * config["statistics"]["level"], notice=about["notice"] or "")
    return head + "".join(lines) + FOOT


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="folder of the run, results/<run>")
    parser.add_argument("--notebooks", type=Path, required=True, help="folder of the notebooks")
    parser.add_argument("--out", type=Path, required=True, help="the page")
    given = parser.parse_args()
    notebooks = [path for path in given.notebooks.glob("*.ipynb") if path.stem not in OWN_SECTIONS]
    notebooks.sort(key=lambda path: (not path.stem.startswith("fig"), path.stem))  # the paper's first
    with atomic_file(given.out) as file:
        file.write_text(figures_page(given.run, notebooks), encoding="utf-8")


if __name__ == "__main__":
    stage.run(main)
