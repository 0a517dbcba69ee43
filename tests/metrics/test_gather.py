"""Scores of shards, gathered, are the files of one job."""

from collections.abc import Callable
from pathlib import Path

import pytest
from metric_toys import METRICS, write_bench, write_edits

from editclip.data.bench import Bench
from editclip.errors import InputError
from editclip.metrics import gather
from editclip.metrics.families import FAMILIES
from editclip.metrics.ground_truth import GroundTruthScores

Score = Callable[..., Path]


def joined(bench: Bench, out: Path, *shards: Path) -> Path:
    """What the stage makes of the folders of scores."""
    gather.main(["--bench", str(bench.folder), "--shards", *map(str, shards), "--threads", "1", "--out", str(out)])
    return out


def files(folder: Path) -> dict[str, bytes]:
    """Every file of scores by its name in the folder."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != "provenance.json"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.mark.parametrize("count", [2, 7])  # the second is more than there are samples
def test_gathered_shards_are_byte_for_byte_the_scores_of_one_job(
    bench: Bench, score: Score, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    shards = []
    for number in range(count):  # each with a cache of its own, so that it computes all it needs
        monkeypatch.setenv("EDITCLIP_CACHE", str(tmp_path / f"cache-{number}"))
        shards.append(score(shard=f"{number}-of-{count}", out=str(number)))
    monkeypatch.setenv("EDITCLIP_CACHE", str(tmp_path / "cache-whole"))
    scores = joined(bench, tmp_path / "gathered", *shards)
    assert files(scores) == files(score()) and len(files(scores)) == 3 * len(FAMILIES)
    assert files(shards[0]) != files(scores)
    assert files(joined(bench, tmp_path / "backwards", *shards[::-1])) == files(scores)
    joined(bench, tmp_path / "scores", *shards)  # replaces what the one job wrote, as it is when `shards` changes
    score(out="gathered")


def test_a_new_seed_of_a_shard_computes_itself_alone(
    bench: Bench, edits: Path, score: Score, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    scored = GroundTruthScores.score
    monkeypatch.setattr(
        GroundTruthScores,
        "score",
        lambda self, given: seen.extend(path.parent.name for _, path in given) or scored(self, given),
    )
    score(shard="1-of-2", out="before")
    assert seen == ["seed=0"] * 3 + ["seed=1"] * 3
    write_edits(edits, bench, seed=2)
    score(shard="1-of-2", seeds=(0, 1, 2), out="after")
    assert seen[6:] == ["seed=2"] * 3


def test_failures_of_all_shards_count_together(
    bench: Bench, edits: Path, score: Score, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed, sample in ((0, 0), (1, 3)):  # one in each of two shards
        (edits / f"seed={seed}" / f"{bench.samples[sample].sample_id}.png").unlink()
    monkeypatch.setattr("editclip.failures.MAXIMUM_FAILED", 1 / 12)
    shards = [score(shard=f"{number}-of-2", out=str(number)) for number in range(2)]
    with pytest.raises(InputError, match=r"mine failed on 2 of 12 .*g-t-e0-q0 seed=0 .*g-t-e1-q0 seed=1"):
        joined(bench, tmp_path / "scores", *shards)
    assert not list((tmp_path / "scores").iterdir())


def test_incomplete_and_mixed_shards_are_refused(
    bench: Bench, score: Score, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (score(shard=f"{number}-of-2", out=str(number)) for number in range(2))

    def refused(message: str, *shards: Path, bench: Bench = bench) -> None:
        with pytest.raises(InputError, match=message):
            joined(bench, tmp_path / "scores", *shards)

    refused(r"no shard has scores of g-t-e0-q1 \(3 missing in all\)", first)
    refused("1/lpips/seed=0.csv repeats sample g-t-e0-q1", second, second)
    refused("none/lpips has no card.json with seed=<s>.csv", first, tmp_path / "none")
    refused("different cards or seeds", first, score(shard="1-of-2", seeds=(0,), out="one seed"))
    other = METRICS | {"lpips": METRICS["lpips"] | {"resolution": 96}}
    refused("different cards or seeds", first, score(other, shard="1-of-2", out="other"))
    fewer = write_bench(tmp_path / "fewer", lambda index, row: row.update(sample_id=row["sample_id"] + "x"))
    refused("0/lpips/seed=0.csv has sample g-t-e0-q0, which the benchmark lacks", first, second, bench=fewer)
    for table in second.glob("*/seed=*.csv"):
        table.write_text(table.read_text().replace("mine,", "theirs,"))
    refused("are of mine and theirs", first, second)
