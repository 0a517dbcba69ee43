"""The one exception a user is meant to read."""


class InputError(ValueError):
    """Something the user gave is wrong: the message is one sentence that names it and the fix.

    Every command-line stage prints the message alone and exits with status 2; anything else is a bug and keeps
    its traceback.
    """
