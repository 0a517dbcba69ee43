"""The notebooks and the report, made from a planted run folder."""

import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import papermill
import pytest
import run_folder
from PIL import Image
from run_folder import LOSS, TYPES, make_table, planted_table, write_record, write_run

from editclip.errors import InputError
from editclip.report import evidence_table, figures, origin, page, picture_grid, record, training
from editclip.report.files import read_json, read_record, read_samples, read_table
from editclip.report.rows import read_facts
from editclip.storage import write_json

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A planted run with tables and the executed notebooks' figures."""
    return planted(tmp_path_factory.mktemp("run"), NOTEBOOKS)


def planted(folder: Path, notebooks: Sequence[str]) -> Path:
    """Fill `folder` with planted results, tables and the executed notebooks."""
    write_run(folder)
    table = planted_table()
    write_record(folder, table)
    make_table(folder, table, folder / "tables" / "table1")
    for notebook in notebooks:
        execute(notebook, folder, folder / f"{notebook}.ipynb")
    return folder


def execute(notebook: str, run_folder: Path, executed: Path, **parameters: object) -> None:
    source = str(ROOT / "notebooks" / f"{notebook}.ipynb")
    with pytest.MonkeyPatch.context() as patch:
        paths = [str(ROOT), str(ROOT / "tests" / "tables"), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        papermill.execute_notebook(
            source,
            str(executed),
            parameters={"run_folder": str(run_folder)} | parameters,
            progress_bar=False,
            cwd=str(ROOT),
        )


def test_the_notebooks_draw_what_the_report_shows(run: Path) -> None:
    for name in page.PICTURES.values():
        with Image.open(run / "figures" / name) as image:
            assert min(image.size) > 200
    assert {p.name for p in (run / "figures").glob(page.HEAT_MAPS)} >= {"heat_map_ec2ec.png", "heat_map_psnr.png"}
    text = str(nbformat.read(run / "table1.ipynb", as_version=4))
    assert "Planted scores of a test." in text and "0.435" in text and "±" in text


def test_the_notebooks_take_other_methods_and_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a method "editclip" or a seed 0, the rule looks at the first method that edits, over all its seeds."""
    methods = {"copy_query": ("none", "own", (1,), 0.0), "ip2p": ("text", "own", (2, 10), 0.2)}
    monkeypatch.setattr(run_folder, "METHODS", methods)
    run = planted(tmp_path, ["pictures"])
    with Image.open(run / "figures" / "pictures" / "grid.png") as image:
        assert min(image.size) > 200
    facts = read_facts(run / "tables" / "table1")
    scores, seed = picture_grid.grid_reference(run, facts, "editclip")
    values = scores[scores["metric"] == "ec2ec"].groupby("sample_id")["value"].apply(lambda v: sorted(map(float, v)))
    assert seed == 2
    assert values["01-to_night-e0-q0"] == pytest.approx([0.2 + 0.1 * 2, 0.2 + 0.1 * 10])
    assert picture_grid.grid_reference(run, facts, "copy_query")[1] == 1
    assert picture_grid.grid_reference(run, facts[:1], None)[1] == 1  # nothing but a control
    samples = read_samples(run / "bench")
    _, rows = picture_grid.grid_rows(run, samples, samples.index[:1], ["ip2p"], 1)
    assert rows[0].images[3] == run / "edits" / "ip2p" / "seed=2" / "01-to_night-e0-q0.png"  # it has no seed 1
    shutil.rmtree(run / "scores" / "ip2p")
    assert picture_grid.grid_reference(run, facts, "editclip")[1] == 1  # the next that has any
    shutil.rmtree(run / "scores")
    with pytest.raises(InputError, match="no method in .*scores has EC2EC scores"):
        picture_grid.grid_reference(run, facts, "editclip")


def test_a_failed_notebook_leaves_the_error_in_the_executed_copy(tmp_path: Path) -> None:
    with pytest.raises(papermill.PapermillExecutionError, match=r"config\.yaml is missing"):
        execute("table1", tmp_path, tmp_path / "log.ipynb")
    outputs = [o for c in nbformat.read(tmp_path / "log.ipynb", as_version=4).cells for o in c.get("outputs", [])]
    assert any(o.output_type == "error" for o in outputs)


def test_the_report_is_one_file_with_labels_pictures_and_working_links(run: Path) -> None:
    (run / "notebooks").mkdir(exist_ok=True)
    (run / "notebooks" / "table1.html").write_text("<p>notebook</p>")
    out = run / "report.html"
    html = page.page(run, out)
    for text in ("Planted scores of a test.", "random weights", "No human judged", "ip2p", "name: planted"):
        assert text in html
    drawn = len(page.PICTURES) + len(list((run / "figures").glob(page.HEAT_MAPS)))
    assert html.count("data:image/png;base64,") == drawn
    assert not re.search(r'(src|href)="(https?:)?//', html)
    links = re.findall(r'href="([^"#]+)"', html)
    assert "notebooks/table1.html" in links and all((out.parent / link).is_file() for link in links)


def test_the_report_does_without_pictures_and_logs(run: Path, tmp_path: Path) -> None:
    for part in ("bench", "tables"):
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


def test_the_grid_shows_the_median_sample_of_types_from_every_family(run: Path) -> None:
    """EC2EC rises with the sample's number, so the lower median of samples 0..5 of a type is number 2."""
    samples = read_samples(run / "bench")
    scores = read_table(run / "scores" / "editclip" / "editclip" / "seed=0.csv", ["sample_id", "metric"])
    shuffled = scores.sample(frac=1, random_state=0)
    assert picture_grid.exemplar_rows(samples, shuffled, 3) == [f"01-{kind}-e0-q2" for kind in TYPES]
    assert len(picture_grid.exemplar_rows(samples, scores, 2)) == 2
    one_family = samples.assign(family=["a"] * 12 + ["b"] * 6)
    families = one_family.loc[picture_grid.exemplar_rows(one_family, scores, 2), "family"]
    assert families.tolist() == ["a", "b"]
    with pytest.raises(InputError, match="no EC2EC"):
        picture_grid.exemplar_rows(samples, scores.assign(status="failed"), 2)


def test_pixels_stay_pixels() -> None:
    small = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    large = picture_grid.enlarged(small, 128)
    assert large.shape == (128, 128, 3)
    assert (large[::16, ::16] == np.asarray(small)).all() and (large[15::16, 15::16] == np.asarray(small)).all()
    assert picture_grid.enlarged(Image.new("RGB", (512, 512))).shape == (512, 512, 3)


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


def test_extremes_are_the_best_median_and_worst_over_all_seeds(run: Path) -> None:
    """EC2EC rises by 0.01 a sample over 18 samples, and by 0.1 a seed: means are 0.35 + 0.01 i."""
    samples = read_samples(run / "bench")
    scores, _ = picture_grid.grid_reference(run, read_facts(run / "tables" / "table1"), "editclip")
    found = picture_grid.extremes(samples, scores.sample(frac=1, random_state=0))
    assert list(found) == ["best", "median", "worst"]
    assert [value for _, value in found.values()] == pytest.approx([0.52, 0.43, 0.35])
    assert found["worst"][0] == samples.index[0] and found["best"][0] == samples.index[-1]


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
    execute("table1", copy, tmp_path / "executed.ipynb", table="ablations")
    text = str(nbformat.read(tmp_path / "executed.ipynb", as_version=4))
    assert "The paper has no such table." in text and "shuffled-editclip" not in text


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
