"""What the configuration of every recipe holds. Imports no torch."""

from __future__ import annotations

from pydantic import Field

from stadia.core.config import StrictModel
from stadia.training.config import OptimiserConfig, ScheduleConfig, TrainingConfig


class RecipeConfig(StrictModel):
    """A recipe's configuration; a recipe adds its data, model and loss.

    recipe: its name in the table.
    name: of the run's folder.
    seed: of everything random.
    """

    recipe: str
    name: str = Field(default="run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = Field(default=0, ge=0)
    optimiser: OptimiserConfig = OptimiserConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    training: TrainingConfig = TrainingConfig()
