"""Replace the path of `stadia predict` by that of the map beside the video, in the unit of the predicted depth.

Predicted depth varies from frame to frame, and a path that it gives drifts in its length. A map has one scale.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.core.types import DepthScale
from stadia.datasets.video.video_map import MAX_FOCAL_DIFFERENCE, VideoMapFiles, find_map
from stadia.evaluation.frame_preparation import Frame, PredictedFrame
from stadia.geometry.scale_fit import HEIGHT_DEVIATION

Array = NDArray[np.float64]


@dataclass(eq=False)
class MappedPath:
    """The path of a map, and that of the predicted depth beside it.

    mapped: the map.
    scale: units of depth for a unit of the map.
    by: what gives the scale, for people.
    deviation: relative standard deviation of the scale; None where predicted depth gives it.
    places: positions (3,) of all frames with a pose.
    by_depth, by_map: positions (3,) of the frames that have both motions.
    """

    mapped: VideoMapFiles
    scale: float
    by: str
    deviation: float | None = None
    places: list[Array] = field(default_factory=list)
    by_depth: list[Array] = field(default_factory=list)
    by_map: list[Array] = field(default_factory=list)

    def follow(self, frames: Iterable[PredictedFrame]) -> Iterator[PredictedFrame]:
        """Yield predicted frames with the poses of the map; where it is lost, with the motion by the depth.

        The world is the first camera. Frames that have neither stay without a pose.
        """
        row_of_name = {name: row for row, name in enumerate(self.mapped.names)}
        T_world_map: Array | None = None
        before: tuple[Array, Array] | None = None
        for frame in frames:
            estimated, row = frame.T_world_camera, row_of_name.get(frame.frame.name)
            scaled = np.full((4, 4), np.nan) if row is None else self.mapped.poses[row].copy()
            scaled[:3, 3] *= self.scale
            is_known = bool(np.isfinite(scaled).all())
            if estimated is None and not is_known:
                yield frame
                continue
            if estimated is None:
                T_world_map = np.linalg.inv(scaled) if T_world_map is None else T_world_map
                pose = T_world_map @ scaled
            else:
                chained = np.eye(4) if before is None else before[0] @ np.linalg.inv(before[1]) @ estimated
                if is_known and T_world_map is None:
                    T_world_map = chained @ np.linalg.inv(scaled)
                pose = T_world_map @ scaled if is_known and T_world_map is not None else chained
                before = (pose, estimated)
                self.by_depth.append(estimated[:3, 3].copy())
                self.by_map.append(pose[:3, 3].copy())
            self.places.append(pose[:3, 3].copy())
            yield replace(frame, T_world_camera=pose, is_aligned=None if is_known else frame.is_aligned)

    def describe_origin(self) -> str:
        """Return the map and what gives its scale, for people."""
        return f"that of {self.mapped.folder.name}, scaled by {self.by}"

    def lines(self, depth_scale: DepthScale) -> list[str]:
        """Return the length of the path, and how that by the predicted depth differs."""
        if len(self.places) < 2:
            return []
        unit = " m" if depth_scale is DepthScale.METRES else ""
        spread = "" if self.deviation is None else f", +- {1.96 * self.deviation:.0%} (95 %)"
        line = f"path: {self.describe_origin()}: {_length(self.places):.4g}{unit}{spread}"
        by_map, by_depth = _length(self.by_map), _length(self.by_depth)
        if not by_map:
            return [line]
        return [f"{line}; by the predicted depth it is {by_depth / by_map:.2f} times as long"]


def _length(places: list[Array]) -> float:
    """Return the length of a path through positions (3,); 0 for fewer than two."""
    return float(np.linalg.norm(np.diff(np.reshape(places, (-1, 3)), axis=0), axis=1).sum())


def find_mapped_path(source: Path, first: Frame, height_m: float | None) -> MappedPath | str | None:
    """Return the path of the map beside a video or a folder of images, scaled by the road's height.

    Args:
        source: the images.
        first: a frame of them, with the camera of the prediction.
        height_m: of the camera over the road; None where it is not known.

    Returns the reason where the map does not fit, None without a map. A scale of NaN is to be measured.
    """
    mapped = find_map(source)
    if mapped is None:
        return None
    ratio = float(first.K[0, 0]) / first.image.shape[1] / mapped.camera.relative_focal
    if abs(ratio - 1) > MAX_FOCAL_DIFFERENCE:
        return f"its focal length is that of the depth over {ratio:.2f}; make it again with this camera"
    if height_m is None or mapped.road is None:
        return MappedPath(mapped, float("nan"), "the predicted depth")
    deviation = math.hypot(mapped.road.height_deviation / mapped.road.height, HEIGHT_DEVIATION)
    by = f"the height of {height_m:g} m over its road"
    return MappedPath(mapped, height_m / mapped.road.height, by, deviation)
