"""Configuration of `stadia camera-height`. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from stadia.core.config import StrictModel, resolve_config
from stadia.datasets.masks.height_priors import PRIORS, HeightPrior, Priors, normalize_class
from stadia.recipes.prediction.requests import FormatOptions

Degrees = Annotated[float, Field(gt=-45, lt=45)]


class CameraHeightConfig(StrictModel):
    """How to estimate the camera height from objects.

    data: how to open the source, as in a training.
    masks: a folder of `stadia prepare --masks`, if there are no masks beside the images.
    objects: classes that stand on the road; empty = all with a prior. People stand on kerbs.
    priors: heights of the classes: "mixed", "kitti", "roadworld" (`datasets.masks.height_priors`), or your own.
    horizon: "edges" = vanishing point of straight edges in each image; "travel" = direction of travel of a drive;
        "auto" = both, else "objects"; "objects" = fitted to all objects, which needs near and far objects and a fixed
        camera; "given" = `pitch_deg`, `roll_deg`. All but "objects" are corrected by objects within `horizon_deg`.
    pitch_deg, roll_deg: how far the camera points up from the road, and how far its right side is lower.
    horizon_deg: minimum standard deviation of a horizon, degrees; a car pitches by 0.3.
    tolerance: maximum |ln| of an object's camera height over the estimate for an accepted object.
    border_px: minimum distance of an object from the image border.
    min_px: minimum height of an object in the image.
    """

    data: FormatOptions = FormatOptions()
    masks: str | None = None
    objects: tuple[str, ...] = ("car",)
    priors: Priors = "mixed"
    horizon: Literal["auto", "edges", "travel", "objects", "given"] = "auto"
    pitch_deg: Degrees = 0.0
    roll_deg: Degrees = 0.0
    horizon_deg: float = Field(default=0.3, gt=0, le=5)
    tolerance: float = Field(default=0.2, gt=0, le=1)
    border_px: float = Field(default=5.0, ge=0)
    min_px: float = Field(default=20.0, ge=2)

    @model_validator(mode="after")
    def _check_horizon(self) -> Self:
        if self.roll_deg and self.horizon == "objects":
            raise ValueError("the objects' horizon estimates roll_deg; add horizon=given to set it")
        if self.pitch_deg and self.horizon != "given":
            raise ValueError(f"horizon={self.horizon} estimates pitch_deg; add horizon=given to set it")
        return self

    @property
    def height_priors(self) -> Mapping[str, HeightPrior]:
        """Return the priors of the requested classes, by class name."""
        every = PRIORS[self.priors] if isinstance(self.priors, str) else self.priors
        return {
            name: prior for name, prior in every.items() if not self.objects or normalize_class(name) in self.classes
        }

    @property
    def classes(self) -> Sequence[str]:
        """Return the requested classes by the names of the priors; empty = all with a prior."""
        return tuple(normalize_class(name) for name in self.objects)


@dataclass(frozen=True, kw_only=True)
class CameraHeightRequest:
    """`stadia camera-height SOURCE`.

    every: each n-th frame.
    out: folder for the result and its images; None writes nothing.
    """

    source: Path
    config: CameraHeightConfig
    every: int = 1
    out: Path | None = None


def parse_camera_height_config(overrides: Sequence[str]) -> CameraHeightConfig:
    """Return the configuration of `key=value` options. Raises ConfigError with every mistake at once."""
    return resolve_config(CameraHeightConfig, {}, overrides)
