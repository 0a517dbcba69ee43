"""What every committed notebook must be: metadata complete, parameters tagged, no outputs."""

import json
import re
from pathlib import Path

import nbformat
import pytest

from editclip.errors import InputError
from editclip.report.notebook_code import PARTS, imported_modules, reads

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


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


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_says_what_it_reads(path: Path) -> None:
    code = "\n".join(c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code")
    named = set(re.findall(r'\brun / "(\w+)"', code)) & set(PARTS)
    if "grid_rows(run" in code:  # which opens them
        named |= {"bench", "edits", "scores"}
    assert named == set(reads(path))


def test_the_modules_of_a_notebook_are_those_that_its_cells_import(tmp_path: Path) -> None:
    cells = [
        ("markdown", "from editclip import model"),
        ("code", "%matplotlib inline\nimport pandas\nfrom editclip.report import figures, picture_grid as p\n"),
        ("code", "def later():\n    import editclip.stats\n    from editclip.report.files import read_json\n"),
    ]
    path = write(tmp_path, cells, {"editclip": {"reads": ["tables"]}})
    assert imported_modules(path) == [
        "editclip.report", "editclip.report.figures", "editclip.report.files", "editclip.report.picture_grid",
        "editclip.stats",
    ]  # fmt: skip
    assert reads(path) == ["tables"]


def write(folder: Path, cells: list[tuple[str, str]], metadata: dict[str, object]) -> Path:
    path = folder / "n.ipynb"
    sources = [{"cell_type": kind, "source": source.splitlines(keepends=True)} for kind, source in cells]
    path.write_text(json.dumps({"cells": sources, "metadata": metadata}), encoding="utf-8")
    return path


def test_a_notebook_that_cannot_be_followed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="metadata must say what it reads"):
        reads(write(tmp_path, [], {}))
    with pytest.raises(InputError, match="'tabels'.*did you mean.*tables"):
        reads(write(tmp_path, [], {"editclip": {"reads": ["tabels"]}}))
    with pytest.raises(InputError, match="cell 1 line 2 is not Python"):
        imported_modules(write(tmp_path, [("code", "x = 1\ny =")], {}))
    (tmp_path / "n.ipynb").write_text("no")
    with pytest.raises(InputError, match="is not a notebook"):
        reads(tmp_path / "n.ipynb")
