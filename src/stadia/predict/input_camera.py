"""Choose the camera of your own images: known, from the training, or assumed."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stadia.core.errors import DataError, StadiaError
from stadia.datasets.config import CameraConfig
from stadia.datasets.formats.camera_tables import CUT_PANORAMA
from stadia.datasets.formats.photo_lens import describe_crop, read_lens
from stadia.datasets.image_files import IMAGE_SUFFIXES, read_rgb
from stadia.datasets.recordings import Intrinsics
from stadia.datasets.video.map_geometry import MAX_FOCAL_DIFFERENCE
from stadia.datasets.video.video_camera import (
    CAMERA_ADVICE,
    find_camera_file,
    read_image_size,
    read_picture_size,
    read_user_intrinsics,
)
from stadia.datasets.video.video_map import MapCamera, find_map_folder, find_photo_camera, find_usable_map
from stadia.geometry.numpy_camera import focal_px_from_fov

ASSUMED_FOV_DEG = 60.0
"""Phones have 65 to 70 degrees across the longer side, and 50 mm lenses 40."""

MIN_FOV_DEG, MAX_FOV_DEG = 10.0, 120.0
"""Usual cameras have these fields of view across the longer side; others mostly have another unit."""

MAX_WRAP_SHARE = 0.5  # largest difference of a panorama's edges, over the difference of columns half an image apart

SHAPE_TOLERANCE = 0.02
"""The aspect ratio of images may differ by this much from that of the training's camera."""

SET_CAMERA = "set it with data.camera.horizontal_fov_deg=DEGREES"


@dataclass(frozen=True)
class InputCamera:
    """The camera of your own images, and its origin.

    config: opens the images.
    origin: for people, such as "33 mm lens of EXIF".
    is_assumed: nothing about these images states it.
    """

    config: CameraConfig
    origin: str
    is_assumed: bool = False
    warnings: tuple[str, ...] = field(default=())

    def describe_origin(self) -> str:
        """Return its origin for people."""
        return f"assumed, {self.origin}" if self.is_assumed else self.origin

    def lines(self, intrinsics: Intrinsics) -> list[str]:
        """Return lines for people, for frames with these intrinsics."""
        across_deg, down_deg = find_field_of_view(intrinsics)
        angles = f"{across_deg:.1f} x {down_deg:.1f} degrees"
        longest = max(across_deg, down_deg)
        line = f"camera: {self.describe_origin()}, {angles}"
        if self.is_assumed:
            line += f". {CAMERA_ADVICE}"
        warnings = [f"warn: {text}" for text in self.warnings]
        if not MIN_FOV_DEG <= longest <= MAX_FOV_DEG:
            warnings.append(
                f"warn: a field of view of {longest:.0f} degrees is unusual ({MIN_FOV_DEG:g} to {MAX_FOV_DEG:g})."
                f" Give the focal length in pixels of these images, or {SET_CAMERA}"
            )
        return [line, *warnings]


def choose_input_camera(given: CameraConfig, source: Path, trained: CameraConfig | None = None) -> InputCamera:
    """Return the camera of a photo, a video or a folder of images.

    The order is: the given one, a file next to the images, a map that determines it, the lens in the metadata, the
    training's, a map that does not determine it, and ASSUMED_FOV_DEG.

    given: `data.camera`.
    source: the images.
    trained: the one camera of the network's training, or None.

    Raises DataError for images that cannot be read.
    """
    beside, mapped, folder = find_camera_file(source), find_usable_map(source), source
    camera = None if mapped is None else mapped.camera
    if mapped is None and (camera := find_photo_camera(source)) is not None:
        folder = source.parent
    name = find_map_folder(folder).name
    if given.is_given:
        return InputCamera(given, "given by data.camera", warnings=_compare_with_file(given, source, beside))
    if beside is not None:
        return InputCamera(given, beside.name)
    if camera is not None and camera.is_determined:
        return InputCamera(given, f"{name} ({camera.origin})")
    lens = read_lens(source)
    if lens is not None:
        name = "EXIF" if source.is_dir() or source.suffix.lower() in IMAGE_SUFFIXES else "the video's metadata"
        config = given.model_copy(update={"focal_mm": lens[0], "sensor_width_mm": lens[1]})
        if (cropped := describe_crop(source)) is not None:
            warning = f"{cropped}. Fix: `stadia camera {source} --fov DEGREES` with the picture's own field of view"
            return InputCamera(config, f"{lens[0]:.3g} mm lens of {name}", is_assumed=True, warnings=(warning,))
        return InputCamera(config, f"{lens[0]:.3g} mm lens of {name}")
    if trained is not None:
        _refuse_other_shape(trained, given, source)
        config = trained.model_copy(update={"undistort": given.undistort, "crop_bars": given.crop_bars})
        return InputCamera(config, "the camera of the training", is_assumed=True)
    if camera is not None:
        origin = f"from {name}, whose motion does not determine it"
        return InputCamera(_take_map_camera(camera), origin, is_assumed=True)
    size = read_picture_size(given, source)
    focal_px = focal_px_from_fov(ASSUMED_FOV_DEG, max(size))
    origin = f"{ASSUMED_FOV_DEG:g} degrees across the longer side"
    warnings: tuple[str, ...] = ()
    if size[1] == 2 * size[0] and _wraps_around(source):
        text = "it is twice as wide as high and its left edge continues its right edge, as in a panorama of 360 degrees"
        warnings = (f"{text}. Fix: {CUT_PANORAMA}",)
    config = given.model_copy(update={"focal_px": focal_px})
    return InputCamera(config, origin, is_assumed=True, warnings=warnings)


def _refuse_other_shape(trained: CameraConfig, given: CameraConfig, source: Path) -> None:
    """Raise DataError if the images cannot come from the camera of a training, which is an assumption."""
    height, width = read_picture_size(given, source)
    if trained.size is None or abs(math.log(width / height * trained.size[0] / trained.size[1])) < SHAPE_TOLERANCE:
        return
    raise DataError(
        source,
        found=f"images of {width}x{height} and no camera",
        expected=f"the shape of the training's camera, {trained.size[1]}x{trained.size[0]}, or a camera",
        fix="give the lens of these images: data.camera.horizontal_fov_deg=DEGREES",
    )


def _wraps_around(source: Path) -> bool:
    if source.is_dir() or source.suffix.lower() not in IMAGE_SUFFIXES:
        return False
    image = read_rgb(source).astype(np.float64)
    across = np.abs(image[:, 0] - image[:, -1]).mean()
    neighbors = np.abs(np.diff(image, axis=1)).mean()
    apart = np.abs(image[:, : image.shape[1] // 2] - image[:, image.shape[1] // 2 :]).mean()
    return bool(across < 2 * neighbors + 1 and across < MAX_WRAP_SHARE * apart)


def describe_camera(origin: str, intrinsics: Intrinsics) -> list[str]:
    """Return the line about a camera that a data set states.

    Examples:
        >>> import numpy as np
        >>> describe_camera("of the data set", Intrinsics(np.array([[50.0, 0, 50], [0, 50, 50], [0, 0, 1]]), 100, 100))
        ['camera: of the data set, 90.0 x 90.0 degrees']
    """
    return InputCamera(CameraConfig(), origin).lines(intrinsics)[:1]


def find_field_of_view(intrinsics: Intrinsics) -> tuple[float, float]:
    """Return the horizontal and vertical angles, degrees, of the first frame.

    Examples:
        >>> import numpy as np
        >>> find_field_of_view(Intrinsics(np.array([[50.0, 0, 50], [0, 50, 50], [0, 0, 1]]), 100, 100))
        (90.0, 90.0)
    """
    K = intrinsics.select_K(0)
    across, down = (
        math.degrees(2 * math.atan(side / 2 / focal))
        for side, focal in ((intrinsics.width, K[0, 0]), (intrinsics.height, K[1, 1]))
    )
    return round(across, 6), round(down, 6)


def _compare_with_file(given: CameraConfig, source: Path, beside: Path | None) -> tuple[str, ...]:
    if beside is None:
        return ()
    try:
        height, width = read_image_size(source)
        here, there = (
            find_field_of_view(read_user_intrinsics(config, source, height, width))[0]
            for config in (given, CameraConfig())
        )
    except StadiaError:  # an unreadable file is not used either
        return ()
    ratio = math.tan(math.radians(here / 2)) / math.tan(math.radians(there / 2))
    if abs(ratio - 1) <= MAX_FOCAL_DIFFERENCE:
        return ()
    return (
        f"data.camera gives {here:.1f} degrees and {beside.name} next to the images {there:.1f}. data.camera is used;"
        " remove the wrong one",
    )


def _take_map_camera(camera: MapCamera) -> CameraConfig:
    K = tuple(tuple(float(value) for value in row) for row in camera.intrinsics.K)
    return CameraConfig.model_validate({"K": K, "size": (camera.height, camera.width)})
