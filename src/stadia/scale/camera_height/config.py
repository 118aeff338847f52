"""Configuration of `stadia camera-height`. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from stadia.core.config import StrictModel, resolve_config
from stadia.core.errors import ConfigError
from stadia.data.config import FormatOptions, Share
from stadia.data.height_priors import PRIORS, HeightPrior, Priors, normalize_class

Degrees = Annotated[float, Field(gt=-45, lt=45)]


class CameraHeightConfig(StrictModel):
    """How to estimate the camera height over the road from objects of known height.

    data: how to open the source, as in a training.
    masks: a folder of `stadia masks`; null = next to the images.
    objects: classes of objects on the road; empty = all classes with a known height. People also walk on kerbs.
    priors: mean and spread of the heights of the classes: "mixed", "kitti", "roadworld", or your own.
    horizon: "edges" = vanishing point of straight edges of each image; "travel" = direction of travel; "auto" = both,
        else "objects"; "objects" = fitted to near and far objects of a fixed camera; "given" = `pitch_deg`, `roll_deg`.
    pitch_deg, roll_deg: how far the camera points up from the road, and how far its right side is lower.
    horizon_deg: smallest standard deviation of a horizon, degrees. Objects correct a horizon within it.
    tolerance: largest |ln| of the camera height by one object over the estimated height; others are not used.
    sample: number of objects in a sample of RANSAC, for horizon=objects.
    border_px: smallest distance of a used object from the image border.
    min_px: smallest height of a used object in the image.

    With a depth (`--checkpoint`, `--depth`), which needs no horizon:

    object_depth: one depth of an object's pixels: "nearest", first "quartile", "median" or "mean", with the height of
        its box; or "silhouette", its height along the road's normal, which noise makes larger.
    pool: how the heights by single frames become one: "median", "mean", "weighted" (weights: largest variance of a
        frame minus its own), "mode".
    min_objects: smallest number of objects that must agree in a used frame.
    grounded: leave out objects whose bottom or top does not fit the road.
    time_window: average the scale factors of neighboring frames with weights exp(-distance / window); 0 = each frame
        alone.
    road: the road as a rectangle [left, top, right, bottom] in shares of the image (VADepth); null = the road in the
        masks.
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
    sample: int = Field(default=3, ge=3, le=100)
    border_px: float = Field(default=5.0, ge=0)
    min_px: float = Field(default=20.0, ge=2)
    object_depth: Literal["silhouette", "nearest", "quartile", "median", "mean"] = "quartile"
    pool: Literal["median", "mean", "weighted", "mode"] = "median"
    min_objects: int = Field(default=1, ge=1)
    grounded: bool = True
    time_window: float = Field(default=0.0, ge=0, le=1000)
    road: tuple[Share, Share, Share, Share] | None = None

    @model_validator(mode="after")
    def _check_horizon(self) -> Self:
        if self.roll_deg and self.horizon == "objects":
            raise ValueError("horizon=objects estimates roll_deg. Add horizon=given to set it")
        if self.pitch_deg and self.horizon != "given":
            raise ValueError(f"horizon={self.horizon} estimates pitch_deg. Add horizon=given to set it")
        return self

    @field_validator("road")
    @classmethod
    def _check_road(cls, road: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if road is not None and not (road[0] < road[2] and road[1] < road[3]):
            raise ValueError("road needs left, top, right, bottom with left < right and top < bottom")
        return road

    @property
    def height_priors(self) -> Mapping[str, HeightPrior]:
        """Return the height priors (mean and spread of the heights) of the requested classes, by class name."""
        every = PRIORS[self.priors] if isinstance(self.priors, str) else self.priors
        return {
            name: prior for name, prior in every.items() if not self.objects or normalize_class(name) in self.classes
        }

    @property
    def classes(self) -> Sequence[str]:
        """Return the requested classes by the names that the priors use; empty for all classes with a prior."""
        return tuple(normalize_class(name) for name in self.objects)


@dataclass(frozen=True, kw_only=True)
class CameraHeightRequest:
    """The arguments of `stadia camera-height SOURCE`.

    source: the images with masks.
    config: how the height is estimated.
    every: take each n-th frame.
    out: folder for the result and its pictures; None writes none.
    checkpoint: a run, a checkpoint or a network whose depth is used; None without.
    depth: a folder of depth maps of any program; None without.
    depth_factor: for integer depth maps, their value per metre; None keeps their format's.
    labels: a new folder for the depth scaled to metres, as a dataset; None writes none.
    """

    source: Path
    config: CameraHeightConfig
    every: int = 1
    out: Path | None = None
    checkpoint: str | None = None
    depth: Path | None = None
    depth_factor: float | None = None
    labels: Path | None = None


GIVE_HORIZON = "use horizon=auto, or horizon=given pitch_deg=..."
DEPTH_KEYS = ("object_depth", "pool", "min_objects", "grounded", "time_window", "road")
"""Keys of the configuration that only have an effect with a depth."""


def check_sources(request: CameraHeightRequest) -> None:
    """Raise ConfigError for options that exclude each other, or need another option."""
    if request.checkpoint is not None and request.depth is not None:
        found, expected = "--checkpoint and --depth", "one source of depth"
        raise ConfigError("camera-height", found=found, expected=expected, fix="remove one of them")
    if request.checkpoint is not None or request.depth is not None:
        if "horizon" in request.config.model_fields_set:
            found = f"horizon={request.config.horizon} with a depth"
            raise ConfigError("horizon", found=found, expected="no horizon: the depth gives it", fix="remove it")
        return
    idle = [key for key in DEPTH_KEYS if key in request.config.model_fields_set]
    idle += ["--labels"] * (request.labels is not None) + ["--depth-factor"] * (request.depth_factor is not None)
    if idle:
        found, expected = "no depth", "--checkpoint RUN or --depth FOLDER"
        raise ConfigError(", ".join(idle), found=found, expected=expected, fix="add one of them, or remove this")


def parse_camera_height_config(overrides: Sequence[str]) -> CameraHeightConfig:
    """Convert `key=value` arguments to a configuration.

    Raises ConfigError with every mistake.
    """
    return resolve_config(CameraHeightConfig, {}, overrides)
