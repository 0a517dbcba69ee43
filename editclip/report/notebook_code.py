"""What a notebook runs and reads, found without running it, for the rule that renders it.

Only the standard library is imported here, because the Snakefile does.
"""

import ast
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from editclip.errors import InputError, nearest
from editclip.provenance import PACKAGES, ROOT

PARTS = ("attention", "bench", "claims", "edits", "judgements", "retrieval", "scores", "tables", "weights")
"""Parts of a run folder that a notebook may name in its metadata, as `editclip: {reads: […]}`."""


@dataclass(frozen=True)
class Declaration:
    """What a notebook says of itself in its metadata, as `editclip: {reads: […], table: NAME, source: "Figure 3"}`.

    Attributes:
        reads: the parts of the run folder that it reads.
        table: the table that it is about; None = the first of the config.
        source: the figure or table of the paper that it stands for; None = none.
    """

    reads: tuple[str, ...]
    table: str | None
    source: str | None


def _notebook(path: Path) -> dict[str, Any]:
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not a notebook ({error}): save it again") from error
    if not isinstance(notebook, dict) or not isinstance(notebook.get("cells"), list):
        raise InputError(f"{path} is not a notebook: it has no cells")
    return notebook


def declaration(path: Path) -> Declaration:
    """What a notebook's metadata say.

    Raises:
        InputError: the file is no notebook, or its metadata name no parts, unknown ones, or what is no table or source.
    """
    metadata = _notebook(path).get("metadata", {}).get("editclip", {})
    reads, table, source = (metadata.get(key) for key in ("reads", "table", "source"))
    if not isinstance(reads, list):
        raise InputError(f'{path}: its metadata must say what it reads, "editclip": {{"reads": […]}} out of {PARTS}')
    for part in reads:
        if part not in PARTS:
            raise InputError(f"{path}: its metadata says it reads {part!r}{nearest(str(part), PARTS)}; known: {PARTS}")
    if not (table is None or (isinstance(table, str) and table)):
        raise InputError(f"{path}: its metadata have the table {table!r}; name one of the config, or leave it out")
    if not (source is None or re.fullmatch(r"[A-Z][a-z]+ \d+", str(source))):
        raise InputError(f'{path}: its metadata have the source {source!r}; write it as "Figure 3", or leave it out')
    return Declaration(tuple(reads), table, source)


def opening(path: Path) -> tuple[str, str]:
    """The title of a notebook, and the text below it in its first cell, as Markdown.

    Raises:
        InputError: the file is no notebook, or its first cell is no text that begins with a title.
    """
    cells = _notebook(path)["cells"]
    first = cells[0] if cells and cells[0]["cell_type"] == "markdown" else {"source": []}
    found = re.fullmatch(r"# (.+?)\n(.*)", "".join(first["source"]) + "\n", flags=re.DOTALL)
    if not found:
        raise InputError(f'{path}: its first cell must be Markdown that begins with a title, "# Title"')
    return found[1].strip(), found[2].strip()


def inputs(
    declared: Declaration,
    recorded: Mapping[str, Sequence[str]],
    of_tables: Mapping[str, Mapping[str, Sequence[str]]],
) -> list[str] | None:
    """The paths that a notebook reads, or None if the run lacks its table or a part that it reads.

    Args:
        declared: what it says of itself.
        recorded: the paths of each part that the run has, none where it has nothing in it.
        of_tables: the same of the parts that are a table's own (edits, scores and tables), by table as in the config.
    """
    if declared.table is not None and declared.table not in of_tables:
        return None
    table = declared.table or next(iter(of_tables), None)
    parts = {**recorded, **(of_tables[table] if table else {})}
    if not parts.keys() >= set(declared.reads):
        return None
    return [path for part in declared.reads for path in parts[part]]


def imported_modules(path: Path) -> list[str]:
    """Dotted names of the modules of this project that the cells of a notebook import, sorted.

    Raises:
        InputError: the file is no notebook, or a cell is not Python.
    """
    names: set[str] = set()
    for number, cell in enumerate(_notebook(path)["cells"], 1):
        if cell["cell_type"] != "code":
            continue
        lines = "".join(cell["source"]).splitlines()
        code = "\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in lines)  # IPython's own
        try:
            tree = ast.parse(code)
        except SyntaxError as error:
            raise InputError(f"{path} cell {number} line {error.lineno} is not Python ({error.msg})") from error
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module)
                names.update(f"{node.module}.{alias.name}" for alias in node.names)  # the name may be a module itself
    return sorted(name for name in names if name.split(".")[0] in PACKAGES and _is_module(name))


def _is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return (path / "__init__.py").is_file() or path.with_suffix(".py").is_file()
