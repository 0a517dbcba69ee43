"""Several processes for one training, by `accelerate launch`, and their end together."""

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator

from editclip.errors import InputError


def started() -> bool:
    """Whether this process is one of several that `start`, or the user's own launcher, has started."""
    return "WORLD_SIZE" in os.environ


def start(processes: int, module: str, arguments: list[str]) -> None:
    """Run `python -m module arguments` in `processes` processes: on a GPU each where there are any, else on the CPU.

    When one fails the others are ended, and this process exits with its status.
    """
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the processes speak for themselves
    told = {
        "--num_processes": processes,
        "--num_machines": 1,
        "--mixed_precision": "no",  # the recipe says
        "--dynamo_backend": "no",
        "--main_process_port": 0,  # any that is free
    }
    options = [text for name, value in told.items() for text in (name, str(value))]
    # Without GPUs --multi_gpu starts them on the CPU, where --cpu would start one alone.
    parsed = launch_command_parser().parse_args(["--multi_gpu", *options, "--module", module, *arguments])
    try:
        launch_command(parsed)
    except ChildFailedError as error:
        sys.exit(error.get_first_failure()[1].exitcode)


@contextlib.contextmanager
def one_of_several() -> Iterator[None]:
    """In a started process: end when the launcher has gone, let the first say the error, close the connection.

    A process that is alone notices nothing.
    """
    if not started():
        yield
        return
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
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
