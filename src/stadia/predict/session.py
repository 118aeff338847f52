"""Predict one input with one network, frame by frame or into a folder."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from copy import copy
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stadia.core.errors import StadiaError
from stadia.core.types import DepthScale, TrackProgress, no_progress
from stadia.datasets.video.video_map import find_map, find_map_geometry
from stadia.evaluation.frame_preparation import Frame, Listener, PredictedFrame
from stadia.evaluation.io.predictions_folder import Predictions, write_predictions
from stadia.evaluation.io.predictions_record import TRAJECTORY, Provenance
from stadia.evaluation.plots.videos import depth_color_writer
from stadia.evaluation.steady_depth import steady_frames
from stadia.files.paths import expand_home
from stadia.geometry.sky import find_far_sky
from stadia.models import DEFAULT_NETWORK
from stadia.predict.inputs import PredictionInput, is_own_video, open_inputs
from stadia.predict.loaded_network import LoadedNetwork
from stadia.predict.options import PredictOptions, refuse_unused
from stadia.predict.outputs import (
    CLOUD,
    DEPTH_COLOR,
    IMAGE,
    PATH_DRAWING,
    VIDEO,
    check_scenes,
    mark_verdict,
    open_scenes,
    side_by_side_writer,
)
from stadia.predict.scale.grammar import find_given_height
from stadia.predict.verdict import PredictionGate, record_worse_verdict
from stadia.recipes.base.training_overlap import TrainedInput, note_trained

if TYPE_CHECKING:
    from stadia.core.types import Predictor
    from stadia.diagnostics.prediction_checks import PredictionVerdict
    from stadia.odometry.mapped_path import MappedPath
    from stadia.predict.scale.receipt import ScaleReceipt


def open_sessions(network: LoadedNetwork, source: Path, options: PredictOptions) -> list[Session]:
    """Open an image, a folder, a video or a data set: one session for each recording.

    Raises ConfigError for options that have no effect, and the errors of opening the input.
    """
    refuse_unused(options, network.list_used_options(options), network.describe_kind())
    network = network.fit_source(source, options.data)
    predictor = network.make_predictor(options)
    data = network.complete_data_options(source, options.data)
    open_again = partial(open_inputs, source, every=options.every, **data)
    inputs = open_again()
    check_scenes(options, inputs, predictor.depth_scale)
    return [
        Session(network, given, options, predictor, source=source, reopen=open_again, is_first=given is inputs[0])
        for given in inputs
    ]


@dataclass(frozen=True)
class WrittenPrediction:
    """A finished prediction of one input.

    checks: the verdict, as in predictions.json.
    trained_note: a note if frames of the input trained the network, or "".
    unrecorded: why the verdict could not be added to the run, or "".
    """

    name: str
    predictions: Predictions
    checks: Mapping[str, Any]
    session: Session
    trained_note: str = ""
    unrecorded: str = ""

    @property
    def folder(self) -> Path:
        """Return the folder with the files."""
        return self.predictions.folder


class Session:
    """Predict one input with one network.

    predictor: of the network for this input; sessions of one command share it.
    source: path of the input; None for images in memory.
    reopen: opens all inputs of the source again, with another `every`; None if the frames can be read repeatedly.
    is_first: it is the first session of a command, which describes the backend.

    Attributes:
        receipt: of the measured scale; None if the network's own scale is kept.
        mapped: the path of the map next to a video, in the unit of the depth, or None.
        map_problem: why a map next to the video is not used, or "".
        lacks_map: a map would give this video a path that does not depend on predicted depth.
        trained: the frames of the input that trained the network.
        is_unfamiliar: depth is not claimed to be metres, because the images are unlike those of its measurements.
    """

    def __init__(
        self,
        network: LoadedNetwork,
        given: PredictionInput,
        options: PredictOptions,
        predictor: Predictor,
        *,
        source: Path | None = None,
        reopen: Callable[..., list[PredictionInput]] | None = None,
        is_first: bool = True,
    ) -> None:
        self.network, self.input, self.options = network, given, options
        self.predictor = predictor
        self.source = None if source is None else expand_home(source)
        self.is_first = is_first
        self.receipt: ScaleReceipt | None = None
        self.mapped: MappedPath | None = None
        self.map_problem = ""
        self.lacks_map = False
        self.is_unfamiliar = False
        self.trained = TrainedInput()
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

    def start(self) -> None:
        """Measure the scale, and find the input's path in the map next to the video.

        The other methods call it. Raises StadiaError if no source gives a scale.
        """
        self.measure()
        if not self._has_path:
            self._has_path = True
            self._find_path()

    def measure(self) -> None:
        """Open the backend, measure the scale and open the gate. Raises StadiaError without a scale."""
        if self._gate is not None:
            return
        self.predictor = self.network.run_backend(self.predictor, self.options, self._open_all)
        own = self.predictor
        if self.options.scale_from:
            self._measure_scale()
        elif self.network.name == DEFAULT_NETWORK and self._can_read_first_frames:
            self._withdraw_metres()
        self._gate = self._open_gate(own)

    def frames(self, track: TrackProgress = no_progress) -> Iterator[PredictedFrame]:
        """Predict the input frame by frame: depth, and the pose if the path reaches the frame."""
        self.start()
        for predicted in self._predict(track):
            self.gate(predicted)
            yield predicted

    def renew(self) -> Session:
        """Return a new session of the same input. A session reads its frames once."""
        network, options = self.network, self.options
        return Session(
            network,
            self.open_again(),
            options,
            network.make_predictor(options),
            source=self.source,
            reopen=self._reopen,
        )

    def _read_frames(self) -> Iterable[Frame]:
        if self._is_read:
            fix = "call `renew()`"
            raise StadiaError(self.name, found="a session whose frames were read", expected="a new session", fix=fix)
        self._is_read = True
        return self.input.frames

    def _predict(self, track: TrackProgress) -> Iterator[PredictedFrame]:
        frames = track(self._read_frames(), self.input.count, f"predicting {self.name}")
        predicted = self.network.stream_frames(self.predictor, iter(frames), self.options)
        if self.mapped is not None:
            predicted = self.mapped.follow(predicted)
        return steady_frames(predicted) if self.options.steady else predicted

    @property
    def gate(self) -> PredictionGate:
        """Return the judge of this input's predictions."""
        self.measure()
        assert self._gate is not None
        return self._gate

    @property
    def verdict(self) -> PredictionVerdict:
        """Return the verdict on the frames so far."""
        return self.gate.judge()

    def judge(self, most: int | None = None, track: TrackProgress = no_progress) -> PredictionVerdict:
        """Return the verdict on the first `most` frames (None: all). Nothing is written."""
        deque(self.observe(islice(track(self._read_frames(), self.input.count, "frames measured"), most)), maxlen=0)
        return self.verdict

    def observe(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield the frames unchanged, and judge predictions of some of them."""
        from stadia.predict.judged_frames import observe_frames

        return observe_frames(self.gate, self.predictor, frames)

    def write(
        self, folder: Path, track: TrackProgress = no_progress, *, record_verdict: bool = True
    ) -> WrittenPrediction:
        """Predict into a folder: depth, colored depth, video, point cloud, path and its drawing.

        folder: new, empty, or with the same prediction unfinished, which starts again.
        record_verdict: add a verdict that is worse than the known one to the findings of the network's run.

        Raises the errors of `evaluation.io.predictions_folder.write_predictions`.
        """
        self.start()
        options, given, scale = self.options, self.input, self.predictor.depth_scale
        listeners: list[Listener] = [depth_color_writer(folder / DEPTH_COLOR)] if options.color else []
        with ExitStack() as files:
            if options.video:
                listeners.append(files.enter_context(side_by_side_writer(given, folder)))
            if options.cloud is not False and self.network.writes_clouds and not scale.is_affine:
                from stadia.evaluation.io.point_clouds import open_point_cloud_file

                cloud = open_point_cloud_file(folder / CLOUD, scale, given.count, find_far_sky)
                listeners.append(files.enter_context(cloud))
            listeners += [files.enter_context(scene) for scene in open_scenes(options, scale, given.count)]

            def complete() -> None:
                files.close()
                mark_verdict(folder, self.gate)
                if (folder / TRAJECTORY).exists():
                    from stadia.evaluation.io.trajectory_formats import read_kitti_trajectory
                    from stadia.evaluation.plots.charts import draw_paths

                    path = read_kitti_trajectory(folder / TRAJECTORY).T_world_camera
                    draw_paths(folder / PATH_DRAWING, {given.name: path}, scale)

            predictions = write_predictions(
                self._predict(track),
                self.predictor,
                folder,
                self.provenance,
                source=given.name,
                has_frame_numbers=given.has_frame_numbers,
                listeners=listeners,
                complete=complete,
                further=(VIDEO, IMAGE, CLOUD, PATH_DRAWING),
                checker=self.gate,
                precision_cost=getattr(self.predictor, "precision_cost", None),
                trained=self.trained.names,
            )
        return self._finish(predictions, record_verdict=record_verdict)

    def _finish(self, predictions: Predictions, *, record_verdict: bool) -> WrittenPrediction:
        record = predictions.record
        note = "" if record is None else note_trained(record.trained_on, len(record.entries))
        run = self.network.run_folder if record_verdict else None
        unrecorded = "" if run is None else record_worse_verdict(run, self.verdict, self.name)
        return WrittenPrediction(self.name, predictions, self.gate.to_json(), self, note, unrecorded)

    @cached_property
    def provenance(self) -> Provenance:
        """Return the session's entry of predictions.json."""
        self.start()
        about: dict[str, Any] = {"camera_origin": self.input.describe_camera_origin()}
        if self.receipt is not None:
            about["scale_from"] = self.receipt.to_json()
        if self.mapped is not None:
            about["path_origin"] = self.mapped.describe_origin()
        return self.network.make_provenance(self.options).model_copy(update=about)

    # -- before the first frame

    def open_again(self, every: int | None = None) -> PredictionInput:
        """Open the input again, because its frames can be read once. every: instead of the option's."""
        if self.input.is_photo or self._reopen is None:
            return self.input
        opened = self._reopen(every=self.options.every if every is None else every)
        return next(given for given in opened if given.name == self.name)

    def _open_all(self) -> list[PredictionInput]:
        return [self.input] if self._reopen is None else self._reopen()

    def _measure_scale(self) -> None:
        from stadia.predict.scale.receipt import ScaledPredictor, measure_scale

        mapped = None if self.source is None else find_map_geometry(self.source)
        self.receipt = measure_scale(self.predictor, self.open_again, self.options.scale_from, mapped=mapped)
        self.predictor = ScaledPredictor(self.predictor, self.receipt)

    @property
    def _can_read_first_frames(self) -> bool:
        """Return whether frames can be read before they are predicted."""
        return self.input.is_photo or self._reopen is not None

    def _withdraw_metres(self) -> None:
        """Predict up to scale if the first frames are unlike those that the network's metres were measured on."""
        from stadia.predict.judged_frames import are_unfamiliar

        self.is_unfamiliar = are_unfamiliar(self.network.recipe, self.predictor, self.open_again().frames)
        if self.is_unfamiliar:
            self.predictor = copy(self.predictor)
            self.predictor.depth_scale = DepthScale.UP_TO_SCALE

    def _open_gate(self, own: Predictor) -> PredictionGate:
        record, self.trained = self.network.read_training(self.input)
        gate = PredictionGate(
            self.predictor.depth_scale,
            record,
            camera_is_assumed=self.input.camera_is_assumed,
            is_of_training=self.trained.is_of_training,
            has_trained_frames=bool(self.trained.names),
            mapped=None if self.source is None else find_map_geometry(self.source, skip_damaged=True),
        )
        if self.receipt is not None:
            belief = self.receipt.find_focal()
            gate.beliefs += [] if belief is None else [belief]
            gate.of_scale += self.receipt.findings()
        if self.network.can_predict_focal and self._can_read_first_frames:
            from stadia.predict.judged_frames import find_network_focals

            gate.beliefs += find_network_focals(self.network.recipe, own, self.open_again().frames)
        return gate

    def _find_path(self) -> None:
        options, source = self.options, self.source
        if source is None or options.motion is not None or not self.network.predicts_motion:
            return
        is_video = is_own_video(source, options.data.get("format", "auto")) and self.input.count != 1
        if self.predictor.depth_scale.is_affine or not is_video:
            return
        from stadia.odometry.mapped_path import MappedPath

        found = MappedPath.find(source, self.predictor.depth_scale, find_given_height(options.scale_from))
        if found is None:
            unusable = find_map(source)
            self.lacks_map = unusable is None
            self.map_problem = "" if unusable is None else f"it is {unusable.verdict}"
            return
        self.map_problem = found.compare_camera(next(iter(self.open_again().frames)))
        if not self.map_problem and not found.has_road_scale:
            deque(found.observe(self.predictor, self.open_again(every=1).frames), maxlen=0)  # the same key frames
        if not self.map_problem and found.scale is None:
            self.map_problem = "no key frame gives its scale"
        if not self.map_problem:
            self.mapped = found
            self.gate.has_own_path = found.deviation is not None
