"""Does Prompt Diffusion do its own task? Held-out images and their maps, with the exemplar pair and without it.

    python benchmarks/prompt_diffusion_control.py --run results/micro

Each held-out row is asked one of the six map tasks, with a random other row as the pair and no text, and again with
the pair left out (zeros, as in training); noise is the same. Higher PSNR to the true answer with the pair, by an
interval off zero, says that the model reads the task from the pair. Exit status 1 when it does not.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from baselines.prompt_diffusion.editor import Branch, PromptDiffusion, load_editor
from baselines.prompt_diffusion.tasks import MAPS, map_task
from editclip import stage
from editclip.data.triplets import Triplets
from editclip.training.diffusion import to_pixels
from editclip.training.loop import seeded

DRAWS = 10_000  # bootstrap resamples of rows


def answers(editor: PromptDiffusion, query: torch.Tensor, hint: torch.Tensor, first: int) -> np.ndarray:
    """Pixels B×H×W×3 in [0, 1]; noise depends on the row alone."""
    count = len(query)
    silent = Branch("", True)
    generators = [seeded(0, "control", first + row) for row in range(count)]
    return editor.sample(query, hint.expand(count, -1, -1, -1), [(silent, silent)] * count, generators)


def psnr(images: np.ndarray, truth: torch.Tensor) -> np.ndarray:
    """dB of each image against uint8 B×3×H×W."""
    wanted = truth.permute(0, 2, 3, 1).numpy() / 255
    return -10 * np.log10(np.square(images - wanted).mean((1, 2, 3)))


@torch.no_grad()
def measure(editor: PromptDiffusion, images: torch.Tensor, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """PSNR with the pair and without it, N×2, and the number of each row's task (0 to 5)."""
    tasks = np.arange(len(images)) % (2 * len(MAPS))
    scores = np.zeros((len(images), 2))
    for number in range(2 * len(MAPS)):
        asked, answered = map_task(images, list(MAPS)[number // 2], inverse=number % 2 == 1)
        rows = torch.from_numpy(np.flatnonzero(tasks == number))
        for part in rows.split(batch):
            shown = (part + 1) % len(images)  # another row's task: its own exemplar
            pair = torch.cat([to_pixels(asked[shown]), to_pixels(answered[shown])], dim=1)
            hints = editor.networks.controlnet.pair_hint(pair), editor.null_hint(images.shape[-2:])
            made = [answers(editor, to_pixels(asked[part]), hint, int(part[0]) * 1000) for hint in hints]
            scores[part.numpy()] = np.stack([psnr(m, answered[part]) for m in made], axis=1)
    return scores, tasks


def interval(differences: np.ndarray) -> tuple[float, float]:
    """95 % bootstrap interval of the mean over rows."""
    draws = np.random.default_rng(0).integers(0, len(differences), (DRAWS, len(differences)))
    low, high = np.quantile(differences[draws].mean(1), (0.025, 0.975))
    return float(low), float(high)


def line(name: str, scores: np.ndarray) -> tuple[str, bool]:
    """One row of the printed table, and whether the pair helps beyond doubt."""
    gain = scores[:, 0] - scores[:, 1]
    low, high = interval(gain)
    means = scores.mean(0)
    return (
        f"{name:24} {len(scores):4} {means[0]:8.2f} {means[1]:8.2f} {gain.mean():+7.2f} [{low:+.2f}, {high:+.2f}]",
        low > 0,
    )


def main() -> None:
    """Print n, mean PSNR with the pair and without it, and their difference with its interval, over all and by task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="folder of a run, with triplets/ and weights/")
    parser.add_argument("--weights", type=Path, help="other weights than the run's")
    parser.add_argument("--rows", type=int, default=240, help="held-out rows")
    parser.add_argument("--steps", type=int, default=20, help="denoising steps")
    given = parser.parse_args()
    torch.set_num_threads(1)
    options = {"num_inference_steps": given.steps, "guidance_scale": 1.0, "text": "none", "precision": "float32"}
    editor = load_editor(given.weights or given.run / "weights" / "prompt_diffusion", options, "cpu", "edit")
    held_out = Triplets(given.run / "triplets", "validation", editor.vae.config.sample_size)
    images = held_out.batch(range(min(given.rows, len(held_out))))[1]
    scores, tasks = measure(editor, images, 40)
    print(f"{'PSNR in dB':24} {'n':>4} {'pair':>8} {'no pair':>8} {'gain':>7} 95 % interval")
    text, helps = line("all", scores)
    print(text)
    for number in range(2 * len(MAPS)):
        kind = list(MAPS)[number // 2]
        name = f"{kind} → image" if number % 2 else f"image → {kind}"
        print(line(name, scores[tasks == number])[0])
    sys.exit(0 if helps else 1)


if __name__ == "__main__":
    stage.run(main)
