"""Raise an error with the cure if camera poses are not good enough for a purpose: `stadia.assert_poses`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from stadia.core.errors import ConfigError, VerdictError
from stadia.geometry.conventions import Direction, write_poses
from stadia.io.records.reconstruction import Reconstruction
from stadia.judge.purposes import parse_purpose
from stadia.judge.reconstructions.check_reconstruction import ReconstructionVerdict, judge_reconstruction
from stadia.sfm.image_matches import match_images


class PoseAssertionError(VerdictError, AssertionError):
    """Raised if poses are not good for a purpose, or the images leave it open. A test runner counts it as a failure.

    verdict: the measured error, its causes, and what the poses are good for; None in another process.
    """

    verdict: ReconstructionVerdict | None = None


def assert_poses(
    images: Path | str,
    K: ArrayLike,
    T_world_camera: ArrayLike,
    names: Sequence[str] | None = None,
    *,
    distortion: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
    good_for: str | Sequence[str] = "navigation",
    work: Path | None = None,
) -> ReconstructionVerdict:
    """Check that camera poses are good for a purpose, by matches between the images alone.

    images: a folder of images, or a video.
    K: (3, 3) or (N, 3, 3) intrinsics in pixels of the images, pixel centers at integers.
    T_world_camera: (N, 4, 4) camera-to-world poses; camera axes x right, y down, z forward; NaN for images without one.
    names: N names of the images; None if pose k belongs to the k-th image in natural order.
    distortion: OpenCV's coefficients k1, k2, p1, p2.
    good_for: one or several of splats, mesh, measuring=1%, navigation and localization=5cm.
    work: folder for the cached matches; None takes a folder in the user's cache.

    Returns the verdict, with the measured error. Raises PoseAssertionError if a purpose does not hold or cannot be
    measured; the message has the measurement, the cause and the cure. Raises ConfigError for arrays of another shape or
    an unknown purpose, and DataError if the images do not match.

    Examples:
        >>> assert_poses("images", np.eye(3), np.eye(4))
        Traceback (most recent call last):
        ...
        stadia.core.errors.ConfigError: T_world_camera: found shape (4, 4); expected (N, 4, 4), one pose for each image.
    """
    T = np.asarray(T_world_camera, np.float64)
    if T.ndim != 3 or T.shape[1:] != (4, 4):
        raise ConfigError("T_world_camera", found=f"shape {T.shape}", expected="(N, 4, 4), one pose for each image")
    count = len(T)
    intrinsics = np.asarray(K, np.float64)
    if intrinsics.shape not in ((3, 3), (count, 3, 3)):
        raise ConfigError("K", found=f"shape {intrinsics.shape}", expected=f"(3, 3) or ({count}, 3, 3)")
    if names is not None and len(names) != count:
        raise ConfigError("names", found=f"{len(names)} names", expected=f"{count}, one for each pose")
    lens = np.asarray(distortion, np.float64)
    if lens.shape != (4,):
        raise ConfigError("distortion", found=f"shape {lens.shape}", expected="k1, k2, p1, p2")
    purposes = [parse_purpose(text) for text in ([good_for] if isinstance(good_for, str) else good_for)]
    given = Reconstruction(
        names=("",) * count if names is None else tuple(names),
        T_camera_world=write_poses(T, direction=Direction.WORLD_TO_CAMERA),
        K=np.broadcast_to(intrinsics, (count, 3, 3)).copy(),
        distortion=np.tile(lens, (count, 1)),
        sizes=np.zeros((count, 2), np.int64),
        path=Path("T_world_camera"),
    )
    verdict = judge_reconstruction(given, match_images(images, work), purposes)
    if all(purpose.holds for purpose in verdict.purposes) and verdict.grade != "unusable":
        return verdict
    missed = [purpose for purpose in verdict.purposes if not purpose.holds]
    found = "; ".join(
        f"{'not good' if purpose.holds is False else 'not measurable'} for {purpose.purpose.key}: {purpose.reason}"
        for purpose in missed
    )
    causes = "; ".join(f"{cause.what}: {cause.fix}" for cause in verdict.causes)
    error = PoseAssertionError(
        "T_world_camera",
        found=found or "a wrong convention",
        expected="poses that are good for " + ", ".join(purpose.key for purpose in purposes),
        fix=causes or None,
    )
    error.verdict = verdict
    raise error
