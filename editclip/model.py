"""EditCLIP: CLIP whose image tower looks at an edit, that is at an image before and after it.

The vision tower takes six channels, [before RGB | after RGB], each with CLIP's own normalisation; everything else is
CLIP (https://arxiv.org/abs/2503.20318, section 3). `EditCLIP` encodes edits and `Clip` single images; both share the
text tower's interface, the loading and the preprocessing.
"""

import copy
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer, CLIPVisionModelWithProjection

from editclip.checkpoints import load_clip_model
from editclip.errors import InputError

Images = Sequence[Image.Image] | Tensor  # PIL images, or uint8 B×3×H×W

# Files of a CLIP folder that belong to its tokenizer and its image processor rather than to its weights.
COMPANIONS = (
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "preprocessor_config.json",
)


def widened(clip: CLIPModel) -> CLIPModel:
    """A copy of a 3-channel CLIP with a 6-channel patch embedding: its weights, then zeros for the edited image.

    Before any training the copy therefore gives `CLIP(before)` whatever the edited image is, while the new weights
    already get gradient. The three old channels are copied, not halved (official pre-training code).

    Raises:
        InputError: `clip` does not have 3 input channels.
    """
    channels = clip.vision_model.embeddings.patch_embedding.in_channels
    if channels != 3:
        raise InputError(f"EditCLIP starts from a CLIP with 3 input channels, not {channels}; give a plain CLIP model.")
    model = copy.deepcopy(clip)
    embeddings = model.vision_model.embeddings
    old = embeddings.patch_embedding
    new = nn.utils.skip_init(
        nn.Conv2d, 6, old.out_channels, old.kernel_size, old.stride, bias=False, device=old.weight.device
    ).to(old.weight.dtype)
    with torch.no_grad():
        new.weight[:, :3] = old.weight
        new.weight[:, 3:] = 0
    embeddings.patch_embedding = new
    model.vision_model.config.num_channels = 6  # the object that model.config holds as well
    return model


def vision_tower(clip: CLIPModel) -> CLIPVisionModelWithProjection:
    """The vision tower of a CLIP with its projection to the joint space; it shares the tensors of `clip`."""
    config = copy.deepcopy(clip.config.vision_config)
    config.projection_dim = clip.projection_dim  # a tower's own entry need not be the one that the model is built by
    with torch.device("meta"):  # neither time nor random numbers are spent on weights that are replaced
        tower = CLIPVisionModelWithProjection(config)
    tower.vision_model, tower.visual_projection = clip.vision_model, clip.visual_projection
    return tower.eval()


def image_processor(folder: str | Path, size: int) -> CLIPImageProcessorPil:
    """A CLIP folder's image processor, set to squash any image to `size`×`size` and never to crop.

    PIL's bicubic filter on 8-bit pixels is what the official data code uses, for square and other images alike.

    Raises:
        InputError: the folder has no readable preprocessor_config.json.
    """
    try:
        return CLIPImageProcessorPil.from_pretrained(
            str(folder), local_files_only=True, size={"height": size, "width": size}, do_center_crop=False
        )
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: no usable preprocessor_config.json; copy the CLIP model's there.") from error


def load_tokenizer(folder: str | Path) -> CLIPTokenizer:
    """A CLIP folder's tokenizer, from tokenizer.json or from vocab.json and merges.txt.

    Raises:
        InputError: neither is there (transformers would silently make an empty vocabulary), or it cannot be read.
    """
    names = ("tokenizer.json",), ("vocab.json", "merges.txt")
    if not any(all((Path(folder) / name).is_file() for name in group) for group in names):
        raise InputError(f"{folder}: no tokenizer.json, nor vocab.json with merges.txt; copy the CLIP model's there.")
    try:
        return CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{folder}: its tokenizer cannot be read ({error}); copy the CLIP model's there.") from error


def clip_pixels(images: Images, processor: CLIPImageProcessorPil) -> Tensor:
    """Normalised pixels B×3×S×S in float32, S being the processor's size, on the images' device.

    PIL squashes either kind, so that both give the same numbers (torchvision's antialiased bicubic differs from PIL's
    by up to 4 of 255 grey levels from 256 to 224 px); a uint8 batch B×3×S×S is only normalised, where it is.

    Raises:
        InputError: no images, or a tensor that is not uint8 B×3×H×W.
    """
    if not len(images):
        raise InputError("no images to encode; give at least one.")
    if not isinstance(images, Tensor):
        return processor([image.convert("RGB") for image in images], return_tensors="pt")["pixel_values"]
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise InputError(f"images are {images.dtype} {tuple(images.shape)}; give uint8 tensors of shape B×3×H×W.")
    if images.shape[-2:] != (processor.size["height"], processor.size["width"]):
        frames = [Image.fromarray(frame) for frame in images.permute(0, 2, 3, 1).cpu().numpy()]
        return clip_pixels(frames, processor).to(images.device)
    mean, std = (
        torch.tensor(values, device=images.device)[:, None, None]
        for values in (processor.image_mean, processor.image_std)
    )
    return (images / 255 - mean) / std


def pair_pixels(before: Images, after: Images, processor: CLIPImageProcessorPil) -> Tensor:
    """The input of EditCLIP's vision tower, B×6×S×S: [before | after] in channels; see `clip_pixels`.

    Raises:
        InputError: the two sides differ in number.
    """
    if len(before) != len(after):
        raise InputError(f"{len(before)} images before and {len(after)} after the edit; give as many of each.")
    return torch.cat([clip_pixels(before, processor), clip_pixels(after, processor)], dim=1)


class _Encoder:
    """What `Clip` and `EditCLIP` share: loading, the text tower, projection to the joint space."""

    channels: int

    def __init__(self, model: CLIPModel, tokenizer: CLIPTokenizer, processor: CLIPImageProcessorPil) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.processor = processor

    @classmethod
    def load(cls, folder: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> Self:
        """Load the model, tokenizer and image processor of a CLIP folder (layouts: `editclip.checkpoints`).

        Raises:
            InputError: something is missing, does not fit, or the weights are of the other kind of encoder.
        """
        model = load_clip_model(folder, dtype)
        embeddings = model.vision_model.embeddings
        channels = embeddings.patch_embedding.in_channels
        if channels != cls.channels:
            kind = cls.__name__
            raise InputError(f"{folder}: {channels} input channels; give {kind} weights, which have {cls.channels}.")
        processor = image_processor(folder, embeddings.image_size)
        tokenizer = load_tokenizer(folder)
        return cls(model.to(device=device), tokenizer, processor)

    def save(self, out: Path, companions: str | Path) -> None:
        """Write a `CLIPModel` folder to `out`, with the tokenizer and processor files of the folder `companions`."""
        self.model.save_pretrained(out)
        for name in COMPANIONS:
            if (Path(companions) / name).is_file():
                shutil.copyfile(Path(companions) / name, Path(out) / name)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.model.device

    def image_features(self, pixels: Tensor) -> Tensor:
        """Projected, L2-normalised features B×D of normalised pixels B×C×S×S; gradients flow."""
        return normalize(self.model.get_image_features(pixels.to(self.device)).pooler_output, dim=-1)

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Projected, L2-normalised text features B×D; longer texts are cut to the model's context."""
        context = self.model.text_model.embeddings.position_embedding.num_embeddings
        # Padding never reaches a feature (causal attention, read at the first end token), so the longest text decides.
        tokens = self.tokenizer(list(texts), padding=True, truncation=True, max_length=context, return_tensors="pt")
        features = self.model.get_text_features(tokens["input_ids"].to(self.device)).pooler_output
        return normalize(features, dim=-1)


class Clip(_Encoder):
    """Plain CLIP with 3 input channels, as the metrics use it."""

    channels = 3

    @torch.no_grad()
    def encode_image(self, images: Images) -> Tensor:
        """Projected, L2-normalised features B×D of single images."""
        return self.image_features(clip_pixels(images, self.processor))


class EditCLIP(_Encoder):
    """The edit encoder: a pair of images in, the joint embedding of the edit out."""

    channels = 6

    @torch.no_grad()
    def encode_edit(self, before: Images, after: Images) -> Tensor:
        """Projected, L2-normalised features B×D of the edits before → after (what EC2T and EC2EC compare)."""
        return self.image_features(pair_pixels(before, after, self.processor))
