"""How much one edit saves: hints once an image and one branch, against hints at every step and both branches.

    python benchmarks/prompt_diffusion_speed.py --run results/micro

The reference is what the official sampler computes when prompt and negative prompt are both empty. Both ways are
timed in turn in this process, in CPU seconds of one thread, and must give equal outputs.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers.utils.torch_utils import randn_tensor

from baselines.prompt_diffusion.editor import Branch, PromptDiffusion, load_editor
from editclip import stage
from editclip.data.triplets import Triplets
from editclip.training.diffusion import to_pixels
from editclip.training.loop import seeded

TARGET = 1.8


@torch.no_grad()
def every_step_and_branch(
    editor: PromptDiffusion, pair: torch.Tensor, query: torch.Tensor, generators: list[torch.Generator], scale: float
) -> np.ndarray:
    """The sampler without savings; arguments and result as `PromptDiffusion.sample`, with pixels of the pair."""
    networks, vae, count = editor.networks, editor.vae, len(query)
    text = editor.text([""] * (2 * count))
    side = query.shape[-1] // networks.controlnet.reduction
    latents = randn_tensor((count, vae.config.latent_channels, side, side), generators)
    editor.scheduler.set_timesteps(editor.steps)
    for step in editor.scheduler.timesteps:
        hint = networks.controlnet.pair_hint(pair.repeat(2, 1, 1, 1)) + networks.controlnet.query_hint(
            query.repeat(2, 1, 1, 1)
        )
        null, shown = networks.denoise(latents.repeat(2, 1, 1, 1), step, text, hint).chunk(2)
        latents = editor.scheduler.step(null + scale * (shown - null), step, latents).prev_sample
    decoded = vae.decode(latents / vae.config.scaling_factor).sample
    return decoded.div(2).add(0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()


@torch.no_grad()
def once(
    editor: PromptDiffusion, pair: torch.Tensor, query: torch.Tensor, generators: list[torch.Generator]
) -> np.ndarray:
    """The method itself, the pair's hint included."""
    silent = Branch("", True)
    hint = editor.networks.controlnet.pair_hint(pair)
    return editor.sample(query, hint, [(silent, silent)] * len(query), generators)


def seconds(call: Callable[[], np.ndarray]) -> float:
    """CPU seconds of one call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def main() -> None:
    """Print both times (the fastest of all rounds), their ratio and the largest difference of the outputs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="folder of a run, with triplets/ and weights/")
    parser.add_argument("--weights", type=Path, help="other weights than the run's")
    parser.add_argument("--images", type=int, default=32, help="images of a batch, 32 as in the micro run")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    options = {"num_inference_steps": 20, "guidance_scale": 9.0, "text": "none", "precision": "float32"}
    editor = load_editor(given.weights or given.run / "weights" / "prompt_diffusion", options, "cpu", "edit")
    held_out = Triplets(given.run / "triplets", "validation", editor.vae.config.sample_size)
    before, after = (to_pixels(side) for side in held_out.batch(range(given.images + 1)))
    pair, query = torch.cat([before, after], dim=1)[:-1], before[1:]

    def generators() -> list[torch.Generator]:
        return [seeded(0, "speed", row) for row in range(given.images)]

    def ours() -> np.ndarray:
        return once(editor, pair, query, generators())

    def theirs() -> np.ndarray:
        return every_step_and_branch(editor, pair, query, generators(), 9.0)

    difference = float(np.abs(ours() - theirs()).max())  # also the warm-up
    times = [(seconds(ours), seconds(theirs)) for _ in range(given.rounds)]
    fast, slow = (min(column) for column in zip(*times, strict=True))
    print(f"hints every step, both branches: {slow / given.images:.3f} CPU-s an image")
    print(f"hints once, one branch:          {fast / given.images:.3f} CPU-s an image")
    print(f"ratio {slow / fast:.2f} (wanted {TARGET}); largest difference {difference:.1e} of 1 (wanted below 1/255)")
    sys.exit(0 if slow / fast >= TARGET and difference < 1 / 255 else 1)


if __name__ == "__main__":
    stage.run(main)
