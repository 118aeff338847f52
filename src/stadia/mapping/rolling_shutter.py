"""Measure whether the rows of a frame were read one after another: a map then has residuals that grow with the row.

A row that is read later sees its points where they have moved meanwhile (Meingast, Geyer and Sastry, Geometric Models
of Rolling-Shutter Cameras, 2005). The time over which all rows are read is one more parameter of the camera.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stadia.mapping.lens_intervals import differentiate_lens, eliminate_scene, invert_information
from stadia.mapping.sparse_map import Array, SparseMap

MIN_READOUT_FRAMES = 0.15
"""Least time from the first row to the last that counts as a rolling shutter, over that from frame to frame."""

MIN_DEVIATIONS = 3.0
MIN_FRAMES, MAX_FRAMES = 4, 120
MIN_DEPTH_SHARE = 0.25
"""Least depth of a point in the frames before and after, over that in its own: nearer ones leave the image."""

_LENS = ("focal_px", "k1", "k2")


@dataclass(frozen=True, slots=True)
class RowReadout:
    """Time from the first row to the last, over that from frame to frame, and its standard deviation."""

    frames: float
    deviation: float

    @property
    def is_rolling(self) -> bool:
        """Return whether the shutter rolls: the time is long, and certain."""
        return abs(self.frames) > max(MIN_READOUT_FRAMES, MIN_DEVIATIONS * self.deviation)


def measure_readout(sparse: SparseMap, T_camera_world: Array) -> RowReadout | None:
    """Return the time over which the rows are read, of the first MAX_FRAMES key frames; None for fewer than MIN_FRAMES.

    T_camera_world: (N, 4, 4) of all frames, NaN where unknown.
    """
    if len(sparse.frames) < MIN_FRAMES:
        return None
    first = sparse.observed[:, 0] < MAX_FRAMES
    sparse = replace(
        sparse,
        frames=sparse.frames[:MAX_FRAMES],
        T_camera_world=sparse.T_camera_world[:MAX_FRAMES],
        observed=sparse.observed[first],
        xy=sparse.xy[first],
    )
    J_rows = differentiate_rows(sparse, T_camera_world)
    J = np.concatenate((J_rows[..., None], differentiate_lens(sparse, _LENS)), -1)
    information, gradient = eliminate_scene(sparse, J)
    step = np.linalg.lstsq(information, -gradient, rcond=1e-12)[0]
    return RowReadout(float(step[0]), float(np.sqrt(invert_information(information)[0, 0])))


def differentiate_rows(sparse: SparseMap, T_camera_world: Array) -> Array:
    """Return (M, 2), derivatives of the projected pixels by the time over which the rows are read, in frames.

    T_camera_world: (N, 4, 4) of all frames, NaN where unknown. Where a neighbor is unknown, the derivative is 0.
    """
    points, depth = sparse.points[sparse.observed[:, 1]], sparse.in_camera()[:, 2]
    frames = sparse.frames[sparse.observed[:, 0]]
    ends = np.clip(frames - 1, 0, None), np.clip(frames + 1, None, len(T_camera_world) - 1)
    shown = list[Array]()
    is_seen = np.ones(len(points), bool)
    for end in ends:
        T = T_camera_world[end]
        inside = np.einsum("mij,mj->mi", T[:, :3, :3], points) + T[:, :3, 3]
        is_seen &= inside[:, 2] > MIN_DEPTH_SHARE * depth
        shown.append(sparse.camera.project(np.where(is_seen[:, None], inside, 1.0)))
    motion = np.where(is_seen[:, None], shown[1] - shown[0], 0.0) / (ends[1] - ends[0])[:, None]
    return motion * (sparse.xy[:, 1] / (sparse.camera.height - 1) - 0.5)[:, None]
