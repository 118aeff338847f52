"""Write the camera of a video, an image or a folder of images next to it: `stadia camera`."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import ConfigError, DataError, StadiaError
from stadia.data.config import CameraConfig
from stadia.data.formats.photo_lens import describe_crop, full_frame_width_mm, read_lens, refuse_panorama
from stadia.data.lens_distortion import (
    DistortedCamera,
    find_fisheye,
    find_other_order,
    fit_camera,
    make_undistortion,
    order_frames,
    turn_lens,
)
from stadia.data.video.input_camera import find_field_of_view
from stadia.data.video.video_camera import (
    camera_file_names,
    find_phone_fov_deg,
    fit_to_size,
    read_image_size,
    read_user_intrinsics,
)
from stadia.geometry.cameras import Intrinsics
from stadia.io.atomic_files import write_json
from stadia.io.image_files import IMAGE_SUFFIXES, list_images
from stadia.io.input_files import check_path_exists, expand_home, read_json
from stadia.io.output_files import check_replaceable
from stadia.io.records.calibration import read_calibration
from stadia.io.records.camera_keys import CalibratedCamera
from stadia.io.records.formats import RADTAN
from stadia.io.video_decoding import VIDEO_SUFFIXES

FORMAT = "stadia-camera"
WIDE_IMAGES = "note: for images wider than 3:2, a 35 mm equivalent is exact to 5 % only"


@dataclass(frozen=True, kw_only=True)
class CameraRequest:
    """The arguments of `stadia camera INPUT`, with at most one source of the camera; without any, the file's metadata
    is used.

    source: the video, image or folder of images.
    fov_deg: field of view from the left to the right edge of the displayed image, degrees.
    focal_px: focal length, pixels.
    focal_mm: 35 mm equivalent focal length, millimetres.
    calibration: a calibration file in one of the formats of `read_calibration`, or a matrix K.
    name: name of the camera in `calibration`; None takes its first one.
    fit: how a calibration for another image shape is applied, a name in `FITS`; None if the images have its shape.
    force: whether to replace a file that stadia did not write.
    """

    source: Path
    fov_deg: float | None = None
    focal_px: float | None = None
    focal_mm: float | None = None
    calibration: Path | None = None
    name: str | None = None
    fit: str | None = None
    force: bool = False


def write_camera_file(request: CameraRequest) -> list[str]:
    """Write the camera file next to the input, which every command then reads; return lines of text about the camera.

    Raises ConfigError for options that contradict each other, DataError if no camera is known or the entries of K are
    mixed up.
    """
    source = expand_home(request.source)
    check_path_exists(source)
    if source.is_dir():
        _refuse_videos(source)
    path = find_camera_output(source, request.calibration, force=request.force)
    height, width = read_image_size(source)
    known, origin, notes = _find_camera(request, source, height, width)
    if not request.force:
        _refuse_center(known, request)
    lens = _find_distortion(request, known, notes)
    replaced = describe_camera_file(path)
    store_camera(path, known, origin, None if lens is None else (lens.model, lens.coefficients))
    skew_px = float(known.K[..., 0, 1].max())
    if abs(skew_px) > MAX_SKEW_PX:
        notes.append(f"note: K has a skew of {skew_px:.2f} px, which lenses do not have: calibrate without it")
    across_deg, down_deg = find_field_of_view(known)
    if replaced not in (None, origin):
        notes.insert(0, f"note: replaced the earlier camera ({replaced})")
    view = f"{known.width}x{known.height}, field of view {across_deg:.1f} x {down_deg:.1f} degrees"
    return [f"{path}: {origin}; {view}", *notes, *describe_focal_lengths(known)]


def store_camera(
    path: Path, camera: Intrinsics, origin: str, lens: tuple[str, NDArray[np.float64]] | None = None
) -> None:
    """Write a file of a camera as every command reads it.

    path: the file.
    camera: K in pixels, and the size of its images.
    origin: where K is from.
    lens: name of the distortion model, and its coefficients; None without distortion.
    """
    values = {
        "format": FORMAT,
        "K": camera.K.tolist(),
        "height": camera.height,
        "width": camera.width,
        "origin": origin,
    }
    values |= {} if lens is None else {"distortion": {"model": lens[0], "coefficients": lens[1].tolist()}}
    write_json(path, values)


def _refuse_videos(folder: Path) -> None:
    suffixes = {path.suffix.lower(): path for path in sorted(folder.iterdir(), reverse=True)}
    videos = [path for suffix, path in suffixes.items() if suffix in VIDEO_SUFFIXES]
    if videos and not suffixes.keys() & set(IMAGE_SUFFIXES):
        fix = f"name each video, such as stadia camera {videos[0]}"
        raise DataError(folder, found="a folder of videos", expected="one video, or a folder of images", fix=fix)


def _find_distortion(request: CameraRequest, known: Intrinsics, notes: list[str]) -> DistortedCamera | None:
    if request.calibration is None:
        return None
    size = (known.height, known.width)
    found = choose_camera(request.calibration, request.name, size).find_distortion(request.calibration)
    if found is None:
        return None
    model, coefficients = found
    if known.K.ndim == 3:
        fix = "undistort the images: docs/how-to/undistort.md"
        expected = "one K for frames with distortion, or no distortion"
        raise DataError(request.calibration, found=f"{len(known.K)} K with distortion", expected=expected, fix=fix)
    coefficients = turn_lens(coefficients, request.fit) if model == RADTAN else coefficients
    lens = DistortedCamera(known.K, model, np.array(coefficients), known.height, known.width)
    focal_px = float(make_undistortion(lens, request.calibration).new_K[0, 0])
    shift = f"{model}, {lens.corner_shift_px:.1f} px in the corners"
    notes.append(f"note: frames will be undistorted ({shift}); then fx is {focal_px:.1f} px")
    if order := find_other_order(lens) or find_fisheye(lens):
        notes.append(f"note: the tangential coefficients are larger than those of lenses. Fix: {order}")
    return lens


MIN_FOCAL_SHARE, MAX_FOCAL_SHARE = 0.15, 6.0
"""Largest fx over the image width of a plausible pinhole camera (MIN_FOCAL_SHARE: smallest); 10 and 147 degrees of
view. Outside, the focal length is in another unit.
"""

MAX_FOCAL_RATIO = 1.12
"""Largest plausible ratio of fy and fx, either way; pixels of old video (NTSC) are 1.1 times as high as wide."""

MAX_CENTER_RATIO = 1.15
"""Largest ratio of the two factors of a resized image, since a principal point is not in the middle."""

MAX_SKEW_PX = 0.5
"""Skew of K, pixels, that moves no point by more than a pixel."""

MIN_SIZE_FACTOR = 1.4  # twice the principal point over the image's size, or its inverse: above, K is of other images


def describe_focal_lengths(camera: Intrinsics) -> list[str]:
    """Return notes about implausible intrinsics: in millimetres, with fx and fy swapped, or for images of another size.

    Examples:
        >>> describe_focal_lengths(Intrinsics(np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]]), 480, 640))
        []
        >>> describe_focal_lengths(Intrinsics(np.array([[540.0, 0, 318], [0, 540, 204], [0, 0, 1]]), 800, 1280))[0][:70]
        'note: the principal point (318, 204) fits images of about 636x408, not'
        >>> K = np.array([[900.0, 0, 1280], [0, 900, 800], [0, 0, 1]])
        >>> describe_focal_lengths(Intrinsics(K, 800, 1280))[0][:63]
        'note: the principal point (1280, 800) is the size of the images'
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
    if (other := _find_other_size(cx, cy, camera)) is not None:
        notes.append(f"note: {other[0]}. Fix: {other[1]}")
    return notes


MAX_SIZE_ERROR = 0.002
"""Largest difference from 2 of twice the principal point over the image's size, if both are one number."""


def _find_other_size(cx: float, cy: float, camera: Intrinsics) -> tuple[str, str] | None:
    """Return what images the principal point fits, and the fix; None if it fits these images."""
    sizes = 2 * cx / camera.width, 2 * cy / camera.height
    is_other = min(sizes) > MIN_SIZE_FACTOR or 0 < max(sizes) < 1 / MIN_SIZE_FACTOR
    if not is_other or min(sizes) <= 0 or abs(math.log(sizes[0] / sizes[1])) >= math.log(MIN_SIZE_FACTOR):
        return None
    other, own = f"{2 * cx:.0f}x{2 * cy:.0f}", f"{camera.width}x{camera.height}"
    found = f"the principal point ({cx:g}, {cy:g}) fits images of about {other}, not {own}"
    if max(abs(size - 2) for size in sizes) < MAX_SIZE_ERROR:
        found = f"the principal point ({cx:g}, {cy:g}) is the size of the images"
        fix = (
            f"look at which is wrong: all of K is for images of {other} (multiply it by 0.5), or only cx and cy (halve"
        )
        return found, f"{fix} these two)"
    if abs(math.log(sizes[0] / sizes[1])) < math.log(MAX_CENTER_RATIO):
        factor = 1 / math.sqrt(sizes[0] * sizes[1])
        return (
            found,
            f"multiply all of K by one factor near {factor:.2g}: the width of these images over that of K's images",
        )
    return found, "crop or resize the images as those of the calibration, or calibrate these images"


def describe_camera_file(path: Path) -> str | None:
    """Return the origin of the intrinsics in a file of `stadia camera`, in words; None without a readable file."""
    try:
        values = read_json(path)
    except (OSError, StadiaError):
        return None
    return str(values.get("origin", "another program's")) if isinstance(values, dict) else "another program's"


def find_camera_output(source: Path, calibration: Path | None, *, force: bool) -> Path:
    """Return the camera file to write for an input.

    source: the video, image or folder.
    calibration: the calibration file that is read, which must not be overwritten; or None.
    force: whether a file that stadia did not write may be replaced.

    Raises StadiaError if another camera file has priority over this one, or would be lost.
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
        raise ConfigError(
            " and ".join(options),
            found="used together",
            expected="one of them",
            fix="keep one of these options and remove the others",
        )
    if request.name is not None and request.calibration is None:
        raise ConfigError("--camera", found="no --calibration", expected="both", fix="pass --calibration FILE")
    if request.calibration is not None:
        camera = choose_camera(request.calibration, request.name, (height, width))
        known = Intrinsics(camera.K, *(camera.size or (height, width)))
        origin = f"{camera.name} of {request.calibration.name}"
        notes += [*camera.notes, *describe_camera_choice(request.calibration, request.name, camera)]
        notes += describe_projection(camera)
        if camera.K_of_frames is not None and source.is_dir():
            stems = [image.stem for image in list_images(source)]
            known = order_frames(known, dict(camera.K_of_frames), stems, request.calibration)
        elif camera.K_of_frames is not None:
            known = replace(known, K=np.stack(list(camera.K_of_frames.values())))
        if request.fit is not None:
            notes.append(f"note: K is of images {request.fit} from {known.width}x{known.height}")
            return fit_camera(known, request.fit, height, width), f"{origin}, {request.fit}", notes
        if (known.height, known.width) != (height, width):
            notes.append(f"note: scaled K from {known.width}x{known.height} to {width}x{height}")
        return fit_to_size(known, source, height, width, request.calibration), origin, notes
    if request.fit is not None:
        raise ConfigError("--fit", found="no --calibration", expected="both", fix="pass --calibration FILE")
    refuse_panorama(source)
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
        if request.focal_mm is None and (cropped := describe_crop(source)) is not None:
            fix = "pass the picture's own field of view: --fov DEGREES"
            raise DataError(source, found=cropped, expected="a whole photo", fix=fix)
        notes += [WIDE_IMAGES] if lens[1] == across_mm and max(height, width) > 1.51 * min(height, width) else []
    return read_user_intrinsics(config, source, height, width), origin, notes


def _refuse_center(camera: Intrinsics, request: CameraRequest) -> None:
    if (calibration := request.calibration) is None:
        return
    cx, cy = camera.select_K(0)[:2, 2]
    size = f"{camera.width}x{camera.height}"
    middle, crossed = (camera.width / 2, camera.height / 2), (camera.height / 2, camera.width / 2)
    gaps = [math.hypot(cx - x, cy - y) for x, y in (middle, crossed)]
    if not (0 <= cx < camera.width and 0 <= cy < camera.height):
        found = f"a principal point ({cx:g}, {cy:g}) outside of the images of {size}"
        fix = "pass K in pixels for images of this size, [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]"
        found, fix = _find_other_size(cx, cy, camera) or (found, fix)
    elif gaps[1] < 0.5 * gaps[0] and gaps[0] > 0.1 * camera.width:
        found = f"a principal point ({cx:g}, {cy:g}) that fits {size} better as ({cy:g}, {cx:g})"
        fix = "swap cx and cy"
    else:
        return
    fix += "; or pass --force for cropped images"
    chosen = choose_camera(calibration, request.name, (camera.height, camera.width))
    fix += "".join(
        f" ({note.removeprefix('note: ')})" for note in describe_camera_choice(calibration, request.name, chosen)
    )
    raise DataError(calibration, found=found, expected="a point near the middle of the images", fix=fix)


def choose_camera(path: Path, name: str | None, size: tuple[int, int] | None = None) -> CalibratedCamera:
    """Choose a camera in a calibration file.

    path: the file.
    name: name of the camera, or the end of it; None takes one for images of this size, or else of this aspect ratio,
        or else the first.
    size: (height, width) of the images, pixels; None if unknown.

    Raises DataError if no or several cameras have this name.
    """
    cameras = read_calibration(path)
    if name is None:
        same_size = [camera for camera in cameras if camera.size == size]
        if size is not None and not same_size:  # a device records smaller images than its sensor
            same_size = [one for one in cameras if one.size and one.size[0] * size[1] == one.size[1] * size[0]]
        camera = cameras[0] if cameras[0].size is None or not same_size else same_size[0]
    else:
        named = [camera for camera in cameras if camera.name == name]
        named = named or [camera for camera in cameras if camera.name.endswith(name)]
        if len(named) != 1:
            expected = f"one of {', '.join(camera.name for camera in cameras)}"
            raise DataError(path, found=f"no camera '{name}'", expected=expected, fix="choose it by --camera")
        camera = named[0]
    if size is not None and size != camera.size and camera.other_sizes and size in camera.other_sizes:
        note = "note: the images have the sensor's size, so the region and the binning of the file are not used"
        return replace(camera, K=camera.other_sizes[size], size=size, notes=(note,))
    return camera


def describe_camera_choice(path: Path, name: str | None, chosen: CalibratedCamera) -> list[str]:
    """Return a note if the calibration file has several cameras and no name chose one of them; otherwise an empty list.

    path: the calibration file.
    name: the name that the user gave, or None.
    chosen: the camera that was chosen.
    """
    cameras = read_calibration(path)
    names = [camera.name for camera in cameras if camera.name not in (chosen.name, chosen.raw_name)]
    if name is not None or not names:
        return []
    which = "first" if chosen.name == cameras[0].name else "first with the images' size or shape"
    return [f"note: {chosen.name} is the {which} of {len(names) + 1} cameras; --camera can be {' or '.join(names)}"]


def describe_projection(camera: CalibratedCamera) -> list[str]:
    """Return a note if the camera's matrix belongs to rectified images although a raw one exists; otherwise an empty
    list.
    """
    coefficients = ", ".join(f"{value:.3g}" for value in camera.raw_distortion[:5])
    lens = f" (distortion: {coefficients})" if any(camera.raw_distortion) else ""
    if not (camera.raw_name or lens):
        return []
    raw = f"; for raw images pass --camera {camera.raw_name}" if camera.raw_name else ""
    notes = [f"note: {camera.name} is for rectified images{raw}{lens}"]
    if camera.size is not None and camera.model == RADTAN:
        distorted = DistortedCamera(camera.K, RADTAN, np.array(camera.raw_distortion), *camera.size)
        if fix := find_fisheye(distorted):
            notes.append(f"note: the tangential coefficients are larger than those of lenses. Fix: {fix}")
    return notes
