"""Configuration of RoadWorld datasets, and the presets. Imports neither torch nor numba."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from stadia.core.config import StrictModel
from stadia.synthetic.rendering.dataset_files import SPLITS, Supersampling, find_preset


class RoadWorldConfig(StrictModel):
    """A dataset: number of worlds, frames of each, and the camera.

    train, val, test: number of worlds. Each world is drawn from (seed, split, index), so no two splits share one.
    frames: per world.  height, width: of an image, pixels.  stereo: a second camera, `baseline_m` to the right.
    field_of_view_deg, camera_height_m: horizontal angle, and height over the road; each world draws one of each.
    speed_m_per_frame: range of a world's cruising speed (slower in turns).
    supersampling: N for N x N samples a pixel; odd, so that the middle sample is the pixel's center.
    exposure: the exposure drifts from frame to frame.  noise: shot and read noise of a sensor.
    """

    train: Annotated[int, Field(ge=0)]
    val: Annotated[int, Field(ge=0)]
    test: Annotated[int, Field(ge=0)]
    frames: Annotated[int, Field(ge=1, le=100_000)]
    height: Annotated[int, Field(ge=16, le=4096)]
    width: Annotated[int, Field(ge=16, le=8192)]
    stereo: bool = True
    baseline_m: Annotated[float, Field(gt=0, le=2)] = 0.54
    frame_rate_hz: Annotated[float, Field(gt=0)] = 10.0
    field_of_view_deg: tuple[Annotated[float, Field(ge=20, le=130)], ...] = (81.5,)
    camera_height_m: tuple[Annotated[float, Field(ge=0.5, le=4)], ...] = (1.65,)
    speed_m_per_frame: tuple[float, float] = (0.6, 1.3)
    supersampling: Supersampling = 3
    exposure: bool = False
    noise: bool = False

    @model_validator(mode="after")
    def _check(self) -> RoadWorldConfig:
        if not any(self.worlds.values()):
            raise ValueError("train, val and test are all 0: at least one world is needed")
        slow, fast = self.speed_m_per_frame
        if not 0 < slow <= fast <= 3:
            raise ValueError("speed_m_per_frame must be (slow, fast) with 0 < slow <= fast <= 3")
        if not self.field_of_view_deg or not self.camera_height_m:
            raise ValueError("field_of_view_deg and camera_height_m need at least one value")
        return self

    @property
    def worlds(self) -> dict[str, int]:
        """Return the number of worlds of each split."""
        return {split: getattr(self, split) for split in SPLITS}


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
    """Return the preset of this name. Raises ConfigError with the nearest name."""
    return find_preset(PRESETS, name)
