"""From a tree in TOP-Bench's layout to canonical frames and a manifest."""

import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from editclip.data.bench import COLUMNS, Bench, build
from editclip.data.bench_texts import template
from editclip.data.tree import EditType, Item, compare_top_bench_x
from editclip.errors import InputError

CONFIG = {"resolution": 8, "max_pixels": 10_000, "skip_incomplete": False, "expect": None, "strict": False, "name": "x"}


def picture(path: Path, colour=(10, 20, 30), size=(12, 9), mode="RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


@pytest.fixture
def tree(tmp_path) -> Path:
    """Two types: 2 exemplars x 3 queries with ground truth, and 1 x 2 of which one query has none."""
    root = tmp_path / "tree"
    for number, (kind, part, name) in enumerate(
        [("snow", "train", "a"), ("snow", "train", "17"), ("smile", "train", "x_y")]
        + [("snow", "test", n) for n in "123"]
        + [("smile", "test", "1")]
    ):
        suffix = "jpg" if number % 2 else "PNG"
        picture(root / "01" / kind / part / f"{name}_0.{suffix}", (number * 10, 0, 0))
        picture(root / "01" / kind / part / f"{name}_1.png", (number * 10, 200, 0))
    picture(root / "01" / "smile" / "test" / "2_0.jpeg", (99, 99, 99))
    picture(root / "01" / "snow" / "test" / "1_mask.png", 255, mode="L")
    (root / "LICENSE.txt").write_text("free")
    rows = [
        {"group": "01", "type": "snow", "instruction": "make it snow", "caption_after": "snow", "origin": "vlm"},
        {"group": "01", "type": "snow", "query": "2", "caption_before": "a hill", "origin": "human", "family": "style"},
    ]
    (root / "texts.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return root


def made(root: Path, out: Path, **changes) -> Bench:
    out.mkdir()
    build(root, CONFIG | changes, out, threads=2)
    return Bench.load(out)


def test_every_exemplar_meets_every_query(tree, tmp_path):
    bench = made(tree, tmp_path / "bench")
    assert (bench.name, bench.resolution, len(bench.samples)) == ("x", 8, 2 * 3 + 1 * 2)
    names = [s.sample_id for s in bench.samples]
    assert names[:2] == ["01-smile-x_y-1", "01-smile-x_y-2"]
    assert names[2:] == [f"01-snow-{e}-{q}" for e in ("17", "a") for q in "123"]
    first = bench.samples[2]
    assert (first.group, first.edit_type, first.exemplar_id, first.query_id) == (
        "01",
        "snow",
        "01-snow-17",
        "01-snow-1",
    )
    header = (tmp_path / "bench" / "manifest.csv").read_text().splitlines()[0]
    assert header == ",".join(COLUMNS)
    counts = json.loads((tmp_path / "bench" / "bench.json").read_text())["counts"]
    assert counts == {
        "types": 2,
        "exemplars": 3,
        "queries": 5,
        "samples": 8,
        "skipped_incomplete": 0,
        "unchanged": 0,
    }


def test_frames_masks_and_missing_ground_truth(tree, tmp_path):
    bench = made(tree, tmp_path / "bench")
    by_name = {s.sample_id: s for s in bench.samples}
    sample = by_name["01-snow-a-1"]
    image = bench.image(sample.exemplar_after)
    assert (image.size, image.mode) == ((8, 8), "RGB")
    assert image.getpixel((4, 4)) == (0, 200, 0)  # the first pair drawn by the fixture
    assert bench.path(sample.query).parent.name == "frames"
    assert sample.edit_mask is not None and bench.mask(sample.edit_mask).mode == "L"
    assert np.asarray(bench.mask(sample.edit_mask)).min() == 255
    assert by_name["01-snow-a-2"].edit_mask is None
    assert by_name["01-smile-x_y-2"].ground_truth is None
    # 2 x 7 pair images, a single query and a mask, each content once
    assert len(list((tmp_path / "bench" / "frames").iterdir())) == 2 * 7 + 1 + 1


def test_texts_of_a_query_come_before_its_types(tree, tmp_path):
    by_name = {s.sample_id: s for s in made(tree, tmp_path / "bench").samples}
    plain, own, none = (by_name[n] for n in ("01-snow-a-1", "01-snow-a-2", "01-smile-x_y-1"))
    assert (plain.instruction, plain.caption_before, plain.caption_after) == ("make it snow", None, "snow")
    assert (plain.text_origin, plain.family) == ("vlm", None)
    assert (own.instruction, own.caption_before, own.caption_after) == ("make it snow", "a hill", "snow")
    assert (own.text_origin, own.family) == ("human", "style")
    assert (none.instruction, none.text_origin) == (None, None)


def test_an_edit_of_several_parts_has_an_instruction_for_each(tree, tmp_path):
    parts = ["make it snow", 'add a "big" hill']
    rows = [
        {"type": "snow", "instruction": "make it snow and add a hill", "instructions": parts, "origin": "human"},
        {"type": "snow", "query": "2", "instruction": "let it snow", "origin": "human"},
        {"type": "smile", "instructions": ["smile", "wave"], "family": "style", "origin": "vlm"},
    ]
    (tree / "texts.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    by_name = {s.sample_id: s for s in made(tree, tmp_path / "bench").samples}
    assert by_name["01-snow-a-1"].instructions == tuple(parts)
    assert by_name["01-snow-a-2"].instructions == ("let it snow",)  # a text of its own is not its type's
    smile = by_name["01-smile-x_y-1"]
    assert (smile.instructions, smile.instruction, smile.text_origin) == (("smile", "wave"), None, "vlm")
    kept = {(row["type"], row.get("query")): row for row in template(tree)}
    assert kept["snow", None]["instructions"] == parts and "instructions" not in kept["snow", "2"]
    assert kept["smile", None]["family"] == "style"


def test_a_manifest_without_instructions_has_the_one_of_each_sample(tree, tmp_path):
    bench = made(tree, tmp_path / "bench")
    path = bench.folder / "manifest.csv"
    pd.read_csv(path, dtype=str, keep_default_na=False).drop(columns="instructions").to_csv(path, index=False)
    assert Bench.load(bench.folder).samples == bench.samples
    assert {s.instructions for s in bench.samples} == {("make it snow",), None}


@pytest.mark.parametrize("cell", ["make it snow", '"make it snow"', "[]", '["make it snow", ""]', "[1]", "[["])
def test_instructions_that_are_no_list_of_texts_are_refused(tree, tmp_path, cell):
    bench = made(tree, tmp_path / "bench")
    path = bench.folder / "manifest.csv"
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    frame.loc[3, "instructions"] = cell
    frame.to_csv(path, index=False)
    with pytest.raises(
        InputError, match=r"line 5 of .*manifest\.csv: instructions .* is no JSON list of texts, such as"
    ):
        Bench.load(bench.folder)


def test_a_bench_is_read_without_the_family_that_nobody_named(tree, tmp_path):
    rows = [{"type": "smile", "family": "multi", "origin": "human"}]
    (tree / "texts.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    bench = made(tree, tmp_path / "bench")
    assert {s.edit_type for s in bench.samples} == {"snow"} and {s.edit_type for s in bench.left_out} == {"smile"}
    named = Bench.load(bench.folder, [["multi"]])
    assert (named.samples, named.left_out, named.digest) == (bench.left_out, bench.samples, bench.digest)
    whole = Bench.load(bench.folder, [None, ["multi"]])
    assert len(whole.samples) == len(whole.whole) == len(bench.whole) == 8 and whole.left_out == ()


def test_same_tree_same_bytes_and_digest_follows_content(tree, tmp_path):
    benches = [made(tree, tmp_path / name) for name in ("one", "two")]
    files = [sorted(p.relative_to(b.folder) for p in b.folder.rglob("*") if p.is_file()) for b in benches]
    assert files[0] == files[1]
    assert all((benches[0].folder / p).read_bytes() == (benches[1].folder / p).read_bytes() for p in files[0])
    digests = [benches[0].digest, made(tree, tmp_path / "large", resolution=9).digest]
    picture(tree / "01" / "snow" / "test" / "3_1.png", (1, 2, 3))
    digests.append(made(tree, tmp_path / "other").digest)
    assert len(set(digests)) == 3


def test_accepts_all_kinds_of_files(tree, tmp_path):
    picture(tree / "01" / "snow" / "test" / "1_0.png", (200, 0, 0, 0), mode="RGBA")
    picture(tree / "01" / "snow" / "test" / "2_1.png", 40, mode="L", size=(30, 50))
    (tree / "01" / "snow" / "test" / "1_0.jpg").unlink()
    bench = made(tree, tmp_path / "bench")
    sample = {s.sample_id: s for s in bench.samples}
    assert bench.image(sample["01-snow-a-1"].query).getpixel((0, 0)) == (255, 255, 255)  # transparent -> white
    assert bench.image(sample["01-snow-a-2"].ground_truth).getpixel((0, 0)) == (40, 40, 40)


def test_all_offenders_are_named_at_once(tree, tmp_path):
    snow = tree / "01" / "snow"
    (snow / "train" / "a_1.png").unlink()
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(snow / "test" / "2_1.png")
    (snow / "test" / "2_1.png").write_bytes((snow / "test" / "2_1.png").read_bytes()[:-2000])
    picture(snow / "test" / "3_1.jpg")
    picture(snow / "train" / "17_2.png")
    picture(snow / "test" / "1_1.png", size=(101, 100))
    (tree / "01" / "empty" / "train").mkdir(parents=True)
    texts = [
        '{"group": "01", "type": "rain", "instruction": "rain", "origin": "human"}',
        '{"group": "01", "type": "snow", "query": "9", "instruction": "snow", "origin": "human"}',
        '{"group": "01", "type": "snow", "instruction": "snow", "origin": "me"}',
        '{"group": "01", "type": "snow", "prompt": "snow", "origin": "human"}',
        '{"group": "01", "type": "smile", "instructions": "smile", "origin": "human"}',
        '{"group": "01"',
    ]
    (tree / "texts.jsonl").write_text("\n".join(texts))
    with pytest.raises(InputError) as error:
        made(tree, tmp_path / "bench")
    message = str(error.value)
    for part in (
        "has 13 problems",
        "train/a has no side 1",
        "2_1.png is damaged",
        "3_1.png and 3_1.jpg are both side 1 of 3",
        "17_2.png is not named <id>_0, <id>_1 or <id>_mask",
        "1_1.png is 101 x 100 pixels, more than max_pixels = 10000",
        "empty/train has no images",
        "empty/test has no images",
        "line 1 names the edit type 01/rain, which is not in the tree",
        "line 2 names the query 9, which 01/snow does not have",
        "line 3 has the origin 'me'",
        "line 4 has the unknown key prompt",
        "line 5 has the instructions 'smile': write a list of one text or more",
        "line 6 ",
    ):
        assert part in message, (part, message)


def test_one_sided_pairs_can_be_skipped(tree, tmp_path):
    (tree / "01" / "snow" / "train" / "a_0.PNG").unlink()
    (tree / "01" / "snow" / "test" / "1_0.jpg").unlink()
    with pytest.raises(InputError, match=r"has 2 problems: .*train/a has no side 0; .*test/1 has no side 0"):
        made(tree, tmp_path / "refused")
    bench = made(tree, tmp_path / "bench", skip_incomplete=True)
    assert len(bench.samples) == 1 * 2 + 1 * 2
    assert json.loads((bench.folder / "bench.json").read_text())["counts"]["skipped_incomplete"] == 2


def test_empty_tree_and_ambiguous_names(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no <group>/<edit_type>"):
        made(tmp_path / "empty", tmp_path / "bench")
    root = tmp_path / "clash"
    for group, kind in (("a-b", "c"), ("a", "b-c")):
        for part in ("train", "test"):
            for side in "01":
                picture(root / group / kind / part / f"1_{side}.png")
    with pytest.raises(InputError) as error:
        made(root, tmp_path / "bench2")
    for clause in (
        "the exemplar name a-b-c-1 would stand for a/b-c/train/1 and a-b/c/train/1: rename",
        "the query name a-b-c-1 would stand for a/b-c/test/1 and a-b/c/test/1: rename",
        "the sample name a-b-c-1-1 would stand for a/b-c (1 x 1) and a-b/c (1 x 1): rename",
    ):
        assert clause in str(error.value)


def test_exemplars_must_not_share_a_name_even_where_no_samples_do(tmp_path):
    root = tmp_path / "clash"
    for group, kind, query in (("a-b", "c", "2"), ("a", "b-c", "3")):
        for side in "01":
            picture(root / group / kind / "train" / f"1_{side}.png")
            picture(root / group / kind / "test" / f"{query}_{side}.png")
    with pytest.raises(InputError, match="has 1 problems: the exemplar name a-b-c-1 would stand for a/b-c/train/1"):
        made(root, tmp_path / "bench")


def test_samples_of_one_type_must_not_share_a_name(tmp_path):
    root = tmp_path / "clash"
    for part, name in (("train", "1"), ("train", "1-2"), ("test", "2-3"), ("test", "3")):
        for side in "01":
            picture(root / "g" / "t" / part / f"{name}_{side}.png")
    with pytest.raises(InputError, match=r"the sample name g-t-1-2-3 .* g/t \(1 x 2-3\) and g/t \(1-2 x 3\)"):
        made(root, tmp_path / "bench")


def test_unchanged_pairs_are_kept_with_a_warning(tree, tmp_path, caplog):
    for side in "01":
        for path in (tree / "01" / "smile" / "train").glob(f"x_y_{side}.*"):
            path.unlink()
        picture(tree / "01" / "smile" / "train" / f"x_y_{side}.png", (7, 7, 7))
    with caplog.at_level(logging.WARNING):
        bench = made(tree, tmp_path / "bench")
    assert len(bench.samples) == 8
    assert "01-smile-x_y: the image after the edit equals the one before it" in caplog.text
    assert json.loads((bench.folder / "bench.json").read_text())["counts"]["unchanged"] == 1


def items(count: int) -> list[Item]:
    return [Item(str(i), {}) for i in range(count)]


def top_bench_x() -> list[EditType]:
    """The only split of the published totals: 24 types with 5 queries and 249 exemplars, and one of 8 x 4."""
    sizes = [(8, 4)] + [(11, 5)] * 9 + [(10, 5)] * 15
    return [EditType("01", f"t{i}", items(e), items(q)) for i, (e, q) in enumerate(sizes)]


def test_top_bench_x_comparison(caplog):
    types = top_bench_x()
    assert sum(len(t.exemplars) for t in types) == 257  # EditCLIP, section 4.1: 257 exemplars, 124 queries
    with caplog.at_level(logging.INFO):
        assert compare_top_bench_x(types, strict=True) == []
    assert "01/t0: 8 exemplars x 4 queries = 32 (ok)" in caplog.text
    assert "samples: 1277, TOP-Bench-X has 1277" in caplog.text
    types[3].exemplars = items(5)
    assert compare_top_bench_x(types, strict=False) == [
        "01/t3 has 25 samples instead of 32 to 60",
        "251 exemplars instead of 257",
        "1247 samples instead of 1277",
    ]
    with pytest.raises(InputError, match="this is not TOP-Bench-X: 01/t3 has 25 samples"):
        compare_top_bench_x(types, strict=True)


def test_load_names_the_bad_row(tree, tmp_path):
    bench = made(tree, tmp_path / "bench")
    manifest = bench.folder / "manifest.csv"
    good = manifest.read_text()
    bench.path(bench.samples[1].query).unlink()
    with pytest.raises(InputError, match=r"line 3 of .*manifest.csv: query frames/.* does not exist"):
        Bench.load(bench.folder)
    manifest.write_text(good.replace("01-smile-x_y-1,01", ",01", 1))
    with pytest.raises(InputError, match=r"line 2 of .*manifest.csv has no sample_id"):
        Bench.load(bench.folder)
    manifest.write_text(good.replace("text_origin", "origin", 1))
    with pytest.raises(InputError, match="must have the columns sample_id, group"):
        Bench.load(bench.folder)
    manifest.unlink()
    with pytest.raises(InputError, match="has no manifest.csv"):
        Bench.load(bench.folder)


def test_template_keeps_given_texts_and_can_be_read_back(tree, tmp_path):
    rows = list(template(tree))
    assert len(rows) == 2 + 5  # a row for each type and for each query
    assert rows[0] == {
        "group": "01",
        "type": "smile",
        "instruction": "",
        "caption_before": "",
        "caption_after": "",
        "origin": "human",
    }
    given = {(r["type"], r.get("query")): r for r in rows}
    assert given["snow", None]["instruction"] == "make it snow" and given["snow", None]["origin"] == "vlm"
    assert given["snow", "2"]["caption_before"] == "a hill"
    before = made(tree, tmp_path / "before")
    (tree / "texts.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert [s.caption_after for s in made(tree, tmp_path / "after").samples] == [
        s.caption_after for s in before.samples
    ]


def test_real_photographs(tmp_path, real_images):
    bench = made(real_images("toplike_cartoon"), tmp_path / "bench", resolution=32, max_pixels=50_000_000, name=None)
    # 25 pairs of photograph and cartoon, 8 x 6 and 7 x 4 samples of two types (76 in all)
    assert (bench.name, len(bench.samples)) == ("toplike_cartoon", 76)
    assert len({s.exemplar_id for s in bench.samples}) + len({s.query_id for s in bench.samples}) == 25
    assert {s.text_origin for s in bench.samples} == {"human"}
    assert all(s.ground_truth for s in bench.samples)
    assert np.asarray(bench.image(bench.samples[0].query)).std() > 10  # a photograph, not a blank
