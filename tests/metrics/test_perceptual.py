"""LPIPS against a sum written by hand over the trunk's features and the linear heads, and its family on files."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from metric_toys import photo, write_edits

from editclip.data.bench import Bench
from editclip.errors import InputError
from editclip.metrics.lpips import LPIPS
from editclip.metrics.perceptual import distance, load_network, network_digest, to_input, unit_features
from editclip.metrics.scores import Setting, read_edits

CONFIG = {"nets": ["alex"], "trunk": "random", "resolution": 64}


def by_hand(network: torch.nn.Module, first: torch.Tensor, second: torch.Tensor) -> float:
    """Zhang et al. 2018, eq. 1, for two 3×S×S images in [−1, 1], layer by layer in float64."""
    shift = torch.tensor([-0.030, -0.088, -0.188], dtype=torch.float64)[:, None, None]
    scale = torch.tensor([0.458, 0.448, 0.450], dtype=torch.float64)[:, None, None]
    maps = [(image.double() - shift) / scale for image in (first, second)]
    total = 0.0
    for number in range(5):
        for layer in getattr(network.net, f"slice{number + 1}"):
            maps = [layer.double()(m.clone()) for m in maps]
        left, right = (m / m.pow(2).sum(0, keepdim=True).sqrt().clamp_min(1e-10) for m in maps)
        weights = network.lins[number].model[1].weight.double().flatten()
        total += float(torch.einsum("c,chw->hw", weights, (left - right) ** 2).mean())
    return total


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_distance_equals_the_sum_by_hand(net: str) -> None:
    network = load_network(net, "random")
    batch = to_input([photo(1), photo(2), photo(3)], 64)
    with torch.inference_mode():
        maps = unit_features(network, batch)
        found = distance(network, [layer[:1] for layer in maps], [layer[1:] for layer in maps])
        package = network(batch[:1].expand(2, -1, -1, -1), batch[1:]).flatten()
        expected = [by_hand(network, batch[0], image) for image in batch[1:]]
    assert found.tolist() == pytest.approx(expected, abs=1e-5)
    assert found.tolist() == pytest.approx(package.tolist(), abs=1e-5)
    assert min(expected) > 1e-3 and abs(expected[0] - expected[1]) > 1e-4


def test_an_identical_output_has_distance_zero_and_company_changes_nothing(
    setting: Callable[..., Setting], bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = {sample.sample_id: bench.image(sample.query) for sample in bench.samples[:2]}
    folder = write_edits(tmp_path / "edits", bench, same) / "seed=0"
    edits = [(e.sample, e.path) for e in read_edits(folder, bench)]
    family = LPIPS(setting(CONFIG))
    together = [score["lpips_alex"].value for score in family.score(edits)]
    assert together[:2] == [0, 0] and min(together[2:]) > 1e-3
    for number, edit in enumerate(edits):
        monkeypatch.setenv("EDITCLIP_CACHE", str(tmp_path / f"cache of {number}"))
        assert family.score([edit])[0]["lpips_alex"].value == together[number]


def test_the_random_trunk_is_always_the_same_and_leaves_the_random_state_alone() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = load_network("alex", "random")
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    assert network_digest(load_network("alex", "random")) == network_digest(first)
    with torch.no_grad():
        first.lins[0].model[1].weight[0] += 1e-3
    assert network_digest(load_network("alex", "random")) != network_digest(first)


@pytest.mark.parametrize(
    "change, word",
    [
        ({"nets": ["resnet"]}, "resnet"),
        ({"trunk": "none"}, "none"),
        ({"resolution": 32}, "equal to 64"),
    ],
)
def test_a_wrong_setting_is_named(setting: Callable[..., Setting], change: dict, word: str) -> None:
    with pytest.raises(InputError, match=word):
        LPIPS(setting(CONFIG | change))


def test_the_family_measures_to_the_query_and_reuses_what_is_cached(
    setting: Callable[..., Setting], bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edits = [(e.sample, e.path) for e in read_edits(write_edits(tmp_path / "edits", bench) / "seed=0", bench)]
    family = LPIPS(setting(CONFIG))
    assert family.metrics == ("lpips_alex",)
    scores = family.score(edits)
    network = load_network("alex", "random")
    for index, ((sample, _), score) in enumerate(zip(edits, scores, strict=True)):
        batch = to_input([bench.image(sample.query), photo(100 + index)], 64)
        with torch.inference_mode():
            assert score["lpips_alex"].value == pytest.approx(by_hand(network, *batch), abs=1e-5)
    calls: list[int] = []
    monkeypatch.setattr(family.networks["alex"].net, "forward", lambda x: calls.append(len(x)))
    assert family.score(edits) == scores
    assert calls == []


def test_the_card_names_trunk_networks_and_size(setting: Callable[..., Setting]) -> None:
    card = LPIPS(setting(CONFIG)).card()["lpips"]
    assert card["trunk"] == "random_trunk" and card["reference"] == "query"
    assert card["resolution"] == 64 and card["networks"] == {"alex": network_digest(load_network("alex", "random"))}
