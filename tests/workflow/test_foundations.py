"""The pinned weights: made by `make foundations`, taken by the micro run."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from PIL import Image
from workflow_project import ROOT, Project, checkout

from editclip.config.reading import read_whole
from editclip.config.tree import read_config
from editclip.packed import is_packed
from editclip.storage import path_digest

MICRO, FOUNDATIONS = "config/micro.yaml", "config/foundations.yaml"
PAPERS = {"clip_matched", "editclip", "editclip_ip2p"}  # what the run itself trains, as the paper does
SHARE = 50  # part of the VAE's steps, which has to reconstruct, and of the training data
SHORT = {"steps": 6, "batch_size": 8, "warmup_steps": 2, "log_every": 5}  # of the others, of which none has to learn


def cut() -> dict[str, Any]:
    """An overlay that cuts the run of the foundations short, most of all trainings that need learn nothing."""
    config = read_config(ROOT / FOUNDATIONS)
    trained = [name for name, entry in config.weights.items() if entry.source == "train"]
    recipes = dict.fromkeys(trained, SHORT)
    recipes["vae"] = SHORT | {"steps": config.weights["vae"].recipe["steps"] // SHARE, "batch_size": 16}
    return {
        "weights": {name: {"recipe": recipe} for name, recipe in recipes.items()},
        "triplets": {"train": config.triplets.train // SHARE, "validation": 64, "test": 8},
        "bench": {"types": 10, "multi_edits": 0, "queries": 1},
    }


@pytest.mark.slow  # nine trainings, all of which the smoke run makes too
def test_make_foundations_packs_what_a_config_can_pin(tmp_path: Path) -> None:
    project = checkout(tmp_path)
    (project.folder / "cut.yaml").write_text(yaml.safe_dump(cut()))
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = ["make", "foundations", "INSTALLED=", f"ARGS=--configfile {FOUNDATIONS} cut.yaml"]
    done = subprocess.run(command, cwd=project.folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    packed = project.folder / "results" / "foundations" / "packed"
    names = sorted(folder.name for folder in packed.iterdir() if folder.is_dir())
    assert names == [
        "clip", "instamanip", "instamanip_renderer", "instamanip_vision", "ip2p", "prompt_diffusion",
        "prompt_diffusion_edits", "text_to_image", "vae",
    ]  # fmt: skip
    printed = dict(re.findall(r"^(\w+): sha256: (\w+)$", done.stdout, flags=re.MULTILINE))
    assert printed == {name: path_digest(packed / name) for name in names}
    for folder in map(packed.joinpath, names):
        assert is_packed(folder)
        assert (folder / "logs" / "metrics.jsonl").is_file() and (folder / "provenance.json").is_file()
    curve = pd.read_csv(packed / "ip2p" / "logs" / "learning_curve.csv").set_index(["step", "family"])
    assert curve.loc[(-1, "all"), "closer"].item() > 0.9, "the ground truth through the VAE"
    last = curve.loc[(cut()["weights"]["ip2p"]["recipe"]["steps"], "all")]
    assert list(last["setting"]) == ["2/1/1", "10/1/1", "10/2/1.2"]
    assert last[["closer", "psnr_inside", "psnr_background", "sharpness", "detail"]].notna().all(axis=None)
    with Image.open(packed / "ip2p" / "logs" / "learning_curve.png") as picture:
        assert picture.height > picture.width, "ten families of five images"


def test_make_foundations_trains_all_that_their_config_trains(fresh: Project) -> None:
    command = ["make", "--dry-run", "foundations", "INSTALLED=", "ARGS="]  # none of an outer make
    shown = subprocess.run(command, cwd=fresh.folder, check=True, capture_output=True, text=True).stdout
    first, curve, pack = re.findall(r"\b(?:snakemake|python) .*(?:\\\n.*)*", shown)
    done = fresh.snakemake("-n", *first.split()[3:])  # without --cores all
    jobs = re.findall(r"^Job \d+: Training (\w+)$", done.stdout + done.stderr, flags=re.MULTILINE)
    weights = read_config(ROOT / FOUNDATIONS).weights
    foundations = [name for name in read_whole(ROOT / FOUNDATIONS)["weights"] if weights[name].source == "train"]
    assert sorted(jobs) == sorted(set(foundations) - PAPERS)
    assert "--weights results/foundations/weights/ip2p" in curve
    packed = dict(re.findall(r"(\w+)=(results/foundations/weights/\w+)", pack))
    assert packed == {name: f"results/foundations/weights/{name}" for name in jobs}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return checkout(tmp_path_factory.mktemp("fresh"))


def refusal(project: Project) -> str:
    """What a dry run of the micro run says when it refuses to begin."""
    done = project.snakemake("-n", "--configfile", MICRO, check=False)
    assert done.returncode != 0
    (line,) = (line for line in done.stderr.splitlines() if "error: " in line)
    return line


def test_the_micro_run_takes_the_foundations_and_trains_what_the_paper_trains(fresh: Project) -> None:
    done = fresh.snakemake("-n", "--configfile", MICRO)
    jobs = set(re.findall(r"^Job \d+: (.*)$", done.stdout + done.stderr, flags=re.MULTILINE))
    foundations = ("clip", "ip2p", "text_to_image", "prompt_diffusion", "instamanip")
    assert {f"Fetching and checking {name}" for name in foundations} <= jobs
    trained = {job for job in jobs if job.startswith("Training")}
    assert trained == {f"Training {name}" for name in PAPERS}


def test_a_foundation_that_was_tampered_with_is_refused_before_any_job(fresh: Project) -> None:
    file = fresh.folder / "foundations" / "ip2p" / "unet" / "diffusion_pytorch_model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    said = refusal(fresh)
    file.write_bytes(content)
    assert "weights.ip2p.sha256: foundations/ip2p has the digest" in said


def test_foundations_of_another_world_are_refused_before_any_job(fresh: Project) -> None:
    module = "editclip/data/world_scene.py"
    with fresh.edited(module, lambda text: text.replace("RADII = (6.5, 7.0,", "RADII = (6.0, 7.0,")):
        assert "was trained in another world" in refusal(fresh)
