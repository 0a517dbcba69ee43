"""The notebooks and the report, made from a planted run folder."""

import json
import os
import re
import shutil
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import run_folder
import yaml
from drawing import draw
from PIL import Image
from planted_retrieval import write_planted
from run_folder import LOSS, make_table, planted_table, write_record, write_run

from editclip.errors import InputError
from editclip.report import (
    evidence_table,
    figure_claims,
    figures,
    notebook,
    origin,
    page,
    picture_choice,
    picture_grid,
    record,
    training,
)
from editclip.report.claims import COLUMNS
from editclip.report.figure_folder import captions, read_about, write_about
from editclip.report.files import read_json, read_record, read_samples
from editclip.report.notebook_code import declaration, inputs
from editclip.report.rows import read_facts
from editclip.storage import write_json

ROOT = Path(__file__).parents[2]
PARTS = {"bench": [], "claims": [], "judgements": [], "weights": []}  # of the planted run, whose one table is table1
NOTEBOOKS = [
    path.stem
    for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
    if inputs(declaration(path), PARTS, {"table1": {"edits": [], "scores": [], "tables": []}}) is not None
]
CLAIMS = {  # source: claim
    "Sections 1 and 4.2, Figure 4": "It is the best.",
    "Appendix C, Figure 10a": "It cannot deform.",
    "Section 4.2, Table 1 (RT)": "It is fast.",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A planted run with table, claims and all that the notebooks draw."""
    folder = planted(tmp_path_factory.mktemp("run"))
    write_claims(folder)
    (folder / "notebooks").mkdir()
    for name in NOTEBOOKS:
        draw(name, folder)
        (folder / "notebooks" / f"{name}.html").write_text("<p>notebook</p>")
    return folder


def planted(folder: Path) -> Path:
    """Fill `folder` with planted results and their table."""
    write_run(folder)
    table = planted_table()
    write_record(folder, table)
    write_planted(folder)
    make_table(folder, table, folder / "tables" / "table1")
    return folder


def write_claims(folder: Path) -> None:
    """Hold the run against `CLAIMS`, all of which it supports."""
    config = read_record(folder)
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {"claims": {"file": "claims.yaml"}}, sort_keys=False))
    row = {"verdict": "supported", "effect": "0.5", "low": "0.25", "high": "0.75", "n": "18"}
    rows = [{"id": f"c{i}", "source": s, "claim": text, **row} for i, (s, text) in enumerate(CLAIMS.items())]
    (folder / "claims").mkdir()
    pd.DataFrame(rows).reindex(columns=list(COLUMNS)).to_csv(folder / "claims" / "claims.csv", index=False)


def rendered(name: str, folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The page that the stage makes of a notebook in `out`."""
    paths = [str(ROOT), str(ROOT / "tests" / "tables"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    source, html = ROOT / "notebooks" / f"{name}.ipynb", out / f"{name}.html"
    given = [source, "--run", folder, "--executed", out / "log" / f"{name}.ipynb", "--out", html]
    monkeypatch.setattr("sys.argv", ["notebook", *map(str, given)])
    notebook.main()
    return html.read_text(encoding="utf-8")


def test_a_notebook_becomes_a_page_that_asks_the_network_for_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    shutil.rmtree(copy / "figures" / "table1")
    html = rendered("table1", copy, tmp_path / "out", monkeypatch)
    assert "Planted scores of a test." in html and "0.435" in html and "±" in html
    assert "<title>table1</title>" in html and not re.search(r'(src|href)="(https?:)?//', html)
    assert (copy / "figures" / "table1" / "overall.png").is_file()
    about = read_about(copy / "figures" / "table1")
    assert about["title"] == "A table" and about["source"] is None
    assert (
        about["text"].startswith("<p>The table of the run") and "<code>editclip.report.tables</code>" in about["text"]
    )
    made = read_json(tmp_path / "out" / "table1.html.provenance.json")
    assert made["code"]["module"] == "editclip.report.notebook"


def test_a_failed_notebook_is_one_sentence_and_leaves_no_page_but_the_executed_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError) as failed:
        rendered("table1", tmp_path / "run", tmp_path, monkeypatch)
    said = str(failed.value)
    assert 'table1.ipynb, "config = read_record(run)": InputError:' in said and "config.yaml is missing" in said
    assert "\n" not in said and f"({tmp_path / 'log' / 'table1.ipynb'} has the traceback)" in said
    outputs = [
        o for c in nbformat.read(tmp_path / "log/table1.ipynb", as_version=4).cells for o in c.get("outputs", [])
    ]
    assert any(o.output_type == "error" for o in outputs)
    assert not list(tmp_path.rglob("*.html")) and not (tmp_path / "run" / "figures").exists()


def test_the_notebooks_draw_what_the_report_shows(run: Path) -> None:
    for name in page.PICTURES.values():
        with Image.open(run / "figures" / name) as image:
            assert min(image.size) > 200
    assert {p.name for p in (run / "figures").glob(page.HEAT_MAPS)} >= {"heat_map_ec2ec.png", "heat_map_psnr.png"}
    for name in set(NOTEBOOKS) - set(page.OWN_SECTIONS):
        pictures = list((run / "figures" / name).glob("*.png"))
        assert pictures and all(path.with_suffix(".pdf").is_file() for path in pictures)
        assert captions(run / "figures" / name).keys() == {path.stem for path in pictures}


def test_the_notebooks_take_other_methods_and_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a method "editclip" or a seed 0, the rule looks at the first method that edits, over all its seeds."""
    methods = {"copy_query": ("none", "own", (1,), 0.0), "ip2p": ("text", "own", (2, 10), 0.2)}
    monkeypatch.setattr(run_folder, "METHODS", methods)
    run = planted(tmp_path)
    assert draw("fig04_comparison", run)["titles"][3:] == ["ip2p", "ground truth"]
    with Image.open(run / "figures" / "fig04_comparison" / "fig04.png") as image:
        assert min(image.size) > 200
    facts = read_facts(run / "tables" / "table1")
    scores, seed = picture_choice.grid_reference(run, facts, "editclip")
    values = scores[scores["metric"] == "ec2ec"].groupby("sample_id")["value"].apply(lambda v: sorted(map(float, v)))
    assert seed == 2 and set(scores["method"]) == {"ip2p"}
    assert values["01-to_night-e0-q0"] == pytest.approx([0.2 + 0.1 * 2, 0.2 + 0.1 * 10])
    assert picture_choice.grid_reference(run, facts, "copy_query")[1] == 1
    assert picture_choice.grid_reference(run, facts[:1], None)[1] == 1  # nothing but a control
    samples = read_samples(run / "bench")
    _, rows = picture_grid.grid_rows(run, samples, samples.index[:1], ["ip2p"], 1)
    assert rows[0].images[3] == run / "edits" / "ip2p" / "seed=2" / "01-to_night-e0-q0.png"  # it has no seed 1
    shutil.rmtree(run / "scores" / "ip2p")
    assert picture_choice.grid_reference(run, facts, "editclip")[1] == 1  # the next that has any
    shutil.rmtree(run / "scores")
    with pytest.raises(InputError, match="no method in .*scores has EC2EC scores"):
        picture_choice.grid_reference(run, facts, "editclip")


def test_a_bench_of_another_shape_is_drawn_too(run: Path, tmp_path: Path) -> None:
    """No families, texts or ground truth; and failures by family, where the families are the paper's."""
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    manifest = pd.read_csv(run / "bench" / "manifest.csv", dtype=str, keep_default_na=False)
    manifest.assign(family="", instruction="", ground_truth="").to_csv(copy / "bench" / "manifest.csv", index=False)
    drawn = {name: draw(name, copy) for name in NOTEBOOKS if name.startswith(("fig04", "fig08", "fig10", "fig14"))}
    assert "ground truth" not in drawn["fig04_comparison"]["titles"]
    assert len(drawn["fig08_queries"]["rows"]) == len(drawn["fig14_gallery"]["rows"]) == len(run_folder.TYPES)
    manifest.assign(family=manifest["family"].replace("addition", "removal")).to_csv(
        copy / "bench" / "manifest.csv", index=False
    )
    shutil.rmtree(copy / "figures" / "fig10_failures")
    assert len(draw("fig10_failures", copy, lowest=3)["rows"]) == 3
    assert captions(copy / "figures" / "fig10_failures").keys() == {"fig10_removal", "fig10_worst"}


def test_the_report_is_one_file_with_labels_pictures_and_working_links(run: Path) -> None:
    out = run / "report.html"
    html = page.page(run, out)
    for text in ("Planted scores of a test.", "random weights", "No human judged", "ip2p", "name: planted"):
        assert text in html
    drawn = len(page.PICTURES) + len(list((run / "figures").glob(page.HEAT_MAPS)))
    among_figures = [p for p in run.glob("figures/*/*.png") if p.parent.name not in page.OWN_SECTIONS]
    assert html.count("data:image/png;base64,") == drawn + len(among_figures)
    assert not re.search(r'(src|href)="(https?:)?//', html)
    links = re.findall(r'href="([^"#]+)"', html)
    assert {"notebooks/table1.html", "figures/fig04_comparison/fig04.pdf"} <= set(links)
    assert all((out.parent / link).is_file() for link in links)


def test_a_figure_stands_in_the_report_with_text_captions_and_its_claims(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    folder = copy / "figures" / "own"
    shutil.copytree(copy / "figures" / "fig04_comparison", folder)
    write_about(folder, "My & <own>", "<p>By <em>this</em> rule.</p>", "Figure 10")
    html = page.page(copy, copy / "report.html", ["own", "fig04_comparison", "table1"])
    assert re.findall(r'<article id="(\w+)">', html) == ["fig04_comparison", "own"]  # the paper's come first
    mine = html[html.index('id="own"') :]
    mine = mine[: mine.index("</article>")]
    assert "My &amp; &lt;own&gt; <small>Figure 10</small>" in mine and "<p>By <em>this</em> rule.</p>" in mine
    assert re.findall(r"<figcaption>(.*?) <a", mine) == [text for _, text in sorted(captions(folder).items())]
    assert "It cannot deform." in mine and "✓ supported" in mine and "It is the best." not in mine
    with Image.open(folder / "fig04.png") as image:
        assert f"--width: {round(image.width * 96 / 160)}px" in mine  # as large as it was drawn: 160 px an inch
    assert 'href="notebooks/table1.html"' in html and 'href="notebooks/training.html"' not in html
    config = read_record(copy)
    (copy / "config.yaml").write_text(yaml.safe_dump(config | {"claims": None}))
    assert "It cannot deform." not in page.page(copy, copy / "report.html")  # what is left there is of another config


@pytest.mark.parametrize(
    ("text", "source", "named"),
    [
        ("Sections 1 and 4.2, Figure 4", "Figure 4", True),
        ("Sections 1 and 4.2, Figure 4", "Figure 1", False),
        ("Section 4.2, Figure 14", "Figure 4", False),
        ("Appendix C, Figure 10a", "Figure 10", True),
        ("Appendix C, Figure 10a", "Figure 1", False),
        ("Figures 4 and 7, Table 1", "Figure 7", True),
        ("Figures 4 and 7, Table 1", "Figure 1", False),
        ("Section 4.2, Table 1 (WR-Edit)", "Table 1", True),
        ("Section 4.2, Table 1", "Section 4", False),
    ],
)
def test_a_source_names_its_figure_and_no_other(text: str, source: str, named: bool) -> None:
    assert figure_claims.names(text, source) is named


def test_the_claims_of_a_figure_are_those_that_name_it(run: Path) -> None:
    html = figure_claims.claims_of_figure(run, "Figure 4")
    assert html.startswith('<table class="evidence">') and "It is the best." in html and "0.500" in html
    assert html.count('class="met"') == 1 and figure_claims.claims_of_figure(run, "Figure 7") == ""


def test_a_picture_is_the_same_bytes_at_any_time_as_png_and_as_pdf(tmp_path: Path) -> None:
    def drawn(name: str, **caption: str) -> tuple[bytes, bytes]:
        axes = figures.plt.figure(figsize=(2, 2)).add_axes((0, 0, 1, 1))
        axes.plot([0, 1], [1, 0], label="a line")
        path = figures.save(axes.figure, tmp_path / name / "a.png", **caption)
        return path.read_bytes(), path.with_suffix(".pdf").read_bytes()

    png, pdf = drawn("one", caption="A line.")
    assert (png, pdf) == drawn("two") and pdf.startswith(b"%PDF") and b"Date" not in pdf
    assert captions(tmp_path / "one") == {"a": "A line."} and captions(tmp_path / "two") == {}
    assert {p.name for p in (tmp_path / "two").iterdir()} == {"a.png", "a.pdf"}
    assert not figures.plt.get_fignums()


def test_the_report_does_without_pictures_and_logs(run: Path, tmp_path: Path) -> None:
    for part in ("bench", "tables", "claims"):
        shutil.copytree(run / part, tmp_path / part)
    shutil.copy(run / "config.yaml", tmp_path)
    html = page.page(tmp_path, tmp_path / "report.html")
    assert "<img" not in html and "ip2p" in html


def test_the_report_skips_what_a_killed_job_left_or_another_run_trained(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    left = copy / "weights" / ".clip.x1" / "logs"
    shutil.copytree(copy / "weights" / "clip" / "logs", left)
    linked = copy / "weights" / "given" / "logs"
    linked.mkdir(parents=True)
    (linked / "metrics.jsonl").symlink_to(copy / "weights" / "clip" / "logs" / "metrics.jsonl")
    (copy / "edits" / "ip2p" / ".seed=0.x2").mkdir()
    (copy / "edits" / "ip2p" / ".seed=0.x2" / "provenance.json").write_text("{")
    (copy / "notebooks").mkdir(exist_ok=True)
    (copy / "notebooks" / ".table1.x3.html").write_text("<p>half")
    (copy / "tables" / "dropped").mkdir()
    (copy / "tables" / "dropped" / "provenance.json").write_text("{}")
    config = read_record(copy)
    assert training.read_logs(copy / "weights", config["weights"]).keys() == {"clip"}
    assert origin.provenances(copy, config) == origin.provenances(run, config)
    assert ".table1" not in page.page(copy, copy / "report.html")


def test_a_report_without_config_or_tables_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.yaml is missing"):
        page.page(tmp_path, tmp_path / "report.html")
    shutil.copy(run / "config.yaml", tmp_path)
    with pytest.raises(InputError, match=r"rows\.csv is missing"):
        page.page(tmp_path, tmp_path / "report.html")
    (tmp_path / "config.yaml").write_text("run: {}\n")
    with pytest.raises(InputError, match="no section 'statistics'"):
        page.page(tmp_path, tmp_path / "report.html")


def test_the_heat_map_puts_the_hardest_type_on_top() -> None:
    metrics = ["ec2ec", "ec2ec", "lpips_alex", "lpips_alex"]
    full = pd.DataFrame({"scope_value": ["a", "b"] * 2, "metric": metrics, "mean": [0.9, 0.1] * 2})
    full = full.assign(scope="type", method="m")

    def order(metric: str) -> list[str]:
        return [t.get_text() for t in figures.heat_map(full, metric).axes[0].get_yticklabels()]

    assert order("ec2ec") == ["b", "a"]
    assert order("lpips_alex") == ["a", "b"]
    with pytest.raises(InputError, match="no rows of 'psnr'"):
        figures.heat_map(full, "psnr")


def summary(metric: str, means: dict[tuple[str, str], float], scope: str = "type") -> pd.DataFrame:
    """Rows of table1_full.csv by (scope value, method), each with an interval of ± 0.1."""
    rows = [(scope, value, method, metric, mean, mean - 0.1, mean + 0.1) for (value, method), mean in means.items()]
    return pd.DataFrame(rows, columns=["scope", "scope_value", "method", "metric", "mean", "low", "high"])


def facts(**control: str) -> pd.DataFrame:
    return pd.DataFrame({"method": list(control), "control": list(control.values())})


def test_a_method_looks_the_same_everywhere_and_controls_are_grey() -> None:
    looks = figures.looks(facts(copy="yes", ip2p="no", editclip="no", truth="yes"))
    assert list(looks) == ["copy", "ip2p", "editclip", "truth"]
    assert [look.control for look in looks.values()] == [True, False, False, True]
    assert len({(look.colour, look.marker) for look in looks.values()}) == 4
    assert {look.colour for look in looks.values() if look.control} == {figures.GREY}


def test_intervals_are_drawn_around_the_means_and_the_hardest_type_is_on_top() -> None:
    full = summary("ec2ec", {("easy", "m"): 0.8, ("hard", "m"): 0.2, ("easy", "copy"): 0.1, ("hard", "copy"): 0.9})
    looks = figures.looks(facts(m="no", copy="yes"))
    axes = figures.by_scope(full, looks, "type", ["ec2ec"]).axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["hard", "easy"]  # the control does not count
    drawn = [(segment[0][0], segment[1][0]) for lines in axes.collections for segment in lines.get_segments()]
    assert np.array(sorted(drawn)) == pytest.approx(np.array([(0.0, 0.2), (0.1, 0.3), (0.7, 0.9), (0.8, 1.0)]))
    hardest = figures.by_scope(full, looks, "type", ["ec2ec"], most=1).axes[0]
    assert [t.get_text() for t in hardest.get_yticklabels()] == ["hard"]
    without = figures.by_scope(full.drop(columns=["low", "high"]), looks, "type", ["ec2ec"]).axes[0]
    assert sorted(x for line in without.lines for x in line.get_xdata()) == [0.1, 0.2, 0.8, 0.9]
    with pytest.raises(InputError, match="no rows of 'psnr' per type"):
        figures.by_scope(full, looks, "type", ["ec2ec", "psnr"])


def test_a_metric_without_values_gets_no_panel() -> None:
    means = {("", "m"): 0.5, ("", "copy"): float("nan")}
    full = pd.concat([summary("ec2ec", means, "all"), summary("psnr", dict.fromkeys(means, float("nan")), "all")])
    shown = figures.measured(full, "all", ["psnr", "ec2ec", "ssim"])
    assert shown == ["ec2ec"]
    axes = figures.overall(full, figures.looks(facts(m="no", copy="yes")), shown).axes[0]
    assert [x for line in axes.lines for x in line.get_xdata()] == [0.5]


def test_training_curves_part_losses_units_and_single_values() -> None:
    log = pd.DataFrame({"step": [1, 2, 3], "loss": [3.0, 2.0, 1.0], "validation/loss": [None, 2.5, 1.5]})
    log = log.assign(**{"validation/recall_at_1": [None, 0.1, 0.2], "validation/psnr": [None, None, 30.0]})
    found = training.panels("clip", log, LOSS)
    assert [(p.unit, list(p.series)) for p in found] == [
        (LOSS, ["training", "held out"]), ("share", ["recall at 1"]),
    ]  # fmt: skip
    assert len(training.curves({"clip": log, "other": log}, {}).axes) == 6  # two models, two units, whole rows of three
    ends = training.summary({"clip": log})
    assert ends["Held out"].tolist() == ["loss 1.5, recall at 1 0.2, psnr 30"]


EVIDENCE = "claim,group,family,estimate,low,high,n,bar,met,note\n"


def test_evidence_shows_value_interval_bar_and_verdict(tmp_path: Path) -> None:
    path = tmp_path / "evidence.csv"
    path.write_text(EVIDENCE + "a <b>,One,,0.3,0.25,0.411,168,> 0.1,yes,paired\nc,One,,-2,,,,,no,\nd,Two,,,,,,> 3,,\n")
    html = evidence_table.evidence_html(path, 0.95)
    for text in ("a &lt;b&gt;<small>paired</small>", "<b>0.300</b> <small>[0.250, 0.411]</small>", "168", "&gt; 0.1"):
        assert text in html
    assert "<b>−2.000</b></td>" in html and "✓ met" in html and "✗ not met" in html
    assert html.count('class="group"') == 2 and html.count('class="open"') == 1


def test_families_are_folded_under_their_claim_lowest_first(tmp_path: Path) -> None:
    path = tmp_path / "evidence.csv"
    rows = ["a,One,,0.8,0.7,0.9,24,,yes,", "a,One,style,0.9,,,8,,yes,", "a,One,size,0.2,,,8,,no,", "b,One,,1,,,24,,,"]
    path.write_text(EVIDENCE + "\n".join(rows) + "\n")
    html = evidence_table.evidence_html(path, 0.95)
    folded = html[html.index("<details>") : html.index("</details>")]
    assert "2 families, not met: size" in folded and folded.index(">size<") < folded.index(">style<")
    assert html.index("<b>0.800</b>") < html.index("<details>") < html.index("<b>1.000</b>")


@pytest.mark.parametrize(("row", "said"), [("a,b,,0.3,,,,,perhaps,", "use yes, no"), ("a,b,,x,,,,,yes,", "no number")])
def test_evidence_that_says_nothing_is_refused(tmp_path: Path, row: str, said: str) -> None:
    path = tmp_path / "evidence.csv"
    path.write_text(EVIDENCE + row + "\n")
    with pytest.raises(InputError, match=said):
        evidence_table.evidence_html(path, 0.95)


def test_the_report_shows_the_evidence_of_a_table_below_it(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    path = copy / "tables" / "table1" / "evidence.csv"
    assert "No claim" not in page.page(copy, copy / "report.html")
    path.write_text(EVIDENCE + "a,b,,1.25,,,,,yes,\n")
    html = page.page(copy, copy / "report.html")
    assert (
        html.index('id="table1"')
        < html.index('id="evidence-table1"')
        < html.index("1.250")
        < html.index('id="overall"')
    )
    assert 'href="tables/table1/evidence.csv"' in html
    path.write_text(EVIDENCE)
    assert "No claim follows from these rows." in page.page(copy, copy / "report.html")


def test_every_table_has_its_section_and_may_be_drawn(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    second = planted_table("ablations", ["ip2p", "editclip"], paper=None)
    make_table(copy, second, copy / "tables" / "ablations")
    write_record(copy, planted_table(), second)
    html = page.page(copy, copy / "report.html")
    assert html.index('id="table1"') < html.index('id="ablations"')
    assert "<h2>Ablations</h2>" in html and 'id="paper-table1"' in html and 'id="paper-ablations"' not in html
    assert "editclip (The editclip)" in html and html.count("No human judged") == 1
    drawn = draw("table1", copy, table="ablations")
    assert drawn["cells"]["method"].tolist() == ["ip2p", "editclip"]
    assert not drawn["path"].is_file(), "the paper has no such table"


def test_curves_are_in_the_order_of_the_config_and_named_by_the_kind_of_weights(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run / "weights", tmp_path / "weights"))
    shutil.copytree(copy / "clip", copy / "later")
    shutil.copytree(copy / "clip", copy / "dropped")
    weights = read_record(run)["weights"]
    assert list(training.read_logs(copy, weights)) == ["later", "clip"]
    assert training.loss_labels(weights) == {"later": "loss", "clip": LOSS, "given": LOSS}


def test_the_record_keeps_the_order_and_reads_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"run": {"notice": "a: “b”"}, "statistics": {}, "weights": {"z": {}, "a": {}}, "methods": {}, "tables": {}}
    monkeypatch.setattr("sys.argv", ["record", "--config", json.dumps(config), "--out", str(tmp_path / "config.yaml")])
    record.main()
    assert read_record(tmp_path) == config and list(read_record(tmp_path)["weights"]) == ["z", "a"]


def test_origin_names_code_seeds_and_trunk_and_adds_up_time(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    made = read_json(copy / "tables" / "table1" / "provenance.json")
    inputs = {"clip": {"path": "results/planted/weights/clip", "sha256": "c" * 64}}
    for shard in (0, 1):
        part = copy / "shards" / "ip2p" / f"{shard}-of-2"
        part.mkdir(parents=True)
        code = made["code"] | {"commit": "f" * 40, "dirty": True}
        write_json(
            part / "provenance.json", made | {"code": code, "seconds": 30, "peak_memory_mib": 9, "inputs": inputs}
        )
        scores = copy / "score_shards" / "ip2p" / f"{shard}-of-2" / "lpips"
        scores.mkdir(parents=True)
        write_json(scores / "provenance.json", made | {"seconds": 60, "peak_memory_mib": 7})
    config = read_record(copy)
    provenances = origin.provenances(copy, config)
    facts = dict(origin.facts(copy, config, provenances))
    assert "git ffffffffff with uncommitted changes" in facts["Code"]
    assert facts["Weights"] == "clip cccccccccccc" and facts["LPIPS trunk"].startswith("random_trunk")
    rows = origin.stages(provenances).set_index("Stage")
    assert rows.loc["edits: ip2p", ["Jobs", "Minutes", "Peak memory MiB"]].tolist() == ["2", "1.00", "9"]
    assert float(rows.loc["scores: lpips", "Minutes"]) >= 2
