"""Recipes are whole, typed and checked; a wrong one is one sentence."""

from pathlib import Path

import pytest
import training_toys as toys

from editclip.config.section import checked
from editclip.errors import InputError
from editclip.recipes import kinds
from editclip.recipes.kinds import kind_names, read_kind
from editclip.recipes.recipe import GradientRecipe
from editclip.recipes.vae import VAERecipe
from editclip.training.job import build


def test_values_arrive_with_their_types() -> None:
    recipe = checked(VAERecipe, {**toys.VAE, "learning_rate": 1, "epsilon": "1e-8", "max_grad_norm": None})
    assert recipe.learning_rate == 1.0 and isinstance(recipe.learning_rate, float)
    assert recipe.epsilon == 1e-8  # YAML 1.1 reads 1e-8 as text
    assert recipe.betas == (0.9, 0.999)
    assert recipe.max_grad_norm is None


@pytest.mark.parametrize("name", kind_names())
def test_a_kind_has_a_complete_card_and_a_recipe_without_defaults(name: str) -> None:
    kind = read_kind(name)
    assert kind.training and kind.recipe and kind.loss
    assert all(field.is_required() and field.description for field in kind.recipe.model_fields.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rat": 1.0}, r'weights.x.recipe.learning_rat \(did you mean "learning_rate"\?\); allowed: steps, '),
        ({"steps": "many"}, r"weights.x.recipe.steps: 'many': should be a valid integer"),
        ({"steps": True}, r"steps: True"),
        ({"steps": -5}, r"steps: -5"),
        ({"learning_rate": float("nan")}, r"learning_rate: nan: should be a finite number"),
        ({"schedule": "linear"}, r"schedule: 'linear' is not allowed.*constant, cosine"),
        ({"betas": [0.9]}, r"recipe.betas"),
        ({"betas": [0.9, 2]}, r"recipe.betas\[1\]: 2"),
    ],
)
def test_wrong_values_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        checked(GradientRecipe, {**toys.TRAINING, **change}, "weights.x.recipe")


def test_missing_keys_are_named() -> None:
    values = {key: value for key, value in toys.TRAINING.items() if key != "precision"}
    with pytest.raises(InputError, match="config key weights.x.recipe.precision is missing"):
        checked(GradientRecipe, values, "weights.x.recipe")


def test_a_method_may_bring_several_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in ("b/recipe.py", "a/renderer_recipe.py", "a/recipe.py", "a/recipes.py", "a/method.py", "recipe.py"):
        (tmp_path / "baselines" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "baselines" / file).touch()
    monkeypatch.setattr(kinds, "ROOT", tmp_path)
    assert kind_names() == ["baselines.a.recipe", "baselines.a.renderer_recipe", "baselines.b.recipe"]


def test_unknown_kinds_are_named() -> None:
    with pytest.raises(InputError, match='no kind of weights .*did you mean "editclip.recipes.clip"'):
        read_kind("editclip.recipes.clipp")


def test_build_refuses_what_the_class_does_not_take_or_what_is_fixed() -> None:
    def make(width: int, depth: int) -> int:
        return width * depth

    assert build(make, {"width": 3}, depth=2) == 6
    with pytest.raises(InputError, match='no key .widht. here .did you mean "width".*its keys: width$'):
        build(make, {"widht": 3}, depth=2)
    with pytest.raises(InputError, match="no key 'depth'"):
        build(make, {"width": 3, "depth": 1}, depth=2)
