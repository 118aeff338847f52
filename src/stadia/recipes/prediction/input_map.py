"""The map beside an input: its points by the name of a frame, and its road."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import StadiaError
from stadia.datasets.video.map_geometry import MapGeometry
from stadia.datasets.video.video_map import MAX_FOCAL_DIFFERENCE, find_map, make_geometry
from stadia.diagnostics.prediction_checks import StandingPoints
from stadia.evaluation.frame_preparation import Frame


@dataclass(frozen=True, eq=False)
class MapOfFrames:
    """A map beside a video or a folder of images, whose points are found by the name of a frame."""

    geometry: MapGeometry
    row_of_name: Mapping[str, int]

    @classmethod
    def find(cls, source: Path) -> MapOfFrames | None:
        """Return the map beside a video or a folder of images; None without a usable one."""
        with suppress(StadiaError):  # a map that cannot be read is no reason to judge nothing
            mapped = find_map(source)
            if mapped is not None:
                names = {name: row for row, name in enumerate(mapped.names)}
                return cls(make_geometry(mapped, range(len(mapped.names))), names)
        return None

    def find_points(self, frame: Frame, K: NDArray[np.float64]) -> StandingPoints | None:
        """Return the points of a frame, in pixels of an image with this K; None for a frame or a camera of others."""
        row, focal = self.row_of_name.get(frame.name), frame.K[0, 0] / frame.image.shape[1]
        if row is None or abs(focal / self.geometry.focal - 1) > MAX_FOCAL_DIFFERENCE:
            return None
        inside = self.geometry.points_in_camera(row)
        xy = inside[:, :2] / inside[:, 2:] * (K[0, 0], K[1, 1]) + K[:2, 2]
        return StandingPoints(xy, inside[:, 2], self.geometry.road)

    def find_road_normal(self, focal: float) -> NDArray[np.float64] | None:
        """Return the road's normal (3,), towards the camera, for a camera with this fx / width; None without a road.

        The horizon stays on the same pixels.

        Examples:
            >>> geometry = MapGeometry(np.eye(4)[None], np.empty((0, 3)), (), 1.0, np.array([0, -0.8, 0.6, 1.5]))
            >>> MapOfFrames(geometry, {}).find_road_normal(1.0).round(6).tolist()
            [0.0, -0.8, 0.6]
        """
        road = self.geometry.road
        if road is None:
            return None
        turned = road[:3] * (focal / self.geometry.focal, focal / self.geometry.focal, 1)
        return np.asarray(turned / np.linalg.norm(turned))
