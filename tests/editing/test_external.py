"""Methods in other languages: what a program is handed, what is made of what it returns."""

import csv
import stat
from pathlib import Path

import pytest
from PIL import Image

from editclip.editing import EditRequest, Exemplar
from editclip.editing.external import COLUMNS, ExternalCommand
from editclip.errors import InputError


def image(level: int) -> Image.Image:
    return Image.new("RGB", (8, 8), (level, 2 * level, 3 * level))


def request(level: int, **texts: str) -> EditRequest:
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
    asked = [request(10, instruction='say "hello", world'), request(20)]
    made = ExternalCommand(program(tmp_path, copy)).edit(asked)
    assert [m.tobytes() for m in made] == [image(10).tobytes(), image(20).tobytes()]
    with (kept / "requests.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [row["instruction"] for row in rows] == ['say "hello", world', ""]
    assert {row["seed"] for row in rows} == {"7"}
    for role, expected in (("exemplar_before", image(1)), ("exemplar_after", image(2))):
        assert Image.open(kept / rows[1][role]).tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("text", "message"),
    [("echo no such model >&2; exit 3", "status 3: no such model"), ("exit 0", "wrote no 0.png")],
)
def test_failures_are_reported(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        ExternalCommand(program(tmp_path, text)).edit([request(1)])


def test_a_program_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InputError, match="no program 'no-such-program'"):
        ExternalCommand("no-such-program")
