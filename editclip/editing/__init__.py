"""The interface between an editing method and the benchmark.

A method is one module: a card of literal constants (`editclip.editing.cards`) and a function

    load(weights: Mapping[str, Path], options: Mapping[str, Any], device: str, stage: str)

which loads what one of the card's stages needs, as a `Preparer`, `Planner` or `Editor`: each stage is a job of its own.
Nothing heavy is imported here, because every method imports this module.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from editclip.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL.Image import Image

PRECISIONS = ("float32", "float16", "bfloat16")


@dataclass(frozen=True, eq=False)
class Exemplar:
    """One demonstration of an edit.

    Attributes:
        exemplar_id: `<group>-<type>-<exemplar>`.
        pairs: (before, after) images, RGB, R×R; one or more. Empty for a method whose card does not need exemplars.
        instruction: what the edit does, in words; None when unknown or not in the card's NEEDS.
        seed: for methods whose preparation is stochastic (an inversion); differs between exemplars, not between seeds.
    """

    exemplar_id: str
    pairs: tuple[tuple[Image, Image], ...]
    instruction: str | None
    seed: int

    @property
    def before(self) -> Image:
        """The first pair's image before the edit."""
        return self.pairs[0][0]

    @property
    def after(self) -> Image:
        """The first pair's image after the edit."""
        return self.pairs[0][1]


@dataclass(frozen=True, eq=False)
class EditRequest:
    """One image to make. A field that the method's card does not list in NEEDS is None (no method sees an answer).

    Attributes:
        query: the image to edit, RGB, R×R.
        exemplar: the demonstration fed to the method (for a shuffled control: another type's).
        prepared: what `Preparer.prepare` returned for that exemplar, on the CPU; empty without that stage.
        instruction: the edit in words.
        caption_before: caption of the query.
        caption_after: caption of the wanted image.
        ground_truth: the wanted image, RGB, R×R.
        seed: seeds *all* noise of this image, through a generator of its own on the CPU; in a request to plan, which
            serves all repetitions, that of the plan: it differs between samples, not between repetitions.
        planned: what `Planner.plan` returned for this sample, on the CPU; empty without that stage.
        instructions: the edit in words, part by part in turn; of an edit of one part its instruction alone.
    """

    query: Image
    exemplar: Exemplar
    prepared: Mapping[str, torch.Tensor]
    instruction: str | None
    caption_before: str | None
    caption_after: str | None
    ground_truth: Image | None
    seed: int
    planned: Mapping[str, torch.Tensor] = field(default_factory=dict)
    instructions: tuple[str, ...] | None = None

    def require(self, name: str) -> Any:
        """The field `name`, which the method cannot do without.

        Raises:
            InputError: it is None.
        """
        value = getattr(self, name)
        if value is None:
            raise InputError(f"this request has no {name}; list {name!r} in the card's NEEDS to be given it")
        return value


class Preparer(Protocol):
    """A method loaded for the stage "prepare". No loaded method keeps state that could change a later result."""

    def prepare(self, exemplar: Exemplar) -> dict[str, torch.Tensor]:
        """All that depends on the exemplar alone; called once an exemplar and stored."""
        ...


@runtime_checkable
class JointPreparer(Preparer, Protocol):
    """A method that can prepare several exemplars in one call, for speed; up to rounding the results are `prepare`'s.

    Attributes:
        prepare_batch_size: how many at most.
    """

    prepare_batch_size: int

    def prepare_many(self, exemplars: Sequence[Exemplar]) -> list[dict[str, torch.Tensor]]:
        """What `prepare` returns, for each of the exemplars; raises if it cannot be made for one of them."""
        ...


class Planner(Protocol):
    """A method loaded for the stage "plan"."""

    def plan(self, request: EditRequest) -> dict[str, torch.Tensor]:
        """What a model other than the editing one makes of a sample; called once a sample and stored.

        A plan belongs to the sample, not to a repetition: what differs between repetitions is the noise of the image.
        """
        ...


@runtime_checkable
class JointPlanner(Planner, Protocol):
    """A method that can plan for several samples in one call, for speed; up to rounding the results are `plan`'s.

    Attributes:
        plan_batch_size: how many at most.
    """

    plan_batch_size: int

    def plan_many(self, requests: Sequence[EditRequest]) -> list[dict[str, torch.Tensor]]:
        """What `plan` returns, for each of the requests; raises if it cannot be made for one of them."""
        ...


class Editor(Protocol):
    """A method loaded for the stage "edit"."""

    def edit(self, requests: Sequence[EditRequest]) -> list[Image]:
        """One RGB image of the query's size for each request, whatever else is in the batch.

        Raises:
            Exception: anything, when an image cannot be made; never a blank image instead.
        """
        ...


def noise_seed(*parts: str | int) -> int:
    """A 63-bit seed from the parts' SHA-256: the same on every machine, unrelated for unequal parts."""
    text = "\0".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def noise_generators(requests: Sequence[EditRequest]) -> list[torch.Generator]:
    """One CPU generator an image: noise that does not depend on the batch or on the device."""
    import torch

    return [torch.Generator("cpu").manual_seed(request.seed) for request in requests]


def to_images(pixels: np.ndarray) -> list[Image]:
    """8-bit RGB images, rounded to nearest, of pixels B×H×W×3 in [0, 1].

    Raises:
        FloatingPointError: a pixel is not finite; saved as 8 bit it would be black without a word.
    """
    import numpy as np
    from PIL import Image

    if not np.isfinite(pixels).all():
        raise FloatingPointError("the model returned pixels that are not finite")
    return [Image.fromarray(image) for image in (pixels * 255).round().clip(0, 255).astype(np.uint8)]


def check_pipeline_options(options: Mapping[str, Any]) -> None:
    """Refuse settings of an InstructPix2Pix pipeline that it would take in silence, or misread.

    Raises:
        InputError: guidance_scale ≤ 1 or image_guidance_scale < 1, unless both are exactly 1 (the pipeline then runs a
            single conditional pass, which is the three-way formula only where both weights are 1), fewer than one
            step, or an unknown precision.
    """
    scale, image_scale = options["guidance_scale"], options["image_guidance_scale"]
    if (scale <= 1 or image_scale < 1) and not scale == image_scale == 1:
        raise InputError(
            f"guidance_scale {scale} must be above 1 and image_guidance_scale {image_scale} at least 1, or both "
            "exactly 1: else the pipeline leaves guidance out"
        )
    if options["num_inference_steps"] < 1:
        raise InputError(f"num_inference_steps {options['num_inference_steps']} must be at least 1")
    if options["precision"] not in PRECISIONS:
        raise InputError(f"precision {options['precision']!r} must be one of {', '.join(PRECISIONS)}")
