"""The LPIPS network: loading, its digest, its input, its features of an image and the distance of two images.

The trunk is ImageNet's, or random with a fixed seed where that is asked for; the linear heads are the calibrated ones
of the lpips package (version 0.1) either way.
"""

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path

import lpips
import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from editclip.errors import InputError
from editclip.metrics import lpips_trunks

NETS = ("alex", "vgg", "squeeze")
TRUNKS = ("random", "imagenet")
RANDOM_TRUNK_SEED = 0


def load_network(net: str, trunk: str) -> lpips.LPIPS:
    """An LPIPS network in eval mode, on the CPU; torch's global random state is left as it was.

    Args:
        net: "alex", "vgg" or "squeeze".
        trunk: "random" (fixed seed) or "imagenet" (torchvision's weights: of alex and vgg those that `fetch_trunks`
            fetches, of squeeze what torchvision downloads or finds in TORCH_HOME).

    Raises:
        InputError: unknown net or trunk, or no ImageNet weights to be had.
    """
    if net not in NETS or trunk not in TRUNKS:
        raise InputError(f"LPIPS has the nets {NETS} and the trunks {TRUNKS}, not {net!r} with trunk {trunk!r}")
    packaged = lpips_trunks.trunk_file(net) if trunk == "imagenet" and net in lpips_trunks.NETS else None
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision's notice about a keyword that lpips still uses
        torch.manual_seed(RANDOM_TRUNK_SEED)
        try:
            drawn = trunk == "random" or packaged is not None  # torchvision is not asked
            network = lpips.LPIPS(net=net, version="0.1", pnet_rand=drawn, verbose=False).eval()
        except OSError as error:
            raise InputError(
                f"cannot get the ImageNet trunk of LPIPS-{net} ({error}): put it under TORCH_HOME or set trunk: random"
            ) from error
    if packaged is not None:
        _put_trunk(network, packaged)
    return network


def _put_trunk(network: lpips.LPIPS, path: Path) -> None:
    """Put the convolutions of a file from `lpips_trunks` into a network, in the order of its modules."""
    tensors = load_file(path)
    convolutions = [module for module in network.net.modules() if isinstance(module, torch.nn.Conv2d)]
    for i, convolution in enumerate(convolutions):
        convolution.load_state_dict({name: tensors[f"{i}.{name}"] for name in ("weight", "bias")})


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


def unit_features(network: lpips.LPIPS, images: torch.Tensor) -> list[torch.Tensor]:
    """The trunk's feature maps, of length 1 over the channels: for each layer a tensor B×C×H×W.

    Args:
        network: from `load_network`.
        images: B×3×S×S in [−1, 1], on the network's device.
    """
    return [lpips.normalize_tensor(maps) for maps in network.net(network.scaling_layer(images))]


def distance(network: lpips.LPIPS, first: Sequence[torch.Tensor], second: Sequence[torch.Tensor]) -> torch.Tensor:
    """LPIPS of images whose `unit_features` are given, shape B; one image on one side is compared with all others."""
    layers = zip(network.lins, first, second, strict=True)
    return torch.stack([head((left - right) ** 2).mean(dim=(1, 2, 3)) for head, left, right in layers]).sum(dim=0)
