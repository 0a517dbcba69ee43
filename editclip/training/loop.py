"""The training loop that every model shares.

Everything random in step t comes from generators seeded by (seed, t), so a resumed run needs no generator state: model,
optimiser, moving average and step number are the whole checkpoint, and a run that was broken off ends bitwise equal to
an unbroken one (same machine, same threads, same number of processes). Processes and microbatches cut a batch, but not
its random numbers (`editclip.training.draws`), so that they change an update only by rounding.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from editclip.errors import InputError
from editclip.recipes.recipe import GradientRecipe
from editclip.storage import digest
from editclip.training.draws import Draws
from editclip.training.processes import process_state
from editclip.training.run_state import Group, RunState

__all__ = [
    "Group",
    "LossFunction",
    "autocast_type",
    "decay_groups",
    "device",
    "fit",
    "refuse_cut_batches",
    "refuse_microbatches",
    "seeded",
    "shuffled_batches",
]

LOG = logging.getLogger(__name__)

# (some loaded rows of a batch, their random numbers) -> named scalars; "loss" is minimised, all are logged
LossFunction = Callable[[Any, Draws], Mapping[str, Tensor]]


def device() -> torch.device:
    """The device of this process: its GPU where there is one, else the CPU."""
    return process_state().device


def seeded(seed: int, *purpose: Any) -> torch.Generator:
    """A CPU generator that depends on `seed` and `purpose` (e.g. "validation", or a step number) alone."""
    return torch.Generator().manual_seed(int(digest(seed, *purpose)[:15], 16))


def shuffled_batches(examples: int, batch_size: int, seed: int) -> Callable[[int], Tensor]:
    """Batches that go through a fresh permutation of the examples each epoch and drop the incomplete last one.

    Returns:
        A function from the step number to `batch_size` indices (int64) below `examples`.

    Raises:
        InputError: there are fewer examples than one batch needs.
    """
    per_epoch = examples // batch_size
    if per_epoch == 0:
        raise InputError(f"batch_size is {batch_size}, but there are only {examples} training examples; lower it")
    cached: tuple[int, Tensor] = (-1, torch.empty(0))

    def draw(step: int) -> Tensor:
        nonlocal cached
        epoch, position = divmod(step, per_epoch)
        if cached[0] != epoch:
            cached = epoch, torch.randperm(examples, generator=seeded(seed, "epoch", epoch))
        return cached[1][position * batch_size : (position + 1) * batch_size]

    return draw


def refuse_microbatches(recipe: GradientRecipe) -> None:
    """Refuse to cut the batches of a loss that looks at other rows, as a contrastive one at its negatives.

    Raises:
        InputError: the recipe asks for microbatches.
    """
    if recipe.microbatch_size is not None:
        raise InputError(
            "microbatch_size must be null: this loss looks at a batch as a whole; lower batch_size instead"
        )


def refuse_cut_batches(recipe: GradientRecipe) -> None:
    """Refuse microbatches, and several processes, for a loss that looks at other rows and does not gather them.

    Raises:
        InputError: the recipe asks for microbatches, or this is one of several processes.
    """
    refuse_microbatches(recipe)
    if process_state().num_processes > 1:
        raise InputError("this loss looks at a batch as a whole; train it in one process, with one GPU at most")


def decay_groups(module: nn.Module) -> list[Group]:
    """Two groups: matrices and kernels decay as the recipe says; biases, gains and scalars (ndim < 2) do not."""
    trained = [p for p in module.parameters() if p.requires_grad]
    return [
        Group([p for p in trained if p.ndim >= 2]),
        Group([p for p in trained if p.ndim < 2], weight_decay=0.0),
    ]


def fit(
    loss: LossFunction,
    groups: Sequence[Group],
    recipe: GradientRecipe,
    *,
    modules: Mapping[str, nn.Module],
    draw: Callable[[int], Tensor],
    seed: int,
    checkpoints: Path,
    logs: Path,
    load: Callable[[Tensor], Any] = lambda indices: indices,
    validate: Callable[[], Mapping[str, float]] | None = None,
    keep: Callable[[int], None] | None = None,
    clipped: Sequence[Sequence[nn.Parameter]] | None = None,
) -> None:
    """Train `modules` in place for `recipe.steps` AdamW updates, resuming from `checkpoints` when there is one.

    Several processes (`editclip.training.launch`) compute an equal share of every batch each and average gradients, so
    that a loss that is a mean over the batch's rows gives the same update as one process.

    Args:
        loss: the training loss of some loaded rows of a batch, their mean; every random number it needs comes from its
            second argument.
        groups: parameters to train.
        recipe: steps, batch size, optimiser and so on.
        modules: what is trained, by name; saved in checkpoints, in training mode inside `loss`, in evaluation mode
            (with the averaged weights, if any) inside `validate` and afterwards.
        draw: step → indices of the batch over all processes, e.g. `shuffled_batches`.
        seed: seed of every step's generator.
        checkpoints: cache folder of this run.
        logs: folder that receives `metrics.jsonl` and the TensorBoard files at the end.
        load: indices → batch, called in a background thread one step ahead (e.g. decoding images).
        validate: named scalars to log, called without gradients.
        keep: called with the step after each validation, with the weights that were validated.
        clipped: lists of parameters whose joint gradient norm is clipped, each on its own, to `recipe.max_grad_norm`;
            None = one list of all parameters.

    Raises:
        InputError: the loss is no longer finite, or the validation loss has risen for longer than `recipe.patience`.
    """
    run = RunState(groups, recipe, modules, checkpoints, clipped)
    dtype = autocast_type(recipe.precision)
    if run.main and recipe.precision == "bf16" and dtype is None:
        LOG.warning("precision is bf16, for which this CPU has no fast instructions: computing in fp32")
    with tqdm(total=recipe.steps, initial=run.step, disable=not run.main, mininterval=1) as bar:
        for parts in _batches(draw, load, range(run.step, recipe.steps), recipe):
            run.update(_accumulate_gradients(loss, parts, seed, run, dtype))
            bar.update()
            if run.step % recipe.log_every == 0 or run.step == recipe.steps:
                bar.set_postfix(run.report(validate, keep))
    run.finish(logs)


def autocast_type(precision: str) -> torch.dtype | None:
    """The type that a forward pass computes in where it can; None = single precision.

    bf16 is single precision on a CPU for which oneDNN has no kernels in it (on x86: one without AVX-512): what torch
    has instead is many times slower than fp32.
    """
    if precision == "bf16":
        return torch.bfloat16 if device().type != "cpu" or _fast_bf16() else None
    return torch.float16 if precision == "fp16" else None


def _fast_bf16() -> bool:
    """Whether this CPU has fast instructions for bf16."""
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _accumulate_gradients(
    loss: LossFunction, parts: list[tuple[Tensor, Any]], seed: int, run: RunState, dtype: torch.dtype | None
) -> dict[str, Tensor]:
    """Forward and backward over `parts` (rows of the batch, loaded microbatch); the means of the named scalars."""
    total, mine = run.recipe.batch_size, sum(len(rows) for rows, _ in parts)
    means: dict[str, Tensor] = {}
    for rows, batch in parts:
        share = len(rows) / mine
        generator = seeded(seed, "step", run.step, 0)  # the 0 has no meaning left, but decides the numbers of old runs
        with torch.autocast(device().type, dtype=dtype, enabled=dtype is not None), _attention(dtype):
            values = loss(batch, Draws(generator, rows, total))
        run.scaler.scale(values["loss"] * share).backward()
        for name, value in values.items():
            means[name] = means.get(name, 0) + value.detach() * share
    return means


def _attention(dtype: torch.dtype | None) -> AbstractContextManager[Any]:
    """The attention of a forward pass: plain in half precision on a CPU, where the fused one goes back far slower."""
    plain = dtype is not None and device().type == "cpu"
    return sdpa_kernel(SDPBackend.MATH) if plain else nullcontext()


def _batches(
    draw: Callable[[int], Tensor], load: Callable[[Tensor], Any], steps: range, recipe: GradientRecipe
) -> Iterator[list[tuple[Tensor, Any]]]:
    """This process's microbatches of each step: their rows of the batch, and what is loaded, one step ahead."""
    state = process_state()
    mine = torch.arange(recipe.batch_size)[state.process_index :: state.num_processes]
    parts = mine.split(recipe.microbatch_size or len(mine))

    def loaded(step: int) -> list[tuple[Tensor, Any]]:
        batch = draw(step)
        return [(rows, load(batch[rows])) for rows in parts]

    with ThreadPoolExecutor(1) as worker:
        ahead = worker.submit(loaded, steps.start) if steps else None
        for step in steps:
            assert ahead is not None
            loaded_parts = ahead.result()
            if step + 1 < steps.stop:
                ahead = worker.submit(loaded, step + 1)
            yield loaded_parts
