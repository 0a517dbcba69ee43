"""Recipes (checked dataclasses, no defaults) and the command line that every training shares."""

import contextlib
import dataclasses
import inspect
import tempfile
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from editclip import stage
from editclip.errors import InputError, nearest
from editclip.provenance import code_digest
from editclip.storage import cache_folder, path_digest


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What `loop.fit` needs to know; each training adds its own keys by inheriting.

    Attributes:
        steps: optimiser updates.
        batch_size: examples per update, over all processes together.
        microbatch_size: examples per forward pass (gradients are accumulated); None = the whole batch.
        learning_rate: base rate; a training may give some parameter groups another one.
        schedule: "constant" or "cosine" (to zero at the last step).
        warmup_steps: steps of linear warm-up.
        betas, epsilon, weight_decay: of AdamW.
        max_grad_norm: L2 norm to which gradients are clipped; None = no clipping.
        ema_decay: decay of the moving average whose weights are validated and saved; None = none. It ramps up as
            min(decay, (1 + n) / (10 + n)) after n updates.
        precision: "fp32", or autocast to "bf16" or "fp16" (with loss scaling); weights stay fp32.
        log_every: steps between two log lines; validation and checkpoints happen only there.
        validate_every: steps between two validations, rounded up to a log line; None = at the end only.
        checkpoint_seconds: least time between two checkpoints.
    """

    steps: int
    batch_size: int
    microbatch_size: int | None
    learning_rate: float
    schedule: Literal["constant", "cosine"]
    warmup_steps: int
    betas: tuple[float, float]
    epsilon: float
    weight_decay: float
    max_grad_norm: float | None
    ema_decay: float | None
    precision: Literal["fp32", "bf16", "fp16"]
    log_every: int
    validate_every: int | None
    checkpoint_seconds: float


R = TypeVar("R", bound=Recipe)
T = TypeVar("T")


def _fits(value: Any, kind: Any) -> Any:
    """`value` as the annotated type `kind`; raises TypeError when it does not fit."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        for option in arguments:
            with contextlib.suppress(TypeError):
                return _fits(value, option)
    elif origin is Literal:
        if value in arguments:
            return value
    elif origin is tuple and isinstance(value, list | tuple):
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(kinds) == len(value):
            return tuple(map(_fits, value, kinds))
    elif origin is dict and isinstance(value, Mapping):
        return dict(value)
    elif kind is float and type(value) in (int, float, str):
        with contextlib.suppress(ValueError):  # YAML 1.1 reads 1e-8, without a dot, as text
            return float(value)
    elif type(value) is kind:
        return value
    raise TypeError


def read_recipe(kind: type[R], values: Mapping[str, Any]) -> R:
    """`values` as a `kind`, with every key checked.

    Raises:
        InputError: an unknown key (with the nearest known one), a missing key, or a value of another type.
    """
    hints = typing.get_type_hints(kind)
    known = [field.name for field in dataclasses.fields(kind)]
    name = kind.__name__
    for key in values:
        if key not in known:
            raise InputError(f"{name} has no key {key!r}{nearest(key, known)}; its keys: {', '.join(known)}")
    if missing := [key for key in known if key not in values]:
        raise InputError(f"{name} lacks the keys {', '.join(missing)}; every key must be given")
    checked = {}
    for key in known:
        try:
            checked[key] = _fits(values[key], hints[key])
        except TypeError:
            expected = getattr(hints[key], "__name__", None) if isinstance(hints[key], type) else hints[key]
            raise InputError(f"{name}: {key} is {values[key]!r}; it must be of type {expected}") from None
    return kind(**checked)


def build(kind: Callable[..., T], config: Mapping[str, Any], **fixed: Any) -> T:
    """`kind(**config, **fixed)`, after checking that `kind` takes every key of `config`.

    Raises:
        InputError: a key that `kind` does not take, or that is given by the training itself.
    """
    known = [name for name in inspect.signature(kind).parameters if name not in fixed]
    for key in config:
        if key not in known:
            name = getattr(kind, "__name__", kind)
            raise InputError(f"{name} takes no key {key!r} here{nearest(key, known)}; its keys: {', '.join(known)}")
    return kind(**config, **fixed)


@dataclass(frozen=True)
class Job(Generic[R]):
    """One training run: what it was asked, and where its files go.

    Attributes:
        recipe: the checked recipe.
        seed: seed of initialisation, batches and noise.
        inputs: folders given on the command line, by name (e.g. "triplets", "clip").
        out: folder to fill (temporary; it becomes `--out` when the run succeeds).
        checkpoints: cache folder that belongs to exactly this run (recipe, seed, threads, code and input contents).
    """

    recipe: R
    seed: int
    inputs: Mapping[str, Path]
    out: Path
    checkpoints: Path

    @property
    def logs(self) -> Path:
        """Folder of the logs inside `out`."""
        return self.out / "logs"


@contextlib.contextmanager
def training_job(module: str, kind: type[R], description: str | None, inputs: Sequence[str]) -> Iterator[Job[R]]:
    """Parse the command line of the training `module` and yield its `Job`.

    Args:
        module: dotted name of the calling module, e.g. "editclip.training.vae".
        kind: the recipe class.
        description: help text.
        inputs: names of the folders it needs; "text_to_image" becomes the option `--text-to-image`.
    """
    parser = stage.parser(description)
    parser.add_argument("--recipe", type=stage.config_value, required=True, help="inline JSON, or a YAML or JSON file")
    parser.add_argument("--seed", type=int, required=True)
    for name in inputs:
        parser.add_argument("--" + name.replace("_", "-"), type=Path, required=True, help=f"folder of {name}")
    arguments = parser.parse_args()
    folders = {name: getattr(arguments, name) for name in inputs}
    for name, folder in folders.items():
        if not folder.is_dir():
            raise InputError(f"--{name.replace('_', '-')} {folder} is not a folder; make or train it first")
    recipe = read_recipe(kind, arguments.recipe)
    stage.use_threads(arguments.threads)

    import torch

    from editclip.training.processes import process_state

    state = process_state()
    torch.manual_seed(arguments.seed)
    digests = {name: path_digest(folder) for name, folder in folders.items()}
    config = dataclasses.asdict(recipe)
    key = (module, code_digest(module), config, arguments.seed, arguments.threads, state.num_processes, digests)
    checkpoints = cache_folder("checkpoints", *key)
    with contextlib.ExitStack() as stack:
        if state.is_main_process:
            facts = {"threads": arguments.threads, "seed": arguments.seed, "force": arguments.force}
            context = stage.output_folder(arguments.out, module=module, config=config, inputs=folders, **facts)
            out = stack.enter_context(context)
        else:  # every process trains and saves, one of them for good
            out = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        yield Job(recipe, arguments.seed, folders, out, checkpoints)
