"""Load the loss that a configuration names: of the table `LOSSES`, or a class of the user's own."""

from __future__ import annotations

from typing import TypeVar

from stadia.core.errors import ConfigError
from stadia.losses import LOSSES

LossT = TypeVar("LossT")


def load_loss(name: str, base: type[LossT]) -> type[LossT]:
    """Return the class of a loss. It is called with the recipe's configuration `loss`.

    Args:
        name: of `stadia list losses`, an entry point of the group stadia.losses, or module:Class.
        base: the recipe's own loss, from which every other derives: the loss checks and the monitors rely on its terms.

    Raises ConfigError for another class, before images are decoded.
    """
    loss: object = LOSSES.load(name)
    if isinstance(loss, type) and issubclass(loss, base):
        return loss
    expected = f"{base.__name__} or a class that derives from it"
    fix = "docs/tutorials/train-with-your-loss.md has an example"
    raise ConfigError("loss.name", found=f"'{name}', which is none", expected=expected, fix=fix)
