"""Write the report of a run: one HTML page with tables and pictures inside, and links to the files beside it.

    python -m editclip.report.page --run results/<run> --out results/<run>/report.html

Of the run folder it needs `bench/manifest.csv` and `tables/`, whose provenance holds the run's label and notice. Where
they exist it shows `figures/*.png`, links `notebooks/*.html` and draws the curves of `weights/*/logs/metrics.jsonl`.
"""

import base64
import datetime
import io
import os
from pathlib import Path

import jinja2
import pandas as pd
from markupsafe import Markup

from editclip import stage
from editclip.report import render
from editclip.report.columns import MEASURED, column
from editclip.report.results import read_json, read_numbers, read_samples

TEMPLATES = Path(__file__).parent / "templates"
GRID = "grid.png"  # drawn by notebooks/table1.ipynb
PLOTS = "type_*.png"


def embedded(data: bytes) -> str:
    """PNG bytes as an address that a page can hold."""
    return "data:image/png;base64," + base64.b64encode(data).decode()


def honest_labels(table: pd.DataFrame, notice: str | None) -> list[str]:
    """What a reader must know before the first number, from the config's notice and the notes of the table."""
    notes = set("; ".join(table["notes"]).split("; "))
    labels = [notice] if notice else []
    if "lpips=random_trunk" in notes:
        labels.append(
            "LPIPS runs on a trunk with random weights (fixed seed), not on ImageNet's: no published value compares."
        )
    if "votes=none" in notes:
        labels.append("No human judged these images: the win-rate columns are empty.")
    return labels


def read_logs(weights: Path) -> dict[str, pd.DataFrame]:
    """The training log of every model under `weights` that was trained here: columns step and loss, by name."""
    logs = {}
    for path in sorted(weights.glob("[!.]*/logs/metrics.jsonl")):
        log = pd.read_json(path, lines=True)
        if {"step", "loss"} <= set(log.columns) and len(log) > 1:
            logs[path.parent.parent.name] = log[["step", "loss"]].dropna()
    return logs


def curves_image(weights: Path) -> str | None:
    """The training curves as an embedded picture, or None when nothing was trained."""
    logs = read_logs(weights)
    if not logs:
        return None
    from editclip.report import figures  # matplotlib is slow to import and a run on released weights has no curves

    figures.style()
    buffer = io.BytesIO()
    figures.training_curves(logs).savefig(buffer, format="png", bbox_inches="tight", metadata={"Software": None})
    return embedded(buffer.getvalue())


def provenance_lines(run: Path) -> list[tuple[str, str]]:
    """Where the numbers come from, as (name, text): code, config, machine, packages, scoring cards and time spent."""
    found = sorted(p.relative_to(run) for p in run.rglob("provenance.json"))
    made = {p: read_json(run / p) for p in found if not any(part.startswith(".") for part in p.parts)}
    tables = read_json(run / "tables" / "provenance.json")
    edits = next((v for p, v in made.items() if p.parts[0] == "edits"), tables)
    commit = tables["code"]["commit"]
    dirty = " with uncommitted changes" if tables["code"]["dirty"] else ""
    spent: dict[str, float] = {}
    for path, value in made.items():
        spent[path.parts[0]] = spent.get(path.parts[0], 0.0) + value["seconds"]
    return [
        ("Code", f"git {commit[:10]}{dirty}" if commit else "no git commit"),
        ("Config", tables["config_digest"][:12]),
        ("Device", f"{edits['device']}, Python {edits['python']}"),
        ("Packages", ", ".join(f"{name} {version}" for name, version in edits["packages"].items())),
        ("Job minutes", ", ".join(f"{part} {seconds / 60:.1f}" for part, seconds in spent.items())),
    ]


def page(run: Path, out: Path) -> str:
    """The report of `run` as HTML, with links relative to `out`.

    Raises:
        InputError: the bench manifest, a table or its provenance is missing.
    """
    config = read_json(run / "tables" / "provenance.json")["config"]
    samples = read_samples(run / "bench")
    table = read_numbers(run / "tables" / "table1.csv", ("method", "conditioning", "notes"))
    full = read_numbers(run / "tables" / "table1_full.csv", ("scope", "method", "metric", "low", "high"))
    versus = read_numbers(run / "tables" / "table1_vs_paper.csv", ("method", "metric", "ours", "paper", "same_sign"))
    figures = run / "figures"
    files = [*sorted((run / "notebooks").glob("[!.]*.html")), *sorted((run / "tables").glob("table*"))]
    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.get_template("report.html.j2").render(
        label=config["label"],
        labels=honest_labels(table, config["notice"]),
        css=Markup(render.css()),
        samples=len(samples),
        types=len(samples[["group", "edit_type"]].drop_duplicates()),
        methods=len(table),
        date=datetime.date.today().isoformat(),
        table=Markup(render.table1_html(table, full)),
        level=config["statistics"]["level"],
        legend=[(column(c).label, column(c).meaning) for c in MEASURED],
        notes=list(zip(table["method"], table["notes"], strict=True)),
        grid=embedded((figures / GRID).read_bytes()) if (figures / GRID).is_file() else None,
        plots=[(p.stem, embedded(p.read_bytes())) for p in sorted(figures.glob(PLOTS))],
        versus=Markup(render.versus_html(versus)) if len(versus) else None,
        signs=render.sign_sentence(versus),
        curves=curves_image(run / "weights"),
        files=[(p.name, Path(os.path.relpath(p, out.parent)).as_posix()) for p in files],
        provenance=provenance_lines(run),
    )


def main() -> None:
    """Command line of the stage."""
    parser = stage.parser(__doc__)
    parser.add_argument("--run", type=Path, required=True, help="folder of the run, results/<run>")
    arguments = parser.parse_args()
    inputs = {"tables": arguments.run / "tables"}
    with stage.output_file(arguments.out, module="editclip.report.page", config=None, inputs=inputs) as file:
        file.write_text(page(arguments.run, arguments.out), encoding="utf-8")


if __name__ == "__main__":
    stage.run(main)
