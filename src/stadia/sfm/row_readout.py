"""Measure the readout time of the image rows of a rolling shutter from a map."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stadia.sfm.lens_intervals import differentiate_lens, eliminate_scene, invert_information
from stadia.sfm.sparse_map import SparseMap

MIN_READOUT_FRAMES = 0.15
"""Smallest time from the readout of the first image row to the last, in frame intervals, that is reported as a rolling
shutter.
"""

MIN_DEVIATIONS = 3.0
"""A readout time of fewer standard deviations may be zero: three are exceeded by chance in .3 % of the maps."""

MIN_ROW_KEY_FRAMES = 4
"""Fewest keyframes whose motion separates the readout time from the lens."""

MAX_ROW_KEY_FRAMES = 120
"""Keyframes that are used at most: more take longer and hardly change the result."""

_LENS = ("focal_px", "k1", "k2")


@dataclass(frozen=True, slots=True)
class RowReadout:
    """Time that the sensor takes from the readout of the first image row to the last (rolling shutter).

    frames: this time in frame intervals; negative if the last row is read first.
    deviation: standard deviation of `frames`.
    """

    frames: float
    deviation: float

    @property
    def is_rolling(self) -> bool:
        """Return whether the shutter rolls.

        It does if the readout time exceeds MIN_READOUT_FRAMES and MIN_DEVIATIONS standard deviations.
        """
        return abs(self.frames) > max(MIN_READOUT_FRAMES, MIN_DEVIATIONS * self.deviation)


def measure_readout(sparse: SparseMap) -> RowReadout | None:
    """Return the readout time of the rows, of the first MAX_ROW_KEY_FRAMES keyframes.

    Poses and points of the map are fitted for `sparse.readout`, and the result adds to it. None for fewer than
    MIN_ROW_KEY_FRAMES.
    """
    if len(sparse.frames) < MIN_ROW_KEY_FRAMES:
        return None
    first = sparse.observed[:, 0] < MAX_ROW_KEY_FRAMES
    sparse = replace(
        sparse,
        frames=sparse.frames[:MAX_ROW_KEY_FRAMES],
        T_camera_world=sparse.T_camera_world[:MAX_ROW_KEY_FRAMES],
        observed=sparse.observed[first],
        xy=sparse.xy[first],
    )
    J = np.concatenate((sparse.differentiate_rows()[..., None], differentiate_lens(sparse, _LENS)), -1)
    information, gradient = eliminate_scene(sparse, J)
    step = np.linalg.lstsq(information, -gradient, rcond=1e-12)[0]
    deviation = float(np.sqrt(invert_information(information)[0, 0]))
    return RowReadout(sparse.readout + float(step[0]), deviation)
