"""What `stadia camera-height` may be told. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from stadia.core.config import StrictModel, resolve
from stadia.data.config import SourceOptions
from stadia.data.height_priors import PRIORS, HeightPrior, Priors, same_class

Degrees = Annotated[float, Field(gt=-45, lt=45)]


class _Data(SourceOptions):
    """`SourceOptions` and the format."""

    format: str = "auto"


class CameraHeightConfig(StrictModel):
    """How the camera's height is estimated from objects.

    data: how the source is opened, as of a training.
    masks: a folder of `stadia prepare --masks`, where the source has none beside its images.
    objects: classes that are believed to stand on the road; empty = all that have a prior. People stand on kerbs.
    priors: heights of the classes: "mixed", "kitti", "roadworld" (`data.height_priors`), or your own by class.
    horizon: "edges" finds in each image where the straight edges along the road meet; "travel" in a drive what it
        travels to; "auto" both, and where neither is seen "objects", which fits one to all objects together: that needs
        them near and far and a camera that looks one way; "given" is that of `pitch_deg` and `roll_deg`. All but
        "objects" are shifted as far as objects and `horizon_deg` say.
    pitch_deg, roll_deg: how far the camera looks up from the road, and how far its right side is lower.
    horizon_deg: how wrong a horizon may be at least, one standard deviation, degrees; a car nods by 0.3.
    tolerance: largest |ln| of what an object says over what all say, to be believed.
    border_px: an object that comes so near to the image's edge is left out.
    least_px: an object that is lower in the image is left out.
    """

    data: _Data = _Data()
    masks: str | None = None
    objects: tuple[str, ...] = ("car",)
    priors: Priors = "mixed"
    horizon: Literal["auto", "edges", "travel", "objects", "given"] = "auto"
    pitch_deg: Degrees = 0.0
    roll_deg: Degrees = 0.0
    horizon_deg: float = Field(default=0.3, gt=0, le=5)
    tolerance: float = Field(default=0.2, gt=0, le=1)
    border_px: float = Field(default=5.0, ge=0)
    least_px: float = Field(default=20.0, ge=2)

    @model_validator(mode="after")
    def _asked(self) -> Self:
        if self.roll_deg and self.horizon == "objects":
            raise ValueError("roll_deg is what the objects' horizon finds out; add horizon=given to give it")
        if self.pitch_deg and self.horizon != "given":
            raise ValueError(f"pitch_deg is what horizon={self.horizon} finds out; add horizon=given to give it")
        return self

    @property
    def height_priors(self) -> Mapping[str, HeightPrior]:
        """Of the classes asked for, by class name."""
        every = PRIORS[self.priors] if isinstance(self.priors, str) else self.priors
        return {name: prior for name, prior in every.items() if not self.objects or same_class(name) in self.classes}

    @property
    def classes(self) -> Sequence[str]:
        """Those asked for, by the names that priors have for them; empty = all that have one."""
        return tuple(same_class(name) for name in self.objects)


@dataclass(frozen=True)
class CameraHeightAsked:
    """`stadia camera-height SOURCE`.

    every: each n-th frame.  out: a folder for the result and its images; None writes nothing.
    """

    source: Path
    config: CameraHeightConfig
    every: int = 1
    out: Path | None = None


def camera_height_config(overrides: Sequence[str]) -> CameraHeightConfig:
    """Of `key=value` words. Raises ConfigError with every mistake at once."""
    return resolve(CameraHeightConfig, {}, overrides)
