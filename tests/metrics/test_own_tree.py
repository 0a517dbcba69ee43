"""A tree of somebody's own, non-square pictures goes through benchmark, controls, scores and tables: nothing invented.

Few trees are complete. Texts, ground truth, masks and families that are not there leave cells empty, with a reason.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from metric_toys import METRICS, write_clip
from PIL import Image

from editclip.data.bench import Bench, build
from editclip.editing import edits
from editclip.metrics import scoring
from editclip.report import tables

ROOT = Path(__file__).parents[2]
BENCH = {"resolution": 32, "max_pixels": 50_000_000, "skip_incomplete": False, "expect": None, "strict": False}
CONTROLS = {"copy_query": "own", "ground_truth": "own", "copy_exemplar_after": "shuffled"}
Run = Callable[[Path], Path]


def write_tree(root: Path) -> Path:
    """Two types, "invert" with 3 exemplars, "dim" with 2, and 2 queries each, 48 x 30 px; only "invert" has texts and
    one of the queries of "dim" has no ground truth.
    """
    random = np.random.default_rng(0)
    changes = {"invert": lambda pixels: 255 - pixels, "dim": lambda pixels: pixels // 2}
    for kind, exemplars in (("invert", 3), ("dim", 2)):
        for part, count in (("train", exemplars), ("test", 2)):
            folder = root / "own" / kind / part
            folder.mkdir(parents=True)
            for i in range(count):
                before = np.asarray(
                    Image.fromarray(random.integers(0, 256, (5, 8, 3), dtype=np.uint8)).resize((48, 30))
                )
                Image.fromarray(before).save(folder / f"{i}_0.png")
                if (kind, part, i) != ("dim", "test", 1):
                    Image.fromarray(changes[kind](before)).save(folder / f"{i}_1.png")
    texts = {"type": "invert", "instruction": "invert it", "caption_before": "a", "caption_after": "a negative"}
    (root / "texts.jsonl").write_text(json.dumps(texts | {"origin": "human"}) + "\n")
    return root


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run(tree)`: the run folder with benchmark, controls, scores (random CLIP weights) and tables."""
    weights = {
        "clip": write_clip(tmp_path / "clip", 3, seed=1),
        "editclip": write_clip(tmp_path / "editclip", 6, seed=2),
    }

    def called(main: Callable[[], None], *arguments: object) -> None:
        monkeypatch.setattr("sys.argv", ["stage", *map(str, arguments), "--threads", "1"])
        main()

    def make(tree: Path) -> Path:
        folder = tmp_path / "run"
        (folder / "bench").mkdir(parents=True)
        build(tree, BENCH, folder / "bench", 1)
        bench, common = folder / "bench", {"batch_size": 4, "options": {}}
        for name, exemplars in CONTROLS.items():
            entry = {"name": name, "editor": f"baselines.{name}", "exemplars": exemplars, **common}
            method = ["--method", json.dumps(entry), "--bench", bench, "--base-seed", 0, "--shard", "0-of-1"]
            shard, scores = folder / "shards" / name, folder / "scores" / name
            called(edits.main, "edit", *method, "--seeds", 0, "--out", shard)
            gathered = folder / "edits" / name
            called(edits.main, "gather", "--bench", bench, "--shards", shard, "--out", gathered)
            given = ["--bench", bench, "--edits", gathered, "--method", name, "--seeds", 0]
            inputs = [f"{role}={folder}" for role, folder in weights.items()]
            called(scoring.main, *given, "--metrics", json.dumps(METRICS), "--weights", *inputs, "--out", scores)
        statistics = {"resamples": 1000, "level": 0.95, "seed": 0}
        declared = {"rows": list(CONTROLS), "reference": None, "paper": str(ROOT / "paper" / "table1.csv")}
        table = {"name": "table1", "label": "own", "notice": None, "statistics": statistics,
                 "declaration": declared | {"bars": [], "representation": None, "study": None},
                 "methods": {name: row(name, exemplars) for name, exemplars in CONTROLS.items()}}  # fmt: skip
        places = ["--bench", bench, "--scores", *folder.glob("scores/*/*"), "--edits", *folder.glob("edits/*")]
        called(tables.main, "--table", json.dumps(table), *places, "--out", folder / "tables" / "table1")
        return folder

    return make


def row(name: str, exemplars: str) -> dict[str, Any]:
    """What the table is told of a control."""
    facts = {"label": name, "paper": "", "license": "MIT", "conditioning": "none", "trained_on": [], "weights": {}}
    return facts | {"editor": f"baselines.{name}", "exemplars": exemplars, "seeds": [0], "options": {}}


def test_an_incomplete_tree_leaves_cells_empty_with_a_reason(tmp_path: Path, run: Run) -> None:
    folder = run(write_tree(tmp_path / "tree"))
    samples = Bench.load(folder / "bench").samples
    assert len(samples) == 3 * 2 + 2 * 2 and {s.family for s in samples} == {None}
    made = pd.read_csv(folder / "edits" / "ground_truth" / "seed=0" / "edits.csv", keep_default_na=False)
    assert sorted(made["status"].value_counts().items()) == [("ok", 8), ("skipped", 2)]
    files = sorted(folder.glob("scores/copy_query/*/seed=0.csv"))
    scores = pd.concat([pd.read_csv(path, keep_default_na=False) for path in files], ignore_index=True)
    dim = scores["sample_id"].str.startswith("own-dim")
    for metric, why in (("ec2t", "instruction"), ("clip", "caption")):
        rows = scores[scores["metric"] == metric]
        assert set(rows.loc[~dim, "status"]) == {"ok"} and set(rows.loc[dim, "status"]) == {"skipped"}
        assert rows.loc[dim, "reason"].str.contains(why).all()
    truth = scores[scores["metric"] == "psnr"].set_index("sample_id")["status"]
    assert truth.value_counts().to_dict() == {"ok": 8, "skipped": 2}
    table = pd.read_csv(folder / "tables" / "table1" / "table1.csv", index_col="method")
    assert table.loc["copy_query", "lpips"] == pytest.approx(0, abs=1e-6) and table["ec2ec"].notna().all()
    full = pd.read_csv(folder / "tables" / "table1" / "table1_full.csv")
    assert set(full["scope"]) == {"all", "type"}, "a tree without families has no rows of them"
    whole = full[(full["scope"] == "all") & (full["metric"] == "psnr")].set_index("method")
    assert whole.loc["copy_query", "n"] == 8 and whole.loc["copy_query", "n_skipped"] == 2


def test_real_photographs_go_through_every_stage(run: Run, real_images: Callable[[str], Path]) -> None:
    folder = run(real_images("toplike_cartoon"))
    full = pd.read_csv(folder / "tables" / "table1" / "table1_full.csv")
    whole = full[full["scope"] == "all"].set_index(["method", "metric"])
    assert whole.loc[("copy_query", "ec2t"), "n"] == whole.loc[("copy_query", "psnr"), "n"] == 76
    assert whole.loc[("ground_truth", "ssim"), "mean"] == pytest.approx(1)
    assert 5 < whole.loc[("copy_query", "psnr"), "mean"] < 30  # a cartoon of the query is near it, but not it
    assert whole.loc[("copy_exemplar_after", "psnr"), "mean"] < whole.loc[("copy_query", "psnr"), "mean"]
