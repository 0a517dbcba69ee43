"""The page of the docs that has each figure with the paper's claims and a run's verdicts."""

from pathlib import Path

import pandas as pd
import pytest
from run_folder import planted_table, write_record

from editclip.report import figures_page, page
from editclip.report.claims import COLUMNS
from editclip.report.notebook_code import declaration, opening

ROOT = Path(__file__).parents[2]
FIGURES = [path for path in sorted((ROOT / "notebooks").glob("*.ipynb")) if path.stem not in page.OWN_SECTIONS]
CLAIMS = [
    {"id": "a", "source": "Section 3.2, Figure 3", "claim": "It looks | at it.", "verdict": "supported",
     "effect": "0.25", "low": "-0.125", "high": "0.5", "n": "9"},
    {"id": "b", "source": "Figure 3", "claim": "So does another.", "verdict": "not testable here", "note": "no rows"},
    {"id": "c", "source": "Table 1", "claim": "It is the best.", "verdict": "undecided at this n", "effect": "1"},
]  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_record(tmp_path, planted_table())
    (tmp_path / "claims").mkdir()
    frame = pd.DataFrame(CLAIMS).reindex(columns=list(COLUMNS))
    frame.to_csv(tmp_path / "claims" / "claims.csv", index=False)
    return tmp_path


def written(run: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines of the page that the command writes."""
    out = run / "figures.md"
    given = ["figures_page", "--run", str(run), "--notebooks", str(ROOT / "notebooks"), "--out", str(out)]
    monkeypatch.setattr("sys.argv", given)
    figures_page.main()
    return out.read_text(encoding="utf-8").splitlines()


def test_each_claim_of_a_figure_is_a_line_with_verdict_and_interval(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = written(run, monkeypatch)
    first = next(i for i, line in enumerate(lines) if "fig03_attention" in line)
    assert lines[first] == (
        "| Figure 3: What the encoder attends to | It looks \\| at it. | supported | +0.250 [−0.125, +0.500] "
        "| [fig03_attention](../notebooks/fig03_attention.ipynb) |"
    )
    assert lines[first + 1] == "|  | So does another. | not testable here | no rows |  |"
    assert not any("It is the best." in line for line in lines), "which no figure stands for"
    gallery = next(line for line in lines if "fig14_gallery" in line)
    assert "no claim that a comparison decides" in gallery
    assert any(line.startswith("| ") and "beyond the paper" in line and "edit_map" in line for line in lines)


def test_the_figures_of_the_paper_come_first_by_number(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n".join(written(run, monkeypatch))
    names = sorted((path.stem for path in FIGURES), key=lambda name: (not name.startswith("fig"), name))
    places = [text.index(f"notebooks/{name}.ipynb") for name in names]
    assert places == sorted(places)


def test_the_shipped_page_has_every_figure() -> None:
    text = (ROOT / "docs" / "figures.md").read_text(encoding="utf-8")
    for path in FIGURES:
        title = opening(path)[0]
        source = declaration(path).source
        assert f"| {source}: {title} |" in text if source else f"| {title} |" in text
