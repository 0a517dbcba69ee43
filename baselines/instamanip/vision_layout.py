"""The layout of the vision tower's weights: `sizes.json`, `vision.safetensors` and `no_features.safetensors`.

The last, the features of "no image", is a constant of the tower, kept so that nobody loads 4 GB for it.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from baselines.instamanip.architecture import VisionSizes
from baselines.instamanip.vision import VisionTower
from baselines.instamanip.weight_files import check_tensors, filled, read_json, tensors_one_by_one
from editclip.errors import InputError
from editclip.storage import write_json

SIZES, VISION, NO_FEATURES = "sizes.json", "vision.safetensors", "no_features.safetensors"


def save_vision(folder: Path, vision: VisionTower) -> None:
    """Write a tower's folder; the tower is in fp32 afterwards, as many a CPU has no arithmetic in half precision."""
    write_json(folder / SIZES, vision.sizes.model_dump(mode="json"))
    save_file({name: tensor.contiguous() for name, tensor in vision.state_dict().items()}, folder / VISION)
    with torch.no_grad():
        save_file({"features": vision.float().eval().no_features().contiguous()}, folder / NO_FEATURES)


def load_vision(folder: Path, dtype: torch.dtype = torch.float32) -> VisionTower:
    """The tower of a folder, frozen.

    Raises:
        InputError: it is missing, or a tensor of it is missing, superfluous or misshapen.
    """
    return filled(_empty(folder), folder / VISION, dtype)


def _empty(folder: Path) -> VisionTower:
    """The tower of a folder's sizes, on the meta device."""
    with torch.device("meta"):
        return VisionTower(read_json(folder / SIZES, VisionSizes))


def load_no_features(folder: Path) -> Tensor:
    """The features of "no image", 1×slots×feature_width, of a tower's folder.

    Raises:
        InputError: they are missing or of another shape.
    """
    sizes = read_json(folder / SIZES, VisionSizes)
    found = dict(tensors_one_by_one(folder / NO_FEATURES)).get("features")
    if found is None or found.shape != (1, sizes.slots, sizes.feature_width):
        raise InputError(f"{folder / NO_FEATURES} holds no features of the tower's shape; convert the weights again")
    return found


def check_folder(folder: Path) -> None:
    """Check a tower's folder without loading the tower.

    Raises:
        InputError: a part is missing, unreadable or misshapen.
    """
    check_tensors(_empty(folder), [folder / VISION], folder)
    load_no_features(folder)
