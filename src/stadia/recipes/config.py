"""What the configuration of every recipe holds. Imports no torch."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

from pydantic import Field

from stadia.core.config import StrictModel
from stadia.training.config import OptimizerConfig, ScheduleConfig, TrainingConfig


class RecipeConfig(StrictModel):
    """A recipe's configuration; a recipe adds its data, model and loss.

    recipe: its name in the table.
    name: of the run's folder.
    seed: of everything random.
    start_from: a checkpoint (or a run's folder: its best) of this recipe (metric: or of selfsup), whose weights the
        training starts from; optimizer and schedule are new.
    yardstick: keys, or groups of them, by which the same network would score otherwise: which images and labels
        validation has, and how large. A study whose change sets one of them says so.
    validation: names of all scores that its validation may log as `val/NAME` (* and ? are wildcards), so that a study
        is refused a misspelt one before anything is trained; empty = not said.
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
    """The same with every `pretrained` of any group false: weights that are about to be loaded need none from a hub."""
    changes: dict[str, Any] = {
        name: without_pretrained(group) for name, group in config if isinstance(group, StrictModel)
    }
    if "pretrained" in type(config).model_fields:
        changes["pretrained"] = False
    return config.model_copy(update=changes)
