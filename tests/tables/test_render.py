"""The renderings of the tables: escaping, emphasis and number formats."""

import pandas as pd

from editclip.report import render, render_full, render_headline
from editclip.report import rows as facts_of_rows
from editclip.report.columns import TABLE1, title


def rows(**changes: list) -> pd.DataFrame:
    table = pd.DataFrame({"method": ["ip2p", "prompt_diffusion", "copy_query"], "ec2ec": [0.4, 0.5, 0.9],
                          "lpips": [0.3, 0.2, 0.0], "conditioning": ["text", "exemplar", "none"],
                          "notes": ["", "a|b", ""]})  # fmt: skip
    return table.assign(**changes).reindex(columns=list(TABLE1))


def facts(**changes: list) -> pd.DataFrame:
    """rows.csv of `rows`: what the renderings read of it, and notes that are alike but for the number of seeds."""
    columns = {"method": ["ip2p", "prompt_diffusion", "copy_query"], "control": ["no", "no", "yes"], "clip_dir": "eq11",
               "run": "x", "lpips_trunk": "imagenet", "votes": "none", "seeds": "0 1", "exemplars": "own",
               "n_failed": "0"}  # fmt: skip
    empty = pd.DataFrame("", index=range(3), columns=list(facts_of_rows.FACTS))
    counts = {name: "0" for name in empty.columns if name.endswith(("_undefined", "_skipped"))}
    return empty.assign(**counts, **columns).assign(**changes)


def full(**changes: list) -> pd.DataFrame:
    """The full table of `rows`: EC2EC of two methods with intervals, one difference, one seed spread."""
    table = pd.DataFrame({"scope": ["all", "all", "type"], "scope_value": ["", "", "red"], "metric": "ec2ec",
                          "method": ["ip2p", "prompt_diffusion", "ip2p"], "mean": [0.4, 0.5, 0.3],
                          "seed_sd": [0.01, None, 0.02], "low": [0.35, 0.48, 0.1], "high": [0.45, 0.52, 0.5],
                          "diff": [-0.1, None, -0.2], "diff_low": [-0.13, None, -0.3], "diff_high": [-0.07, None, -0.1],
                          "p_holm": [0.01, None, None]})  # fmt: skip
    return table.assign(**changes)


def test_csv_has_six_significant_decimals_empty_cells_and_lf() -> None:
    text = render.csv(pd.DataFrame({"a": [0.123456789, None], "b": ["x,y", "ü"]}))
    assert text == 'a,b\n0.123457,"x,y"\n,ü\n'


def test_latex_escapes_what_latex_would_interpret() -> None:
    assert render.latex_text("copy_query & 50% #1 $x$ {y} a\\b ~ ^") == (
        r"copy\_query \& 50\% \#1 \$x\$ \{y\} a\textbackslash{}b \textasciitilde{} \textasciicircum{}"
    )
    tex = render_headline.headline_latex("table1", rows(), full(), facts(), "a_b", 0.95)
    body = [line for line in tex.splitlines() if not line.startswith("%")]
    assert any(line.startswith(r"prompt\_diffusion & exemplar &") for line in body)
    assert all("_" not in line.replace(r"\_", "") for line in body)
    assert r"a\_b" in tex
    columns = len(TABLE1) - 1  # the notes are comments
    assert all(line.count(" & ") == columns - 1 for line in body if line.endswith(r"\\"))


def test_the_best_method_is_bold_and_controls_do_not_compete() -> None:
    best = render_headline.best_cells(rows(), facts())
    assert best["ec2ec"].tolist() == [False, True, False]
    assert best["lpips"].tolist() == [False, True, False]
    shuffled = facts(control=["no", "yes", "no"])
    assert render_headline.best_cells(rows(), shuffled)["ec2ec"].tolist() == [False, False, True]
    assert "**0.500**" in render_headline.headline_markdown("table1", rows(), full(), facts(), None, 0.95)


def test_a_tie_at_the_printed_precision_marks_both() -> None:
    assert render_headline.best_cells(rows(ec2ec=[0.50001, 0.5, 0.9]), facts())["ec2ec"].tolist() == [True, True, False]


def test_half_of_the_interval_follows_the_mean_in_every_rendering() -> None:
    text = render_headline.headline_markdown("table1", rows(), full(), facts(), None, 0.9)
    assert "| 0.400 ± 0.050 |" in text and "| **0.500** ± 0.020 |" in text and "| 0.900 |" in text
    assert "half of the 90 % interval" in text
    assert r"\textbf{0.500} {\scriptsize$\pm$\,0.020}" in render_headline.headline_latex(
        "table1", rows(), full(), facts(), None, 0.9
    )
    assert "<b>0.500</b><small>± 0.020</small>" in render_headline.headline_html(rows(), full(), facts())


def test_clip_dir_has_the_interval_of_the_form_of_its_row() -> None:
    table, forms = rows(clip_dir=0.1), facts(clip_dir=["eq12", "eq11", "eq11"])
    captions, instruction = (full(metric=f"clip_dir_{form}") for form in ("captions", "instruction"))
    both = pd.concat([captions, instruction.assign(low=0.0, high=0.6)])
    assert render_headline.half_widths(table, both, forms)["clip_dir"].tolist() == ["0.300", "0.020", ""]


def test_markdown_keeps_its_columns_when_a_cell_holds_a_pipe_and_shows_gaps_as_dashes() -> None:
    names = ["a|b", "x", "y"]
    piped, named = rows(method=names, lpips=[0.3, None, 0.0]), facts(method=names)
    text = render_headline.headline_markdown("table1", piped, full(), named, "Toy.", 0.95)
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.replace(r"\|", "").count("|") for line in table} == {5}  # method, conditioning, lpips, ec2ec
    assert "–" in table[3] and text.startswith("# Table 1\n\n**Toy.**\n")


def test_what_all_notes_share_is_said_once() -> None:
    told = facts(seeds=["0 1", "0", "0 1"], n_failed=["0", "1", "0"])
    text = render_headline.headline_markdown("table1", rows(), full(), told, None, 0.95)
    assert text.count("run=x") == 1 and "- all rows: run=x; clip_dir=eq11; votes=none\n" in text
    assert "- prompt_diffusion: seeds=1; n_failed=1\n" in text


def test_the_full_table_shows_intervals_differences_and_spread_over_seeds() -> None:
    text = render_full.full_markdown("table1", full(), "prompt_diffusion", None, 0.95)
    assert "| EC2EC ↑ | 0.400 ± 0.050 | 0.500 ± 0.020 |" in text
    assert "difference from prompt_diffusion on the same samples, * where p_holm < 0.05" in text
    assert "| EC2EC ↑ | −0.100 ± 0.030 * |" in text
    assert "| Metric | ip2p |\n| --- | --- |\n| EC2EC ↑ | 0.010 |" in text
    assert "## EC2EC per type\n\n| Type | ip2p |" in text
    assert "*" not in render_full.full_markdown("table1", full(p_holm=[0.06, None, None]), "ip2p", None, 0.95).replace(
        "* where", ""
    )
    tex = render_full.full_latex("table1", full(), "prompt_diffusion", "a_b", 0.95)
    assert tex.count(r"\begin{table*}") == 4 and r"$-$0.100 $\pm$ 0.030 *" in tex


def test_without_a_reference_or_seeds_the_full_table_leaves_those_pieces_out() -> None:
    text = render_full.full_markdown("table1", full(diff=None, seed_sd=None), None, None, 0.95)
    assert "difference" not in text and "over seeds" not in text


def test_numbers_are_printed_with_a_true_minus_and_without_a_negative_zero() -> None:
    shown = render.display(pd.DataFrame({"ec2ec": [-0.25, -0.0001, 0.5], "runtime_s": [370.0, 0.01234, 0.40004]}))
    assert shown["ec2ec"].tolist() == ["−0.250", "0.000", "0.500"]
    assert shown["runtime_s"].tolist() == ["370", "0.0123", "0.400"]


def test_html_is_escaped_and_leaves_out_empty_columns() -> None:
    html = render_headline.headline_html(rows(method=["<b>", "x", "y"]), full(), facts(method=["<b>", "x", "y"]))
    assert "&lt;b&gt;" in html and "Win edit" not in html and html.count('class="control"') == 1


def test_a_table_is_titled_by_its_name() -> None:
    assert [title(name) for name in ("table1", "ablations", "clip_sum-x")] == [
        "Table 1",
        "Ablations",
        "Clip sum x",
    ]
