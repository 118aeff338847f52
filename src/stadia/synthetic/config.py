"""Configuration and presets of rendered data sets and of composite images. Imports neither torch nor numba."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, model_validator

from stadia.core.config import StrictModel, check_range
from stadia.core.errors import ConfigError
from stadia.core.registry import find_nearest_name
from stadia.datasets.config import SourceOptions, SplitConfig

SPLITS = ("train", "val", "test")

Config = TypeVar("Config")


def _check_odd(samples: int) -> int:
    if samples % 2 == 0:
        raise ValueError("must be odd: the middle sample is the pixel's center")
    return samples


Supersampling = Annotated[int, Field(ge=1, le=9), AfterValidator(_check_odd)]
"""N for N x N samples a pixel."""


MAX_SCENES = 100_000
"""Scenes of a split: the largest preset has 4000. A million take minutes before the first is rendered."""

Scenes = Annotated[int, Field(ge=0, le=MAX_SCENES)]


class SceneCounts(StrictModel):
    """Number of scenes of each split. Each is drawn from (seed, split, index), so no two splits share one."""

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
    """Return the preset of this name. Raises ConfigError with the nearest name.

    Examples:
        >>> find_preset(ROADWORLD_PRESETS, "tiny").frames
        6
    """
    if name not in presets:
        near = find_nearest_name(name, list(presets))
        fix = f"did you mean '{near}'?" if near else "choose one of them"
        raise ConfigError("preset", found=f"'{name}'", expected=f"one of {', '.join(presets)}", fix=fix)
    return presets[name]


# -- RoadWorld


class RoadWorldConfig(SceneCounts):
    """A dataset: number of worlds, frames of each, and the camera.

    train, val, test: number of worlds.
    frames: per world.  height, width: of an image, pixels.  stereo: a second camera, `baseline_m` to the right.
    field_of_view_deg, camera_height_m: horizontal angle, and height over the road; each world draws one of each.
    pitch_deg: range of the camera's mean pitch, positive upwards; null for a car's, about 0. A drone's is negative.
    speed_m_per_frame: range of a world's cruising speed (slower in turns).
    supersampling: N for N x N samples a pixel; odd, so that the middle sample is the pixel's center.
    exposure: the exposure drifts from frame to frame.  noise: shot and read noise of a sensor.
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
"""For tests: three worlds of six stereo pairs, rendered in seconds."""

ROADWORLD_DEMO = RoadWorldConfig(train=20, val=2, test=4, frames=25, height=96, width=320)
"""For the ten-minute demo: one camera, 26 worlds of 25 stereo pairs. Many short worlds vary more than few long ones."""

ROADWORLD_FULL = RoadWorldConfig(
    train=60, val=4, test=8, frames=120, height=192, width=640,
    field_of_view_deg=(60.0, 70.0, 81.5, 95.0), camera_height_m=(1.2, 1.45, 1.65, 2.0), speed_m_per_frame=(0.5, 1.5),
)  # fmt: skip
"""For a training that generalizes to other cameras: 72 worlds of 120 stereo pairs, four fields of view and heights."""

ROADWORLD_PRESETS: dict[str, RoadWorldConfig] = {"tiny": ROADWORLD_TINY, "demo": ROADWORLD_DEMO, "full": ROADWORLD_FULL}


# -- RoomWorld


class RoomWorldConfig(SceneCounts):
    """A dataset: number of rooms, frames of each, and the camera.

    train, val, test: number of rooms, each filmed once.
    frames: per room.  height, width: of an image, pixels.
    field_of_view_deg, camera_height_m: ranges of the horizontal angle and of the height over the floor.
    supersampling: N for N x N samples a pixel; odd, so that the middle sample is the pixel's center.
    noise: shot and read noise of a sensor.
    """

    scene_name = "room"
    frames: Annotated[int, Field(ge=1, le=10_000)] = 8
    height: Annotated[int, Field(ge=16, le=4096)] = 192
    width: Annotated[int, Field(ge=16, le=4096)] = 256
    frame_rate_hz: Annotated[float, Field(gt=0)] = 10.0
    field_of_view_deg: Annotated[tuple[float, float], check_range(20, 120)] = (45.0, 95.0)
    camera_height_m: Annotated[tuple[float, float], check_range(0.2, 5)] = (0.4, 1.9)
    supersampling: Supersampling = 3
    noise: bool = True


ROOMWORLD_TINY = RoomWorldConfig(train=2, val=1, test=1, frames=3, height=96, width=128)
"""For tests: four rooms, rendered in seconds."""

ROOMWORLD_DEMO = RoomWorldConfig(train=120, val=10, test=20)
"""For a training of minutes: 150 rooms of 8 frames, 256x192."""

ROOMWORLD_FULL = RoomWorldConfig(train=1500, val=50, test=100, height=240, width=320)
"""1650 rooms of 8 frames, 320x240."""

ROOMWORLD_PRESETS: dict[str, RoomWorldConfig] = {"tiny": ROOMWORLD_TINY, "demo": ROOMWORLD_DEMO, "full": ROOMWORLD_FULL}


# -- TableWorld, and cut-outs of its objects

TABLEWORLD_CLASSES = ("background", "bottle", "bowl", "can", "cup", "box", "laptop")
"""An object's class is its place here."""


class TableWorldConfig(SceneCounts):
    """A dataset: number of tables, views of each, and the camera.

    train, val, test: number of tables. No two splits share the shape of an object either.
    views: images of each table.  height, width: of an image, pixels.  objects: fewest and most on a table.
    field_of_view_deg: range of the horizontal field of view; each table draws one.
    elevation_deg, distance_m: ranges of the camera's elevation over its target on the table, and distance from it.
    supersampling: N for N x N samples a pixel; odd, so that the middle sample is the pixel's center.
    noise: shot and read noise of a sensor.
    """

    scene_name = "table"
    views: Annotated[int, Field(ge=1, le=1000)] = 4
    height: Annotated[int, Field(ge=16, le=4096)] = 128
    width: Annotated[int, Field(ge=16, le=4096)] = 160
    objects: Annotated[tuple[int, int], check_range(1, 20)] = (3, 6)
    field_of_view_deg: Annotated[tuple[float, float], check_range(20, 110)] = (48.0, 60.0)
    elevation_deg: Annotated[tuple[float, float], check_range(5, 85)] = (15.0, 60.0)
    distance_m: Annotated[tuple[float, float], check_range(0.45, 1.4)] = (0.6, 1.0)
    supersampling: Supersampling = 3
    noise: bool = True


class CutoutConfig(SceneCounts):
    """A set of cut-out objects: number, views of each, and size.

    train, val, test: number of objects.
    views: images of each object.  side: height and width of an image, pixels.
    elevation_deg: range of the camera's height over the object, as an angle.  field_of_view_deg: of the camera.
    supersampling: N for N x N samples a pixel, of which alpha is the share that show the object.
    """

    scene_name = "object"
    train: Scenes = 240
    val: Scenes = 40
    test: Scenes = 40
    views: Annotated[int, Field(ge=1, le=100)] = 3
    side: Annotated[int, Field(ge=16, le=2048)] = 128
    elevation_deg: Annotated[tuple[float, float], check_range(0, 85)] = (2.0, 25.0)
    field_of_view_deg: Annotated[float, Field(ge=5, le=90)] = 30.0
    supersampling: Supersampling = 5


TABLEWORLD_TINY = TableWorldConfig(train=4, val=2, test=2, views=2)
"""For tests: eight tables, rendered in seconds."""

TABLEWORLD_DEMO = TableWorldConfig(train=600, val=30, test=60)
"""For a training of minutes: 690 tables from four sides each, 160x128."""

TABLEWORLD_FULL = TableWorldConfig(train=4000, val=100, test=200, height=256, width=320)
"""4300 tables from four sides each, 320x256."""

TABLEWORLD_PRESETS: dict[str, TableWorldConfig] = {
    "tiny": TABLEWORLD_TINY,
    "demo": TABLEWORLD_DEMO,
    "full": TABLEWORLD_FULL,
}


# -- Composite images


class BackgroundConfig(SourceOptions):
    """Images with depth onto which cut-outs are pasted: true depth, or a teacher's.

    path, format: see `open_recordings`; null takes RoadWorld's demo worlds from the cache, rendered once.
    split_by: which images validate. Splits that a data set names stay.  sides: cameras of the rig.
    teacher: a folder that `stadia predict` wrote for these images; its depth replaces true depth.
    """

    path: str | None = None
    format: str = "auto"
    split_by: SplitConfig = SplitConfig()
    sides: Annotated[tuple[Literal["left", "right"], ...], Field(min_length=1)] = ("left",)
    teacher: str | None = None


class ForegroundConfig(StrictModel):
    """Cut-outs: PNG files with an alpha channel.

    path: FOLDER/NAME.png, or FOLDER/OBJECT/VIEW.png, or either in FOLDER/train, FOLDER/val (and test); null renders
        objects of TableWorld.
    val_share: of the objects, where the folder names no splits. All views of an object are in one split.
    """

    path: str | None = None
    val_share: Annotated[float, Field(gt=0, lt=1)] = 0.2


class PlacementConfig(StrictModel):
    """Position and size of cut-outs.

    rule: "random", or "grid": 4 rows (smaller and higher is farther) of 5 places, each as it is and mirrored.
    size: random alone: least and largest longer side, as a share of the image's shorter one.
    foot: random alone: where the lower edge may lie, as a share of the height from above.
    """

    rule: Literal["random", "grid"] = "random"
    size: Annotated[tuple[Annotated[float, Field(gt=0)], float], check_range(0)] = (0.3, 0.6)
    foot: Annotated[tuple[float, float], check_range(0, 1)] = (0.7, 1.0)

    @model_validator(mode="after")
    def _check_size(self) -> Self:
        if self.size[1] > 1:
            size = f"{self.size[1]:g} times its background"
            raise ValueError(f"size: a foreground of {size} is larger than it; expected at most 1")
        return self
