"""What every committed notebook must be: metadata complete, parameters tagged, no outputs; how the rules read it."""

import json
import re
from pathlib import Path

import nbformat
import pytest

from editclip.errors import InputError
from editclip.report.notebook_code import PARTS, Declaration, declaration, imported_modules, inputs, opening

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
READING = {  # calls that open files themselves
    r"grid_reference\(run": {"scores"},
    r"grid_rows\(run": {"bench", "edits"},
    r"exemplar_lines\(run": {"bench"},
    r"exemplar_lines\(run, samples, chosen, queries, ": {"edits"},
    r"ablation_figures\.\w*pictures\(run": {"bench", "edits", "scores"},
    r"claims_of_figure\(run": {"claims"},
}


def code(path: Path) -> str:
    return "\n".join(c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code")


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_is_a_clean_papermill_source(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    # Snakemake and papermill need both, else "Notebook metadata is corrupt"
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.metadata.language_info.name == "python"
    code = [c for c in notebook.cells if c.cell_type == "code"]
    assert all(not c.outputs and c.execution_count is None for c in code)
    assert sum("parameters" in c.metadata.get("tags", []) for c in code) == 1
    assert all(len(c.source.splitlines()) <= 20 for c in code), "a long cell belongs into the package"
    title, text = opening(path)
    assert title and text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_says_what_it_reads(path: Path) -> None:
    named = set(re.findall(r'\brun / "(\w+)"', code(path))) & set(PARTS)
    for call, parts in READING.items():
        if re.search(call, code(path)):
            named |= parts
    assert named == set(declaration(path).reads)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_puts_its_pictures_and_claims_where_they_are_looked_for(path: Path) -> None:
    assert set(re.findall(r'run / "figures" / "(\w+)"', code(path))) == {path.stem}
    assert set(re.findall(r'claims_of_figure\(run, "(.+?)"\)', code(path))) <= {declaration(path).source}


def test_the_modules_of_a_notebook_are_those_that_its_cells_import(tmp_path: Path) -> None:
    cells = [
        ("markdown", "from editclip import model"),
        ("code", "%matplotlib inline\nimport pandas\nfrom editclip.report import figures, picture_grid as p\n"),
        ("code", "def later():\n    import editclip.stats\n    from editclip.report.files import read_json\n"),
    ]
    assert imported_modules(write(tmp_path, cells, {})) == [
        "editclip.report", "editclip.report.figures", "editclip.report.files", "editclip.report.picture_grid",
        "editclip.stats",
    ]  # fmt: skip


def write(folder: Path, cells: list[tuple[str, str]], metadata: dict[str, object]) -> Path:
    """A notebook with these cells and this under "editclip" in its metadata."""
    path = folder / "n.ipynb"
    sources = [{"cell_type": kind, "source": source.splitlines(keepends=True)} for kind, source in cells]
    path.write_text(json.dumps({"cells": sources, "metadata": {"editclip": metadata}}), encoding="utf-8")
    return path


def test_metadata_say_what_is_read_of_which_table_and_which_figure_it_is(tmp_path: Path) -> None:
    found = declaration(write(tmp_path, [], {"reads": ["tables", "claims"], "table": "own", "source": "Figure 10"}))
    assert found == Declaration(("tables", "claims"), "own", "Figure 10")
    assert declaration(write(tmp_path, [], {"reads": []})) == Declaration((), None, None)


def test_the_first_cell_has_title_and_text(tmp_path: Path) -> None:
    assert opening(write(tmp_path, [("markdown", "# A *title*\n\nText\nof it.\n")], {})) == (
        "A *title*",
        "Text\nof it.",
    )
    assert opening(write(tmp_path, [("markdown", "# Bare")], {})) == ("Bare", "")
    for cells in ([], [("code", "# Comment")], [("markdown", "No title")]):
        with pytest.raises(InputError, match="its first cell must be Markdown"):
            opening(write(tmp_path, cells, {}))


RECORDED = {"bench": ["r/bench"], "claims": [], "judgements": ["r/judgements/a", "r/table2"]}
OF_TABLES = {
    "table1": {"tables": ["r/tables/table1"], "edits": ["r/edits/a", "r/edits/b"], "scores": ["r/scores/a/clip"]},
    "own": {"tables": ["r/tables/own"], "edits": ["r/edits/c"], "scores": []},
}


@pytest.mark.parametrize(
    ("reads", "table", "paths"),
    [
        (("tables", "edits"), None, ["r/tables/table1", "r/edits/a", "r/edits/b"]),
        (("edits", "bench"), "own", ["r/edits/c", "r/bench"]),
        (("judgements", "claims"), None, ["r/judgements/a", "r/table2"]),
        ((), None, []),
        (("bench", "attention"), None, None),  # a part that this run has not
        (("bench",), "ablations", None),
    ],
)
def test_a_notebook_waits_for_what_it_reads_and_is_left_out_where_the_run_lacks_it(
    reads: tuple[str, ...], table: str | None, paths: list[str] | None
) -> None:
    assert inputs(Declaration(reads, table, None), RECORDED, OF_TABLES) == paths


def test_another_table_changes_nothing_for_the_notebooks_of_the_first() -> None:
    declared = Declaration(("bench", "edits", "scores", "tables"), None, None)
    first = {"table1": OF_TABLES["table1"]}
    assert inputs(declared, RECORDED, OF_TABLES) == inputs(declared, RECORDED, first) != []


def test_a_run_without_tables_renders_what_needs_none() -> None:
    assert inputs(Declaration(("bench",), None, None), RECORDED, {}) == ["r/bench"]
    assert inputs(Declaration(("tables",), None, None), RECORDED, {}) is None


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({}, "metadata must say what it reads"),
        ({"reads": ["tabels"]}, "'tabels'.*did you mean.*tables"),
        ({"reads": [], "table": ["table1"]}, r"table \['table1'\]; name one of the config"),
        ({"reads": [], "source": "Fig. 3"}, "source 'Fig. 3'; write it as \"Figure 3\""),
    ],
)
def test_metadata_that_say_nothing_are_refused(tmp_path: Path, metadata: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        declaration(write(tmp_path, [], metadata))


def test_a_notebook_that_cannot_be_followed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cell 1 line 2 is not Python"):
        imported_modules(write(tmp_path, [("code", "x = 1\ny =")], {}))
    (tmp_path / "n.ipynb").write_text("no")
    with pytest.raises(InputError, match="is not a notebook"):
        declaration(tmp_path / "n.ipynb")
