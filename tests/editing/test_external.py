"""Methods in other languages: what a program is handed, what is made of what it returns."""

import csv
import re
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from editclip.editing import EditRequest, Exemplar
from editclip.editing.external import COLUMNS, ExternalCommand
from editclip.editing.work import reason
from editclip.errors import InputError


def image(level: int) -> Image.Image:
    return Image.new("RGB", (8, 8), (level, 2 * level, 3 * level))


def request(level: int, **texts: Any) -> EditRequest:
    fields = {"instruction": None, "caption_before": None, "caption_after": None, **texts}
    shown = Exemplar("01-x-00", ((image(1), image(2)),), None, 0)
    return EditRequest(image(level), shown, {}, ground_truth=None, seed=7, **fields)


def program(folder: Path, text: str) -> Path:
    """A shell script with a blank in its name."""
    path = folder / "my method.sh"
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_a_program_sees_all_that_it_is_given_and_its_images_come_back_in_order(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    copy = f"""cp -r "$1" {kept}
for n in 1 0; do cp "$1/$n-query.png" "$2/$n.png"; done
"""
    asked = [request(10, instruction='say "hello", world'), request(20, instructions=("é, 1", "2"))]
    made = ExternalCommand(program(tmp_path, copy)).edit(asked)
    assert [m.tobytes() for m in made] == [image(10).tobytes(), image(20).tobytes()]
    with (kept / "requests.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [row["instruction"] for row in rows] == ['say "hello", world', ""]
    assert {row["seed"] for row in rows} == {"7"} and [row["instructions"] for row in rows] == ["", '["é, 1", "2"]']
    for role, expected in (("exemplar_before", image(1)), ("exemplar_after", image(2))):
        assert Image.open(kept / rows[1][role]).tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("echo no such model >&2; exit 3", "status 3: no such model"),
        ("exit 3", "status 3: it said nothing"),
        ("exit 0", "wrote no 0.png"),
    ],
)
def test_failures_are_reported(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        ExternalCommand(program(tmp_path, text)).edit([request(1)])


def test_of_a_traceback_the_exception_is_the_reason_and_the_rest_is_kept(tmp_path: Path) -> None:
    failing = "exec python -c 'print(1 / 0)'"
    with pytest.raises(RuntimeError, match="Traceback") as caught:
        ExternalCommand(program(tmp_path, failing)).edit([request(1)])
    assert reason(caught.value).endswith("status 1: ZeroDivisionError: division by zero")


@pytest.mark.parametrize("name", ["python", "a script"])
def test_python_is_the_one_that_runs_the_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Also where another one is first on PATH, as when a console script was called by its path."""
    other = tmp_path / "bin"
    other.mkdir()
    (other / "python").write_text("#!/bin/sh\nexit 9\n")
    (other / "python").chmod(0o755)
    monkeypatch.setenv("PATH", f"{other}:/usr/bin:/bin")
    tell = "import sys; sys.exit(sys.prefix)"
    editor = ExternalCommand("python", "-c", tell)
    if name == "a script":
        editor = ExternalCommand(program(tmp_path, f"exec python -c '{tell}'"))
    with pytest.raises(RuntimeError, match=re.escape(f"status 1: {sys.prefix}")):
        editor.edit([request(1)])


def test_a_program_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InputError, match="no program 'no-such-program'"):
        ExternalCommand("no-such-program")
