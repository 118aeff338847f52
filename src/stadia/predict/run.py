"""Predict an input with a network, in the order of the steps: open, measure, judge, predict, write. Imports no torch.

The command line, `Network.predict` and `Network.stream`, the page, `odometry`, `evaluate` and `adapt` use `Session`.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stadia.core.errors import ConfigError, StadiaError
from stadia.core.floors import MissingFloorError, is_installed
from stadia.core.progress import TrackProgress, no_progress
from stadia.core.types import DepthScale
from stadia.core.verdict import Verdict
from stadia.data.frame_preparation import Frame, Listener, PredictedFrame
from stadia.data.video.input_camera import is_image_file, is_own_video
from stadia.data.video.video_camera import find_kept_scale
from stadia.data.video.video_map import find_map, find_map_geometry
from stadia.evaluation.plots.videos import (
    VERDICT_COLORS,
    depth_color_writer,
    open_side_by_side_video,
    side_by_side_image_writer,
    write_image_verdict,
    write_video_verdict,
)
from stadia.evaluation.predictions_folder import Predictions, Provenance, write_predictions
from stadia.evaluation.steady_depth import steady_frames
from stadia.geometry.sky import find_far_sky
from stadia.io.input_files import expand_home, safe_join
from stadia.io.records.trajectory import TRAJECTORY, TRAJECTORY_DRAWING
from stadia.judge.error import Measured
from stadia.judge.limits import SCALE_LIMITS
from stadia.judge.purposes import list_good_for
from stadia.judge.questions import Question, QuestionVerdict
from stadia.predict.inputs import PredictionInput, open_inputs
from stadia.predict.networks import DEFAULT_NETWORK
from stadia.predict.options import PredictOptions, refuse_unused
from stadia.predict.training_overlap import TrainedInput
from stadia.predict.trust import ExpectedError
from stadia.predict.verdict import (
    PredictionGate,
    find_judging_map,
    judge_path_by_map,
    observe_frames,
    record_worse_verdict,
)
from stadia.scale.depth_deviations import DepthDeviations

if TYPE_CHECKING:
    from stadia.core.types import Predictor
    from stadia.data.video.video_camera import KeptScale
    from stadia.judge.depth import PredictionVerdict, TrainingRecord
    from stadia.scale.scale_receipt import ScaleReceipt
    from stadia.scale.video_track import SpeedTrack
    from stadia.sfm.odometry.mapped_path import MappedPath

log = logging.getLogger(__name__)

VIDEO, IMAGE = "side_by_side.mp4", "side_by_side.png"
CLOUD = "cloud.ply"
DEPTH_COLOR = "depth_color"


MAX_FAMILIAR_FRAMES = 5
"""Most frames, spread over an input, that show whether a network's metres hold for it."""


MAX_STRANGENESS = -0.35
"""Largest strangeness of images whose metres are usable; above 0, depth is not claimed to be in metres.

Of 30 clips with right metres, two are above; of 27 with wrong ones, 21 are above or have doubtful depth
(benchmarks/clip_verdicts.py).
"""

# -- open the input for the network


def open_sessions(network: Any, source: Path, options: PredictOptions) -> list[Session]:
    """Open an image, a folder, a video or a dataset for a network; returns one session for each recording.

    network: a `stadia.predict.network.Network`.
    source: the input.
    options: options of the prediction.

    Raises ConfigError for options that have no effect, and the errors of opening the input.
    """
    refuse_unused(options, network.list_used_options(options), network.describe_kind())
    network = network.fit_source(source, options.data)
    predictor = network.make_predictor(options)
    data = network.complete_data_options(source, options.data)
    reopen = partial(open_inputs, source, every=options.every, **data)
    inputs = reopen()
    if options.glb is not None or options.rerun is not None:
        from stadia.evaluation.point_clouds import check_scene_files

        has_points = bool(options.scale_from) or not predictor.depth_scale.is_affine
        check_scene_files(options.glb, options.rerun, recordings=len(inputs), has_points=has_points)
    return [
        Session(network, given, options, predictor, source=source, reopen=reopen, is_first=given is inputs[0])
        for given in inputs
    ]


def predict_to_folders(
    sessions: Sequence[Any], out: Path, track: TrackProgress = no_progress
) -> Iterator[tuple[Any, Any]]:
    """Predict sessions into folders: each session is first started and yielded with None, then yielded with its result.

    sessions: the inputs.
    out: the folder; with several inputs, each gets a folder in it.
    track: shows progress.
    """
    for session in sessions:
        session.start()
        yield session, None
        yield session, session.write(out if len(sessions) == 1 else safe_join(out, session.name), track)


@dataclass(frozen=True)
class WrittenPrediction:
    """A finished prediction of one input.

    name: name of the input.
    predictions: the written depth maps.
    checks: the verdict, as in predictions.json.
    session: the input and its network.
    trained: number of frames of the input that were used in training the network.
    unrecorded: why the verdict could not be added to the network's run; "" if it could.
    """

    name: str
    predictions: Predictions
    checks: Mapping[str, Any]
    session: Session
    trained: int = 0
    unrecorded: str = ""

    @property
    def folder(self) -> Path:
        """Return the folder with the written files."""
        return self.predictions.folder


class Session:
    """One input, opened for one network: `frames` yields the predictions, `write` writes them into a folder.

    What is measured before the prediction is measured when it is first read: `scale`, `gate`, `path`.

    network: a `stadia.predict.network.Network`.
    given: the input.
    options: options of the prediction.
    predictor: predictor of the network for this input; the sessions of one command share it.
    source: path of the input; None for images in memory.
    reopen: opens all inputs of the source again, with another `every`; None if the frames can be read repeatedly.
    is_first: whether it is the first session of a command, which then describes the backend.

    Attributes:
        photo: the prediction of a photo, once it was predicted; None for other inputs.
    """

    def __init__(
        self,
        network: Any,
        given: PredictionInput,
        options: PredictOptions,
        predictor: Predictor,
        *,
        source: Path | None = None,
        reopen: Callable[..., list[PredictionInput]] | None = None,
        is_first: bool = True,
    ) -> None:
        self.network = network
        self.input = given
        self.options = options
        self.opened_predictor = predictor
        self.source = None if source is None else expand_home(source)
        self.is_first = is_first
        self.photo: PredictedFrame | None = None
        self._reopen = reopen
        self._is_read = False

    @property
    def name(self) -> str:
        """Return the name of the input."""
        return self.input.name

    @property
    def count(self) -> int | None:
        """Return the number of frames; None if a video file does not state it."""
        return self.input.count

    @property
    def can_read_again(self) -> bool:
        """Return whether frames can be read before the prediction reads them."""
        return self.input.is_photo or self._reopen is not None

    def open_all(self) -> list[PredictionInput]:
        """Open all inputs of the source again."""
        return [self.input] if self._reopen is None else self._reopen()

    def open_again(self, every: int | None = None) -> PredictionInput:
        """Open the input again, because its frames can be read only once.

        every: take each n-th frame; None takes the option's value.
        """
        if self.input.is_photo or self._reopen is None:
            return self.input
        opened = self._reopen(every=self.options.every if every is None else every)
        return next(given for given in opened if given.name == self.name)

    def renew(self) -> Session:
        """Return a new session of the same input, because a session reads its frames only once."""
        predictor = self.network.make_predictor(self.options)
        given = self.open_again()
        return type(self)(self.network, given, self.options, predictor, source=self.source, reopen=self._reopen)

    # -- what is measured before the prediction

    @cached_property
    def scale(self) -> MeasuredScale:
        """Return the predictor in the backend, and the scale of its depth.

        Raises StadiaError if no source of metres gives a scale.
        """
        return measure_input(self)

    @cached_property
    def training(self) -> tuple[TrainingRecord, TrainedInput]:
        """Return what is known of the network's training, and which frames of the input it used."""
        return self.network.read_training(self.input)

    @cached_property
    def gate(self) -> PredictionGate:
        """Return the judge of this input's predictions."""
        return open_gate(self)

    @cached_property
    def path(self) -> PathOfMap:
        """Return the camera trajectory of a map next to the video, which gives the frames their poses."""
        return find_path_of_map(self)

    def start(self) -> None:
        """Measure the scale, and search the camera trajectory in a map next to the video.

        Raises StadiaError if no source of metres gives a scale.
        """
        _ = self.gate, self.path

    @property
    def predictor(self) -> Predictor:
        """Return the predictor, in metres if a source of metres was measured."""
        return self.scale.predictor

    @property
    def receipt(self) -> ScaleReceipt | None:
        """Return how the scale was measured; None if the network's own scale is kept."""
        return self.scale.receipt

    def measure_metres(
        self, predictor: Predictor, sources: Sequence[str], kept: KeptScale | None, track: SpeedTrack | None
    ) -> ScaleReceipt | None:
        """Measure the scale by sources of metres; returns None if the network's own scale is better.

        predictor: the network in its own scale.
        sources: texts of `--scale-from`.
        kept: the scale that `stadia calibrate` kept.
        track: the speed that a file records.

        Raises StadiaError if a source that the user requested gives no scale.
        """
        from stadia.predict.receipt import measure_scale

        is_requested = bool(self.options.scale_from)
        mapped = None if self.source is None else find_map_geometry(self.source)
        try:
            receipt = measure_scale(predictor, self.open_again, sources, mapped=mapped, kept=kept, track=track)
        except MissingFloorError as error:  # the speed of a track needs the path that this floor does not estimate
            if is_requested:
                raise
            log.warning("the speed in the file gives no metres: %s", error)
            return None if kept is None else self.measure_metres(predictor, ("camera",), kept, None)
        except StadiaError as error:
            if is_requested:
                raise
            log.warning("depth keeps the metres of the network: %s", error.found)  # the user requested no source
            return None
        if not is_requested and kept is None and receipt.verdict is Verdict.UNUSABLE:
            log.warning(
                "depth keeps the metres of the network: the scale by %s is uncertain by %.0f %%",
                sources[0],
                100 * receipt.deviation,
            )
            return None
        return receipt

    # -- predict and judge

    def frames(self, track: TrackProgress = no_progress) -> Iterator[PredictedFrame]:
        """Predict the input frame by frame: depth, and the pose if the trajectory reaches the frame."""
        self.start()
        for predicted in self.predict(track):
            self.gate(predicted)
            yield predicted

    def predict(self, track: TrackProgress) -> Iterator[PredictedFrame]:
        """Predict the input frame by frame, without judging."""
        frames = track(self._read_frames(), self.count, f"predicting {self.name}")
        predictions = self.network.stream_frames(self.predictor, iter(frames), self.options, in_threads=self.count != 1)
        if self.path.mapped is not None:
            predictions = self.path.mapped.follow(predictions)
        if self.options.smooth:
            predictions = steady_frames(predictions)
        for predicted in predictions:
            predicted = replace(predicted, max_depth=self.options.max_depth)
            self.photo = predicted if self.count == 1 else None
            yield predicted

    def _read_frames(self) -> Iterable[Frame]:
        if self._is_read:
            fix = "call `renew()`"
            raise StadiaError(self.name, found="a session whose frames were read", expected="a new session", fix=fix)
        self._is_read = True
        return self.input.frames

    @property
    def verdict(self) -> PredictionVerdict:
        """Return the verdict on the frames predicted so far."""
        return self.gate.judge()

    def judge(self, most: int | None = None, track: TrackProgress = no_progress) -> PredictionVerdict:
        """Predict frames without writing anything, and return the verdict on them.

        most: number of first frames; None takes all.
        track: shows progress.
        """
        frames = islice(track(self._read_frames(), self.count, "frames measured"), most)
        deque(observe_frames(self.gate, self.predictor, frames), maxlen=0)
        return self.verdict

    def write(
        self, folder: Path, track: TrackProgress = no_progress, *, record_verdict: bool = True
    ) -> WrittenPrediction:
        """Predict into a folder: depth, colored depth, video, point cloud, camera trajectory and its drawing.

        folder: new, empty, or with the same prediction unfinished, which starts again.
        track: shows progress.
        record_verdict: whether a verdict that is worse than the known one is added to the findings of the network's
            run.

        Raises the errors of `stadia.evaluation.predictions_folder.write_predictions`.
        """
        return write_prediction(self, folder, track, record_verdict=record_verdict)

    @cached_property
    def provenance(self) -> Provenance:
        """Return what predictions.json records about the network, the camera and the scale."""
        self.start()
        about: dict[str, Any] = {"camera_origin": self.input.describe_camera_origin()}
        if self.receipt is not None:
            about["scale_from"] = self.receipt.to_json()
        if self.path.mapped is not None:
            about["path_origin"] = self.path.mapped.describe_origin()
        if (chosen := getattr(self.scale.own, "backend_name", None)) is not None:
            about["backend"] = chosen
        return self.network.make_provenance(self.options).model_copy(update=about)


# -- measure the scale


@dataclass(frozen=True)
class MeasuredScale:
    """The scale of an input's depth, measured before the input is predicted.

    predictor: the predictor in its backend, in metres if a source of metres was measured.
    own: the same predictor in the network's own scale.
    receipt: how the scale was measured; None if the network's own scale is kept.
    strangeness: score of the images' dissimilarity to the ones that the network's metres were measured on; None if it
        was not measured.
    """

    predictor: Predictor
    own: Predictor
    receipt: ScaleReceipt | None = None
    strangeness: float | None = None

    @property
    def is_unfamiliar(self) -> bool:
        """Return whether the images are unlike the ones that the network's metres were measured on, so that depth is
        not claimed to be in metres.
        """
        return self.strangeness is not None and self.strangeness > 0


def measure_input(session: Session) -> MeasuredScale:
    """Open the backend of a session, and measure the scale of its depth.

    Raises StadiaError if no source of metres gives a scale.
    """
    network, options = session.network, session.options
    own = network.run_backend(session.opened_predictor, options, session.open_all, session.count)
    kept, track = _find_kept_scale(session, own), _find_track(session, own)
    sources = options.scale_from or ("file",) * (track is not None) + ("camera",) * (kept is not None)
    receipt = session.measure_metres(own, sources, kept, track) if sources else None
    predictor: Predictor = own
    strangeness = None
    if receipt is not None:
        from stadia.predict.receipt import ScaledPredictor

        predictor = ScaledPredictor(own, receipt)
    elif network.name == DEFAULT_NETWORK and session.can_read_again:
        every = max(options.every, (session.count or 1) // MAX_FAMILIAR_FRAMES)
        strangeness = network.measure_strangeness(own, islice(session.open_again(every).frames, MAX_FAMILIAR_FRAMES))
    scale = MeasuredScale(predictor, own, receipt, strangeness)
    if scale.is_unfamiliar:
        relative = copy(own)
        relative.depth_scale = DepthScale.UP_TO_SCALE
        scale = replace(scale, predictor=relative)
    if options.max_depth is not None and scale.predictor.depth_scale is not DepthScale.METRES:
        fix = "add --scale-from, such as point=X,Y:METRES, or leave --max-depth out"
        found = f"depth {scale.predictor.depth_scale}"
        raise ConfigError("--max-depth", found=found, expected="depth in metres", fix=fix)
    return scale


def _find_kept_scale(session: Session, own: Predictor) -> KeptScale | None:
    """Return the scale of the network that `stadia calibrate` kept with the camera of your own images; or None."""
    if session.source is None or session.input.camera is None or own.depth_scale.is_affine:
        return None
    return find_kept_scale(session.input.camera.config, session.source, session.network.name)


def _find_track(session: Session, own: Predictor) -> SpeedTrack | None:
    """Return the speed that a video file or a file next to it records, if it may give the scale; else None."""
    requested = session.options.scale_from
    if session.source is None or session.input.recording is not None or session.count == 1:
        return None
    if not session.network.predicts_motion or own.depth_scale.is_affine or not session.source.is_file():
        return None
    if requested and "file" not in requested:
        return None
    from stadia.scale.video_track import find_track

    return find_track(session.source, is_needed=requested == ("file",))


# -- judge


def find_expected_error(session: Session) -> ExpectedError:
    """Return the error that users must expect of a session's depth, before it is judged."""
    own, scale = session.network.relative_error, session.scale
    of_scale = None if session.receipt is None else session.receipt.deviation
    is_strange = scale.strangeness is not None and scale.strangeness > MAX_STRANGENESS
    return ExpectedError(
        session.network.label,
        own,
        DepthDeviations.of(own, of_scale),
        is_unfamiliar=scale.is_unfamiliar,
        is_doubtful=session.receipt is None and is_strange,
        is_photo=session.count == 1,
    )


def open_gate(session: Session) -> PredictionGate:
    """Create the judge of a session's predictions, with what is known before them: training, scale, focal length."""
    network, given, scale = session.network, session.input, session.scale
    record, trained = session.training
    mapped, unused_map = None, ""
    if session.source is not None and not is_image_file(session.source):
        mapped, unused_map = find_judging_map(session.source)
    gate = PredictionGate(
        scale.predictor.depth_scale,
        record,
        camera_is_assumed=given.camera_is_assumed,
        is_of_training=trained.is_of_training,
        has_trained_frames=bool(trained.names),
        mapped=mapped,
        unused_map=unused_map,
    )
    gate.error = find_expected_error(session)
    gate.has_path_of_depth = network.predicts_motion and given.count != 1
    gate.has_learned_metres = scale.receipt is None and given.count != 1
    if scale.receipt is not None:
        estimate = scale.receipt.find_focal()
        gate.focal_estimates += [] if estimate is None else [estimate]
        gate.of_scale += scale.receipt.findings()
        gate.counted.add(Question.SCALE)
    if (of_scale := _judge_scale(session)) is not None:
        gate.verdicts[Question.SCALE] = of_scale
    if network.can_predict_focal and session.can_read_again:
        gate.focal_estimates += network.find_focals(scale.own, session.open_again().frames)
    return gate


def _judge_scale(session: Session) -> QuestionVerdict | None:
    """Return the verdict on the metres before the findings; None without metres."""
    network, scale, receipt = session.network, session.scale, session.receipt
    if receipt is not None:
        counts = [f"{fit.count} measurements by {name}" for name, fit in receipt.fits.items()]
        good_for = list_good_for(Measured(0.0, receipt.deviation))
        reason = f"one unit is {receipt.factor:.4g} m, +- {receipt.deviation:.1%}: {good_for}"
        return QuestionVerdict(receipt.verdict, reason, " and ".join(counts))
    if scale.is_unfamiliar:
        reason = "the images are unlike those that the metres of base were measured on, so depth is relative"
        return QuestionVerdict(Verdict.NOT_JUDGED, reason)
    if network.name != DEFAULT_NETWORK or scale.predictor.depth_scale is not DepthScale.METRES:
        return None
    basis = "features of frames spread over the input"
    if scale.strangeness is not None and scale.strangeness > MAX_STRANGENESS:
        reason = "the images are rather unlike those that the metres were measured on"
        return QuestionVerdict(Verdict.DOUBTFUL, reason, basis)
    expected = find_expected_error(session).deviation or 0.0
    reason = f"metres of base have a standard deviation of {expected:.0%} in images like these"
    reason += f": {list_good_for(Measured(0.0, expected))}"
    reason += "; the focal length is assumed or uncertain" * session.input.camera_is_assumed
    return QuestionVerdict(SCALE_LIMITS["deviation"].judge(expected), reason, basis)


# -- find the camera trajectory


@dataclass(frozen=True)
class PathOfMap:
    """The camera trajectory of a map next to a video.

    mapped: the trajectory in the unit of the depth; None if it is not used.
    problem: why a map next to the video is not used; "" if it is used or there is none.
    lacks_map: whether a map would give this video a trajectory that does not depend on predicted depth.
    """

    mapped: MappedPath | None = None
    problem: str = ""
    lacks_map: bool = False


def find_path_of_map(session: Session) -> PathOfMap:
    """Find the camera trajectory in a map next to a session's video, and let the gate judge it."""
    options, source, predictor = session.options, session.source, session.predictor
    if source is None or options.motion is not None or not session.network.predicts_motion:
        return PathOfMap()
    if predictor.depth_scale.is_affine or session.count == 1:
        return PathOfMap()
    if not is_own_video(source, options.data.get("format", "auto")):
        return PathOfMap()
    from stadia.scale.grammar import find_given_height
    from stadia.sfm.odometry.mapped_path import MappedPath

    found = MappedPath.find(source, predictor.depth_scale, find_given_height(options.scale_from))
    if found is None:
        unusable = find_map(source)
        if not is_installed("torch"):
            log.warning("no path: without a usable map it needs the train floor: pip install 'stadia[train]'")
        return PathOfMap(lacks_map=True) if unusable is None else PathOfMap(problem=f"it is {unusable.verdict}")
    if problem := found.compare_camera(next(iter(session.open_again().frames))):
        return PathOfMap(problem=problem)
    if not found.has_road_scale:
        from stadia.predict.predict_frames import predict_frame_depth

        keyframes = session.open_again(every=1).frames  # the same ones for each --every
        deque(found.observe(partial(predict_frame_depth, predictor), keyframes), maxlen=0)
    if found.scale is None:
        return PathOfMap(problem="no keyframe gives its scale")
    session.gate.verdicts[Question.PATH] = judge_path_by_map(found.mapped)
    session.gate.has_own_path = found.has_road_scale
    return PathOfMap(found)


# -- write


def write_prediction(
    session: Session, folder: Path, track: TrackProgress, *, record_verdict: bool = True
) -> WrittenPrediction:
    """Predict a session into a folder; `Session.write` describes it."""
    session.start()
    gate, predictor, (_, trained) = session.gate, session.predictor, session.training
    with ExitStack() as files:
        listeners = [files.enter_context(opened) for opened in _open_files(session, folder)]

        def complete() -> None:
            files.close()
            _complete_files(session, folder)

        predictions = write_predictions(
            session.predict(track),
            predictor,
            folder,
            session.provenance,
            source=session.name,
            has_frame_numbers=session.input.has_frame_numbers,
            listeners=listeners,
            complete=complete,
            further=(VIDEO, IMAGE, CLOUD, TRAJECTORY_DRAWING),
            checker=gate,
            precision_cost=getattr(predictor, "precision_cost", None),
            trained=trained.names,
            in_threads=session.count != 1,
        )
    record, run = predictions.record, session.network.run_folder if record_verdict else None
    trained_on = 0 if record is None else record.trained_on or 0
    unrecorded = "" if run is None else record_worse_verdict(run, session.verdict, session.name)
    return WrittenPrediction(session.name, predictions, gate.to_json(), session, trained_on, unrecorded)


def _open_files(session: Session, folder: Path) -> Iterator[AbstractContextManager[Listener]]:
    """Yield what writes the files next to the depth maps, while its block lasts."""
    options, count, scale = session.options, session.count, session.predictor.depth_scale
    if options.color:
        yield nullcontext(depth_color_writer(folder / DEPTH_COLOR))
    if options.video and count == 1:
        yield nullcontext(side_by_side_image_writer(folder / IMAGE))
    elif options.video:
        yield open_side_by_side_video(folder / VIDEO, session.input.rate_hz)
    has_cloud = options.cloud is not False and session.network.writes_clouds and not scale.is_affine
    if not has_cloud and options.glb is None and options.rerun is None:
        return
    from stadia.evaluation.point_clouds import open_glb_file, open_point_cloud_file, open_rerun_file

    if has_cloud:
        yield open_point_cloud_file(folder / CLOUD, scale, count, find_far_sky)
    if options.glb is not None:
        yield open_glb_file(expand_home(options.glb), count, find_far_sky)
    if options.rerun is not None:
        yield open_rerun_file(expand_home(options.rerun), scale, count, find_far_sky)


def _complete_files(session: Session, folder: Path) -> None:
    """Write the verdict into the point cloud's header and, unless it is usable, the picture; draw the path."""
    verdict = str(session.gate.to_json().get("verdict", ""))
    if verdict and (folder / CLOUD).is_file():
        from stadia.evaluation.point_clouds import write_cloud_verdict

        write_cloud_verdict(folder / CLOUD, verdict)
    if verdict in VERDICT_COLORS and (folder / VIDEO).is_file():
        write_video_verdict(folder / VIDEO, verdict)
    elif verdict in VERDICT_COLORS and (folder / IMAGE).is_file():
        write_image_verdict(folder / IMAGE, verdict)
    if (folder / TRAJECTORY).exists():
        from stadia.evaluation.plots.path_chart import draw_paths
        from stadia.io.records.read import read_kitti_trajectory
        from stadia.metrics.trajectory_metrics import find_jumps

        path = read_kitti_trajectory(folder / TRAJECTORY).T_world_camera
        gaps = find_jumps(path[:, :3, 3])
        draw_paths(folder / TRAJECTORY_DRAWING, {session.name: path}, session.predictor.depth_scale, gaps=gaps)
