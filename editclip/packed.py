r"""Weights as a repository keeps them: in half precision, what several folders share once, and the world they are of.

    python -m editclip.packed --weights clip=results/micro/weights/clip ip2p=results/micro/weights/ip2p … \
        --triplets results/micro/triplets --out packed

A packed folder has the files of its layout and `packed.json`: the procedural world in which it was trained, and which
files, or which tensors of a file, lie in another packed folder beside it. `editclip.weights` makes it whole again, in
single precision.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from editclip import stage
from editclip.config.weights import LocalWeights
from editclip.data.world_identity import world_digest
from editclip.errors import InputError
from editclip.storage import UNDIGESTED, file_digest, path_digest, write_json

MANIFEST = "packed.json"
_LEFT_OUT = ("kept", "events.out.tfevents")  # of logs: starts of names


def is_packed(folder: Path) -> bool:
    """Whether a folder holds packed weights."""
    return (folder / MANIFEST).is_file()


def check_local(name: str, entry: LocalWeights) -> None:
    """Check weights from a path: that they are there, and the ones that are meant.

    Raises:
        InputError: there is no such folder, its digest is not the pinned one, or it is of another procedural world.
    """
    folder = Path(entry.path)
    if not folder.is_dir():
        raise InputError(f"config value weights.{name}.path: {folder} is not a folder")
    if entry.sha256 is not None and (found := path_digest(folder)) != entry.sha256:
        raise InputError(
            f"config value weights.{name}.sha256: {folder} has the digest {found}, not the pinned {entry.sha256}; "
            "restore the folder, or pin what it holds now"
        )
    if is_packed(folder):
        _check(f"config value weights.{name}.path", folder)


def _check(place: str, folder: Path) -> None:
    """Check that packed weights are whole and of the world that this code draws.

    Args:
        place: of the weights in the config, for messages.
        folder: packed weights.

    Raises:
        InputError: they were trained in another world, or a shared file is missing or another.
    """
    manifest = _manifest(folder)
    for name, shared in manifest["shared"].items():
        file = folder.parent / shared["file"]
        if not file.is_file() or file_digest(file) != shared["sha256"]:
            raise InputError(f"{place}: {folder / name} is kept as {file}, which is missing or changed; restore it")
    if manifest["world"] != world_digest(manifest["resolution"]):
        raise InputError(
            f"{place}: {folder} was trained in another world than the one this code draws at "
            f"{manifest['resolution']} px; check out the code that made it, or train it anew"
        )


def _manifest(folder: Path) -> Any:
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files = [(str(shared["file"]), str(shared["sha256"])) for shared in found["shared"].values()]
        if any(Path(file).is_absolute() or ".." in Path(file).parts for file in chain(found["shared"], *files)):
            raise ValueError("a shared file lies elsewhere")
        return {"resolution": int(found["resolution"]), "world": str(found["world"]), "shared": found["shared"]}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder / MANIFEST} is not what packed weights have; restore it") from error


def unpack(folder: Path, out: Path) -> None:
    """Fill `out` with the weights of a packed folder, in single precision; its provenance stays where it is.

    Raises:
        InputError: a file of tensors is unreadable, or lacks one.
    """
    shared = _manifest(folder)["shared"]
    own = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}
    for name in sorted({*shared, *own} - {stage.PROVENANCE, MANIFEST}):
        target, elsewhere = out / name, shared.get(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix == ".safetensors":
            state, metadata = _read(own[name]) if name in own else ({}, None)
            if elsewhere:
                found, metadata = _shared_tensors(folder, elsewhere)
                state = {**found, **state}
            _write({key: _single(tensor) for key, tensor in state.items()}, metadata, target)
        else:
            shutil.copyfile(own[name] if name in own else folder.parent / elsewhere["file"], target)


def _shared_tensors(folder: Path, shared: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str] | None]:
    """The tensors that a packed folder keeps in another one's file, and that file's metadata.

    Raises:
        InputError: the file is unreadable, or lacks one.
    """
    file = folder.parent / shared["file"]
    state, metadata = _read(file)
    if missing := set(shared["tensors"]) - set(state):
        raise InputError(f"{folder / MANIFEST} names the tensor {min(missing)}, which {file} lacks; restore both")
    return {key: state[key] for key in shared["tensors"]}, metadata


def pack(weights: Mapping[str, Path], resolution: int, out: Path) -> None:
    """Fill the folder `out` with a packed folder for each of some weights.

    Args:
        weights: folders by name; what one shares with an earlier one is stored with that one.
        resolution: side in pixels at which the world was drawn.
        out: an empty folder.
    """
    world, store = world_digest(resolution), _Store(out)
    for name, source in weights.items():
        shared = {}
        for file in sorted(path for path in source.rglob("*") if path.is_file()):
            inner = file.relative_to(source)
            if inner.parts[0] == "logs" and inner.parts[1].startswith(_LEFT_OUT):
                continue
            held = store.add(file, f"{name}/{inner.as_posix()}", sharing=inner.parts[0] not in UNDIGESTED)
            if held:
                shared[inner.as_posix()] = held
        write_json(out / name / MANIFEST, {"resolution": resolution, "world": world, "shared": shared})


class _Store:
    """A folder in which nothing lies twice."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, str] = {}  # digest -> place
        self._tensors: dict[str, dict[str, str]] = {}  # place of a file of tensors -> digest of each

    def add(self, file: Path, place: str, *, sharing: bool) -> dict[str, Any] | None:
        """Store a file at a place; say where it lies instead if it lies elsewhere already.

        Tensors lie elsewhere when another file holds them under the same names, as a CLIP does those of its text
        encoder; the file then has the others alone, or is left out where there are none.
        """
        target = self._folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.name == stage.PROVENANCE:
            write_json(target, _without_places(json.loads(file.read_text(encoding="utf-8"))))
        elif file.suffix == ".safetensors":
            state, metadata = _read(file)
            half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
            digests = {name: _tensor_digest(tensor) for name, tensor in half.items()}
            common = {other: digests.items() & held.items() for other, held in self._tensors.items()}
            best = max(common, key=lambda other: len(common[other]), default="")
            elsewhere = {name for name, _ in common.get(best, ())}
            rest = {name: tensor for name, tensor in half.items() if name not in elsewhere}
            if rest:
                self._tensors[place] = {name: digests[name] for name in rest}
                _write(rest, metadata, target)
            if elsewhere:
                return {"file": best, "sha256": file_digest(self._folder / best), "tensors": sorted(elsewhere)}
        else:
            content = file_digest(file)
            if sharing and content in self._files:
                return {"file": self._files[content], "sha256": content}
            self._files.setdefault(content, place)
            shutil.copyfile(file, target)
        return None


def _without_places(record: Mapping[str, Any]) -> dict[str, Any]:
    """A provenance whose inputs have their digests alone: where they lay is of no use on another machine."""
    inputs = {name: {"sha256": entry["sha256"]} for name, entry in record["inputs"].items()}
    return {**record, "inputs": inputs}


def _read(file: Path) -> tuple[dict[str, Any], dict[str, str] | None]:
    """Tensors and metadata of a safetensors file.

    Raises:
        InputError: it is none.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    try:
        with safe_open(file, framework="pt") as opened:
            return load_file(file), opened.metadata()
    except (OSError, SafetensorError) as error:
        raise InputError(f"{file} cannot be read ({error}); restore it") from error


def _single(tensor: Any) -> Any:
    """The tensor in single precision, if it is of numbers with a fraction."""
    return tensor.float() if tensor.is_floating_point() else tensor


def _tensor_digest(tensor: Any) -> str:
    """SHA-256 of a tensor's type, shape and content."""
    described = f"{tensor.dtype} {tuple(tensor.shape)} ".encode()
    return hashlib.sha256(described + tensor.numpy().tobytes()).hexdigest()


def _write(state: Mapping[str, Any], metadata: dict[str, str] | None, file: Path) -> None:
    from safetensors.torch import save_file

    save_file({key: tensor.contiguous() for key, tensor in state.items()}, file, metadata=metadata)


def main() -> None:
    """Pack from the command line."""
    parser = stage.parser(__doc__)
    parser.add_argument("--weights", type=stage.weights_argument, nargs="+", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--triplets", type=Path, required=True, help="the drawn triplets on which they were trained")
    given = parser.parse_args()
    weights, record = dict(given.weights), given.triplets / stage.PROVENANCE
    for name, folder in weights.items():
        if not folder.is_dir():
            raise InputError(f"--weights {name}: {folder} is not a folder")
    try:
        resolution = int(json.loads(record.read_text(encoding="utf-8"))["config"]["resolution"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{record} does not say at which resolution the world was drawn; give drawn triplets"
        ) from error
    config, inputs = {"resolution": resolution}, {"triplets": given.triplets, **weights}
    facts: dict[str, Any] = {"module": "editclip.packed", "threads": given.threads, "force": given.force}
    with stage.output_folder(given.out, config=config, inputs=inputs, **facts) as folder:
        pack(weights, resolution, folder)
    for name in weights:
        print(f"{name}: sha256: {path_digest(given.out / name)}")  # what a config pins


if __name__ == "__main__":
    stage.run(main)
