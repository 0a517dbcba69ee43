"""Run a notebook on the folder of a run: its page, and the pictures that it draws.

    python -m editclip.report.notebook notebooks/NAME.ipynb --run results/<run> \
        --executed results/<run>/logs/notebooks/NAME.ipynb --out results/<run>/notebooks/NAME.html

The notebook itself writes its pictures to <run>/figures/NAME/; its title and first text are added there for the report.
The executed copy is a log: after a cell that failed it ends with the traceback.
"""

import re
from pathlib import Path
from typing import Any

import papermill
from nbconvert import HTMLExporter
from nbconvert.filters import markdown2html
from papermill.exceptions import PapermillExecutionError, strip_color

from editclip import stage
from editclip.errors import InputError
from editclip.report.figure_folder import write_about
from editclip.report.notebook_code import declaration, opening

# Addresses of scripts that a page would fetch: it asks the network for nothing.
FETCHED = ("mathjax_url", "require_js_url", "jquery_url", "mermaid_js_url")


def execute(notebook: Path, run: Path, executed: Path) -> None:
    """Run all cells, with `run_folder` set to `run`, and write the copy `executed`, up to a cell that fails.

    Raises:
        InputError: a cell failed.
    """
    executed.parent.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(notebook, executed, {"run_folder": str(run)}, progress_bar=False)
    except PapermillExecutionError as error:
        at = re.search(r"Cell In\[\d+\], line (\d+)", strip_color("\n".join(error.traceback)))  # as IPython writes it
        lines = error.source.splitlines()
        line = lines[int(at[1]) - 1 if at else -1].strip()
        said = f"{error.ename}: {' '.join(error.evalue.split())}"
        raise InputError(f'{notebook}, "{line}": {said} ({executed} has the traceback)') from None


def page(executed: Path) -> str:
    """An executed notebook as HTML that needs nothing else."""
    text, _ = HTMLExporter(**dict.fromkeys(FETCHED, "")).from_filename(str(executed))
    return str(text)


def main() -> None:
    """Command line of the stage."""
    parser = stage.parser(__doc__)
    parser.add_argument("notebook", type=Path, help="the notebook")
    parser.add_argument("--run", type=Path, required=True, help="folder of the run, results/<run>")
    parser.add_argument("--executed", type=Path, required=True, help="where the executed copy goes")
    given = parser.parse_args()
    title, text = opening(given.notebook)
    source = declaration(given.notebook).source
    inputs = {"notebook": given.notebook, "config": given.run / "config.yaml"}
    facts: dict[str, Any] = {"module": "editclip.report.notebook", "force": given.force}
    with stage.output_file(given.out, config=None, inputs=inputs, **facts) as file:
        execute(given.notebook, given.run, given.executed)
        write_about(given.run / "figures" / given.notebook.stem, title, markdown2html(text).strip(), source)
        file.write_text(page(given.executed), encoding="utf-8")


if __name__ == "__main__":
    stage.run(main)
