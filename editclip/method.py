"""EditCLIP as a method: repeats the exemplar's edit on the query (https://arxiv.org/abs/2503.20318, section 4)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editclip.editing import EditRequest, Exemplar, check_pipeline_options, noise_generators, to_images

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from editclip.pipeline import EditCLIPPipeline

LABEL = "EditCLIP"
PAPER = "https://arxiv.org/abs/2503.20318"
LICENSE = "none stated (code and weights)"  # the official repository has no licence file
CONDITIONING = "exemplar"
NEEDS = ("exemplar",)
STAGES = ("prepare", "edit")
# The one trained set, and what it was trained from; of its InstructPix2Pix, the VAE and the scheduler.
WEIGHTS = ("editclip_ip2p", "editclip_ip2p.encoder", "editclip_ip2p.ip2p")
RESOLUTION = None
GPU_GB = 8
DETERMINISTIC = True
TRAINED_ON = ("timbrooks/instructpix2pix-clip-filtered",)
OPTIONS = {
    "num_inference_steps": 50,  # official evaluation script
    "guidance_scale": 7.0,  # edit guidance: function default of the official evaluation script
    "image_guidance_scale": 1.5,  # the same
    "precision": "float32",  # or float16, as the official script runs on a GPU
}


class EditCLIPEditor:
    """The part of the EditCLIP pipeline that a stage needs: it encodes exemplars, or edits by their tokens."""

    def __init__(self, pipeline: "EditCLIPPipeline", options: Mapping[str, Any]) -> None:
        self._pipeline = pipeline
        self._settings = {key: value for key, value in options.items() if key != "precision"}

    def prepare(self, exemplar: Exemplar) -> "dict[str, torch.Tensor]":
        """The exemplar's edit tokens, 1×L×C."""
        return {"edit_tokens": self._pipeline.encode_exemplar(exemplar.before, exemplar.after).cpu()}

    def edit(self, requests: Sequence[EditRequest]) -> "list[Image]":
        """Edit a batch, each query by its own exemplar's tokens and with a generator of its own."""
        import torch

        output = self._pipeline(
            image=[request.query for request in requests],
            edit_tokens=torch.cat([request.prepared["edit_tokens"] for request in requests]),
            generator=noise_generators(requests),
            output_type="np",
            **self._settings,
        )
        return to_images(output.images)


def load(weights: Mapping[str, Path], options: Mapping[str, Any], device: str, stage: str) -> EditCLIPEditor:
    """The pipeline from `editclip_ip2p` and what it was trained from, all in the released layouts.

    To prepare, the encoder and its projection are loaded; to edit, the UNet and the VAE.

    Raises:
        InputError: weights do not fit, or a guidance scale at which guidance is left out.
    """
    import torch

    from editclip.pipeline import EditCLIPPipeline

    check_pipeline_options(options)
    pipeline = EditCLIPPipeline.from_released(
        editclip_ip2p=weights["editclip_ip2p"],
        editclip=weights["editclip_ip2p.encoder"] if stage == "prepare" else None,
        base=weights["editclip_ip2p.ip2p"] if stage == "edit" else None,
        torch_dtype=getattr(torch, options["precision"]),
    )
    pipeline.set_progress_bar_config(disable=True)
    return EditCLIPEditor(pipeline.to(device), options)
