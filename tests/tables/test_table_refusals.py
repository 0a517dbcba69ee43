"""What a table is not made of: bad input, cards that differ, declarations that contradict themselves."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from run_folder import change, make_table, planted_table, read

from editclip.errors import InputError


def test_unequal_cards_are_refused_by_key_and_methods(run: Path) -> None:
    path = run / "scores" / "editclip" / "lpips" / "card.json"
    card = json.loads(path.read_text())
    path.write_text(json.dumps(card | {"bench": {"digest": "other"}}))
    with pytest.raises(InputError, match="lpips differ in 'bench': ip2p .* editclip"):
        read(run)


@pytest.mark.parametrize(
    ("file", "edit", "message"),
    [
        ("scores/ip2p/clip/seed=1.csv", lambda p: p.unlink(), "seed=1.csv is missing"),
        ("scores/ip2p/clip/seed=1.csv", lambda p: _without(p, "status"), "lacks the column 'status'"),
        ("scores/ip2p/clip/seed=1.csv", lambda p: _repeat(p), "row 92 repeats sample_id '01-to_night-e0-q0'"),
        ("scores/ip2p/clip/seed=1.csv", lambda p: change(p, "sample_id", 0, "x"), "names sample 'x'"),
        ("scores/ip2p/clip/seed=1.csv", lambda p: change(p, "value", 3, "nan"), "row 5: value 'nan' of an ok row"),
        ("scores/ip2p/clip/seed=1.csv", lambda p: change(p, "status", 3, "fine"), "row 5: status 'fine' is none of"),
        ("scores/ip2p/clip/seed=1.csv", lambda p: change(p, "image_sha256", 3, "0"), "scored on another image"),
        ("scores/ip2p/clip/seed=1.csv", lambda p: change(p, "method", 3, "visii"), "row 5 is of method 'visii'"),
        ("edits/ip2p/seed=0/edits.csv", lambda p: _drop(p), "lacks sample '01-add_hat-e1-q2'"),
        ("bench/manifest.csv", lambda p: _repeat(p), "repeats sample_id"),
        ("scores/ip2p/lpips", shutil.rmtree, "no folder ip2p/lpips among those given as --scores"),
        ("scores/ip2p/lpips/card.json", lambda p: p.unlink(), "ip2p/lpips/card.json is missing"),
        ("edits/ip2p/seed=1", shutil.rmtree, "no folder ip2p/seed=1 in those given as --edits"),
        ("scores", shutil.rmtree, "no scores of ip2p, editclip, shuffled-editclip, copy_query among"),
    ],
)
def test_bad_input_is_named(run: Path, file: str, edit: Callable[[Path], Any], message: str) -> None:
    edit(run / file)
    with pytest.raises(InputError, match=message):
        read(run)


def _without(path: Path, column: str) -> None:
    pd.read_csv(path, dtype=str).drop(columns=column).to_csv(path, index=False)


def _repeat(path: Path) -> None:
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[1]]) + "\n")


def _drop(path: Path) -> None:
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")


BAR = {"metric": "ec2ec", "at_least": 0.5, "rows": ["ip2p"]}


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"reference": "visii"}, 'declaration: reference names "visii", which is no row'),
        ({"bars": [BAR | {"rows": ["visii"]}]}, r'bars\[0\].rows names "visii"'),
        ({"bars": [BAR | {"at_most": 0.4}]}, "at_least 0.5 and at_most 0.4 can't be met"),
        ({"bars": [{"metric": "ec2ec", "rows": ["ip2p"]}]}, "at_least some number, at_most some number or both"),
        ({"bars": [BAR | {"minus": "visii"}]}, r'bars\[0\].minus names "visii"'),
        ({"bars": [BAR, BAR | {"at_least": 0.6}]}, "two bars for ec2ec of ip2p"),
        ({"bars": [BAR | {"atleast": 1}]}, "did you mean"),
        ({"rows": []}, "declaration.rows"),
    ],
)
def test_a_declaration_that_contradicts_itself_is_refused(
    planted: Path, tmp_path: Path, declared: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make_table(
            planted,
            planted_table() | {"declaration": planted_table(**{"paper": None})["declaration"] | declared},
            tmp_path / "out",
        )
