"""Where an artefact comes from: the digest of the code that made it, and the provenance.json beside it.

Snakemake does not track package code, so each rule carries `code_digest` of its entry module in `params`: changing
what a file computes reruns exactly the rules that import it; changing its comments, docstrings, formatting or what it
only presents (`PRESENTING`) reruns none. Only the standard library is imported here, because the Snakefile does.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from editclip.storage import digest, package_versions, path_digest, write_json

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("editclip", "baselines")  # the code that the digest follows

# Literals of a module that tell readers of its results about it and that nothing is computed from; see `code_digest`.
PRESENTING = ("LABEL", "PAPER", "LICENSE", "TRAINED_ON", "GPU_GB", "LOSS")


def _module_file(module: str, root: Path) -> Path | None:
    """The source file of a dotted module of ours, or None."""
    path = root.joinpath(*module.split("."))
    if (path / "__init__.py").is_file():
        return path / "__init__.py"
    return path.with_suffix(".py") if path.with_suffix(".py").is_file() else None


@dataclass(frozen=True)
class _Source:
    """What is known of a source text: its digest, and its imports as (level, module, names) of each statement."""

    digest: str
    imports: tuple[tuple[int, str, tuple[str, ...]], ...]


@functools.cache
def _source(file: Path, text: bytes) -> _Source:
    """The source `text` of `file`, parsed once for each content."""
    tree = ast.parse(text, str(file))
    imports: list[tuple[int, str, tuple[str, ...]]] = []
    for node in ast.walk(tree):  # function bodies included
        if isinstance(node, ast.Import):
            imports.extend((0, alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imports.append((node.level, node.module or "", tuple(alias.name for alias in node.names)))
    tree.body = [statement for statement in tree.body if not _presents(statement)]
    words: list[str] = []
    _write_tree(tree, words)
    return _Source(hashlib.sha256("\n".join(words).encode()).hexdigest(), tuple(imports))


def _presents(statement: ast.stmt) -> bool:
    """Whether a statement assigns a literal to nothing but one of the names `PRESENTING`."""
    if isinstance(statement, ast.Assign):
        targets, value = statement.targets, statement.value
    elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
        targets, value = [statement.target], statement.value
    else:
        return False
    if not all(isinstance(target, ast.Name) and target.id in PRESENTING for target in targets):
        return False
    try:
        ast.literal_eval(value)
    except ValueError:  # computed: it may do something else besides
        return False
    return True


def _write_tree(part: Any, words: list[str]) -> None:
    """Append the words of a syntax tree: types of nodes, their fields by name, and constants with their types.

    Left out are docstrings, places in the file, and fields that are empty, because each version of Python adds some.
    """
    if isinstance(part, ast.Constant):
        words.append(f"{type(part.value).__name__} {part.value!a}")
    elif isinstance(part, ast.AST):
        words.append(f"({type(part).__name__}")
        for name in part._fields:
            value = getattr(part, name, None)
            if value is not None and value != []:
                words.append(name)
                _write_tree(value, words)
        words.append(")")
    elif isinstance(part, list):
        words.append("[")
        for item in part:
            if not _is_text(item):
                _write_tree(item, words)
        words.append("]")
    else:  # a name, or a number of dots or of a conversion
        words.append(repr(part))


def _is_text(part: Any) -> bool:
    """Whether a part of a syntax tree is a statement that is only a text: a docstring, also of an attribute."""
    return isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant) and isinstance(part.value.value, str)


@functools.cache
def _imported(file: Path, root: Path) -> set[str]:
    """Dotted names of our own modules that `file` imports anywhere, function bodies included."""
    package = file.relative_to(root).parent.parts
    names: set[str] = set()
    for level, module, members in _source(file, file.read_bytes()).imports:
        start = ".".join(package[: len(package) - level + 1]) if level else ""
        base = ".".join(filter(None, (start, module)))
        names.update((base, *(f"{base}.{member}" for member in members)))  # a member may itself be a module
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
    """Digest (16 hex digits) of the import closure of `modules`: names of files and what their code computes.

    It stays when comments, docstrings, formatting or literals of the names `PRESENTING` change. It is the same in every
    supported version of Python.
    """
    total = hashlib.sha256()
    for file in import_closure(*modules, root=root):
        total.update(f"{file.relative_to(root).as_posix()}\0{_source(file, file.read_bytes()).digest}\0".encode())
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
    method: Mapping[str, str] | None = None,
    threads: int | None = None,
    seed: int | None = None,
) -> None:
    """Write the provenance of one artefact to `path`: code, config, versions, device, time, memory, digests.

    Args:
        path: file to write.
        module: the stage.
        config: what it was given of the config.
        inputs: files and folders that it read, by name.
        files: what the artefact consists of, name → fingerprint; by it the stage knows its own output again.
        seconds: its run time.
        method: module and digest of the method's own code, which a stage that runs a method imports by name.
        threads: CPU threads.
        seed: the stage's seed.
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
                **({"method": method} if method else {}),
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
