"""Two processes must make the updates that one makes."""

import os
import socket
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # optimisers import it, which takes seconds: once here rather than in every forked process
import training_toys as toys
from accelerate import PartialState
from torch import multiprocessing, nn

from editclip.config.section import checked
from editclip.recipes.recipe import GradientRecipe
from editclip.training import loop


def _train(rank: int, world: int, port: int, folder: Path) -> None:
    """Train a small model as process `rank` of `world` and save its weights."""
    torch.set_num_threads(1)
    if world > 1:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world))
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    PartialState._reset_state()
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(20, 5, generator=generator)
    torch.manual_seed(1)
    model = nn.Linear(5, 2)
    settings: dict[str, Any] = {**toys.TRAINING, "microbatch_size": 3, "batch_size": 8}
    own = folder / f"logs-{world}-{rank}"
    checkpoints = folder / f"cache-{world}"
    checkpoints.mkdir(exist_ok=True)
    recipe = checked(GradientRecipe, settings)
    loop.fit(
        lambda indices, generator: {"loss": model(inputs[indices]).square().mean()},
        loop.decay_groups(model),
        recipe,
        modules={"model": model},
        draw=loop.shuffled_batches(len(inputs), recipe.batch_size, 0),
        seed=0,
        checkpoints=checkpoints,
        logs=own / "logs",
    )
    torch.save(model.state_dict(), folder / f"{world}-{rank}.pt")


def test_two_processes_equal_one(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for world in (1, 2):
        context = multiprocessing.start_processes(
            _train, (world, port, tmp_path), nprocs=world, join=False, start_method="fork"
        )
        assert context is not None
        while not context.join(timeout=60):
            pass
    one, first, second = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("1-0", "2-0", "2-1"))
    for name, weight in one.items():
        torch.testing.assert_close(first[name], weight)
        assert torch.equal(first[name], second[name])
    assert (tmp_path / "logs-2-0").is_dir() and not (tmp_path / "logs-2-1").exists()  # one process writes
