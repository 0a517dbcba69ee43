"""A benchmark of noise and the edits of planted methods, which are the ground truth and more or less noise."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from editclip.data.bench import COLUMNS, Bench
from editclip.storage import file_digest
from editclip.study import design

SIDE, TYPES, EXEMPLARS, QUERIES = 16, 3, 2, 2
METHODS = {"ours": 8, "worse": 24, "worst": 48, "ground_truth": 0}  # grey levels of noise
SEEDS = (0, 1)
DESIGN: dict[str, Any] = {
    "methods": ["ours", "worse", "worst"], "pairs": "first", "seeds": 2, "items": None, "votes": 3,
    "catch": {"share": 0.1, "right": "ground_truth", "wrong": "copy_query"},
    "exclude": {"catch_right": 0.75, "median_seconds": 2.0},
}  # fmt: skip
ORACLE = {"source": "oracle", "raters": 6, "noise": 1.0, "lapse": 0.0}


def picture(seed: int) -> np.ndarray:
    """A smooth random picture, side × side × 3."""
    noise = np.random.default_rng(seed).integers(30, 226, (4, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def write_bench(folder: Path, mask: np.ndarray | None = None, **change: str) -> Bench:
    """Types of exemplars × queries; the edit adds light inside the mask, by default a square of a quarter.

    Args:
        folder: to write to.
        mask: H×W bool.
        change: columns of every row of the manifest.
    """
    (folder / "frames").mkdir(parents=True)
    if mask is None:
        mask = np.zeros((SIDE, SIDE), bool)
        mask[:8, :8] = True
    Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "frames/mask.png")

    def save(name: str, pixels: np.ndarray) -> str:
        Image.fromarray(pixels).save(folder / f"frames/{name}.png")
        return f"frames/{name}.png"

    rows = []
    for kind in range(TYPES):
        for exemplar in range(EXEMPLARS):
            save(f"t{kind}-e{exemplar}_0", picture(1000 * kind + exemplar))
            save(f"t{kind}-e{exemplar}_1", edited(picture(1000 * kind + exemplar), mask))
        for query in range(QUERIES):
            save(f"t{kind}-q{query}_0", picture(1000 * kind + 500 + query))
            save(f"t{kind}-q{query}_1", edited(picture(1000 * kind + 500 + query), mask))
        for exemplar, query in ((e, q) for e in range(EXEMPLARS) for q in range(QUERIES)):
            e, q = (f"frames/t{kind}-{name}" for name in (f"e{exemplar}", f"q{query}"))
            rows.append({
                "sample_id": f"g-t{kind}-{exemplar}-{query}", "group": "g", "edit_type": f"t{kind}", "family": "f",
                "exemplar_id": f"g-t{kind}-{exemplar}", "query_id": f"g-t{kind}-{query}",
                "exemplar_before": f"{e}_0.png", "exemplar_after": f"{e}_1.png", "query": f"{q}_0.png",
                "instruction": f"make it “{kind}” & <b>", "ground_truth": f"{q}_1.png", "edit_mask": "frames/mask.png",
                **change,
            })  # fmt: skip
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
    facts = {"name": "toy", "resolution": SIDE, "digest": file_digest(folder / "manifest.csv"), "counts": {}}
    (folder / "bench.json").write_text(json.dumps(facts))
    return Bench.load(folder)


def edited(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The edit: 60 grey levels lighter inside the mask."""
    light = np.clip(pixels.astype(int) + 60, 0, 255).astype(np.uint8)
    return np.where(mask[..., None], light, pixels)


def write_edits(
    folder: Path, bench: Bench, seeds: Sequence[int] = SEEDS, noise: float | None = None,
    problems: Mapping[str, str] | None = None, conditioning: str = "exemplar", by_query: bool = False,
) -> Path:  # fmt: skip
    """The edits of a method, which is called as its folder is: the query for copy_query, else the truth and noise.

    Args:
        folder: `<method>`.
        bench: the benchmark.
        seeds: repetitions.
        noise: standard deviation in grey levels; None = the method's.
        problems: status by sample, for those without an output.
        conditioning: for method.json.
        by_query: all samples of a query have the output of its first, as of a method that sees no exemplar.
    """
    noise = METHODS.get(folder.name, 0) if noise is None else noise
    for seed in seeds:
        target = folder / f"seed={seed}"
        target.mkdir(parents=True)
        (target / "method.json").write_text(json.dumps({"name": folder.name, "conditioning": conditioning}))
        rows = [("sample_id", "seed", "file", "sha256", "native_size", "seconds", "status", "reason")]
        for number, sample in enumerate(bench.samples):
            if status := (problems or {}).get(sample.sample_id):
                rows.append((sample.sample_id, str(seed), "", "", str(SIDE), "", status, "planted"))
                continue
            base = sample.query if folder.name == "copy_query" else sample.ground_truth or sample.query
            first = next(i for i, other in enumerate(bench.samples) if other.query_id == sample.query_id)
            random = np.random.default_rng([seed, first if by_query else number, *folder.name.encode()])
            pixels = np.asarray(bench.image(base)) + noise * random.standard_normal((SIDE, SIDE, 3))
            path = target / f"{sample.sample_id}.png"
            Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8)).save(path)
            rows.append((sample.sample_id, str(seed), path.name, file_digest(path), str(SIDE), "0.1", "ok", ""))
        with (target / "edits.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    return folder


def write_run(folder: Path, bench: Bench | None = None) -> list[Path]:
    """`bench` and the edits of all planted methods; the controls have one repetition. Their folders."""
    bench = bench or write_bench(folder / "bench")
    names = [*METHODS, "copy_query"]
    return [
        write_edits(folder / "edits" / n, bench, (0,) if n in ("ground_truth", "copy_query") else SEEDS) for n in names
    ]


def called(main: Any, *arguments: object) -> None:
    """Run a stage's `main`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["stage", *map(str, arguments)])
        main()


def write_study(run: Path, name: str = "exemplar", seed: int = 0, **changes: Any) -> Path:
    """Design a study of a run's edits, with changes of `DESIGN`; its folder."""
    edits = sorted((run / "edits").iterdir())
    out = run / "studies" / name
    called(design.main, "--study", json.dumps(DESIGN | changes), "--bench", run / "bench", "--edits", *edits,
           "--seed", seed, "--out", out)  # fmt: skip
    return out


def sheet(folder: Path) -> pd.DataFrame:
    """A study's items."""
    return pd.read_csv(folder / "study.csv", dtype=str, keep_default_na=False)
