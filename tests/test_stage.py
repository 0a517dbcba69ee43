"""What every stage shares."""

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from editclip import stage
from editclip.errors import InputError

FACTS: dict[str, Any] = {"module": "editclip.storage", "config": {"a": 1}, "inputs": {}, "force": False}


def test_a_config_part_is_inline_json_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "part.yaml").write_text("steps: 3\nrate: 1.0e-3\n")
    assert stage.config_value('{"steps": 3}') == {"steps": 3}
    assert stage.config_value(str(tmp_path / "part.yaml")) == {"steps": 3, "rate": 0.001}
    with pytest.raises(argparse.ArgumentTypeError, match="not valid JSON"):
        stage.config_value('{"steps": }')
    with pytest.raises(argparse.ArgumentTypeError, match="cannot read"):
        stage.config_value(str(tmp_path / "nothing.yaml"))


def test_bad_input_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise InputError("file x.png is truncated; copy it again")

    with pytest.raises(SystemExit) as stopped:
        stage.run(main)
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "error: file x.png is truncated; copy it again\n"


def test_a_failed_stage_leaves_nothing_half_written(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError),
        stage.output_folder(tmp_path / "out", **FACTS) as folder,
    ):
        (folder / "image.png").write_bytes(b"half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_file_has_its_provenance_beside_it(tmp_path: Path) -> None:
    with stage.output_file(tmp_path / "report.html", **FACTS) as file:
        file.write_text("done")
    assert (tmp_path / "report.html").read_text() == "done"
    assert json.loads((tmp_path / "report.html.provenance.json").read_text())["config"] == {"a": 1}


def test_provenance_says_what_an_output_consists_of(tmp_path: Path) -> None:
    with stage.output_folder(tmp_path / "out", **FACTS) as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "a").write_bytes(b"abc")
        (folder / "link").symlink_to("/nowhere/model")
    files = json.loads((tmp_path / "out" / "provenance.json").read_text())["files"]
    assert files == {"deep/a": hashlib.sha256(b"abc").hexdigest(), "link": "/nowhere/model"}
