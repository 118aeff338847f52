"""Configuration of the rotation loss. Imports no torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from stadia.core.config import StrictModel, row_of
from stadia.losses import ROTATION_LOSSES


class RotationLossConfig(StrictModel):
    """The loss between predicted and true quaternion.

    name: see `stadia parts rotation-losses`.
    norm_penalty: weight of (|q| - 1)^2.
    """

    name: Annotated[str, AfterValidator(row_of(ROTATION_LOSSES))] = "bounded_log"
    norm_penalty: float = Field(default=0.1, ge=0)
