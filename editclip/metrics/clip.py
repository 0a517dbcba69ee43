"""CLIP score, CLIP directional similarity and S_visual (paper, appendix A, eqs. 10–13), with plain CLIP.

With E the image and T the text encoder, features at length 1:

- `clip` = cos(E(output), T(caption of the output)), eq. 10
- `clip_dir_captions` = cos(E(output) − E(query), T(caption after) − T(caption before)), eq. 11
- `clip_dir_instruction` = cos(E(output) − E(query), T(instruction)), eq. 12
- `s_visual` = cos(E(output) − E(query), E(exemplar after) − E(exemplar before)), eq. 13; `s_visual_dist` = 1 − it
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from editclip.data.bench import Sample
from editclip.metrics.features import Store, distinct, encode, image_key, text_key
from editclip.metrics.formulas import aligned, cosine, direction, unit
from editclip.metrics.scores import Score, Setting, read_frame
from editclip.model import Clip
from editclip.storage import path_digest

FORMS = {"captions": "clip_dir_captions", "instruction": "clip_dir_instruction"}  # config word → metric
NO_CAPTION = Score.skipped("the benchmark has no caption of the output")
NO_CAPTIONS = Score.skipped("the benchmark has no captions before and after")
NO_INSTRUCTION = Score.skipped("the benchmark has no instruction")


class ClipScores:
    """The five metrics of plain CLIP."""

    metrics: tuple[str, ...] = ("clip", "clip_dir_captions", "clip_dir_instruction", "s_visual", "s_visual_dist")

    def __init__(self, setting: Setting) -> None:
        form, self.minimum = setting.config.direction, setting.config.minimum_length
        if form == "auto":  # one form for the whole run, never mixed
            complete = all(sample.caption_before and sample.caption_after for sample in setting.bench.whole)
            form = "captions" if complete else "instruction"
        self.setting, self.form = setting, form
        folder = setting.weight("clip")
        self.digest = path_digest(folder)
        self.clip = Clip.load(folder, setting.device)

    def card(self) -> dict[str, Any]:
        """The encoder, its preprocessing, and which form of the direction is the table's."""
        size = self.clip.model.config.vision_config.image_size
        return {
            "weights": {"clip": self.digest},
            "preprocessing": f"frame at R, then PIL bicubic squash on uint8 to {size}, CLIP mean and std",
            "scale": "raw cosine",
            "clip_dir": FORMS[self.form],
            "minimum_length": self.minimum,
        }

    def score(self, edits: Sequence[tuple[Sample, Path]]) -> list[dict[str, Score]]:
        """All five metrics of each edit."""
        images, texts = self._images(edits), self._texts()
        return [self._score(sample, path, images, texts) for sample, path in edits]

    def _images(self, edits: Sequence[tuple[Sample, Path]]) -> dict[str, torch.Tensor]:
        path, resolution = self.setting.bench.path, self.setting.bench.resolution
        given = [path(name) for s, _ in edits for name in (s.query, s.exemplar_before, s.exemplar_after)]
        items = distinct([*given, *(output for _, output in edits)])
        return encode(
            items,
            lambda paths: self.clip.encode_image([read_frame(path, resolution) for path in paths]),
            self._store("image", self.setting.batch_size),
            batch_size=self.setting.batch_size,
            label="CLIP images",
        )

    def _texts(self) -> dict[str, torch.Tensor]:
        given = [
            text
            for s in self.setting.bench.samples
            for text in (s.instruction, s.caption_before, s.caption_after)
            if text
        ]
        items = {text_key(text): text for text in given}
        # One by one: texts are few, and a batch is padded to its longest, which shows in the last bits.
        return encode(items, self.clip.encode_text, self._store("text", 1), batch_size=1, label="CLIP texts")

    def _store(self, kind: str, batch_size: int) -> Store:
        module, device = "editclip.metrics.clip", self.setting.device
        return Store.of(kind, module=module, encoder=self.digest, batch_size=batch_size, device=device)

    def _score(
        self, sample: Sample, path: Path, images: Mapping[str, torch.Tensor], texts: Mapping[str, torch.Tensor]
    ) -> dict[str, Score]:
        def image(name: str) -> torch.Tensor:
            return images[image_key(self.setting.bench.path(name))]

        result = dict.fromkeys(self.metrics, NO_INSTRUCTION)
        output = images[image_key(path)]
        change = direction(image(sample.query), output)
        shown = direction(image(sample.exemplar_before), image(sample.exemplar_after))
        visual = aligned(change, shown, self.minimum, ("query to output", "exemplar before to after"))
        result["s_visual"] = visual
        result["s_visual_dist"] = visual if visual.value is None else Score.ok(1 - visual.value)
        result["clip"] = result["clip_dir_captions"] = NO_CAPTION
        if sample.caption_after:
            after = texts[text_key(sample.caption_after)]
            result["clip"] = Score.ok(cosine(output, after))
            result["clip_dir_captions"] = NO_CAPTIONS
            if sample.caption_before:
                told = direction(texts[text_key(sample.caption_before)], after)
                names = ("query to output", "caption before to after")
                result["clip_dir_captions"] = aligned(change, told, self.minimum, names)
        if sample.instruction:
            told = unit(texts[text_key(sample.instruction)])
            result["clip_dir_instruction"] = aligned(change, told, self.minimum, ("query to output", "instruction"))
        return result
