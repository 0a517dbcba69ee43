"""What a piece of code does besides its result: files it leaves, text it prints, random state it moves."""

import contextlib
import io
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_watched: "list[SideEffects]" = []  # an audit hook cannot be removed, so one hook serves whoever is in this list


@dataclass
class SideEffects:
    """What happened inside `observed`: paths written and still there, standard output, random generators that moved."""

    written: list[str] = field(default_factory=list)
    printed: str = ""
    moved: list[str] = field(default_factory=list)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watched or event not in ("open", "os.mkdir", "os.rename"):
        return
    path = os.fsdecode(arguments[0]) if isinstance(arguments[0], str | bytes | os.PathLike) else ""
    writes = event != "open" or bool((arguments[2] or 0) & _WRITING)
    # Python's own bytecode cache, written when a method imports something late, is not the method's doing.
    if path and writes and not path.startswith("/dev/") and "__pycache__" not in path:
        for effects in _watched:
            effects.written.append(path)


def _random_states() -> dict[str, Any]:
    states = {"random": random.getstate(), "numpy.random": repr(np.random.get_state()), "torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["torch.cuda"] = torch.cuda.get_rng_state()
    return {name: state.tolist() if isinstance(state, torch.Tensor) else state for name, state in states.items()}


@contextlib.contextmanager
def observed() -> Iterator[SideEffects]:
    """Watch a block, in an empty working directory; what it yields is complete when the block has ended.

    Python's audit events tell of files opened from Python anywhere; files that libraries write from C are seen only in
    the working directory. Files that are gone at the end, as temporary ones should be, do not count. Standard output is
    watched at the level of the file descriptor as well.
    """
    if not getattr(sys, "_editclip_audited", False):
        sys.addaudithook(_audit)
        sys._editclip_audited = True  # type: ignore[attr-defined]  # survives a reload of this module
    effects, states = SideEffects(), _random_states()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as descriptor, contextlib.chdir(folder):
        sys.stdout.flush()
        standard, text = os.dup(1), io.StringIO()
        os.dup2(descriptor.fileno(), 1)
        _watched.append(effects)
        try:
            with contextlib.redirect_stdout(text):
                yield effects
        finally:
            _watched.remove(effects)
            os.dup2(standard, 1)
            os.close(standard)
        descriptor.seek(0)
        effects.printed = text.getvalue() + descriptor.read().decode(errors="replace")
        here = [path.relative_to(folder).as_posix() for path in Path(folder).rglob("*")]
        effects.written = [path for path in effects.written if Path(folder, path).exists()]
        effects.written.extend(name for name in here if not any(name in path for path in effects.written))
    effects.moved = [name for name, state in _random_states().items() if state != states[name]]
