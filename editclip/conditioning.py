"""What stands in the place of InstructPix2Pix's instruction: tokens of an exemplar pair, said once.

Training and sampling both ask `Conditioning.tokens`, and the trained folder keeps the conditioning as
`conditioning.json` beside `unet/`, so that weights trained on one kind of token are never sampled on another. A folder
without that file has the released layout, whose only conditioning is EditCLIP's hidden states (official training code).

Only the standard library is loaded when this module is imported: recipes take `Condition` and `Layer` from it.
"""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, get_args

from editclip.errors import InputError, nearest
from editclip.storage import path_digest, write_json

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModelWithProjection

    from editclip.model import Images

CONDITIONING = "conditioning.json"  # beside unet/ and the projection's file

Condition = Literal["edit", "after", "sum", "channels", "sequence"]
Layer = Literal["hidden", "projected"]


@dataclass(frozen=True)
class Conditioning:
    """Which encoder reads which images of a pair, and which of its outputs are the tokens.

    Attributes:
        condition: "edit", EditCLIP of the pair (the paper's method); or, with a plain CLIP (the paper's Fig. 6),
            "after", the image after the edit alone; "sum", CLIP(before) + CLIP(after); "channels", both side by side in
            each token; "sequence", the tokens of before followed by those of after.
        layer: "hidden", the last block's output, class token first, before the final norm (the paper's method); or
            "projected", the embedding in the joint space as one token (the paper's Fig. 12). It is not normalised,
            as in IP-Adapter, whose practice the paper compares with; the paper gives no formula.
        encoder: digest of the encoder's folder (`storage.path_digest`); None where nobody recorded it, as in the
            released weights.

    Raises:
        InputError: a value that is not one of these.
    """

    condition: Condition
    layer: Layer
    encoder: str | None = None

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("condition", self.condition, get_args(Condition)),
            ("layer", self.layer, get_args(Layer)),
        ):
            if value not in allowed:
                hint = nearest(str(value), allowed)
                raise InputError(f"{name} {value!r} is not allowed{hint}; allowed: {', '.join(allowed)}")
        if not isinstance(self.encoder, str | None):
            raise InputError(f"encoder {self.encoder!r} is not allowed; it is the digest of a folder, or null")

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """The conditioning of a folder with trained weights; see this module for a folder that names none.

        Raises:
            InputError: the file cannot be read, or has other keys or values than `save` writes.
        """
        path = Path(folder) / CONDITIONING
        if not path.exists():
            return cls("edit", "hidden")
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read ({error}); copy it again from the trained weights.") from error
        known = [field.name for field in fields(cls)]
        if not isinstance(values, dict):
            raise InputError(f"{path}: holds no object with the keys {', '.join(known)}; copy it again.")
        for key in values:
            if key not in known:
                raise InputError(f"{path}: unknown key {key!r}{nearest(key, known)}; allowed: {', '.join(known)}.")
        for key in known:
            if key not in values:
                raise InputError(f"{path}: the key {key!r} is missing; copy the file again from the trained weights.")
        try:
            return cls(**values)
        except InputError as error:
            raise InputError(f"{path}: {error}.") from error

    def save(self, folder: str | Path) -> None:
        """Write `conditioning.json` into `folder`."""
        write_json(Path(folder) / CONDITIONING, asdict(self))

    @property
    def channels(self) -> int:
        """Input channels that the encoder must have."""
        return 6 if self.condition == "edit" else 3

    def token_width(self, config: "CLIPVisionConfig") -> int:
        """Width W of the tokens that an encoder of this config gives."""
        width: int = config.hidden_size if self.layer == "hidden" else config.projection_dim
        return 2 * width if self.condition == "channels" else width

    def check_channels(self, channels: int, what: str | Path) -> None:
        """Refuse an encoder of the other kind; `what` names it.

        Raises:
            InputError: it has not the `channels` that the condition needs.
        """
        if channels != self.channels:
            kind = "EditCLIP" if self.condition == "edit" else "plain CLIP"
            raise InputError(
                f"{what}: {channels} input channels, but condition {self.condition!r} needs {self.channels}; "
                f"give {kind} weights."
            )

    def check_encoder(self, encoder: str | Path, weights: str | Path) -> None:
        """Refuse an encoder folder other than the one that the folder `weights` was trained with.

        Raises:
            InputError: its digest is not the recorded one.
        """
        if self.encoder is not None and (digest := path_digest(encoder)) != self.encoder:
            raise InputError(
                f"{encoder}: its digest is {digest[:12]}…, but {weights} was trained with the encoder "
                f"{self.encoder[:12]}…; give that encoder's folder."
            )

    def load_encoder(
        self, folder: str | Path, dtype: "torch.dtype | None" = None
    ) -> "tuple[CLIPVisionModelWithProjection, CLIPImageProcessorPil]":
        """The encoder of a CLIP or EditCLIP folder, in evaluation mode on the CPU, and its image processor.

        Args:
            folder: one of the layouts of `editclip.checkpoints`.
            dtype: type of the weights in memory; None = float32.

        Raises:
            InputError: something is missing or does not fit, or it is the other kind of encoder.
        """
        import torch

        from editclip.checkpoints import load_clip_model
        from editclip.model import image_processor, vision_tower

        clip = load_clip_model(folder, dtype or torch.float32)
        embeddings = clip.vision_model.embeddings
        self.check_channels(embeddings.patch_embedding.in_channels, folder)
        return vision_tower(clip), image_processor(folder, embeddings.image_size)

    def tokens(
        self,
        encoder: "CLIPVisionModelWithProjection",
        processor: "CLIPImageProcessorPil",
        before: "Images",
        after: "Images",
        device: "torch.device | None" = None,
    ) -> "Tensor":
        """Tokens B×L×W of the pairs before → after, without gradient.

        N patches give L = 1 + N hidden tokens or 1 projected one, twice as many in "sequence"; W: see `token_width`.

        Args:
            encoder: with as many input channels as `channels` says.
            processor: its image processor.
            before: B images before the edit.
            after: B images after it.
            device: where the encoder computes; None = where its weights are.

        Raises:
            InputError: there are no images, or the two sides differ in number.
        """
        import torch

        from editclip.model import pair_pixels

        pixels = pair_pixels(before, after, processor).to(device or encoder.device, encoder.dtype)
        sides = [pixels] if self.condition == "edit" else list(pixels.split(3, dim=1))
        with torch.no_grad():
            encoded = [self._read(encoder, side) for side in (sides[1:] if self.condition == "after" else sides)]
        if self.condition == "sum":
            return encoded[0] + encoded[1]
        return torch.cat(encoded, dim=-1 if self.condition == "channels" else 1)

    def _read(self, encoder: "CLIPVisionModelWithProjection", pixels: "Tensor") -> "Tensor":
        output = encoder(pixels)
        return output.last_hidden_state if self.layer == "hidden" else output.image_embeds[:, None]
