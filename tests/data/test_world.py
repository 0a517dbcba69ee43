"""The procedural world: programs, scenes, training data and the benchmark tree."""

import hashlib
import io
import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from editclip.config.tree import read_config
from editclip.data import bench, world
from editclip.data.world import (
    SPLITS,
    WEIGHTS,
    bench_pairs,
    pixel_digests,
    triplet_rows,
    write_bench,
    write_triplets,
)
from editclip.data.world_edits import FAMILIES, programs
from editclip.data.world_multi import PATTERNS
from editclip.data.world_pairs import POOLS, draw_pair, pool
from editclip.data.world_render import SILHOUETTES, render
from editclip.data.world_scene import SHAPES, STYLES, Scene, Thing, random_scene
from editclip.data.world_styles import FUNCTIONS
from editclip.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
SIZES = {"resolution": 32, "train": 250, "validation": 60, "test": 60}
BENCH = {"resolution": 32, "types": 14, "multi_edits": 0, "exemplars": 4, "queries": 3}
EDITS = [edit for family in programs().values() for edit in family]


@pytest.fixture(scope="module")
def triplets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("triplets")
    write_triplets(folder, SIZES, seed=1)
    return folder


@pytest.fixture(scope="module")
def pairs() -> list:
    return list(bench_pairs(BENCH, 2, frozenset()))


def decoded(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def test_vocabulary_is_drawn():
    assert set(SILHOUETTES) == set(SHAPES)
    assert set(FUNCTIONS) == set(STYLES)


def test_programs_are_many_and_distinct():
    # at least 100 distinct instructions are needed for retrieval (part B's brief; the prototype of the world had 384)
    assert len(EDITS) >= 300
    assert len({e.id for e in EDITS}) == len(EDITS)
    wordings = [w for e in EDITS for w in e.wordings]
    assert len(set(wordings)) == len(wordings), "one instruction may not mean two programs"
    assert {len(e.wordings) for e in EDITS} == {3}
    assert tuple(programs()) == FAMILIES and set(WEIGHTS) == set(FAMILIES)
    assert sum(WEIGHTS.values()) == pytest.approx(1)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_program_changes_pixels(family):
    rng = random.Random(0)
    for edit in programs()[family]:
        pair = draw_pair(rng, edit, "train", 32, unseen=False)
        changed = np.abs(pair.pixels[0].astype(int) - pair.pixels[1]).max(-1)
        assert (changed > 16).mean() >= 0.04, edit.id  # visibly: the thresholds of world_pairs
        assert pair.edit.apply(pair.before) == pair.after
        assert pair.before.caption != pair.after.caption, edit.id


def test_local_edits_keep_the_rest_of_the_picture():
    rng = random.Random(0)
    for family in ("colour", "texture", "replacement", "removal", "size", "deformation"):
        for edit in programs()[family][:10]:
            pair = draw_pair(rng, edit, "train", 32, unseen=False)
            # a big thing of radius 7.5 x 1.35 is 20.3 of 32 units across, a star 1.12 times as much, plus a soft edge
            assert pair.mask.mean() < 24**2 / 32**2, edit.id


def test_rendering_known_pixels():
    scene = Scene("sunrise", (Thing("box", "red", "top left"),))
    pixels = render(scene, 32)
    assert pixels.shape == (32, 32, 3) and pixels.dtype == np.uint8
    # centre of the top-left cell is (8, 8) of 32; red is (214, 40, 40) under a light of 1.08 there
    np.testing.assert_allclose(pixels[8, 8], np.array([214, 40, 40]) * 1.08, atol=6)
    # the lower right corner is the end of the background's gradient, (255, 200, 150)
    np.testing.assert_allclose(pixels[31, 31], (255, 200, 150), atol=3)
    grey = render(Scene("sunrise", scene.things, style="greyscale"), 32)
    assert (grey[..., 0] == grey[..., 1]).all() and (grey[..., 1] == grey[..., 2]).all()
    negative = render(Scene("sunrise", scene.things, style="negative"), 32)
    np.testing.assert_allclose(negative.astype(int), 255 - pixels.astype(int), atol=1)
    assert render(scene, 64).shape == (64, 64, 3)


@pytest.mark.parametrize(("form", "across", "down"), [("", 1, 1), ("stretched", 0.6, 1.25), ("flattened", 1.25, 0.6)])
def test_a_deformed_box_has_the_extent_of_its_form(form, across, down):
    scenes = (Scene("sunrise", things) for things in ((Thing("box", "red", "top left", form=form, radius=6.5),), ()))
    box, empty = (render(scene, 64).astype(int) for scene in scenes)
    covered = np.abs(box - empty).max(-1) > 60  # about half of the difference to the background
    # half a side is 0.88 of the radius, and a unit is two pixels
    assert covered.any(0).sum() == pytest.approx(2 * 2 * 0.88 * 6.5 * across, abs=2)
    assert covered.any(1).sum() == pytest.approx(2 * 2 * 0.88 * 6.5 * down, abs=2)


def test_captions_say_what_is_seen():
    things = (Thing("star", "orange", "bottom left", texture="striped"), Thing("ball", "red", "top left", size="big"))
    scene = Scene("beach", things, weather="rain", style="sepia")
    assert scene.caption == "a sepia photo of a big red ball and a striped orange star on a beach in the rain"
    assert Scene("sea", ()).caption == "an empty scene under the sea"


def test_scene_digest_ignores_jitter_alone():
    thing = Thing("star", "red", "top left")
    base = Scene("beach", (thing,))
    moved = Scene("beach", (Thing("star", "red", "top left", shift=(1, 0), radius=6.5),), shade=4)
    assert moved.digest == base.digest
    others = [Thing("star", "blue", "top left"), Thing("star", "red", "top right"), Thing("ball", "red", "top left")]
    digests = {Scene("beach", (t,)).digest for t in others} | {Scene("snow", (thing,)).digest, base.digest}
    assert len(digests) == 5


def test_pools_cover_all_scenes_by_percent():
    assert sorted(p for part in POOLS.values() for p in part) == list(range(100))
    rng = random.Random(0)
    share = Counter(pool(random_scene(rng, {})) for _ in range(2000))
    assert share["train"] / 2000 == pytest.approx(0.8, abs=0.04)  # 4 standard errors of a share of 0.8 in 2,000


def test_triplets_have_the_released_columns(triplets):
    table = pq.read_table(triplets / "train-00000-of-00001.parquet")
    # facts of timbrooks/instructpix2pix-clip-filtered, then our two
    released = ["original_prompt", "original_image", "edit_prompt", "edited_prompt", "edited_image"]
    assert table.column_names == [*released, "edit_id", "family"]
    assert [f.name for f in table.schema.field("original_image").type] == ["bytes", "path"]
    assert len(table) == 250
    row = table.slice(0, 1).to_pylist()[0]
    assert decoded(row["original_image"]["bytes"]).shape == (32, 32, 3)
    edit = {e.id: e for e in EDITS}[row["edit_id"]]
    assert row["edit_prompt"] in edit.wordings and row["family"] == edit.family


def test_training_families_are_balanced():
    rows = list(triplet_rows("train", 1000, 0, 16, set()))
    share = Counter(row["family"] for row in rows)
    for family, weight in WEIGHTS.items():
        # 4 standard errors of a share of 0.18 in 1,000 are 0.049
        assert share[family] / 1000 == pytest.approx(weight, abs=0.05)


def test_same_seed_same_bytes_by_any_number_of_processes_other_seed_other_bytes(triplets, tmp_path):
    small = {"resolution": 32, "train": 300, "validation": 10, "test": 10}
    for name, seed, processes in (("a", 7, 1), ("b", 7, 2), ("c", 8, 1)):
        (tmp_path / name).mkdir()
        write_triplets(tmp_path / name, small, seed, processes)
        write_bench(tmp_path / name, {**BENCH, "types": 2}, seed, frozenset())
    contents = []
    for name in "abc":
        files = sorted(p for p in (tmp_path / name).rglob("*") if p.is_file())
        contents.append({str(p.relative_to(tmp_path / name)): p.read_bytes() for p in files})
    assert contents[0] == contents[1]
    parquet = "train-00000-of-00001.parquet"
    assert contents[0][parquet] != contents[2][parquet]
    assert set(contents[0]) != set(contents[2]), "a dev bench of another seed has other edit types"


def test_splits_and_bench_share_no_scene_and_no_pixels(triplets, pairs):
    bench_pixels = {d for _, _, pair in pairs for d in pair.digests}
    parts = {}
    for split in SPLITS:
        rows = pq.read_table(next(triplets.glob(f"{split}-*"))).to_pylist()
        images = [row[side]["bytes"] for row in rows for side in ("original_image", "edited_image")]
        parts[split] = {hashlib.sha256(decoded(data).tobytes()).hexdigest() for data in images}
    assert not parts["train"] & parts["validation"]
    assert not parts["test"] & (parts["train"] | parts["validation"])
    assert not bench_pixels & set.union(*parts.values())
    assert pixel_digests(triplets) == set.union(*parts.values())
    for _, _, pair in pairs:
        assert pool(pair.before) == pool(pair.after) == "bench"
    rng = random.Random(3)
    for name in SPLITS:
        pair = draw_pair(rng, EDITS[0], name, 32, unseen=False)
        assert pool(pair.before) == pool(pair.after) == name


def test_bench_leaves_out_given_pixels(pairs):
    excluded = set(pairs[0][2].digests)
    again = [pair for _, _, pair in bench_pairs({**BENCH, "types": 1}, 2, excluded)]
    assert pairs[0][2].edit.id == again[0].edit.id
    assert all(excluded.isdisjoint(pair.digests) for pair in again)


def test_a_fifth_of_the_benchs_combinations_is_unseen_in_training(pairs):
    combinations = {(p.edit.id, t.shape, t.colour): (p.edit, t) for _, _, p in pairs for t in p.before.things}
    unseen = [e.unseen(Scene("beach", (t,))) for e, t in combinations.values()]
    assert np.mean(unseen) >= 0.2  # design, section 7
    rng = random.Random(0)
    for edit in EDITS[:40]:
        assert not edit.unseen(draw_pair(rng, edit, "train", 16, unseen=False).before)


def test_bench_arithmetic_and_families(pairs):
    assert len(pairs) == 14 * (4 + 3)
    assert Counter(side for side, _, _ in pairs) == {"train": 14 * 4, "test": 14 * 3}
    assert {p.edit.family for _, _, p in pairs} == set(FAMILIES)
    assert len({p.before.digest for _, _, p in pairs}) == len(pairs), "no scene twice"


@pytest.fixture(scope="module")
def multi() -> list:
    return list(
        bench_pairs({**BENCH, "types": 2, "multi_edits": len(PATTERNS), "exemplars": 1, "queries": 2}, 2, set())
    )


def test_edits_of_several_parts_come_last_and_leave_the_others_as_they_are(multi):
    alone = list(bench_pairs({**BENCH, "types": 2, "exemplars": 1, "queries": 2}, 2, set()))
    assert [(side, name, p.edit.id, p.digests) for side, name, p in multi[: len(alone)]] == [
        (side, name, p.edit.id, p.digests) for side, name, p in alone
    ]
    assert {p.edit.family for _, _, p in multi[len(alone) :]} == {"multi"}
    assert len({p.edit.id for _, _, p in multi}) == 2 + len(PATTERNS)
    assert not {p.edit.id for _, _, p in multi[len(alone) :]} & {e.id for e in EDITS}, (
        "they are no programs of training"
    )


def test_an_edit_of_several_parts_is_its_parts_in_turn_and_each_of_them_shows(multi):
    for _, _, pair in (drawn for drawn in multi if drawn[2].edit.family == "multi"):
        edit = pair.edit
        assert tuple(part.family for part in edit.parts) in PATTERNS and all(part in EDITS for part in edit.parts)
        scenes = [pair.before]
        for part in edit.parts:
            scenes.append(part.apply(scenes[-1]))
        assert scenes[-1] == pair.after and len({scene.digest for scene in scenes}) == 4
        first, second, third = edit.instructions
        assert edit.wordings[0] == f"{first}, {second} and {third}"
        for left_out in range(3):
            scene = pair.before
            for part in edit.parts[:left_out] + edit.parts[left_out + 1 :]:
                scene = part.apply(scene) or scene  # what needs the part that is left out cannot be done
            changed = np.abs(render(scene, 32).astype(int) - pair.pixels[1]).max(-1)
            assert (changed > 16).mean() >= 0.04, (edit.id, left_out)  # visibly: the thresholds of world_pairs


def test_the_parts_of_a_compound_are_told_one_by_one_too():
    instructions = [edit.instructions for edit in programs()["compound"]]
    assert {len(told) for told in instructions} == {2}
    assert [" and ".join(told) for told in instructions] == [edit.wordings[0] for edit in programs()["compound"]]
    assert programs()["style"][0].instructions == programs()["style"][0].wordings[:1]


def test_the_evaluation_bench_has_enough_queries_of_every_family():
    """On which learning curves are read: at least 20 distinct queries a family, one exemplar each."""
    section = read_config(ROOT / "config" / "foundations.yaml").bench.model_dump() | {"multi_edits": 0}
    assert section["exemplars"] == 1
    asked = [pair for side, _, pair in bench_pairs(section, 3, frozenset()) if side == "test"]
    assert len({pair.before.digest for pair in asked}) == len(asked) >= 200
    assert min(Counter(pair.edit.family for pair in asked)[family] for family in FAMILIES) >= 20


def test_held_out_pairs_have_many_instructions():
    rows = list(triplet_rows("test", 1000, 0, 16, set()))
    instructions = {row["edit_prompt"] for row in rows}
    assert len(instructions) >= 575, "as many as retrieval was measured among in the world's first version"


def test_masks_and_texts_of_the_tree(tmp_path):
    write_bench(tmp_path, {**BENCH, "types": 3}, 5, frozenset())
    masks = sorted(tmp_path.rglob("*_mask.png"))
    assert len(masks) == 3 * 3
    for path in masks:
        before, after = (np.asarray(Image.open(path.with_stem(path.stem.replace("mask", side)))) for side in "01")
        mask = np.asarray(Image.open(path))
        assert mask.shape == (32, 32)
        np.testing.assert_array_equal(mask == 255, (before != after).any(-1))
        np.testing.assert_array_equal(mask == 0, (before == after).all(-1))
    rows = [json.loads(line) for line in (tmp_path / "texts.jsonl").read_text().splitlines()]
    assert len(rows) == 9
    for row in rows:
        assert (tmp_path / row["group"] / row["type"] / "test" / f"{row['query']}_1.png").is_file()
        assert row["instructions"] == [row["instruction"]]  # none of these three types is a compound
        assert row["origin"] == "benchmark" and row["caption_before"] != row["caption_after"]


def test_asking_for_more_than_the_world_holds(monkeypatch):
    monkeypatch.setattr("editclip.data.world_pairs.ATTEMPTS", 300)
    edit = next(e for e in EDITS if e.id == "removal_everything")
    with pytest.raises(InputError, match="no further bench scene for removal_everything"):
        used: set[str] = set()
        while True:
            pair = draw_pair(random.Random(0), edit, "bench", 8, unseen=None, excluded=used)
            used.update(pair.digests)


def test_command_line_from_nothing_to_a_bench(tmp_path, monkeypatch):
    def call(main, *arguments):
        monkeypatch.setattr("sys.argv", ["stage", "--threads", "1", *map(str, arguments)])
        main()

    triplets, tree, out = tmp_path / "triplets", tmp_path / "tree", tmp_path / "bench"
    config = json.dumps({"resolution": 16, "train": 20, "validation": 5, "test": 5})
    call(world.main, "triplets", "--config", config, "--seed", 0, "--out", triplets)
    drawn = {"resolution": 16, "types": 2, "multi_edits": 0, "exemplars": 2, "queries": 2}
    call(world.main, "bench", "--config", json.dumps(drawn), "--seed", 0, "--triplets", triplets, "--out", tree)
    config = {"name": "tiny", "resolution": 16, "max_pixels": 1000}
    config |= {"expect": None, "strict": False, "skip_incomplete": False}
    call(bench.main, "--root", tree, "--config", json.dumps(config), "--out", out)
    samples = bench.Bench.load(out).samples
    assert len(samples) == 2 * 2 * 2
    assert all(s.ground_truth and s.edit_mask and s.instruction and s.family for s in samples)
    for folder in (triplets, tree, out):
        assert (folder / "provenance.json").is_file()
    with pytest.raises(InputError, match=r"config value bench\.types: 0: should be greater than or equal to 1"):
        call(world.main, "bench", "--config", json.dumps(drawn | {"types": 0}), "--seed", 0, "--out", tree)
    with pytest.raises(InputError, match=r"config value bench\.strict: 'yes': should be a valid boolean"):
        call(bench.main, "--root", tree, "--config", json.dumps(config | {"strict": "yes"}), "--out", out)
