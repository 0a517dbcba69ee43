"""The notebooks of the ablations, drawn from planted runs: scores are linear, so that every difference is known."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from drawing import draw
from run_folder import make_table, planted_table, write_record, write_run

from editclip.report import ablation_figures, figures
from editclip.report.figure_folder import captions
from editclip.report.files import read_numbers

# As if IP2P and EditCLIP, planted 0.1 apart, were two trainings of one method, and so were two controls.
TRAININGS = {"twice": ["ip2p", "editclip"], "controls": ["shuffled-editclip", "copy_query"]}
ARMS = {"rows": ["controls", "twice"], "trainings": TRAININGS, "reference": "controls", "paper": None}
TABLES = {
    "fig06_conditioning": "conditioning",
    "fig09_patches": "patches",
    "fig11_preservation_loss": "preservation_loss",
    "fig12_layer": "layer",
}
SCALES = {"ip2p": (2.0, 1.0), "editclip": (1.2, 1.0)}


def run_with(run: Path, table: Mapping[str, Any]) -> Path:
    """A planted run with one table."""
    write_run(run)
    write_record(run, table)
    make_table(run, table, run / "tables" / table["name"])
    return run


@pytest.fixture(scope="module", params=sorted(TABLES))
def drawn(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder of an ablation's figure, and the names of its notebook."""
    run = run_with(tmp_path_factory.mktemp("run"), planted_table(TABLES[request.param], **ARMS))
    return run / "figures" / request.param, draw(request.param, run)


def test_an_arm_is_shown_by_the_edits_of_its_first_training(drawn: tuple[Path, dict[str, Any]]) -> None:
    folder, names = drawn
    assert names["titles"][3:] == ["controls", "twice", "ground truth"]
    shown = [image.parent.parent.name for image in names["rows"][0].images[3:5]]
    assert shown == ["shuffled-editclip", "ip2p"]
    assert captions(folder).keys() == {"a_pictures", "b_effects"} == {path.stem for path in folder.glob("*.png")}


def test_differences_have_their_interval_and_each_training_a_marker(drawn: tuple[Path, dict[str, Any]]) -> None:
    _, names = drawn
    looks = figures.looks(names["facts"])
    figure = figures.differences(names["full"], looks, "controls", ["ec2ec"], names["trainings"])
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["twice"]
    marks = [line.get_xdata() for line in axes.lines if line.get_marker() == looks["twice"].marker]
    # the means of both, with seeds 0 and 1 that add 0 and 0.1 to the one, and each training by itself
    assert [list(mark) for mark in marks] == [[pytest.approx(0.25)], pytest.approx([0.15, 0.35])]
    row = names["full"].query("scope == 'all' and method == 'twice' and metric == 'ec2ec'").iloc[0]
    (interval,) = (segment for lines in axes.collections for segment in lines.get_segments())
    assert interval[:, 0] == pytest.approx([row["diff_low"], row["diff_high"]])


def test_guidance_is_a_map_of_means_and_one_query_at_every_pair_of_scales(tmp_path: Path) -> None:
    table = planted_table("guidance", list(SCALES), reference="editclip", paper=None)
    run = run_with(tmp_path, table)
    config = yaml.safe_load((run / "config.yaml").read_text())
    for name, (edit, image) in SCALES.items():
        config["methods"][name]["options"] = {"guidance_scale": edit, "image_guidance_scale": image}
    (run / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    names = draw("fig13_guidance", run)
    assert names["titles"][3:] == ["image guidance 1", "ground truth"]
    assert [line.images[3].parent.parent.name for line in names["rows"]] == ["editclip", "ip2p"]  # guidance rises
    assert captions(run / "figures" / "fig13_guidance").keys() == {"a_pictures", "b_maps", "c_effects"}
    full = read_numbers(run / "tables" / "guidance" / "guidance_full.csv", ["scope", "method", "metric", "mean"])
    axes = ablation_figures.guidance_maps(full, config, ["ec2ec"]).axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["1.2", "2.0"]
    means = full[(full["scope"] == "all") & (full["metric"] == "ec2ec")].set_index("method")["mean"]
    assert [text.get_text() for text in axes.texts] == [f"{means['editclip']:.3f}", f"{means['ip2p']:.3f}"]
