"""Small triplets of the procedural world, and the foundations trained on them for a few steps."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import training_toys as toys

from editclip.data.world import write_triplets
from editclip.training import __main__ as runner

Train = Callable[..., Path]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Checkpoints go to the test's folder; one thread."""
    monkeypatch.setenv("EDITCLIP_CACHE", str(tmp_path / "cache"))
    torch.set_num_threads(1)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session")
def triplets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 training and 12 validation rows at 32 px."""
    folder = tmp_path_factory.mktemp("triplets")
    write_triplets(folder, {"resolution": 32, "train": 64, "validation": 12, "test": 4}, seed=7)
    return folder


def run_training(
    training: Any, recipe: dict[str, Any], out: Path, triplets: Path, kind: str | None = None, **starts: Path
) -> Path:
    """Run a training as the command line would; its kind, if not given, stands where the training's module does."""
    kind = kind or training.__name__.replace("editclip.training", "editclip.recipes").replace(".training", ".recipe")
    arguments = ["--kind", kind, "--recipe", json.dumps(recipe), "--seed", "3", "--threads", "1", "--out", str(out)]
    arguments += ["--triplets", str(triplets), "--from", *(f"{role}={folder}" for role, folder in starts.items())]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDITCLIP_CACHE", str(out.parent / f"cache-{out.name}"))
        patch.setattr(sys, "argv", ["training", *arguments])
        runner.main()
    return out


@pytest.fixture(scope="session")
def train() -> Train:
    """`run_training`, for the tests of further trainings."""
    return run_training


@pytest.fixture(scope="session")
def foundations(triplets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with clip/, vae/, text_to_image/ and ip2p/."""
    from editclip.training import clip, ip2p, text_to_image, vae

    root = tmp_path_factory.mktemp("foundations")
    made = {
        "clip": run_training(clip, toys.CLIP, root / "clip", triplets=triplets),
        "vae": run_training(vae, toys.VAE, root / "vae", triplets=triplets),
    }
    base = run_training(text_to_image, toys.TEXT_TO_IMAGE, root / "text_to_image", triplets=triplets, **made)
    run_training(ip2p, toys.IP2P, root / "ip2p", triplets=triplets, text_to_image=base)
    return root
