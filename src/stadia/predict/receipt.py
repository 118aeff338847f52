"""Measure the scale of a network's depth by sources of metres, and predict in metres with it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import StadiaError
from stadia.core.types import Camera, DepthScale, PredictedMaps, Predictor, Recording
from stadia.data.frame_preparation import Frame, PreparedFrame, read_frames
from stadia.data.frame_selection import spread_indices
from stadia.data.video.map_geometry import MapGeometry
from stadia.data.video.video_camera import KeptScale
from stadia.evaluation import MOTIONS
from stadia.predict.inputs import PredictionInput
from stadia.predict.predict_frames import FrameArrays, predict_maps
from stadia.scale.scale_receipt import MAX_FRAMES, ScaleReceipt, make_kept_fit, measure_frames
from stadia.scale.sources import MeasuredFrame, PredictedMotion, ScaleSource, parse_scale_source
from stadia.scale.video_track import SpeedTrack, make_track_source

MAX_READ = 400
"""The measured frames are taken from this many first frames of a video file."""


class ScaledPredictor:
    """A predictor whose inverse depth is scaled, and shifted if needed, to 1/m.

    predictor: the network.
    receipt: the measured scale.
    """

    def __init__(self, predictor: Predictor, receipt: ScaleReceipt) -> None:
        self.predictor, self.receipt = predictor, receipt
        self.depth_scale = DepthScale.METRES
        self.height, self.width, self.crop = predictor.height, predictor.width, predictor.crop
        self.precision_cost = getattr(predictor, "precision_cost", None)

    def inverse_depth(self, image: NDArray[np.float32], camera: Camera) -> NDArray[np.float32]:
        """Predict inverse depth (B, 1, H, W) in 1/m of images (B, 3, H, W)."""
        return self.maps(image, camera).inverse_depth

    def maps(self, image: NDArray[np.float32], camera: Camera) -> PredictedMaps:
        """Predict all maps of images (B, 3, H, W): inverse depth in 1/m, and uncertainty if the network has it."""
        maps = predict_maps(self.predictor, image, camera)
        if self.receipt.shift is not None:
            values = self.receipt.factor * maps.inverse_depth + self.receipt.shift
            return replace(maps, inverse_depth=values.clip(min=1e-4))
        right = None if maps.inverse_depth_right is None else maps.inverse_depth_right / self.receipt.factor
        scaled = maps.inverse_depth / self.receipt.factor
        return replace(maps, inverse_depth=scaled, inverse_depth_right=right)

    def T_next_now(
        self, now: NDArray[np.float32], camera: Camera, following: NDArray[np.float32], next_camera: Camera
    ) -> NDArray[np.floating] | None:
        """Predict the motion (B, 4, 4) from the camera of the image `now` to the camera of the image `following`,
        translation in metres.

        None if the network predicts no motion, or a shift was fitted.
        """
        T = self.predictor.T_next_now(now, camera, following, next_camera)
        if T is None or self.receipt.shift is not None:
            return None
        scaled = T.copy()
        scaled[..., :3, 3] *= self.receipt.factor
        return scaled


def measure_scale(
    predictor: Predictor,
    open_input: Callable[[], PredictionInput],
    sources: Sequence[str],
    *,
    mapped: MapGeometry | None = None,
    kept: KeptScale | None = None,
    track: SpeedTrack | None = None,
) -> ScaleReceipt:
    """Measure the metric scale of a network's depth on an input.

    predictor: the network.
    open_input: opens the input. It is called once, and the frames are read once.
    sources: texts of `--scale-from`, such as "height=1.5".
    mapped: the map next to the input, or None.
    kept: the scale that the camera's file keeps (source `camera`); or None.
    track: the speed that the video records (source `file`); or None.

    Returns the scale factor with its uncertainty and sources. Raises StadiaError if no source fits the input, or the
    kind of depth.
    """
    parsed = [
        make_track_source(text, track) if text == "file" and track is not None else parse_scale_source(text)
        for text in sources
    ]
    _refuse_unfit(parsed, predictor.depth_scale)
    further = {text: make_kept_fit(kept) for text in sources if text == "camera" and kept is not None}
    given = open_input()
    parsed = [source for source in parsed if source.text not in further]
    if not parsed:
        return replace(measure_frames((), (), further=further), is_photo=given.is_photo)
    motion_s = max((source.motion_s for source in parsed if source.motion_s is not None), default=None)
    named = {source.frame for source in parsed if source.frame is not None}
    frames = predict_measured_frames(predictor, given, motion_s, named)
    seen = (replace(frame, mapped=mapped) for frame in frames)
    receipt = measure_frames(seen, parsed, is_affine=predictor.depth_scale.is_affine, mapped=mapped, further=further)
    return replace(receipt, is_photo=given.is_photo)


def _refuse_unfit(sources: Sequence[ScaleSource], depth_scale: DepthScale) -> None:
    if not depth_scale.is_affine:
        return
    if depth_scale is DepthScale.AFFINE_DEPTH or len(sources) > 1 or not sources[0].fits_shift:
        found = f"{', '.join(source.text for source in sources)} for {depth_scale} output"
        expected = "one source that measures points at several depths: map, lidar, reference or baseline"
        raise StadiaError("--scale-from", found=found, expected=expected)


def predict_measured_frames(
    predictor: Predictor, given: PredictionInput, motion_s: float | None = None, named: Collection[str] = ()
) -> Iterator[MeasuredFrame]:
    """Yield about MAX_FRAMES frames of an input, and the named frames of a video, with their predicted depth.

    predictor: the network.
    given: the input.
    motion_s: also estimate the motion to the first frame at least this many seconds later, by aligning both images;
        None estimates none.
    named: names of frames that are measured in any case.
    """
    for frame, following, indices in _choose_frames(given, motion_s, named):
        shown = PreparedFrame.prepare(predictor, frame)
        arrays = _predict(predictor, shown)
        motion = None
        if following is not None and not predictor.depth_scale.is_affine:
            after = PreparedFrame.prepare(predictor, following)
            (found,) = MOTIONS.load("aligned")(predictor, arrays, _predict(predictor, after), None)
            length = 0.0 if found.T_next_now is None else float(np.linalg.norm(found.T_next_now[:3, 3]))
            if found.is_aligned and length > 0:
                motion = PredictedMotion(length, _count_seconds(frame, following), indices[1])
        yield MeasuredFrame(shown, _select_map(arrays), given.recording, indices[0], motion)


def predict_frame(predictor: Predictor, frame: Frame) -> MeasuredFrame:
    """Return a frame with its predicted depth, so that lengths in it can be compared."""
    shown = PreparedFrame.prepare(predictor, frame)
    return MeasuredFrame(shown, _select_map(_predict(predictor, shown)))


def _select_map(arrays: FrameArrays) -> NDArray[np.float32]:
    assert arrays.inverse_depth is not None
    return np.asarray(arrays.inverse_depth[0, 0], np.float32)


Pair = tuple[Frame, Frame | None, tuple[int | None, int | None]]
"""A frame, a later frame or None, and the indices of both in the recording or None."""


def _choose_frames(given: PredictionInput, motion_s: float | None, named: Collection[str]) -> Iterator[Pair]:
    if given.recording is None:
        count = min(given.count or MAX_READ, MAX_READ)
        yield from _choose_of_stream(islice(given.frames, count), max(count // MAX_FRAMES, 1), motion_s, named)
        return
    recording = given.recording
    chosen = spread_indices(len(given.indices), MAX_FRAMES)
    for index in (given.indices[number] for number in chosen):
        later = None if motion_s is None else _find_following(recording, index, motion_s)
        frames = [*read_frames(recording, [index] if later is None else [index, later])]
        yield frames[0], None if later is None else frames[1], (index, later)


def _choose_of_stream(
    frames: Iterable[Frame], step: int, motion_s: float | None, named: Collection[str]
) -> Iterator[Pair]:
    """Yield every `step`-th frame, and the named ones. Frames that pass before the later one are left out, so only one
    is held.
    """
    chosen: Frame | None = None
    for number, frame in enumerate(frames):
        if chosen is not None and motion_s is not None:
            seconds = _count_seconds(chosen, frame)
            if seconds is None or seconds >= motion_s:
                yield chosen, frame, (None, None)
                chosen = None
        if motion_s is not None and number % step == 0 and chosen is None:
            chosen = frame
        elif frame.name in named or (motion_s is None and number % step == 0):
            yield frame, None, (None, None)
    if chosen is not None:
        yield chosen, None, (None, None)


def _find_following(recording: Recording, index: int, motion_s: float) -> int | None:
    """Return the next index after at least so many seconds, or the next one of a recording without times."""
    start_s = recording.timestamp_s(index)
    for later in range(index + 1, len(recording)):
        time_s = recording.timestamp_s(later)
        if start_s is None or time_s is None or time_s - start_s >= motion_s:
            return later
    return None


def _count_seconds(frame: Frame, following: Frame) -> float | None:
    return None if frame.time_s is None or following.time_s is None else following.time_s - frame.time_s


def _predict(predictor: Predictor, shown: PreparedFrame) -> FrameArrays:
    image = shown.image[None]
    camera = Camera(shown.K[None], predictor.height, predictor.width)
    return FrameArrays(image, camera, predict_maps(predictor, image, camera).inverse_depth)
