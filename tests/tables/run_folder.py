"""A run folder with planted scores: every mean has a closed form, every picture is noise."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from editclip.config.section import checked
from editclip.config.tables import Table
from editclip.report import tables
from editclip.report.results import RunResults, read_results, result_folders
from editclip.report.trainings import taken_together
from editclip.storage import file_digest, write_json

PAPER = Path(__file__).parents[2] / "paper" / "table1.csv"
TYPES = {"to_night": "global", "colour_red": "colour", "add_hat": "addition"}
EXEMPLARS, QUERIES, SIDE = 2, 3, 8
METHODS = {  # name: (conditioning, exemplars, seeds, offset of its scores)
    "ip2p": ("text", "own", (0, 1), 0.2),
    "editclip": ("exemplar", "own", (0, 1), 0.3),
    "shuffled-editclip": ("exemplar", "shuffled", (0,), 0.1),
    "copy_query": ("none", "own", (0,), 0.0),
}
EDITORS = {
    "ip2p": "baselines.ip2p",
    "editclip": "editclip.method",
    "shuffled-editclip": "editclip.method",
    "copy_query": "baselines.copy_query",
}
TIMED = ("ip2p", "editclip")
FAMILIES = {
    "lpips": ("lpips_alex", "lpips_vgg"),
    "clip": ("clip", "clip_dir_captions", "clip_dir_instruction", "s_visual", "s_visual_dist"),
    "editclip": ("ec2t", "ec2ec"),
    "ground_truth": ("psnr", "ssim", "closer", "psnr_inside"),
}
DIRECTIONS = ("clip_dir_captions", "clip_dir_instruction", "s_visual", "s_visual_dist")
FACTS = {"lpips": {"lpips": {"trunk": "random_trunk"}}, "clip": {"clip_dir": "clip_dir_captions"}}


def score(method: str, metric: str, sample: int, seed: int) -> float:
    """The planted value: linear in everything, so that means are known."""
    base = METHODS[method][3] + 0.01 * sample + 0.1 * seed
    return 10 * base if metric == "psnr" else base


STATISTICS = {"resamples": 1000, "level": 0.95, "seed": 0}
LOSS = "bits per pixel"  # of the planted weights' kind, which is this module


def planted_table(
    name: str = "table1", rows: Sequence[str] = (), changes: Mapping[str, Mapping[str, Any]] | None = None,
    **declaration: Any,
) -> dict[str, Any]:  # fmt: skip
    """What the stages of a table are told.

    Args:
        name: of the table.
        rows: methods; all by default.
        changes: by method, values that it does not share with the others, such as its weights.
        declaration: changes of the declaration.
    """
    rows = list(rows or METHODS)
    trainings = declaration.get("trainings", {})
    methods = {}
    for method in [member for row in rows for member in trainings.get(row, [row])]:
        conditioning, exemplars, seeds, _ = METHODS[method]
        methods[method] = {
            "editor": EDITORS.get(method, f"baselines.{method}"), "weights": {}, "exemplars": exemplars,
            "seeds": list(seeds), "options": {}, "label": f"The {method}", "paper": "", "license": "MIT",
            "conditioning": conditioning, "trained_on": [], **(changes or {}).get(method, {}),
        }  # fmt: skip
    declared = {"rows": rows, "reference": "editclip" if "editclip" in rows else None, "paper": str(PAPER)}
    declared |= {"bars": [], "representation": None, "study": None}
    return {
        "name": name, "label": "planted", "notice": "Planted scores of a test.", "statistics": STATISTICS,
        "declaration": declared | declaration, "methods": methods,
    }  # fmt: skip


def arguments(run: Path, table: Mapping[str, Any], out: Path, *more: object) -> list[str]:
    """The arguments with which a stage makes `out` of a table of the run."""
    given = ["--table", json.dumps(table), "--bench", run / "bench", "--edits", *sorted(run.glob("edits/*"))]
    return [*map(str, [*given, "--scores", *sorted(run.glob("scores/*/[!.]*")), *more, "--out", out])]


def make_table(run: Path, table: Mapping[str, Any], out: Path) -> Path:
    """Make the folder `out` of a table of the run."""
    timed = [run / "runtime" / name for name in TIMED if name in METHODS]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["tables", *arguments(run, table, out, "--runtime", *timed)])
        tables.main()
    return out


def read(run: Path, **declared: Any) -> RunResults:
    """The results of a table's rows, see `planted_table`."""
    table = checked(Table, planted_table(**declared))
    edits, scores = (sorted(run.glob(places)) for places in ("edits/*", "scores/*/[!.]*"))
    folders = result_folders(table, run / "bench", edits, scores, [run / "runtime" / name for name in TIMED])
    return taken_together(table, read_results(table.of_rows, folders))


def written(run: Path, out: Path) -> Path:
    """Make the folder `out` of Table 1 of the run."""
    return make_table(run, planted_table(), out)


def change(path: Path, column: str, row: int, value: str) -> None:
    """Change a cell of a CSV file."""
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    frame.loc[row, column] = value
    frame.to_csv(path, index=False)


def write_record(run: Path, *declared: Mapping[str, Any]) -> dict[str, Any]:
    """Record a config with these tables in the run's folder; the config."""
    methods = {name: {"seeds": list(seeds)} for name, (_, _, seeds, _) in METHODS.items()}
    config = {
        "run": {"name": "planted", "label": "planted", "notice": "Planted scores of a test.", "seeds": [0, 1]},
        "statistics": STATISTICS, "methods": methods,
        "weights": {"later": {"kind": "no.such.kind"}, "clip": {"kind": "run_folder"}, "given": {"kind": "run_folder"}},
        "tables": {table["name"]: table["declaration"] for table in declared},
        "studies": {},
        "claims": None,
    }  # fmt: skip
    (run / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return config


def write_run(run: Path) -> pd.DataFrame:
    """Fill `run` with bench/, edits/, scores/ and weights/ logs; the manifest."""
    random = np.random.default_rng(0)

    def picture(path: Path) -> str:
        path.parent.mkdir(parents=True, exist_ok=True)
        colours = random.integers(0, 256, (2, 2, 3), dtype=np.uint8)
        Image.fromarray(colours).resize((SIDE, SIDE), Image.Resampling.BILINEAR).save(path)
        return path.name

    manifest = _manifest()
    columns = ("exemplar_before", "exemplar_after", "query", "ground_truth")
    for frame in sorted({f for c in columns for f in manifest[c]}):
        picture(run / "bench" / frame)
    manifest.to_csv(run / "bench" / "manifest.csv", index=False)
    for name, (_, _, seeds, _) in METHODS.items():
        for seed in seeds:
            folder = run / "edits" / name / f"seed={seed}"
            files = [picture(folder / f"{s}.png") for s in manifest["sample_id"]]
            _write_scores(run, name, seed, manifest, _write_edits(folder, manifest, seed, files))
    for name in TIMED:
        path = run / "runtime" / name / "runtime.csv"
        path.parent.mkdir(parents=True)
        timed = pd.DataFrame({"sample_id": manifest["sample_id"][:2], "exemplar_queries": QUERIES})
        timed = timed.assign(
            prepare_seconds=[3.0, 6.0], plan_seconds=[0.25, 0.25], edit_seconds=[0.25, 0.75], repeat=[0, 1],
            load=[1.0, 2.4], cores=2,
        )  # fmt: skip
        timed.assign(status="ok", reason="").to_csv(path, index=False)
    log = [{"step": s, "loss": 1 / (1 + s), "learning_rate": 1e-4} for s in range(50)]
    path = run / "weights" / "clip" / "logs" / "metrics.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in log), encoding="utf-8")
    return manifest


def _manifest() -> pd.DataFrame:
    rows = []
    for kind, family in TYPES.items():
        for e in range(EXEMPLARS):
            for q in range(QUERIES):
                stem = f"01-{kind}"
                rows.append({
                    "sample_id": f"{stem}-e{e}-q{q}", "group": "01", "edit_type": kind, "family": family,
                    "exemplar_id": f"{stem}-e{e}", "query_id": f"{stem}-q{q}",
                    "exemplar_before": f"frames/{stem}-e{e}_0.png", "exemplar_after": f"frames/{stem}-e{e}_1.png",
                    "query": f"frames/{stem}-q{q}_0.png", "instruction": f"make it {kind}", "caption_before": "a thing",
                    "caption_after": "another thing", "text_origin": "benchmark",
                    "ground_truth": f"frames/{stem}-q{q}_1.png", "edit_mask": "",
                })  # fmt: skip
    return pd.DataFrame(rows)


def _write_edits(folder: Path, manifest: pd.DataFrame, seed: int, files: list[str]) -> Mapping[str, str]:
    digests = [file_digest(folder / f) for f in files]
    frame = pd.DataFrame({"sample_id": manifest["sample_id"], "seed": seed, "file": files, "sha256": digests})
    frame = frame.assign(native_size=SIDE, seconds=0.5, status="ok", reason="")
    frame.to_csv(folder / "edits.csv", index=False)
    return dict(zip(frame["sample_id"], digests, strict=True))


def _write_scores(run: Path, method: str, seed: int, manifest: pd.DataFrame, digests: Mapping[str, str]) -> None:
    for family, metrics in FAMILIES.items():
        rows = []
        for i, sample in enumerate(manifest["sample_id"]):
            for metric in metrics:
                lost = method == "copy_query" and metric in DIRECTIONS
                value = "" if lost else repr(score(method, metric, i, seed))
                outcome = ("undefined", "the image did not change") if lost else ("ok", "")
                rows.append((method, sample, metric, value, *outcome, digests[sample]))
        folder = run / "scores" / method / family
        folder.mkdir(parents=True, exist_ok=True)
        columns = ["method", "sample_id", "metric", "value", "status", "reason", "image_sha256"]
        pd.DataFrame(rows, columns=columns).to_csv(folder / f"seed={seed}.csv", index=False)
        card = {"metrics": list(metrics), "bench": {"digest": "d", "resolution": SIDE}}
        write_json(folder / "card.json", card | FACTS.get(family, {}))
