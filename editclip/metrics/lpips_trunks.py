"""Where the ImageNet trunks of LPIPS are: in the cache, once `fetch_trunks` has put them there."""

import subprocess
import sys
from pathlib import Path

from editclip.errors import InputError
from editclip.storage import cache_root

NETS = ("alex", "vgg")
SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"  # of the archive that they are read from
FETCH = "editclip.metrics.fetch_trunks"


def trunk_folder() -> Path:
    """The folder of the cache in which the trunks are kept; it may not exist yet."""
    return cache_root() / "lpips" / SHA256[:24]


def trunk_file(net: str) -> Path:
    """The safetensors file of the trunk of `net`, "alex" or "vgg"; fetched at the first call.

    Tensors are `<i>.weight` (out, in, H, W) and `<i>.bias` of the i-th convolution.

    Raises:
        InputError: it cannot be fetched.
    """
    path = trunk_folder() / f"{net}.safetensors"
    if not path.is_file():
        # A process of its own, so that code that fetches is none of the code that computes with what was fetched.
        answer = subprocess.run([sys.executable, "-m", FETCH], capture_output=True, text=True, check=False)
        if answer.returncode:
            said = (answer.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise InputError(said.removeprefix("error: "))
    return path
