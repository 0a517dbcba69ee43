"""Win rates in Table 1: from a study's preferences into every rendering, with whose votes they are."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from run_folder import arguments, planted_table

from editclip.errors import InputError
from editclip.report import tables
from editclip.report.columns import TABLE1
from editclip.report.files import read_numbers
from editclip.report.render_headline import headline_html
from editclip.report.rows import honest_labels, read_facts
from editclip.storage import write_json
from editclip.study.preferences import PREFERENCES

RATES = {  # question, first, second: votes, share of votes for the first, its bounds
    ("edit", "editclip", "ip2p"): (120, 0.55, 0.45, 0.65),
    ("edit", "copy_query", "editclip"): (90, 0.125, 0.0, 0.25),
    ("preserves", "editclip", "ip2p"): (120, 0.975, 0.9, 1.0),
}


def judgements(folder: Path, origin: str = "oracle", clusters: str = "edit types", study: str = "exemplar") -> Path:
    """The judgements of a study that compares two rows with editclip, and them with each other."""
    folder.mkdir(parents=True)
    rows = [
        {"question": question, "first": first, "second": second, "votes": votes, "win_rate": rate, "low": low,
         "high": high, "origin": origin}
        for (question, first, second), (votes, rate, low, high) in RATES.items()
    ]  # fmt: skip
    rows.append(rows[0] | {"first": "copy_query", "second": "ip2p", "win_rate": 0.0})
    pd.DataFrame(rows).reindex(columns=list(PREFERENCES)).to_csv(folder / "preferences.csv", index=False)
    write_json(folder / "judgement.json", {"study": study, "origin": origin, "clusters": clusters})
    return folder


def made(run: Path, out: Path, given: Path | None, **declared: Any) -> Path:
    """Make Table 1 of the run, with the judgements in a folder; its folder."""
    table = planted_table(**{"study": "exemplar", **declared})
    more = ["--judgements", given] if given else []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["tables", *arguments(run, table, out, *more)])
        tables.main()
    return out


@pytest.fixture(scope="module")
def voted(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("voted")
    return made(planted, folder / "table", judgements(folder / "judgements"))


def test_a_win_rate_is_the_share_of_votes_for_the_reference_against_the_row(voted: Path) -> None:
    table = read_numbers(voted / "table1.csv", TABLE1).set_index("method")
    assert table.loc["ip2p", ["wr_edit", "wr_pres"]].tolist() == pytest.approx([55, 97.5])
    assert table.loc["copy_query", "wr_edit"] == pytest.approx(87.5), "the study has the pair the other way round"
    assert pd.isna(table.loc["copy_query", "wr_pres"])
    assert table.loc[["editclip", "shuffled-editclip"], ["wr_edit", "wr_pres"]].isna().all(axis=None)


def test_the_full_table_has_their_intervals_for_types_like_these(voted: Path) -> None:
    full = pd.read_csv(voted / "table1_full.csv")
    rows = full[full["metric"].str.startswith("wr_")].set_index(["method", "metric"])
    assert len(rows) == 3 and (rows["scope"] == "all").all() and rows[["low", "high", "p"]].isna().all(axis=None)
    bounds = rows[["mean", "n", "low_types", "high_types"]]
    assert bounds.loc[("ip2p", "wr_edit")].tolist() == pytest.approx([55, 120, 45, 65])
    assert bounds.loc[("copy_query", "wr_edit")].tolist() == pytest.approx([87.5, 90, 75, 100])


def test_every_rendering_says_that_the_votes_are_an_oracles(voted: Path) -> None:
    facts = read_facts(voted)
    assert facts.set_index("method")["votes"].to_dict() == {
        "ip2p": "oracle", "editclip": "oracle", "shuffled-editclip": "none", "copy_query": "oracle",
    }  # fmt: skip
    cells, full = read_numbers(voted / "table1.csv", TABLE1), pd.read_csv(voted / "table1_full.csv")
    assert cells.set_index("method")["notes"].str.contains("votes=oracle")["ip2p"]
    markdown, latex = ((voted / f"table1.{kind}").read_text() for kind in ("md", "tex"))
    for text in (markdown, headline_html(cells, full, facts), (voted / "table1_full.md").read_text()):
        assert "Win edit % (oracle)" in text.replace("<br>", " ")
    assert r"Win edit \% (oracle)" in latex and r"Win edit \% (oracle)" in (voted / "table1_full.tex").read_text()
    assert any("votes of an oracle" in label for label in honest_labels(facts, None))
    assert not any("empty" in label for label in honest_labels(facts, None))


def test_half_of_the_interval_follows_win_rates_too(voted: Path) -> None:
    """A bound that is cut off at 100 % does not make the half shorter."""
    markdown = (voted / "table1.md").read_text()
    assert "| 55.0 ± 10.0 | 97.5 ± 7.5 |" in markdown and "| 87.5 ± 12.5 | – |" in markdown
    assert "interval for these edit types, that of win rates for edit types like these." in markdown
    assert r"55.0 {\scriptsize$\pm$\,10.0}" in (voted / "table1.tex").read_text()
    assert "55.0 ± 10.0" in (voted / "table1_full.md").read_text()


def test_peoples_votes_over_one_type_have_the_interval_for_it(planted: Path, tmp_path: Path) -> None:
    out = made(planted, tmp_path / "t", judgements(tmp_path / "j", "human", "queries"))
    full = pd.read_csv(out / "table1_full.csv").set_index(["method", "metric"])
    assert full.loc[("ip2p", "wr_edit"), ["low", "high"]].to_numpy().ravel().tolist() == pytest.approx([45, 65])
    text = (out / "table1.md").read_text()
    assert "55.0 ± 10.0" in text and "types like these" not in text
    assert "Win edit % (human)" in text and honest_labels(read_facts(out), None) != []
    assert not any("human" in label or "oracle" in label for label in honest_labels(read_facts(out), None))


def test_without_judgements_the_columns_are_empty_and_say_so(planted: Path, tmp_path: Path) -> None:
    out = made(planted, tmp_path / "t", None)
    table = read_numbers(out / "table1.csv", TABLE1)
    assert table[["wr_edit", "wr_pres"]].isna().all(axis=None) and table["notes"].str.contains("votes=none").all()
    assert any("win-rate columns are empty" in label for label in honest_labels(read_facts(out), None))


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"study": None}, "--judgements are of the study exemplar, but the win rates of table1 are those of none"),
        ({"study": "text"}, "are of the study exemplar, but the win rates of table1 are those of text"),
        ({"reference": "shuffled-editclip"}, "compares no row of table1 with its reference shuffled-editclip"),
        ({"reference": None}, "study exemplar: win rates are those of the reference"),
    ],
)
def test_judgements_that_do_not_fit_the_table_are_refused(
    planted: Path, tmp_path: Path, declared: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        made(planted, tmp_path / "t", judgements(tmp_path / "j"), **declared)


def test_incomplete_judgements_are_named(planted: Path, tmp_path: Path) -> None:
    given = judgements(tmp_path / "j")
    write_json(given / "judgement.json", {"study": "exemplar"})
    with pytest.raises(InputError, match=r"judgement.json lacks 'origin': make it again"):
        made(planted, tmp_path / "t", given)
