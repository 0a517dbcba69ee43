"""A method in any language: a program that is handed a folder of requests and fills a folder with edits.

The program is started once a batch as `<program> <arguments> IN OUT`. `IN/requests.csv` has one row an image, with the
columns `COLUMNS`; images are PNG files of the canonical frame in IN, named in the row. What the method's card does not
ask for is empty; `instructions` is a JSON list. The program writes `OUT/<id>.png`, RGB and of the query's size, for
every row; it may say what it likes, the last line of which becomes the reason when its exit status is not 0. `python`
is the Python that runs this.
"""

import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from editclip.editing import EditRequest
from editclip.errors import InputError

COLUMNS = ("id", "query", "exemplar_before", "exemplar_after", "instruction", "caption_before", "caption_after", "seed",
           "instructions")  # fmt: skip
REASON_CHARACTERS = 300  # of the last line
KEPT_CHARACTERS = 4000  # of all that was said, for the log


class ExternalCommand:
    """The editor, of one stage; of several exemplar pairs the program sees the first.

    Args:
        program: name or path of the program. A relative path is from wherever a job runs, so give a whole one.
        arguments: its arguments, before the two folders.

    Raises:
        InputError: there is no such program.
    """

    def __init__(self, program: str | Path, *arguments: str | Path) -> None:
        # As under the workflow, where jobs find the interpreter and the programs installed beside it first.
        path = os.path.dirname(sys.executable) + os.pathsep + os.environ.get("PATH", os.defpath)
        if shutil.which(program, path=path) is None:
            raise InputError(f"there is no program {str(program)!r} that could be run: install it, or correct its name")
        self._command = [str(program), *map(str, arguments)]
        self._environment = {**os.environ, "PATH": path}

    def edit(self, requests: Sequence[EditRequest]) -> list[Image.Image]:
        """Run the program on a batch.

        Raises:
            RuntimeError: it failed, or left an image out. Of a failure the first line has what the program said last
                (of a traceback, the exception), the others what it said before.
        """
        with tempfile.TemporaryDirectory(prefix="editclip-") as folder:
            given, made = Path(folder, "in"), Path(folder, "out")
            given.mkdir()
            made.mkdir()
            _write(requests, given)
            done = subprocess.run(
                [*self._command, str(given), str(made)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, errors="replace", env=self._environment,
            )  # fmt: skip
            if done.returncode:
                said = done.stdout.strip()[-KEPT_CHARACTERS:]
                last = (said.splitlines() or ["it said nothing"])[-1].strip()[-REASON_CHARACTERS:]
                raise RuntimeError(f"{self._command[0]} ended with status {done.returncode}: {last}\n{said}")
            return [self._image(made / f"{number}.png") for number in range(len(requests))]

    def _image(self, path: Path) -> Image.Image:
        if not path.is_file():
            raise RuntimeError(f"{self._command[0]} wrote no {path.name}")
        with Image.open(path) as image:
            return image.convert("RGB")


def _write(requests: Sequence[EditRequest], folder: Path) -> None:
    """requests.csv and the images it names."""
    with (folder / "requests.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        for number, request in enumerate(requests):
            images = {"query": request.query}
            if request.exemplar.pairs:
                images |= {"exemplar_before": request.exemplar.before, "exemplar_after": request.exemplar.after}
            names = {role: f"{number}-{role}.png" for role in images}
            for role, image in images.items():
                image.save(folder / names[role])
            texts = {name: getattr(request, name) or "" for name in COLUMNS[4:7]}
            told = "" if request.instructions is None else json.dumps(request.instructions, ensure_ascii=False)
            writer.writerow({"id": number, **names, **texts, "seed": request.seed, "instructions": told})
