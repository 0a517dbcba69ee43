"""Atomic writes, content digests and the content-keyed cache.

Nothing half-written is ever taken for finished: files and folders are made under a temporary name and renamed. What
must survive a failed or killed job (checkpoints, finished samples, features) lives in the cache, outside the outputs
that Snakemake deletes on failure, under a key made of everything that determines the value.
"""

import contextlib
import functools
import glob
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

# The packages whose code decides values: their versions stand in every provenance and in every cache key.
PACKAGES = (
    *("torch", "torchvision", "diffusers", "transformers", "open_clip_torch", "lpips"),
    *("numpy", "pillow", "scikit-image"),
)

# Files that describe a run (time, memory, logs) rather than its result: they do not enter a folder's digest.
UNDIGESTED = ("provenance.json", "logs")

RECENT_NS = 2_000_000_000  # file systems count time in steps of up to 2 s: a file younger than that can change unseen


def digest(*parts: Any) -> str:
    """SHA-256 (64 hex digits) of JSON-serialisable parts; equal parts give equal digests on any machine."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: str | Path) -> str:
    """SHA-256 (64 hex digits) of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def path_digest(path: str | Path) -> str:
    """SHA-256 of a file, or of a folder's relative names and contents (without provenance, logs and what is hidden).

    Whichever process asks, what has not changed since is read once.
    """
    path = Path(path)
    if path.is_file():
        return _read_once(path, [("", path)], lambda: file_digest(path))
    members = sorted(p for p in path.rglob("*") if p.is_file())
    relative = [(p.relative_to(path), p) for p in members]
    shown = [(r, p) for r, p in relative if not any(part.startswith(".") for part in r.parts)]
    counted = [(r.as_posix(), p) for r, p in shown if r.parts[0] not in UNDIGESTED]
    return _read_once(path, counted, lambda: digest([(name, file_digest(p)) for name, p in counted]))


def _read_once(path: Path, members: Sequence[tuple[str, Path]], read: Callable[[], str]) -> str:
    """The digest that `read` makes of `path`, kept in the cache with names, sizes, times and places of its members.

    A link counts as what it leads to. Archives and `cp -p` set back the time of a file's contents, not the inode's. No
    cache is made for this: a notebook that only loads a model has none.
    """
    now, facts = time.time_ns(), [(name, file.stat()) for name, file in members]
    state = digest([(name, f.st_dev, f.st_ino, f.st_size, f.st_mtime_ns, f.st_ctime_ns) for name, f in facts])
    kept = cache_root() / "digests" / digest(os.fsencode(os.path.realpath(path)))
    with contextlib.suppress(OSError, UnicodeDecodeError):
        known = re.fullmatch(f"{state} ([0-9a-f]{{64}})", kept.read_text(encoding="ascii"))
        if known:
            return known[1]
    value = read()
    newest = max((max(f.st_mtime_ns, f.st_ctime_ns) for _, f in facts), default=0)
    if newest < now - RECENT_NS and cache_root().is_dir():
        with contextlib.suppress(OSError), atomic_file(kept) as temporary:
            temporary.write_text(f"{state} {value}", encoding="ascii")
    return value


def fingerprint(path: Path) -> str:
    """SHA-256 of a file, the target of a link; "" of what is neither, such as a pipe, which is not read."""
    if path.is_symlink():
        return os.readlink(path)
    return file_digest(path) if path.is_file() else ""


@functools.cache
def package_versions() -> dict[str, str]:
    """Versions of those `PACKAGES` that are installed."""
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


@contextlib.contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block succeeds, else remove it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty temporary folder; when the block succeeds it replaces `path`, else it is removed.

    What a killed process has left of an earlier one goes first; its name is one that nobody gives a folder of theirs.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{path.name}.unfinished-"
    for left in path.parent.glob(glob.escape(prefix) + "[a-z0-9_]" * 8):  # as tempfile names them
        shutil.rmtree(left, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=prefix))
    temporary.chmod(0o755)
    try:
        yield temporary
        if path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")


def cache_root() -> Path:
    """The cache: `.cache/` in the working directory, or the folder that the variable EDITCLIP_CACHE names."""
    return Path(os.environ.get("EDITCLIP_CACHE", ".cache"))


def cache_folder(kind: str, *key: Any) -> Path:
    """Folder of the cache entry `kind` (e.g. "checkpoints"), under a digest of `key` and package versions.

    It is made if missing.
    """
    folder = cache_root() / kind / digest(package_versions(), *key)[:24]
    folder.mkdir(parents=True, exist_ok=True)
    return folder
