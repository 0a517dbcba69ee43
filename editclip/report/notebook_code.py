"""What a notebook runs and reads, found without running it, for the rule that renders it.

Only the standard library is imported here, because the Snakefile does.
"""

import ast
import json
from pathlib import Path
from typing import Any

from editclip.errors import InputError, nearest
from editclip.provenance import PACKAGES, ROOT

PARTS = ("bench", "edits", "judgements", "scores", "tables", "weights")
"""Parts of a run folder that a notebook may name in its metadata, as `editclip: {reads: […]}`."""


def _notebook(path: Path) -> dict[str, Any]:
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not a notebook ({error}): save it again") from error
    if not isinstance(notebook, dict) or not isinstance(notebook.get("cells"), list):
        raise InputError(f"{path} is not a notebook: it has no cells")
    return notebook


def reads(path: Path) -> list[str]:
    """The parts of the run folder that a notebook reads, by its metadata.

    Raises:
        InputError: the file is no notebook, or its metadata names no parts, or unknown ones.
    """
    metadata = _notebook(path).get("metadata", {})
    parts = metadata.get("editclip", {}).get("reads")
    if not isinstance(parts, list):
        raise InputError(f'{path}: its metadata must say what it reads, "editclip": {{"reads": […]}} out of {PARTS}')
    for part in parts:
        if part not in PARTS:
            raise InputError(f"{path}: its metadata says it reads {part!r}{nearest(str(part), PARTS)}; known: {PARTS}")
    return parts


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
