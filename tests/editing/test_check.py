"""`editclip check`: whatever is wrong with a method is one sentence; what needs weights waits for them."""

import sys
from pathlib import Path
from typing import Any

import pytest
from editing_toys import EDITOR

from editclip import stage
from editclip.editing import check as module

ROOT = Path(__file__).resolve().parents[2]
MICRO = str(ROOT / "config" / "micro.yaml")
METHOD = """
import PIL.ImageOps

LABEL = "Negative"
PAPER = ""
LICENSE = "Apache-2.0"
CONDITIONING = "none"
NEEDS = ()
STAGES = ("edit",)
WEIGHTS = ()
RESOLUTION = 32
GPU_GB = 0
DETERMINISTIC = True
TRAINED_ON = ()
OPTIONS = {}


class Negative:
    def edit(self, requests):
        return [PIL.ImageOps.invert(request.query) for request in requests]


def load(weights, options, device, stage):
    return Negative()
"""
RETURN = "    return Negative()"


def status(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Exit status of the command."""
    monkeypatch.setattr("sys.argv", ["check", *arguments])
    try:
        stage.run(module.main)
    except SystemExit as error:
        assert isinstance(error.code, int)
        return error.code
    return 0


def test_a_broken_promise_is_exit_status_1(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("TOY_LOG", str(project / "log.txt"))
    (project / "toy.py").write_text(EDITOR)
    assert status(monkeypatch, "baselines.toy", "--resolution", "32") == 1
    table = capsys.readouterr().out
    assert table.startswith("| promise | kept | detail |") and "| card | yes | baselines/toy.py |" in table
    assert "| size and mode | yes |" in table and "| no file written | **no** |" in table


def test_a_method_without_its_weights_is_checked_as_far_as_it_goes(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (project / "toy.py").write_text(METHOD.replace("WEIGHTS = ()", 'WEIGHTS = ("toys", "more")'))
    assert status(monkeypatch, "baselines.toy", "--weights", f"more={tmp_path}") == 0
    table = capsys.readouterr().out
    assert "| load(weights, options, device, stage) | yes |" in table and "size and mode" not in table
    assert "| all else | not checked | needs the weights toys: " in table and "--weights toys=FOLDER |" in table
    assert status(monkeypatch, "baselines.toy", "--weights", f"more={tmp_path}", f"toys={tmp_path}") == 0
    assert "| size and mode | yes |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("def load(", "def lod(", "baselines.toy has no function load(weights, options, device, stage)"),
        ("load(weights, options, device, stage)", "load(weights)", "load(weights), but is called as load(weights, "),
        ("PIL.ImageOps\n", "PIL.Odd\n", "toy cannot be imported: ModuleNotFoundError: No module named 'PIL.Odd'"),
        (RETURN, "    return Positive()", "of baselines.toy for the stage edit failed: NameError: name 'Positive'"),
        ('("edit",)', '("plan", "edit")', "what its load returns for the stage plan has no plan(request); write it"),
        (RETURN, "    raise SystemExit(0)", "failed: SystemExit: 0; it must raise an exception, not exit"),
        ("PIL.ImageOps\n", "sys\nsys.exit(0)\n", "baselines.toy cannot be imported: SystemExit: 0; it must raise"),
    ],
)  # fmt: skip
def test_a_method_that_cannot_be_loaded_is_one_sentence(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, old: str, new: str, sentence: str
) -> None:
    assert old in METHOD
    (project / "toy.py").write_text(METHOD.replace(old, new))
    assert status(monkeypatch, "baselines.toy") == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("error: ") and said.err.count("\n") == 1
    assert sentence in said.err


def test_a_failing_load_is_told_by_its_line(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    text = METHOD.replace(RETURN, "    return weights['toys'], Negative()")
    (project / "toy.py").write_text(text)
    assert status(monkeypatch, "baselines.toy") == 2
    line = next(number for number, code in enumerate(text.splitlines(), 1) if "weights['toys']" in code)
    assert f"KeyError: 'toys' (baselines/toy.py line {line})" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["baselines.ip2p", "--weights", "ip2=/"],
            "asks for no weights 'ip2' (did you mean \"ip2p\"?); its roles: ip2p",
        ),
        (["editclop", "--config", MICRO], 'has no method "editclop" (did you mean "editclip"?)'),
    ],
)
def test_a_slip_of_the_pen_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, arguments: list[str], sentence: str
) -> None:
    assert status(monkeypatch, *arguments) == 2
    assert sentence in capsys.readouterr().err


def test_a_method_of_a_config_has_its_options_and_the_weights_of_its_run(
    weights: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert status(monkeypatch, "ip2p", "--config", MICRO) == 0
    table = capsys.readouterr().out
    assert "| kind of weights editclip.recipes.ip2p | yes |" in table
    assert f"`make reproduce ARGS='--configfile {MICRO} -- results/micro/weights/ip2p'`" in table
    place = tmp_path / "results" / "micro" / "weights" / "ip2p"
    place.parent.mkdir(parents=True)
    place.symlink_to(weights["ip2p"])
    assert status(monkeypatch, "ip2p", "--config", MICRO, "--resolution", "32") == 0
    assert "| same seed, same image | yes |" in capsys.readouterr().out


def test_a_kind_needs_a_training_and_a_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = module.check_kind("baselines.prompt_diffusion.recipe")
    assert finding.passed
    monkeypatch.setitem(sys.modules, "baselines.prompt_diffusion.training", type(sys)("empty"))
    with pytest.raises(module.InputError, match=r"training has no function run\(job\)"):
        module.check_kind("baselines.prompt_diffusion.recipe")


def test_a_method_is_checked_with_all_its_kinds(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    (project / "toy.py").write_text(METHOD)
    names = ["baselines.toy.recipe", "baselines.toy.renderer_recipe", "baselines.toys.recipe"]
    monkeypatch.setattr(module, "kind_names", lambda: names)
    monkeypatch.setattr(module, "check_kind", lambda name: module.Finding(f"kind of weights {name}", True, ""))
    assert status(monkeypatch, "baselines.toy") == 0
    table = capsys.readouterr().out
    assert [name for name in names if f"| kind of weights {name} | yes |" in table] == names[:2]
