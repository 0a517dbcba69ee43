"""Runs a notebook's cells in this process, which is quicker than a kernel."""

from pathlib import Path
from typing import Any

import nbformat

from editclip.report.figure_folder import write_about
from editclip.report.notebook_code import declaration, opening

ROOT = Path(__file__).parents[2]


def draw(name: str, folder: Path, **parameters: object) -> dict[str, Any]:
    """Run a notebook on a run's folder, as the stage does; what its names stand for then."""
    path, names = ROOT / "notebooks" / f"{name}.ipynb", dict[str, Any]()
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, path.name, "exec"), names)
            if "parameters" in cell.metadata.get("tags", []):
                names |= {"run_folder": str(folder)} | parameters
    title, text = opening(path)
    write_about(folder / "figures" / name, title, f"<p>{text}</p>", declaration(path).source)
    return names
