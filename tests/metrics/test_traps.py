"""Every documented way of getting these metrics wrong, each with a test that fails if we fall into it.

Each test computes the wrong value too and demands that it is clearly another one, so that it could tell.

How the metrics are computed elsewhere, and go wrong:
 1. LPIPS fed [0, 1] instead of [−1, 1]
 2. LPIPS nets and trunks are not comparable with each other: the card must tell them apart
 3. features subtracted without bringing them to length 1 first
 4. CLIP score times 100, times 2.5 and clamped at 0, or with the logit scale
 5. uint8 arrays that wrap: CLIP score of the photographic negative; pixel differences of unsigned bytes
 6. float images in [0, 1] divided by 255 once more
 7. non-square images centre-cropped instead of squashed
 8. an interpolation other than antialiased bicubic
 9. newer transformers return an object, and its un-projected or pooled states, instead of the projected feature
10. identical captions before and after: a direction of length zero, not a random or NaN cosine
11. another backbone, or other weights of the same, behind the same column
12. instruction and caption form of the direction mixed in one column
What the known re-run of the benchmark got wrong:
13. LPIPS against the ground truth instead of the query
14. S_visual taken for SSIM
15. EC2EC against (query, ground truth) instead of the exemplar pair
16. features of several exemplars averaged; one row per query instead of one per sample
17. resolution of the metric left unsaid, or not the benchmark's
18. a metric checkpoint that is not pinned by digest, and features cached for another one
And of pairs: 19. before and after, or the two channels' halves, in the wrong order.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from metric_toys import photo, write_bench, write_edits
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn.functional import interpolate, normalize
from torchmetrics.functional.multimodal import clip_score
from torchvision.transforms.functional import pil_to_tensor
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPProcessor, CLIPTokenizer

from editclip.data.bench import Bench
from editclip.errors import InputError
from editclip.metrics.clip import ClipScores
from editclip.metrics.editclip import EditClipScores
from editclip.metrics.ground_truth import GroundTruthScores
from editclip.metrics.lpips import LPIPS
from editclip.metrics.modules import EC2T, to_uint8
from editclip.metrics.perceptual import distance, load_network, to_input, unit_features
from editclip.metrics.scores import Score, Setting, card, read_edits, read_frame
from editclip.model import Clip, EditCLIP

CONFIG: dict[type, dict[str, Any]] = {
    ClipScores: {"encoder": "clip", "direction": "auto", "minimum_length": 1e-4},
    EditClipScores: {"encoder": "editclip"},
    GroundTruthScores: {},
    LPIPS: {"nets": ["alex"], "trunk": "random", "resolution": 64},
}
CLEARLY = 5e-3  # the wrong value differs by more than this; the right one agrees within 1e-5

Scorer = Callable[..., tuple[list[dict[str, Score]], list[Image.Image]]]


@pytest.fixture
def score(setting: Callable[..., Setting], bench: Bench, tmp_path: Path) -> Scorer:
    """`score(family)`: scores of six random outputs, and these outputs."""

    def run(family: type, bench: Bench = bench) -> tuple[list[dict[str, Score]], list[Image.Image]]:
        folder = tmp_path / f"edits-{family.__name__}-{bench.digest[:8]}"
        edits = read_edits(write_edits(folder, bench) / "seed=0", bench)
        ready = [(edit.sample, edit.path) for edit in edits]
        return family(setting(CONFIG[family], bench=bench)).score(ready), [Image.open(path) for _, path in ready]

    return run


class Plain:
    """CLIP by transformers alone, its vision tower followed step by step: the independent computation."""

    def __init__(self, folder: Path) -> None:
        self.model = CLIPModel.from_pretrained(folder).eval()
        self.processor = CLIPImageProcessorPil.from_pretrained(folder)
        self.tokenizer = CLIPTokenizer.from_pretrained(folder)

    @torch.no_grad()
    def project(self, pixels: torch.Tensor) -> torch.Tensor:
        tokens = self.model.vision_model(pixels).last_hidden_state
        return self.model.visual_projection(self.model.vision_model.post_layernorm(tokens[:, 0]))[0]

    def pixels(self, image: Image.Image) -> torch.Tensor:
        return self.processor(image, return_tensors="pt")["pixel_values"]

    def image(self, image: Image.Image) -> torch.Tensor:
        return self.project(self.pixels(image))

    def pair(self, before: Image.Image, after: Image.Image) -> torch.Tensor:
        return self.project(torch.cat([self.pixels(before), self.pixels(after)], dim=1))

    @torch.no_grad()
    def text(self, text: str) -> torch.Tensor:
        ids = self.tokenizer(text, return_tensors="pt")["input_ids"]
        tokens = self.model.text_model(ids).last_hidden_state
        return self.model.text_projection(tokens[0, ids[0].argmax()])


class TensorClip(CLIPModel):
    """For torchmetrics 1.9, which itself falls into trap 9 and expects tensors."""

    def get_image_features(self, *given: Any) -> torch.Tensor:
        return super().get_image_features(*given).pooler_output.detach()

    def get_text_features(self, *given: Any) -> torch.Tensor:
        return super().get_text_features(*given).pooler_output.detach()


def cos(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(first, second, dim=0))


def test_01_lpips_gets_minus_one_to_one() -> None:
    network, images = load_network("alex", "random"), [photo(1), photo(2)]
    wrong_input = (
        torch.stack([pil_to_tensor(image.resize((64, 64), Image.Resampling.BICUBIC)) for image in images]) / 255
    )
    right_input = to_input(images, 64)
    assert torch.allclose(right_input, wrong_input * 2 - 1, atol=1e-6)
    assert right_input.min() < -0.5 and right_input.max() > 0.5
    with torch.inference_mode():
        maps = [[unit_features(network, image) for image in x.split(1)] for x in (right_input, wrong_input)]
        right, wrong = (float(distance(network, *pair)) for pair in maps)
        assert right == pytest.approx(float(network(*wrong_input.split(1), normalize=True)), abs=1e-5)
    assert abs(right - wrong) > CLEARLY


def test_02_lpips_nets_have_their_own_columns_and_digests(setting: Callable[..., Setting]) -> None:
    family = LPIPS(setting(CONFIG[LPIPS] | {"nets": ["alex", "vgg"]}))
    assert family.metrics == ("lpips_alex", "lpips_vgg")
    facts = family.card()["lpips"]
    assert facts["networks"]["alex"] != facts["networks"]["vgg"]
    assert facts["trunk"] == "random_trunk" and facts["version"] == "0.1"


def test_03_features_have_length_one_before_they_are_subtracted(score: Scorer, bench: Bench, clip_folder: Path) -> None:
    scores, outputs = score(ClipScores)
    plain, sample = Plain(clip_folder), bench.samples[0]
    query, output = plain.image(bench.image(sample.query)), plain.image(outputs[0])
    before, after = (plain.image(bench.image(n)) for n in (sample.exemplar_before, sample.exemplar_after))
    told = [plain.text(text) for text in (sample.caption_before, sample.caption_after)]

    def unit(feature: torch.Tensor) -> torch.Tensor:
        return normalize(feature, dim=0)

    change = unit(output) - unit(query)
    expected = {
        "s_visual": cos(change, unit(after) - unit(before)),
        "clip_dir_captions": cos(change, unit(told[1]) - unit(told[0])),
        "clip_dir_instruction": cos(change, plain.text(sample.instruction)),
    }
    wrong = {
        "s_visual": cos(output - query, after - before),
        "clip_dir_captions": cos(output - query, told[1] - told[0]),
        "clip_dir_instruction": cos(output - query, plain.text(sample.instruction)),
    }
    for name, value in expected.items():
        assert scores[0][name].value == pytest.approx(value, abs=1e-5)
    assert max(abs(expected[name] - wrong[name]) for name in expected) > CLEARLY
    assert scores[0]["s_visual_dist"].value == pytest.approx(1 - expected["s_visual"], abs=1e-5)


def test_04_scores_are_raw_cosines(score: Scorer, bench: Bench, clip_folder: Path, editclip_folder: Path) -> None:
    clip, outputs = score(ClipScores)
    edit, _ = score(EditClipScores)
    processor = CLIPProcessor(
        CLIPImageProcessorPil.from_pretrained(clip_folder), CLIPTokenizer.from_pretrained(clip_folder)
    )
    stock = TensorClip.from_pretrained(clip_folder), processor
    plain, pairs = Plain(clip_folder), Plain(editclip_folder)
    for sample, output, one, two in zip(bench.samples, outputs, clip, edit, strict=True):
        expected = cos(plain.image(output), plain.text(sample.caption_after))
        assert one["clip"].value == pytest.approx(expected, abs=1e-5)
        hundred = clip_score(pil_to_tensor(output), sample.caption_after, model_name_or_path=lambda: stock)
        assert 100 * max(expected, 0) == pytest.approx(float(hundred), abs=1e-3)  # torchmetrics: ×100, clamped
        expected = cos(pairs.pair(bench.image(sample.query), output), pairs.text(sample.instruction))
        assert two["ec2t"].value == pytest.approx(expected, abs=1e-5)
    values = [row[name].value for row, name in ((r, n) for r in clip for n in ("clip", "clip_dir_captions"))]
    assert min(values) < 0 and max(abs(value) for value in values) > 0.05  # or clamp and factor could not be seen


def test_05_bytes_do_not_wrap(score: Scorer, bench: Bench, clip_folder: Path) -> None:
    scores, outputs = score(ClipScores)
    sample, output, plain = bench.samples[0], outputs[0], Plain(clip_folder)
    wrapped = Image.fromarray((np.asarray(output).astype(np.uint16) * 255).astype(np.uint8))
    assert np.asarray(wrapped).flatten()[:9].tolist() == [(-v) % 256 for v in np.asarray(output).flatten()[:9].tolist()]
    wrong = cos(plain.image(wrapped), plain.text(sample.caption_after))
    assert abs(scores[0]["clip"].value - wrong) > CLEARLY
    pixels, _ = score(GroundTruthScores)
    left, right = np.asarray(output), np.asarray(bench.image(sample.ground_truth))
    assert pixels[0]["mse"].value == pytest.approx(((left.astype(float) - right) ** 2).mean() / 255**2, abs=1e-5)
    assert abs(pixels[0]["mse"].value - ((left - right) ** 2).mean() / 255**2) > CLEARLY


def test_06_floats_are_not_rescaled_twice(editclip_folder: Path) -> None:
    metric, texts = EC2T(editclip_folder), ["make it red", "add a hat"]
    pairs = [photo(1), photo(2)], [photo(3), photo(4)]
    floats = [torch.stack([pil_to_tensor(image) for image in side]) / 255 for side in pairs]
    metric.update(*pairs, texts)
    expected = float(metric.compute())
    metric.reset()
    metric.update(*floats, texts)
    assert float(metric.compute()) == pytest.approx(expected, abs=1e-5)
    metric.reset()
    metric.update(*((side / 255 * 255).round().to(torch.uint8) for side in floats), texts)  # what a second /255 leaves
    assert abs(float(metric.compute()) - expected) > CLEARLY
    with pytest.raises(InputError, match="uint8"):
        to_uint8(floats[0] * 2 - 1)
    with pytest.raises(InputError, match="0…255"):
        to_uint8(floats[0] * 255)


def test_07_non_square_images_are_squashed(clip_folder: Path, editclip_folder: Path) -> None:
    wide, other = photo(7, (96, 48)), photo(8, (96, 48))
    plain, clip = Plain(clip_folder), Clip.load(clip_folder)
    squashed = plain.image(wide.resize((32, 32), Image.Resampling.BICUBIC))
    cropped = plain.image(wide)  # the folder's own preprocessor: shortest side, then centre crop
    found = clip.encode_image([wide])[0]
    assert cos(found, squashed) == pytest.approx(1, abs=1e-5)
    assert cos(found, cropped) < 1 - CLEARLY
    pair, edit = Plain(editclip_folder), EditCLIP.load(editclip_folder).encode_edit([wide], [other])[0]
    small = [image.resize((32, 32), Image.Resampling.BICUBIC) for image in (wide, other)]
    assert cos(edit, pair.pair(*small)) == pytest.approx(1, abs=1e-5)
    assert cos(edit, pair.pair(wide, other)) < 1 - CLEARLY


def test_08_images_are_resized_by_pils_bicubic(clip_folder: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    plain, found = Plain(clip_folder), Clip.load(clip_folder).encode_image([noise])[0]
    assert cos(found, plain.image(noise.resize((32, 32), Image.Resampling.BICUBIC))) == pytest.approx(1, abs=1e-5)
    coarse = interpolate(pil_to_tensor(noise)[None] / 255, 32, mode="bicubic", align_corners=False)  # not antialiased
    mean, std = (torch.tensor(v)[:, None, None] for v in (plain.processor.image_mean, plain.processor.image_std))
    assert cos(found, plain.project((coarse - mean) / std)) < 1 - CLEARLY


def test_09_features_are_the_projected_embedding(clip_folder: Path, editclip_folder: Path) -> None:
    images = [photo(1), photo(2)]
    clip, plain = Clip.load(clip_folder), Plain(clip_folder)
    for found, expected in (
        (clip.encode_image(images), [plain.image(image) for image in images]),
        (clip.encode_text(["a red circle", "add a hat"]), [plain.text(t) for t in ("a red circle", "add a hat")]),
        (EditCLIP.load(editclip_folder).encode_edit(images, images[::-1]),
         [Plain(editclip_folder).pair(*images), Plain(editclip_folder).pair(*images[::-1])]),
    ):  # fmt: skip
        assert type(found) is torch.Tensor and found.shape == (2, 16) and found.dtype == torch.float32
        assert torch.allclose(found, normalize(torch.stack(expected), dim=-1), atol=1e-5)


def test_10_identical_captions_are_undefined(score: Scorer, tmp_path: Path) -> None:
    def same(index: int, row: dict[str, str]) -> None:
        if index != 1:
            row.update(caption_before="a train station in city", caption_after="a train station in city")

    scores, _ = score(ClipScores, write_bench(tmp_path / "same", same))
    assert [row["clip_dir_captions"].status for row in scores] == ["undefined", "ok"] + ["undefined"] * 4
    assert all(row["clip_dir_captions"].value is None for row in scores[2:])
    assert "caption" in scores[0]["clip_dir_captions"].reason
    assert {row["clip"].status for row in scores} == {"ok"}


def other_weights(folder: Path, target: Path) -> Path:
    """The same folder with one tensor nudged."""
    target.mkdir()
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    state = load_file(target / "model.safetensors")
    state["visual_projection.weight"] = state["visual_projection.weight"].roll(1, 0)
    save_file(state, target / "model.safetensors", metadata={"format": "pt"})
    return target


@pytest.mark.parametrize("family, name, metric", [(ClipScores, "clip", "clip"), (EditClipScores, "editclip", "ec2t")])
def test_11_18_weights_are_pinned_by_digest_and_features_are_theirs(
    family: type, name: str, metric: str, setting: Callable[..., Setting], bench: Bench, tmp_path: Path
) -> None:
    edits = [(e.sample, e.path) for e in read_edits(write_edits(tmp_path / "edits", bench) / "seed=0", bench)]
    first = setting(CONFIG[family])
    other = {**first.weights, name: other_weights(first.weights[name], tmp_path / "other")}
    second = Setting(first.config, bench, other, 4, "cpu")
    families = family(first), family(second)
    assert families[0].card()["weights"][name] != families[1].card()["weights"][name]
    values = [member.score(edits)[0][metric].value for member in families]  # one cache, the first fills it
    assert abs(values[0] - values[1]) > CLEARLY


def test_12_the_two_forms_of_the_direction_are_columns_of_their_own(score: Scorer) -> None:
    scores, _ = score(ClipScores)
    assert abs(scores[0]["clip_dir_captions"].value - scores[0]["clip_dir_instruction"].value) > CLEARLY
    assert "clip_dir" not in scores[0]


def test_13_lpips_is_to_the_query(score: Scorer, bench: Bench) -> None:
    scores, outputs = score(LPIPS)
    network, sample = load_network("alex", "random"), bench.samples[0]
    frames = to_input([outputs[0], bench.image(sample.query), bench.image(sample.ground_truth)], 64).split(1)
    with torch.inference_mode():
        to_query, to_truth = (float(network(frames[0], frame)) for frame in frames[1:])
    assert scores[0]["lpips_alex"].value == pytest.approx(to_query, abs=1e-5)
    assert abs(to_query - to_truth) > 1e-3


def test_14_s_visual_is_no_structural_similarity(score: Scorer, bench: Bench) -> None:
    scores, _ = score(ClipScores)
    pixels, _ = score(GroundTruthScores)
    assert abs(scores[0]["s_visual"].value - pixels[0]["ssim"].value) > CLEARLY
    # Same query and truth, another exemplar: S_visual must move.
    assert bench.samples[0].query == bench.samples[3].query
    assert bench.samples[0].exemplar_id != bench.samples[3].exemplar_id
    assert abs(scores[0]["s_visual"].value - scores[3]["s_visual"].value) > CLEARLY


def test_15_ec2ec_refers_to_the_exemplar(score: Scorer, bench: Bench, editclip_folder: Path) -> None:
    scores, outputs = score(EditClipScores)
    plain = Plain(editclip_folder)
    for sample, output, row in zip(bench.samples, outputs, scores, strict=True):
        image = {
            n: bench.image(getattr(sample, n)) for n in ("query", "exemplar_before", "exemplar_after", "ground_truth")
        }
        edit = plain.pair(image["query"], output)
        right = cos(plain.pair(image["exemplar_before"], image["exemplar_after"]), edit)
        wrong = cos(plain.pair(image["query"], image["ground_truth"]), edit)
        assert row["ec2ec"].value == pytest.approx(right, abs=1e-5)
        assert abs(right - wrong) > CLEARLY


def test_16_every_exemplar_is_a_sample_of_its_own(
    score: Scorer, setting: Callable[..., Setting], bench: Bench, tmp_path: Path
) -> None:
    same = {sample.sample_id: photo(int(sample.query_id[-1]) + 50) for sample in bench.samples}
    edits = read_edits(write_edits(tmp_path / "same", bench, same) / "seed=0", bench)
    scores = EditClipScores(setting({"encoder": "editclip"})).score([(edit.sample, edit.path) for edit in edits])
    assert len(scores) == 6  # 2 exemplars × 3 queries
    for query in range(3):  # equal outputs, unlike references: unlike values, neither of them their mean
        assert abs(scores[query]["ec2ec"].value - scores[query + 3]["ec2ec"].value) > CLEARLY
        assert scores[query]["ec2t"] == scores[query + 3]["ec2t"]


def test_17_the_resolution_is_in_the_card_and_other_sizes_are_refused(
    setting: Callable[..., Setting], bench: Bench, tmp_path: Path
) -> None:
    for family, config in CONFIG.items():
        assert card(family(setting(config)), bench)["bench"]["resolution"] == 32
    assert "32" in ClipScores(setting(CONFIG[ClipScores])).card()["preprocessing"]
    small = {bench.samples[0].sample_id: photo(1, (16, 16))}
    edits = read_edits(write_edits(tmp_path / "small", bench, small) / "seed=0", bench)
    for family, config in CONFIG.items():
        with pytest.raises(InputError, match="16×16 px: an edit must be 32×32"):
            family(setting(config)).score([(edit.sample, edit.path) for edit in edits])
    with pytest.raises(InputError, match="cannot read"):
        read_frame(bench.path("manifest.csv"), 32)


def test_19_a_pair_is_before_then_after(score: Scorer, bench: Bench, editclip_folder: Path) -> None:
    scores, outputs = score(EditClipScores)
    plain, sample = Plain(editclip_folder), bench.samples[0]
    query, told = bench.image(sample.query), plain.text(sample.instruction)
    right, wrong = cos(plain.pair(query, outputs[0]), told), cos(plain.pair(outputs[0], query), told)
    assert scores[0]["ec2t"].value == pytest.approx(right, abs=1e-5)
    assert abs(right - wrong) > CLEARLY
