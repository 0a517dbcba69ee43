"""Which exemplar, which inputs and which noise each sample gets."""

import dataclasses
from collections import Counter
from pathlib import Path

import pytest
from editing_toys import entry, write_bench

from editclip.data.bench import Bench
from editclip.editing.cards import parse_method
from editclip.editing.requests import Requests, shuffled_exemplars
from editclip.errors import InputError


@pytest.mark.parametrize("sizes", [(1, 1), (4,) * 12, (5, 3, 2), (2, 1, 1), (7, 4, 2, 1)])
@pytest.mark.parametrize("seed", range(5))
def test_shuffled_is_a_permutation_that_never_keeps_the_type(sizes: tuple[int, ...], seed: int) -> None:
    types = {f"{kind}-{i}": ("g", f"t{kind}") for kind, size in enumerate(sizes) for i in range(size)}
    fed = shuffled_exemplars(types, seed)
    assert sorted(fed) == sorted(fed.values()) == sorted(types)
    assert all(types[own] != types[other] for own, other in fed.items())
    assert fed == shuffled_exemplars(dict(reversed(types.items())), seed)


def test_shuffled_mixes_types_and_depends_on_the_seed() -> None:
    types = {f"{kind}-{i}": ("g", f"t{kind}") for kind in range(6) for i in range(4)}
    fed = shuffled_exemplars(types, 0)
    assert fed != shuffled_exemplars(types, 1)
    sources = {kind: {types[fed[e]] for e in types if types[e] == ("g", f"t{kind}")} for kind in range(6)}
    assert max(len(source) for source in sources.values()) > 1  # not one type in place of one type


def test_types_of_the_same_name_in_two_groups_are_different() -> None:
    fed = shuffled_exemplars({"a": ("animals", "red"), "b": ("cars", "red")}, 0)
    assert fed == {"a": "b", "b": "a"}


@pytest.mark.parametrize("sizes", [(8, 7), (7, 2, 1), (5, 1)])
def test_shuffled_repeats_the_others_evenly_where_one_type_is_the_majority(sizes: tuple[int, ...]) -> None:
    types = {f"{kind}-{i}": ("g", f"t{kind}") for kind, size in enumerate(sizes) for i in range(size)}
    fed = shuffled_exemplars(types, 0)
    assert sorted(fed) == sorted(types)
    assert all(types[own] != types[other] for own, other in fed.items())
    times = Counter(fed.values())
    others = [times[e] for e in types if types[e] != ("g", "t0")]
    assert sum(others) == sizes[0] and max(others) - min(others) <= 1
    assert all(times[e] <= 1 for e in types if types[e] == ("g", "t0"))
    assert fed == shuffled_exemplars(dict(reversed(types.items())), 0)


def test_shuffled_needs_two_types(tmp_path: Path) -> None:
    bench = write_bench(tmp_path / "bench", {"red": 3})
    with pytest.raises(InputError, match="g/red has all 3 of them"):
        Requests(bench, parse_method(entry("editclip.method", exemplars="shuffled")), 0)


def test_a_method_is_given_only_what_its_card_needs(bench: Bench) -> None:
    text = Requests(bench, parse_method(entry("baselines.ip2p")), 0).request(bench.samples[0], {}, 0)
    assert text.instruction == "make it red" and text.exemplar.pairs == ()
    assert (text.ground_truth, text.caption_after, text.caption_before) == (None, None, None)
    with pytest.raises(InputError, match="no ground_truth; list 'ground_truth' in the card's NEEDS"):
        text.require("ground_truth")
    shown = Requests(bench, parse_method(entry("editclip.method")), 0).request(bench.samples[0], {}, 0)
    assert shown.instruction is None and shown.exemplar.instruction is None
    assert shown.exemplar.after.tobytes() == bench.image(bench.samples[0].exemplar_after).tobytes()


def test_a_method_may_be_told_the_parts_of_an_edit_one_by_one(tmp_path: Path) -> None:
    bench = write_bench(tmp_path / "bench")
    parts = dataclasses.replace(bench.samples[0], instructions=("make it red", "make it night"))
    bench = dataclasses.replace(bench, samples=(parts, *bench.samples[1:]))
    turns, plain = (Requests(bench, parse_method(entry(f"baselines.{n}")), 0) for n in ("ip2p_turn_by_turn", "ip2p"))
    told = [turns.request(sample, {}, 0) for sample in bench.samples]
    assert [r.instructions for r in told[:2]] == [("make it red", "make it night"), ("make it red",)]
    assert all(r.instruction is None for r in told) and plain.request(parts, {}, 0).instructions is None
    other = dataclasses.replace(parts, instructions=("make it red",))
    assert turns.key(parts, [], 0) != turns.key(other, [], 0) and plain.key(parts, [], 0) == plain.key(other, [], 0)
    assert turns.missing(dataclasses.replace(parts, instructions=None)) == "no instructions"


def test_noise_is_shared_by_methods_and_differs_between_samples_and_seeds(bench: Bench) -> None:
    requests = [Requests(bench, parse_method(entry(name)), 7) for name in ("baselines.visii", "editclip.method")]
    seeds = [[r.request(s, {}, n).seed for s in bench.samples for n in range(3)] for r in requests]
    assert seeds[0] == seeds[1] and len(set(seeds[0])) == len(seeds[0])
    other = Requests(bench, parse_method(entry("baselines.visii")), 8)
    assert other.request(bench.samples[0], {}, 0).seed != seeds[0][0]


def test_a_method_without_exemplars_is_asked_once_a_query(bench: Bench) -> None:
    text, shown = (Requests(bench, parse_method(entry(n)), 7) for n in ("baselines.ip2p", "editclip.method"))
    asked: dict[str, set[tuple[object, ...]]] = {}
    for sample in bench.samples:
        for seed in (None, 0, 1):
            request = text.request(sample, {}, seed)
            given = (request.seed, request.exemplar.exemplar_id, request.exemplar.seed, text.key(sample, [], seed))
            asked.setdefault(f"{sample.query_id} {seed}", set()).add((request.query.tobytes(), *given))
    assert len(asked) == 6 * 3 and all(len(same) == 1 for same in asked.values())
    assert len(set.union(*asked.values())) == len(asked)
    # The query's first sample by its name has the noise that it has with every other method.
    for sample in bench.samples:
        own = shown.noise_seed(sample, 1)
        assert (text.noise_seed(sample, 1) == own) == sample.sample_id.split("-")[2].startswith("e0")


def test_with_one_exemplar_a_type_all_methods_have_the_same_noise(tmp_path: Path) -> None:
    bench = write_bench(tmp_path / "bench", {"red": 1, "snow": 1})
    text, shown = (Requests(bench, parse_method(entry(n)), 7) for n in ("baselines.ip2p", "editclip.method"))
    for sample in bench.samples:
        assert text.noise_seed(sample, 0) == shown.noise_seed(sample, 0)
        assert text.request(sample, {}, 0).exemplar.exemplar_id == sample.exemplar_id


def test_key_changes_with_each_input_and_only_with_inputs(tmp_path: Path) -> None:
    def keys(name: str, folder: str, **row: str) -> list[str]:
        bench = write_bench(tmp_path / folder, change=lambda index, r: r.update(row) if index == 0 else None)
        requests = Requests(bench, parse_method(entry(name)), 0)
        return [requests.key(sample, [], 0) for sample in bench.samples]

    plain = keys("baselines.ip2p", "plain")
    worded = keys("baselines.ip2p", "worded", instruction="let it snow")
    assert worded[0] != plain[0] and worded[1:] == plain[1:]
    assert keys("baselines.ip2p", "captioned", caption_after="snow") == plain  # not among its NEEDS
    assert keys("baselines.ip2p", "query", query="frames/snow-q0_0.png")[0] != plain[0]
    truth = keys("baselines.ground_truth", "truth")
    assert keys("baselines.ground_truth", "other", ground_truth="frames/snow-q0_1.png")[0] != truth[0]


def test_a_plan_has_a_seed_of_its_own_for_all_repetitions(bench: Bench) -> None:
    requests = Requests(bench, parse_method(entry("baselines.visii")), 0)
    seeds = [requests.request(sample, {}, seed).seed for sample in bench.samples for seed in (None, 0, 1)]
    assert len(set(seeds)) == len(seeds) == 3 * len(bench.samples)
    keys = [requests.key(bench.samples[0], tensors, seed) for tensors in ([], ["a"], ["b"]) for seed in (None, 0)]
    assert len(set(keys)) == len(keys)
