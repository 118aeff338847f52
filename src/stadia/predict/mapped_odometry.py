"""Replace the path of `stadia odometry` by that of the map beside the video, in the unit of the predicted depth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stadia.core.types import Camera, Predictor
from stadia.datasets.video.video_map import MAX_FOCAL_DIFFERENCE, VideoMapFiles, find_map
from stadia.evaluation.frame_preparation import Frame, PreparedFrame
from stadia.odometry.mapped_path import compare_paths, count_reversing, follow_map, measure_scale
from stadia.odometry.visual_odometry import CameraPath

MEASURED_FRAMES = 20
"""Key frames whose predicted depth is compared with the points of the map."""

MAX_DIFFERENCE = 0.05
"""Of the paths by map and by depth, over their length, from which the one that reverses in more steps is dropped: a map
from a wrong first pair has 8 to 12 %, and turns back where the drive does not.
"""

MIN_PLACED = 0.5  # share of the path's frames that a map must place


@dataclass(eq=False)
class MappedOdometry:
    """Measures the scale of a map while the frames pass, and then takes its path.

    height_m: of the camera over the map's road, which gives the scale where both are known.
    scales: predicted over mapped depth of the measured key frames.
    """

    mapped: VideoMapFiles
    predictor: Predictor
    height_m: float | None = None
    scales: list[float] = field(default_factory=list)
    focal_ratio: float | None = None

    @classmethod
    def open(cls, source: Path, predictor: Predictor, height_m: float | None = None) -> MappedOdometry | None:
        """Return it for a video or a folder of images with a map beside it; None without one."""
        found = find_map(source)
        return None if found is None or predictor.depth_scale.is_affine else cls(found, predictor, height_m)

    def observe(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Yield the frames, and compare the predicted depth of some key frames with the points of the map."""
        points = self.mapped.read_points()
        keys: list[int] = np.asarray(points["frames"]).tolist()
        chosen = {keys[place] for place in np.linspace(0, len(keys) - 1, MEASURED_FRAMES).round().astype(int).tolist()}
        rows = {
            self.mapped.names[index]: (keys.index(index), index) for index in chosen if index < len(self.mapped.names)
        }
        for frame in frames:
            if self.focal_ratio is None:
                focal_px = self.mapped.camera.relative_focal * frame.image.shape[1]
                self.focal_ratio = float(frame.K[0, 0] / focal_px)
            if frame.name in rows:
                self._measure(frame, points, *rows[frame.name])
            yield frame

    def _measure(self, frame: Frame, points: dict[str, Any], row: int, index: int) -> None:
        prepared = PreparedFrame.prepare(self.predictor, frame)
        camera = Camera(torch.from_numpy(prepared.K), self.predictor.height, self.predictor.width)
        predicted = self.predictor.inverse_depth(torch.from_numpy(prepared.image)[None], camera)
        seen = points["points"][points["observed"][points["observed"][:, 0] == row, 1]].astype(np.float64)
        T = np.linalg.inv(self.mapped.poses[index])
        inverse_depth = predicted[0, 0].double().cpu().numpy()
        scale = measure_scale(inverse_depth, prepared.K, seen @ T[:3, :3].T + T[:3, 3])
        if np.isfinite(scale) and scale > 0:
            self.scales.append(scale)

    def replace_path(self, path: CameraPath) -> tuple[CameraPath, list[str]]:
        """Return the path of the map in the unit of the depth, and notes.

        The given path is returned where the map does not fit, or turns back where the path by depth does not.
        """
        why = self._find_mismatch(path)
        if why:
            return path, [f"the map beside the video was not used: {why}"]
        mapped, (scale, origin) = self._poses_of(path), self._find_scale()
        T = follow_map(path.T_world_camera, mapped, scale)
        difference, length = compare_paths(T, path.T_world_camera), len(path.names)
        lost = int((~np.isfinite(mapped).all((1, 2))).sum())
        known = np.isfinite(mapped).all((1, 2))
        is_placed = known[:-2] & known[1:-1] & known[2:]  # a lost frame moves as the depth does
        by_depth, by_map = (int((count_reversing(poses) & is_placed).sum()) for poses in (path.T_world_camera, T))
        if by_map > by_depth and difference.rms_share > MAX_DIFFERENCE:
            return path, [
                f"the map beside the video was not used: its path differs by {difference.rms_share:.1%} of its length"
                f" from that by depth, and reverses in {by_map} of {length - 2} steps, that by depth in {by_depth}"
            ]
        note = (
            f"the path is that of the map; the path by depth differs by {difference.rms_share:.1%} of its length, and"
            f" reverses in {by_depth} of {length - 2} steps, the map's in {by_map}; {origin}"
        )
        notes = [note] + ([f"{lost} frames that the map does not place follow the depth's motion"] if lost else [])
        return replace(path, T_world_camera=T), notes

    def _find_scale(self) -> tuple[float, str]:
        """Return the units of the path for one of the map, and what gives them, for people."""
        if self.height_m is not None and self.mapped.road is not None:
            return self.height_m / self.mapped.road.height, f"the height of {self.height_m:g} m over its road scales it"
        scale = float(np.median(self.scales))
        spread = float(np.median(np.abs(np.array(self.scales) / scale - 1)))
        return scale, f"the scale is that of the depth, and differs by {spread:.0%} between key frames"

    def _poses_of(self, path: CameraPath) -> Any:
        index_of = {name: index for index, name in enumerate(self.mapped.names)}
        nothing = np.full((4, 4), np.nan)
        return np.array([self.mapped.poses[index_of[name]] if name in index_of else nothing for name in path.names])

    def _find_mismatch(self, path: CameraPath) -> str:
        """Return why the map does not fit the path; empty where it does."""
        if self.focal_ratio is not None and abs(self.focal_ratio - 1) > MAX_FOCAL_DIFFERENCE:
            return f"its focal length is that of the depth over {self.focal_ratio:.2f}; make it again with this camera"
        if np.isfinite(self._poses_of(path)).all((1, 2)).mean() < MIN_PLACED or len(path.names) < 3:
            return "it places less than half of the frames"
        return "" if self.scales else "no key frame gives the scale of its depth"
