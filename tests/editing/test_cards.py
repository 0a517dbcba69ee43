"""Cards are read without importing the method; every mistake is one sentence with file, entry and nearest match."""

import subprocess
import sys
from pathlib import Path

import pytest
from editing_toys import EDITOR, entry

from editclip.editing import cards
from editclip.editing.cards import editor_module, editor_names, parse_method, read_card
from editclip.errors import InputError


def test_every_method_here_has_a_card() -> None:
    names = editor_names()
    assert {"editclip.method", "baselines.ip2p", "baselines.copy_query", "baselines.ground_truth"} <= set(names)
    for name in names:
        assert read_card(name).label


def test_card_of_ip2p_as_published() -> None:
    card = read_card("baselines.ip2p")
    assert (card.conditioning, card.needs, card.weights) == ("text", ("instruction",), ("ip2p",))
    assert card.options["guidance_scale"] == 7.5 and card.options["image_guidance_scale"] == 1.5


def test_a_broken_import_does_not_hurt_the_card(project: Path) -> None:
    (project / "broken.py").write_text("import not_installed_anywhere\n" + EDITOR)
    assert read_card("baselines.broken").label == "Toy"
    assert "baselines.broken" not in sys.modules


def test_a_package_is_a_method_and_a_private_module_is_not(project: Path) -> None:
    for package in ("large", "networks"):
        (project / package).mkdir()
        (project / package / "__init__.py").touch()
    (project / "large" / "method.py").write_text(EDITOR)
    (project / "small.py").write_text(EDITOR)
    (project / "_shared.py").write_text("SIDE = 3\n")
    assert editor_names() == ["editclip.method", "baselines.large", "baselines.small"]
    assert read_card("baselines.large").options == {"strength": 40.0}
    assert editor_module("baselines.large") == "baselines.large.method"
    assert editor_module("baselines.small") == "baselines.small"
    assert parse_method(entry("baselines.large")).load({}, "cpu", "prepare").prepare  # loaded from there


def test_unknown_method_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"'baselines.ip2'.*did you mean \"baselines.ip2p\"") as caught:
        read_card("baselines.ip2")
    assert "editclip.method" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('LABEL = "Toy"', "", "toy.py: the card entry LABEL is missing"),
        ('LABEL = "Toy"', "LABEL = 'To' + name", "LABEL must be a literal"),
        ('LABEL = "Toy"', 'LABEL = ""', "LABEL is '', but must be a text that is not empty"),
        ("GPU_GB = 0", "GPU_GB = 0\nGPU_GBS = 1", 'GPU_GBS is no card entry .did you mean "GPU_GB"'),
        ("GPU_GB = 0", "GPU_GB = True", "GPU_GB is True, but must be a number of GB"),
        ('"exemplar"\nNEEDS', '"image"\nNEEDS', "CONDITIONING is 'image', but must be one of text, exemplar, none"),
        ('("exemplar", "instruction")', '("exemplars",)', "NEEDS is .* out of exemplar, instruction"),
        ('("exemplar", "instruction")', '("instruction",)', "STAGES has prepare, .* add exemplar to NEEDS"),
        (
            '("prepare", "edit")',
            '("prepare",)',
            "STAGES is .* out of prepare, plan, edit, in this order and with edit",
        ),
        ('("prepare", "edit")', '("edit", "prepare")', "STAGES is .* in this order and with edit"),
        ('("prepare", "edit")', '("prepare", "edit", "edit")', "STAGES is .* in this order and with edit"),
        ('("prepare", "edit")', '("prepare", "improve", "edit")', "STAGES is .* out of prepare, plan, edit"),
        ("DETERMINISTIC = True", "DETERMINISTIC = 1", "DETERMINISTIC is 1"),
        ("RESOLUTION = None", "RESOLUTION = 0", "RESOLUTION is 0"),
        ("RESOLUTION = None", "RESOLUTION = ", "line 1. is not Python"),
    ],
)
def test_mistakes_in_a_card(project: Path, old: str, new: str, message: str) -> None:
    assert old in EDITOR
    (project / "toy.py").write_text(EDITOR.replace(old, new))
    with pytest.raises(InputError, match=message):
        read_card("baselines.toy")


def test_options_are_the_defaults_updated() -> None:
    method = parse_method(entry("baselines.ip2p", options={"num_inference_steps": 20, "guidance_scale": 7}))
    assert method.options == {**method.card.options, "num_inference_steps": 20, "guidance_scale": 7}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"options": {"guidence_scale": 3}}, 'options.guidence_scale .did you mean "guidance_scale"'),
        ({"options": {"num_inference_steps": 2.5}}, "options.num_inference_steps: 2.5 must be of type int"),
        ({"options": {"guidance_scale": "much"}}, "options.guidance_scale: 'much' must be of type float"),
        ({"options": {"guidance_scale": float("inf")}}, "options.guidance_scale: inf must be a finite number"),
        ({"exemplars": "random"}, "exemplars: 'random' is not allowed; allowed: own, shuffled"),
        ({"exemplars": "shuffled"}, "exemplars: InstructPix2Pix sees no exemplar, so it must be own"),
        ({"batch_size": 0}, "batch_size: 0: should be greater than or equal to 1"),
        ({"seeds": [0]}, "unknown config key .*seeds; allowed"),
    ],
)
def test_mistakes_in_a_method_entry(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_method(entry("baselines.ip2p", **changes))


def test_an_option_may_name_what_is_needed(project: Path) -> None:
    card = EDITOR.replace('("exemplar", "instruction")', '("options.words", "exemplar")')
    card = card.replace('{"strength": 40.0}', '{"strength": 40.0, "words": "instruction"}')
    (project / "toy.py").write_text(card)

    def needs(**options: str) -> tuple[str, ...]:
        return parse_method(entry("baselines.toy", options=options)).card.needs

    assert needs() == ("exemplar", "instruction")
    assert needs(words="caption_after") == ("exemplar", "caption_after")
    assert needs(words="none") == needs(words="exemplar") == ("exemplar",)
    (project / "toy.py").write_text(card.replace('"words": "instruction"', '"words": 1'))
    with pytest.raises(InputError, match="NEEDS has options.words, but OPTIONS has no such option with a text"):
        read_card("baselines.toy")


def test_missing_weights_are_named(tmp_path: Path) -> None:
    method = parse_method(entry("baselines.ip2p"))
    with pytest.raises(InputError, match="needs the weights 'ip2p'; give --weights ip2p=FOLDER"):
        method.weights({})
    with pytest.raises(InputError, match="nowhere is not a folder"):
        method.weights({"ip2p": tmp_path / "nowhere"})


def test_reading_cards_needs_no_torch() -> None:
    read_all = "from editclip.editing.cards import *; [read_card(name) for name in editor_names()]"
    code = f"import sys; {read_all}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=cards.ROOT, check=False).returncode == 0


@pytest.mark.parametrize(
    ("stages", "asked", "message"),
    [
        ('("prepare", "edit")', "plan", "method toy has no stage plan; the STAGES of baselines.toy are prepare, edit"),
        ('("plan", "edit")', "plan", r"the stage plan has no plan\(request\); write it, or take the stage out"),
        ('("edit",)', "edit", r"the stage edit has prepare\(exemplar\), which would never be called; add prepare to"),
    ],
)
def test_what_is_loaded_must_agree_with_the_card(project: Path, stages: str, asked: str, message: str) -> None:
    (project / "toy.py").write_text(EDITOR.replace('("prepare", "edit")', stages))
    with pytest.raises(InputError, match=message):
        parse_method(entry("baselines.toy")).load({}, "cpu", asked)
