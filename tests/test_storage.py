"""Atomic writes, digests and the cache."""

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from editclip import storage
from editclip.storage import atomic_file, atomic_folder, cache_folder, digest, file_digest, path_digest, write_json


def test_failed_write_leaves_the_old_file_and_no_temporary(tmp_path: Path) -> None:
    target = tmp_path / "table.csv"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_file(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]


def test_failed_folder_leaves_the_old_folder_and_no_temporary(tmp_path: Path) -> None:
    target = tmp_path / "weights"
    target.mkdir()
    (target / "model").write_text("old")
    with pytest.raises(RuntimeError), atomic_folder(target) as temporary:
        (temporary / "model").write_text("half")
        raise RuntimeError
    assert (target / "model").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["weights"]


def test_finished_folder_replaces_the_old_one_whole(tmp_path: Path) -> None:
    target = tmp_path / "weights"
    target.mkdir()
    (target / "stale").write_text("old")
    with atomic_folder(target) as temporary:
        (temporary / "model").write_text("new")
    assert [p.name for p in target.iterdir()] == ["model"]


def test_file_digest_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_digest(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()


def test_folder_digest_follows_names_and_contents_but_not_provenance(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    first = path_digest(tmp_path)
    write_json(tmp_path / "provenance.json", {"seconds": 1})
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "metrics.jsonl").write_text("{}")
    assert path_digest(tmp_path) == first
    (tmp_path / "a").rename(tmp_path / "b")
    assert path_digest(tmp_path) != first


def test_cache_entries_differ_by_every_part_of_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDITCLIP_CACHE", str(tmp_path))
    folders = {cache_folder("edits", *key) for key in [("a", 1), ("a", 2), ("b", 1), ("a", "1")]}
    assert len(folders) == 4
    assert cache_folder("edits", "a", 1) in folders
    assert digest({"x": 1, "y": 2}) == digest({"y": 2, "x": 1})


def test_cache_entries_belong_to_the_installed_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDITCLIP_CACHE", str(tmp_path))
    now = cache_folder("edits", "a")
    monkeypatch.setattr(storage, "package_versions", lambda: {"torch": "0"})
    assert cache_folder("edits", "a") != now


def test_dot_files_do_not_enter_a_digest(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    before = path_digest(tmp_path)
    (tmp_path / ".snakemake_timestamp").write_text("")
    assert path_digest(tmp_path) == before


def test_what_a_killed_process_left_is_neither_digested_nor_kept(tmp_path: Path) -> None:
    others = {".weights.abcd_123", ".weights.more.unfinished-abcd_123", ".weights", "weights.unfinished-abcd_123"}
    for name in (".weights.unfinished-abcd_123", *others):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").write_text("written")
    before = path_digest(tmp_path)
    with atomic_folder(tmp_path / "weights") as temporary:
        (temporary / "model").write_text("whole")
    assert {p.name for p in tmp_path.iterdir()} == {*others, "weights"}
    (tmp_path / ".weights" / "half").write_text("changed")
    (tmp_path / "weights" / "model").unlink()
    assert path_digest(tmp_path) == before


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], list[str]]:
    """`read(path)`: names of the files that taking the digest of `path` reads, an hour from now, with a cache."""
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("EDITCLIP_CACHE", str(tmp_path / "cache"))
    now, names = time.time_ns, list[str]()
    monkeypatch.setattr(storage.time, "time_ns", lambda: now() + 3_600_000_000_000)
    monkeypatch.setattr(storage, "file_digest", lambda path: names.append(Path(path).name) or file_digest(path))

    def read(path: Path) -> list[str]:
        names.clear()
        assert path_digest(path) == expected(path)
        return list(names)

    return read


def expected(path: Path) -> str:
    """The digest of a file, or of a folder without subfolders."""
    files = [] if path.is_file() else sorted(path.iterdir())
    return digest([(file.name, file_digest(file)) for file in files]) if files else file_digest(path)


def test_what_has_not_changed_is_read_once(tmp_path: Path, read: Callable[[Path], list[str]]) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    for name in ("model", "config"):
        (weights / name).write_text(name)
    assert read(weights) == ["config", "model"]
    assert read(weights) == [] == read(tmp_path / "cache" / ".." / "weights")
    assert read(weights / "model") == ["model"] and read(weights / "model") == []
    (tmp_path / "link").symlink_to(weights)
    assert read(tmp_path / "link") == []
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "model").symlink_to(weights / "model")
    assert read(tmp_path / "copy") == ["model"] and read(tmp_path / "copy") == []
    (weights / "model").write_text("other")
    assert read(weights) == ["config", "model"] and read(tmp_path / "copy") == ["model"]
    (weights / "model").rename(weights / "renamed")
    assert read(weights) == ["config", "renamed"]
    (weights / "more").write_text("")
    assert "more" in read(weights)


def test_a_change_shows_though_size_and_date_are_the_old_ones(
    tmp_path: Path, read: Callable[[Path], list[str]]
) -> None:
    file = tmp_path / "model"
    file.write_text("old")
    dates = file.stat()
    read(file)
    time.sleep(0.02)  # a step of the kernel's clock
    file.write_text("new")
    os.utime(file, ns=(dates.st_atime_ns, dates.st_mtime_ns))
    assert read(file) == ["model"]


def test_the_digest_of_what_has_just_changed_is_not_kept(
    tmp_path: Path, read: Callable[[Path], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").write_text("new")
    monkeypatch.setattr(storage.time, "time_ns", lambda: (tmp_path / "model").stat().st_ctime_ns + 1_900_000_000)
    assert read(tmp_path / "model") == read(tmp_path / "model") == ["model"]
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("damage", [b"", b"0" * 63, b"x" * 64, b"\xff" * 64])
def test_a_damaged_digest_is_made_again(tmp_path: Path, read: Callable[[Path], list[str]], damage: bytes) -> None:
    (tmp_path / "model").write_text("weights")
    read(tmp_path / "model")
    (entry,) = (tmp_path / "cache" / "digests").iterdir()
    entry.write_bytes(damage)
    assert read(tmp_path / "model") == ["model"] and read(tmp_path / "model") == []


def test_digests_need_no_cache(tmp_path: Path, read: Callable[[Path], list[str]]) -> None:
    (tmp_path / "model").write_text("weights")
    (tmp_path / "cache" / "digests").write_text("nothing can be written below a file")
    assert read(tmp_path / "model") == read(tmp_path / "model") == ["model"]
    (tmp_path / "cache" / "digests").unlink()
    (tmp_path / "cache").rmdir()
    assert read(tmp_path / "model") == ["model"] and not (tmp_path / "cache").exists()
