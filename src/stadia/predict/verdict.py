"""Judge predictions without ground truth, and keep the verdict in the network's run. Does not import PyTorch."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import StadiaError, VerdictError
from stadia.core.types import DepthScale, Predictor
from stadia.core.verdict import Verdict, find_worst
from stadia.data.frame_preparation import Frame, PredictedFrame, PreparedFrame
from stadia.data.frame_selection import FLOW_WIDTH, shrink_to_gray
from stadia.data.video.map_geometry import MapGeometry
from stadia.data.video.video_map import StoredMap, find_usable_map
from stadia.evaluation.steady_depth import measure_frame_flicker
from stadia.geometry.cameras import FocalEstimate
from stadia.geometry.image_features import median_flow_px
from stadia.io.run_facts import RunFacts, find_run_facts
from stadia.judge.catalog import VERDICT_CODES
from stadia.judge.depth import (
    PredictionVerdict,
    SampledFrame,
    TrainingRecord,
    find_verdict,
    judge_measurements,
    measure_frames,
    reduce_image,
)
from stadia.judge.depth.depth_checks import MAX_FRAMES_APART
from stadia.judge.finding import Finding, Severity, append_finding, read_valid_findings
from stadia.judge.questions import DEPTH_IS_RELATIVE, METRES_ARE_UNCHECKED, Question, QuestionVerdict
from stadia.predict import TRAIN_FLOOR
from stadia.predict.networks import NETWORK_RECIPE
from stadia.predict.trust import ExpectedError, Trust, describe_trust

MAX_SAMPLES = 16
"""Number of frames that are judged. At twice as many, every second one is dropped, and later frames are sampled half as
often.
"""

MIN_FLOW_PX = FLOW_WIDTH / 50
"""A sampled frame is compared with the first later frame whose image moved this far, pixels, or the last one within
MAX_WAIT frames.
"""

MAX_WAIT = MAX_FRAMES_APART
"""Most frames between a sampled frame and the one it is compared with; later frames show another part of the scene."""

FINDINGS = "findings.jsonl"

OF_TRAINING = "T40"
"""Code of the finding about the training itself, which a run records only once."""


class PredictionGate:
    """Judge the predictions of one input, frame by frame, with few frames in memory.

    depth_scale: kind of scale of the predicted depth.
    training: record of the network's training.
    camera_is_assumed: whether nothing about the frames states their camera.
    is_of_training: whether the input's recording or session was used in training the network.
    has_trained_frames: whether frames of the input were used in training the network.
    mapped: the usable map next to the input, or None.
    unused_map: why the map next to the input judges no depth; "" if it does, or if there is none.

    Attributes:
        verdicts: verdicts on scale, path and camera that follow from the input and the options.
        counted: questions that count in the overall verdict, next to the depth.
        has_path_of_depth: whether the camera trajectory is computed from predicted depth.
        has_learned_metres: whether the metres of a video are those that the network learned, and nothing measured them.
        error: the expected error of the depth; None if it is unknown.
    """

    def __init__(
        self,
        depth_scale: DepthScale,
        training: TrainingRecord,
        *,
        camera_is_assumed: bool = False,
        is_of_training: bool = False,
        has_trained_frames: bool = False,
        mapped: MapGeometry | None = None,
        unused_map: str = "",
    ) -> None:
        self.mapped, self.unused_map = mapped, unused_map
        self.verdicts: dict[Question, QuestionVerdict] = {}
        self.counted: set[Question] = set()
        self.has_path_of_depth = self.has_learned_metres = False
        self.error: ExpectedError | None = None
        self.depth_scale, self.training, self.camera_is_assumed = depth_scale, training, camera_is_assumed
        self.is_of_training, self.has_trained_frames = is_of_training, has_trained_frames
        self.samples: list[SampledFrame] = []
        self._stride, self._seen, self._waited = 1, 0, MAX_WAIT
        self._gray: NDArray[np.uint8] | None = None
        self._focal: float | None = None
        self._judged: PredictionVerdict | None = None
        self._before: PredictedFrame | None = None
        self.focal_estimates: list[FocalEstimate] = []
        self.of_scale: list[Finding] = []
        self.has_own_path = False  # whether the path is independent of the network's depth
        self.flicker: list[float] = []

    def __call__(self, predicted: PredictedFrame) -> None:
        self.take(predicted.frame, lambda: predicted.inverse_depth)
        if predicted.frame.on_path:
            if self._before is not None and predicted.frame.is_neighbor:
                error = measure_frame_flicker(self._before, predicted)
                self.flicker += [] if error is None else [error]
            self._before = predicted

    def take(self, frame: Frame, predict: Callable[[], NDArray[np.float32]]) -> None:
        """Take a frame, cropped for the network, and sample it if it is due.

        frame: the frame.
        predict: returns its inverse depth (h, w); called only if the frame is sampled.
        """
        if not frame.on_path:
            return
        self._judged = None
        self._focal = frame.K[0, 0] / frame.image.shape[1]
        number, self._seen = self._seen, self._seen + 1
        if self._waited < MAX_WAIT and self._follow(frame):
            return
        if number % self._stride == 0:
            image, K = reduce_image(frame.image, frame.K)
            points = None if self.mapped is None else self.mapped.find_points(frame.name, self._focal, K)
            self.samples.append(SampledFrame(image, K, np.asarray(predict(), np.float32), points=points))
            self._waited, self._gray = 0, None
            if len(self.samples) == 2 * MAX_SAMPLES:
                self.samples, self._stride = self.samples[::2], 2 * self._stride
                self._waited = MAX_WAIT  # the newest sample is dropped: the next frame belongs to none
            self._follow_skipped(frame)

    def _follow(self, frame: Frame) -> bool:
        self._compare(frame, MAX_WAIT + 1 if frame.frames_since is None else self._waited + frame.frames_since)
        self._follow_skipped(frame)
        return self._waited < MAX_WAIT

    def _follow_skipped(self, frame: Frame) -> None:
        waited = self._waited
        with suppress(StadiaError):  # a damaged image that is not predicted does not matter
            for number, skipped in enumerate(frame.skipped() if waited < MAX_WAIT else (), 1):
                self._compare(skipped, waited + number)
                if self._waited >= MAX_WAIT:
                    return
        self._waited = waited

    def _compare(self, frame: Frame, waited: int) -> None:
        self._waited = MAX_WAIT
        if waited > MAX_WAIT:
            return
        image, K = reduce_image(frame.image, frame.K)
        if self._gray is None:
            self._gray = shrink_to_gray(self.samples[-1].image)
        moved = median_flow_px(self._gray, shrink_to_gray(image))
        self.samples[-1] = replace(self.samples[-1], following=image, following_K=K)
        if moved is not None and moved < MIN_FLOW_PX:
            self._waited = waited

    def judge(self) -> PredictionVerdict:
        """Return the verdict on all frames so far."""
        if self._judged is not None:
            return self._judged
        has_ratios = not self.depth_scale.is_affine
        of_scale = METRES_ARE_UNCHECKED if self.depth_scale is DepthScale.METRES else DEPTH_IS_RELATIVE
        self._judged = judge_measurements(
            measure_frames(self.samples, has_ratios=has_ratios) if self.samples else None,
            self.training,
            focal=self._focal,
            focal_estimates=self.focal_estimates,
            of_scale=self.of_scale,
            camera_is_assumed=self.camera_is_assumed,
            is_of_training=self.is_of_training,
            has_trained_frames=self.has_trained_frames,
            unused_map=self.unused_map,
            verdicts={Question.SCALE: of_scale, **self.verdicts},
            counted=self.counted,
            has_path_of_depth=self.has_path_of_depth,
            has_learned_metres=self.has_learned_metres,
        )
        return self._judged

    def to_json(self) -> Mapping[str, Any]:
        """Return the verdict as predictions.json records it, with `flicker`, the relative difference of depth between
        successive frames.
        """
        judged = self.judge().to_json()
        return {**judged, "flicker": float(np.median(self.flicker))} if self.flicker else judged

    def find_trust(self) -> Trust:
        """Return how far to trust the predictions after the verdict."""
        return describe_trust(self.depth_scale, self.to_json(), self.error, has_own_path=self.has_own_path)

    def describe_trust(self) -> str:
        """Return the sentence of `find_trust`."""
        return self.find_trust().text


def find_judging_map(source: Path) -> tuple[MapGeometry | None, str]:
    """Return the map next to a video or folder if it can judge depth, and otherwise why it cannot.

    Only a map that was judged usable can: a doubtful one may contradict right depth. The reason is ""
    without a map.

    source: path of the video or folder.
    """
    try:
        stored = find_usable_map(source)
    except StadiaError:
        return None, "the map next to the video cannot be read"
    if stored is None:
        return None, ""
    if stored.verdict is not None and stored.verdict.grade != Verdict.USABLE:
        return None, f"the map next to the video is {stored.verdict}"
    return stored.geometry, ""


def judge_path_by_map(stored: StoredMap) -> QuestionVerdict:
    """Return the verdict on the camera trajectory of a map.

    stored: the map.
    """
    placed = int(np.isfinite(stored.poses).all((1, 2)).sum())
    basis = f"a map that places {placed} of {len(stored.poses)} frames"
    if stored.verdict is None:
        return QuestionVerdict(Verdict.NOT_JUDGED, "the map was made by a version that judged no maps", basis)
    return QuestionVerdict(Verdict(stored.verdict.grade), f"the map is {stored.verdict}", basis)


def read_training_record(checkpoint: Any, *, of_trained: bool = False) -> TrainingRecord:
    """Return what a checkpoint and the files of its run record about the training.

    checkpoint: the checkpoint.
    of_trained: whether frames are judged that trained the network, so that the verdict at the end of the training
        counts too.
    """
    is_start = checkpoint.path.stem == "best" and checkpoint.header.step == 0  # it is better than the trained weights
    if checkpoint.header.recipe == NETWORK_RECIPE or is_start:  # published weights
        return TrainingRecord(focal=checkpoint.buffer("focal"), is_published=True)
    run, steps = checkpoint.run_folder, checkpoint.header.step
    known = TRAIN_FLOOR.load("read_steps")(checkpoint.path.parent)
    is_known = checkpoint.path.stem in known  # the best or the last one of its run
    if is_known:
        known[checkpoint.path.stem] = steps
    record = TrainingRecord.read(run, steps=steps, focal=checkpoint.buffer("focal"), trained_steps=known.get("last"))
    if checkpoint.path.stem != "best":  # Only the gain of the best checkpoint was measured.
        record = replace(record, depth_gain=None)
    others = [f"{name}.safetensors, step {step}" for name, step in known.items() if step != steps]
    if is_known and others:
        record = replace(record, checkpoint=f"{checkpoint.path.name}, step {steps}", other_checkpoint=others[0])
    codes = find_unusable_codes(run)
    return replace(record, recorded_codes=codes, unusable_codes=codes if of_trained else ())


def refuse_unusable(checks: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise VerdictError if any input has unusable predictions.

    checks: for each input by its name, the verdict as in predictions.json.
    """
    unusable = {name: judged for name, judged in checks.items() if judged["verdict"] == Verdict.UNUSABLE}
    if unusable:
        codes = dict.fromkeys(finding["code"] for judged in unusable.values() for finding in judged["findings"])
        found = f"unusable ({', '.join(codes)})"
        fix = f"read `stadia explain {next(iter(codes))}`"
        what, expected = f"predictions of {', '.join(unusable)}", "a better verdict with --strict"
        raise VerdictError(what, found=found, expected=expected, fix=fix)


# -- the recorded verdict of a run


def read_recorded_findings(folder: Path) -> list[Finding]:
    """Return the findings that a run's folder records."""
    path = folder / FINDINGS
    return read_valid_findings(path)[0] if path.exists() else []


def find_unusable_codes(folder: Path) -> tuple[str, ...]:
    """Return the codes of the findings that made the predictions unusable at the end of a training; () if they were
    not.

    A verdict on frames that trained the network is ignored.
    """
    facts = find_run_facts(folder)
    if facts is None or facts.predictions != Verdict.UNUSABLE or (facts.judged and facts.judged.has_trained_frames):
        return ()
    of_validation = [
        finding for finding in read_recorded_findings(folder) if finding.code in VERDICT_CODES and not finding.where
    ]
    return tuple(dict.fromkeys(finding.code for finding in of_validation if finding.code != OF_TRAINING))


def find_recorded_verdict(folder: Path) -> tuple[Verdict, tuple[str, ...]] | None:
    """Return the worst verdict that a run records, with the codes of its findings; None without a verdict."""
    facts, findings = find_run_facts(folder), read_recorded_findings(folder)
    verdict = read_verdict(facts, findings) if facts else None
    if verdict is None:
        return None
    judged = [finding for finding in findings if finding.code in VERDICT_CODES]
    return verdict, tuple(dict.fromkeys(finding.code for finding in judged if finding.severity is not Severity.NOTE))


def record_worse_verdict(folder: Path, judged: PredictionVerdict, name: str) -> str:
    """Add the verdict on an input to a run's findings, if it is worse than the recorded verdict.

    The finding that the camera differs from the training's (K30) is not recorded, since it is about the input only.

    folder: the run.
    judged: the verdict.
    name: name of the input.

    Returns why the run cannot be written; "" if it can.
    """
    recorded = [finding for finding in judged.findings if finding.code in VERDICT_CODES]
    found = [finding if finding.code == OF_TRAINING else replace(finding, where=(name,)) for finding in recorded]
    if not found or not (folder / "run.json").is_file():
        return ""
    try:
        run = TRAIN_FLOOR.load("run").open(folder)
        with run.held():
            known = read_recorded_findings(folder)
            on_record = read_verdict(run.facts, known)
            if on_record is None or find_verdict(found).is_worse_than(on_record):
                is_known = any(finding.code == OF_TRAINING for finding in known)
                for finding in found:
                    if not (is_known and finding.code == OF_TRAINING):
                        append_finding(folder / FINDINGS, finding)
    except (StadiaError, OSError) as error:
        return f"could not add the verdict to {folder}: {error}"
    return ""


def read_verdict(facts: RunFacts, findings: Sequence[Finding]) -> Verdict | None:
    """Return the worst verdict among those in a run's facts and its findings; None without one."""
    recorded = [finding for finding in findings if finding.code in VERDICT_CODES]
    verdicts = [find_verdict(recorded)] if recorded else []
    verdicts += [verdict for verdict in Verdict if verdict == facts.predictions]
    return find_worst(verdicts) if verdicts else None


def observe_frames(gate: PredictionGate, predictor: Predictor, frames: Iterable[Frame]) -> Iterator[Frame]:
    """Yield the frames unchanged, and let the judge take some of them with their prediction.

    gate: the judge.
    predictor: the network.
    frames: the frames.
    """
    from stadia.predict.predict_frames import predict_inverse_depth

    for frame in frames:
        prepared = PreparedFrame.prepare(predictor, frame)
        gate.take(prepared.frame, partial(predict_inverse_depth, predictor, prepared))
        yield frame
