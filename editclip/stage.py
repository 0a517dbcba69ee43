"""What every command-line stage shares: arguments, threads, one-sentence errors, atomic outputs with provenance.

A stage is `python -m editclip.<module>`; its `main()` parses arguments made here and writes one artefact inside
`output_folder` or `output_file`.
"""

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from editclip.errors import InputError
from editclip.provenance import write_provenance
from editclip.storage import atomic_file, atomic_folder

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


def parser(description: str | None, out: str | None = None) -> argparse.ArgumentParser:
    """Argument parser of a stage, with `--threads` and `--out`, which is required unless `out` says its default."""
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = "the file or folder to write" + (f" (default: {out})" if out else "")
    result.add_argument("--out", type=Path, required=out is None, help=where)
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
    torch.use_deterministic_algorithms(True, warn_only=True)


@contextlib.contextmanager
def output_folder(
    out: Path, *, module: str, config: Any, inputs: Mapping[str, str | Path], **facts: Any
) -> Iterator[Path]:
    """Yield a temporary folder that becomes `out`, with a provenance.json in it, when the block succeeds."""
    start = time.monotonic()
    with atomic_folder(out) as temporary:
        yield temporary
        seconds = time.monotonic() - start
        write_provenance(
            temporary / "provenance.json", module=module, config=config, inputs=inputs, seconds=seconds, **facts
        )


@contextlib.contextmanager
def output_file(
    out: Path, *, module: str, config: Any, inputs: Mapping[str, str | Path], **facts: Any
) -> Iterator[Path]:
    """Yield a temporary path that becomes `out`, with `<out>.provenance.json` beside it, when the block succeeds."""
    start = time.monotonic()
    with atomic_file(out) as temporary:
        yield temporary
        seconds = time.monotonic() - start
        beside = out.with_name(out.name + ".provenance.json")
        write_provenance(beside, module=module, config=config, inputs=inputs, seconds=seconds, **facts)


def run(main: Callable[[], None]) -> None:
    """Run a stage's `main`; an `InputError` becomes one line on stderr and exit status 2."""
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
