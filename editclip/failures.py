"""How many failed samples a result may stand on: one rule for preparing, editing and scoring."""

from collections.abc import Mapping

from editclip.errors import InputError

MAXIMUM_FAILED = 0.01  # of the samples; with more, what is left no longer stands for the method
LISTED = 10


def refuse_failures(failed: Mapping[str, str], total: int, method: str, remedy: str) -> None:
    """Stop when more than 1 % of a method's samples have failed.

    Args:
        failed: reason by sample.
        total: number of samples.
        method: name of the method.
        remedy: what to do about it, the end of the sentence.

    Raises:
        InputError: lists the first ten.
    """
    if len(failed) > MAXIMUM_FAILED * total:
        listed = "; ".join(f"{sample} ({why})" for sample, why in list(failed.items())[:LISTED])
        more = f"; and {len(failed) - LISTED} more" if len(failed) > LISTED else ""
        raise InputError(
            f"method {method} failed on {len(failed)} of {total} samples, more than {MAXIMUM_FAILED:.0%}: "
            f"{listed}{more}; {remedy}"
        )
