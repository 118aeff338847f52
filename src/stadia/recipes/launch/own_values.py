"""Numbers of a user's recipe class and of its losses, for run.json: `stadia compare` lists those that differ."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any

from stadia.training.recipe import AnyRecipe

MAX_VALUES, MAX_TEXT = 100, 80
"""Values that are kept, and characters of a text."""

_LIBRARIES = {"stadia", "torch", "timm", "numpy", "builtins", *sys.stdlib_module_names}
_OF_MODULE = {"recipe", "training", "started_from", "start_steps", "plan", "optimizer", "global_step", "rank"}
"""Attributes of every recipe and module, also those that a training sets."""


def list_own_values(recipe: AnyRecipe, base: AnyRecipe) -> dict[str, bool | float | str]:
    """Return values by name: constants of the module, class attributes, and attributes that the constructor sets.

    Objects of the user's classes, and dataclasses, are listed by their own attributes: `loss.weight`. Constants of a
    module have names in capitals. Only numbers, flags and short texts are kept (of modules numbers alone).

    recipe: of the user's class.  base: the recipe from which it derives, whose attributes are left out.
    """
    own = [one for one in type(recipe).__mro__ if not isinstance(base, one) and not _is_library(one)]
    found: dict[str, bool | float | str] = {}
    for module in dict.fromkeys(one.__module__ for one in reversed(own)):
        loaded = vars(sys.modules[module]) if module in sys.modules else {}  # none where text was executed
        constants = {name: value for name, value in loaded.items() if name.isupper()}
        found |= {name: value for name, value in _list_values(constants) if not isinstance(value, str)}
    for one in reversed(own):
        found |= dict(_list_values(vars(one)))
    of_base, of_own = (dict(_list_values({**vars(one), **dict(one.named_children())})) for one in (base, recipe))
    found |= {name: value for name, value in of_own.items() if name not in of_base or value != of_base[name]}
    return dict(list(found.items())[:MAX_VALUES])


def _list_values(attributes: Mapping[str, Any]) -> Iterator[tuple[str, bool | float | str]]:
    """Yield values by name, of objects of the user by the names of both."""
    for name, value in attributes.items():
        if name.startswith("_") or name in _OF_MODULE:
            continue
        if _is_value(value):
            yield name, value
        elif _has_own_values(value):
            for inner, one in vars(value).items():
                if not inner.startswith("_") and inner not in _OF_MODULE and _is_value(one):
                    yield f"{name}.{inner}", one


def _has_own_values(value: object) -> bool:
    """Return whether a value is a dataclass, or an object of a class of the user."""
    if isinstance(value, type) or not hasattr(value, "__dict__"):
        return False
    return is_dataclass(value) or not _is_library(type(value))


def _is_value(value: object) -> bool:
    """Return whether a value is a flag, a finite number or a short text, which JSON has."""
    if isinstance(value, str):
        return len(value) <= MAX_TEXT
    return isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value))


def _is_library(one: type) -> bool:
    return one.__module__ != "__main__" and one.__module__.partition(".")[0] in _LIBRARIES
