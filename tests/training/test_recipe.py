import dataclasses

import pytest
import training_toys as toys

from editclip.errors import InputError
from editclip.training.recipe import Recipe, build, read_recipe
from editclip.training.vae import VAERecipe


def test_values_arrive_with_their_types() -> None:
    recipe = read_recipe(VAERecipe, {**toys.VAE, "learning_rate": 1, "epsilon": "1e-8", "max_grad_norm": None})
    assert recipe.learning_rate == 1.0 and isinstance(recipe.learning_rate, float)
    assert recipe.epsilon == 1e-8  # YAML 1.1 reads 1e-8 as text
    assert recipe.betas == (0.9, 0.999)
    assert recipe.max_grad_norm is None


def test_a_recipe_has_no_defaults() -> None:
    fields = dataclasses.fields(VAERecipe)
    assert all(f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING for f in fields)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rat": 1.0}, r"no key 'learning_rat' \(did you mean \"learning_rate\"\?\); its keys: steps, "),
        ({"steps": "many"}, r"steps is 'many'; it must be of type int"),
        ({"steps": True}, r"steps is True"),
        ({"schedule": "linear"}, r"schedule is 'linear'.*'constant', 'cosine'"),
        ({"betas": [0.9]}, r"betas is \[0.9\]"),
    ],
)
def test_wrong_values_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_recipe(Recipe, {**toys.TRAINING, **change})


def test_missing_keys_are_named() -> None:
    values = {key: value for key, value in toys.TRAINING.items() if key not in ("steps", "precision")}
    with pytest.raises(InputError, match="lacks the keys steps, precision"):
        read_recipe(Recipe, values)


def test_build_refuses_what_the_class_does_not_take_or_what_is_fixed() -> None:
    def make(width: int, depth: int) -> int:
        return width * depth

    assert build(make, {"width": 3}, depth=2) == 6
    with pytest.raises(InputError, match='no key .widht. here .did you mean "width".*its keys: width$'):
        build(make, {"widht": 3}, depth=2)
    with pytest.raises(InputError, match="no key 'depth'"):
        build(make, {"width": 3, "depth": 1}, depth=2)
