"""Where an artefact comes from: the digest of the code that made it, and the provenance.json beside it.

Snakemake does not track package code, so each rule carries `code_digest` of its entry module in `params`: editing a
file reruns exactly the rules that import it. Only the standard library is imported here, because the Snakefile does.
"""

import ast
import functools
import hashlib
import platform
import re
import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from editclip.storage import digest, package_versions, path_digest, write_json

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("editclip", "baselines")  # the code that the digest follows


def _module_file(module: str, root: Path) -> Path | None:
    """The source file of a dotted module of ours, or None."""
    path = root.joinpath(*module.split("."))
    if (path / "__init__.py").is_file():
        return path / "__init__.py"
    return path.with_suffix(".py") if path.with_suffix(".py").is_file() else None


@functools.cache
def _imported(file: Path, root: Path) -> set[str]:
    """Dotted names of our own modules that `file` imports anywhere, function bodies included."""
    package = file.relative_to(root).parent.parts
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), str(file))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            base = ".".join(filter(None, (start, node.module)))
            names.add(base)
            names.update(f"{base}.{alias.name}" for alias in node.names)  # the name may itself be a module
    return {n for n in names if n.split(".")[0] in PACKAGES}


@functools.cache
def import_closure(*modules: str, root: Path = ROOT) -> tuple[Path, ...]:
    """Files of `editclip/` and `baselines/` that run when `modules` are imported, sorted.

    Raises:
        ModuleNotFoundError: one of `modules` has no file here.
    """
    files: set[Path] = set()
    pending = list(modules)
    for module in modules:
        if _module_file(module, root) is None:
            raise ModuleNotFoundError(f"no module {module!r} in {root}")
    while pending:
        parts = pending.pop().split(".")
        for depth in range(1, len(parts) + 1):  # importing a.b.c also runs a/__init__.py and a/b/__init__.py
            file = _module_file(".".join(parts[:depth]), root)
            if file is not None and file not in files:
                files.add(file)
                pending.extend(_imported(file, root))
    return tuple(sorted(files))


def code_digest(*modules: str, root: Path = ROOT) -> str:
    """Digest (16 hex digits) of the import closure of `modules`, names and bytes."""
    total = hashlib.sha256()
    for file in import_closure(*modules, root=root):
        total.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return total.hexdigest()[:16]


def _git(*arguments: str) -> str | None:
    try:
        answer = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()


def _device() -> str:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    try:
        names = re.findall(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), flags=re.MULTILINE)
    except OSError:  # not Linux
        names = []
    return f"{len(names)} x {names[0]}" if names else platform.processor() or platform.machine()


def write_provenance(
    path: Path,
    *,
    module: str,
    config: Any,
    inputs: Mapping[str, str | Path],
    files: Mapping[str, str],
    seconds: float,
    threads: int | None = None,
    seed: int | None = None,
) -> None:
    """Write the provenance of one artefact to `path`: code, config, versions, device, time, memory, digests.

    `files` says what the artefact consists of, name → fingerprint; by it the stage knows its own output again.
    """
    status = _git("status", "--porcelain")
    write_json(
        path,
        {
            "code": {
                "commit": _git("rev-parse", "HEAD"),
                "dirty": None if status is None else bool(status),
                "module": module,
                "digest": code_digest(module),
            },
            "config": config,
            "config_digest": digest(config),
            "python": platform.python_version(),
            "packages": package_versions(),
            "device": _device(),
            "threads": threads,
            "seed": seed,
            "seconds": round(seconds, 3),
            "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            "inputs": {name: {"path": str(p), "sha256": path_digest(p)} for name, p in inputs.items()},
            "files": files,
        },
    )
