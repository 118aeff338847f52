"""Configuration of RoadWorld datasets, and the presets. Imports neither torch nor numba."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from stadia.core.config import check_range
from stadia.synthetic.rendering.dataset_files import SceneCounts, Supersampling, find_preset


class RoadWorldConfig(SceneCounts):
    """A dataset: number of worlds, frames of each, and the camera.

    train, val, test: number of worlds.
    frames: per world.  height, width: of an image, pixels.  stereo: a second camera, `baseline_m` to the right.
    field_of_view_deg, camera_height_m: horizontal angle, and height over the road; each world draws one of each.
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
    camera_height_m: Annotated[tuple[Annotated[float, Field(ge=0.5, le=4)], ...], Field(min_length=1)] = (1.65,)
    speed_m_per_frame: Annotated[tuple[Annotated[float, Field(gt=0)], float], check_range(0, 3)] = (0.6, 1.3)
    supersampling: Supersampling = 3
    exposure: bool = False
    noise: bool = False


TINY = RoadWorldConfig(train=1, val=1, test=1, frames=6, height=96, width=320)
"""For tests: three worlds of six stereo pairs, rendered in seconds."""

DEMO = RoadWorldConfig(train=20, val=2, test=4, frames=25, height=96, width=320)
"""For the ten-minute demo: one camera, 26 worlds of 25 stereo pairs. Many short worlds vary more than few long ones."""

FULL = RoadWorldConfig(
    train=60, val=4, test=8, frames=120, height=192, width=640,
    field_of_view_deg=(60.0, 70.0, 81.5, 95.0), camera_height_m=(1.2, 1.45, 1.65, 2.0), speed_m_per_frame=(0.5, 1.5),
)  # fmt: skip
"""For a training that generalizes to other cameras: 72 worlds of 120 stereo pairs, four fields of view and heights."""

PRESETS: dict[str, RoadWorldConfig] = {"tiny": TINY, "demo": DEMO, "full": FULL}


def find_roadworld_preset(name: str) -> RoadWorldConfig:
    """Return the preset of this name. Raises ConfigError with the nearest name.

    Examples:
        >>> find_roadworld_preset("tiny").frames
        6
    """
    return find_preset(PRESETS, name)
