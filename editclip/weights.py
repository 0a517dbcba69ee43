r"""Weights that are not trained here: from a path or a model hub, checked tensor by tensor, linked or unpacked.

    python -m editclip.weights editclip --out results/paper/weights/editclip \
        --config '{"kind": "editclip.recipes.contrastive", "source": "path", "path": "…", "sha256": null}'
"""

import os
from pathlib import Path
from typing import Any

from editclip import stage
from editclip.config.section import checked
from editclip.config.weights import HubWeights, LocalWeights
from editclip.errors import InputError
from editclip.packed import check_local, is_packed, unpack
from editclip.recipes.kinds import check_folder, read_kind
from editclip.storage import path_digest


def _download(source: HubWeights) -> Path:
    """Folder of a hub snapshot at its revision (null = today's), in the hub's own cache; it is named by its commit."""
    from huggingface_hub import snapshot_download

    unused = ["*.ckpt", "*.msgpack", "*.h5", "*.onnx", "*fp16*", "*non_ema*"]
    try:
        return Path(snapshot_download(source.repo, revision=source.revision, ignore_patterns=unused))
    except Exception as error:  # no network, no such repository or revision: one sentence for all of them
        raise InputError(f"cannot fetch {source.repo} at {source.revision} from the hub: {error}") from error


def origin_of(name: str, source: LocalWeights | HubWeights) -> Path:
    """The folder a source names: on this disk, or fetched from a hub.

    Raises:
        InputError: there is none, or it holds other weights than the pinned ones.
    """
    if isinstance(source, LocalWeights):
        check_local(name, source)
        return Path(source.path)
    origin = _download(source)
    if source.sha256 is not None and (found := path_digest(origin)) != source.sha256:
        raise InputError(f"weights folder {origin} has the digest {found}, but weights.{name}.sha256 pins another")
    return origin


def filled(kind: str, origin: Path, out: Path) -> None:
    """Fill the folder `out` with links to the files of the weights folder `origin`, or with what is packed there.

    Raises:
        InputError: `origin` holds no weights of this kind.
    """
    if is_packed(origin):
        unpack(origin, out)
        check_folder(read_kind(kind), out)
        return
    check_folder(read_kind(kind), origin)
    for file in sorted(p for p in origin.rglob("*") if p.is_file() and p.name != "provenance.json"):
        link = out / file.relative_to(origin)
        link.parent.mkdir(parents=True, exist_ok=True)
        os.symlink(file.resolve(), link)


def main() -> None:
    """Command line of this stage."""
    arguments = stage.parser(__doc__)
    arguments.add_argument("name", help="of the weights, for messages")
    described = "kind, source, path (or repo and revision), sha256"
    arguments.add_argument("--config", type=stage.config_value, required=True, help=described)
    given = arguments.parse_args()
    hub = isinstance(given.config, dict) and given.config.get("source") == "hub"
    section: type[LocalWeights | HubWeights] = HubWeights if hub else LocalWeights
    entry = checked(section, given.config, f"weights.{given.name}")
    origin = origin_of(given.name, entry)
    inputs = {"origin": origin}  # its digest is what `sha256` pins, its name what `revision` does
    facts: dict[str, Any] = {
        "module": "editclip.weights",
        "config": entry.model_dump(mode="json"),
        "force": given.force,
    }
    with stage.output_folder(given.out, inputs=inputs, **facts) as folder:
        filled(entry.kind, origin, folder)


if __name__ == "__main__":
    stage.run(main)
