"""The configuration of every recipe: an unknown key is refused in every group, and every key is explained."""

import re

import pytest

from stadia.core.config import StrictModel, resolve_config
from stadia.core.errors import ConfigError
from stadia.training.recipes import CONFIGS


def groups(model_: type[StrictModel], prefix: str = "") -> list[tuple[str, type[StrictModel]]]:
    """(dotted prefix, class) of a configuration and of every group in it."""
    found = [(prefix, model_)]
    for name, field in model_.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, StrictModel):
            found += groups(field.annotation, f"{prefix}{name}.")
    return found


@pytest.mark.parametrize("recipe_", CONFIGS)
def test_unknown_key_is_refused_in_every_group(recipe_):
    config = CONFIGS.load(recipe_)
    for prefix, model_ in groups(config):
        key = next(iter(model_.model_fields))
        with pytest.raises(ConfigError) as refused:
            resolve_config(config, {"data": {"path": "x"}}, [f"{prefix}{key}x=1", f"{prefix}zzzzzz=2"])
        unknown = "found an unknown key; expected"
        assert f"{prefix}{key}x: {unknown} a key that exists. Fix: did you mean '{prefix}{key}'?" in str(refused.value)
        assert f"{prefix}zzzzzz: {unknown} one of " in str(refused.value)


@pytest.mark.parametrize("recipe_", CONFIGS)
def test_every_key_is_explained(recipe_):
    """In its class's docstring, or in that of the class that it was inherited from."""
    unexplained = []
    for prefix, model_ in groups(CONFIGS.load(recipe_)):
        text = " ".join(base.__doc__ or "" for base in model_.__mro__ if issubclass(base, StrictModel))
        named = [
            name
            for name, field in model_.model_fields.items()
            if not (isinstance(field.annotation, type) and issubclass(field.annotation, StrictModel))
        ]
        unexplained += [f"{prefix}{name}" for name in named if not re.search(rf"\b{name}\b", text)]
    assert unexplained == []
