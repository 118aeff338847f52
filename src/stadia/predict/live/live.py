"""Predict depth, path and verdict of a live source at the machine's rate."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stadia.core.errors import DataError, StadiaError
from stadia.core.types import Camera, Predictor
from stadia.datasets.config import CameraConfig, SourceOptions
from stadia.datasets.formats.ros_bags import BagTopic, RosBag
from stadia.datasets.video.video_camera import UserCamera, read_user_camera
from stadia.evaluation.frame_preparation import Frame, PredictedFrame, PreparedFrame
from stadia.evaluation.predict_frames import predict_maps
from stadia.geometry.numpy_camera import Intrinsics, centered_K, focal_px_from_fov
from stadia.predict.bag_output import BagOutput, make_stamp, open_bag_output
from stadia.predict.inputs import ASSUMED_FOV_DEG
from stadia.predict.live.sources import LiveFrame, LiveSource
from stadia.predict.live.tracker import FrameTracker
from stadia.predict.network import Network
from stadia.predict.options import PredictOptions
from stadia.predict.verdict import PredictionGate, read_training_record

WINDOW_S = 5.0
"""Rates and latency are those of this time."""

JUDGED_EVERY_S, JUDGED_SHARE = 10.0, 0.1
"""The verdict is renewed at most so often, and takes at most this share of the time, in a thread of its own."""

SAMPLED_EVERY = 10
"""Frames between those that the verdict may sample."""


@dataclass(frozen=True)
class LiveStatus:
    """What a live prediction has reached.

    depth_hz, path_hz: frames a second with depth, and with a pose.
    latency_ms: median from the arrival of an image to its depth and pose.
    dropped: share of the images that were not used.
    problem: of the source, else "".
    """

    frames: int
    depth_hz: float
    path_hz: float
    latency_ms: float
    dropped: float
    length: float
    lost: int
    verdict: str
    problem: str
    connections: int


@dataclass(frozen=True, eq=False)
class LiveResult:
    """A predicted image. predicted: with its pose; None if only the state of the source changed."""

    frame: LiveFrame | None
    predicted: PredictedFrame | None
    status: LiveStatus


class _RunningVerdict:
    """Judges the frames so far in a thread, so that a slow check delays no image."""

    def __init__(self, gate: PredictionGate) -> None:
        self.gate, self.verdict = gate, "not judged"
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
            self.verdict = f"not judged ({error.found})"
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


def find_camera(source: LiveSource, camera: CameraConfig, image: NDArray[np.uint8]) -> tuple[Any, bool]:
    """Return the camera of a source's images, and whether it is assumed: given, of a bag, or ASSUMED_FOV_DEG."""
    height, width = image.shape[:2]
    if camera.is_given:
        return read_user_camera(camera, Path(source.address), height, width), False
    if source.name == "bag":
        topic = next(iter(RosBag().find_recordings(Path(source.address))))
        bag = BagTopic(f"rosbag/{topic}", Path(source.address), topic)
        return bag.read_camera(SourceOptions(), height, width), False
    K = centered_K(focal_px_from_fov(ASSUMED_FOV_DEG, max(height, width)), height, width)
    return UserCamera(Intrinsics(K, height, width)), True


@dataclass(eq=False)
class LivePrediction:
    """Depth, path and verdict of a source's newest images.

    Args:
        network: opened; a network without a run gets the size of the images.
        camera: of the source; see `find_camera`.
        options: backend, precision, size and flip.
        record: a new .mcap, .db3 or .bag for depth, camera, path and verdict.
        with_path: whether to follow the camera.
    """

    network: Network
    address: str
    camera: CameraConfig
    options: PredictOptions
    record: Path | None = None
    with_path: bool = True

    def run(self, seconds: float | None = None, clock: Callable[[], float] = time.monotonic) -> Iterator[LiveResult]:
        """Yield a result for each image that is used, and twice a second without one, until the source ends.

        seconds: stop after this time, which counts from the opened network.
        """
        end_s = None if seconds is None else clock() + seconds
        with ExitStack() as closing:
            source = closing.enter_context(LiveSource(self.address))
            bag = None if self.record is None else closing.enter_context(open_bag_output(self.record))
            rates, tracker = _Rates(), FrameTracker()
            lens = predictor = verdict = size = None
            frames, wall_s = 0, time.time() - time.monotonic()
            while end_s is None or clock() < end_s:
                taken = source.take()
                if taken is None and source.state.has_ended:
                    break
                predicted = None
                if taken is not None:
                    if lens is None or size != taken.image.shape:
                        size = taken.image.shape
                        lens, is_assumed = find_camera(source, self.camera, taken.image)
                        predictor = self._open_predictor(taken.image)
                        training = read_training_record(self.network.checkpoint)
                        gate = PredictionGate(predictor.depth_scale, training, camera_is_assumed=is_assumed)
                        verdict = _RunningVerdict(gate)
                        end_s = None if seconds is None else clock() + seconds
                        source.begins.set()
                        if (newest := source.take(0.0)) is not None:  # the network took a while to open
                            taken = newest
                    assert predictor is not None
                    assert verdict is not None
                    predicted = self._predict(predictor, lens, taken, tracker)
                    frames += 1
                    rates.add(time.monotonic() - taken.arrived_s, has_pose=predicted.T_world_camera is not None)
                    verdict.add(predicted)
                    if bag is not None:
                        bag.add("", make_stamp(wall_s + taken.arrived_s), predicted)
                state = source.state
                depth_hz, path_hz, latency_ms = rates.measure()
                grade = "not judged" if verdict is None else verdict.verdict
                yield LiveResult(
                    taken,
                    predicted,
                    LiveStatus(
                        frames,
                        depth_hz,
                        path_hz,
                        latency_ms,
                        state.dropped,
                        tracker.length,
                        tracker.lost,
                        grade,
                        state.problem,
                        state.connections,
                    ),
                )
            self._end(source, bag, verdict, wall_s)
        if not frames:
            found = source.state.problem or "no image"
            raise DataError(self.address, found=found, expected="images", fix="check the address, and that it plays")

    def _open_predictor(self, image: NDArray[np.uint8]) -> Predictor:
        network = self.network
        if not network.has_own_size:
            network = self.network = network.fit(image.shape[0], image.shape[1])
        predictor = network.make_predictor(self.options)
        return network.run_backend(predictor, self.options, list)

    def _predict(self, predictor: Predictor, lens: Any, taken: LiveFrame, tracker: FrameTracker) -> PredictedFrame:
        frame = Frame(f"{taken.number:06d}", lens.correct(taken.image), lens.intrinsics.select_K(0), taken.time_s)
        shown = PreparedFrame.prepare(predictor, frame)
        camera = Camera(torch.from_numpy(shown.K)[None], predictor.height, predictor.width)
        with torch.inference_mode():
            maps = predict_maps(predictor, torch.from_numpy(shown.image)[None], camera)
        inverse = np.asarray(maps.inverse_depth[0, 0].float().cpu().numpy(), np.float32)
        predicted = shown.predicted(predictor.depth_scale, inverse, None)
        if not self.with_path or predictor.depth_scale.is_affine:
            return predicted
        small = np.ascontiguousarray((255 * shown.image).round().astype(np.uint8).transpose(1, 2, 0))
        return replace(predicted, T_world_camera=tracker.add(small, predicted.depth(), shown.K))

    def _end(self, source: LiveSource, bag: BagOutput | None, verdict: _RunningVerdict | None, wall_s: float) -> None:
        if bag is None or verdict is None:
            return
        facts = {"network": self.network.name, "source": source.name, "dropped": f"{source.state.dropped:.3f}"}
        bag.judge("", make_stamp(wall_s + time.monotonic()), verdict.verdict, facts)
