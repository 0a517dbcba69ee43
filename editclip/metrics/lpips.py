"""LPIPS between the output and the *query* (paper, appendix A): how much of the query was lost; lower keeps more.

Not to the ground truth. EditCLIP-IP2P is trained on LPIPS of the vgg net, so alex is the fairer column and vgg stands
beside it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from editclip.data.bench import Sample
from editclip.metrics.features import Store, image_key, pair_key
from editclip.metrics.perceptual import distance, load_network, network_digest, to_input, unit_features
from editclip.metrics.scores import Score, Setting, read_frame

Pair = tuple[Path, Path]  # query and output
BATCH = 8  # images through a trunk at once: on a CPU as fast per image as 64, and the last is filled up with less


class LPIPS:
    """Metrics `lpips_<net>` for each net of the config, to the query."""

    def __init__(self, setting: Setting) -> None:
        self.setting, nets, self.trunk = setting, setting.config.nets, setting.config.trunk
        self.size = max(setting.bench.resolution, setting.config.resolution)
        self.networks = {net: load_network(net, self.trunk).to(setting.device) for net in nets}
        self.digests = {net: network_digest(network) for net, network in self.networks.items()}
        self.metrics = tuple(f"lpips_{net}" for net in nets)

    def card(self) -> dict[str, Any]:
        """What is compared, at which size, by which networks."""
        facts = {
            "reference": "query",
            "version": "0.1",
            "trunk": "random_trunk" if self.trunk == "random" else "imagenet",
            "networks": self.digests,
            "resolution": self.size,
            "preprocessing": "PIL bicubic on uint8, then [-1, 1]",
        }
        return {"lpips": facts}

    def score(self, edits: Sequence[tuple[Sample, Path]]) -> list[dict[str, Score]]:
        """Distances of all outputs; equal (query, output) images are computed once."""
        pairs = [(self.setting.bench.path(sample.query), path) for sample, path in edits]
        values = {net: self._values(net, pairs) for net in self.networks}
        return [{f"lpips_{net}": Score.ok(values[net][pair_key(*pair)]) for net in values} for pair in pairs]

    @torch.inference_mode()
    def _values(self, net: str, pairs: Sequence[Pair]) -> dict[str, float]:
        """Distances by pair key; as in `features.encode`, every batch has one size: no value depends on the others."""
        batch_size, network = min(self.setting.batch_size, BATCH), self.networks[net]
        device, module = self.setting.device, "editclip.metrics.lpips"
        store = Store.of(
            "lpips", module=module, encoder=self.digests[net], batch_size=batch_size, device=device, size=self.size
        )
        values = store.load([pair_key(*pair) for pair in pairs])
        images = _by_query({pair_key(*pair): pair for pair in pairs if pair_key(*pair) not in values})
        query: list[torch.Tensor] = []
        with tqdm(total=len(images), desc=f"LPIPS {net}", unit="image", disable=not images) as bar:
            for start in range(0, len(images), batch_size):
                batch, fresh = images[start : start + batch_size], {}
                filled = [batch[i % len(batch)][0] for i in range(batch_size)]
                frames = [read_frame(path, self.setting.bench.resolution) for path in filled]
                maps = unit_features(network, to_input(frames, self.size).to(self.setting.device))
                for i, (_, name) in enumerate(batch):
                    image = [layer[i : i + 1] for layer in maps]
                    if name is None:  # its outputs may go on in the next batch
                        query = [layer.clone() for layer in image]
                    else:
                        fresh[name] = distance(network, query, image)[0]
                if fresh:
                    store.save(fresh)
                values.update(fresh)
                bar.update(len(batch))
        return {key: float(value) for key, value in values.items()}


def _by_query(pairs: Mapping[str, Pair]) -> list[tuple[Path, str | None]]:
    """The images to see, each query (with None) before its outputs (with their pair's key): it serves them all."""
    groups: dict[str, list[tuple[Path, str | None]]] = {}
    for key, (query, output) in pairs.items():
        groups.setdefault(image_key(query), [(query, None)]).append((output, key))
    return [image for group in groups.values() for image in group]
