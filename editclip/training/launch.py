"""Several processes for one training, and their end together."""

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator

from editclip.errors import InputError

_LAUNCHER = "EDITCLIP_LAUNCHER"  # process number of the one that has started this one


def started() -> int:
    """How many processes `start`, or a launcher of the user's, has started with this one; 0 = none, it is alone."""
    return int(os.environ.get("WORLD_SIZE", 0))


def start(processes: int, module: str, arguments: list[str]) -> None:
    """Run `python -m module arguments` in `processes` processes: on a GPU each where there are any, else on the CPU.

    When one fails the others are ended, and this process exits with its status.

    Raises:
        InputError: one was killed.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import get_args_parser, run

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the processes speak for themselves
    os.environ[_LAUNCHER] = str(os.getpid())
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # else torch says that it has set it; threads are set later
    # What `accelerate launch` does, without the user's defaults for it; --standalone finds a port that is free.
    told = ["--standalone", "--nproc-per-node", str(processes), "--module", module, *arguments]
    try:
        run(get_args_parser().parse_args(told))
    except ChildFailedError as error:
        status = error.get_first_failure()[1].exitcode
        if status < 0:
            name = signal.Signals(-status).name
            raise InputError(
                f"a process of the training was ended by {name}; if that was for want of memory, ask for more"
            ) from error
        sys.exit(status)


@contextlib.contextmanager
def one_of_several() -> Iterator[None]:
    """In a started process: end when the launcher has gone, let the first say the error, close the connection.

    A process that is alone notices nothing.
    """
    if not started():
        yield
        return
    if _LAUNCHER in os.environ:
        threading.Thread(target=_end_with, args=(int(os.environ[_LAUNCHER]),), daemon=True).start()
    from editclip.training.processes import process_state

    try:
        yield
    except InputError:
        if not process_state().is_main_process:
            time.sleep(2)  # mostly it is the first one's error too, who says it and whose exit ends the others
        raise
    process_state().destroy_process_group()


def _end_with(launcher: int) -> None:
    """Exit once the launcher has: it starts processes in sessions of their own, where no signal to it finds them."""
    while os.getppid() == launcher:
        time.sleep(1)
    os._exit(1)
