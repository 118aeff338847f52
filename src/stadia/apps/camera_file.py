"""Write the camera of a video, an image or a folder of images beside it: `stadia camera`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stadia.core.errors import ConfigError, DataError, StadiaError
from stadia.datasets.config import CameraConfig
from stadia.datasets.formats.calibration_files import CalibratedCamera, full_frame_width_mm, read_calibration, read_lens
from stadia.datasets.open_dataset import check_path_exists
from stadia.datasets.recordings import Intrinsics
from stadia.datasets.video.video_files import camera_file_names, fit_to_size, read_image_size, read_user_intrinsics
from stadia.files.atomic_files import write_json
from stadia.files.json_files import read_json
from stadia.files.output_files import check_replaceable
from stadia.files.paths import expand_home

FORMAT = "stadia-camera"
WIDE_IMAGES = (
    "note: a 35 mm equivalent gives the field of view of images wider than 3:2 within 5 %, since the part of the sensor"
    " that they show is not known: a calibration is exact"
)


@dataclass(frozen=True, kw_only=True)
class CameraRequest:
    """`stadia camera INPUT`, with at most one of the others; without, the lens is read from the file's metadata.

    fov_deg: from the left to the right edge of the displayed image.
    focal_px: pixels.
    focal_mm: the "35 mm equivalent".
    calibration: a file of OpenCV, Kalibr, ROS, EuRoC or KITTI, or a matrix K.
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


def write_camera_file(request: CameraRequest) -> Iterator[str]:
    """Write the camera's file, which every command then reads; yield lines for people.

    Raises ConfigError for options that contradict each other, DataError where no camera is known.
    """
    source = expand_home(request.source)
    check_path_exists(source)
    path = find_camera_output(source, request.calibration, force=request.force)
    height, width = read_image_size(source)
    known, origin, notes = _find_camera(request, source, height, width)
    replaced = describe_camera_file(path)
    values = {"format": FORMAT, "K": known.K.tolist(), "height": height, "width": width, "origin": origin}
    write_json(path, values)
    across_deg, down_deg = (
        math.degrees(2 * math.atan(side / 2 / focal))
        for side, focal in ((width, known.K[0, 0]), (height, known.K[1, 1]))
    )
    yield f"{path}: {origin}; {width}x{height}, field of view {across_deg:.1f} x {down_deg:.1f} degrees"
    if replaced is not None and replaced != origin:
        yield f"note: it replaces the camera that was there ({replaced})"
    yield from notes


def describe_camera_file(path: Path) -> str | None:
    """Return where the intrinsics in a file of `stadia camera` come from; None where there is no such file."""
    try:
        values = read_json(path)
    except (OSError, StadiaError):
        return None
    return str(values.get("origin", "another program's")) if isinstance(values, dict) else "another program's"


def find_camera_output(source: Path, calibration: Path | None, *, force: bool) -> Path:
    """Return the file to write, which is not the calibration.

    Raises StadiaError where another camera's file would come before it, or be lost.
    """
    *before, path = camera_file_names(source)
    if existing := next((file for file in before if file.exists()), None):
        fix = "remove it, or keep it: every command reads it"
        raise ConfigError(existing, found="a camera's file already", expected="none", fix=fix)
    return check_replaceable(path, "camera", inputs=[calibration], force=force)


def _find_camera(request: CameraRequest, source: Path, height: int, width: int) -> tuple[Intrinsics, str, list[str]]:
    """Return the intrinsics of the images, where they come from, and notes."""
    given = {
        "--fov": request.fov_deg,
        "--focal-px": request.focal_px,
        "--focal-mm": request.focal_mm,
        "--calibration": request.calibration,
    }
    options, notes = [option for option, value in given.items() if value is not None], list[str]()
    if len(options) > 1:
        raise ConfigError(
            " and ".join(options), found="used together", expected="one of them", fix="leave the others out"
        )
    if request.name is not None and request.calibration is None:
        raise ConfigError(
            "--camera", found="used without --calibration", expected="both", fix="pass --calibration FILE"
        )
    if request.calibration is not None:
        camera = choose_camera(request.calibration, request.name)
        known = Intrinsics(camera.K, *(camera.size or (height, width)))
        origin = f"{camera.name} of {request.calibration.name}"
        notes += [*describe_camera_choice(request.calibration, request.name), *describe_distortion(camera)]
        if (known.height, known.width) != (height, width):
            notes.append(f"note: K was scaled from images of {known.width}x{known.height} to {width}x{height}")
        known = fit_to_size(known, source, height, width)
        return known, origin, [*notes, *describe_center(known)]
    if request.fov_deg is not None:
        config, origin = CameraConfig(horizontal_fov_deg=request.fov_deg), f"field of view {request.fov_deg:g} degrees"
    elif request.focal_px is not None:
        config, origin = CameraConfig(focal_px=request.focal_px), f"focal length {request.focal_px:g} px"
    else:
        across_mm = full_frame_width_mm(height, width)
        lens = (request.focal_mm, across_mm) if request.focal_mm is not None else read_lens(source)
        if lens is None:
            expected = "a focal length in its metadata, or --fov, --focal-px, --focal-mm or --calibration"
            fix = "pass one of these; for a phone's main camera --fov 69 (held upright: --fov 42)"
            raise DataError(source, found="no camera", expected=expected, fix=fix)
        config = CameraConfig(focal_mm=lens[0], sensor_width_mm=lens[1])
        origin = f"lens of {lens[0]:.3g} mm, sensor of {lens[1]:.3g} mm"
        notes += [WIDE_IMAGES] if lens[1] == across_mm and max(height, width) > 1.51 * min(height, width) else []
    return read_user_intrinsics(config, source, height, width), origin, notes


def describe_center(camera: Intrinsics) -> list[str]:
    """Return a note for a principal point outside of the image, which only a crop far from the middle has."""
    cx, cy = camera.K[0, 2], camera.K[1, 2]
    if 0 <= cx < camera.width and 0 <= cy < camera.height:
        return []
    found = f"the principal point ({cx:g}, {cy:g}) lies outside of the images of {camera.width}x{camera.height}"
    fix = "give K of images of this size in pixels, [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]"
    return [f"note: {found}: K is of larger images, or its numbers have another order. Fix: {fix}"]


def choose_camera(path: Path, name: str | None) -> CalibratedCamera:
    """Return the camera of this name, or of the one name that ends with it, or the first one. Raises DataError."""
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
    """Return a note where the first one of several cameras is taken because none was named."""
    first, *others = read_calibration(path)
    names = [camera.name for camera in others if camera.name != first.raw_name]
    if name is not None or not names:
        return []
    return [f"note: {first.name} is the first of {len(names) + 1} cameras; --camera chooses {' or '.join(names)}"]


def describe_distortion(camera: CalibratedCamera) -> list[str]:
    """Return a note for a projection of rectified images, or for a lens with distortion, which a pinhole has not."""
    coefficients = ", ".join(f"{value:.3g}" for value in (camera.raw_distortion or camera.distortion)[:5])
    lens = f" (the lens has distortion: {coefficients})" if any(camera.raw_distortion) else ""
    if camera.raw_name or lens:
        raw = f"pass --camera {camera.raw_name}" if camera.raw_name else "the file has no matrix"
        return [f"note: {camera.name} is for rectified images; for raw images {raw}{lens}"]
    if not camera.is_distorted:
        return []
    how = "undistort the images first (docs/how-to/undistort.md)"
    return [f"note: the lens has distortion ({coefficients}), and a pinhole has none: {how}"]
