"""Read the camera of a user's video: a matrix, a file, a focal length, or a field of view."""

from __future__ import annotations

import logging
import math
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.files import read_json
from stadia.datasets.config import CameraConfig
from stadia.datasets.recordings import Intrinsics, check_K
from stadia.datasets.text_files import read_lines, read_rows
from stadia.geometry.numpy_camera import centered_K, focal_px_from_fov, focal_px_from_lens

log = logging.getLogger(__name__)

PHONE_FOV_DEG = 69  # field of view of a phone's main camera (26 mm of 36 mm), longer side
K_FILE_NAMES = ("K.txt", "K.json")  # in the folder of images, or STEM.K.txt beside the video


def read_user_intrinsics(
    config: CameraConfig, source: Path, height: int, width: int, frames: int | None = None
) -> Intrinsics:
    """Return intrinsics for upright images of this size. Raises DataError without a camera or for a wrong file.

    A field of view spans the displayed image from left to right. A sensor's wider side is along the images' wider side.

    config: how the camera is given; without it, a K file beside the images is used.
    source: the video or the folder, for messages and for the K file beside it.
    frames: number of frames of the source, for a K file with one matrix for each; None does not compare.
    """
    if config.K_file is not None:
        return Intrinsics(read_K(Path(config.K_file).expanduser(), frames), height, width)
    if config.K is not None:
        return Intrinsics(check_K("data.camera.K", np.array(config.K, dtype=np.float64)), height, width)
    if config.focal_px is not None:
        focal_px = config.focal_px
    elif config.focal_mm is not None and config.sensor_width_mm is not None:
        across_mm = config.sensor_width_mm * width / max(height, width)
        focal_px = focal_px_from_lens(config.focal_mm, across_mm, width)
    elif config.horizontal_fov_deg is not None:
        focal_px = focal_px_from_fov(config.horizontal_fov_deg, width)
        if height > width:
            _warn_upright(source, config.horizontal_fov_deg, height / width)
    else:
        return Intrinsics(read_K(_find_K_file(source, height, width), frames), height, width)
    return Intrinsics(check_K("data.camera", centered_K(focal_px, height, width)), height, width)


def _other_side_deg(deg: float, ratio: float) -> float:
    """Return the field of view along a side that is `ratio` times as long."""
    return math.degrees(2 * math.atan(ratio * math.tan(math.radians(deg) / 2)))


@cache  # warns once for each video
def _warn_upright(source: Path, across_deg: float, ratio: float) -> None:
    given = f"data.camera.horizontal_fov_deg={across_deg:g} is from left to right"
    makes = f"makes {_other_side_deg(across_deg, ratio):.0f} from top to bottom"
    turned = f"a camera of {across_deg:g} that was turned upright has {_other_side_deg(across_deg, 1 / ratio):.1f}"
    log.warning("%s is taller than wide: %s and %s; %s", source, given, makes, turned)


def _find_K_file(source: Path, height: int, width: int) -> Path:
    candidates = [source / name if source.is_dir() else source.with_suffix(f".{name}") for name in K_FILE_NAMES]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        phone_deg = _other_side_deg(PHONE_FOV_DEG, width / max(height, width))
        expected = f"{candidates[0].name} beside it, or data.camera.K_file, .focal_px, .focal_mm or .horizontal_fov_deg"
        fix = f"set the field of view (a phone's main camera: data.camera.horizontal_fov_deg={phone_deg:.0f})"
        raise DataError(source, found="no camera", expected=expected, fix=fix)
    return found


def read_K(path: Path, frames: int | None = None) -> NDArray[np.float64]:
    """Read (3, 3), or (N, 3, 3) by frame, from text (3x3, or 9 numbers a line) or JSON (the same, or {"K": ...})."""
    if path.suffix.lower() == ".json":
        stored = read_json(path)
        if isinstance(stored, dict) and "K" not in stored:
            found = f"keys {', '.join(map(repr, list(stored)[:4]))}"
            raise DataError(path, found=found, expected="a key 'K', or the matrix alone", fix="rename it to K")
        values = stored["K"] if isinstance(stored, dict) else stored
        try:
            K = np.array(values, dtype=np.float64)
        except (TypeError, ValueError):
            K = np.empty(0)
    else:
        lines = read_lines(path, "K, 3x3 or 9 numbers a frame")
        columns = len(lines[0].replace(",", " ").split()) if lines else 3
        K = read_rows(path, columns if columns in (3, 9) else 3, "K, 3x3 or 9 numbers a frame")
        K = K.reshape(-1, 3, 3) if columns == 9 else K
    if K.ndim != 3:
        return check_K(path, K)
    if len(K) == 1:
        return check_K(path, K[0])
    if frames is not None and len(K) != frames:
        expected = f"one, or {frames} (one a frame)"
        raise DataError(path, found=f"{len(K)} matrices", expected=expected, fix="give one K a frame, or one for all")
    return np.stack([check_K(f"{path}, frame {index}", matrix) for index, matrix in enumerate(K)])
