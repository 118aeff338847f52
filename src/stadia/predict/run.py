"""Predict an input with a network, in the order of the steps: open, prepare, predict, judge, write. Imports no torch.

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
from stadia.judge.questions import Question, QuestionVerdict
from stadia.predict.inputs import PredictionInput, open_inputs
from stadia.predict.networks import DEFAULT_NETWORK
from stadia.predict.options import PredictOptions, refuse_unused
from stadia.predict.training_overlap import TrainedInput
from stadia.predict.verdict import PredictionGate, find_judging_map, judge_path_by_map, record_worse_verdict

if TYPE_CHECKING:
    from stadia.core.types import Predictor
    from stadia.data.video.video_camera import KeptScale
    from stadia.judge.depth import PredictionVerdict
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
    """Predict one input with one network: `frames` yields the predictions, `write` writes them into a folder.

    network: a `stadia.predict.network.Network`.
    given: the input.
    options: options of the prediction.
    predictor: predictor of the network for this input; the sessions of one command share it.
    source: path of the input; None for images in memory.
    reopen: opens all inputs of the source again, with another `every`; None if the frames can be read repeatedly.
    is_first: whether it is the first session of a command, which then describes the backend.

    Attributes:
        receipt: how the scale was measured; None if the network's own scale is kept.
        mapped: the camera trajectory of the map next to a video, in the unit of the depth; None if it is not used.
        map_problem: why a map next to the video is not used; "" if it is used or there is none.
        lacks_map: whether a map would give this video a trajectory that does not depend on predicted depth.
        trained: the frames of the input that were used in training the network.
        strangeness: score of the images' dissimilarity to the ones that the network's metres were measured on; None if
            it was not measured.
        is_unfamiliar: whether the images are unlike the ones that the network's metres were measured on, so that depth
            is not claimed to be in metres.
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
        self.predictor = predictor
        self.source = None if source is None else expand_home(source)
        self.is_first = is_first
        self.receipt: ScaleReceipt | None = None
        self.mapped: MappedPath | None = None
        self.map_problem = ""
        self.lacks_map = False
        self.strangeness: float | None = None
        self.is_unfamiliar = False
        self.trained = TrainedInput()
        self.photo: PredictedFrame | None = None
        self._reopen = reopen
        self._gate: PredictionGate | None = None
        self._is_read = False
        self._has_path = False

    @property
    def name(self) -> str:
        """Return the name of the input."""
        return self.input.name

    @property
    def count(self) -> int | None:
        """Return the number of frames; None if a video file does not state it."""
        return self.input.count

    # -- prepare: backend, scale, judge, path

    def start(self) -> None:
        """Measure the scale, and search the camera trajectory in a map next to the video; other methods call this
        first.

        Raises StadiaError if no source of metres gives a scale.
        """
        self.measure()
        if not self._has_path:
            self._has_path = True
            self._find_path()

    def measure(self) -> None:
        """Open the backend, measure the scale, and create the judge of the predictions; a second call does nothing.

        Raises StadiaError if no source of metres gives a scale.
        """
        if self._gate is not None:
            return
        open_all = (lambda: [self.input]) if self._reopen is None else self._reopen
        self.predictor = self.network.run_backend(self.predictor, self.options, open_all)
        own = self.predictor
        can_read_first_frames = self.input.is_photo or self._reopen is not None
        kept, track = self._find_kept_scale(), self.find_track()
        sources = self.options.scale_from or ("file",) * (track is not None) + ("camera",) * (kept is not None)
        if sources:
            self._measure_scale(sources, kept, track)
        if self.receipt is None and self.network.name == DEFAULT_NETWORK and can_read_first_frames:
            self._withdraw_metres()
        if self.options.max_depth is not None and self.predictor.depth_scale is not DepthScale.METRES:
            fix = "add --scale-from, such as point=X,Y:METRES, or leave --max-depth out"
            found = f"depth {self.predictor.depth_scale}"
            raise ConfigError("--max-depth", found=found, expected="depth in metres", fix=fix)
        self._gate = self._open_gate()
        if self.network.can_predict_focal and can_read_first_frames:
            self._gate.focal_estimates += self.network.find_focals(own, self.open_again().frames)

    def judge_path(self) -> None:
        """Count the verdict on the camera trajectory in the overall verdict, next to the depth's."""
        self.gate.counted.add(Question.PATH)

    def open_again(self, every: int | None = None) -> PredictionInput:
        """Open the input again, because its frames can be read only once.

        every: take each n-th frame; None takes the option's value.
        """
        if self.input.is_photo or self._reopen is None:
            return self.input
        opened = self._reopen(every=self.options.every if every is None else every)
        return next(given for given in opened if given.name == self.name)

    def _find_kept_scale(self) -> KeptScale | None:
        """Return the scale of the network that `stadia calibrate` kept with the camera of your own images; or None."""
        if self.source is None or self.input.camera is None or self.predictor.depth_scale.is_affine:
            return None
        return find_kept_scale(self.input.camera.config, self.source, self.network.name)

    def find_track(self) -> SpeedTrack | None:
        """Return the speed that a video file or a file next to it records, if it may give the scale; else None."""
        given = self.options.scale_from
        if self.source is None or self.input.recording is not None or self.input.count == 1:
            return None
        if not self.network.predicts_motion or self.predictor.depth_scale.is_affine or not self.source.is_file():
            return None
        if given and "file" not in given:
            return None
        from stadia.scale.video_track import find_track

        return find_track(self.source)

    def _measure_scale(self, sources: Sequence[str], kept: KeptScale | None, track: SpeedTrack | None) -> None:
        from stadia.predict.receipt import ScaledPredictor, measure_scale

        mapped = None if self.source is None else find_map_geometry(self.source)
        try:
            receipt = measure_scale(self.predictor, self.open_again, sources, mapped=mapped, kept=kept, track=track)
        except MissingFloorError as error:  # the speed of a track needs the path that this floor does not estimate
            if self.options.scale_from:
                raise
            log.warning("the speed in the file gives no metres: %s", error)
            if kept is not None:
                self._measure_scale(("camera",), kept, None)
            return
        except StadiaError as error:
            if self.options.scale_from:
                raise
            log.warning("depth keeps the metres of the network: %s", error.found)  # the user requested no source
            return
        if not self.options.scale_from and kept is None and receipt.verdict is Verdict.UNUSABLE:
            log.warning(
                "depth keeps the metres of the network: the scale by %s is uncertain by %.0f %%",
                sources[0],
                100 * receipt.deviation,
            )
            return
        self.receipt = receipt
        self.predictor = ScaledPredictor(self.predictor, self.receipt)

    def _withdraw_metres(self) -> None:
        """Predict up to scale if the frames are unlike those that the network's metres were measured on."""
        every = max(self.options.every, (self.count or 1) // MAX_FAMILIAR_FRAMES)
        frames = islice(self.open_again(every).frames, MAX_FAMILIAR_FRAMES)
        self.strangeness = self.network.measure_strangeness(self.predictor, frames)
        self.is_unfamiliar = self.strangeness is not None and self.strangeness > 0
        if self.is_unfamiliar:
            self.predictor = copy(self.predictor)
            self.predictor.depth_scale = DepthScale.UP_TO_SCALE

    def _open_gate(self) -> PredictionGate:
        record, self.trained = self.network.read_training(self.input)
        mapped, unused_map = None, ""
        if self.source is not None and not is_image_file(self.source):
            mapped, unused_map = find_judging_map(self.source)
        gate = PredictionGate(
            self.predictor.depth_scale,
            record,
            camera_is_assumed=self.input.camera_is_assumed,
            is_of_training=self.trained.is_of_training,
            has_trained_frames=bool(self.trained.names),
            mapped=mapped,
            unused_map=unused_map,
        )
        gate.has_path_of_depth = self.network.predicts_motion and self.input.count != 1
        if self.receipt is not None:
            estimate = self.receipt.find_focal()
            gate.focal_estimates += [] if estimate is None else [estimate]
            gate.of_scale += self.receipt.findings()
            gate.counted.add(Question.SCALE)
        gate.has_learned_metres = self.receipt is None and self.input.count != 1
        if (of_scale := self._judge_scale()) is not None:
            gate.verdicts[Question.SCALE] = of_scale
        return gate

    def _judge_scale(self) -> QuestionVerdict | None:
        """Return the verdict on the metres before the findings; None without metres."""
        if self.receipt is not None:
            counts = [f"{fit.count} measurements by {name}" for name, fit in self.receipt.fits.items()]
            reason = f"one unit is {self.receipt.factor:.4g} m, +- {self.receipt.deviation:.1%}"
            return QuestionVerdict(self.receipt.verdict, reason, " and ".join(counts))
        if self.is_unfamiliar:
            reason = "the images are unlike those that the metres of base were measured on, so depth is relative"
            return QuestionVerdict(Verdict.NOT_JUDGED, reason)
        if self.network.name == DEFAULT_NETWORK and self.predictor.depth_scale is DepthScale.METRES:
            error = f"{self.network.relative_error:.0%}"
            reason = f"metres of base were off by {error} on average in images like these"
            reason += "; the focal length is assumed or uncertain" * self.input.camera_is_assumed
            verdict = Verdict.USABLE
            if self.strangeness is not None and self.strangeness > MAX_STRANGENESS:
                verdict, reason = (
                    Verdict.DOUBTFUL,
                    "the images are rather unlike those that the metres were measured on",
                )
            return QuestionVerdict(verdict, reason, "features of frames spread over the input")
        return None

    def _find_path(self) -> None:
        options, source = self.options, self.source
        if source is None or options.motion is not None or not self.network.predicts_motion:
            return
        if self.predictor.depth_scale.is_affine or self.input.count == 1:
            return
        if not is_own_video(source, options.data.get("format", "auto")):
            return
        from stadia.scale.grammar import find_given_height
        from stadia.sfm.odometry.mapped_path import MappedPath

        found = MappedPath.find(source, self.predictor.depth_scale, find_given_height(options.scale_from))
        if found is None:
            unusable = find_map(source)
            self.lacks_map = unusable is None
            if not is_installed("torch"):
                log.warning("no path: without a usable map it needs the train floor: pip install 'stadia[train]'")
            self.map_problem = "" if unusable is None else f"it is {unusable.verdict}"
            return
        self.map_problem = found.compare_camera(next(iter(self.open_again().frames)))
        if not self.map_problem and not found.has_road_scale:
            from stadia.predict.predict_frames import predict_frame_depth

            keyframes = self.open_again(every=1).frames  # the same ones for each --every
            deque(found.observe(partial(predict_frame_depth, self.predictor), keyframes), maxlen=0)
        if not self.map_problem and found.scale is None:
            self.map_problem = "no keyframe gives its scale"
        if not self.map_problem:
            self.mapped = found
            self.gate.verdicts[Question.PATH] = judge_path_by_map(found.mapped)
            self.gate.has_own_path = found.has_road_scale

    # -- predict and judge

    def frames(self, track: TrackProgress = no_progress) -> Iterator[PredictedFrame]:
        """Predict the input frame by frame: depth, and the pose if the trajectory reaches the frame."""
        self.start()
        for predicted in self._predict(track):
            self.gate(predicted)
            yield predicted

    def _predict(self, track: TrackProgress) -> Iterator[PredictedFrame]:
        frames = track(self._read_frames(), self.input.count, f"predicting {self.name}")
        predictions = self.network.stream_frames(self.predictor, iter(frames), self.options, in_threads=self.count != 1)
        if self.mapped is not None:
            predictions = self.mapped.follow(predictions)
        if self.options.smooth:
            predictions = steady_frames(predictions)
        for predicted in predictions:
            predicted = replace(predicted, max_depth=self.options.max_depth)
            self.photo = predicted if self.input.count == 1 else None
            yield predicted

    def _read_frames(self) -> Iterable[Frame]:
        if self._is_read:
            fix = "call `renew()`"
            raise StadiaError(self.name, found="a session whose frames were read", expected="a new session", fix=fix)
        self._is_read = True
        return self.input.frames

    def renew(self) -> Session:
        """Return a new session of the same input, because a session reads its frames only once."""
        predictor = self.network.make_predictor(self.options)
        given = self.open_again()
        return type(self)(self.network, given, self.options, predictor, source=self.source, reopen=self._reopen)

    @property
    def gate(self) -> PredictionGate:
        """Return the judge of this input's predictions."""
        self.measure()
        assert self._gate is not None
        return self._gate

    @property
    def verdict(self) -> PredictionVerdict:
        """Return the verdict on the frames predicted so far."""
        return self.gate.judge()

    def judge(self, most: int | None = None, track: TrackProgress = no_progress) -> PredictionVerdict:
        """Predict frames without writing anything, and return the verdict on them.

        most: number of first frames; None takes all.
        track: shows progress.
        """
        deque(self.observe(islice(track(self._read_frames(), self.input.count, "frames measured"), most)), maxlen=0)
        return self.verdict

    def observe(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield the frames unchanged, and let the judge take some of them with their prediction."""
        from stadia.predict.verdict import observe_frames

        return observe_frames(self.gate, self.predictor, frames)

    # -- write

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
        self.start()
        with ExitStack() as files:
            listeners = [files.enter_context(opened) for opened in self._open_files(folder)]

            def complete() -> None:
                files.close()
                self._complete_files(folder)

            predictions = write_predictions(
                self._predict(track),
                self.predictor,
                folder,
                self.provenance,
                source=self.name,
                has_frame_numbers=self.input.has_frame_numbers,
                listeners=listeners,
                complete=complete,
                further=(VIDEO, IMAGE, CLOUD, TRAJECTORY_DRAWING),
                checker=self.gate,
                precision_cost=getattr(self.predictor, "precision_cost", None),
                trained=self.trained.names,
                in_threads=self.count != 1,
            )
        record, run = predictions.record, self.network.run_folder if record_verdict else None
        trained = 0 if record is None else record.trained_on or 0
        unrecorded = "" if run is None else record_worse_verdict(run, self.verdict, self.name)
        return WrittenPrediction(self.name, predictions, self.gate.to_json(), self, trained, unrecorded)

    def _open_files(self, folder: Path) -> Iterator[AbstractContextManager[Listener]]:
        """Yield what writes the files next to the depth maps, while its block lasts."""
        options, count, scale = self.options, self.input.count, self.predictor.depth_scale
        if options.color:
            yield nullcontext(depth_color_writer(folder / DEPTH_COLOR))
        if options.video and count == 1:
            yield nullcontext(side_by_side_image_writer(folder / IMAGE))
        elif options.video:
            yield open_side_by_side_video(folder / VIDEO, self.input.rate_hz)
        has_cloud = options.cloud is not False and self.network.writes_clouds and not scale.is_affine
        if not has_cloud and options.glb is None and options.rerun is None:
            return
        from stadia.evaluation.point_clouds import open_glb_file, open_point_cloud_file, open_rerun_file

        if has_cloud:
            yield open_point_cloud_file(folder / CLOUD, scale, count, find_far_sky)
        if options.glb is not None:
            yield open_glb_file(expand_home(options.glb), count, find_far_sky)
        if options.rerun is not None:
            yield open_rerun_file(expand_home(options.rerun), scale, count, find_far_sky)

    def _complete_files(self, folder: Path) -> None:
        """Write the verdict into the point cloud's header and, unless it is usable, the picture; draw the path."""
        verdict = str(self.gate.to_json().get("verdict", ""))
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

            path = read_kitti_trajectory(folder / TRAJECTORY).T_world_camera
            draw_paths(folder / TRAJECTORY_DRAWING, {self.name: path}, self.predictor.depth_scale)

    @cached_property
    def provenance(self) -> Provenance:
        """Return what predictions.json records about the network, the camera and the scale."""
        self.start()
        about: dict[str, Any] = {"camera_origin": self.input.describe_camera_origin()}
        if self.receipt is not None:
            about["scale_from"] = self.receipt.to_json()
        if self.mapped is not None:
            about["path_origin"] = self.mapped.describe_origin()
        return self.network.make_provenance(self.options).model_copy(update=about)
