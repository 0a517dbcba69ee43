"""EditCLIP Bench: train, run and score EditCLIP and its baselines (https://arxiv.org/abs/2503.20318)."""

from typing import TYPE_CHECKING

__version__: str  # found when it is asked for: its place is pyproject.toml, so that a new one changes no code digest

if not TYPE_CHECKING:  # a type checker would take every name for an attribute

    def __getattr__(name: str) -> str:
        """The version, of the installed package or (conda's environment runs the checkout) as pyproject.toml states."""
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import importlib.metadata
        import tomllib
        from pathlib import Path

        try:
            return importlib.metadata.version("editclip-bench")
        except importlib.metadata.PackageNotFoundError:
            project = Path(__file__).resolve().parent.parent / "pyproject.toml"
            return tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"]
