"""Pixel metrics where the benchmark knows more than the paper's does: the ground truth and the mask of the edit.

- `mse`, `psnr`, `ssim`: output against ground truth
- `closer`: 1 if the output is closer to the ground truth (by MSE) than the unedited query is, else 0
- `psnr_inside`: output against ground truth inside the mask
- `mse_background`, `psnr_background`: output against the *query* outside the mask, where nothing should have changed
- `sharpness`: log2 of the variance of the output's Laplacian over the ground truth's, inside the mask: 0 is as sharp,
  −1 half of the variance, and noise is sharp too
- `detail`: correlation of the two Laplacians inside the mask, which tells the right edges from noise

MSE is of values in [0, 1], PSNR in dB; of identical images PSNR is infinite, hence undefined, and the MSE, which is 0,
tells. SSIM is Wang et al.'s (2004): Gaussian window of sigma 1.5, population covariance, mean over RGB. The Laplacian
is the five-point one, of each of RGB; to either variance that of rounding to 8 bits is added, so that flat areas
compare. Sharpness is a logarithm because the tables' cells are means, and the mean of ratios is that of the largest.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from skimage.filters import laplace
from skimage.metrics import mean_squared_error, structural_similarity

from editclip.data.bench import Sample
from editclip.metrics.scores import Score, Setting, read_frame

INSIDE = ("psnr_inside", "sharpness", "detail")  # metrics of the two sides of a mask
OUTSIDE = ("mse_background", "psnr_background")
MASK_THRESHOLD = 128  # of 255; from here on a mask pixel counts as edited
SSIM: dict[str, Any] = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
ROUNDING = 20 / 12 / 255**2  # variance of the Laplacian (4² + 4 · 1²) of rounding errors (1/12 of a squared step)
NO_TRUTH = Score.skipped("the benchmark has no ground truth")
NOTHING_TO_DO = Score.undefined("the ground truth is the query")
NO_MASK = Score.skipped("the benchmark has no edit mask")


def psnr(mse: float) -> Score:
    """PSNR in dB of a mean squared error of values in [0, 1]; undefined when the images are identical."""
    return Score.undefined("identical") if mse == 0 else Score.ok(-10 * math.log10(mse))


def masked_mse(first: np.ndarray, second: np.ndarray, where: np.ndarray) -> float | None:
    """Mean squared error of two H×W×3 images in [0, 1] over the pixels `where` (H×W bool); None if there are none."""
    return float(mean_squared_error(first[where], second[where])) if where.any() else None


def laplacian(image: np.ndarray) -> np.ndarray:
    """The five-point Laplacian of each channel of an H×W×3 image, edges reflected."""
    return np.stack([laplace(channel) for channel in np.moveaxis(image, -1, 0)], axis=-1)


def details(truth: np.ndarray, output: np.ndarray, where: np.ndarray) -> dict[str, Score]:
    """`sharpness` and `detail` of H×W×3 images in [0, 1] over the pixels `where` (H×W bool, not empty)."""
    wanted, made = (laplacian(image)[where].ravel() for image in (truth, output))
    variances = float(wanted.var()), float(made.var())
    sharpness = Score.ok(math.log2((variances[1] + ROUNDING) / (variances[0] + ROUNDING)))
    least = ROUNDING / 1000  # below any edge that 8 bits can show
    if min(variances) < least:
        flat = "the ground truth" if variances[0] < least else "the output"
        return {"sharpness": sharpness, "detail": Score.undefined(f"{flat} has no edge inside the mask")}
    return {"sharpness": sharpness, "detail": Score.ok(float(np.corrcoef(wanted, made)[0, 1]))}


class GroundTruthScores:
    """The pixel metrics."""

    metrics: tuple[str, ...] = ("mse", "psnr", "ssim", "closer", *INSIDE, *OUTSIDE)

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    def card(self) -> dict[str, Any]:
        """The settings of the pixel metrics; their resolution is the benchmark's."""
        return {
            "range": [0, 1],
            "ssim": SSIM,
            "mask_threshold": MASK_THRESHOLD,
            "laplacian": "five-point, inside the mask, plus the variance of rounding",
            "background_reference": "query",
        }

    def score(self, edits: Sequence[tuple[Sample, Path]]) -> list[dict[str, Score]]:
        """All metrics of each edit."""
        return [self._score(sample, self._pixels(path)) for sample, path in edits]

    def _pixels(self, path: Path) -> np.ndarray:
        """H×W×3 float64 in [0, 1]; never differences of unsigned bytes, which would wrap."""
        return np.asarray(read_frame(path, self.setting.bench.resolution), dtype=np.float64) / 255

    def _score(self, sample: Sample, output: np.ndarray) -> dict[str, Score]:
        bench = self.setting.bench
        result = dict.fromkeys(self.metrics, NO_TRUTH)
        query = self._pixels(bench.path(sample.query))
        truth = self._pixels(bench.path(sample.ground_truth)) if sample.ground_truth else None
        if truth is not None:
            mse = float(mean_squared_error(truth, output))
            similarity = structural_similarity(truth, output, channel_axis=2, data_range=1, **SSIM)
            result |= {"mse": Score.ok(mse), "psnr": psnr(mse), "ssim": Score.ok(float(similarity))}
            copied = float(mean_squared_error(truth, query))
            result["closer"] = Score.ok(float(mse < copied)) if copied else NOTHING_TO_DO
        if not sample.edit_mask:
            return result | dict.fromkeys((*INSIDE, *OUTSIDE), NO_MASK)
        edited = np.asarray(bench.mask(sample.edit_mask)) >= MASK_THRESHOLD
        outside = masked_mse(query, output, ~edited)
        nothing = Score.undefined("the mask leaves no background")
        result["mse_background"] = nothing if outside is None else Score.ok(outside)
        result["psnr_background"] = nothing if outside is None else psnr(outside)
        if truth is not None:
            inside = masked_mse(truth, output, edited)
            if inside is None:
                return result | dict.fromkeys(INSIDE, Score.undefined("the mask is empty"))
            result |= {"psnr_inside": psnr(inside), **details(truth, output, edited)}
        return result
