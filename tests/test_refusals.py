"""A wrong config stops before any job, in one sentence, and nothing is written."""

import pytest
from workflow_project import SMOKE, Project, checkout

MICRO, PAPER = "config/micro.yaml", "config/paper.yaml"


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return checkout(tmp_path_factory.mktemp("fresh"))


@pytest.mark.parametrize(
    ("config", "old", "new", "expected"),
    [
        (SMOKE, "  seeds: [0, 1]", "  sedes: [0, 1]", ["run.sedes", 'did you mean "seeds"']),
        (
            MICRO,  # which the smoke config is like
            "\n    trunk: imagenet",
            "\n    trunk: imagnet",
            ["metrics.lpips.trunk", "'imagnet'", 'did you mean "imagenet"', "random"],
        ),
        (MICRO, "editor: baselines.ip2p", "editor: baselines.ipp2", ["baselines.ipp2", "baselines.ip2p"]),
        (SMOKE, "guidance_scale: 7.5,", "guidance_scal: 7.5,", ["guidance_scal", "guidance_scale"]),
        (SMOKE, "like: foundations.yaml", "like: fundations.yaml", ["config/smoke.yaml", "like", "fundations.yaml"]),
        (
            SMOKE,
            "bench: {types: 4,",
            "bench: {types: 4, types: 5,",
            ["smoke.yaml line", '"types"', "remove one"],
        ),
        # A key that only config/micro.yaml has must not be filled in from there.
        (PAPER, "  allow_unpinned: false", "  # allow_unpinned: false", ["run.allow_unpinned", "missing"]),
    ],
)
def test_refused_in_one_sentence(fresh: Project, config: str, old: str, new: str, expected: list[str]) -> None:
    with fresh.edited(config, lambda text: text.replace(old, new, 1)):
        done = fresh.snakemake("--configfile", PAPER if config == PAPER else SMOKE, check=False)
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if line and not line.startswith("Using ")]
    assert len(said) == 1 and all(part in said[0] for part in expected), done.stderr
    assert not (fresh.folder / "results" / "smoke").exists()


def test_a_benchmark_that_is_not_there_is_refused_before_any_job(fresh: Project) -> None:
    for name in ("editclip", "editclip_ip2p"):
        (fresh.folder / "results" / "micro" / "weights" / name).mkdir(parents=True)
    done = fresh.snakemake(
        "-n", "--configfile", "config/photographs.yaml", "--config", "bench={path: nowhere}", check=False
    )
    assert done.returncode != 0
    assert "error: config value bench.path: nowhere is not a folder" in done.stderr


def test_the_paper_run_asks_for_no_training_data(fresh: Project) -> None:
    """It trains nothing, so the images of TOP-Bench and pinned (here: allowed) weights must do."""
    (fresh.folder / "data" / "top-bench").mkdir(parents=True)
    for part in ("instamanip", "instamanip_renderer", "instamanip_vision"):  # as converted from their downloads
        (fresh.folder / "weights" / part).mkdir(parents=True)
    with fresh.edited(PAPER, lambda text: text.replace("allow_unpinned: false", "allow_unpinned: true")):
        done = fresh.snakemake("-n", "--configfile", PAPER, check=False)
    assert done.returncode == 0, done.stderr
    assert "Fetching and checking editclip_ip2p" in done.stdout + done.stderr
    assert "Drawing the procedural" not in done.stdout + done.stderr
