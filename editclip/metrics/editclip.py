"""EC2T and EC2EC (paper, section 3.4): similarity of edits in EditCLIP's space.

With f the edit encoder (projected embedding) and g its text encoder, features at length 1:

- `ec2t` = cos(f(query, output), g(instruction))
- `ec2ec` = cos(f(exemplar before, exemplar after), f(query, output)); the reference pair is the *exemplar*, each
  sample's own: with (query, ground truth) the shared source alone would push the cosine up.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageChops

from editclip.data.bench import Sample
from editclip.metrics.features import Store, encode, image_key, pair_key, text_key
from editclip.metrics.formulas import cosine
from editclip.metrics.scores import Score, Setting, read_frame
from editclip.model import EditCLIP
from editclip.storage import path_digest

NO_INSTRUCTION = Score.skipped("the benchmark has no instruction")
NO_EDIT = Score.undefined("the exemplar shows no edit: its two images are identical")

Pair = tuple[Path, Path]


class EditClipScores:
    """EC2T and EC2EC."""

    metrics: tuple[str, ...] = ("ec2t", "ec2ec")

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        folder = setting.weight("editclip")
        self.digest = path_digest(folder)
        self.model = EditCLIP.load(folder, setting.device)

    def card(self) -> dict[str, Any]:
        """The encoder and its preprocessing."""
        size = self.model.model.config.vision_config.image_size
        return {
            "weights": {"editclip": self.digest},
            "preprocessing": f"frame at R, then PIL bicubic squash on uint8 to {size}, CLIP mean and std",
            "embedding": "projected",
            "scale": "raw cosine",
            "ec2ec_reference": "exemplar",
        }

    def score(self, edits: Sequence[tuple[Sample, Path]]) -> list[dict[str, Score]]:
        """Both metrics of each edit; equal pairs are encoded once."""
        bench = self.setting.bench
        made = [(bench.path(sample.query), path) for sample, path in edits]
        shown = [(bench.path(sample.exemplar_before), bench.path(sample.exemplar_after)) for sample, _ in edits]
        pairs = encode(
            {pair_key(*pair): pair for pair in (*shown, *made)},
            self._encode,
            self._store("edit", self.setting.batch_size),
            batch_size=self.setting.batch_size,
            label="EditCLIP edits",
        )
        told = {text_key(s.instruction): s.instruction for s in bench.samples if s.instruction}
        # One by one: texts are few, and a batch is padded to its longest, which shows in the last bits.
        texts = encode(told, self.model.encode_text, self._store("text", 1), batch_size=1, label="EditCLIP texts")
        still = {pair for pair in dict.fromkeys(shown) if self._same(pair)}
        results = []
        for (sample, _), exemplar, edit in zip(edits, shown, made, strict=True):
            feature = pairs[pair_key(*edit)]
            ec2ec = NO_EDIT if exemplar in still else Score.ok(cosine(pairs[pair_key(*exemplar)], feature))
            ec2t = NO_INSTRUCTION
            if sample.instruction:
                ec2t = Score.ok(cosine(feature, texts[text_key(sample.instruction)]))
            results.append({"ec2t": ec2t, "ec2ec": ec2ec})
        return results

    def _encode(self, pairs: list[Pair]) -> torch.Tensor:
        before, after = ([self._frame(pair[side]) for pair in pairs] for side in (0, 1))
        return self.model.encode_edit(before, after)

    def _frame(self, path: Path) -> Image.Image:
        return read_frame(path, self.setting.bench.resolution)

    def _same(self, pair: Pair) -> bool:
        if image_key(pair[0]) == image_key(pair[1]):
            return True
        return ImageChops.difference(self._frame(pair[0]), self._frame(pair[1])).getbbox() is None

    def _store(self, kind: str, batch_size: int) -> Store:
        module, device = "editclip.metrics.editclip", self.setting.device
        return Store.of(kind, module=module, encoder=self.digest, batch_size=batch_size, device=device)
