"""The state of one training run: optimiser, learning rates, moving average, checkpoint and logs."""

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from editclip.errors import InputError
from editclip.recipes.recipe import GradientRecipe
from editclip.storage import atomic_file, write_json
from editclip.training.learning_rate import learning_rate_factor
from editclip.training.processes import averaged, process_state

CHECKPOINT = "checkpoint.pt"
METRICS = "metrics.jsonl"
COST = "cost.json"  # what the training took: {"seconds": …, "of": "cores" or "GPUs"}


@dataclass
class Group:
    """Parameters that share a base learning rate and a weight decay; None = the recipe's."""

    parameters: Sequence[nn.Parameter]
    learning_rate: float | None = None
    weight_decay: float | None = None


def _moving_average(parameters: Sequence[nn.Parameter], decay: float) -> Any:
    """An EMAModel; imported here because the import of diffusers takes seconds and CLIP trainings need no average."""
    from diffusers.training_utils import EMAModel

    return EMAModel(parameters, decay=decay)


class RunState:
    """Everything that changes while training, resumed from `folder` when it holds a checkpoint.

    Attributes:
        step: number of updates made.
        main: whether this process writes files.
        scaler: loss scaling of fp16 (does nothing in other precisions).
        seconds: of a core, or of a GPU, that this process had spent when its clock was last read.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        recipe: GradientRecipe,
        modules: Mapping[str, nn.Module],
        folder: Path,
        clipped: Sequence[Sequence[nn.Parameter]] | None,
    ) -> None:
        """Build the optimiser of `groups` and load the checkpoint, if any; see `loop.fit` for the arguments."""
        self.recipe, self.modules, self.folder = recipe, modules, folder
        self.parameters = list(chain.from_iterable(group.parameters for group in groups))
        self.clipped = [self.parameters] if clipped is None else clipped
        self.base_rates = [recipe.learning_rate if g.learning_rate is None else g.learning_rate for g in groups]
        decays = [recipe.weight_decay if g.weight_decay is None else g.weight_decay for g in groups]
        lists = [{"params": list(g.parameters), "weight_decay": d} for g, d in zip(groups, decays, strict=True)]
        self.optimizer = torch.optim.AdamW(
            lists, lr=recipe.learning_rate, betas=recipe.betas, eps=recipe.epsilon, fused=True
        )
        self.average = None if recipe.ema_decay is None else _moving_average(self.parameters, recipe.ema_decay)
        kind = process_state().device.type
        self.scaler = torch.amp.GradScaler(kind, enabled=recipe.precision == "fp16")
        self.main = process_state().is_main_process
        self.step = 0
        self.totals: list[Mapping[str, Tensor]] = []
        self.validated = 0
        self.log: list[str] = []
        self.seconds = 0.0
        self._resume()
        self.saved = time.monotonic()
        self.clock = time.monotonic if kind == "cuda" else time.process_time
        self.read = self.clock()
        for module in modules.values():
            module.train()

    def update(self, values: Mapping[str, Tensor]) -> None:
        """One AdamW update from the accumulated gradients; `values` are kept for the next log line."""
        for parameter in self.parameters:
            if parameter.grad is not None:
                parameter.grad = averaged(parameter.grad)
        factor = learning_rate_factor(self.step, self.recipe)
        for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * factor
        if self.recipe.max_grad_norm is not None:
            self.scaler.unscale_(self.optimizer)
            for parameters in self.clipped:
                nn.utils.clip_grad_norm_(parameters, self.recipe.max_grad_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.step(self.parameters)
        self.totals.append(values)
        self.step += 1

    def report(
        self, validate: Callable[[], Mapping[str, float]] | None, keep: Callable[[int], None] | None
    ) -> dict[str, float]:
        """Log means since the last report, validate and write a checkpoint when due; the scalars logged.

        Raises:
            InputError: a loss is no longer finite, or the validation loss has risen for too long.
        """
        # In single precision: a value may be half on one process and not on another that had no rows for it.
        logged = {key: torch.stack([values[key].float() for values in self.totals]) for key in self.totals[0]}
        line = {key: averaged(values.mean()).item() for key, values in logged.items()}
        self.totals.clear()
        if not math.isfinite(line["loss"]):
            raise InputError(f"training diverged: the loss is {line['loss']} at step {self.step}; lower learning_rate")
        every, done = self.recipe.validate_every, self.step >= self.recipe.steps
        if validate is not None and (done or (every is not None and self.step - self.validated >= every)):
            line |= {f"validation/{key}": value for key, value in self._validated(validate, keep).items()}
            self.validated = self.step
            self._refuse_rising(line.get("validation/loss"))
        line["learning_rate"] = self.optimizer.param_groups[0]["lr"]
        if self.main:
            self.log.append(json.dumps({"step": self.step, **line}))
            with open(self.folder / METRICS, "a", encoding="utf-8") as file:  # to look at meanwhile
                file.write(self.log[-1] + "\n")
            if done or time.monotonic() - self.saved >= self.recipe.checkpoint_seconds:
                self._save()
        return line

    def finish(self, logs: Path) -> None:
        """Leave the averaged weights in the modules, set them to evaluation mode and write the logs."""
        if self.average is not None:
            self.average.copy_to(self.parameters)
        for module in self.modules.values():
            module.eval()
        if self.main:
            logs.mkdir(parents=True, exist_ok=True)
            self._write_log(logs / METRICS)
            seconds = self._spent() * process_state().num_processes
            write_json(logs / COST, {"seconds": seconds, "of": "GPUs" if self.clock is time.monotonic else "cores"})
            with SummaryWriter(str(logs)) as writer:
                for line in map(json.loads, self.log):
                    step = line.pop("step")
                    for name, value in line.items():
                        writer.add_scalar(name, value, step)

    @torch.no_grad()
    def _validated(
        self, validate: Callable[[], Mapping[str, float]], keep: Callable[[int], None] | None
    ) -> Mapping[str, float]:
        if self.average is not None:
            self.average.store(self.parameters)
            self.average.copy_to(self.parameters)
        for module in self.modules.values():
            module.eval()
        values = validate()
        if keep is not None and self.main:
            keep(self.step)
        for module in self.modules.values():
            module.train()
        if self.average is not None:
            self.average.restore(self.parameters)
        return values

    def _refuse_rising(self, loss: float | None) -> None:
        """Raise an `InputError` when the validation loss has been above its least value for too long."""
        if loss is None or self.recipe.patience is None:
            return
        earlier = [line for line in map(json.loads, self.log) if "validation/loss" in line]
        if not earlier:
            return
        least = min(earlier, key=lambda line: line["validation/loss"])
        value, step = least["validation/loss"], least["step"]
        if loss > value and self.step - step >= self.recipe.patience:
            raise InputError(
                f"training went astray: the validation loss is {loss:.4g} at step {self.step}, and it was {value:.4g} "
                f"at step {step}, {self.step - step} steps ago; lower learning_rate, or raise patience"
            )

    def _spent(self) -> float:
        """`seconds`, up to now."""
        now = self.clock()
        self.seconds, self.read = self.seconds + now - self.read, now
        return self.seconds

    def _save(self) -> None:
        state = {
            "step": self.step,
            "seconds": self._spent(),
            "validated": self.validated,
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "log": self.log,
        }
        with atomic_file(self.folder / CHECKPOINT) as temporary, open(temporary, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())  # a power cut must not leave the new name on an unwritten file
        self.saved = time.monotonic()

    def _resume(self) -> None:
        """Load the checkpoint, if there is one; the log becomes the one of its step."""
        if (self.folder / CHECKPOINT).is_file():
            state = torch.load(self.folder / CHECKPOINT, map_location="cpu", weights_only=True)
            self.step, self.validated, self.log = state["step"], state["validated"], state["log"]
            self.seconds = state["seconds"]
            for name, module in self.modules.items():
                module.load_state_dict(state["modules"][name])
            self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])
            if self.average is not None:
                self.average.load_state_dict(state["average"])
                self.average.to(device=self.parameters[0].device)
        process_state().wait_for_everyone()
        if self.main:
            self._write_log(self.folder / METRICS)

    def _write_log(self, path: Path) -> None:
        with atomic_file(path) as temporary:
            temporary.write_text("".join(line + "\n" for line in self.log), encoding="utf-8")
