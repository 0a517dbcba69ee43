"""VISII: an instruction learnt from one before/after pair by optimising a text embedding (Nguyen et al., 2023).

A caption of the after image, found by gradient search over tokens, is encoded by InstructPix2Pix's text encoder; the
embedding is then optimised until the frozen InstructPix2Pix, guidance included, denoises *after* given *before*. The
stock pipeline applies it to the query. Written from the method's description; docs/methods/visii.md numbers what
differs from the released script.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editclip.editing import EditRequest, Exemplar, check_pipeline_options, noise_generators, to_images
from editclip.errors import InputError

if TYPE_CHECKING:
    import torch
    from diffusers import StableDiffusionInstructPix2PixPipeline
    from PIL.Image import Image

    from editclip.model import Clip

LABEL = "VISII"
PAPER = "https://arxiv.org/abs/2307.14331"
LICENSE = "Apache-2.0 (this code; the official repository states none), CreativeML OpenRAIL-M and MIT (weights)"
CONDITIONING = "exemplar"
NEEDS = ("exemplar",)
STAGES = ("prepare", "edit")
WEIGHTS = ("ip2p", "clip")
RESOLUTION = None  # the official script squashes to 512, which is the paper's benchmark resolution
GPU_GB = 16  # ours, an estimate for 512 px and one exemplar per call: not measured
DETERMINISTIC = True
TRAINED_ON = ("timbrooks/instructpix2pix-clip-filtered",)
OPTIONS = {
    # The initial caption; sources: configs/hard_prompts_made_easy.json and train.py of the official repository.
    "caption": "",  # "" = search one for the after image (prompt_type: learn); a text = start from it (hard)
    "caption_tokens": 10,  # prompt_len
    "caption_steps": 3000,  # iter
    "caption_learning_rate": 0.1,  # lr
    "caption_weight_decay": 0.1,  # weight_decay
    # The inversion; sources: configs/config_ip2p.yaml and visii.py.
    "steps": 1000,  # every timestep once; the official loop is hard-wired to it. Fewer: an evenly spread subset
    "learning_rate": 1.0e-3,  # embedding_learning_rate
    "weight_decay": 1.0e-2,  # default of the official optimiser, bitsandbytes' AdamW8bit
    "mse_weight": 4.0,  # lambda_mse
    "clip_weight": 0.1,  # lambda_clip
    "training_guidance_scale": 7.5,  # default of the official training method
    "training_image_guidance_scale": 1.5,  # the same
    # The official script never undoes its mixed-precision gradient scale, so that its clipping of gradient elements at
    # the largest initial value acts on scaled gradients. As run on a GPU: 65536; 1 = as on a CPU, where it never acts.
    "loss_scale": 65536.0,
    # Official: "best", the step with the lowest error at its own timestep, which mostly picks a high timestep. "last",
    # or the number of a step such as "500", take the embedding after that step.
    "checkpoint": "best",
    "prepare_batch_size": 1,  # exemplars that share a UNet call; official: one. Numerics apart it does not matter
    # The edit; source: test.py.
    "hybrid_instruction": "",  # words appended to the learnt instruction (--hybrid_ins with --prompt)
    "num_inference_steps": 20,
    "guidance_scale": 8.0,
    "image_guidance_scale": 1.5,
}


class VISII:
    """Learns an instruction from an exemplar (`prepare`) and applies it with the stock pipeline (`edit`).

    Args:
        pipeline: InstructPix2Pix; its weights are frozen here.
        clip: CLIP whose text tower is the pipeline's, for the caption and the loss; frozen too. None = only to edit.
        options: all of the card's `OPTIONS`.
    """

    def __init__(
        self, pipeline: "StableDiffusionInstructPix2PixPipeline", clip: "Clip | None", options: Mapping[str, Any]
    ) -> None:
        for module in (pipeline.unet, pipeline.vae, pipeline.text_encoder, *([clip.model] if clip else ())):
            module.requires_grad_(False).eval()
        self.pipeline, self.clip, self.options = pipeline, clip, options
        self.prepare_batch_size: int = options["prepare_batch_size"]

    def prepare(self, exemplar: Exemplar) -> "dict[str, torch.Tensor]":
        """The learnt instruction of one exemplar; see `prepare_many`."""
        return self.prepare_many([exemplar])[0]

    def prepare_many(self, exemplars: Sequence[Exemplar]) -> "list[dict[str, torch.Tensor]]":
        """The learnt instructions of exemplars that share the UNet's calls, each with noise of its own.

        Returns:
            For each exemplar `embedding`, the learnt instruction, and `initial_embedding`, the caption it started from,
            both 1×L×C; `caption`, that caption's UTF-8 bytes; `eos`, the position of its end token; and step by step
            `timesteps`, `mse` and `cosine` (to CLIP's edit direction, clamped).

        Raises:
            InputError: an exemplar has no pair, before and after are alike, or its caption leaves nothing to learn.
            FloatingPointError: an optimisation has diverged.
        """
        from baselines.visii.inversion import Objective, invert, start

        assert self.clip is not None, "loaded only to edit"
        starts = [start(self.pipeline, self.clip, exemplar, self.options) for exemplar in exemplars]
        objective = Objective(self.pipeline, self.clip, self.options)
        return invert(objective, starts, self.pipeline.scheduler.config.num_train_timesteps, self.options)

    def edit(self, requests: Sequence[EditRequest]) -> "list[Image]":
        """Edit a batch, each query by the instruction learnt from its own exemplar."""
        import torch

        from baselines.visii.inversion import encode, with_words
        from editclip.guidance import without_cancelled_rows

        null, _ = encode(self.pipeline, "")
        learnt = [request.prepared["embedding"].to(null) for request in requests]
        if words := self.options["hybrid_instruction"]:
            ends = [int(request.prepared["eos"]) for request in requests]
            learnt = [with_words(self.pipeline, e, eos, words) for e, eos in zip(learnt, ends, strict=True)]
        scales = {name: self.options[name] for name in ("guidance_scale", "image_guidance_scale")}
        with without_cancelled_rows(self.pipeline.unet, **scales):
            output = self.pipeline(
                prompt_embeds=torch.cat(learnt),
                negative_prompt_embeds=null.expand(len(learnt), -1, -1),
                image=[request.query.convert("RGB") for request in requests],
                generator=noise_generators(requests),
                num_inference_steps=self.options["num_inference_steps"],
                output_type="np",
                **scales,
            )
        return to_images(output.images)


def load(weights: Mapping[str, Path], options: Mapping[str, Any], device: str, stage: str) -> VISII:
    """VISII on the InstructPix2Pix folder `weights["ip2p"]`, to prepare with the CLIP folder `weights["clip"]` as well.

    All of it computes in float32, as the official script does.

    Raises:
        InputError: an option is out of its range, or the two weights' text towers differ in width.
    """
    from diffusers import StableDiffusionInstructPix2PixPipeline

    import editclip.patch_vae  # noqa: F401  # diffusers loads a class of ours only when its module is imported
    from baselines.visii.inversion import check_options
    from editclip.model import Clip

    check_pipeline_options({**options, "precision": "float32"})
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(
        weights["ip2p"], safety_checker=None, requires_safety_checker=False, local_files_only=True
    )
    pipeline.set_progress_bar_config(disable=True)
    check_options(options, pipeline.scheduler.config.num_train_timesteps)
    if stage == "edit":
        return VISII(pipeline.to(device), None, options)
    clip = Clip.load(weights["clip"], device)
    width, wanted = pipeline.text_encoder.config.hidden_size, clip.model.text_projection.in_features
    if width != wanted:
        raise InputError(
            f"{weights['ip2p']}: its text encoder is {width} wide, but CLIP's text projection in {weights['clip']} "
            f"takes {wanted}; give the CLIP whose text tower InstructPix2Pix uses"
        )
    return VISII(pipeline.to(device), clip, options)
