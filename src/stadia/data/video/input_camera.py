"""Choose the camera of your own photo, video or folder of images, and tell these from data sets."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from stadia.core.errors import DataError, StadiaError
from stadia.data.config import SET_CAMERA, CameraConfig
from stadia.data.formats.photo_lens import describe_crop, read_lens
from stadia.data.open_dataset import recognize_format
from stadia.data.video.map_geometry import MAX_FOCAL_DIFFERENCE
from stadia.data.video.video_camera import (
    CAMERA_ADVICE,
    find_camera_file,
    read_image_size,
    read_picture_size,
    read_user_intrinsics,
)
from stadia.data.video.video_map import MapCamera, find_map_folder, find_photo_camera, find_usable_map
from stadia.geometry.cameras import (
    ASSUMED_LONGER_FOV_DEG,
    MAX_USUAL_LONGER_FOV_DEG,
    MIN_USUAL_LONGER_FOV_DEG,
    Intrinsics,
    focal_px_from_fov,
)
from stadia.io.image_files import IMAGE_SUFFIXES
from stadia.io.video_decoding import VIDEO_SUFFIXES

SHAPE_TOLERANCE = 0.02
"""Images may share the training's camera up to this difference of their aspect ratios, in natural logarithms."""


@dataclass(frozen=True)
class InputCamera:
    """The camera of your own images, and its origin.

    config: options that open the images with this camera.
    origin: its origin in words, such as "33 mm lens of EXIF".
    is_assumed: whether nothing about these images states it.
    warnings: texts of warnings about it.
    doubt: for an assumed camera, the word for it: "assumed", or that in the record of a map whose images do not
        determine the camera.
    """

    config: CameraConfig
    origin: str
    is_assumed: bool = False
    warnings: tuple[str, ...] = field(default=())
    doubt: str = "assumed"

    def describe_origin(self) -> str:
        """Return the origin of the camera, in words."""
        return f"{self.doubt}, {self.origin}" if self.is_assumed else self.origin

    def lines(self, intrinsics: Intrinsics) -> list[str]:
        """Return lines of text about the camera: its origin, its field of view, and warnings.

        intrinsics: intrinsics of the frames.
        """
        across_deg, down_deg = find_field_of_view(intrinsics)
        angles = f"{across_deg:.1f} x {down_deg:.1f} degrees"
        longest = max(across_deg, down_deg)
        line = f"camera: {self.describe_origin()}, {angles}"
        if self.is_assumed:
            line += f". {CAMERA_ADVICE}"
        warnings = [f"warn: {text}" for text in self.warnings]
        if not MIN_USUAL_LONGER_FOV_DEG <= longest <= MAX_USUAL_LONGER_FOV_DEG:
            warnings.append(
                f"warn: a field of view of {longest:.0f} degrees is unusual"
                f" ({MIN_USUAL_LONGER_FOV_DEG:g} to {MAX_USUAL_LONGER_FOV_DEG:g})."
                f" Give the focal length in pixels of these images, or {SET_CAMERA}"
            )
        return [line, *warnings]


def choose_input_camera(given: CameraConfig, source: Path, trained: CameraConfig | None = None) -> InputCamera:
    """Choose the camera of a photo, a video or a folder of images.

    The first existing one of this list is taken: the user's camera; a camera file next to the images; a map whose
    images determine the camera; the lens in the metadata; the camera of the network's training; a map whose images do
    not determine the camera. Otherwise the field of view is ASSUMED_LONGER_FOV_DEG.

    given: the options `data.camera` of the user.
    source: the images.
    trained: the one camera of the network's training; None if it had several or is unknown.

    Raises DataError for images that cannot be read.
    """
    beside = find_camera_file(source)
    camera, name = _find_map_camera(source)
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
        return InputCamera(_take_map_camera(camera), origin, is_assumed=True, doubt=camera.origin)
    size = read_picture_size(given, source)
    focal_px = focal_px_from_fov(ASSUMED_LONGER_FOV_DEG, max(size))
    origin = f"{ASSUMED_LONGER_FOV_DEG:g} degrees across the longer side"
    config = given.model_copy(update={"focal_px": focal_px})
    return InputCamera(config, origin, is_assumed=True)


def _find_map_camera(source: Path) -> tuple[MapCamera | None, str]:
    """Return the camera of a source's usable map, or of a photo that was mapped with its folder, and the map's name."""
    if not is_image_file(source):
        mapped = find_usable_map(source)
        return None if mapped is None else mapped.camera, find_map_folder(source).name
    folder = source.parent if source.parent.name else source.parent.resolve()
    if not any(folder.parent.glob("*.map")):  # most photos have no map
        return None, ""
    return find_photo_camera(source), find_map_folder(folder).name


def _refuse_other_shape(trained: CameraConfig, given: CameraConfig, source: Path) -> None:
    """Raise DataError if the images cannot come from the camera of a training, which is an assumption."""
    height, width = read_picture_size(given, source)
    if trained.size is None or abs(math.log(width / height * trained.size[0] / trained.size[1])) < SHAPE_TOLERANCE:
        return
    raise DataError(
        source,
        found=f"images of {width}x{height} and no camera",
        expected=f"the shape of the training's camera, {trained.size[1]}x{trained.size[0]}, or a camera",
        fix=SET_CAMERA,
    )


def describe_camera(origin: str, intrinsics: Intrinsics) -> list[str]:
    """Return the line of text about the camera of a dataset, in a list.

    origin: origin of the camera, in words.
    intrinsics: intrinsics of the frames.

    Examples:
        >>> import numpy as np
        >>> describe_camera("of the dataset", Intrinsics(np.array([[50.0, 0, 50], [0, 50, 50], [0, 0, 1]]), 100, 100))
        ['camera: of the dataset, 90.0 x 90.0 degrees']
    """
    return InputCamera(CameraConfig(), origin).lines(intrinsics)[:1]


def find_field_of_view(intrinsics: Intrinsics) -> tuple[float, float]:
    """Return the horizontal and vertical field of view, degrees, of the first frame.

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


def is_image_file(path: Path) -> bool:
    """Return whether the path is a file with the suffix of an image."""
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()


def is_own_file(path: Path, format: str) -> bool:
    """Return whether the path is a photo or a video file.

    path: the path.
    format: name of the data's format, or "auto".
    """
    return format in ("auto", "video") and path.is_file() and path.suffix.lower() in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)


def is_own_video(path: Path, format: str) -> bool:
    """Return whether the path is your own video, photo or folder of images, as opposed to a dataset.

    path: the path; only folders and unknown files are opened to find out.
    format: name of the data's format, or "auto".
    """
    if is_own_file(path, format):
        return True
    if format == "auto":
        return path.exists() and recognize_format(path) == "video"
    return format == "video"
