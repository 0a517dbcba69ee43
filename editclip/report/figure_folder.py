"""The folder figures/<notebook>/: what lies there beside the pictures, so that the report can show them.

`captions.json` has a caption for some of them, by the picture's name without suffix; `about.json` the notebook's title,
its first text as HTML, and the figure of the paper that it stands for, if any.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from editclip.errors import InputError
from editclip.report.files import read_json
from editclip.storage import write_json

CAPTIONS, ABOUT = "captions.json", "about.json"
ABOUT_KEYS = ("title", "text", "source")
DPI = 160  # of the PNGs


def captions(folder: Path) -> dict[str, str]:
    """The captions of a folder's pictures, by name without suffix."""
    path = folder / CAPTIONS
    return read_json(path) if path.is_file() else {}


def add_caption(picture: Path, caption: str) -> None:
    """Write down the caption of a picture."""
    write_json(picture.with_name(CAPTIONS), captions(picture.parent) | {picture.stem: caption})


def write_about(folder: Path, title: str, text: str, source: str | None) -> None:
    """Write down what a notebook says of its pictures.

    Args:
        folder: of the pictures.
        title: of the notebook.
        text: what is shown and by what rule, as HTML.
        source: the figure of the paper that it stands for; None = none.
    """
    write_json(folder / ABOUT, {"title": title, "text": text, "source": source})


def read_about(folder: Path) -> Mapping[str, Any]:
    """What a notebook says of its pictures: see `write_about`.

    Raises:
        InputError: the file is missing or lacks a key.
    """
    path = folder / ABOUT
    about = read_json(path)
    for key in ABOUT_KEYS:
        if key not in about:
            raise InputError(f"{path} lacks {key!r}: render the notebook again")
    return about
