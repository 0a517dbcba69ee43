"""EC2T and EC2EC as torchmetrics metrics: values, accumulation, and the light package import."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from metric_toys import photo, write_edits
from PIL import Image

from editclip.data.bench import Bench
from editclip.errors import InputError
from editclip.metrics import EC2EC, EC2T
from editclip.metrics.editclip import EditClipScores
from editclip.metrics.scores import Setting, read_edits
from editclip.model import EditCLIP
from editclip.provenance import import_closure

BEFORE, AFTER = [photo(i) for i in range(4)], [photo(i) for i in range(10, 14)]
TEXTS = ["make it red", "add a hat", "turn it into a square", "remove the circle"]


def test_ec2t_is_the_mean_cosine_over_all_updates(editclip_folder: Path) -> None:
    model = EditCLIP.load(editclip_folder)
    expected = (model.encode_edit(BEFORE, AFTER) * model.encode_text(TEXTS)).sum(-1).mean()
    metric = EC2T(editclip_folder)
    metric.update(BEFORE[:3], AFTER[:3], TEXTS[:3])
    metric.update(BEFORE[3:], AFTER[3:], TEXTS[3:])
    assert float(metric.compute()) == pytest.approx(float(expected), abs=1e-5)
    metric.reset()
    metric.update(BEFORE, AFTER, TEXTS[::-1])
    assert abs(float(metric.compute()) - float(expected)) > 1e-3


def test_ec2ec_compares_the_exemplar_pair_with_the_edit(editclip_folder: Path) -> None:
    model = EditCLIP.load(editclip_folder)
    shown, made = model.encode_edit(BEFORE[:2], AFTER[:2]), model.encode_edit(BEFORE[2:], AFTER[2:])
    metric = EC2EC(editclip_folder)
    value = metric(BEFORE[:2], AFTER[:2], BEFORE[2:], AFTER[2:])
    assert float(value) == pytest.approx(float((shown * made).sum(-1).mean()), abs=1e-5)
    metric.reset()
    metric.update(BEFORE[:1], AFTER[:1], BEFORE[:1], AFTER[:1])
    assert float(metric.compute()) == pytest.approx(1, abs=1e-5)


def test_three_lines_give_the_scores_of_the_table(
    setting: Callable[..., Setting], bench: Bench, editclip_folder: Path, tmp_path: Path
) -> None:
    edits = [(e.sample, e.path) for e in read_edits(write_edits(tmp_path / "edits", bench) / "seed=0", bench) if e.path]
    scores = EditClipScores(setting({"encoder": "editclip"})).score(edits)
    ec2t, ec2ec = EC2T(editclip_folder), EC2EC(editclip_folder)
    for (sample, path), score in zip(edits, scores, strict=True):
        before, after, query = (bench.image(n) for n in (sample.exemplar_before, sample.exemplar_after, sample.query))
        with Image.open(path) as output:
            found = ec2t([query], [output], [sample.instruction]), ec2ec([before], [after], [query], [output])
        assert [float(value) for value in found] == pytest.approx([score[m].value for m in ("ec2t", "ec2ec")], abs=1e-6)
    means = [sum(score[metric].value or 0 for score in scores) / len(scores) for metric in ("ec2t", "ec2ec")]
    assert [float(ec2t.compute()), float(ec2ec.compute())] == pytest.approx(means, abs=1e-6)


def test_states_of_several_processes_are_summed(editclip_folder: Path) -> None:
    metric = EC2T(editclip_folder)
    assert set(metric._reductions) == {"total", "count"}
    assert {reduce(torch.tensor([1.0, 2.0])).item() for reduce in metric._reductions.values()} == {3.0}


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")  # torchmetrics says it too
def test_wrong_counts_and_no_edits_are_refused(editclip_folder: Path) -> None:
    metric = EC2T(editclip_folder)
    with pytest.raises(InputError, match="no edit"):
        metric.compute()
    with pytest.raises(InputError, match="one instruction"):
        metric.update(BEFORE, AFTER, TEXTS[:1])
    with pytest.raises(InputError, match="one instruction"):
        metric.update(BEFORE, AFTER, "make")  # four letters are not four instructions
    with pytest.raises(InputError):
        EC2EC(editclip_folder).update(BEFORE[:1], AFTER[:1], BEFORE, AFTER)


def test_the_package_loads_no_torch_and_draws_in_no_family() -> None:
    check = "import sys, editclip.metrics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0
    names = {path.name for path in import_closure("editclip.metrics.ground_truth")}
    assert "scores.py" in names and not names & {"modules.py", "clip.py", "lpips.py", "model.py", "features.py"}
    with pytest.raises(AttributeError, match="EC9"):
        import editclip.metrics

        _ = editclip.metrics.EC9
