"""The layout of Prompt Diffusion's weights: a pipeline folder with `controlnet/`, as released."""

from pathlib import Path

from baselines.prompt_diffusion.network import load_networks
from editclip import layouts


def check_folder(folder: Path) -> None:
    """Check all networks of a folder.

    Raises:
        InputError: a part is missing, unreadable or misshapen.
    """
    layouts.pipeline(folder)
    load_networks(folder)
