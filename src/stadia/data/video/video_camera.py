"""Find the camera of a user's video or folder of images: from the configuration, a file next to it, or its map."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stadia.core.errors import DataError, StadiaError
from stadia.data.config import SET_CAMERA, CameraConfig
from stadia.data.lens_distortion import (
    DISTORTION_MODELS,
    DistortedCamera,
    Undistortion,
    has_shape,
    make_shape_error,
    make_undistortion,
)
from stadia.data.recordings import FrameCrop
from stadia.data.video.static_parts import BLACK_GRAY, MAX_BLACK_SHARE, find_static_content, sample_frames
from stadia.data.video.video_map import find_map, find_mapped_camera, read_mapped_camera
from stadia.geometry.cameras import Intrinsics, centered_K, check_center, check_K, focal_px_from_fov, focal_px_from_lens
from stadia.io.image_files import IMAGE_SUFFIXES, list_images, read_rgb
from stadia.io.input_files import expand_home, read_json
from stadia.io.records.calibration import read_K
from stadia.io.typed_json import FileEntry
from stadia.io.video_decoding import K_FILE_NAMES, stream_video

log = logging.getLogger(__name__)

SAMPLES = 4  # frames, spread over the video
MIN_FRAMES = 3
MAX_SIDE_PX = 1280  # longest side of the frames that are compared
SEAM_PX, BAND_PX = 4, 24  # half widths of the searched seam, and of the band whose jumps it must exceed
MIN_SEAM_SHARE = 0.6  # of rows: at least 0.61 in 39 of 40 composites, at most 0.3 in 61 real videos of one picture
MIN_SEAM_LEAD = 0.1  # of this share over any other column's; textures of blocks have many such columns
MIN_LIKENESS = 0.6  # correlation of the halves of a stereo pair
MAX_SHIFT_SHARE = 0.15  # share of the width by which the pictures of a stereo pair may be shifted


def measure_seams(mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return, for each column, the share of image rows whose largest brightness jump nearby is there.

    Where two pictures side by side meet, the share is large. The result begins at column BAND_PX.

    mean: (H, W) mean of several gray video frames.

    Examples:
        >>> halves = np.tile(np.repeat([10.0, 90.0], 40), (8, 1))
        >>> float(measure_seams(halves)[39 - BAND_PX]), float(measure_seams(np.tile(np.arange(80.0), (8, 1))).max())
        (1.0, 0.0)
    """
    from scipy.ndimage import maximum_filter1d  # slow to import

    jumps = np.abs(np.diff(mean, axis=1))
    half, last = (BAND_PX - SEAM_PX) // 2, jumps.shape[1] - BAND_PX
    near, seam = (maximum_filter1d(jumps, size, axis=1) for size in (2 * half, 2 * SEAM_PX - 1))
    left, right = half - BAND_PX, half + SEAM_PX + 1  # middles of the windows next to the seam
    beside = np.maximum(near[:, BAND_PX + left : last + left], near[:, BAND_PX + right : last + right])
    return np.asarray((seam[:, BAND_PX:last] > beside).mean(axis=0), np.float64)


def has_seam(mean: NDArray[np.float64]) -> bool:
    """Return whether an image (H, W) is two pictures side by side: a seam is at its middle and nowhere else."""
    shares, middle = measure_seams(mean), mean.shape[1] // 2 - 1 - BAND_PX
    others = np.delete(shares, np.s_[max(middle - 2 * SEAM_PX, 0) : middle + 2 * SEAM_PX + 1])
    return bool(shares[middle] >= max(MIN_SEAM_SHARE, others.max(initial=0.0) + MIN_SEAM_LEAD))


def find_layout(frames: Sequence[NDArray[np.uint8]]) -> str | None:
    """Return how frames consist of several pictures: "left-right", "top-bottom", "four" or None.

    None means single pictures.

    frames: frames (H, W, 3) of one video.
    """
    mean = np.mean([frame.mean(axis=2) for frame in frames], axis=0)
    if min(mean.shape) < 2 * BAND_PX + 4:
        return None
    layouts = {(True, False): "left-right", (False, True): "top-bottom", (True, True): "four"}
    return layouts.get((has_seam(mean), has_seam(mean.T)))


def are_alike(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> bool:
    """Return whether two pictures (H, W, 3) show the same scene from neighboring positions, like stereo."""
    small = [
        cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (96, 64)).astype(np.float32) for image in (first, second)
    ]
    margin = round(96 * MAX_SHIFT_SHARE)
    scores = cv2.matchTemplate(small[1], small[0][2:-2, margin:-margin], cv2.TM_CCOEFF_NORMED)
    return bool(scores.max() >= MIN_LIKENESS)


CROPS = {"left-right": "iw/2:ih:0:0", "top-bottom": "iw:ih/2:0:0", "four": "iw/2:ih/2:0:0"}
"""Arguments of FFmpeg's filter `crop` that cut the first picture out of a frame, by the layout that `find_layout`
returns.
"""


@cache  # warns once per video
def warn_composite(source: Path) -> None:
    """Log a warning if each frame of a video or folder consists of several pictures.

    The warning gives a command that cuts out the first picture.
    """
    try:
        frames = _sample(source)
    except StadiaError:
        return  # reported by those who read the frames
    layout = find_layout(frames) if len(frames) >= MIN_FRAMES else None
    if layout is None:
        return
    height, width = frames[0].shape[:2]
    other = frames[0][:, width // 2 :] if layout == "left-right" else frames[0][height // 2 :]
    what = "two pictures side by side" if layout == "left-right" else "two pictures, one above the other"
    what = "four pictures" if layout == "four" else what
    whose = ""
    if layout != "four":
        is_stereo = are_alike(frames[0][: len(other), : other.shape[1]], other)
        whose = ", of a stereo camera" if is_stereo else ", of two cameras that look in different directions"
    name = source.stem if source.is_file() else source.name
    command = f"ffmpeg -i {source} -vf crop={CROPS[layout]} {source.with_name(f'{name}-first.mp4')}"
    log.warning("%s: each frame holds %s%s. Use one of them: %s", source, what, whose, command)


def _sample(source: Path) -> list[NDArray[np.uint8]]:
    frames = list(sample_frames(source, SAMPLES))
    scale = MAX_SIDE_PX / max((max(frame.shape) for frame in frames), default=1)
    if scale >= 1:
        return frames
    return [np.asarray(cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)) for frame in frames]


NO_CAMERA = "no camera"
CAMERA_ADVICE = f"Lengths depend on it: {SET_CAMERA}"
PHONE_FOV_DEG = 69  # longer side, phone's main camera: 26 mm equivalent focal length on 36 mm film


@dataclass(frozen=True, slots=True, eq=False)
class UserCamera:
    """The camera of a user's video, and the corrections of its frames.

    intrinsics: K and image size of the frames after these corrections.
    undistortion: removes the lens distortion, or None.
    crop: cuts off black bars, or None.
    """

    intrinsics: Intrinsics
    undistortion: Undistortion | None = None
    crop: FrameCrop | None = None

    @staticmethod
    def of_lens(lens: DistortedCamera, where: object, crop: FrameCrop | None = None) -> "UserCamera":
        """Return the camera of a lens whose distortion is removed from the frames.

        lens: the lens, for frames without black bars.
        where: file that describes the lens, for messages.
        crop: cuts off black bars, or None.
        """
        undistortion = make_undistortion(lens, where)
        return UserCamera(undistortion.intrinsics, undistortion, crop)

    def correct(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Remove black bars and lens distortion from a video frame (H, W, 3), so that `intrinsics` apply to it."""
        image = image if self.crop is None else self.crop.cut(image)
        return image if self.undistortion is None else self.undistortion(image)


def read_user_camera(
    config: CameraConfig, source: Path, height: int, width: int, frames: int | None = None
) -> UserCamera:
    """Find the camera of a user's video, image or folder of images.

    A horizontal field of view in the configuration means the picture from its left to its right edge, without black
    bars.

    config: how the camera is given. If it is not, a camera file next to `source`, or the map of `source`, gives it.
    source: path of the video, image or folder.
    height, width: size of the upright frames as filmed.
    frames: number of frames. A camera file with one matrix per frame must have this number; None does not check it.

    Raises DataError if no camera is found, or if it does not fit the frames.
    """
    if source.suffix.lower() not in IMAGE_SUFFIXES or source.is_dir():
        warn_composite(source)
    crop = find_crop(config, source, height, width)
    lens = find_lens(config, source)
    if lens is None:
        return UserCamera(check_center(source, _read_pinhole(config, source, (height, width), crop, frames)), crop=crop)
    known = _fit_to_crop(Intrinsics(lens.K, lens.height, lens.width), source, height, width, crop)
    check_center(source, known)
    if not config.undistort:
        _warn_distorted(source, lens.corner_shift_px)
        return UserCamera(known, crop=crop)
    camera = UserCamera.of_lens(replace(lens, K=known.K, height=known.height, width=known.width), source, crop)
    _report_undistortion(source, lens.model, lens.corner_shift_px, float(camera.intrinsics.K[0, 0]))
    return camera


def find_crop(config: CameraConfig, source: Path, height: int, width: int) -> FrameCrop | None:
    """Return the window of the picture without black bars, and log it once per video; None without bars.

    config: its `crop_bars` switches the search off.
    source: path of the video, image or folder.
    height, width: size of the frames as filmed.
    """
    if not config.crop_bars or not _may_have_bars(source):
        return None
    crop = find_static_content(source).crop
    if crop is None or (crop.height, crop.width) != (height, width):
        return None
    _report_bars(source, str(crop))
    return crop


def _may_have_bars(source: Path) -> bool:
    """Return whether black bars are worth a search: a photo needs a row or a column that is nearly black."""
    if source.is_dir() or source.suffix.lower() not in IMAGE_SUFFIXES:
        return True
    is_bright = cv2.cvtColor(read_rgb(source), cv2.COLOR_RGB2GRAY) > BLACK_GRAY
    return bool(min(is_bright.mean(axis).min() for axis in (0, 1)) <= MAX_BLACK_SHARE)


def find_static_mask(camera: UserCamera, source: Path) -> NDArray[np.bool_] | None:
    """Return a mask (H, W) bool of the parts of a user's frames that never move, such as a hood, or None.

    camera: camera of the frames, to whose corrected images the mask belongs.
    source: path of the video, image or folder.
    """
    mask = find_static_content(source).mask
    if mask is None or (camera.crop is None) != (find_static_content(source).crop is None):
        return None
    size = camera.intrinsics.width, camera.intrinsics.height
    marked = np.asarray(cv2.resize(mask.astype(np.uint8) * 255, size, interpolation=cv2.INTER_NEAREST), np.uint8)
    return np.asarray((marked if camera.undistortion is None else camera.undistortion(marked)) > 127)


@cache  # warns once per video
def _report_bars(source: Path, crop: str) -> None:
    log.warning("%s: black bars are cut off: %s. camera.crop_bars=false keeps them", source, crop)


@cache  # warns once per video
def _warn_distorted(source: Path, shift_px: float) -> None:
    log.warning(
        "%s: the lens moves the corners by %.0f px; camera.undistort=true removes this distortion", source, shift_px
    )


@cache
def _report_undistortion(source: Path, model: str, shift_px: float, focal_px: float) -> None:
    log.warning(
        "%s: frames are undistorted (%s, %.1f px at the corners); fx is then %.1f px", source, model, shift_px, focal_px
    )


def find_lens(config: CameraConfig, source: Path) -> DistortedCamera | None:
    """Return the lens with distortion of a user's frames; None if the camera is a pinhole or unknown.

    config: how the camera is given. If it is not, a camera file next to `source`, or the map of `source`, is used.
    source: path of the video, image or folder.
    """
    if config.estimate:
        return read_mapped_camera(source).lens
    if config.K_file is not None:
        return _read_lens(expand_home(config.K_file), config.size)
    if config.is_given:
        return None
    beside = find_camera_file(source)
    if beside is not None:
        return _read_lens(beside, None)
    mapped = find_mapped_camera(source)
    return None if mapped is None else mapped.lens


class _StoredDistortion(FileEntry):
    model: str
    coefficients: tuple[float, ...]


def _read_lens(path: Path, size: tuple[int, int] | None) -> DistortedCamera | None:
    if path.suffix.lower() != ".json":
        return None
    stored = read_json(path)
    if not isinstance(stored, dict) or stored.get("distortion") is None:
        return None
    expected = f'"distortion": {{"model": one of {", ".join(DISTORTION_MODELS)}, "coefficients": [numbers]}}'
    fix = "write it from the calibration: stadia camera INPUT --calibration FILE"
    try:
        lens = _StoredDistortion.model_validate(stored["distortion"])
    except ValueError as error:
        raise DataError(path, found="an invalid distortion", expected=expected, fix=fix) from error
    model = DISTORTION_MODELS.get(lens.model)
    if model is None or len(lens.coefficients) not in model.counts or not np.isfinite(lens.coefficients).all():
        found = f"{len(lens.coefficients)} coefficients of {lens.model[:40]!r}"
        raise DataError(path, found=found, expected=expected, fix=fix)
    of_size, K = size or _read_camera_size(path), read_K(path)
    if of_size is None or K.ndim != 2:
        found = "a distortion without height and width, or with several K"
        raise DataError(path, found=found, expected="one K, height and width", fix=fix)
    return DistortedCamera(K, lens.model, np.array(lens.coefficients), *of_size)


def read_user_intrinsics(
    config: CameraConfig, source: Path, height: int, width: int, frames: int | None = None
) -> Intrinsics:
    """Return K and image size of a user's frames after black bars and lens distortion are removed.

    Takes the same arguments and raises the same exceptions as `read_user_camera`.
    """
    return read_user_camera(config, source, height, width, frames).intrinsics


def _read_pinhole(
    config: CameraConfig, source: Path, size: tuple[int, int], crop: FrameCrop | None, frames: int | None
) -> Intrinsics:
    height, width = size if crop is None else (crop.window.height, crop.window.width)
    if config.estimate:
        return _fit_to_crop(read_mapped_camera(source).undistorted, source, *size, crop)
    if config.K_file is not None:
        return _fit_to_crop(
            _read_camera_file(expand_home(config.K_file), size, frames, config.size), source, *size, crop
        )
    if config.K is not None:
        K = check_K("data.camera.K", np.array(config.K, dtype=np.float64))
        return _fit_to_crop(Intrinsics(K, *(config.size or size)), source, *size, crop)
    if config.focal_px is not None:
        focal_px = config.focal_px
    elif config.focal_mm is not None and config.sensor_width_mm is not None:
        across_mm = config.sensor_width_mm * width / max(height, width)
        focal_px = focal_px_from_lens(config.focal_mm, across_mm, width)
    elif config.horizontal_fov_deg is not None:
        focal_px = focal_px_from_fov(config.horizontal_fov_deg, width)
        if height > width:
            _warn_upright(source, config.horizontal_fov_deg, height / width)
    elif find_camera_file(source) is None and (mapped := find_mapped_camera(source)) is not None:
        return _fit_to_crop(mapped.undistorted, source, *size, crop)
    else:
        return _fit_to_crop(_read_camera_file(_require_K_file(source, *size), size, frames), source, *size, crop)
    return Intrinsics(check_K("data.camera", centered_K(focal_px, height, width)), height, width)


def _other_side_deg(deg: float, ratio: float) -> float:
    return math.degrees(2 * math.atan(ratio * math.tan(math.radians(deg) / 2)))


@cache  # warns once per video
def _warn_upright(source: Path, across_deg: float, ratio: float) -> None:
    given = f"data.camera.horizontal_fov_deg={across_deg:g} is from left to right"
    makes = f"{_other_side_deg(across_deg, ratio):.0f} from top to bottom"
    turned = f"{_other_side_deg(across_deg, 1 / ratio):.1f}"
    log.warning(
        "%s is upright: %s, %s. For a camera of %g degrees held upright, set it to %s",
        source,
        given,
        makes,
        across_deg,
        turned,
    )


def _read_camera_file(
    path: Path, images: tuple[int, int], frames: int | None, size: tuple[int, int] | None = None
) -> Intrinsics:
    return Intrinsics(read_K(path, frames), *(size or _read_camera_size(path) or images))


def _fit_to_crop(known: Intrinsics, source: Path, height: int, width: int, crop: FrameCrop | None) -> Intrinsics:
    """Return intrinsics of the cropped frames from intrinsics of the whole frames, or of cropped ones at any size."""
    if crop is None:
        return fit_to_size(known, source, height, width)
    window = crop.window
    if (known.height, known.width) == (window.height, window.width) or not has_shape(known, height, width):
        return fit_to_size(known, source, window.height, window.width)
    K = known.resized(height, width).K.copy()
    K[..., :2, 2] -= (window.left, window.top)
    return Intrinsics(K, window.height, window.width)


def _read_camera_size(path: Path) -> tuple[int, int] | None:
    stored = read_json(path) if path.suffix.lower() == ".json" else None
    if not isinstance(stored, dict) or "height" not in stored or "width" not in stored:
        return None
    sides = stored["height"], stored["width"]
    if any(type(side) is not int or not 1 <= side <= 1 << 16 for side in sides):
        found = f"height {str(sides[0])[:20]} and width {str(sides[1])[:20]}"
        raise DataError(path, found=found, expected="the size of the images in pixels")
    return sides


def fit_to_size(
    known: Intrinsics, source: Path, height: int, width: int, calibration: Path | None = None
) -> Intrinsics:
    """Scale intrinsics to images of a different size and the same aspect ratio.

    known: intrinsics of the calibrated images.
    source: path of the images in an error message.
    height, width: size of the images.
    calibration: calibration file in an error message; None without a file.

    Raises DataError if the aspect ratios differ, with an explanation of how the images may have been made.
    """
    if (known.height, known.width) == (height, width):
        return known
    if not has_shape(known, height, width):
        raise make_shape_error(known, source, height, width, calibration)
    return known.resized(height, width)


def camera_file_names(source: Path) -> list[Path]:
    """Return the paths at which the camera file of a video, image or folder is searched."""
    return [source / name if source.is_dir() else source.with_suffix(f".{name}") for name in K_FILE_NAMES]


def find_camera_file(source: Path) -> Path | None:
    """Return the path of the camera file of a video, image or folder; None without a file."""
    return next((path for path in camera_file_names(source) if path.is_file()), None)


METRES_KEY = "metres"
"""Key of a camera file under which `stadia calibrate` keeps scales, by the network's name."""


SURE = 2.0
"""A range error or a wrong focal length is reported if it is larger than this many standard deviations."""

Positive = Annotated[float, Field(gt=0)]


class KeptScale(FileEntry):
    """The factor from a network's depth to metres for one camera, fitted to lengths that the user measured.

    factor: metres per unit of depth, at the mean of the measured depths.
    factor_deviation: relative standard deviation of `factor`.
    deviation: relative standard deviation of the factor on a new picture.
    depth_deviation: relative standard deviation of the scaled depth of one pixel of a new picture.
    range_error: p in (measured length / scaled length) ~ depth^p; 0 if one factor fits all depths.
    range_deviation: standard deviation of `range_error`.
    focal_ratio: true over used focal length, by lengths across the optical axis.
    focal_deviation: relative standard deviation of `focal_ratio`.
    inliers: share of the measurements that the factor fits within 25 %.
    measurements: number of measured lengths.
    pictures: number of pictures that show them.
    """

    factor: Positive
    factor_deviation: Positive
    deviation: Positive
    depth_deviation: Positive
    range_error: float
    range_deviation: Positive
    focal_ratio: Positive
    focal_deviation: Positive
    inliers: Annotated[float, Field(ge=0, le=1)]
    measurements: Annotated[int, Field(gt=0)]
    pictures: Annotated[int, Field(gt=0)]

    @property
    def grows_with_depth(self) -> bool:
        """Return whether one factor does not explain lengths at several depths."""
        return abs(self.range_error) > SURE * self.range_deviation

    @property
    def has_wrong_focal(self) -> bool:
        """Return whether lengths across the optical axis contradict the focal length."""
        return abs(math.log(self.focal_ratio)) > SURE * self.focal_deviation


def find_kept_scale(config: CameraConfig, source: Path, network: str) -> KeptScale | None:
    """Return the scale that `stadia calibrate` kept with the camera of an input; None if it kept none.

    config: how the camera is given. If it is not, the camera file next to `source` is used.
    source: path of the video, image or folder.
    network: name of the network.

    Raises DataError for a damaged entry.
    """
    if config.K_file is not None:
        path: Path | None = expand_home(config.K_file)
    else:
        path = None if config.is_given else find_camera_file(source)
    if path is None or path.suffix.lower() != ".json":
        return None
    stored = read_json(path)
    scales = stored.get(METRES_KEY) if isinstance(stored, dict) else None
    if not isinstance(scales, dict) or network not in scales:
        return None
    try:
        return KeptScale.model_validate(scales[network])
    except ValueError as error:
        found, fix = f"invalid metres of {network}", "run stadia calibrate again"
        raise DataError(path, found=found, expected="what stadia calibrate writes", fix=fix) from error


def read_picture_size(config: CameraConfig, source: Path) -> tuple[int, int]:
    """Return the (height, width) of the frames of a video, image or folder, without black bars."""
    size = read_image_size(source)
    crop = find_crop(config, source, *size)
    return size if crop is None else (crop.window.height, crop.window.width)


def read_image_size(source: Path) -> tuple[int, int]:
    """Return the (height, width) of the frames of a video, image or folder as filmed.

    Of a folder the first image is read.
    """
    if source.is_dir():
        source = list_images(source)[0]
    shape = (read_rgb(source) if source.suffix.lower() in IMAGE_SUFFIXES else next(stream_video(source)).image).shape
    return shape[0], shape[1]


def _require_K_file(source: Path, height: int, width: int) -> Path:
    found = find_camera_file(source)
    if found is None:
        name = camera_file_names(source)[0].name
        expected = f"{name} next to it, or data.camera.K_file, .focal_px, .focal_mm or .horizontal_fov_deg"
        raise DataError(source, found=NO_CAMERA, expected=expected, fix=describe_camera_fix(source, height, width))
    return found


def describe_camera_fix(source: Path, height: int, width: int) -> str:
    """Return a text for error messages that explains how to give the camera.

    source: path of the video, image or folder.
    height, width: size of its frames.
    """
    phone_deg = find_phone_fov_deg(height, width)
    fix = (
        f"set the field of view, such as data.camera.horizontal_fov_deg={phone_deg:.0f} of a phone,"
        f" or save it: `stadia camera {source} --fov {phone_deg:.0f}`"
    )
    if source.suffix.lower() in IMAGE_SUFFIXES:
        return fix
    if (mapped := find_map(source)) is not None:
        return f"{fix} (the motion in {mapped.folder.name} does not determine it)"
    return f"{fix}; if the camera turns, `stadia map {source}` estimates it"


def find_phone_fov_deg(height: int, width: int) -> float:
    """Return the horizontal field of view in degrees of a phone's main camera, a guess for images of unknown phones.

    height, width: size of the upright images.
    """
    return _other_side_deg(PHONE_FOV_DEG, width / max(height, width))
