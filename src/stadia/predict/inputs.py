"""Open the input of a prediction: an image, a folder, a video or a dataset."""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stadia.core.config import resolve_config
from stadia.core.errors import ConfigError, DataError
from stadia.core.types import Recording
from stadia.data.config import CameraConfig, SourceOptions, refuse_idle_options
from stadia.data.formats.photo_lens import EQUIRECTANGULAR, read_lens, read_projection
from stadia.data.frame_preparation import Frame, frame_name, has_frame_numbers, read_frames
from stadia.data.frame_selection import FrameSelector
from stadia.data.ignored_regions import read_ignored_region
from stadia.data.open_dataset import open_recordings
from stadia.data.video.input_camera import (
    InputCamera,
    choose_input_camera,
    describe_camera,
    is_image_file,
    is_own_file,
    is_own_video,
)
from stadia.data.video.video_camera import (
    UserCamera,
    find_camera_file,
    find_static_mask,
    read_image_size,
    read_picture_size,
    read_user_camera,
)
from stadia.evaluation.plots.videos import DEFAULT_RATE_HZ, estimate_frame_rate_hz
from stadia.geometry.cameras import (
    ASSUMED_LONGER_FOV_DEG,
    Intrinsics,
    centered_K,
    check_center,
    check_K,
    focal_px_from_fov,
)
from stadia.geometry.dual_fisheye import is_dual_fisheye
from stadia.geometry.panorama import is_panorama
from stadia.io.image_files import IMAGE_SUFFIXES, list_images, read_rgb, read_upright_size
from stadia.io.input_files import expand_home
from stadia.io.run_facts import RUN_FILE, read_run_facts
from stadia.io.video_decoding import VideoFrame, count_indexed_frames, hash_video, make_panorama_error, stream_video
from stadia.judge.depth import reduce_image
from stadia.judge.depth.depth_checks import MAX_FRAMES_APART

_TIFF = (".tif", ".tiff")  # Only decoding shows float values of a TIFF; panoramas are JPEG or PNG.


def describe_panorama(path: Path, options: Mapping[str, Any]) -> str:
    """Return how an image was recognized as a panorama of 360 x 180 degrees, in words; "" for other inputs.

    A camera that the user gives, as an option or in a file next to the image, wins.

    path: the input.
    options: options that `open_inputs` takes.

    Raises ConfigError for options that have no effect on a panorama.
    """
    suffix = path.suffix.lower()
    if not is_own_file(path, options.get("format", "auto")) or suffix not in IMAGE_SUFFIXES or suffix in _TIFF:
        return ""
    height, width = read_upright_size(path)
    if width != 2 * height or "camera" in options or find_camera_file(path) is not None:
        return ""
    if read_projection(path) == EQUIRECTANGULAR:
        origin = "a panorama by its XMP data"
    elif is_dual_fisheye(image := read_rgb(path)):
        origin = "two fisheye circles, joined to a panorama"
    elif is_panorama(image):
        origin = "a panorama, because its edges meet"
    else:
        return ""
    chosen = resolve_config(SourceOptions, {key: value for key, value in options.items() if key != "format"})
    if idle := chosen.model_fields_set - {"stride"}:
        refuse_idle_options(chosen, idle, "a panorama")
    return origin


# -- the input

DATA_SET_CAMERA = "of the dataset"


@dataclass(frozen=True)
class PredictionInput:
    """The frames of one input to predict, in order.

    name: name of the input.
    frames: the frames. The frames of a video can be read only once.
    count: number of frames; None if the video file does not state it.
    rate_hz: frames per second.
    recording: the recording that contains the frames; None for an image or a video file.
    video_hash: hash of a video file; "" for other inputs.
    has_frame_numbers: whether the frames are named by their number in a video.
    indices: indices of the frames in the recording.
    names: names of all frames; empty if a video file does not state their number.
    camera: camera of your own images and its origin; None for a dataset, which has a camera of its own.
    intrinsics: intrinsics of your own images; None for a dataset.
    """

    name: str
    frames: Iterable[Frame]
    count: int | None
    rate_hz: float
    recording: Recording | None = None
    video_hash: str = ""
    has_frame_numbers: bool = False
    indices: Sequence[int] = ()
    names: Sequence[str] = ()
    camera: InputCamera | None = None
    intrinsics: Intrinsics | None = None

    @property
    def camera_is_assumed(self) -> bool:
        """Return whether these are your own images, and nothing states their camera."""
        return self.camera is not None and self.camera.is_assumed

    def describe_camera_origin(self) -> str:
        """Return the origin of the camera, in the words of predictions.json."""
        return DATA_SET_CAMERA if self.camera is None else self.camera.describe_origin()

    def camera_lines(self) -> list[str]:
        """Return lines of text about the camera: its origin and field of view (of a dataset, at the first frame)."""
        if self.camera is not None and self.intrinsics is not None:
            return self.camera.lines(self.intrinsics)
        if self.recording is None or not len(self.indices):
            return []
        return describe_recording_camera(self.recording, self.indices[0])

    @property
    def is_photo(self) -> bool:
        """Return whether this is one image, whose frame can be read repeatedly."""
        return not isinstance(self.frames, Iterator)


def open_inputs(
    path: Path, *, every: int = 1, format: str = "auto", trained_camera: CameraConfig | None = None, **options: Any
) -> list[PredictionInput]:
    """Open an image, a video file, a folder of images, or a dataset (its left cameras) for prediction.

    A video file is read while it is predicted. Every frame gets depth, but the camera trajectory uses only the frames
    that a training with the same `stride` selects. A folder of photos with several sizes or lenses is split into one
    input per size and lens.

    path: the image, video, folder or dataset.
    every: take each n-th frame.
    format: a name in `stadia.data.DATASETS`, or "auto" to detect it.
    trained_camera: the camera of the network's training, which images of unknown camera may take; or None.
    options: fields of `stadia.data.config.SourceOptions`; an image uses `camera` and `ignore`.

    Returns one input for each recording. Raises DataError if no image is found, and ConfigError for a wrong option.
    """
    path = expand_home(path)
    if is_own_file(path, format):
        chosen = resolve_config(SourceOptions, options)
        if path.suffix.lower() in IMAGE_SUFFIXES:
            return [_open_image(path, chosen, trained_camera)]
        return [_open_video(path, chosen, every, trained_camera)]
    if not is_own_video(path, format):
        opened = open_recordings(path, format, **options)
        return [make_recording_input(recording, range(0, len(recording), every)) for recording in opened]
    chosen = resolve_config(SourceOptions, options)
    if photos := _find_unlike_photos(path, chosen):
        return [_open_image(photo, chosen, trained_camera) for photo in photos[::every]]
    return [_open_folder(path, options, every, trained_camera)]


def _open_folder(
    path: Path, options: Mapping[str, Any], every: int, trained_camera: CameraConfig | None
) -> PredictionInput:
    chosen = resolve_config(SourceOptions, options)
    camera = choose_input_camera(chosen.camera, path, trained_camera)
    opened = {**options, "stride": 1, "camera": camera.config}
    (recording,) = open_recordings(path, "video", **opened)
    given = make_recording_input(recording, range(0, len(recording), every))
    intrinsics = Intrinsics(recording.K(0), *read_picture_size(camera.config, path))
    frames = _mark_on_path(given.frames, chosen.stride)
    return replace(given, frames=frames, camera=camera, intrinsics=intrinsics)


def _find_unlike_photos(folder: Path, options: SourceOptions) -> list[Path]:
    images = list_images(folder)
    sizes = dict.fromkeys(map(read_upright_size, images))
    is_given = options.camera.is_given or find_camera_file(folder) is not None
    if len(sizes) > 1 and is_given:
        shown = " and ".join(f"{width}x{height}" for height, width in [*sizes][:3])
        fix = "leave the camera out, or sort the images into folders by size"
        raise DataError(folder, found=f"images of {shown}", expected="images of one size for one camera", fix=fix)
    if len(sizes) > 1:
        return images
    has_lens = len(images) > 1 and not is_given and read_lens(images[0]) is not None
    return images if has_lens and len(set(map(read_lens, images))) > 1 else []


def make_image_input(
    image: NDArray[np.uint8], *, K: NDArray[np.floating] | None = None, fov_deg: float | None = None
) -> PredictionInput:
    """Create the input of a prediction from an image in memory.

    image: (H, W, 3) uint8 RGB.
    K: (3, 3) of the image, pixels.
    fov_deg: horizontal field of view, degrees, instead of K. Without both, a usual field of view is assumed.

    Raises DataError for another kind of array, ConfigError for a wrong camera.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        found = f"{image.dtype} of shape {image.shape}"
        raise DataError("image", found=found, expected="uint8 RGB of shape (H, W, 3)")
    height, width = image.shape[:2]
    is_assumed = K is None and fov_deg is None
    if K is not None and fov_deg is not None:
        raise ConfigError("camera", found="K and fov_deg", expected="one of them")
    if K is None:
        across_deg = ASSUMED_LONGER_FOV_DEG if fov_deg is None else fov_deg
        if not (isinstance(across_deg, int | float) and 0 < across_deg < 180):
            raise ConfigError("fov_deg", found=f"{across_deg!r}", expected="degrees between 0 and 180")
        K = centered_K(focal_px_from_fov(across_deg, max(height, width) if is_assumed else width), height, width)
    K = check_K("K", np.asarray(K, np.float64))
    origin = f"{ASSUMED_LONGER_FOV_DEG:g} degrees across the longer side" if is_assumed else "given"
    camera = InputCamera(CameraConfig(), origin, is_assumed)
    intrinsics = check_center("K", Intrinsics(K, height, width))
    frames = (Frame("image", image, K),)
    return PredictionInput("image", frames, 1, DEFAULT_RATE_HZ, camera=camera, intrinsics=intrinsics)


def make_recording_input(recording: Recording, indices: Sequence[int]) -> PredictionInput:
    """Create the input of a prediction from frames of a recording.

    recording: the recording.
    indices: indices of the frames, rising.
    """
    every = indices[1] - indices[0] if len(indices) > 1 else 1
    return PredictionInput(
        recording.name,
        read_frames(recording, indices),
        len(indices),
        estimate_frame_rate_hz(recording, every),
        recording,
        has_frame_numbers=has_frame_numbers(recording),
        indices=indices,
        names=tuple(frame_name(recording, index) for index in indices),
    )


def _mark_on_path(frames: Iterable[Frame], stride: int | Literal["auto"]) -> Iterator[Frame]:
    chooser = FrameSelector(stride, lists_kept=False)
    for frame in frames:
        yield replace(frame, on_path=chooser.keep(frame.image))


@dataclass(frozen=True)
class PhotoFrames:
    """The one frame of a photo, which is decoded when it is read, because all photos of a folder would not fit into
    memory.

    path: the photo.
    camera: its camera.
    ignored: (H, W), true on pixels that do not show the scene; None without such pixels.
    """

    path: Path
    camera: UserCamera
    ignored: NDArray[np.bool_] | None = None

    def __iter__(self) -> Iterator[Frame]:
        image = self.camera.correct(read_rgb(self.path))
        yield Frame(self.path.stem, image, self.camera.intrinsics.select_K(0), ignored=self.ignored)


def _open_image(path: Path, options: SourceOptions, trained_camera: CameraConfig | None) -> PredictionInput:
    if idle := options.model_fields_set - {"camera", "stride", "ignore"}:
        refuse_idle_options(options, idle, "an image")
    height, width = read_image_size(path)
    chosen = choose_input_camera(options.camera, path, trained_camera)
    camera = read_user_camera(chosen.config, path, height, width, frames=1)
    frames = PhotoFrames(path, camera, _read_ignored(options, path, camera))
    return PredictionInput(path.stem, frames, 1, DEFAULT_RATE_HZ, camera=chosen, intrinsics=camera.intrinsics)


def _read_ignored(options: SourceOptions, path: Path, camera: UserCamera) -> NDArray[np.bool_] | None:
    if options.ignore is None:
        return None if is_image_file(path) else find_static_mask(camera, path)
    size = camera.intrinsics.height, camera.intrinsics.width
    return read_ignored_region(options.ignore, (f"video/{path.stem}", path.stem), size=size, filmed_size=size)


def _open_video(path: Path, options: SourceOptions, every: int, trained_camera: CameraConfig | None) -> PredictionInput:
    idle = SourceOptions.model_fields.keys() - {"camera", "frames", "stride", "ignore", "video_decoder"}
    refuse_idle_options(options, idle, "predicting a video file")
    head = list(itertools.islice(stream_video(path, options.video_decoder), 2))
    height, width = head[0].image.shape[:2]
    if width == 2 * height:
        from stadia.sfm.frame_stream import is_panorama_video

        if is_panorama_video(path):
            raise make_panorama_error(path)
    announced = count_indexed_frames(path)
    chosen = choose_input_camera(options.camera, path, trained_camera)
    camera = read_user_camera(chosen.config, path, height, width, frames=announced)
    ignored = _read_ignored(options, path, camera)
    interval_s = head[-1].time_s - head[0].time_s
    start, stop = options.frames or (0, None)
    if announced is not None and stop is not None and stop > announced:
        raise DataError(
            path,
            found=f"{announced} frames",
            expected=f"frames {start} to {stop}",
            fix=f"choose frames that the video has, such as data.frames=[0,{announced}]",
        )

    def frames() -> Iterator[Frame]:
        chooser = FrameSelector(options.stride, lists_kept=False)
        decoded_frames = stream_video(path, options.video_decoder)
        filmed = (
            frame
            for frame in itertools.takewhile(lambda frame: stop is None or frame.index < stop, decoded_frames)
            if frame.index >= start
        )
        stream = (replace(frame, image=camera.correct(frame.image)) for frame in filmed)
        for decoded in stream:
            on_path = every > 1 or chooser.keep(decoded.image, decoded.index - start)
            name, K = f"{decoded.index:06d}", camera.intrinsics.select_K(decoded.index)
            between = itertools.islice(stream, every - 1)
            skipped = [_reduce_frame(frame, camera.intrinsics) for frame in itertools.islice(between, MAX_FRAMES_APART)]
            deque(between, maxlen=0)
            between_frames = partial(tuple, skipped)
            yield Frame(name, decoded.image, K, decoded.time_s, every, on_path, between_frames, ignored)

    last = announced if stop is None else stop
    numbers = None if last is None else range(start, last, every)
    rate_hz = 1 / (interval_s * every) if interval_s > 0 else DEFAULT_RATE_HZ
    return PredictionInput(
        path.stem,
        frames(),
        None if numbers is None else len(numbers),
        rate_hz,
        video_hash=hash_video(path),
        has_frame_numbers=True,
        names=tuple(f"{number:06d}" for number in numbers or ()),
        camera=chosen,
        intrinsics=camera.intrinsics,
    )


def _reduce_frame(decoded: VideoFrame, cameras: Intrinsics) -> Frame:
    image, K = reduce_image(decoded.image, cameras.select_K(decoded.index))
    return Frame(f"{decoded.index:06d}", image, K, decoded.time_s)


def add_training_options(checkpoint: Any, path: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Complete the options for opening your own images by the frame stride and the camera of a network's training.

    A video that the network was trained on keeps the camera of that training; it counts as given by the user only if it
    differs from the one that `choose_input_camera` returns for the video.

    checkpoint: the network.
    path: the input.
    options: options of `open_inputs` from the user, which win.

    Returns the completed options; for a dataset they are unchanged.
    """
    path = expand_home(path)
    format = options.get("format", "auto")
    if not is_own_video(path, format):
        return dict(options)
    trained = checkpoint.header.config.get("data", {})
    completed = {"stride": trained.get("stride", "auto")}
    if _is_same_source(trained, path) and "camera" in trained:
        recorded = CameraConfig.model_validate(trained["camera"])
        own = CameraConfig(undistort=recorded.undistort, crop_bars=recorded.crop_bars)
        is_given = choose_input_camera(own, path).config != recorded
        return {**completed, "camera": recorded if is_given else own, **options}
    camera = find_training_camera(checkpoint)
    return {**completed, **({} if camera is None else {"trained_camera": camera}), **options}


def choose_recording_camera(path: Path, options: Mapping[str, Any]) -> tuple[dict[str, Any], InputCamera | None]:
    """Return options for `open_recordings` with the chosen camera, and this camera with its origin (None for a data
    set).

    path: the input.
    options: options that `open_inputs` takes.
    """
    chosen = {key: value for key, value in options.items() if key != "trained_camera"}
    if not is_own_video(path, options.get("format", "auto")):
        return chosen, None
    config = resolve_config(SourceOptions, {key: value for key, value in chosen.items() if key != "format"})
    camera = choose_input_camera(config.camera, expand_home(path), options.get("trained_camera"))
    return {**chosen, "camera": camera.config}, camera


def describe_recording_camera(recording: Recording, frame: int, camera: InputCamera | None = None) -> list[str]:
    """Return lines of text about the camera of a recording's frame.

    recording: the recording.
    frame: index of the frame.
    camera: the chosen camera, for your own images; None for a dataset.
    """
    height, width = recording.image(frame).shape[:2]
    intrinsics = Intrinsics(recording.K(frame), height, width)
    return describe_camera(DATA_SET_CAMERA, intrinsics) if camera is None else camera.lines(intrinsics)


def find_training_camera(checkpoint: Any) -> CameraConfig | None:
    """Return the one camera (K and image size) of a network's training; None if it had several or is unknown.

    Raises DataError if the recorded K is invalid.
    """
    run = checkpoint.run_folder
    camera = read_run_facts(run).recipe_facts.camera if (run / RUN_FILE).is_file() else None
    if camera is None:
        return None
    check_K(run / RUN_FILE, np.array(camera.K, dtype=np.float64))
    return CameraConfig(K=camera.K, size=camera.size)


def _is_same_source(trained: Mapping[str, Any], path: Path) -> bool:
    return "path" in trained and expand_home(trained["path"]).resolve() == expand_home(path).resolve()


def read_input_size(source: Path, options: Mapping[str, Any]) -> tuple[int, int]:
    """Return (height, width) of the first frame of an input, pixels.

    source: the input.
    options: options that `open_inputs` takes.

    Raises the errors of opening the input.
    """
    path = expand_home(source)
    if is_own_file(path, options.get("format", "auto")):
        return read_picture_size(CameraConfig(), path)  # needs no camera
    first = next(iter(open_inputs(source, **options)[0].frames))
    height, width = first.image.shape[:2]
    return height, width
