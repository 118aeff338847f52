"""Predict depth, camera trajectory and verdict of a live source as fast as the machine can; images in between are
dropped.
"""

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError, StadiaError
from stadia.core.types import Predictor
from stadia.core.verdict import Verdict
from stadia.data.config import CameraConfig, SourceOptions
from stadia.data.formats.ros_bags import BagTopic, RosBag
from stadia.data.frame_preparation import Frame, PredictedFrame, PreparedFrame
from stadia.data.video.video_camera import KeptScale, UserCamera, find_camera_file, find_kept_scale, read_user_camera
from stadia.geometry.cameras import ASSUMED_LONGER_FOV_DEG, Intrinsics, centered_K, focal_px_from_fov
from stadia.predict.bag_output import make_stamp, open_bag_output
from stadia.predict.live.sources import LiveFrame, LiveSource
from stadia.predict.live.tracker import FrameTracker
from stadia.predict.network import Network
from stadia.predict.options import PredictOptions
from stadia.predict.predict_frames import predict_inverse_depth
from stadia.predict.receipt import ScaledPredictor
from stadia.predict.verdict import PredictionGate, read_training_record
from stadia.scale.scale_receipt import make_kept_fit, measure_frames

WINDOW_S = 5.0
"""Length of the last period, seconds, over which frame rates and latency are measured."""

JUDGED_EVERY_S, JUDGED_SHARE = 10.0, 0.1
"""The verdict is renewed at most every JUDGED_EVERY_S seconds, and takes at most this share of the time, in its own
thread.
"""


SAMPLED_EVERY = 10
"""Distance, in frames, between frames that the verdict may sample."""


@dataclass(frozen=True, kw_only=True)
class LiveStatus:
    """What a live prediction has reached.

    depth_hz: frames per second with depth, within the last WINDOW_S.
    path_hz: frames per second with a pose, within the last WINDOW_S.
    latency_ms: median time from the arrival of an image to its depth and pose, milliseconds; NaN before the second
        image.
    dropped: share of the arrived images that were not predicted.
    length: length of the camera trajectory so far, in the unit of depth.
    lost: number of frames without a pose.
    verdict: on the frames so far: usable, doubtful, unusable or "not judged".
    problem: why the source gives no useful image now; "" if it does.
    """

    depth_hz: float
    path_hz: float
    latency_ms: float
    dropped: float
    length: float
    lost: int
    verdict: str
    problem: str


@dataclass(frozen=True, eq=False)
class LiveResult:
    """One step of a live prediction.

    predicted: the newest frame with its depth and pose; None if no new image came.
    status: what the prediction has reached.
    """

    predicted: PredictedFrame | None
    status: LiveStatus


class _RunningVerdict:
    """Judges the frames so far in a thread, so that a slow check delays no image."""

    def __init__(self, gate: PredictionGate) -> None:
        self.gate = gate
        self.verdict = str(Verdict.NOT_JUDGED)
        self._thread: threading.Thread | None = None
        self._next_s = time.monotonic() + JUDGED_EVERY_S
        self._frames = 0

    def add(self, predicted: PredictedFrame) -> None:
        is_busy = self._thread is not None and self._thread.is_alive()
        self._frames += 1
        if not is_busy and self._frames % SAMPLED_EVERY == 1:
            self.gate.take(predicted.frame, lambda: predicted.inverse_depth)
        if not is_busy and time.monotonic() > self._next_s:
            self._thread = threading.Thread(target=self._judge, name="live verdict", daemon=True)
            self._thread.start()

    def _judge(self) -> None:
        started = time.monotonic()
        try:
            self.verdict = str(self.gate.judge().verdict)
        except StadiaError as error:
            self.verdict = f"{Verdict.NOT_JUDGED} ({error.found})"
        spent_s = time.monotonic() - started
        self._next_s = time.monotonic() + max(JUDGED_EVERY_S, spent_s / JUDGED_SHARE)


class _Rates:
    """Counts what ended within the last WINDOW_S."""

    def __init__(self) -> None:
        self.done: deque[tuple[float, float, bool]] = deque()

    def add(self, latency_s: float, *, has_pose: bool) -> None:
        now = time.monotonic()
        self.done.append((now, latency_s, has_pose))
        while self.done[0][0] < now - WINDOW_S:
            self.done.popleft()

    def measure(self) -> tuple[float, float, float]:
        now = time.monotonic()
        recent = [one for one in self.done if one[0] >= now - WINDOW_S]
        if len(recent) < 2:
            return 0.0, 0.0, float("nan")
        span = max(now - recent[0][0], 1e-6)
        latency_ms = 1e3 * float(np.median([one[1] for one in recent]))
        return (len(recent) - 1) / span, sum(one[2] for one in recent[1:]) / span, latency_ms


def open_lens(source: LiveSource, given: CameraConfig, height: int, width: int) -> tuple[UserCamera, bool]:
    """Find the camera of a source's images.

    source: the source.
    given: the camera that the user gave, if any.
    height, width: size of the images, pixels.

    Returns the given camera, or a bag's, or one with an assumed field of view; and whether it is assumed.
    """
    if given.is_given or (find_camera_file(Path(source.address)) is not None and source.name != "bag"):
        return read_user_camera(given, Path(source.address), height, width), False
    if source.name == "bag":
        topic = next(iter(RosBag().find_recordings(Path(source.address))))
        bag = BagTopic(f"rosbag/{topic}", Path(source.address), topic)
        return bag.read_camera(SourceOptions(), height, width), False
    K = centered_K(focal_px_from_fov(ASSUMED_LONGER_FOV_DEG, max(height, width)), height, width)
    return UserCamera(Intrinsics(K, height, width)), True


@dataclass(frozen=True, eq=False)
class _OpenedNetwork:
    """What predicts images of one size.

    shape: (H, W, 3).
    """

    shape: tuple[int, ...]
    lens: UserCamera
    predictor: Predictor
    verdict: _RunningVerdict


@dataclass(eq=False)
class LivePrediction:
    """Predict depth, camera trajectory and verdict of the newest images of a source.

    Args:
        network: the opened network; a network without a run gets the size of the images.
        address: address of the source, as `find_source` reads it: a camera's number, a URL, a video or a bag.
        camera: camera of the source as the user gave it; see `open_lens`.
        options: backend, precision, image size and flip.
        record: a new .mcap, .db3 or .bag for depth, camera, trajectory and verdict; None records nothing.
        with_path: whether camera poses are estimated.
    """

    network: Network
    address: str
    camera: CameraConfig
    options: PredictOptions
    record: Path | None = None
    with_path: bool = True

    def run(self, seconds: float | None = None) -> Iterator[LiveResult]:
        """Yield a result for each image that is predicted, and twice a second without one, until the source ends.

        seconds: stop after this time, which counts from when the network is opened; None sets no limit.

        Raises DataError if no image came.
        """
        started_s, clock_s = time.monotonic(), time.time() - time.monotonic()
        rates, tracker = _Rates(), FrameTracker()
        opened: _OpenedNetwork | None = None
        with ExitStack() as closing:
            source = closing.enter_context(LiveSource(self.address))
            bag = None if self.record is None else closing.enter_context(open_bag_output(self.record))
            while seconds is None or time.monotonic() < started_s + seconds:
                taken, predicted = source.take(), None
                if taken is None and source.state.has_ended:
                    break
                if taken is not None:
                    if opened is None or opened.shape != taken.image.shape:
                        is_first = opened is None
                        opened = self._open(source, taken.image)
                        started_s = time.monotonic() if is_first else started_s
                        source.begins.set()
                        taken = source.take(0.0) or taken  # the network took a while to open
                    predicted = self._predict(opened, taken, tracker)
                    rates.add(time.monotonic() - taken.arrived_s, has_pose=predicted.T_world_camera is not None)
                    opened.verdict.add(predicted)
                    if bag is not None:
                        bag.add("", make_stamp(clock_s + taken.arrived_s), predicted)
                yield LiveResult(predicted, _make_status(source, rates, tracker, opened))
            if bag is not None and opened is not None:
                facts = {"network": self.network.name, "source": source.name, "dropped": f"{source.state.dropped:.3f}"}
                bag.judge("", make_stamp(clock_s + time.monotonic()), opened.verdict.verdict, facts)
        if opened is None:
            found = source.state.problem or "no image"
            raise DataError(self.address, found=found, expected="images", fix="check the address, and that it plays")

    def find_scale(self) -> KeptScale | None:
        """Return the scale of the network that `stadia calibrate` kept with the camera; None if it kept none."""
        return find_kept_scale(self.camera, Path(self.address), self.network.name)

    def _open(self, source: LiveSource, image: NDArray[np.uint8]) -> _OpenedNetwork:
        height, width = image.shape[:2]
        lens, is_assumed = open_lens(source, self.camera, height, width)
        network = self.network if self.network.has_own_size else self.network.fit(height, width)
        predictor = network.run_backend(network.make_predictor(self.options), self.options, list)
        kept = self.find_scale()
        if kept is not None and not predictor.depth_scale.is_affine:
            predictor = ScaledPredictor(predictor, measure_frames((), (), further={"camera": make_kept_fit(kept)}))
        training = read_training_record(network.checkpoint)
        gate = PredictionGate(predictor.depth_scale, training, camera_is_assumed=is_assumed)
        return _OpenedNetwork(image.shape, lens, predictor, _RunningVerdict(gate))

    def _predict(self, opened: _OpenedNetwork, taken: LiveFrame, tracker: FrameTracker) -> PredictedFrame:
        lens, predictor = opened.lens, opened.predictor
        frame = Frame(f"{taken.number:06d}", lens.correct(taken.image), lens.intrinsics.select_K(0), taken.time_s)
        shown = PreparedFrame.prepare(predictor, frame)
        predicted = shown.predicted(predictor.depth_scale, predict_inverse_depth(predictor, shown), None)
        if not self.with_path or predictor.depth_scale.is_affine:
            return predicted
        return replace(predicted, T_world_camera=tracker.add(shown.to_picture(), predicted.depth, shown.K))


def _make_status(source: LiveSource, rates: _Rates, tracker: FrameTracker, opened: _OpenedNetwork | None) -> LiveStatus:
    depth_hz, path_hz, latency_ms = rates.measure()
    return LiveStatus(
        depth_hz=depth_hz,
        path_hz=path_hz,
        latency_ms=latency_ms,
        dropped=source.state.dropped,
        length=tracker.length,
        lost=tracker.lost,
        verdict=Verdict.NOT_JUDGED if opened is None else opened.verdict.verdict,
        problem=source.state.problem,
    )
