"""Configuration and presets of rendered datasets and composite images. This module imports neither torch nor numba."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Self, TypeVar

from pydantic import AfterValidator, Field, model_validator

from stadia.core.config import StrictModel, check_range
from stadia.core.errors import ConfigError
from stadia.core.registry import find_nearest_name

SPLITS = ("train", "val", "test")

Config = TypeVar("Config")


def _check_odd(samples: int) -> int:
    if samples % 2 == 0:
        raise ValueError("the number of samples must be odd, so that the middle one is the pixel's center")
    return samples


Supersampling = Annotated[int, Field(ge=1, le=9), AfterValidator(_check_odd)]  # N for N x N samples a pixel


MAX_SCENES = 100_000  # scenes of a split: a million take minutes before the first is rendered

Scenes = Annotated[int, Field(ge=0, le=MAX_SCENES)]


class SceneCounts(StrictModel):
    """Number of scenes of each split. Each scene is drawn from a seed that depends on (seed, split, index)."""

    scene_name: ClassVar[str]
    train: Scenes
    val: Scenes
    test: Scenes

    @model_validator(mode="after")
    def _check_counts(self) -> Self:
        if not any(self.counts.values()):
            raise ValueError(f"train, val and test are all 0: at least one {self.scene_name} is needed")
        return self

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of scenes of each split."""
        return {split: getattr(self, split) for split in SPLITS}


def find_preset(presets: Mapping[str, Config], name: str) -> Config:
    """Return the preset with this name. Raises ConfigError for an unknown name.

    Examples:
        >>> find_preset(ROADWORLD_PRESETS, "tiny").frames
        6
    """
    if name not in presets:
        near = find_nearest_name(name, list(presets))
        fix = f"did you mean '{near}'?" if near else "choose one of them"
        raise ConfigError("preset", found=f"'{name}'", expected=f"one of {', '.join(presets)}", fix=fix)
    return presets[name]


class RoadWorldConfig(SceneCounts):
    """A rendered driving dataset: number of worlds, frames of each world, and the camera.

    train, val, test: number of worlds in each split.
    frames: number of frames per world.
    height, width: size of an image in pixels.
    stereo: render a second camera, `baseline_m` to the right.
    field_of_view_deg, camera_height_m: horizontal field of view in degrees, and camera height above the road in metres.
        Each world draws one value of each.
    pitch_deg: range of the camera's mean pitch in degrees, positive upwards. null takes a car's, which is about 0.
    speed_m_per_frame: range of a world's cruising speed in metres per frame. Cars are slower in turns.
    supersampling: N for N x N samples per pixel. N is odd, so that the middle sample is the center of the pixel.
    exposure: let the exposure drift from frame to frame.
    noise: add the shot and read noise of a sensor.
    """

    scene_name = "world"
    frames: Annotated[int, Field(ge=1, le=100_000)]
    height: Annotated[int, Field(ge=16, le=4096)]
    width: Annotated[int, Field(ge=16, le=8192)]
    stereo: bool = True
    baseline_m: Annotated[float, Field(gt=0, le=2)] = 0.54
    frame_rate_hz: Annotated[float, Field(gt=0)] = 10.0
    field_of_view_deg: Annotated[tuple[Annotated[float, Field(ge=20, le=130)], ...], Field(min_length=1)] = (81.5,)
    camera_height_m: Annotated[tuple[Annotated[float, Field(ge=0.5, le=80)], ...], Field(min_length=1)] = (1.65,)
    pitch_deg: Annotated[tuple[float, float], check_range(-90, 45)] | None = None
    speed_m_per_frame: Annotated[tuple[Annotated[float, Field(gt=0)], float], check_range(0, 3)] = (0.6, 1.3)
    supersampling: Supersampling = 3
    exposure: bool = False
    noise: bool = False


ROADWORLD_TINY = RoadWorldConfig(train=1, val=1, test=1, frames=6, height=96, width=320)
"""Preset for tests: three worlds of six stereo pairs."""

ROADWORLD_DEMO = RoadWorldConfig(train=20, val=2, test=4, frames=25, height=96, width=320)
"""Preset for the ten-minute demo: one camera and 26 short worlds of 25 stereo pairs."""

ROADWORLD_FULL = RoadWorldConfig(
    train=60, val=4, test=8, frames=120, height=192, width=640,
    field_of_view_deg=(60.0, 70.0, 81.5, 95.0), camera_height_m=(1.2, 1.45, 1.65, 2.0), speed_m_per_frame=(0.5, 1.5),
)  # fmt: skip
"""Preset for a training that generalizes to other cameras: 72 worlds of 120 stereo pairs."""

ROADWORLD_PRESETS: dict[str, RoadWorldConfig] = {"tiny": ROADWORLD_TINY, "demo": ROADWORLD_DEMO, "full": ROADWORLD_FULL}
