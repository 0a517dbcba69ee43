"""InstaManip's stages: `Learner` prepares exemplars and plans edits, `Painter` renders them.

Neither loads the other's networks, so that no job needs the memory of both.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from baselines.instamanip.manipulator import LearntEdit
from baselines.instamanip.manipulator_layout import Reader, load_manipulator, weight_files
from baselines.instamanip.prompting import SILENT
from baselines.instamanip.renderer import Renderer, Sampling
from baselines.instamanip.renderer_layout import DETOKENIZER, canvas_side
from baselines.instamanip.vision import VisionTower, pixels_of
from baselines.instamanip.vision_layout import VISION, load_vision
from baselines.instamanip.weight_files import check_memory
from editclip.editing import EditRequest, Exemplar, check_pipeline_options, noise_generators, to_images
from editclip.errors import InputError, nearest

LOG = logging.getLogger(__name__)


class Learner:
    """The method loaded to prepare and to plan.

    Args:
        reader: language model and prompts.
        vision: the tower, which sees images.
        canvas: side in pixels to which exemplars are brought first, as in the release.
        text: text mode of `Prompter.parts`.
        plan_batch_size: queries of one pass.
    """

    def __init__(self, reader: Reader, vision: VisionTower, canvas: int, text: str, plan_batch_size: int) -> None:
        self.manipulator, self.prompter = reader
        self.vision, self.canvas, self.text, self.plan_batch_size = vision, canvas, text, plan_batch_size

    @classmethod
    def load(cls, weights: Mapping[str, Path], options: Mapping[str, Any], device: str, text: str) -> "Learner":
        """From the weights folders.

        Raises:
            InputError: they are incomplete, do not fit each other, or need more memory than is free.
        """
        folder, tower = weights["instamanip"], weights["instamanip_vision"]
        dtype = getattr(torch, options["precision"])
        files = [*weight_files(folder), tower / VISION]
        check_memory(files, device, dtype, "planning")
        vision, reader = load_vision(tower, dtype).to(device), load_manipulator(folder, device, dtype)
        wanted = (vision.sizes.slots, vision.sizes.feature_width)
        own = reader.manipulator.output_resampler.query.shape
        if tuple(own) != wanted:
            raise InputError(
                f"{folder} foretells {own[0]} features of width {own[1]}, but {tower} sees {wanted[0]} of width "
                f"{wanted[1]}; give the two that were trained together"
            )
        return cls(reader, vision, canvas_side(weights["instamanip_renderer"]), text, options["plan_batch_size"])

    @torch.no_grad()
    def prepare(self, exemplar: Exemplar) -> dict[str, Tensor]:
        """What is learnt of an exemplar and its instruction; see `LearntEdit`."""
        parts = self.prompter.parts(exemplar.instruction, len(exemplar.pairs), self.text)
        images = [side.resize((self.canvas, self.canvas)) for pair in exemplar.pairs for side in pair]
        learnt = self.manipulator.learn(self.prompter.layout(parts), self._tokens(images))
        return {name: tensor.cpu() for name, tensor in learnt._asdict().items()}

    def plan(self, request: EditRequest) -> dict[str, Tensor]:
        """The features of the edited image, slots×feature_width."""
        return self.plan_many([request])[0]

    @torch.no_grad()
    def plan_many(self, requests: Sequence[EditRequest]) -> list[dict[str, Tensor]]:
        """What `plan` returns, for each of the requests, of whichever exemplars."""
        edits = [LearntEdit(**request.prepared) for request in requests]
        queries = self._tokens([request.query for request in requests])
        features, texts = self.manipulator.foretell(edits, queries, self.prompter)
        LOG.debug("answers: %s", texts)
        if not torch.isfinite(features).all():
            raise FloatingPointError("the language model foretold features that are not finite")
        return [{"features": each.cpu()} for each in features]

    def _tokens(self, images: Sequence[Image.Image]) -> Tensor:
        """The tower's tokens of images, resized as 8-bit pictures, as in the release."""
        side = self.vision.sizes.image_size
        small = pixels_of([image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR) for image in images])
        tokens: Tensor = self.vision(self.vision.normalised(small.to(self.vision.proj.device)))
        return tokens


class Painter:
    """The method loaded to edit."""

    def __init__(self, renderer: Renderer, sampling: Sampling) -> None:
        self.renderer, self.sampling = renderer, sampling

    @classmethod
    def load(cls, weights: Mapping[str, Path], options: Mapping[str, Any], device: str) -> "Painter":
        """From the weights folders.

        Raises:
            InputError: it is incomplete, or needs more memory than is free.
        """
        folder, tower = weights["instamanip_renderer"], weights["instamanip_vision"]
        dtype = getattr(torch, options["precision"])
        files = [*sorted((folder / "unet").glob("*.safetensors")), folder / DETOKENIZER]
        check_memory(files, device, dtype, "rendering")
        return cls(Renderer.load(folder, tower, device, dtype), Sampling(*(options[name] for name in Sampling._fields)))

    def edit(self, requests: Sequence[EditRequest]) -> list[Image.Image]:
        """Edit a batch: each query as its plan foretold, at the renderer's size, brought to the query's."""
        features = torch.stack([self._features(request) for request in requests])
        queries = [request.query for request in requests]
        made = to_images(self.renderer.render(features, queries, self.sampling, noise_generators(requests)))
        return [
            image if image.size == query.size else image.resize(query.size, Image.Resampling.LANCZOS)
            for image, query in zip(made, queries, strict=True)
        ]

    def _features(self, request: EditRequest) -> Tensor:
        wanted = self.renderer.no_features.shape[1:]
        features = request.planned["features"]
        if features.shape != wanted:
            raise InputError(
                f"a plan holds features of shape {tuple(features.shape)}, but the renderer has slots for "
                f"{tuple(wanted)}; plan with the weights that belong to it"
            )
        return features


def check_silent(text: str) -> None:
    """Refuse what is no text mode without an instruction.

    Raises:
        InputError: it is none.
    """
    if text not in SILENT:
        hint = nearest(text, SILENT)
        raise InputError(f"text {text!r} is no text mode without an instruction{hint}; use {', '.join(SILENT)}")


def load_stage(
    weights: Mapping[str, Path], options: Mapping[str, Any], device: str, stage: str, text: str
) -> Learner | Painter:
    """The method for one of its stages, in a text mode of `Prompter.parts`.

    Raises:
        InputError: an option is out of range, or as the stage's own `load`.
    """
    check_pipeline_options(options)
    if options["plan_batch_size"] < 1:
        raise InputError(f"plan_batch_size {options['plan_batch_size']} must be at least 1")
    return Painter.load(weights, options, device) if stage == "edit" else Learner.load(weights, options, device, text)
