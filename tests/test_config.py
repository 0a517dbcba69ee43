"""A wrong config key or value is one sentence: key, value, what is allowed, nearest match."""

import copy
import dataclasses
import functools
import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from editclip.config import check_weights, checked_config
from editclip.errors import InputError

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = ROOT / "workflow" / "schemas" / "config.schema.yaml"
CONFIGS = sorted((ROOT / "config").glob("*.yaml"))


@functools.cache
def parsed(name: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((ROOT / "config" / name).read_text())
    return config


def loaded(name: str) -> dict[str, Any]:
    return copy.deepcopy(parsed(name))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_shipped_config_is_complete(path: Path) -> None:
    config = loaded(path.name)
    assert checked_config(config, SCHEMA) == config


def keys(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [p for k, v in value.items() for p in [(*place, k), *keys(v, (*place, k))]]
    if isinstance(value, list):
        return [p for i, v in enumerate(value) for p in keys(v, (*place, i))]
    return []


def at(config: Any, place: tuple[Any, ...]) -> Any:
    for part in place:
        config = config[part]
    return config


FREE = {"options", "model"}  # a method's options are checked against its card; a VAE takes its class's arguments


@pytest.mark.parametrize("place", [k for k in keys(loaded("micro.yaml")) if not FREE & set(k[:-1])], ids=str)
def test_a_missing_or_misspelt_key_is_named(place: tuple[Any, ...]) -> None:
    config = loaded("micro.yaml")
    value = at(config, place[:-1]).pop(place[-1])
    with pytest.raises(InputError, match=str(place[-1])) as missing:
        checked_config(config, SCHEMA)
    assert "missing" in str(missing.value) and "\n" not in str(missing.value)
    wrong = copy.deepcopy(config)
    at(wrong, place[:-1])[f"{place[-1]}x"] = value
    at(wrong, place[:-1])[place[-1]] = value
    with pytest.raises(InputError, match=f"{place[-1]}x") as unknown:
        checked_config(wrong, SCHEMA)
    assert f'did you mean "{place[-1]}"' in str(unknown.value)


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        (("bench", "source"), "wrld", ["bench.source", "'wrld'", 'did you mean "world"', "path"]),
        (("run", "seeds"), 3, ["run.seeds", "3", "array"]),
        (("run", "seed"), -1, ["run.seed", "-1"]),
        (("metrics", "lpips", "trunk"), "imagnet", ["metrics.lpips.trunk", 'did you mean "imagenet"']),
        (("methods", 0, "exemplars"), "shufled", ["methods[0].exemplars", 'did you mean "shuffled"']),
        (("methods", 0, "batch_size"), 0, ["methods[0].batch_size", "0"]),
        (("methods", 0, "name"), "..", ["methods[0].name", ".."]),
        (("weights", "clip", "recipe", "steps"), -5, ["weights.clip.recipe.steps", "-5"]),
        (("weights", "ip2p", "recipe", "condition_dropout"), 5, ["weights.ip2p.recipe.condition_dropout", "5"]),
        (("weights", "vae", "recipe", "log_every"), 0, ["weights.vae.recipe.log_every", "0"]),
        (("weights", "clip", "source"), "trian", ["weights.clip.source", 'did you mean "train"']),
    ],
)
def test_a_wrong_value_says_what_is_allowed(place: tuple[Any, ...], value: Any, expected: list[str]) -> None:
    config = loaded("micro.yaml")
    at(config, place[:-1])[place[-1]] = value
    with pytest.raises(InputError) as refused:
        checked_config(config, SCHEMA)
    assert all(part in str(refused.value) for part in expected), str(refused.value)


def test_two_methods_of_one_name_are_refused() -> None:
    config = loaded("micro.yaml")
    config["methods"].append(config["methods"][0])
    with pytest.raises(InputError, match="ip2p.*2 times"):
        checked_config(config, SCHEMA)


RECIPES = {
    "clip": ("clip", "CLIPRecipe"),
    "vae": ("vae", "VAERecipe"),
    "text_to_image": ("text_to_image", "TextToImageRecipe"),
    "ip2p": ("ip2p", "IP2PRecipe"),
    "editclip": ("contrastive", "ContrastiveRecipe"),
    "editclip_ip2p": ("exemplar_diffusion", "ExemplarDiffusionRecipe"),
}


@pytest.mark.parametrize("name", RECIPES)
def test_the_schema_knows_the_keys_of_each_recipe(name: str) -> None:
    module, kind = RECIPES[name]
    fields = {f.name for f in dataclasses.fields(getattr(importlib.import_module(f"editclip.training.{module}"), kind))}
    schema = yaml.safe_load(SCHEMA.read_text())
    recipe = schema["properties"]["weights"]["properties"][name]["properties"]["recipe"]
    assert set(recipe["properties"]) == set(recipe["required"]) == fields


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"source": "none"}, "declares as none"),
        ({"source": "path", "path": "nowhere", "sha256": None}, "nowhere is not a folder"),
        ({"source": "hub", "repo": "a/b", "revision": None, "sha256": None}, "pin a/b to a 40-character commit"),
    ],
)
def test_weights_that_cannot_be_had_stop_before_any_job(source: dict[str, Any], expected: str) -> None:
    config = loaded("micro.yaml")
    config["weights"]["ip2p"] = source
    check_weights(config, {"method other": ["editclip"]})
    with pytest.raises(InputError, match=expected):
        check_weights(config, {"method ip2p": ["ip2p"]})
    config["run"]["allow_unpinned"] = True
    if source["source"] == "hub":
        check_weights(config, {"method ip2p": ["ip2p"]})


def test_weights_that_the_config_does_not_name_are_refused() -> None:
    with pytest.raises(InputError, match='method x needs the weights "editclp" .*did you mean "editclip"'):
        check_weights(loaded("micro.yaml"), {"method x": ["editclp"]})
