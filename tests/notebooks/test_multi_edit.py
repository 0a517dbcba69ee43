"""The notebook of Figure 5, drawn from a planted run with a table of edits of several parts."""

from pathlib import Path

import pandas as pd
import pytest
import yaml
from drawing import draw
from PIL import Image
from run_folder import EXEMPLARS, QUERIES, make_table, planted_table, write_record, write_run

from editclip.report.claims import COLUMNS
from editclip.report.figure_folder import captions

NAME = "fig05_multi_edit"
FAMILIES = {"to_night": "compound", "add_hat": "multi", "colour_red": "colour"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A planted run whose types are a compound, one of several parts, and another that its table is not about."""
    run = tmp_path_factory.mktemp("run")
    write_run(run)
    manifest = run / "bench" / "manifest.csv"
    frame = pd.read_csv(manifest, dtype=str, keep_default_na=False)
    frame.assign(family=frame["edit_type"].map(FAMILIES)).to_csv(manifest, index=False)
    table = planted_table("multi_edit", ["ip2p", "editclip", "copy_query"], families=["compound", "multi"])
    config = write_record(run, table) | {"claims": {"file": "claims.yaml"}}
    (run / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    make_table(run, table, run / "tables" / "multi_edit")
    claim = {"id": "turns", "claim": "One shot is better.", "source": "Section 4.2, Figure 5", "verdict": "supported"}
    numbers = {"effect": "0.5", "low": "0.25", "high": "0.75", "n": "12"}
    (run / "claims").mkdir()
    pd.DataFrame([claim | numbers]).reindex(columns=list(COLUMNS)).to_csv(run / "claims" / "claims.csv", index=False)
    return run


def test_it_shows_every_method_on_what_the_table_is_about_and_draws_its_means_and_differences(run: Path) -> None:
    names = draw(NAME, run)
    assert names["titles"][3:] == ["ip2p", "editclip", "ground truth"]
    assert [line.caption for line in names["rows"]] == ["to_night", "add_hat"]
    assert set(names["samples"]["edit_type"]) == {"to_night", "add_hat"}
    assert len(names["samples"]) == 2 * EXEMPLARS * QUERIES
    folder = run / "figures" / NAME
    assert captions(folder).keys() == {"a_pictures", "b_families", "c_effects"}
    for name in captions(folder):
        with Image.open(folder / f"{name}.png") as image:
            assert min(image.size) > 200
    # Planted scores of the two differ by 0.2 - 0.3 in every sample, but for PSNR, which is ten times as large.
    panels = dict(zip(names["shown"], names["drawn"].axes, strict=False))
    assert [text.get_text() for text in panels["ec2ec"].get_yticklabels()] == ["ip2p"]
    marked = {metric: panel.lines[-1].get_xdata() for metric, panel in panels.items()}
    assert list(marked["ec2ec"]) == [pytest.approx(-0.1)] and list(marked["psnr"]) == [pytest.approx(-1)]
