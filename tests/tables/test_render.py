"""The renderings of the tables: escaping, emphasis and number formats."""

import pandas as pd

from editclip.report import render
from editclip.report.columns import TABLE1


def rows(**changes: list) -> pd.DataFrame:
    table = pd.DataFrame({"method": ["ip2p", "prompt_diffusion", "copy_query"], "ec2ec": [0.4, 0.5, 0.9],
                          "lpips": [0.3, 0.2, 0.0], "conditioning": ["text", "exemplar", "none"],
                          "notes": ["", "a|b", ""]})  # fmt: skip
    return table.assign(**changes).reindex(columns=list(TABLE1))


def test_csv_has_six_significant_decimals_empty_cells_and_lf() -> None:
    text = render.csv(pd.DataFrame({"a": [0.123456789, None], "b": ["x,y", "ü"]}))
    assert text == 'a,b\n0.123457,"x,y"\n,ü\n'


def test_latex_escapes_what_latex_would_interpret() -> None:
    assert render.latex_text("copy_query & 50% #1 $x$ {y} a\\b ~ ^") == (
        r"copy\_query \& 50\% \#1 \$x\$ \{y\} a\textbackslash{}b \textasciitilde{} \textasciicircum{}"
    )
    tex = render.table1_latex(rows(), "a_b")
    body = [line for line in tex.splitlines() if not line.startswith("%")]
    assert any(line.startswith(r"prompt\_diffusion & exemplar &") for line in body)
    assert all("_" not in line.replace(r"\_", "") for line in body)
    assert r"a\_b" in tex
    columns = len(TABLE1) - 1  # the notes are comments
    assert all(line.count(" & ") == columns - 1 for line in body if line.endswith(r"\\"))


def test_the_best_method_is_bold_and_controls_do_not_compete() -> None:
    best = render.best_cells(rows())
    assert best["ec2ec"].tolist() == [False, True, False]
    assert best["lpips"].tolist() == [False, True, False]
    shuffled = rows(notes=["", "exemplars=shuffled", ""], conditioning=["text", "exemplar", "exemplar"])
    assert render.best_cells(shuffled)["ec2ec"].tolist() == [False, False, True]
    assert "**0.500**" in render.table1_markdown(rows(), None)


def test_a_tie_at_the_printed_precision_marks_both() -> None:
    assert render.best_cells(rows(ec2ec=[0.50001, 0.5, 0.9]))["ec2ec"].tolist() == [True, True, False]


def test_markdown_keeps_its_columns_when_a_cell_holds_a_pipe_and_shows_gaps_as_dashes() -> None:
    text = render.table1_markdown(rows(), "Toy.")
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.replace(r"\|", "").count("|") for line in table} == {len(TABLE1) + 1}
    assert "–" in table[2] and text.startswith("# Table 1\n\n**Toy.**\n")


def test_numbers_are_printed_with_a_true_minus_and_without_a_negative_zero() -> None:
    shown = render.display(pd.DataFrame({"ec2ec": [-0.25, -0.0001], "runtime_s": [370.0, 0.01234]}))
    assert shown["ec2ec"].tolist() == ["−0.250", "0.000"]
    assert shown["runtime_s"].tolist() == ["370", "0.0123"]


def test_html_is_escaped_and_leaves_out_empty_columns() -> None:
    html = render.table1_html(rows(method=["<b>", "x", "y"]))
    assert "&lt;b&gt;" in html and "Win edit" not in html and html.count('class="control"') == 1
