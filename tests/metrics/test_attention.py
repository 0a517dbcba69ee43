"""Attention planted in a tiny tower, and shares and intervals of hand-made maps, against their closed forms."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel

from editclip.config.run import Statistics
from editclip.data.bench import Bench
from editclip.metrics import attention
from editclip.metrics.attention import class_attention, distinct_exemplars, edit_attention, edited, image_attention
from editclip.metrics.attention_shares import VALUES, masked_fractions, shares, summarise
from editclip.model import Clip, EditCLIP

STATISTICS = Statistics(resamples=1000, level=0.95, seed=0)
T2 = 4.302653  # t quantile of 97.5 % with 2 degrees of freedom
WIDTH, PATCH, SIDE = 8, 2, 3  # of the tower, and a side of it in patches
SLOPES = (0.5, -1.0, 0.0, 2.0)  # of each head: how its score rises with what a patch holds
BASE = 1.5


def planted(channels: int) -> Clip | EditCLIP:
    """A tower whose class token attends by the patches' means alone; of six channels, by after minus before.

    The first block does nothing. A patch of mean m is the token (m, -m, b, -b, 0, 0, 0, 0), the class token the same
    with m = 0; brought to mean 0 and variance 1 by every norm, its first entry is u = 2 m / √(m² + b²) and the class
    token's third one 2. Head h multiplies them: its score is 2 a_h u / √2, and 0 for the class token itself.
    """
    tower = {"hidden_size": WIDTH, "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": len(SLOPES)}
    vision = tower | {"image_size": PATCH * SIDE, "patch_size": PATCH, "num_channels": channels, "layer_norm_eps": 0.0}
    text = tower | {"vocab_size": 8, "eos_token_id": 7, "bos_token_id": 6}
    model = CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=4)).eval()
    part, embeddings = model.vision_model, model.vision_model.embeddings
    with torch.no_grad():
        embeddings.patch_embedding.weight.zero_()
        mean = torch.full((3, PATCH, PATCH), 1 / (3 * PATCH**2))
        rise = mean if channels == 3 else torch.cat([-mean, mean])
        embeddings.patch_embedding.weight[:2] = torch.stack([rise, -rise])
        embeddings.class_embedding.zero_()
        embeddings.position_embedding.weight[:] = torch.tensor([0, 0, BASE, -BASE, 0, 0, 0, 0])
        for block in part.encoder.layers:
            for layer in (block.self_attn.out_proj, block.mlp.fc2):
                layer.weight.zero_()
                layer.bias.zero_()
        last = part.encoder.layers[-1].self_attn
        for layer in (last.q_proj, last.k_proj):
            layer.weight.zero_()
            layer.bias.zero_()
        for head, slope in enumerate(SLOPES):
            last.q_proj.weight[2 * head, 2] = slope
            last.k_proj.weight[2 * head, 0] = 1
    kind = {3: Clip, 6: EditCLIP}[channels]
    return kind(model, None, None)  # no texts, and pixels are given as they are


def closed_form(means: np.ndarray) -> np.ndarray:
    """Heads×rows×columns: the softmax of the scores above over the patches."""
    scores = np.array(SLOPES)[:, None, None] * 2 * 2 * means / np.sqrt(means**2 + BASE**2) / math.sqrt(2)
    weights = np.exp(scores)
    return weights / weights.sum(axis=(1, 2), keepdims=True)


def pixels(*means: np.ndarray) -> torch.Tensor:
    """1×3n×S×S: patches of these means, on three channels for each of n maps."""
    large = np.stack([np.kron(mean, np.ones((PATCH, PATCH))) for mean in means for _ in range(3)])
    return torch.from_numpy(large[None]).float()


@pytest.mark.parametrize("channels", [3, 6])
def test_planted_attention_comes_out_exactly(channels: int) -> None:
    before, after = (np.random.default_rng(seed).normal(size=(SIDE, SIDE)) for seed in (0, 1))
    encoder = planted(channels)
    shown, means = (pixels(after), after) if channels == 3 else (pixels(before, after), after - before)
    found = class_attention(encoder, torch.cat([shown, 0 * shown])).numpy()
    assert found.shape == (2, len(SLOPES), SIDE, SIDE)
    assert found[0] == pytest.approx(closed_form(means), rel=1e-5)
    assert found[1] == pytest.approx(1 / SIDE**2, rel=1e-6), "patches that are alike get as much each"
    assert found[0, -1] == pytest.approx(closed_form(means)[3], rel=1e-5)
    assert np.abs(found[0, -1] - found[0].mean(axis=0)).max() > 0.05, "the last head is not the mean"


def test_measuring_leaves_the_encoder_as_it_was(editclip_folder: Path) -> None:
    encoder = EditCLIP.load(editclip_folder)
    images = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    before = encoder.encode_edit(images, images[::-1])
    tower = encoder.model.vision_model
    usual = tower.config._attn_implementation
    assert usual != "eager", "the weights that are wanted come from another implementation"
    found = edit_attention(encoder, images, images[::-1])
    assert tower.config._attn_implementation == usual
    assert not tower.encoder.layers[-1].self_attn._forward_hooks
    assert torch.equal(encoder.encode_edit(images, images[::-1]), before)
    assert found.sum(dim=(-2, -1)) == pytest.approx(1)


def test_images_are_read_as_the_encoder_reads_them(clip_folder: Path) -> None:
    """Large frames are squashed first; each image has its own map."""
    clip = Clip.load(clip_folder)
    random = np.random.default_rng(0)
    images = [Image.fromarray(random.integers(0, 256, (64, 64, 3), dtype=np.uint8)) for _ in range(2)]
    both = image_attention(clip, images)
    assert torch.allclose(both[1:], image_attention(clip, images[1:]), atol=1e-6)
    assert not torch.allclose(both[0], both[1], atol=1e-3)
    small = [image.resize((32, 32), Image.Resampling.BICUBIC) for image in images]
    assert torch.allclose(both, image_attention(clip, small), atol=1e-6)


def test_an_edit_is_where_some_channel_changes_by_more_than_16_levels() -> None:
    before = np.full((2, 2, 3), 100, np.uint8)
    after = before.copy()
    after[0, 0, 2], after[0, 1], after[1, 0, 0] = 117, 116, 83
    mask = edited(*(Image.fromarray(image) for image in (before, after)))
    assert mask.tolist() == [[True, False], [True, False]]


def test_fractions_of_patches_are_exact_where_they_are_no_whole_pixels() -> None:
    left = np.zeros((6, 6), bool)
    left[:, :2] = True
    assert masked_fractions(left, 2, 2) == pytest.approx(np.array([[2 / 3, 0], [2 / 3, 0]]))
    assert masked_fractions(left, 4, 4) == pytest.approx(np.tile([1, 1 / 3, 0, 0], (4, 1)))  # patches of 1.5 pixels
    pixel = np.zeros((5, 5), bool)
    pixel[2, 0] = True  # from 0.8 to 1.2 patches down, 0.6 of one across
    assert masked_fractions(pixel, 2, 3) == pytest.approx(np.array([[0.12, 0, 0], [0.12, 0, 0]]))
    random = np.random.default_rng(0).random((48, 48)) < 0.3
    assert masked_fractions(random, 7, 7).mean() == pytest.approx(random.mean())


def test_a_share_counts_each_patch_by_the_part_that_the_edit_covers() -> None:
    attention = np.array([[0.7, 0.1], [0.1, 0.1]])
    found = shares(attention, np.array([[1, 0], [0.5, 0]]))
    assert found == pytest.approx({"share": 0.75, "area": 0.375, "lift": 0.375})
    assert shares(np.full((7, 7), 1 / 49), masked_fractions(np.ones((9, 9), bool), 7, 7))["lift"] == 0


def values(*exemplars: tuple[str, str, float, float], family: str = "colour") -> pd.DataFrame:
    """attention.csv of exemplars (id, type, area, lift of EditCLIP); CLIP spreads its attention evenly."""
    rows = []
    for name, kind, area, lift in exemplars:
        for head in ("last", "mean"):
            for reading, above in (("editclip", lift), ("clip_before", 0.0), ("clip_after", 0.05)):
                rows.append((name, kind, family, reading, head, area + above, area, above))
    return pd.DataFrame(rows, columns=list(VALUES))


def row(summary: pd.DataFrame, **wanted: str) -> dict[str, float]:
    """The one row of the summary, of the last head and all edits unless `wanted` says otherwise."""
    wanted = {"head": "last", "scope": "all", "reading": "editclip"} | wanted
    found = summary[(summary[list(wanted)] == list(wanted.values())).all(axis=1)]
    assert len(found) == 1
    return found.iloc[0].to_dict()


def test_intervals_resample_types_with_all_their_exemplars() -> None:
    """Of type means m - w, m and m + w the standard error is w / √3, however many exemplars each type has."""
    lifts = {"a": 0.1, "b": 0.2, "c": 0.3}
    summary = summarise(values(*((f"{t}{i}", t, 0.2, lift) for t, lift in lifts.items() for i in (0, 1))), STATISTICS)
    found = row(summary)
    assert (found["share"], found["area"], found["lift"], found["n"]) == pytest.approx((0.4, 0.2, 0.2, 6))
    assert found["low"] == pytest.approx(0.2 - T2 * 0.1 / math.sqrt(3), rel=0.1)  # 1,000 draws
    assert found["high"] == pytest.approx(0.2 + T2 * 0.1 / math.sqrt(3), rel=0.1)
    beside = row(summary, reading="editclip - clip_after")
    assert (beside["share"], beside["lift"]) == pytest.approx((0.15, 0.15)) and math.isnan(beside["area"])
    assert beside["high"] - beside["low"] == pytest.approx(found["high"] - found["low"]), (
        "CLIP's is the same everywhere"
    )
    assert row(summary, reading="editclip - clip_before")["share"] == pytest.approx(0.2)


def test_of_one_type_its_exemplars_are_resampled_and_a_lone_one_has_no_interval() -> None:
    three = [(f"e{i}", "a", 0.2, lift) for i, lift in enumerate((0.1, 0.2, 0.3))]
    found = row(summarise(values(*three), STATISTICS))
    assert found["high"] - found["low"] == pytest.approx(2 * T2 * 0.1 / math.sqrt(3), rel=0.1)
    alone = row(summarise(values(*three[:1]), STATISTICS))
    assert alone["lift"] == pytest.approx(0.1) and math.isnan(alone["low"])


def test_local_edits_change_something_and_less_than_half_of_the_image() -> None:
    areas = {"none": 0.0, "some": 0.2, "more": 0.49, "half": 0.5, "all": 1.0}
    rows = values(*((name, name, area, 0.1) for name, area in areas.items()))
    summary = summarise(rows.assign(family=rows["type"].map({"some": "colour", "all": "style"}).fillna("")), STATISTICS)
    assert row(summary)["n"] == 5
    local = row(summary, scope="local")
    assert (local["n"], local["area"]) == (2, pytest.approx((0.2 + 0.49) / 2))
    assert set(summary.loc[summary["scope"] == "family", "scope_value"]) == {"colour", "style"}
    assert row(summary, scope="family", scope_value="style")["area"] == 1
    whole = summarise(values(("e", "a", 1.0, 0.0)), STATISTICS)
    assert set(whole["scope"]) == {"all", "family"}, "nothing is local"


def test_the_stage_measures_every_exemplar_once(
    bench: Bench, clip_folder: Path, editclip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "BATCH", 1)
    out = tmp_path / "attention"
    monkeypatch.setattr(
        "sys.argv",
        ["attention", "--bench", str(bench.folder), "--encoder", f"mine={editclip_folder}", "--clip",
         f"plain={clip_folder}", "--statistics", STATISTICS.model_dump_json(), "--threads", "1", "--out", str(out)],
    )  # fmt: skip
    attention.main()
    exemplars = [e.exemplar_id for e in distinct_exemplars(bench)]
    assert exemplars == ["g-t-e0", "g-t-e1"]
    told = json.loads((out / "attention.json").read_text())
    assert (told["encoder"], told["clip"], told["level"]) == ("mine", "plain", 0.95)
    assert told["patches"] == dict.fromkeys(("clip_before", "clip_after", "editclip"), [2, 2])
    maps = pd.read_csv(out / "maps.csv").set_index(["exemplar_id", "reading", "head"])
    assert len(maps) == 2 * 3 * 2 * 4
    assert maps.groupby(level=[0, 1, 2])["attention"].sum().to_numpy() == pytest.approx(1, abs=1e-5)
    measured = pd.read_csv(out / "attention.csv").set_index(["exemplar_id", "reading", "head"])
    assert len(measured) == 2 * 3 * 2 and set(measured["type"]) == {"t"}
    for name in exemplars:
        pair = [bench.image(f"frames/{name.removeprefix('g-t-')}_{side}.png") for side in (0, 1)]
        mask = edited(*pair)
        with Image.open(out / "masks" / f"{name}.png") as image:
            assert np.array_equal(np.asarray(image.convert("L")) > 0, mask)
        found = edit_attention(EditCLIP.load(editclip_folder), pair[:1], pair[1:])[0]
        expected = shares(found[-1].numpy(), masked_fractions(mask, 2, 2))
        got = measured.loc[(name, "editclip", "last")]
        assert {key: got[key] for key in expected} == pytest.approx(expected, abs=1e-5)
        drawn = maps.loc[(name, "editclip", "mean")].pivot(index="row", columns="column", values="attention")
        assert drawn.to_numpy() == pytest.approx(found.mean(dim=0).numpy(), abs=1e-5)
    summary = pd.read_csv(out / "summary.csv", keep_default_na=False)
    assert set(summary["n"]) <= {1, 2} and {"all", "family"} <= set(summary["scope"])
