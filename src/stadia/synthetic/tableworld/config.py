"""Configuration of TableWorld datasets, and the presets. Imports neither torch nor numba."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from stadia.core.config import check_range
from stadia.synthetic.rendering.dataset_files import SceneCounts, Supersampling, find_preset

CLASSES = ("background", "bottle", "bowl", "can", "cup", "box", "laptop")
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
    train: Annotated[int, Field(ge=0)] = 240
    val: Annotated[int, Field(ge=0)] = 40
    test: Annotated[int, Field(ge=0)] = 40
    views: Annotated[int, Field(ge=1, le=100)] = 3
    side: Annotated[int, Field(ge=16, le=2048)] = 128
    elevation_deg: Annotated[tuple[float, float], check_range(0, 85)] = (2.0, 25.0)
    field_of_view_deg: Annotated[float, Field(ge=5, le=90)] = 30.0
    supersampling: Supersampling = 5


TINY = TableWorldConfig(train=4, val=2, test=2, views=2)
"""For tests: eight tables, rendered in seconds."""

DEMO = TableWorldConfig(train=600, val=30, test=60)
"""For a training of minutes: 690 tables from four sides each, 160x128."""

FULL = TableWorldConfig(train=4000, val=100, test=200, height=256, width=320)
"""4300 tables from four sides each, 320x256."""

PRESETS: dict[str, TableWorldConfig] = {"tiny": TINY, "demo": DEMO, "full": FULL}


def find_tableworld_preset(name: str) -> TableWorldConfig:
    """Return the preset of this name. Raises ConfigError with the nearest name.

    Examples:
        >>> find_tableworld_preset("demo").views
        4
    """
    return find_preset(PRESETS, name)
