"""Write the report of a run: one HTML page with tables and pictures inside, and links to the files beside it.

    python -m editclip.report.page --run results/<run> --out results/<run>/report.html

Of the run folder it needs `config.yaml`, `bench/manifest.csv` and `tables/<table>/` of every table of the config. Where
they exist it shows the notebooks' `figures/<notebook>/*.png` and `training.csv`, and links `notebooks/*.html`.
"""

import base64
import datetime
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import yaml
from markupsafe import Markup

from editclip import stage
from editclip.report import origin, render
from editclip.report.beside_paper import sign_sentence
from editclip.report.claims_table import claims_html
from editclip.report.columns import MEASURED, VOTES, column, title
from editclip.report.evidence_table import evidence_html
from editclip.report.figure_claims import claims_of_figure
from editclip.report.figure_folder import ABOUT, DPI, captions, read_about
from editclip.report.files import read_judgement_facts, read_numbers, read_record, read_samples, read_table
from editclip.report.render_full import versus_html
from editclip.report.render_headline import headline_html
from editclip.report.rows import honest_labels, prose, read_facts
from editclip.report.table2 import table2_html

TEMPLATES = Path(__file__).parent / "templates"
# Where the notebooks with sections of their own leave the pictures of each, below figures/. All other notebooks are
# shown among the figures.
PICTURES = {
    "overall": "table1/overall.png",
    "families": "edit_types/families.png",
    "types": "edit_types/types.png",
    "curves": "training/curves.png",
}
HEAT_MAPS = "edit_types/heat_map_*.png"
STUDY_PICTURES = {  # of each study
    "coefficients": "Agreement of each metric with the votes, beside that of its method's mean",
    "votes": "Share of votes against the difference of each metric, a line a pair of methods",
    "pairs": "Agreement of each metric with the votes on each pair of methods",
    "win_rates": "Share of the votes that the first method of each pair won",
}
OWN_SECTIONS = ("edit_types", "table1", "table2", "training")


def embedded(path: Path) -> str | None:
    """A PNG file as an address that a page can hold, or None where there is none."""
    if not path.is_file():
        return None
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def figure_section(run: Path, name: str, out: Path) -> dict[str, Any]:
    """What the page shows of one notebook's figures: title, text, pictures with captions, and the paper's claims.

    Args:
        run: folder of the run.
        name: of the notebook.
        out: where the page will stand.

    Raises:
        InputError: a file beside the pictures is not what it should be, or the claims are not.
    """
    folder = run / "figures" / name
    about, told = read_about(folder), captions(folder)
    pictures = []
    for path in sorted(folder.glob("[!.]*.png")):
        (width,) = struct.unpack(">I", path.read_bytes()[16:20])  # as the PNG's header has it
        pdf = path.with_suffix(".pdf")
        pictures.append(
            {
                "image": embedded(path),
                "width": round(width * 96 / DPI),  # CSS pixels, of which an inch has 96
                "caption": told.get(path.stem, ""),
                "pdf": Path(os.path.relpath(pdf, out.parent)).as_posix() if pdf.is_file() else None,
            }
        )
    claims = claims_of_figure(run, about["source"]) if about["source"] else ""
    return {
        "name": name,
        "title": about["title"],
        "source": about["source"],
        "text": Markup(about["text"]),
        "pictures": pictures,
        "claims": Markup(claims),
    }


def table_section(run: Path, name: str, level: float) -> dict[str, Any]:
    """What the page shows of one table.

    Args:
        run: folder of the run.
        name: of the table.
        level: confidence level of the intervals.

    Raises:
        InputError: one of the table's files is missing or incomplete.
    """
    folder = run / "tables" / name
    facts = read_facts(folder)
    cells = read_numbers(folder / f"{name}.csv", ("method",))
    full = read_numbers(folder / f"{name}_full.csv", ("scope", "method", "metric", "low", "high"))
    section: dict[str, Any] = {"name": name, "title": title(name), "versus": None}
    path = folder / f"{name}_vs_paper.csv"
    if path.is_file() and len(versus := read_numbers(path, ("method", "metric", "ours", "paper", "same_sign"))):
        section |= {"versus": Markup(versus_html(versus)), "signs": sign_sentence(versus)}
    labels = [
        row["method"] + ("" if row["label"] == row["method"] else f" ({row['label']})") for _, row in facts.iterrows()
    ]
    return section | {
        "cells": Markup(headline_html(cells, full, facts)),
        "evidence": Markup(evidence_html(folder / "evidence.csv", level)),
        "notes": list(zip(labels, prose(facts), strict=True)),
    }


def study_section(run: Path, name: str) -> dict[str, Any]:
    """What the page shows of one study that has votes: whose they are, and the pictures of it with their texts."""
    origin = read_judgement_facts(run / "judgements" / name, ("origin",))["origin"]
    paths = {text: run / "figures" / "table2" / f"{part}_{name}.png" for part, text in STUDY_PICTURES.items()}
    return {"name": name, "origin": VOTES[origin], "pictures": [(text, embedded(p)) for text, p in paths.items()]}


def page(run: Path, out: Path, notebooks: Sequence[str] | None = None) -> str:
    """The report of `run` as HTML, with links relative to `out`.

    Args:
        run: folder of the run.
        out: where the page will stand.
        notebooks: those to show and to link; None = all that have a page in the run's folder.

    Raises:
        InputError: the config, the bench manifest, a table or its provenance is missing.
    """
    config = read_record(run)
    if notebooks is None:
        notebooks = sorted(path.stem for path in (run / "notebooks").glob("[!.]*.html"))
    names, level, notice = list(config["tables"]), config["statistics"]["level"], config["run"]["notice"]
    sections = [table_section(run, name, level) for name in names]
    samples = read_samples(run / "bench")
    training = run / "figures" / "training" / "training.csv"
    labels = [label for name in names for label in honest_labels(read_facts(run / "tables" / name), notice)]
    judged = [name for name, study in config["studies"].items() if study["origin"]["source"] != "none"]
    folders = [*(f"tables/{name}" for name in names), *(["table2"] if judged else [])]
    folders += ["claims"] if config["claims"] else []
    rows = {row for table in config["tables"].values() for row in table["rows"]}
    provenance = origin.provenances(run, config)
    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.get_template("report.html.j2").render(
        label=config["run"]["label"],
        labels=list(dict.fromkeys(labels)),
        css=Markup(render.css()),
        samples=len(samples),
        types=len(samples[["group", "edit_type"]].drop_duplicates()),
        methods=len(rows),
        date=datetime.date.today().isoformat(),
        tables=sections,
        table2=Markup(table2_html(run / "table2")) if judged else None,
        studies=[study_section(run, name) for name in judged],
        figures=[figure_section(run, name, out) for name in _among_figures(run, notebooks)],
        claims=Markup(claims_html(run / "claims" / "claims.csv")) if config["claims"] else None,
        level=level,
        legend=[(column(c).label, column(c).meaning) for c in MEASURED],
        pictures={name: embedded(run / "figures" / path) for name, path in PICTURES.items()},
        heat_maps=[(p.stem, embedded(p)) for p in sorted((run / "figures").glob(HEAT_MAPS))],
        training=Markup(render.plain_html(read_table(training, ("Model",)))) if training.is_file() else None,
        files=[(p.name, Path(os.path.relpath(p, out.parent)).as_posix()) for p in _files(run, notebooks, folders)],
        facts=origin.facts(run, config, provenance),
        stages=Markup(render.plain_html(origin.stages(provenance))),
        config=yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
    )


def _among_figures(run: Path, notebooks: Sequence[str]) -> list[str]:
    """The notebooks that are shown among the figures: those of the paper first, by number."""
    shown = [name for name in notebooks if name not in OWN_SECTIONS and (run / "figures" / name / ABOUT).is_file()]
    return sorted(shown, key=lambda name: (not name.startswith("fig"), name))


def _files(run: Path, notebooks: Sequence[str], folders: Sequence[str]) -> list[Path]:
    """The files that the page links: the notebooks, and all that the tables and claims in `folders` consist of."""
    files = [run / "notebooks" / f"{name}.html" for name in notebooks]
    for folder in folders:
        files += [p for p in sorted((run / folder).glob("[!.]*")) if p.name != "provenance.json"]
    return [path for path in files if path.is_file()]


def main() -> None:
    """Command line of the stage."""
    parser = stage.parser(__doc__)
    parser.add_argument("--run", type=Path, required=True, help="folder of the run, results/<run>")
    parser.add_argument("--notebooks", nargs="*", help="notebooks to show and to link (default: all with a page there)")
    arguments = parser.parse_args()
    inputs = {"config": arguments.run / "config.yaml", "tables": arguments.run / "tables"}
    facts: dict[str, Any] = {"module": "editclip.report.page", "force": arguments.force}
    with stage.output_file(arguments.out, config=None, inputs=inputs, **facts) as file:
        file.write_text(page(arguments.run, arguments.out, arguments.notebooks), encoding="utf-8")


if __name__ == "__main__":
    stage.run(main)
