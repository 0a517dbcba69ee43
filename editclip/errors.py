"""The one exception a user is meant to read, and the hint it may end with."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something the user gave is wrong: the message is one sentence that names it and the fix.

    Every command-line stage prints the message alone and exits with status 2; anything else is a bug and keeps
    its traceback.
    """


def nearest(word: str, known: Iterable[str]) -> str:
    """` (did you mean "…"?)` for the known word closest to `word`, or nothing."""
    close = difflib.get_close_matches(str(word), [str(k) for k in known], n=1, cutoff=0.5)
    return f' (did you mean "{close[0]}"?)' if close else ""
