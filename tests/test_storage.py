"""Atomic writes, digests and the cache."""

import hashlib
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
