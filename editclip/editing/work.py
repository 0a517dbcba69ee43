"""What the stages share: the method on its benchmark, its cache of finished results, its failures."""

import csv
import dataclasses
import functools
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editclip.data.bench import Bench
from editclip.editing import Editor, Planner, Preparer, cards
from editclip.editing.cards import Method
from editclip.editing.requests import Requests
from editclip.errors import InputError
from editclip.failures import refuse_failures
from editclip.provenance import code_digest
from editclip.storage import atomic_file, cache_folder, file_digest, path_digest, write_json

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Done:
    """One finished result: its file (None where there are no tensors), SHA-256 ("" without file), seconds."""

    file: Path | None
    sha256: str
    seconds: float


class Finished:
    """The content-keyed cache of one method's finished results.

    A result is a file and a JSON note with its digest and seconds; the note is written last and the digest is checked,
    so that a kill at any moment leaves either the whole result or none.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> Done | None:
        """The result under `key`, if it is whole."""
        try:
            note = json.loads((self._folder / f"{key}.json").read_text(encoding="utf-8"))
            if not note["file"]:
                return Done(None, "", note["seconds"])
            file = self._folder / note["file"]
            return Done(file, note["sha256"], note["seconds"]) if file_digest(file) == note["sha256"] else None
        except (FileNotFoundError, json.JSONDecodeError):
            return None

    def _note(self, key: str, file: Path | None, seconds: float) -> Done:
        done = Done(file, file_digest(file) if file else "", round(seconds, 6))
        note = {"file": file.name if file else "", "sha256": done.sha256, "seconds": done.seconds}
        write_json(self._folder / f"{key}.json", note)
        return done

    def put_image(self, key: str, image: "Image", seconds: float) -> None:
        """Keep an image as lossless PNG."""
        file = self._folder / f"{key}.png"
        with atomic_file(file) as temporary:
            image.save(temporary)
        self._note(key, file, seconds)

    def put_tensors(self, key: str, tensors: "Mapping[str, torch.Tensor]", seconds: float) -> Done:
        """Keep tensors as safetensors; nothing but the note when there are none."""
        from safetensors.torch import save_file

        file = self._folder / f"{key}.safetensors" if tensors else None
        if file is not None:
            with atomic_file(file) as temporary:
                save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary)
        return self._note(key, file, seconds)


@dataclasses.dataclass(frozen=True)
class Work:
    """One method on one benchmark; it is loaded when a stage first asks for it, not where all is in the cache.

    Attributes:
        method: the method.
        bench: the benchmark.
        weights: folders by name; those of the method's card are used.
        base_seed: the run's seed.
        device: "cpu" or "cuda".
    """

    method: Method
    bench: Bench
    weights: Mapping[str, Path]
    base_seed: int
    device: str

    @functools.cached_property
    def requests(self) -> Requests:
        """What the method is asked; the benchmark's images are read and digested once for all seeds."""
        return Requests(self.bench, self.method, self.base_seed)

    @functools.cached_property
    def preparer(self) -> Preparer:
        """The method, loaded to prepare."""
        return self.method.load(self.weights, self.device, "prepare")

    @functools.cached_property
    def planner(self) -> Planner:
        """The method, loaded to plan."""
        return self.method.load(self.weights, self.device, "plan")

    @functools.cached_property
    def editor(self) -> Editor:
        """The method, loaded to edit, once for all seeds."""
        return self.method.load(self.weights, self.device, "edit")

    def code(self) -> dict[str, str]:
        """The method's own code: its module and the digest of what that imports."""
        module = cards.editor_module(self.method.editor)
        return {"module": module, "digest": code_digest(module, root=cards.ROOT)}

    def card(self) -> dict[str, Any]:
        """What determined the edits it stands beside; the same for every shard and repetition.

        What a card only presents (its label, say) is left to those who present it: edits are not made anew for that.
        """
        return {
            "name": self.method.name,
            "editor": self.method.editor,
            "code": self.code(),
            "exemplars": "shuffled" if self.method.shuffled else "own",
            "options": self.method.options,
            "weights": {name: path_digest(folder) for name, folder in self.method.weights(self.weights).items()},
            "native_size": self.method.card.resolution or self.bench.resolution,
            "bench": {"name": self.bench.name, "digest": self.bench.digest},
            "base_seed": self.base_seed,
            "conditioning": self.method.card.conditioning,
            "needs": self.method.card.needs,
            "deterministic": self.method.card.deterministic,
        }

    def finished(self, kind: str, card: Mapping[str, Any]) -> Finished:
        """Cache of this method's results of one kind; rows with equal code, options and weights share it."""
        code = [code_digest("editclip.editing.edits"), card["code"]["digest"]]
        return Finished(cache_folder(kind, code, self.method.editor, card["options"], card["weights"], self.device))


def reason(error: BaseException) -> str:
    """Class and first line of an exception."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def refuse_failed_samples(failed: Mapping[str, str], bench: Bench, method: str, step: str = "") -> None:
    """`failures.refuse_failures` with the share of the whole benchmark, so that the rule does not depend on sharding.

    A shard that breaks it alone stops at once, and `gather` sees failures that are spread out.

    Args:
        failed: reason by sample_id.
        bench: the benchmark.
        method: name of the method.
        step: what is to be done before starting again, besides mending the cause.
    """
    remedy = f"mend the cause{step and f', {step}'} and start again, what is finished is cached"
    refuse_failures(failed, len(bench.samples), method, remedy)


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Write a CSV file with LF line ends."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_rows(path: Path) -> list[Row]:
    """Rows of a CSV file, all values as text.

    Raises:
        InputError: there is no such file.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing: run the stage that writes it")
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def place(source: Path, target: Path) -> None:
    """Hard-link `source` at `target`, or copy it where links between the two are not possible."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
