r"""Train one set of weights: the runner of every training.

    python -m editclip.training --kind editclip.recipes.ip2p --recipe JSON --seed N --triplets DIR \
        --from text_to_image=DIR … --out DIR

A training that was broken off goes on from its last checkpoint, which lies in the cache. `--processes N`, or
`--gpus N`, shares it between N processes; the threads are those of all together.
"""

import argparse
import contextlib
import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any

from editclip import stage
from editclip.config.section import checked
from editclip.errors import InputError
from editclip.provenance import code_digest
from editclip.recipes.kinds import Kind, check_folder, read_kind
from editclip.recipes.recipe import GradientRecipe, Recipe
from editclip.storage import cache_folder, path_digest
from editclip.training import launch
from editclip.training.job import Job


def _folders(kind: Kind, starts: dict[str, Path], triplets: Path) -> dict[str, Path]:
    """The folders that the training reads, by name.

    Raises:
        InputError: a role is missing, unknown, or its folder does not exist.
    """
    for role in starts:
        if role not in kind.starts_from:
            raise InputError(f"{kind.name} starts from {', '.join(kind.starts_from) or 'nothing'}, not from {role!r}")
    for role in kind.starts_from:
        if role not in starts:
            raise InputError(f"{kind.name} starts from {role!r}; give --from {role}=FOLDER")
    folders = {"triplets": triplets, **{role: starts[role] for role in kind.starts_from}}
    for name, folder in folders.items():
        if not folder.is_dir():
            raise InputError(f"{name}: {folder} is not a folder; make or train it first")
    return folders


def _train(kind: Kind, recipe: Recipe, folders: dict[str, Path], arguments: argparse.Namespace) -> None:
    """Train in this process, alone or as one of several."""
    import torch

    from editclip.training.loop import autocast_type
    from editclip.training.processes import process_state

    assert kind.training is not None
    training, state = importlib.import_module(kind.training), process_state()
    stage.use_threads(max(1, arguments.threads // state.num_processes))
    torch.manual_seed(arguments.seed)
    values = recipe.model_dump(mode="json")
    digests = {name: path_digest(folder) for name, folder in folders.items()}
    key = (kind.training, code_digest(kind.training), values, arguments.seed, arguments.threads, state.num_processes)
    precision = str(autocast_type(recipe.precision)) if isinstance(recipe, GradientRecipe) else ""  # of this machine
    checkpoints = cache_folder("checkpoints", *key, precision, digests)
    with contextlib.ExitStack() as stack:
        if state.is_main_process:
            config = {"kind": kind.name, "recipe": values}
            facts: dict[str, Any] = {"threads": arguments.threads, "seed": arguments.seed, "force": arguments.force}
            context = stage.output_folder(arguments.out, module=kind.training, config=config, inputs=folders, **facts)
            out = stack.enter_context(context)
        else:  # all train, and what the others may save is dropped
            out = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        weights = {role: folders[role] for role in kind.starts_from}
        training.run(Job(recipe, arguments.seed, arguments.triplets, weights, out, checkpoints))
        if state.is_main_process:
            check_folder(kind, out)


def main() -> None:
    """Train from the command line."""
    parser = stage.parser(__doc__)
    parser.add_argument("--kind", required=True, help="dotted name of the recipe module")
    parser.add_argument("--recipe", type=stage.config_value, required=True, help="inline JSON, or a YAML or JSON file")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--triplets", type=Path, required=True, help="folder of the training data")
    starts = "what the kind starts from"
    parser.add_argument(
        "--from", dest="starts", type=stage.weights_argument, nargs="*", default=[], metavar="ROLE=FOLDER", help=starts
    )
    shared = "processes that share the training on the CPU, and its threads (default: 1)"
    parser.add_argument("--processes", type=int, default=1, metavar="N", help=shared)
    each = "GPUs, with a process each, that share the training (default: 0, which takes one if there is one)"
    parser.add_argument("--gpus", type=int, default=0, metavar="N", help=each)
    arguments = parser.parse_args()
    processes = launch.started() or max(arguments.gpus, arguments.processes)
    kind = read_kind(arguments.kind)
    if kind.training is None or kind.recipe is None:
        raise InputError(f"{kind.name} cannot be trained here; give its weights as source path or hub")
    recipe = checked(kind.recipe, arguments.recipe, "recipe")
    folders = _folders(kind, dict(arguments.starts), arguments.triplets)
    if min(arguments.gpus, arguments.processes - 1) < 0:
        raise InputError("--gpus must be 0 or more, and --processes 1 or more")
    if isinstance(recipe, GradientRecipe) and recipe.batch_size % processes:
        size = recipe.batch_size
        raise InputError(f"batch_size {size} cannot be shared evenly by {processes} processes: make it a multiple")
    if processes > 1 and not launch.started():
        launch.start(processes, "editclip.training", sys.argv[1:])
    else:
        with launch.one_of_several():
            _train(kind, recipe, folders, arguments)


if __name__ == "__main__":
    stage.run(main)
