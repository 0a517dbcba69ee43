"""The notebook and the report, made from a planted run folder."""

import os
import re
import shutil
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import papermill
import pytest
import run_folder
from PIL import Image
from run_folder import TYPES, config, write_run

from editclip.errors import InputError
from editclip.report import figures, page, tables
from editclip.report.results import read_samples, read_table

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A planted run with tables and the executed notebook's figures."""
    return planted(tmp_path_factory.mktemp("run"))


def planted(folder: Path) -> Path:
    """Fill `folder` with planted results, tables and the executed notebook."""
    write_run(folder)
    settings = config(ROOT / "paper" / "table1.csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["tables", "--config", _yaml(settings, folder), "--bench", str(folder / "bench"),
                                   "--scores", str(folder / "scores"), "--edits", str(folder / "edits"), "--out",
                                   str(folder / "tables")])  # fmt: skip
        tables.main()
    execute(folder, folder / "executed.ipynb")
    return folder


def _yaml(settings: dict, folder: Path) -> str:
    import json

    path = folder / "config.json"
    path.write_text(json.dumps(settings))
    return str(path)


def execute(run_folder: Path, executed: Path) -> None:
    source = str(ROOT / "notebooks" / "table1.ipynb")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
        papermill.execute_notebook(
            source,
            str(executed),
            parameters={"run_folder": str(run_folder), "types": 2},
            progress_bar=False,
            cwd=str(ROOT),
        )


def test_the_notebook_draws_its_figures(run: Path) -> None:
    for name in ("grid.png", "type_ec2ec.png", "type_psnr.png"):
        with Image.open(run / "figures" / name) as image:
            assert min(image.size) > 200
    text = str(nbformat.read(run / "executed.ipynb", as_version=4))
    assert "Planted scores of a test." in text and "0.435" in text


def test_the_notebook_takes_other_methods_and_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a method "editclip" or a seed 0, the rule looks at the first method that edits, over all its seeds."""
    methods = {"copy_query": ("none", "own", (1,), 0.0), "ip2p": ("text", "own", (2, 10), 0.2)}
    monkeypatch.setattr(run_folder, "METHODS", methods)
    run = planted(tmp_path)
    with Image.open(run / "figures" / "grid.png") as image:
        assert min(image.size) > 200
    table = read_table(run / "tables" / "table1.csv", ["method", "conditioning"])
    scores, seed = figures.grid_reference(run, table, "editclip")
    values = scores[scores["metric"] == "ec2ec"].groupby("sample_id")["value"].apply(lambda v: sorted(map(float, v)))
    assert seed == 2
    assert values["01-to_night-e0-q0"] == pytest.approx([0.2 + 0.1 * 2, 0.2 + 0.1 * 10])
    assert figures.grid_reference(run, table, "copy_query")[1] == 1
    assert figures.grid_reference(run, table[:1], "editclip")[1] == 1  # nothing but a control
    samples = read_samples(run / "bench")
    _, rows = figures.grid_rows(run, samples, samples.index[:1], ["ip2p"], 1)
    assert rows[0].images[3] == run / "edits" / "ip2p" / "seed=2" / "01-to_night-e0-q0.png"  # it has no seed 1
    shutil.rmtree(run / "scores" / "ip2p")
    with pytest.raises(InputError, match="ip2p/editclip has no scores"):
        figures.grid_reference(run, table, "editclip")


def test_a_failed_notebook_leaves_the_error_in_the_executed_copy(tmp_path: Path) -> None:
    with pytest.raises(papermill.PapermillExecutionError, match=r"table1\.csv is missing"):
        execute(tmp_path, tmp_path / "log.ipynb")
    outputs = [o for c in nbformat.read(tmp_path / "log.ipynb", as_version=4).cells for o in c.get("outputs", [])]
    assert any(o.output_type == "error" for o in outputs)


def test_the_report_is_one_file_with_labels_pictures_and_working_links(run: Path) -> None:
    (run / "notebooks").mkdir(exist_ok=True)
    (run / "notebooks" / "table1.html").write_text("<p>notebook</p>")
    out = run / "report.html"
    html = page.page(run, out)
    for text in ("Planted scores of a test.", "random weights", "No human judged", "ip2p"):
        assert text in html
    assert html.count("data:image/png;base64,") == 4  # grid, two plots, training curves
    assert not re.search(r'(src|href)="(https?:)?//', html)
    links = re.findall(r'href="([^"#]+)"', html)
    assert "notebooks/table1.html" in links and all((out.parent / link).is_file() for link in links)


def test_the_report_does_without_pictures_and_logs(run: Path, tmp_path: Path) -> None:
    for part in ("bench", "tables"):
        shutil.copytree(run / part, tmp_path / part)
    html = page.page(tmp_path, tmp_path / "report.html")
    assert "<img" not in html and "ip2p" in html


def test_the_report_skips_what_a_killed_job_left(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    left = copy / "weights" / ".clip.x1" / "logs"
    shutil.copytree(copy / "weights" / "clip" / "logs", left)
    (copy / "edits" / "ip2p" / ".seed=0.x2").mkdir()
    (copy / "edits" / "ip2p" / ".seed=0.x2" / "provenance.json").write_text("{")
    (copy / "notebooks").mkdir(exist_ok=True)
    (copy / "notebooks" / ".table1.x3.html").write_text("<p>half")
    assert page.read_logs(copy / "weights").keys() == {"clip"}
    assert page.provenance_lines(copy) == page.provenance_lines(run)
    assert ".table1" not in page.page(copy, copy / "report.html")


def test_a_report_without_tables_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"provenance\.json is missing"):
        page.page(tmp_path, tmp_path / "report.html")


def test_the_grid_shows_the_median_sample_of_types_from_every_family(run: Path) -> None:
    """EC2EC rises with the sample's number, so the lower median of samples 0..5 of a type is number 2."""
    samples = read_samples(run / "bench")
    scores = read_table(run / "scores" / "editclip" / "editclip" / "seed=0.csv", ["sample_id", "metric"])
    shuffled = scores.sample(frac=1, random_state=0)
    assert figures.exemplar_rows(samples, shuffled, 3) == [f"01-{kind}-e0-q2" for kind in TYPES]
    assert len(figures.exemplar_rows(samples, scores, 2)) == 2
    one_family = samples.assign(family=["a"] * 12 + ["b"] * 6)
    families = one_family.loc[figures.exemplar_rows(one_family, scores, 2), "family"]
    assert families.tolist() == ["a", "b"]
    with pytest.raises(InputError, match="no EC2EC"):
        figures.exemplar_rows(samples, scores.assign(status="failed"), 2)


def test_pixels_stay_pixels() -> None:
    small = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    large = figures.enlarged(small, 128)
    assert large.shape == (128, 128, 3)
    assert (large[::16, ::16] == np.asarray(small)).all() and (large[15::16, 15::16] == np.asarray(small)).all()
    assert figures.enlarged(Image.new("RGB", (512, 512))).shape == (512, 512, 3)


def test_the_heat_map_puts_the_hardest_type_on_top() -> None:
    metrics = ["ec2ec", "ec2ec", "lpips_alex", "lpips_alex"]
    full = pd.DataFrame({"scope_value": ["a", "b"] * 2, "metric": metrics, "mean": [0.9, 0.1] * 2})
    full = full.assign(scope="type", method="m")

    def order(metric: str) -> list[str]:
        return [t.get_text() for t in figures.per_type(full, metric).axes[0].get_yticklabels()]

    assert order("ec2ec") == ["b", "a"]
    assert order("lpips_alex") == ["a", "b"]
    with pytest.raises(InputError, match="no rows of 'psnr'"):
        figures.per_type(full, "psnr")
