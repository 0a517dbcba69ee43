"""Table 2: the paper's layout and the full table, from planted coefficients."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from editclip.errors import InputError
from editclip.report import table2
from editclip.report.files import read_numbers
from editclip.storage import write_json
from editclip.study.coefficients import COLUMNS, STATISTICS

PAPER = Path(__file__).parents[2] / "paper" / "table2.csv"
STUDIES = {"text": ["clip", "clip_dir", "ec2t"], "exemplar": ["s_visual", "ec2ec"]}
EXTRA = ["within_pair"]


def value(study: str, question: str, metric: str, statistic: str) -> float:
    """The planted estimate: another one for every place, the smallest below 0."""
    place = 10 * list(STUDIES).index(study) + 3 * (question == "edit") + len(metric) / 7
    return 0.02 * place - 0.05 + 0.1 * [*STATISTICS, *EXTRA].index(statistic)


def judgements(folder: Path, study: str, metrics: list[str], origin: str = "oracle", level: float = 0.95) -> Path:
    rows = []
    for question in ("edit", "preserves"):
        for metric in metrics:
            for statistic in [*STATISTICS, *EXTRA]:
                estimate = value(study, question, metric, statistic)
                row: dict[str, Any] = {"question": question, "metric": metric, "statistic": statistic}
                row |= {"pair": "editclip–ip2p" if statistic in EXTRA else "", "estimate": estimate, "votes": 360}
                row |= {"low": estimate - 0.125, "high": estimate + 0.1, "items": 120, "clusters": 14, "note": ""}
                rows.append(row | {} if statistic.startswith("within") else row | {"null": estimate / 2})
    folder.mkdir(parents=True)
    pd.DataFrame(rows).reindex(columns=list(COLUMNS)).to_csv(folder / "coefficients.csv", index=False)
    write_json(folder / "judgement.json", {"study": study, "origin": origin, "level": level})
    return folder


def made(out: Path, *folders: Path, notice: str = "Toy.") -> Path:
    with pytest.MonkeyPatch.context() as patch:
        given = ["--judgements", *folders, "--paper", PAPER, "--label", "planted", "--notice", notice, "--out", out]
        patch.setattr("sys.argv", ["table2", *map(str, given)])
        table2.main()
    return out


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("table2")
    return made(folder / "out", *(judgements(folder / name, name, metrics) for name, metrics in STUDIES.items()))


def test_table2_has_the_papers_layout_and_d1(out: Path) -> None:
    table, paper = read_numbers(out / "table2.csv", ["judgement"]), pd.read_csv(PAPER)
    assert list(table.columns) == [*paper.columns, "notes"]
    assert table["judgement"].tolist() == paper["judgement"].tolist()
    for row in table.to_dict("records"):
        for study, metrics in STUDIES.items():
            for metric in metrics:
                assert row[metric] == pytest.approx(value(study, row["judgement"], metric, "d1"), abs=1e-6)


def test_the_full_table_has_every_statistic_beside_the_papers_number_where_it_can_be_that(out: Path) -> None:
    full, paper = read_numbers(out / "table2_full.csv", table2.FULL), pd.read_csv(PAPER).set_index("judgement")
    assert len(full) == 2 * 5 * (len(STATISTICS) + len(EXTRA)) and set(full["origin"]) == {"oracle"}
    for row in full.to_dict("records"):
        planted = value(row["study"], row["question"], row["metric"], row["statistic"])
        assert [row[name] for name in ("estimate", "low", "high")] == pytest.approx(
            [planted, planted - 0.125, planted + 0.1], abs=1e-5
        )
        assert pd.isna(row["null"]) == row["statistic"].startswith("within")
        if row["statistic"] in ("d1", "d2", "d3", "d4"):
            assert row["paper"] == paper.loc[row["question"], row["metric"]]
        else:
            assert pd.isna(row["paper"])


def test_renderings_show_intervals_the_means_alone_and_the_paper(out: Path) -> None:
    text = (out / "table2.md").read_text()
    first = value("text", "edit", "clip", "d1")
    assert f"| edit | {first:.3f} (−{0.125 - first:.3f} to {first + 0.1:.3f}) |" in text
    assert f"| method means alone | {first / 2:.3f} |" in text and "| the paper | 0.209 | 0.186 |" in text
    assert "| Judgement | CLIP | CLIP-Dir | EC2T | S_visual | EC2EC |" in text
    latex = (out / "table2.tex").read_text()
    assert r"S\_visual" in latex and r"\label{tab:table2}" in latex and "$-$" in latex
    full = (out / "table2_full.md").read_text()
    assert "## exemplar, preserves: 360 votes, oracle" in full and "| within_pair | editclip–ip2p |" in full
    within = value("exemplar", "edit", "ec2ec", "within")
    assert f"{within:.3f} ({within - 0.125:.3f} to {within + 0.1:.3f}) |" in full, "nothing of means alone"


def test_every_rendering_says_whose_votes_they_are_and_of_which_study(out: Path, tmp_path: Path) -> None:
    notes = read_numbers(out / "table2.csv", ["notes"])["notes"].unique().tolist()
    assert notes == [
        "run=planted; votes=oracle; statistic=d1; study text (oracle): clip, clip_dir, ec2t; "
        "study exemplar (oracle): s_visual, ec2ec"
    ]
    for name in ("table2.md", "table2.tex", "table2_full.md"):
        text = (out / name).read_text()
        assert "Toy." in text and "votes of an oracle, simulated raters" in text
    mixed = made(
        tmp_path / "out", judgements(tmp_path / "a", "text", ["clip"], "human"),
        judgements(tmp_path / "b", "exemplar", ["ec2ec"]), notice="",
    )  # fmt: skip
    text = (mixed / "table2.md").read_text()
    assert "- study text (human): clip\n- study exemplar (oracle): ec2ec" in text and "Votes: human, oracle." in text
    people = made(tmp_path / "people", tmp_path / "a", notice="")
    assert "oracle" not in "".join(path.read_text() for path in people.glob("table2*"))


def test_a_metric_of_two_studies_is_shown_of_the_first(tmp_path: Path) -> None:
    folders = [judgements(tmp_path / name, name, ["ec2ec"]) for name in ("exemplar", "text")]
    out = made(tmp_path / "out", *folders)
    table = read_numbers(out / "table2.csv", ["judgement"]).set_index("judgement")
    assert table.loc["edit", "ec2ec"] == pytest.approx(value("exemplar", "edit", "ec2ec", "d1"), abs=1e-6)
    full = read_numbers(out / "table2_full.csv", table2.FULL)
    assert full["study"].unique().tolist() == ["exemplar", "text"]


def test_a_metric_that_the_paper_has_not_has_a_column_all_the_same(tmp_path: Path) -> None:
    out = made(tmp_path / "out", judgements(tmp_path / "exemplar", "exemplar", ["psnr"]))
    assert "| the paper | – |" in (out / "table2.md").read_text()


def test_undefined_coefficients_are_dashes(tmp_path: Path) -> None:
    folder = judgements(tmp_path / "exemplar", "exemplar", ["ec2ec"])
    frame = pd.read_csv(folder / "coefficients.csv", dtype=str, keep_default_na=False)
    frame.loc[frame["statistic"] == "d1", ["estimate", "low", "high", "null"]] = ""
    frame.to_csv(folder / "coefficients.csv", index=False)
    out = made(tmp_path / "out", folder)
    assert "| edit | – |" in (out / "table2.md").read_text()
    assert read_numbers(out / "table2.csv", ["judgement"])["ec2ec"].isna().all()


def test_judgements_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    folders = [judgements(tmp_path / f"{i}", "exemplar", ["ec2ec"]) for i in range(2)]
    with pytest.raises(InputError, match="--judgements has the study exemplar twice"):
        made(tmp_path / "out", *folders)
    other = judgements(tmp_path / "text", "text", ["clip"], level=0.9)
    with pytest.raises(InputError, match="exemplar, text have intervals of different levels"):
        made(tmp_path / "out", folders[0], other)
    (folders[0] / "coefficients.csv").unlink()
    with pytest.raises(InputError, match="coefficients.csv is missing"):
        made(tmp_path / "out", folders[0])
