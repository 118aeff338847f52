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
    """A map beside a video or a folder of images, whose points are found by the name of a frame.

    road_deviation: relative standard deviation of the camera's height over the road, in the unit of the map.
    """

    geometry: MapGeometry
    row_of_name: Mapping[str, int]
    road_deviation: float = 0.0

    @classmethod
    def find(cls, source: Path) -> MapOfFrames | None:
        """Return the map beside a video or a folder of images; None without a usable one."""
        with suppress(StadiaError):  # a map that cannot be read is no reason to judge nothing
            return cls.read(source)
        return None

    @classmethod
    def read(cls, source: Path) -> MapOfFrames | None:
        """Return the map beside a video or a folder of images; None without one, or without enough points.

        Raises DataError for the map of another video, or a damaged one.
        """
        mapped = find_map(source)
        if mapped is None:
            return None
        names = {name: row for row, name in enumerate(mapped.names)}
        deviation = 0.0 if mapped.road is None else mapped.road.height_deviation / mapped.road.height
        with suppress(StadiaError):  # too few points
            return cls(make_geometry(mapped, range(len(mapped.names))), names, deviation)
        return None

    def find_points(
        self, frame: Frame, K: NDArray[np.float64], *, whole_width: int | None = None
    ) -> StandingPoints | None:
        """Return the points of a frame, in pixels of an image with this K; None for a frame or a camera of others.

        whole_width: of the image from which the frame was cut.
        """
        row, focal = self.row_of_name.get(frame.name), frame.K[0, 0] / (whole_width or frame.image.shape[1])
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
