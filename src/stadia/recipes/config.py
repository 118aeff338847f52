"""Configuration that every recipe shares. Imports no torch."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

from pydantic import Field

from stadia.core.config import StrictModel
from stadia.training.config import OptimizerConfig, ScheduleConfig, TrainingConfig


class RecipeConfig(StrictModel):
    """Configuration of a recipe; a subclass adds data, model and loss.

    recipe: name of the recipe in the table.
    name: name of the run and of its folder.
    seed: seed of all random numbers.
    start_from: checkpoint (or a run's folder: its best checkpoint) whose weights initialize the training. It is of this
        recipe; metric also accepts selfsup. Optimizer and schedule start anew.
    yardstick: keys, or groups of keys, that change how a network is scored: validation images, labels and size.
        A study whose change sets one of them adds a note.
    validation: names of the scores that validation may log as `val/NAME` (* and ? are wildcards). A study refuses a
        misspelt metric before anything is trained. Empty: not listed.
    """

    yardstick: ClassVar[tuple[str, ...]] = ("data.path", "data.height", "data.width")
    validation: ClassVar[tuple[str, ...]] = ()
    recipe: str
    name: str = Field(default="run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = Field(default=0, ge=0)
    start_from: str | None = None
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    training: TrainingConfig = TrainingConfig()


_M = TypeVar("_M", bound=StrictModel)


def without_pretrained(config: _M) -> _M:
    """Return the configuration with every `pretrained` set to false: loaded weights replace them."""
    changes: dict[str, Any] = {
        name: without_pretrained(group) for name, group in config if isinstance(group, StrictModel)
    }
    if "pretrained" in type(config).model_fields:
        changes["pretrained"] = False
    return config.model_copy(update=changes)
