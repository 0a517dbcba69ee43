"""The feature formulas on planted features, against closed forms worked out by hand (paper, eqs. 10–13, section 3.4).

The features are put into the cache under the keys of the real images and texts, so the whole family runs on them.
"""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from metric_toys import photo, write_bench, write_edits

from editclip.data.bench import Bench
from editclip.metrics.clip import ClipScores
from editclip.metrics.editclip import EditClipScores
from editclip.metrics.features import image_key, pair_key, text_key
from editclip.metrics.formulas import aligned, cosine, unit
from editclip.metrics.scores import Score, Setting, read_edits

CLIP = {"encoder": "clip", "direction": "auto", "minimum_length": 1e-4}


def vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)


def ready(folder: Path, bench: Bench) -> list[tuple]:
    edits = read_edits(write_edits(folder, bench) / "seed=0", bench)
    return [(edit.sample, edit.path) for edit in edits]


def plant(
    family: ClipScores, edits: list[tuple], images: dict[str, torch.Tensor], texts: dict[str, torch.Tensor]
) -> None:
    bench = family.setting.bench
    names = {n for s, _ in edits for n in (s.query, s.exemplar_before, s.exemplar_after)}
    keys = {image_key(bench.path(name)): images[name.split("/")[1][0] + name[-5]] for name in names}
    keys |= {image_key(path): images["output"] for _, path in edits}
    family._store("image", family.setting.batch_size).save(keys)
    family._store("text", 1).save({text_key(text): feature for text, feature in texts.items()})


def test_clip_family_on_planted_features(setting: Callable[..., Setting], bench: Bench, tmp_path: Path) -> None:
    family, edits = ClipScores(setting(CLIP)), ready(tmp_path / "edits", bench)
    # Lengths 10, 3, 2, 5 must not matter: every feature is brought to length 1 before anything is subtracted.
    images = {
        "q0": vector(10, 0, 0, 0),
        "output": vector(0, 3, 0, 0),
        "e0": vector(2, 0, 0, 0),
        "e1": vector(0, 0, 0, 5),
    }
    texts = {"make the circle red": vector(0, 7, 7, 0)}
    for i in range(3):
        texts |= {f"a blue circle {i}": vector(4, 0, 0, 0), f"a red circle {i}": vector(0, 1, 0, 1)}
    plant(family, edits, images, texts)
    half = math.sqrt(0.5)
    change, told = (-1, 1, 0, 0), (-1, half, 0, half)  # unit output − unit query; unit caption after − unit before
    expected = {
        "clip": half,
        "clip_dir_captions": (1 + half) / (math.sqrt(2) * math.sqrt(2)),
        "clip_dir_instruction": sum(a * b for a, b in zip(change, (0, half, half, 0), strict=True)) / math.sqrt(2),
        "s_visual": 0.5,  # (−1, 1, 0, 0) against (−1, 0, 0, 1)
        "s_visual_dist": 0.5,
    }
    assert math.dist(told, (0, 0, 0, 0)) == pytest.approx(math.sqrt(2))
    for scores in family.score(edits):
        assert {name: score.value for name, score in scores.items()} == pytest.approx(expected, abs=1e-5)


def test_editclip_family_on_planted_features(setting: Callable[..., Setting], bench: Bench, tmp_path: Path) -> None:
    family, edits = EditClipScores(setting({"encoder": "editclip"})), ready(tmp_path / "edits", bench)
    shown = {0: vector(2, 0, 0), 1: vector(0, 3, 4)}  # one exemplar each: (1, 0, 0) and (0, 0.6, 0.8)
    pairs = {}
    for sample, path in edits:
        pairs[pair_key(bench.path(sample.query), path)] = vector(0.6, 0, 0.8) * 9
        exemplar = bench.path(sample.exemplar_before), bench.path(sample.exemplar_after)
        pairs[pair_key(*exemplar)] = shown[int(sample.exemplar_id[-1])]
    family._store("edit", family.setting.batch_size).save(pairs)
    family._store("text", 1).save({text_key("make the circle red"): vector(0, 0, 5)})
    for (sample, _), scores in zip(edits, family.score(edits), strict=True):
        assert scores["ec2t"].value == pytest.approx(0.8, abs=1e-5)
        assert scores["ec2ec"].value == pytest.approx({"0": 0.6, "1": 0.64}[sample.exemplar_id[-1]], abs=1e-5)


def test_cosine_is_raw_and_may_be_negative() -> None:
    assert cosine(vector(3, 0), vector(-2, 0)) == pytest.approx(-1)
    assert cosine(vector(3, 4), vector(4, 3)) == pytest.approx(24 / 25)


@pytest.mark.parametrize("length, status", [(0.9e-4, "undefined"), (1.1e-4, "ok")])
def test_a_direction_shorter_than_the_minimum_points_nowhere(length: float, status: str) -> None:
    score = aligned(vector(length, 0), vector(0.5, 0.5), 1e-4, ("query to output", "instruction"))
    assert score.status == status
    assert score.value is None or score.value == pytest.approx(math.sqrt(0.5))
    assert ("query to output" in score.reason) == (status == "undefined")


@pytest.mark.parametrize("feature", [(0.0, 0.0), (float("nan"), 1.0), (float("inf"), 1.0)])
def test_a_broken_feature_is_an_error_and_not_a_score(feature: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="no direction"):
        unit(vector(*feature))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_score_is_finite(value: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        Score.ok(value)


def test_auto_direction_is_captions_only_when_every_sample_has_both(
    setting: Callable[..., Setting], tmp_path: Path
) -> None:
    def drop(index: int, row: dict[str, str]) -> None:
        if index == 4:
            row["caption_before"] = ""

    bench = write_bench(tmp_path / "partial", drop)
    assert ClipScores(setting(CLIP)).card()["clip_dir"] == "clip_dir_captions"
    family = ClipScores(setting(CLIP, bench=bench))
    assert family.card()["clip_dir"] == "clip_dir_instruction"
    scores = family.score(ready(tmp_path / "edits", bench))
    assert [s["clip_dir_captions"].status for s in scores] == ["ok"] * 4 + ["skipped", "ok"]
    assert "captions" in scores[4]["clip_dir_captions"].reason
    assert {s["clip"].status for s in scores} == {"ok"}  # needs the caption after alone


def test_missing_texts_are_skipped_with_their_reason(setting: Callable[..., Setting], tmp_path: Path) -> None:
    def silent(index: int, row: dict[str, str]) -> None:
        row.update(instruction="", caption_before="", caption_after="", text_origin="")

    bench = write_bench(tmp_path / "silent", silent)
    edits = ready(tmp_path / "edits", bench)
    scores = (
        ClipScores(setting(CLIP, bench=bench)).score(edits)[0]
        | EditClipScores(setting({"encoder": "editclip"}, bench=bench)).score(edits)[0]
    )
    status = {name: score.status for name, score in scores.items()}
    assert status.pop("s_visual") == status.pop("s_visual_dist") == status.pop("ec2ec") == "ok"
    assert set(status) == {"clip", "clip_dir_captions", "clip_dir_instruction", "ec2t"}
    assert set(status.values()) == {"skipped"}
    assert "caption" in scores["clip"].reason and "instruction" in scores["ec2t"].reason


def test_an_unedited_query_has_no_direction_but_keeps_the_other_metrics(
    setting: Callable[..., Setting], bench: Bench, tmp_path: Path
) -> None:
    copies = {sample.sample_id: bench.image(sample.query) for sample in bench.samples}
    edits = [(e.sample, e.path) for e in read_edits(write_edits(tmp_path / "copy", bench, copies) / "seed=0", bench)]
    clip, pair = (
        ClipScores(setting(CLIP)).score(edits)[0],
        EditClipScores(setting({"encoder": "editclip"})).score(edits)[0],
    )
    for name in ("clip_dir_captions", "clip_dir_instruction", "s_visual", "s_visual_dist"):
        assert clip[name].status == "undefined" and "query to output" in clip[name].reason
    assert clip["clip"].status == pair["ec2t"].status == pair["ec2ec"].status == "ok"


def test_an_exemplar_without_an_edit_makes_ec2ec_and_s_visual_undefined(
    setting: Callable[..., Setting], tmp_path: Path
) -> None:
    def still(index: int, row: dict[str, str]) -> None:
        if index < 3:
            row["exemplar_after"] = "frames/same.png"

    frames = tmp_path / "still" / "frames"
    frames.mkdir(parents=True)
    photo(0).save(frames / "same.png", compress_level=0)  # the pixels of e0_0 in another file of other bytes
    bench = write_bench(tmp_path / "still", still)
    edits = ready(tmp_path / "edits", bench)
    pair, clip = (
        EditClipScores(setting({"encoder": "editclip"}, bench=bench)).score(edits),
        ClipScores(setting(CLIP, bench=bench)).score(edits),
    )
    assert [s["ec2ec"].status for s in pair] == ["undefined"] * 3 + ["ok"] * 3
    assert "no edit" in pair[0]["ec2ec"].reason and pair[0]["ec2t"].status == "ok"
    assert [s["s_visual"].status for s in clip] == ["undefined"] * 3 + ["ok"] * 3
