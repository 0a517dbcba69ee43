"""The command `editclip`: the stages of the benchmark under one name.

editclip check baselines.ip2p      is this method a good citizen?
editclip score --edits … --bench … a folder of outputs in, a row of Table 1 out
editclip world triplets …          the stages, with the arguments of `python -m editclip.…`
"""

import importlib
import sys

from editclip import __version__, stage
from editclip.errors import InputError, nearest

# command: (module whose main() it runs, what it does)
COMMANDS = {
    "check": ("editclip.editing.check", "is one method a good citizen? its card, its module, the contract suite"),
    "world": ("editclip.data.world", "draw procedural triplets, or a benchmark tree"),
    "bench": ("editclip.data.bench", "build a benchmark from a TOP-Bench-like tree"),
    "texts": ("editclip.data.bench_texts", "write the texts.jsonl rows of a tree to fill in"),
    "train": ("editclip.training.__main__", "train one set of weights by a recipe"),
    "weights": ("editclip.weights", "fetch and check weights from a path or a model hub"),
    "edits": ("editclip.editing.edits", "prepare, edit or gather with one method"),
    "runtime": ("editclip.editing.runtime", "time single edits of one method"),
    "score": ("editclip.score", "score a folder of outputs: a row of Table 1 beside the paper's"),
    "tables": ("editclip.report.tables", "aggregate scores into tables"),
    "study": ("editclip.study.command", "which metrics agree with people's ratings of edits?"),
    "report": ("editclip.report.page", "render the HTML report of a run"),
}


def _usage() -> str:
    lines = [f"  {name:8} {what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join([(__doc__ or "").strip(), "", "commands (each has --help):", *lines, ""])


def _command() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        sys.stdout.write(_usage())
    elif name == "--version":
        sys.stdout.write(f"editclip {__version__}\n")
    elif name in COMMANDS:
        sys.argv = [f"editclip {name}", *sys.argv[2:]]
        importlib.import_module(COMMANDS[name][0]).main()
    else:
        raise InputError(f'unknown command "{name}"{nearest(name, COMMANDS)}; see editclip --help')


def main() -> None:
    """Entry point of the console script."""
    stage.run(_command)


if __name__ == "__main__":
    main()
