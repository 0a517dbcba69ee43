"""Small models with random weights, saved in the layouts that the real ones come in."""

import json
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    EulerAncestralDiscreteScheduler,
    StableDiffusionInstructPix2PixPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from transformers import CLIPConfig, CLIPModel, CLIPTextModel, CLIPTokenizer

from editclip.model import widened
from editclip.projection import ImageProjModel
from editclip.training.clip_export import save_tokenizer

SIZE = 16  # of images, also CLIP's input; 4 patches and the class token
TOKENS = 5
WIDTH = 32  # of both CLIP towers and of the UNet's context
OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)


def image(seed: int, size: tuple[int, int] = (SIZE, SIZE)) -> Image.Image:
    """Smooth random colours."""
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def pixels(images: list[Image.Image]) -> torch.Tensor:
    """uint8 B×3×H×W."""
    return torch.stack([torch.from_numpy(np.array(i)).permute(2, 0, 1) for i in images])


def clip_config() -> CLIPConfig:
    tower = {"hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    return CLIPConfig(
        text_config=tower | {"eos_token_id": 49407, "bos_token_id": 49406, "projection_dim": 24},
        vision_config=tower | {"image_size": SIZE, "patch_size": 8, "projection_dim": 24},
        projection_dim=24,
    )


def save_companions(folder: Path, size: int = SIZE) -> None:
    """Tokenizer files, and a preprocessor_config.json in the style of the released folder."""
    save_tokenizer(folder, 77)
    settings = {
        "feature_extractor_type": "CLIPFeatureExtractor",
        "do_resize": True,
        "size": size,
        "resample": 3,
        "do_center_crop": True,
        "crop_size": size,
        "do_normalize": True,
        "image_mean": OPENAI_MEAN,
        "image_std": OPENAI_STD,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings), encoding="utf-8")


def save_clip(folder: Path, seed: int = 0) -> CLIPModel:
    """A 3-channel CLIP folder."""
    torch.manual_seed(seed)
    model = CLIPModel(clip_config()).eval()
    model.save_pretrained(folder)
    save_companions(folder)
    return model


def save_editclip(folder: Path, seed: int = 1) -> CLIPModel:
    """An EditCLIP folder whose six channels all matter."""
    model = widened(save_clip(folder, seed))
    with torch.no_grad():
        model.vision_model.embeddings.patch_embedding.weight[:, 3:].normal_(0, 0.05)
    model.save_pretrained(folder)
    return model


def unet(in_channels: int, seed: int = 2) -> UNet2DConditionModel:
    torch.manual_seed(seed)
    return UNet2DConditionModel(
        sample_size=SIZE // 2,
        in_channels=in_channels,
        out_channels=4,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        norm_num_groups=8,
    ).eval()


def vae(seed: int = 3) -> AutoencoderKL:
    torch.manual_seed(seed)
    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=SIZE,
    ).eval()


def scheduler(prediction_type: str = "epsilon") -> EulerAncestralDiscreteScheduler:
    """As timbrooks/instruct-pix2pix."""
    return EulerAncestralDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        steps_offset=1,
        prediction_type=prediction_type,
    )


def save_ip2p(folder: Path, clip: Path) -> StableDiffusionInstructPix2PixPipeline:
    """An InstructPix2Pix pipeline folder."""
    pipeline = StableDiffusionInstructPix2PixPipeline(
        vae=vae(),
        text_encoder=CLIPTextModel.from_pretrained(clip),
        tokenizer=CLIPTokenizer.from_pretrained(clip),
        unet=unet(8),
        scheduler=scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    return pipeline


def save_released(root: Path) -> dict[str, Path]:
    """The three folders `EditCLIPPipeline.from_released` takes."""
    folders = {name: root / name for name in ("editclip_ip2p", "editclip", "base")}
    save_editclip(folders["editclip"])
    save_ip2p(folders["base"], folders["editclip"])
    unet(8, seed=4).save_pretrained(folders["editclip_ip2p"] / "unet")
    torch.manual_seed(5)
    ImageProjModel(WIDTH, WIDTH).save(folders["editclip_ip2p"])
    return folders
