"""InstructPix2Pix conditioned on an edit instead of a text: a diffusers pipeline that repeats an exemplar's edit.

EditCLIP's token sequence of the exemplar (before → after), projected to the UNet's cross-attention width, stands where
the prompt's embedding was; everything else is InstructPix2Pix (https://arxiv.org/abs/2503.20318, section 4). Which
tokens these are, the weights say (`editclip.conditioning`).
"""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import DiffusionPipeline, ModelMixin, StableDiffusionInstructPix2PixPipeline
from diffusers import UNet2DConditionModel as UNet
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from diffusers.schedulers import SchedulerMixin
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessorPil, CLIPVisionModelWithProjection

import editclip.patch_vae  # noqa: F401  # diffusers loads a class of ours only when its module is imported
from editclip.conditioning import Conditioning
from editclip.errors import InputError
from editclip.model import Images
from editclip.pipeline_parts import load_unet
from editclip.projection import ImageProjModel


def _listed(images: Image.Image | Images) -> Images:
    return [images] if isinstance(images, Image.Image) else images


class EditCLIPPipeline(DiffusionPipeline):
    """Applies the edit shown by an exemplar pair to query images.

    Args:
        vae: AutoencoderKL, or a model with its interface.
        unet: InstructPix2Pix UNet with twice the VAE's latent channels as input.
        scheduler: sampler; its `prediction_type` says what the UNet predicts.
        edit_encoder: EditCLIP's vision tower, or plain CLIP's, as `condition` says.
        image_proj_model: projection of its tokens to the UNet's context.
        feature_extractor: CLIP's image processor, set to squash (`editclip.model.image_processor`). Where these three
            are None, the pipeline edits by `edit_tokens` alone; where the first three are, it only encodes exemplars.
        condition: what the encoder reads of an exemplar, the released weights' by default (`Conditioning.condition`).
        layer: which of its outputs are the tokens, the released weights' by default (`Conditioning.layer`).

    Raises:
        InputError: the parts do not fit each other, or there is no such conditioning.
    """

    model_cpu_offload_seq = "edit_encoder->image_proj_model->unet->vae"

    def __init__(
        self,
        vae: ModelMixin | None,
        unet: UNet | None,
        scheduler: SchedulerMixin | None,
        edit_encoder: CLIPVisionModelWithProjection | None,
        image_proj_model: ImageProjModel | None,
        feature_extractor: CLIPImageProcessorPil | None,
        condition: str = "edit",
        layer: str = "hidden",
    ) -> None:
        super().__init__()
        self.conditioning = Conditioning(condition, layer)  # type: ignore[arg-type]  # it checks them
        fitting = []
        if unet is not None and vae is not None:
            channels = 2 * vae.config.latent_channels
            fitting.append(("the UNet's input channels", unet.config.in_channels, channels))
        if unet is not None and image_proj_model is not None:
            context = image_proj_model.config.cross_attention_dim
            fitting.append(("the UNet's context width", unet.config.cross_attention_dim, context))
        if edit_encoder is not None and image_proj_model is not None:
            self.conditioning.check_channels(edit_encoder.config.num_channels, "the edit encoder")
            tokens, width = self.conditioning.token_width(edit_encoder.config), image_proj_model.config
            fitting.append(("the edit encoder's width", tokens, width.clip_embeddings_dim))
        for what, has, needs in fitting:
            if has != needs:
                raise InputError(f"{what} are {has}, but must be {needs}; give weights that were trained together.")
        self.register_modules(
            vae=vae,
            unet=unet,
            scheduler=scheduler,
            edit_encoder=edit_encoder,
            image_proj_model=image_proj_model,
            feature_extractor=feature_extractor,
        )
        self.register_to_config(condition=condition, layer=layer)  # a saved pipeline keeps them
        if vae is not None:
            self.vae_scale_factor = 2 ** (len(vae.config.block_out_channels) - 1)
            self.image_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor)

    @classmethod
    def from_released(
        cls,
        *,
        editclip_ip2p: str | Path,
        editclip: str | Path | None,
        base: str | Path | None,
        torch_dtype: torch.dtype = torch.float32,
    ) -> Self:
        """Assemble the pipeline from the folders in which EditCLIP's weights are published.

        Args:
            editclip_ip2p: folder with `unet/` and `image_proj_model.safetensors` (or `.pt`); what it was trained with
                stands in its `conditioning.json`, without which it is EditCLIP's hidden states.
            editclip: its encoder as a CLIPModel folder: EditCLIP, or a plain CLIP where the conditioning says so;
                None = no encoder is loaded, and the pipeline takes `edit_tokens` alone.
            base: InstructPix2Pix pipeline folder; its VAE and scheduler are used; None = nothing that edits is loaded,
                and the pipeline only encodes exemplars.
            torch_dtype: type of all weights in memory.

        Raises:
            InputError: a folder lacks something, or the encoder is not the one that the weights were trained with;
                the message names it.
        """
        conditioning = Conditioning.load(editclip_ip2p)
        parts: dict[str, Any] = dict.fromkeys(
            ("vae", "unet", "scheduler", "edit_encoder", "image_proj_model", "feature_extractor")
        )
        if editclip is not None:
            conditioning.check_encoder(editclip, editclip_ip2p)
            parts["edit_encoder"], parts["feature_extractor"] = conditioning.load_encoder(editclip, torch_dtype)
            parts["image_proj_model"] = ImageProjModel.load(editclip_ip2p, torch_dtype)
        if base is not None:
            stock = cls._stock(base, torch_dtype)
            parts |= {"vae": stock.vae, "scheduler": stock.scheduler, "unet": load_unet(editclip_ip2p, torch_dtype)}
        return cls(**parts, condition=conditioning.condition, layer=conditioning.layer)

    @staticmethod
    def _stock(base: str | Path, torch_dtype: torch.dtype) -> StableDiffusionInstructPix2PixPipeline:
        """VAE and scheduler of an InstructPix2Pix pipeline folder."""
        unused = dict.fromkeys(("text_encoder", "tokenizer", "unet", "safety_checker", "feature_extractor"))
        try:
            return StableDiffusionInstructPix2PixPipeline.from_pretrained(
                str(base), **unused, requires_safety_checker=False, dtype=torch_dtype, local_files_only=True
            )
        except (OSError, ValueError) as error:
            raise InputError(f"{base}: not an InstructPix2Pix pipeline folder ({error}).") from error

    @torch.no_grad()
    def encode_exemplar(self, before: Image.Image | Images, after: Image.Image | Images) -> Tensor:
        """Context B×(L·n)×C of the exemplars before → after: what depends on the exemplar alone.

        Args:
            before: image or images before the edit.
            after: as many images after it.

        Raises:
            InputError: the pipeline was made without encoder.
        """
        if self.edit_encoder is None:
            raise InputError("this pipeline has no edit encoder; give edit_tokens, or load it with editclip=FOLDER.")
        sides, device = (_listed(before), _listed(after)), self._execution_device
        tokens = self.conditioning.tokens(self.edit_encoder, self.feature_extractor, *sides, device=device)
        return self.image_proj_model(tokens)

    @torch.no_grad()
    def __call__(
        self,
        image: Image.Image | Sequence[Image.Image],
        exemplar: tuple[Image.Image | Images, Image.Image | Images] | None = None,
        guidance_scale: float = 7.0,
        image_guidance_scale: float = 1.5,
        num_inference_steps: int = 50,
        generator: torch.Generator | list[torch.Generator] | None = None,
        output_type: str = "pil",
        edit_tokens: Tensor | None = None,
    ) -> ImagePipelineOutput:
        """Edit the query images as the exemplar shows.

        Args:
            image: B query images of one size, a multiple of the VAE's factor.
            exemplar: (before, after), one pair for all queries or B of each.
            guidance_scale: strength of the edit (paper's setting 7); guidance is off at or below 1.
            image_guidance_scale: faithfulness to the query (1.5); guidance is off below 1.
            num_inference_steps: denoising steps (50).
            generator: one generator for each image. CPU generators give the same noise on every device; each image's
                initial and ancestral noise come from its own, so a result does not depend on its batch.
            output_type: "pil", "np", "pt" or "latent".
            edit_tokens: output of `encode_exemplar` (1 or B rows) instead of `exemplar`.

        Returns:
            `images`: B edited images.

        Raises:
            InputError: sizes or numbers do not fit, or the pipeline was made without what edits.
        """
        if self.unet is None:
            raise InputError("this pipeline only encodes exemplars; load it with base=FOLDER to edit.")
        queries = [query.convert("RGB") for query in ([image] if isinstance(image, Image.Image) else image)]
        tokens = self._tokens(exemplar, edit_tokens, len(queries))
        condition = self._image_condition(queries)
        if isinstance(generator, list) and len(generator) != len(queries):
            raise InputError(f"{len(generator)} generators for {len(queries)} images; give one for each image.")
        self.scheduler.set_timesteps(num_inference_steps, device=tokens.device)
        latents = randn_tensor(condition.shape, generator, tokens.device, tokens.dtype)
        latents = latents * self.scheduler.init_noise_sigma

        # Null edit: zeros after the projection's norm; null image: zero latents (official training dropout).
        guided = guidance_scale > 1 and image_guidance_scale >= 1
        branches = 1 if not guided else 2 if image_guidance_scale == 1 else 3  # at 1 the last cancels out
        if guided:
            tokens = torch.cat([tokens, torch.zeros_like(tokens), torch.zeros_like(tokens)][:branches])
            condition = torch.cat([condition, condition, torch.zeros_like(condition)][:branches])
        noise_source: dict[str, Any] = {}
        if "generator" in inspect.signature(self.scheduler.step).parameters:
            noise_source["generator"] = generator
        for time in self.progress_bar(self.scheduler.timesteps):
            noisy = self.scheduler.scale_model_input(torch.cat([latents] * branches), time)
            output = self.unet(torch.cat([noisy, condition], dim=1), time, encoder_hidden_states=tokens).sample
            if guided:
                full, image_only, *rest = output.chunk(branches)
                neither = rest[0] if rest else image_only
                output = neither + guidance_scale * (full - image_only) + image_guidance_scale * (image_only - neither)
            latents = self.scheduler.step(output, time, latents, **noise_source).prev_sample
        result = self._decoded(latents, output_type)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=result)

    def _tokens(self, exemplar: tuple[Any, Any] | None, edit_tokens: Tensor | None, count: int) -> Tensor:
        """The context of `count` queries, from exactly one of its two sources."""
        if (exemplar is None) == (edit_tokens is None):
            raise InputError("give either an exemplar pair or edit_tokens, and not both.")
        tokens = self.encode_exemplar(*exemplar) if exemplar is not None else edit_tokens
        assert tokens is not None
        width = self.unet.config.cross_attention_dim
        if tokens.ndim != 3 or tokens.shape[-1] != width:
            raise InputError(f"edit_tokens have shape {tuple(tokens.shape)}, not B×L×{width}; use encode_exemplar.")
        if len(tokens) not in (1, count):
            raise InputError(f"{len(tokens)} exemplars for {count} query images; give one, or one for each query.")
        return tokens.to(self._execution_device, self.unet.dtype).expand(count, -1, -1)

    def _image_condition(self, queries: list[Image.Image]) -> Tensor:
        """Modes of the queries' latents, not multiplied by the scaling factor (InstructPix2Pix)."""
        sizes = {query.size for query in queries}
        if len(sizes) != 1:
            raise InputError(f"query images have {len(sizes)} sizes, or there are none; give images of one size.")
        factor = self.vae_scale_factor
        if any(side % factor for side in queries[0].size):
            raise InputError(f"the query images' size {queries[0].size} is no multiple of {factor}; resize them.")
        pixels = self.image_processor.preprocess(queries).to(self._execution_device, self.vae.dtype)
        return self.vae.encode(pixels).latent_dist.mode().to(self.unet.dtype)

    def _decoded(self, latents: Tensor, output_type: str) -> Any:
        if output_type == "latent":
            return latents
        pixels = self.vae.decode(latents.to(self.vae.dtype) / self.vae.config.scaling_factor).sample
        return self.image_processor.postprocess(pixels, output_type=output_type)
