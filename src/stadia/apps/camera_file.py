"""Write the camera of a video, an image or a folder of images next to it: `stadia camera`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stadia.core.errors import ConfigError, DataError, StadiaError
from stadia.datasets.config import CameraConfig
from stadia.datasets.formats.calibration_files import CalibratedCamera, full_frame_width_mm, read_calibration, read_lens
from stadia.datasets.lens_distortion import DistortedCamera, make_undistortion
from stadia.datasets.open_dataset import check_path_exists
from stadia.datasets.recordings import Intrinsics
from stadia.datasets.video.video_camera import (
    camera_file_names,
    find_phone_fov_deg,
    fit_to_size,
    read_image_size,
    read_user_intrinsics,
)
from stadia.files.atomic_files import write_json
from stadia.files.json_files import read_json
from stadia.files.output_files import check_replaceable
from stadia.files.paths import expand_home

FORMAT = "stadia-camera"
WIDE_IMAGES = "note: for images wider than 3:2, a 35 mm equivalent is exact to 5 % only"


@dataclass(frozen=True, kw_only=True)
class CameraRequest:
    """`stadia camera INPUT`, with at most one source of the camera; without any, the file's metadata.

    fov_deg: from the left to the right edge of the displayed image.
    focal_px: pixels.  focal_mm: the "35 mm equivalent".
    calibration: a file of one of the formats of `read_calibration`, or a matrix K.
    name: of the camera in `calibration`; None = its first one.
    force: whether to replace a file that stadia did not write.
    """

    source: Path
    fov_deg: float | None = None
    focal_px: float | None = None
    focal_mm: float | None = None
    calibration: Path | None = None
    name: str | None = None
    force: bool = False


def write_camera_file(request: CameraRequest) -> list[str]:
    """Write the camera's file, which every command then reads; return lines for people.

    Raises ConfigError for options that contradict each other, DataError if no camera is known, or K is mixed up.
    """
    source = expand_home(request.source)
    check_path_exists(source)
    path = find_camera_output(source, request.calibration, force=request.force)
    height, width = read_image_size(source)
    known, origin, notes = _find_camera(request, source, height, width)
    if not request.force:
        _refuse_center(known, request.calibration)
    lens = _find_distortion(request, known, notes)
    replaced = describe_camera_file(path)
    values = {"format": FORMAT, "K": known.K.tolist(), "height": height, "width": width, "origin": origin}
    values |= {} if lens is None else {"distortion": {"model": lens.model, "coefficients": lens.coefficients.tolist()}}
    write_json(path, values)
    across_deg, down_deg = (
        math.degrees(2 * math.atan(side / 2 / focal))
        for side, focal in ((width, known.K[0, 0]), (height, known.K[1, 1]))
    )
    if replaced not in (None, origin):
        notes.insert(0, f"note: replaced the earlier camera ({replaced})")
    view = f"{width}x{height}, field of view {across_deg:.1f} x {down_deg:.1f} degrees"
    return [f"{path}: {origin}; {view}", *notes, *describe_focal_lengths(known)]


def _find_distortion(request: CameraRequest, known: Intrinsics, notes: list[str]) -> DistortedCamera | None:
    if request.calibration is None:
        return None
    found = choose_camera(request.calibration, request.name).find_distortion(request.calibration)
    if found is None:
        return None
    model, coefficients = found
    lens = DistortedCamera(known.K, model, np.array(coefficients), known.height, known.width)
    focal_px = float(make_undistortion(lens, request.calibration).new_K[0, 0])
    shift = f"{model}, {lens.corner_shift_px:.1f} px in the corners"
    notes.append(f"note: frames will be undistorted ({shift}); then fx is {focal_px:.1f} px")
    return lens


MIN_FOCAL_SHARE, MAX_FOCAL_SHARE = 0.15, 6.0
"""fx over the width of any pinhole camera, 147 to 10 degrees; outside, the unit is wrong."""

MAX_FOCAL_RATIO = 1.15
"""fy over fx, or the inverse; pixels of old video are 1.09 times as high as wide."""

MIN_SIZE_FACTOR = 1.4  # twice the principal point over the image's size; above, K is for larger images


def describe_focal_lengths(camera: Intrinsics) -> list[str]:
    """Return notes for impossible focal lengths: in millimetres, swapped, or of images of another shape.

    Examples:
        >>> describe_focal_lengths(Intrinsics(np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]]), 480, 640))
        []
    """
    K = camera.K if camera.K.ndim == 2 else camera.K[0]
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    notes, share = [], fx / camera.width
    if not MIN_FOCAL_SHARE <= share <= MAX_FOCAL_SHARE:
        angle = math.degrees(2 * math.atan(camera.width / 2 / fx))
        found = f"note: fx of {fx:g} px would mean a field of view of {angle:.1f} degrees"
        fix = "pass pixels, or the 35 mm equivalent with --focal-mm"
        fix = fix if share < MIN_FOCAL_SHARE else "pass K in pixels, for images of this size"
        notes.append(f"{found}. Fix: {fix}")
    if max(fx / fy, fy / fx) > MAX_FOCAL_RATIO:
        notes.append(
            f"note: fy is {fy / fx:.2f} times fx, but pixels are square. Fix: use the calibration of these images"
        )
    if (larger := _find_larger_images(cx, cy, camera)) is not None:
        notes.append(f"note: {larger[0]}. Fix: {larger[1]}")
    return notes


def _find_larger_images(cx: float, cy: float, camera: Intrinsics) -> tuple[str, str] | None:
    sizes = 2 * cx / camera.width, 2 * cy / camera.height
    if min(sizes) <= MIN_SIZE_FACTOR or abs(math.log(sizes[0] / sizes[1])) >= math.log(MIN_SIZE_FACTOR):
        return None
    larger, own = f"{2 * cx:.0f}x{2 * cy:.0f}", f"{camera.width}x{camera.height}"
    found = f"the principal point ({cx:g}, {cy:g}) fits images of about {larger}, not {own}"
    return found, f"multiply fx and cx by {1 / sizes[0]:.3g}, fy and cy by {1 / sizes[1]:.3g}"


def describe_camera_file(path: Path) -> str | None:
    """Return the origin of the intrinsics in a file of `stadia camera`; None without a file."""
    try:
        values = read_json(path)
    except (OSError, StadiaError):
        return None
    return str(values.get("origin", "another program's")) if isinstance(values, dict) else "another program's"


def find_camera_output(source: Path, calibration: Path | None, *, force: bool) -> Path:
    """Return the file to write, which is not the calibration.

    Raises StadiaError if another camera's file has priority, or would be lost.
    """
    *before, path = camera_file_names(source)
    if existing := next((file for file in before if file.exists()), None):
        fix = "remove it, or keep it: every command reads it"
        raise ConfigError(existing, found="a camera's file", expected="no camera's file", fix=fix)
    return check_replaceable(path, "camera", inputs=[calibration], force=force)


def _find_camera(request: CameraRequest, source: Path, height: int, width: int) -> tuple[Intrinsics, str, list[str]]:
    given = {
        "--fov": request.fov_deg,
        "--focal-px": request.focal_px,
        "--focal-mm": request.focal_mm,
        "--calibration": request.calibration,
    }
    options, notes = [option for option, value in given.items() if value is not None], list[str]()
    if len(options) > 1:
        raise ConfigError(" and ".join(options), found="used together", expected="one of them", fix="remove the rest")
    if request.name is not None and request.calibration is None:
        raise ConfigError("--camera", found="no --calibration", expected="both", fix="pass --calibration FILE")
    if request.calibration is not None:
        camera = choose_camera(request.calibration, request.name)
        known = Intrinsics(camera.K, *(camera.size or (height, width)))
        origin = f"{camera.name} of {request.calibration.name}"
        notes += [*describe_camera_choice(request.calibration, request.name), *describe_projection(camera)]
        if (known.height, known.width) != (height, width):
            notes.append(f"note: scaled K from {known.width}x{known.height} to {width}x{height}")
        known = fit_to_size(known, source, height, width)
        return known, origin, notes
    if request.fov_deg is not None:
        config, origin = CameraConfig(horizontal_fov_deg=request.fov_deg), f"field of view {request.fov_deg:g} degrees"
    elif request.focal_px is not None:
        config, origin = CameraConfig(focal_px=request.focal_px), f"focal length {request.focal_px:g} px"
    else:
        across_mm = full_frame_width_mm(height, width)
        lens = (request.focal_mm, across_mm) if request.focal_mm is not None else read_lens(source)
        if lens is None:
            expected = "a focal length in its metadata, or --fov, --focal-px, --focal-mm or --calibration"
            fix = f"pass one of these, such as --fov {find_phone_fov_deg(height, width):.0f} for a phone's main camera"
            raise DataError(source, found="no camera", expected=expected, fix=fix)
        config = CameraConfig(focal_mm=lens[0], sensor_width_mm=lens[1])
        origin = f"lens of {lens[0]:.3g} mm, sensor of {lens[1]:.3g} mm"
        notes += [WIDE_IMAGES] if lens[1] == across_mm and max(height, width) > 1.51 * min(height, width) else []
    return read_user_intrinsics(config, source, height, width), origin, notes


def _refuse_center(camera: Intrinsics, calibration: Path | None) -> None:
    if calibration is None:
        return
    cx, cy = camera.K[0, 2], camera.K[1, 2]
    size = f"{camera.width}x{camera.height}"
    middle, crossed = (camera.width / 2, camera.height / 2), (camera.height / 2, camera.width / 2)
    gaps = [math.hypot(cx - x, cy - y) for x, y in (middle, crossed)]
    if not (0 <= cx < camera.width and 0 <= cy < camera.height):
        found = f"a principal point ({cx:g}, {cy:g}) outside of the images of {size}"
        fix = "pass K in pixels for images of this size, [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]"
        found, fix = _find_larger_images(cx, cy, camera) or (found, fix)
    elif gaps[1] < 0.5 * gaps[0] and gaps[0] > 0.1 * camera.width:
        found = f"a principal point ({cx:g}, {cy:g}) that fits {size} better as ({cy:g}, {cx:g})"
        fix = "swap cx and cy"
    else:
        return
    fix += "; or pass --force for cropped images"
    raise DataError(calibration, found=found, expected="a point near the middle of the images", fix=fix)


def choose_camera(path: Path, name: str | None) -> CalibratedCamera:
    """Return the camera with this name or this end of its name, or the first one. Raises DataError."""
    cameras = read_calibration(path)
    if name is None:
        return cameras[0]
    named = [camera for camera in cameras if camera.name == name]
    named = named or [camera for camera in cameras if camera.name.endswith(name)]
    if len(named) != 1:
        expected = f"one of {', '.join(camera.name for camera in cameras)}"
        raise DataError(path, found=f"no camera '{name}'", expected=expected, fix="choose it by --camera")
    return named[0]


def describe_camera_choice(path: Path, name: str | None) -> list[str]:
    """Return a note if the first of several cameras is used because no name was given."""
    first, *others = read_calibration(path)
    names = [camera.name for camera in others if camera.name != first.raw_name]
    if name is not None or not names:
        return []
    return [f"note: {first.name} is the first of {len(names) + 1} cameras; --camera can be {' or '.join(names)}"]


def describe_projection(camera: CalibratedCamera) -> list[str]:
    """Return a note if the projection is for rectified images."""
    coefficients = ", ".join(f"{value:.3g}" for value in camera.raw_distortion[:5])
    lens = f" (distortion: {coefficients})" if any(camera.raw_distortion) else ""
    if not (camera.raw_name or lens):
        return []
    raw = f"; for raw images pass --camera {camera.raw_name}" if camera.raw_name else ""
    return [f"note: {camera.name} is for rectified images{raw}{lens}"]
