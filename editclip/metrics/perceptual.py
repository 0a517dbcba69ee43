"""The LPIPS network: loading, its digest, its input, and the distances of many outputs to one query.

The trunk is ImageNet's, or random with a fixed seed where no weights are to be had; the linear heads are the
calibrated ones of the lpips package (version 0.1) either way.
"""

import hashlib
import warnings
from collections.abc import Sequence

import lpips
import numpy as np
import torch
from PIL import Image

from editclip.errors import InputError

NETS = ("alex", "vgg", "squeeze")
TRUNKS = ("random", "imagenet")
RANDOM_TRUNK_SEED = 0


def load_network(net: str, trunk: str) -> lpips.LPIPS:
    """An LPIPS network in eval mode, on the CPU; torch's global random state is left as it was.

    Args:
        net: "alex", "vgg" or "squeeze".
        trunk: "random" (fixed seed) or "imagenet" (torchvision's weights, downloaded or in TORCH_HOME).

    Raises:
        InputError: unknown net or trunk, or no ImageNet weights here.
    """
    if net not in NETS or trunk not in TRUNKS:
        raise InputError(f"LPIPS has the nets {NETS} and the trunks {TRUNKS}, not {net!r} with trunk {trunk!r}")
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision's notice about a keyword that lpips still uses
        torch.manual_seed(RANDOM_TRUNK_SEED)
        try:
            return lpips.LPIPS(net=net, version="0.1", pnet_rand=trunk == "random", verbose=False).eval()
        except OSError as error:
            raise InputError(
                f"cannot get the ImageNet trunk of LPIPS-{net} ({error}): put it under TORCH_HOME or set trunk: random"
            ) from error


def network_digest(network: torch.nn.Module) -> str:
    """SHA-256 (64 hex digits) of all parameters and buffers, by name."""
    total = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        total.update(f"{name}{tuple(tensor.shape)}".encode() + tensor.cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


def to_input(images: Sequence[Image.Image], size: int) -> torch.Tensor:
    """RGB images as a B×3×size×size float tensor in [−1, 1], the range LPIPS expects (PIL bicubic on uint8)."""
    frames = [image.resize((size, size), Image.Resampling.BICUBIC) for image in images]  # a copy at the same size
    pixels = np.stack([np.asarray(frame, dtype=np.float32) for frame in frames])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1.0


def distances(network: lpips.LPIPS, query: torch.Tensor, outputs: torch.Tensor) -> torch.Tensor:
    """LPIPS of each output to one query, whose trunk features are computed once.

    The query goes through the trunk in the same batch as the outputs, so an output equal to it gives exactly 0.

    Args:
        network: from `load_network`.
        query: 3×S×S in [−1, 1].
        outputs: B×3×S×S in [−1, 1].

    Returns:
        B distances, on the device of the inputs.
    """
    layers = network.net(network.scaling_layer(torch.cat([query[None], outputs])))
    total = torch.zeros(len(outputs), device=outputs.device)
    for head, features in zip(network.lins, layers, strict=True):
        directions = lpips.normalize_tensor(features)
        total = total + head((directions[1:] - directions[:1]) ** 2).mean(dim=(1, 2, 3))
    return total
