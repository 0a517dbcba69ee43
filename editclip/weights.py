"""Weights that are not trained here: fetched from a path or a model hub, checked tensor by tensor, then linked.

python -m editclip.weights editclip --config '{"source": "path", "path": "…"}' --out results/paper/weights/editclip
"""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from editclip import stage
from editclip.errors import InputError
from editclip.storage import path_digest


def _check_loaded(folder: Path, model_class: Any) -> None:
    """Load `folder` strictly as `model_class`.

    Raises:
        InputError: unreadable, or a tensor is missing or has another shape than the folder's config says.
    """
    try:
        _, info = model_class.from_pretrained(
            folder, output_loading_info=True, ignore_mismatched_sizes=True, local_files_only=True
        )
    except Exception as error:  # whatever the libraries raise for an unreadable file, the user gets one sentence
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"weights folder {folder} cannot be loaded as {model_class.__name__}: {reason}") from error
    for name in sorted(info["missing_keys"]):
        raise InputError(f"weights folder {folder} lacks the tensor {name}; fetch or convert the weights again")
    for name, found, wanted in sorted(info["mismatched_keys"]):
        raise InputError(
            f"weights folder {folder}: the tensor {name} has shape {tuple(found)}, "
            f"but its config asks for {tuple(wanted)}; fetch or convert the weights again"
        )


def _diffusers_class(folder: Path) -> Any:
    """The class that a diffusers component's config.json names: one of diffusers, or our patch VAE."""
    import diffusers

    from editclip.patch_vae import PatchVAE

    try:
        name = json.loads((folder / "config.json").read_text(encoding="utf-8"))["_class_name"]
        return PatchVAE if name == "PatchVAE" else getattr(diffusers, name)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise InputError(f"weights folder {folder} has no config.json that names a diffusers class") from error


def _check_component(folder: Path) -> None:
    _check_loaded(folder, _diffusers_class(folder))


def _check_clip(folder: Path) -> None:
    from editclip.model import Clip

    Clip.load(folder)


def _check_editclip(folder: Path) -> None:
    from editclip.model import EditCLIP

    EditCLIP.load(folder)


def _check_pipeline(folder: Path) -> None:
    from transformers import CLIPTextModel

    _check_component(folder / "unet")
    _check_component(folder / "vae")
    _check_loaded(folder / "text_encoder", CLIPTextModel)


def _check_editclip_ip2p(folder: Path) -> None:
    from editclip.projection import ImageProjModel

    _check_component(folder / "unet")
    ImageProjModel.load(folder)


CHECKS: dict[str, Callable[[Path], None]] = {
    "clip": _check_clip,
    "clip_matched": _check_clip,
    "vae": _check_component,
    "text_to_image": _check_pipeline,
    "ip2p": _check_pipeline,
    "editclip": _check_editclip,
    "editclip_ip2p": _check_editclip_ip2p,
    "prompt_diffusion": _check_pipeline,  # its ControlNet, a class of the baseline's own, is checked when it is loaded
    "prompt_diffusion_edits": _check_pipeline,
}


def _download(source: Mapping[str, Any]) -> Path:
    """Folder of a hub snapshot at its revision (null = today's), in the hub's own cache; it is named by its commit."""
    from huggingface_hub import snapshot_download

    unused = ["*.ckpt", "*.msgpack", "*.h5", "*.onnx", "*fp16*", "*non_ema*"]
    try:
        return Path(snapshot_download(source["repo"], revision=source["revision"], ignore_patterns=unused))
    except Exception as error:  # no network, no such repository or revision: one sentence for all of them
        raise InputError(f"cannot fetch {source['repo']} at {source['revision']} from the hub: {error}") from error


def origin_of(name: str, source: Mapping[str, Any]) -> Path:
    """The folder a source names: on this disk, or fetched from a hub.

    Raises:
        InputError: there is none, or its digest is not the pinned one.
    """
    if source["source"] == "none":
        raise InputError(f"a job needs weights.{name}, which the config declares as none; give it a source")
    origin = Path(source["path"]) if source["source"] == "path" else _download(source)
    if not origin.is_dir():
        raise InputError(f"config value weights.{name}.path: {origin} is not a folder")
    if source["sha256"] is not None and (found := path_digest(origin)) != source["sha256"]:
        raise InputError(f"weights folder {origin} has the digest {found}, but weights.{name}.sha256 pins another")
    return origin


def linked(name: str, origin: Path, out: Path) -> None:
    """Fill the folder `out` with links to the files of the weights folder `origin`, once they are checked.

    Raises:
        InputError: `origin` is not what its name says.
    """
    CHECKS[name](origin)
    for file in sorted(p for p in origin.rglob("*") if p.is_file() and p.name != "provenance.json"):
        link = out / file.relative_to(origin)
        link.parent.mkdir(parents=True, exist_ok=True)
        os.symlink(file.resolve(), link)


def main() -> None:
    """Command line of this stage."""
    arguments = stage.parser(__doc__)
    arguments.add_argument("name", choices=sorted(CHECKS))
    arguments.add_argument("--config", type=stage.config_value, required=True, help="source, path or repo, sha256")
    given = arguments.parse_args()
    origin = origin_of(given.name, given.config)
    inputs = {"origin": origin}  # its digest is what `sha256` pins, its name what `revision` does
    facts: dict[str, Any] = {"module": "editclip.weights", "config": given.config, "force": given.force}
    with stage.output_folder(given.out, inputs=inputs, **facts) as folder:
        linked(given.name, origin, folder)


if __name__ == "__main__":
    stage.run(main)
