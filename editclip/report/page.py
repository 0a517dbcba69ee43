"""Write the report of a run: one HTML page with tables and pictures inside, and links to the files beside it.

    python -m editclip.report.page --run results/<run> --config config/<run>.yaml --out results/<run>/report.html

Of the run folder it needs `bench/manifest.csv` and `tables/`, whose provenance holds the run's label and notice. Where
they exist it shows `evidence.csv`, the notebooks' `figures/<notebook>/*.png` and `training.csv`, and links
`notebooks/*.html`.
"""

import base64
import datetime
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import yaml
from markupsafe import Markup

from editclip import stage
from editclip.report import origin, render
from editclip.report.columns import MEASURED, column
from editclip.report.evidence_table import evidence_html
from editclip.report.results import read_json, read_numbers, read_samples, read_table
from editclip.storage import digest

TEMPLATES = Path(__file__).parent / "templates"
# Where the notebooks leave the pictures of each section, below figures/.
PICTURES = {
    "overall": "table1/overall.png",
    "extremes": "pictures/extremes.png",
    "grid": "pictures/grid.png",
    "families": "edit_types/families.png",
    "types": "edit_types/types.png",
    "curves": "training/curves.png",
}
HEAT_MAPS = "edit_types/heat_map_*.png"


def embedded(path: Path) -> str | None:
    """A PNG file as an address that a page can hold, or None where there is none."""
    if not path.is_file():
        return None
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


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


def page(run: Path, out: Path, config: Mapping[str, Any] | None) -> str:
    """The report of `run` as HTML, with links relative to `out`.

    Args:
        run: folder of the run.
        out: where the page will stand.
        config: the whole config of the run, shown with its digest; None where it is not known.

    Raises:
        InputError: the bench manifest, a table or its provenance is missing.
    """
    tables = read_json(run / "tables" / "provenance.json")["config"]
    samples = read_samples(run / "bench")
    table = read_numbers(run / "tables" / "table1.csv", ("method", "conditioning", "notes"))
    full = read_numbers(run / "tables" / "table1_full.csv", ("scope", "method", "metric", "low", "high"))
    versus = read_numbers(run / "tables" / "table1_vs_paper.csv", ("method", "metric", "ours", "paper", "same_sign"))
    evidence, training = run / "evidence.csv", run / "figures" / "training" / "training.csv"
    files = [*sorted((run / "notebooks").glob("[!.]*.html")), *sorted((run / "tables").glob("table*")), evidence]
    made = origin.provenances(run)
    facts = origin.facts(run, made)
    if config is not None:
        facts.insert(1, ("Config", f"{config['run']['name']}, digest {digest(config)[: origin.SHORT]}"))
    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.get_template("report.html.j2").render(
        label=tables["label"],
        labels=honest_labels(table, tables["notice"]),
        css=Markup(render.css()),
        samples=len(samples),
        types=len(samples[["group", "edit_type"]].drop_duplicates()),
        methods=len(table),
        date=datetime.date.today().isoformat(),
        table=Markup(render.table1_html(table, full)),
        level=tables["statistics"]["level"],
        legend=[(column(c).label, column(c).meaning) for c in MEASURED],
        notes=list(zip(table["method"], table["notes"], strict=True)),
        evidence=Markup(evidence_html(evidence, tables["statistics"]["level"])) if evidence.is_file() else None,
        pictures={name: embedded(run / "figures" / path) for name, path in PICTURES.items()},
        heat_maps=[(p.stem, embedded(p)) for p in sorted((run / "figures").glob(HEAT_MAPS))],
        versus=Markup(render.versus_html(versus)) if len(versus) else None,
        signs=render.sign_sentence(versus),
        training=Markup(render.plain_html(read_table(training, ("Model",)))) if training.is_file() else None,
        files=[(p.name, Path(os.path.relpath(p, out.parent)).as_posix()) for p in files if p.is_file()],
        facts=facts,
        stages=Markup(render.plain_html(origin.stages(made))),
        config=None if config is None else yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True),
    )


def main() -> None:
    """Command line of the stage."""
    parser = stage.parser(__doc__)
    parser.add_argument("--run", type=Path, required=True, help="folder of the run, results/<run>")
    parser.add_argument("--config", type=stage.config_value, help="the whole config of the run, to be shown")
    arguments = parser.parse_args()
    inputs = {"tables": arguments.run / "tables"}
    config = arguments.config
    facts: dict[str, Any] = {"module": "editclip.report.page", "force": arguments.force}
    with stage.output_file(arguments.out, config=config, inputs=inputs, **facts) as file:
        file.write_text(page(arguments.run, arguments.out, config), encoding="utf-8")


if __name__ == "__main__":
    stage.run(main)
