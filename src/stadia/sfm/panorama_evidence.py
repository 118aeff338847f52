"""Judge the map of a panoramic video by matches that were not used to compute it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.sfm.map_evidence import MAX_ERROR, MIN_HELD_OUT, MIN_HELD_OUT_AT_ALL

Array = NDArray[np.float64]

MIN_PLACED = 0.8
"""Smallest share of frames with a pose in a usable map."""

MIN_ANGLE_DEG = 2.0
"""Smallest median angle of triangulation, degrees, in a usable map."""

MIN_MATCHES = 20
"""Fewest held-out matches of two keyframes that are compared with the map."""

MIN_PAIRS = 2
"""Fewest pairs of keyframes with held-out matches before a map is judged."""


class PanoramaGrade(StrEnum):
    """How far the map of a panoramic video can be relied on."""

    USABLE = "usable"
    DOUBTFUL = "doubtful"
    UNUSABLE = "unusable"
    NOT_JUDGED = "not judged"


@dataclass(frozen=True, slots=True)
class HeldOutPair:
    """Matches between two keyframes that were not matched for the map, and how many of them agree with it.

    first, second: names of the keyframes.
    matches: number of matches.
    within: share of the matches that are near the projection of their point, at most MAX_ERROR of a view's side.
    """

    first: str
    second: str
    matches: int
    within: float


@dataclass(frozen=True, slots=True)
class PanoramaEvidence:
    """What speaks for and against the map of a panoramic video. It closes no loops, so slow drift is not judged.

    placed: share of the frames with a pose.
    angle_deg: median angle of triangulation of the points, degrees.
    pairs: the pairs of keyframes with at least MIN_MATCHES held-out matches.
    """

    placed: float
    angle_deg: float
    pairs: Sequence[HeldOutPair]

    @property
    def within(self) -> float:
        """Return the median share of held-out matches that agree with the map; NaN without pairs."""
        return float(np.median([pair.within for pair in self.pairs])) if self.pairs else float("nan")

    def judge(self) -> tuple[PanoramaGrade, str]:
        """Return the grade of the map and its reason; the reason of a usable map is empty."""
        if len(self.pairs) < MIN_PAIRS:
            return (
                PanoramaGrade.NOT_JUDGED,
                f"matches compare {len(self.pairs)} pair{'s' * (len(self.pairs) != 1)} of keyframes",
            )
        if self.within < MIN_HELD_OUT_AT_ALL:
            return PanoramaGrade.UNUSABLE, f"{1 - self.within:.0%} of the matches that were held out contradict it"
        worst = min(self.pairs, key=lambda pair: pair.within)
        if worst.within < MIN_HELD_OUT_AT_ALL:
            place = f"between the frames {worst.first} and {worst.second}"
            return PanoramaGrade.UNUSABLE, f"{1 - worst.within:.0%} of the held-out matches {place} contradict it"
        if self.within < MIN_HELD_OUT:
            return PanoramaGrade.DOUBTFUL, f"{1 - self.within:.0%} of the matches that were held out contradict it"
        if self.placed < MIN_PLACED:
            return PanoramaGrade.DOUBTFUL, f"only {self.placed:.0%} of the frames have a pose"
        if self.angle_deg < MIN_ANGLE_DEG:
            angle = f"the median angle of triangulation is {self.angle_deg:.1f} degrees"
            return PanoramaGrade.DOUBTFUL, f"{angle}: the camera hardly moved"
        return PanoramaGrade.USABLE, ""


def compare_held_out(
    model: Any, pairs: Mapping[tuple[str, str], Sequence[tuple[Any, Any, NDArray[np.integer]]]]
) -> Iterator[HeldOutPair]:
    """Compare matches that were not used with the points of a map.

    model: pycolmap.Reconstruction of the views of all keyframes.
    pairs: by the names of two keyframes, for each matched pair of their views: the pycolmap.Image of both, and the
        numbers (N, 2) of the matched features.

    Yields the pairs of keyframes with at least MIN_MATCHES matches.
    """
    for (first, second), matched in pairs.items():
        errors = [_measure_errors(model, *views) for views in matched]
        found = np.concatenate(errors) if errors else np.empty(0)
        if len(found) >= MIN_MATCHES:
            yield HeldOutPair(first, second, len(found), float((found <= MAX_ERROR).mean()))


def _measure_errors(model: Any, first: Any, second: Any, features: NDArray[np.integer]) -> Array:
    """Return the distances of the first view's points from their matches in the second, as shares of its side."""
    camera, pose = model.cameras[second.camera_id], second.cam_from_world()
    errors = []
    for one, other in features.tolist():
        seen, found = first.points2D[one], second.points2D[other]
        if not seen.has_point3D():
            continue
        pixel = camera.img_from_cam(pose * model.points3D[seen.point3D_id].xyz)
        errors.append(np.inf if pixel is None else float(np.linalg.norm(pixel - found.xy)) / camera.width)
    return np.array(errors, np.float64)
