"""The command `editclip study`: studies in which people judge edits.

editclip study analyse --ratings FILE …     which metrics agree with people's ratings of edits?
"""

import importlib
import sys

from editclip.errors import InputError, nearest

# command: (module whose main() it runs, what it does)
COMMANDS = {
    "analyse": ("editclip.study.ratings", "which metrics agree with a CSV file of people's ratings of edits?"),
}


def _usage() -> str:
    lines = [f"  {name:8} {what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join([(__doc__ or "").strip(), "", "commands (each has --help):", *lines, ""])


def main() -> None:
    """Command line of `editclip study`."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        sys.stdout.write(_usage())
    elif name in COMMANDS:
        sys.argv = [f"editclip study {name}", *sys.argv[2:]]
        importlib.import_module(COMMANDS[name][0]).main()
    else:
        raise InputError(f'unknown command "{name}"{nearest(name, COMMANDS)}; see editclip study --help')
