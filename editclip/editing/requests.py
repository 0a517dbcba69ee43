"""From a benchmark to the requests of one method: which exemplar each sample is fed, with which inputs and noise.

Each request and exemplar has a content key, made of the bytes and texts the method is given; the finished images are
cached under it. A method that sees no exemplar is asked the same for every exemplar that a query meets: those samples
share request, noise and key, and so one edit.
"""

import functools
import itertools
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from editclip.data.bench import Bench, Sample
from editclip.editing import EditRequest, Exemplar, noise_seed
from editclip.editing.cards import Method
from editclip.errors import InputError
from editclip.storage import digest, file_digest

if TYPE_CHECKING:
    import torch

TEXTS = ("instruction", "instructions", "caption_before", "caption_after")  # that a sample may have


def shuffled_exemplars(types: Mapping[str, tuple[str, str]], seed: int) -> dict[str, str]:
    """A seeded permutation of exemplars in which none is replaced by one of its own edit type.

    Grouped by type and shifted by the size of the largest type, no exemplar meets its own type; random swaps that keep
    it so then mix the types. Where one type has more than half of the exemplars there is no such permutation: the
    others' exemplars then stand in for its own several times, as evenly as can be, and its own for the others' once.

    Args:
        types: (group, edit type) by exemplar_id.
        seed: of the permutation.

    Returns:
        exemplar_id fed, by exemplar_id.

    Raises:
        InputError: there is one type only.
    """
    order = sorted(types, key=lambda e: (types[e], e))
    size = Counter(types.values())
    largest = max(size, key=lambda t: (size[t], t))
    if len(size) == 1:
        raise InputError(
            f"exemplars cannot be shuffled between edit types: {'/'.join(largest)} has all {len(order)} of them; "
            "add exemplars of other types or take `shuffled` methods out of the config"
        )
    draw = random.Random(seed)
    if 2 * size[largest] > len(order):
        own, others = ([e for e in order if (types[e] == largest) == wanted] for wanted in (True, False))
        draw.shuffle(own)
        draw.shuffle(others)
        return {**dict(zip(own, itertools.cycle(others), strict=False)), **dict(zip(others, own, strict=False))}
    fed = order[size[largest] :] + order[: size[largest]]
    for _ in range(20 * len(order)):
        i, j = draw.randrange(len(order)), draw.randrange(len(order))
        if types[order[i]] != types[fed[j]] and types[order[j]] != types[fed[i]]:
            fed[i], fed[j] = fed[j], fed[i]
    return dict(zip(order, fed, strict=True))


class Requests:
    """The requests of one method on one benchmark.

    Attributes:
        fed: the exemplar_id that stands in for each exemplar_id; the identity unless the method is shuffled.
        asked_as: the sample whose exemplar and noise each sample_id has: itself, or for a method that sees no exemplar
            the query's first by sample_id.
    """

    def __init__(self, bench: Bench, method: Method, base_seed: int) -> None:
        self._bench, self._method, self._base_seed = bench, method, base_seed
        self._shown: dict[str, Sample] = {}  # an exemplar's first sample: it has its images and an instruction
        first: dict[str, Sample] = {}  # a query's
        for sample in sorted(bench.samples, key=lambda s: s.sample_id):
            self._shown.setdefault(sample.exemplar_id, sample)
            first.setdefault(sample.query_id, sample)
        alone = "exemplar" not in method.card.needs
        self.asked_as = {s.sample_id: first[s.query_id] if alone else s for s in bench.samples}
        self.fed = {exemplar_id: exemplar_id for exemplar_id in self._shown}
        if method.shuffled:
            types = {e: (s.group, s.edit_type) for e, s in self._shown.items()}
            self.fed = shuffled_exemplars(types, noise_seed(base_seed, bench.name, "shuffled exemplars"))
        self._image = functools.lru_cache(maxsize=256)(bench.image)
        self._digest = functools.cache(lambda relative: file_digest(bench.path(relative)))

    def _given(self, sample: Sample, name: str) -> Any:
        """The manifest entry `name`, or None when the method's card does not ask for it."""
        return getattr(sample, name) if name in self._method.card.needs else None

    def missing(self, sample: Sample) -> str:
        """Why the method cannot be asked for this sample, or ""."""
        needs = (name for name in self._method.card.needs if name != "exemplar")
        return ", ".join(f"no {name.replace('_', ' ')}" for name in needs if getattr(sample, name) is None)

    def exemplar(self, exemplar_id: str) -> Exemplar:
        """The exemplar itself (not what is fed in its place)."""
        seed = noise_seed(self._base_seed, self._bench.name, exemplar_id)
        if "exemplar" not in self._method.card.needs:
            return Exemplar(exemplar_id, (), None, seed)
        shown = self._shown[exemplar_id]
        pair = (self._image(shown.exemplar_before), self._image(shown.exemplar_after))
        return Exemplar(exemplar_id, (pair,), self._given(shown, "instruction"), seed)

    def exemplar_key(self, exemplar_id: str) -> str:
        """Digest of all that `exemplar` returns."""
        content: list[str] = []
        if "exemplar" in self._method.card.needs:
            shown = self._shown[exemplar_id]
            content = [self._digest(shown.exemplar_before), self._digest(shown.exemplar_after)]
            content.append(self._given(shown, "instruction"))
        return digest(content, self._base_seed, self._bench.name, exemplar_id)

    def noise_seed(self, sample: Sample, seed: int | None) -> int:
        """Seed of an image's noise, or with None of its plan, which serves all repetitions.

        The method is left out, so that comparisons between methods are paired.
        """
        name = self.asked_as[sample.sample_id].sample_id
        return noise_seed(self._base_seed, self._bench.name, name, "plan" if seed is None else seed)

    def request(
        self,
        sample: Sample,
        prepared: "Mapping[str, torch.Tensor]",
        seed: int | None,
        planned: "Mapping[str, torch.Tensor]" = MappingProxyType({}),
    ) -> EditRequest:
        """What the method is asked for `sample`: to edit it in repetition `seed`, or with None to plan it."""
        truth = self._given(sample, "ground_truth")
        return EditRequest(
            query=self._image(sample.query),
            exemplar=self.exemplar(self.fed[self.asked_as[sample.sample_id].exemplar_id]),
            prepared=prepared,
            instruction=self._given(sample, "instruction"),
            caption_before=self._given(sample, "caption_before"),
            caption_after=self._given(sample, "caption_after"),
            ground_truth=None if truth is None else self._image(truth),
            seed=self.noise_seed(sample, seed),
            planned=planned,
            instructions=self._given(sample, "instructions"),
        )

    def key(self, sample: Sample, tensors: Sequence[str], seed: int | None) -> str:
        """Digest of all that `request` returns, given the digests of the tensors prepared and planned."""
        texts = [self._given(sample, name) for name in TEXTS]
        truth = self._given(sample, "ground_truth")
        images = [self._digest(sample.query), None if truth is None else self._digest(truth)]
        exemplar = self.exemplar_key(self.fed[self.asked_as[sample.sample_id].exemplar_id])
        return digest(images, texts, exemplar, list(tensors), self.noise_seed(sample, seed))
