"""Guided rows that cancel out are not computed."""

import pytest
import tiny_models
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLInstructPix2PixPipeline, UNet2DConditionModel
from torch import Tensor

from editclip.guidance import without_cancelled_rows


@pytest.mark.parametrize(("scales", "computed"), [((7, 1), 4), ((1.2, 1), 4), ((7, 1.5), 6), ((1, 1), 6)])
def test_an_image_guidance_of_one_leaves_out_the_last_third(scales: tuple[float, float], computed: int) -> None:
    unet, rows = tiny_models.unet(8), []
    generator = torch.Generator().manual_seed(0)
    sample, context = (torch.randn(6, *shape, generator=generator) for shape in ((8, 8, 8), (5, tiny_models.WIDTH)))
    unet.conv_in.register_forward_hook(lambda module, given, result: rows.append(len(given[0])))

    def called() -> Tensor:
        with torch.no_grad():
            return unet(sample, 500, encoder_hidden_states=context, return_dict=False)[0]

    whole = called()
    with without_cancelled_rows(unet, *scales):
        found = called()
    assert rows == [6, computed]
    torch.testing.assert_close(found[:4], whole[:4])
    last = found[2:4] if computed == 4 else whole[4:]
    torch.testing.assert_close(found[4:], last)
    assert torch.equal(called(), whole), "afterwards all is as it was"


def sdxl() -> StableDiffusionXLInstructPix2PixPipeline:
    """A pipeline with random weights and without text encoders; pooled texts are WIDTH wide, as the context is."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=tiny_models.SIZE // 2,
        in_channels=8,
        out_channels=4,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=tiny_models.WIDTH,
        attention_head_dim=2,
        norm_num_groups=8,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=tiny_models.WIDTH + 6 * 8,
    )
    pipeline = StableDiffusionXLInstructPix2PixPipeline(
        vae=tiny_models.vae(),
        text_encoder=None,
        text_encoder_2=None,
        tokenizer=None,
        tokenizer_2=None,
        unet=unet.eval(),
        scheduler=EulerDiscreteScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012),
        add_watermarker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize(("image_guidance_scale", "computed"), [(1, 4), (1.5, 6)])
def test_the_pipeline_of_sdxl_gives_the_same_for_two_thirds_of_the_work(
    image_guidance_scale: float, computed: int
) -> None:
    pipeline, rows = sdxl(), []
    generator = torch.Generator().manual_seed(1)
    texts = [torch.randn(2, 5, tiny_models.WIDTH, generator=generator) for _ in range(2)]
    pooled = [torch.randn(2, tiny_models.WIDTH, generator=generator) for _ in range(2)]
    images = tiny_models.pixels([tiny_models.image(seed) for seed in range(2)]) / 255
    pipeline.unet.conv_in.register_forward_hook(lambda module, given, result: rows.append(len(given[0])))

    def made() -> Tensor:
        return pipeline(
            image=images,
            prompt_embeds=texts[0],
            negative_prompt_embeds=texts[1],
            pooled_prompt_embeds=pooled[0],
            negative_pooled_prompt_embeds=pooled[1],
            height=tiny_models.SIZE,
            width=tiny_models.SIZE,
            num_inference_steps=3,
            guidance_scale=5,
            image_guidance_scale=image_guidance_scale,
            generator=[torch.Generator().manual_seed(seed) for seed in range(2)],
            output_type="latent",
        ).images

    whole = made()
    with without_cancelled_rows(pipeline.unet, 5, image_guidance_scale):
        found = made()
    assert rows == [6] * 3 + [computed] * 3
    assert (found - whole).abs().max() <= 1e-5 * whole.abs().max()
    pooled[0] = pooled[0] + 1
    with without_cancelled_rows(pipeline.unet, 5, image_guidance_scale):
        assert (made() - found).abs().max() > 1e-3, "the pooled text matters"
