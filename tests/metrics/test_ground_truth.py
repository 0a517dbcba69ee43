"""Pixel metrics against numpy sums written out here, and their undefined and skipped cases."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from metric_toys import write_bench, write_edits
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.stats import pearsonr
from skimage.metrics import peak_signal_noise_ratio
from torchmetrics.functional.image import structural_similarity_index_measure
from torchvision.transforms.functional import pil_to_tensor

from editclip.data.bench import Bench
from editclip.metrics.ground_truth import GroundTruthScores, details
from editclip.metrics.scores import Score, Setting, read_edits


def five_points(image: np.ndarray) -> np.ndarray:
    """Four times each pixel less its neighbours, beyond an edge its mirror image."""
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="symmetric")
    around = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    return 4 * image - around


def score(setting: Setting, folder: Path, images: dict[str, Image.Image] | None = None) -> list[dict[str, Score]]:
    edits = read_edits(write_edits(folder, setting.bench, images) / "seed=0", setting.bench)
    return GroundTruthScores(setting).score([(edit.sample, edit.path) for edit in edits])


def test_values_equal_an_independent_computation(setting: Callable[..., Setting], bench: Bench, tmp_path: Path) -> None:
    sample, scores = bench.samples[1], score(setting({}), tmp_path / "edits")[1]
    output = Image.open(tmp_path / "edits" / "seed=0" / f"{sample.sample_id}.png")
    truth, query = bench.image(sample.ground_truth), bench.image(sample.query)
    o, t, q = (np.asarray(image, dtype=np.int64) for image in (output, truth, query))
    inside = np.zeros((32, 32), bool)
    inside[8:24, 4:16] = True  # as written by the fixture
    background = ((o - q)[~inside] ** 2).sum() / ((~inside).sum() * 3 * 255**2)
    within = ((o - t)[inside] ** 2).sum() / (inside.sum() * 3 * 255**2)
    expected = {
        "mse": ((o - t) ** 2).mean() / 255**2,
        "psnr": peak_signal_noise_ratio(np.asarray(truth), np.asarray(output)),
        "psnr_inside": 10 * math.log10(1 / within),
        "closer": float(((o - t) ** 2).sum() < ((q - t) ** 2).sum()),
        "mse_background": background,
        "psnr_background": 10 * math.log10(1 / background),
    }
    found = {name: value.value for name, value in scores.items()}
    ours = found.pop("ssim")
    wanted, made = (five_points(image)[inside].ravel() / 255 for image in (t, o))
    rounding = (
        20 * (1 / 12) / 255**2
    )  # of one part in 255, evenly wrong by up to half of it, at weights 4, -1, -1, -1, -1
    expected["sharpness"] = math.log2((made.var() + rounding) / (wanted.var() + rounding))
    expected["detail"] = pearsonr(wanted, made).statistic
    assert found == pytest.approx(expected, abs=1e-5)
    # torchmetrics pads where scikit-image crops the border of the window: equal on the cropped interior.
    _, full = structural_similarity_index_measure(
        *(pil_to_tensor(image)[None].double() / 255 for image in (output, truth)),
        data_range=1.0,
        return_full_image=True,
    )
    assert ours == pytest.approx(float(full[0, :, 5:-5, 5:-5].mean()), abs=1e-4)


def test_identical_images_are_undefined_in_db_and_zero_in_mse(
    setting: Callable[..., Setting], bench: Bench, tmp_path: Path
) -> None:
    perfect = {s.sample_id: bench.image(s.ground_truth) for s in bench.samples}
    scores = score(setting({}), tmp_path / "perfect", perfect)[0]
    assert scores["psnr"] == scores["psnr_inside"] == Score.undefined("identical")
    assert scores["mse"].value == 0 and scores["ssim"].value == pytest.approx(1)
    assert scores["sharpness"].value == 0 and scores["detail"].value == pytest.approx(1)
    copies = {s.sample_id: bench.image(s.query) for s in bench.samples}
    scores = score(setting({}), tmp_path / "copies", copies)[0]
    assert scores["psnr_background"] == Score.undefined("identical") and scores["mse_background"].value == 0
    assert scores["psnr"].status == "ok"


def test_what_the_benchmark_lacks_is_skipped(setting: Callable[..., Setting], tmp_path: Path) -> None:
    def lacking(index: int, row: dict[str, str]) -> None:
        row["ground_truth"] = "" if index in (0, 2) else row["ground_truth"]
        row["edit_mask"] = "" if index in (1, 2) else row["edit_mask"]

    bench = write_bench(tmp_path / "lacking", lacking)
    scores = score(setting({}, bench=bench), tmp_path / "edits")
    status = [{name: value.status for name, value in row.items()} for row in scores]
    truth, mask = ("mse", "psnr", "ssim"), ("mse_background", "psnr_background")
    assert {status[0][name] for name in (*truth, "psnr_inside")} == {"skipped"}
    assert {status[0][name] for name in mask} == {status[1][name] for name in truth} == {"ok"}
    assert {status[1][name] for name in (*mask, "psnr_inside")} == set(status[2].values()) == {"skipped"}
    assert "ground truth" in scores[0]["psnr"].reason and "mask" in scores[1]["psnr_background"].reason


@pytest.mark.parametrize(
    "level, metric, word", [(255, "psnr_background", "no background"), (0, "psnr_inside", "empty")]
)
def test_a_mask_without_pixels_is_undefined(
    setting: Callable[..., Setting], bench: Bench, tmp_path: Path, level: int, metric: str, word: str
) -> None:
    Image.new("L", (32, 32), level).save(bench.path("frames/mask.png"))
    scores = score(setting({}), tmp_path / "edits")[0]
    assert scores[metric].status == "undefined" and word in scores[metric].reason


def test_blur_is_not_sharp_and_noise_is_sharp_without_the_detail() -> None:
    random = np.random.default_rng(0)
    truth = np.kron(random.random((8, 8, 3)), np.ones((4, 4, 1)))  # crisp blocks
    everywhere = np.ones((32, 32), bool)
    blurred = gaussian_filter(truth, (0.7, 0.7, 0))
    noisy = blurred + random.normal(0, 0.1, truth.shape)
    values = [{name: s.value for name, s in details(truth, image, everywhere).items()} for image in (blurred, noisy)]
    assert values[0]["sharpness"] < -2 and values[0]["detail"] > 0.8
    assert values[1]["sharpness"] > values[0]["sharpness"] + 1 and values[1]["detail"] < 0.5
    half = details(truth, truth / 2, everywhere)  # a quarter of the variance
    assert half["sharpness"].value == pytest.approx(-2, abs=1e-3) and half["detail"].value == pytest.approx(1)


def test_flat_areas_have_a_sharpness_and_no_detail() -> None:
    flat, everywhere = np.full((8, 8, 3), 0.5), np.ones((8, 8), bool)
    rounded = flat + np.random.default_rng(0).uniform(-0.5, 0.5, flat.shape) / 255
    assert details(flat, flat, everywhere)["sharpness"].value == 0
    assert details(flat, flat, everywhere)["detail"].reason == "the ground truth has no edge inside the mask"
    assert details(rounded, flat, everywhere)["detail"].reason == "the output has no edge inside the mask"
    assert details(flat, rounded, everywhere)["sharpness"].value == pytest.approx(1, abs=0.4)  # rounding, twice
