"""Two processes must make the updates that one makes, in every training that a run has."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch._dynamo  # optimisers import it, which takes seconds: once here rather than in every forked process
import training_toys as toys
from accelerate import PartialState
from safetensors.torch import load_file
from torch import multiprocessing, nn

from baselines.instamanip.vision_recipe import VisionRecipe
from editclip.config.section import checked
from editclip.config.tree import read_config
from editclip.errors import InputError
from editclip.provenance import ROOT
from editclip.recipes.recipe import GradientRecipe
from editclip.training import __main__ as runner
from editclip.training import loop
from editclip.training.draws import Draws
from editclip.training.loop import seeded

TRAINED = {name: e for name, e in read_config(str(ROOT / "config/smoke.yaml")).weights.items() if e.source == "train"}
ALONE = {name for name in TRAINED if name.startswith("instamanip")}  # whose losses look at a batch as a whole
WEIGHTS = {name: entry for name, entry in TRAINED.items() if name not in ALONE}
FEW = {
    "steps": 4,
    "warmup_steps": 5,
    "batch_size": 8,
    "log_every": 1,
    "validate_every": 2,  # twice: what is kept at the first is there when the trainings end
    "precision": "fp32",
    "validation_examples": 8,
    "validation_edits": 2,
}


def recipe_of(name: str) -> dict[str, Any]:
    """The smoke run's recipe of some weights, for a few steps and in single precision."""
    recipe = WEIGHTS[name].recipe
    return {**recipe, **{key: value for key, value in FEW.items() if key in recipe}}


def in_order() -> list[str]:
    """Names of the smoke run's trainings, each after those that it starts from."""
    order: list[str] = []
    while len(order) < len(WEIGHTS):
        order += [n for n, e in WEIGHTS.items() if n not in order and set(e.starts_from.values()) <= set(order)]
    return order


def arguments(kind: str, recipe: dict[str, Any], triplets: Path, starts: dict[str, Path], out: Path) -> list[str]:
    folders = [f"{role}={folder}" for role, folder in starts.items()]
    told = {"--kind": kind, "--recipe": json.dumps(recipe, default=str), "--triplets": triplets, "--out": out}
    given = [str(text) for pair in told.items() for text in pair]
    return [*given, "--seed", "3", "--threads", "2", "--processes", "2", "--from", *folders]


def _refused(*_: Any, **__: Any) -> None:
    raise AssertionError("only the first process copies")


def _run(rank: int, world: int, ports: list[int], calls: list[list[str]], cache: Path) -> None:
    """Run some trainings as process `rank` of `world`."""
    if rank > 0:
        shutil.copytree = _refused  # the first process may still be writing what it keeps
    for port, call in zip(ports, calls, strict=True):
        if world > 1:
            os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world))
            os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
            sys.argv = ["training", *call]
        else:
            sys.argv = ["training", *call[: call.index("--threads")], *call[call.index("--from") :], "--threads", "1"]
        os.environ["EDITCLIP_CACHE"] = str(cache)
        PartialState._reset_state()  # forked: forget that the parent was alone
        runner.main()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def run(world: int, calls: list[list[str]], folder: Path, function: Callable[..., None] = _run) -> None:
    """Run some trainings one after the other, each in `world` processes, forked so that nothing is imported anew."""
    ports = [free_port() for _ in calls]
    context = multiprocessing.start_processes(
        function, (world, ports, calls, folder), world, join=False, start_method="fork"
    )
    assert context is not None
    end = time.monotonic() + 600
    while not context.join(timeout=5):
        if time.monotonic() > end:  # they wait for each other
            for process in context.processes:
                process.kill()
            pytest.fail("the processes did not end")


def curve(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "logs" / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def made(triplets: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Path]]:
    """Weights by name, of one process and of two; those of two start from those of one."""
    folder = tmp_path_factory.mktemp("made")
    made: dict[int, dict[str, Path]] = {}
    for world in (1, 2):
        made[world] = {name: folder / f"{name}-{world}" for name in WEIGHTS}
        calls = [
            arguments(WEIGHTS[name].kind, recipe_of(name), triplets, starts_of(name, made[1]), made[world][name])
            for name in in_order()
        ]
        run(world, calls, folder / f"cache-{world}")
    return made


def starts_of(name: str, made: dict[str, Path]) -> dict[str, Path]:
    return {role: made[start] for role, start in WEIGHTS[name].starts_from.items()}


def test_two_processes_learn_what_one_learns(made: dict[int, dict[str, Path]]) -> None:
    for name in WEIGHTS:
        one, two = (curve(made[world][name]) for world in (1, 2))
        assert len(one) == len(two) == recipe_of(name)["steps"]
        for alone, shared in zip(one, two, strict=True):
            # the VAE's sharpness, a ratio of variances of small differences, enlarges the rounding
            ratios = {key: (alone.pop(key), shared.pop(key)) for key in set(alone) & {"validation/sharpness"}}
            assert shared == pytest.approx(alone, rel=1e-4, abs=1e-6), name
            assert all(b == pytest.approx(a, rel=1e-3) for a, b in ratios.values())


def test_two_processes_learn_in_half_precision(
    triplets: Path, made: dict[int, dict[str, Path]], tmp_path: Path
) -> None:
    """LPIPS is half there on the process that has rows for it, and single on the other, which has none."""
    name, out = "editclip_ip2p", tmp_path / "half"
    recipe = {**recipe_of(name), "precision": "bf16"}
    run(2, [arguments(WEIGHTS[name].kind, recipe, triplets, starts_of(name, made[1]), out)], tmp_path / "cache")
    for single, half in zip(curve(made[1][name]), curve(out), strict=True):
        assert half == pytest.approx(single, rel=0.02)  # bf16 has 8 bits: 0.4 % a rounding


def _learn(rank: int, world: int, ports: list[int], calls: list[list[str]], folder: Path) -> None:
    """Train a linear model, in microbatches, as process `rank` of `world` and save its weights."""
    if world > 1:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world))
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(ports[0]))
    PartialState._reset_state()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    inputs, model = torch.randn(20, 5), nn.Linear(5, 2)
    recipe = checked(GradientRecipe, {**toys.TRAINING, "microbatch_size": 3, "batch_size": 8})
    (folder / f"cache-{world}").mkdir(exist_ok=True)
    loop.fit(
        lambda rows, draws: {"loss": model(inputs[rows] + draws.normal(5)).square().mean()},
        loop.decay_groups(model),
        recipe,
        modules={"model": model},
        draw=loop.shuffled_batches(len(inputs), recipe.batch_size, 0),
        seed=0,
        checkpoints=folder / f"cache-{world}",
        logs=folder / f"logs-{world}-{rank}",
    )
    torch.save(model.state_dict(), folder / f"{world}-{rank}.pt")


def test_all_processes_hold_the_weights_of_one(tmp_path: Path) -> None:
    for world in (1, 2):
        run(world, [[]], tmp_path, _learn)
    one, first, second = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("1-0", "2-0", "2-1"))
    for name, weight in one.items():
        torch.testing.assert_close(first[name], weight)
        assert torch.equal(first[name], second[name])
    assert (tmp_path / "logs-2-0").is_dir() and not (tmp_path / "logs-2-1").exists()  # one process writes


def test_draws_are_those_of_the_rows_however_a_batch_is_cut() -> None:
    def drawn(draws: Draws) -> list[torch.Tensor]:
        both = draws.repeated(2)
        return [draws.uniform(), draws.normal(2, 3), draws.integers(1000), both.uniform(2)]

    whole = drawn(Draws.whole(seeded(0), 6))
    for rows in (torch.tensor([0, 2, 4]), torch.tensor([1, 3, 5]), torch.tensor([5])):
        part = drawn(Draws(seeded(0), rows, 6))
        twice = torch.cat([rows, rows + 6])
        for cut, all_rows, places in zip(part, whole, [rows, rows, rows, twice], strict=True):
            torch.testing.assert_close(cut, all_rows[places], rtol=0, atol=0)


def wait_for(happened: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def test_a_batch_that_processes_cannot_share_is_refused_before_they_start(tmp_path: Path) -> None:
    call = arguments("editclip.recipes.clip", {**toys.CLIP, "batch_size": 9}, tmp_path, {}, tmp_path / "out")
    command = [sys.executable, "-m", "editclip.training", *call]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: batch_size 9 cannot be shared evenly by 2 processes: make it a multiple\n"


def test_an_error_is_said_and_ends_all_processes(triplets: Path, tmp_path: Path) -> None:
    call = arguments("editclip.recipes.clip", {**toys.CLIP, "learning_rate": 1e30}, triplets, {}, tmp_path / "out")
    command = [sys.executable, "-m", "editclip.training", *call]
    environment = {**os.environ, "EDITCLIP_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "error: training diverged" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_killed_processes_are_gone_and_what_they_learnt_is_gone_on_with(triplets: Path, tmp_path: Path) -> None:
    """`--processes 2` by its own launcher, which is killed; what goes on ends where an unbroken training ends."""
    recipe = {**toys.CLIP, "steps": 60, "log_every": 1}
    call = arguments("editclip.recipes.clip", recipe, triplets, {}, tmp_path / "broken")
    environment = {**os.environ, "EDITCLIP_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "editclip.training", *call]
    launcher = subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.DEVNULL)
    wait_for(lambda: any(tmp_path.glob("cache/checkpoints/*/checkpoint.pt")), 120)
    workers = [int(pid) for pid in Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()]
    launcher.send_signal(signal.SIGKILL)
    launcher.wait()
    wait_for(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in workers), 20)
    assert not (tmp_path / "broken").exists()

    run(2, [call], tmp_path / "cache")
    run(2, [arguments("editclip.recipes.clip", recipe, triplets, {}, tmp_path / "whole")], tmp_path / "fresh")
    broken, whole = (load_file(tmp_path / name / "model.safetensors") for name in ("broken", "whole"))
    assert curve(tmp_path / "broken") == curve(tmp_path / "whole")
    assert all(torch.equal(weight, whole[name]) for name, weight in broken.items())


def test_a_loss_that_looks_at_a_batch_as_a_whole_is_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = checked(VisionRecipe, TRAINED["instamanip_vision"].recipe)
    loop.refuse_cut_batches(recipe)
    monkeypatch.setattr(loop, "process_state", lambda: SimpleNamespace(num_processes=2))
    with pytest.raises(InputError, match="train it in one process"):
        loop.refuse_cut_batches(recipe)
