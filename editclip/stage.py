"""What every command-line stage shares: arguments, threads, one-sentence errors, atomic outputs with provenance.

A stage is `python -m editclip.<module>`; its `main()` parses arguments made here and writes one artefact inside
`output_folder` or `output_file`.
"""

import argparse
import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from editclip.errors import InputError
from editclip.provenance import write_provenance
from editclip.storage import atomic_file, atomic_folder, fingerprint

PROVENANCE = "provenance.json"
OF_SNAKEMAKE = ".snakemake_timestamp"  # which it puts into every output folder
ACCELERATORS = ("nvidia*", "kfd", "dxg")  # device nodes of NVIDIA's and AMD's drivers, and of Windows' GPUs in WSL


def config_value(text: str) -> Any:
    """A config part given on the command line: inline JSON, or the path of a YAML or JSON file."""
    if text.lstrip()[:1] in ("{", "[", '"'):
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise argparse.ArgumentTypeError(f"not valid JSON ({error}): {text[:80]}") from error
    import yaml

    try:
        return yaml.safe_load(Path(text).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise argparse.ArgumentTypeError(f"cannot read {text}: {error}") from error


def weights_argument(text: str) -> tuple[str, Path]:
    """The weights folder "name=folder", as `--weights` takes it."""
    name, separator, folder = text.partition("=")
    if not (name and separator and folder):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FOLDER")
    return name, Path(folder)


def shard_argument(text: str) -> tuple[int, int]:
    """The shard "k-of-n" (or "k/n") as (k, n), 0 ≤ k < n."""
    parts = re.fullmatch(r"(\d+)(?:-of-|/)(\d+)", text)
    if not parts or int(parts[1]) >= int(parts[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not K-of-N with K from 0 to N - 1")
    return int(parts[1]), int(parts[2])


def part(items: Iterable[Any], shard: tuple[int, int]) -> list[Any]:
    """Every n-th item from the k-th on, for shard (k, n), 0 ≤ k < n: n disjoint parts that make up the whole."""
    number, count = shard
    return list(items)[number::count]


def parser(description: str | None, out: str | None = None) -> argparse.ArgumentParser:
    """Argument parser of a stage, with `--threads`, `--force` and `--out`, required unless `out` says its default."""
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = "the file or folder to write" + (f" (default: {out})" if out else "")
    result.add_argument("--out", type=Path, required=out is None, help=where)
    result.add_argument("--force", action="store_true", help="replace even what this stage did not write")
    result.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads (default: all cores)")
    return result


def device() -> str:
    """ "cuda" where there is one, else "cpu"; torch, slow to import, is not asked where Linux shows no accelerator."""
    if sys.platform == "linux" and not any(any(Path("/dev").glob(node)) for node in ACCELERATORS):
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def use_threads(threads: int) -> None:
    """Give torch `threads` CPU threads and deterministic kernels: same machine, same threads, same bits."""
    import torch

    torch.set_num_threads(threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_deterministic_debug_mode("warn")  # use_deterministic_algorithms imports the compiler, for seconds


def _resolved(path: str | Path) -> Path:
    return Path(os.path.realpath(path))


def _relation(place: Path, other: Path) -> str | None:
    """How the resolved path `place` overlaps with the resolved path `other`, as a verb; None if it does not."""
    if place == other:
        return "is"
    if place in other.parents:
        return "contains"
    return "lies in" if other in place.parents else None


def _overlap(place: Path, inputs: Mapping[str, str | Path]) -> str | None:
    """Which input the resolved path `place` overlaps with and how, as a clause; None if with none.

    What the links in an input folder lead to, such as the files of fetched weights, belongs to it.
    """
    for name, path in inputs.items():
        for part in (Path(path), *(inner for inner in Path(path).rglob("*") if inner.is_symlink())):
            if relation := _relation(place, _resolved(part)):
                return f"{relation} the input {name} ({part})"
    return None


def _own(provenance: Path, module: str) -> dict[str, str]:
    """Fingerprints, by name, of the files that the stage `module` recorded as its own; none without such a record."""
    try:
        record = json.loads(provenance.read_text(encoding="utf-8")) if provenance.is_file() else {}
        return dict(record["files"]) if record["code"]["module"] == module else {}
    except (OSError, ValueError, KeyError, TypeError):  # not a record of ours
        return {}


def _foreign_file(folder: Path, module: str) -> str | None:
    """Name of a file in `folder` that the stage `module` did not write, or that was changed since; None if all are its.

    Folders without files, as Snakemake makes them for outputs, hold nothing foreign.
    """
    own = _own(folder / PROVENANCE, module)
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() and not path.is_symlink() or name == OF_SNAKEMAKE or (own and name == PROVENANCE):
            continue
        if name not in own or own[name] != fingerprint(path):
            return name
    return None


def _folder_place(out: Path, module: str, inputs: Mapping[str, str | Path], force: bool) -> Path:
    """The resolved place of the output folder `out`, once nothing of the user's would be lost there.

    Raises:
        InputError: `out` overlaps with an input or contains where the user works, or, unless `force`, it holds
            anything but an earlier output of the stage `module`.
    """
    place = _resolved(out)
    if overlap := _overlap(place, inputs):
        raise InputError(f"--out {out} {overlap}: name another folder")
    for where, path in (("working directory", Path.cwd()), ("home folder", os.path.expanduser("~"))):
        if (relation := _relation(place, _resolved(path))) in ("is", "contains"):
            raise InputError(f"--out {out} {relation} the {where}: name another folder")
    if place.exists() and not place.is_dir():
        raise InputError(f"--out {out} is a file: name a folder")
    if not force and (name := _foreign_file(place, module)):
        raise InputError(
            f"--out {out} exists, and {module} did not write {name} in it, or not as it is now: name another folder, "
            "or give --force to replace it"
        )
    return place


def _file_place(out: Path, module: str, inputs: Mapping[str, str | Path], force: bool) -> Path:
    """The resolved place of the output file `out`, once nothing of the user's would be lost there.

    Raises:
        InputError: a file exists there that is not an earlier output of the stage `module` as it wrote it, and that
            belongs to an input or is not to be replaced by `force`.
    """
    place = _resolved(out)
    if place.is_dir():
        raise InputError(f"--out {out} is a folder: name a file")
    if not place.exists() or _own(_beside(place), module).get(place.name) == fingerprint(place):
        return place
    if overlap := _overlap(place, inputs):
        raise InputError(f"--out {out} exists and {overlap}: name another file")
    if not force:
        raise InputError(
            f"--out {out} exists, and {module} did not write it, or not as it is now: name another file, or give "
            "--force to replace it"
        )
    return place


def _beside(file: Path) -> Path:
    """Where the provenance of an output file is."""
    return file.with_name(f"{file.name}.{PROVENANCE}")


@contextlib.contextmanager
def output_folder(
    out: Path, *, module: str, config: Any, inputs: Mapping[str, str | Path], force: bool, **facts: Any
) -> Iterator[Path]:
    """Yield a temporary folder that becomes `out`, with a provenance.json in it, when the block succeeds.

    Args:
        out: an earlier output of the same stage is replaced, the target of a link rather than the link.
        module: dotted name of the stage.
        config: what it was told.
        inputs: name → file or folder that is read.
        force: replace even what the stage did not write; never an input, nor where the user works.
        facts: what else `write_provenance` takes.

    Raises:
        InputError: something of the user's would be lost.
    """
    start = time.monotonic()
    with atomic_folder(_folder_place(out, module, inputs, force)) as temporary:
        yield temporary
        facts |= {"config": config, "inputs": inputs, "seconds": time.monotonic() - start}
        files = sorted(path for path in temporary.rglob("*") if path.is_symlink() or path.is_file())
        facts["files"] = {path.relative_to(temporary).as_posix(): fingerprint(path) for path in files}
        write_provenance(temporary / PROVENANCE, module=module, **facts)


@contextlib.contextmanager
def output_file(
    out: Path, *, module: str, config: Any, inputs: Mapping[str, str | Path], force: bool, **facts: Any
) -> Iterator[Path]:
    """Yield a temporary path that becomes `out`, with `<out>.provenance.json` beside it, when the block succeeds.

    Arguments and errors are those of `output_folder`, but that a new file may lie in an input.
    """
    start = time.monotonic()
    place = _file_place(out, module, inputs, force)
    with atomic_file(place) as temporary:
        yield temporary
        facts |= {"config": config, "inputs": inputs, "seconds": time.monotonic() - start}
        facts["files"] = {place.name: fingerprint(temporary)}
        write_provenance(_beside(place), module=module, **facts)


def run(main: Callable[[], None]) -> None:
    """Run a stage's `main`; an `InputError` becomes one line on stderr and exit status 2."""
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
