"""Sample frames while they are predicted, judge the predictions, and keep the verdict in the run that made them.

The rules of the verdict are in `diagnostics.prediction_checks`. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import StadiaError, VerdictError
from stadia.core.types import DepthScale
from stadia.datasets.video.frame_selection import FLOW_WIDTH, shrink_to_gray
from stadia.datasets.video.map_geometry import MapGeometry
from stadia.diagnostics.catalog import VERDICT_CODES
from stadia.diagnostics.finding import Finding, Severity, append_finding, read_valid_findings, write_findings
from stadia.diagnostics.prediction_checks import (
    PredictionVerdict,
    SampledFrame,
    TrainingRecord,
    Verdict,
    find_verdict,
    judge_measurements,
    measure_frames,
    reduce_image,
)
from stadia.diagnostics.prediction_checks.metric_checks import FocalBelief
from stadia.diagnostics.prediction_checks.prediction_verdict import MAX_FRAMES_APART
from stadia.diagnostics.preflight.two_view_geometry import median_flow_px
from stadia.evaluation.frame_preparation import Frame, PredictedFrame
from stadia.evaluation.io.predictions_folder import SCALE_DESCRIPTIONS
from stadia.evaluation.steady_depth import measure_frame_flicker
from stadia.files.run_facts import RunFacts, find_run_facts
from stadia.recipes.base.config import NETWORK_RECIPE
from stadia.training.checkpoint import Checkpoint, read_steps
from stadia.training.run_folder import Run

MAX_SAMPLES = 16
"""Frames that are judged. At twice as many, every second one is dropped and later ones are taken half as often."""

UNRELIABLE_PARTS = {
    "M32": "the depth of the sky",
    "M38": "lengths in metres of them",
    **dict.fromkeys(("K30", "K31"), "lengths, angles or points of them"),
}
"""What is unreliable where one finding is the only one that is no note."""

MIN_FLOW_PX = FLOW_WIDTH / 50
"""A sample is compared with the first frame that has moved so far, or with the last one within MAX_WAIT frames."""

MAX_WAIT = MAX_FRAMES_APART
"""Frames after a sample that may be compared with it: later ones show another part of the scene."""

FINDINGS = "findings.jsonl"
"""File of a run with its findings."""

OF_TRAINING = "T40"
"""Finding of the verdict that is about the training, whatever the input. A run has it once."""

WORST_FIRST = (Verdict.UNUSABLE, Verdict.DOUBTFUL, Verdict.NOT_JUDGED, Verdict.USABLE)


class PredictionGate:
    """Judges predictions of one input, frame by frame, with a bounded number of frames in memory.

    Args:
        depth_scale: of the predictions.
        training: what is known of the training.
        camera_is_assumed: nothing about the frames states their camera.
        is_of_training: frames of the input, or others of its recording or session, trained the network.
        has_trained_frames: frames of the input trained the network.
        mapped: the map beside the input; None without one.
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
    ) -> None:
        self.mapped = mapped
        self.depth_scale, self.training, self.camera_is_assumed = depth_scale, training, camera_is_assumed
        self.is_of_training, self.has_trained_frames = is_of_training, has_trained_frames
        self.samples: list[SampledFrame] = []
        self._stride, self._seen, self._waited = 1, 0, MAX_WAIT
        self._gray: NDArray[np.uint8] | None = None
        self._focal: float | None = None
        self._judged: PredictionVerdict | None = None
        self._before: PredictedFrame | None = None
        self.beliefs: list[FocalBelief] = []
        self.of_scale: list[Finding] = []
        self.has_own_path = False  # whether the path stands on no depth of the network
        self.flicker: list[float] = []

    def __call__(self, predicted: PredictedFrame) -> None:
        """Take a predicted frame, as a listener of `write_predictions`."""
        self.take(predicted.frame, lambda: predicted.inverse_depth)
        if predicted.frame.on_path:
            if self._before is not None and predicted.frame.is_neighbor:
                error = measure_frame_flicker(self._before, predicted)
                self.flicker += [] if error is None else [error]
            self._before = predicted

    def take(self, frame: Frame, predict: Callable[[], NDArray[np.float32]]) -> None:
        """Take a frame, cropped as for the network. predict: called for a sample; returns its inverse depth (h, w)."""
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
            self._waited, self._gray = 0, shrink_to_gray(image)
            if len(self.samples) == 2 * MAX_SAMPLES:
                self.samples, self._stride = self.samples[::2], 2 * self._stride
                self._waited = MAX_WAIT  # the newest sample is gone: the next frame is of none
            self._follow_skipped(frame)

    def _follow(self, frame: Frame) -> bool:
        """Compare the last sample with this frame. Return whether to wait for one that has moved farther."""
        self._compare(frame, MAX_WAIT + 1 if frame.frames_since is None else self._waited + frame.frames_since)
        self._follow_skipped(frame)
        return self._waited < MAX_WAIT

    def _follow_skipped(self, frame: Frame) -> None:
        """Compare the last sample with the frames after this one that are not predicted, until one has moved enough."""
        waited = self._waited
        with suppress(StadiaError):  # nothing is predicted of it: a damaged image is no reason to fail
            for number, skipped in enumerate(frame.skipped() if waited < MAX_WAIT else (), 1):
                self._compare(skipped, waited + number)
                if self._waited >= MAX_WAIT:
                    return
        self._waited = waited

    def _compare(self, frame: Frame, waited: int) -> None:
        """Compare the last sample with a frame so many frames later, unless it is too far away."""
        assert self._gray is not None
        self._waited = MAX_WAIT
        if waited > MAX_WAIT:
            return
        image, K = reduce_image(frame.image, frame.K)
        moved = median_flow_px(self._gray, shrink_to_gray(image))
        self.samples[-1] = replace(self.samples[-1], following=image, following_K=K)
        if moved is not None and moved < MIN_FLOW_PX:
            self._waited = waited

    def judge(self) -> PredictionVerdict:
        """Return the verdict on all frames so far; it is measured once."""
        if self._judged is not None:
            return self._judged
        has_ratios = not self.depth_scale.is_affine
        self._judged = judge_measurements(
            measure_frames(self.samples, has_ratios=has_ratios) if self.samples else None,
            self.training,
            focal=self._focal,
            beliefs=self.beliefs,
            of_scale=self.of_scale,
            camera_is_assumed=self.camera_is_assumed,
            is_of_training=self.is_of_training,
            has_trained_frames=self.has_trained_frames,
        )
        return self._judged

    def to_json(self) -> Mapping[str, Any]:
        """Return the verdict as predictions.json holds it, with `flicker`: the warped depth error of neighbors."""
        judged = self.judge().to_json()
        return {**judged, "flicker": float(np.median(self.flicker))} if self.flicker else judged

    def describe_trust(self) -> str:
        """Return what users may rely on after the verdict, as predictions.json holds it."""
        return describe_trust(self.depth_scale, self.to_json(), has_own_path=self.has_own_path)


def read_training_record(checkpoint: Checkpoint, *, of_trained: bool = False) -> TrainingRecord:
    """Return the training as a checkpoint and its run's files record it.

    of_trained: whether frames that trained are judged by it, with the verdict on others at the training's end.
    """
    is_start = checkpoint.path.stem == "best" and checkpoint.header.step == 0  # it is better than what was trained
    if checkpoint.header.recipe == NETWORK_RECIPE or is_start:  # published weights
        return TrainingRecord(focal=checkpoint.buffer("focal"), is_published=True)
    run, steps = checkpoint.run_folder, checkpoint.header.step
    known = read_steps(checkpoint.path.parent)
    is_known = checkpoint.path.stem in known  # as the best or the last one of its run
    if is_known:
        known[checkpoint.path.stem] = steps
    record = TrainingRecord.read(run, steps=steps, focal=checkpoint.buffer("focal"), trained_steps=known.get("last"))
    if checkpoint.path.stem != "best":  # of which alone the gain was measured
        record = replace(record, depth_gain=None)
    others = [f"{name}.safetensors, step {step}" for name, step in known.items() if step != steps]
    if is_known and others:
        record = replace(record, checkpoint=f"{checkpoint.path.name}, step {steps}", other_checkpoint=others[0])
    codes = find_unusable_codes(run)
    return replace(record, recorded_codes=codes, unusable_codes=codes if of_trained else ())


_ANY_PART, _ANY_OF_DEPTH = "any depth, ratio or path of them", "any depth or ratio of them"


def describe_trust(depth_scale: DepthScale, checks: Mapping[str, Any] | None, *, has_own_path: bool = False) -> str:
    """Return what users may rely on, after the verdict on the predictions.

    checks: of predictions.json; None where predictions were not checked.
    has_own_path: whether the path is that of a map, with a scale of its own.
    """
    text = SCALE_DESCRIPTIONS[depth_scale]
    if checks is None:
        return text
    limits = _describe_limits(depth_scale, checks, text)
    if has_own_path:
        limits = limits.replace(_ANY_PART, _ANY_OF_DEPTH) + "; the path is the map's, and does not depend on them"
    has_sky = (checks.get("measured") or {}).get("sky_nearer") is not None
    if has_sky and all(
        finding["code"] != "M32" for finding in checks["findings"]
    ):  # no mask leaves sky out of the maps
        return f"{limits}; the depth of sky is arbitrary"
    return limits


def _describe_limits(depth_scale: DepthScale, checks: Mapping[str, Any], text: str) -> str:
    """Return the description of a depth scale, as far as the verdict leaves it."""
    codes = [finding["code"] for finding in checks["findings"] if finding["severity"] != Severity.NOTE]
    if checks["verdict"] == Verdict.USABLE:
        has_other_lens = any(finding["code"] == "K30" for finding in checks["findings"])
        is_metric = depth_scale is DepthScale.METRES
        return (
            f"{text}; metres are as right as the focal length of this camera (K30)"
            if is_metric and has_other_lens
            else text
        )
    limits = text.partition(":" if depth_scale is DepthScale.METRES else ";")[0]
    if checks["verdict"] == Verdict.NOT_JUDGED:
        return f"{limits}; these predictions are not judged: no check had the images or the motion that it needs"
    affected = UNRELIABLE_PARTS.get(codes[0]) if len(set(codes)) == 1 else None
    affected = affected or _ANY_PART
    return f"{limits}; these predictions are {checks['verdict']}: do not rely on {affected} ({', '.join(codes)})"


def refuse_unusable(checks: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise VerdictError, which names each input with unusable predictions and its findings.

    checks: of predictions.json, by input.
    """
    unusable = {name: judged for name, judged in checks.items() if judged["verdict"] == Verdict.UNUSABLE}
    if unusable:
        codes = dict.fromkeys(finding["code"] for judged in unusable.values() for finding in judged["findings"])
        found = f"unusable ({', '.join(codes)})"
        fix = f"`stadia explain {next(iter(codes))}`, or leave --strict out"
        what, expected = f"predictions of {', '.join(unusable)}", "another verdict with --strict"
        raise VerdictError(what, found=found, expected=expected, fix=fix)


# -- the verdict on record of a run


def _read_findings(folder: Path) -> list[Finding]:
    """Return the findings of a run that can be read."""
    path = folder / FINDINGS
    return read_valid_findings(path)[0] if path.exists() else []


def replace_verdict(
    run: Run, judged: PredictionVerdict, training: TrainingRecord, *, has_trained_frames: bool = False
) -> None:
    """Write the verdict at a training's end over that of an earlier end of the same run.

    run.json has it as `predictions`, and as `judged` the checkpoint and residual that it is about.

    has_trained_frames: whether frames that trained were judged too.
    """
    if not run.writes:
        return
    known = _read_findings(run.folder)
    if any(finding.code in VERDICT_CODES for finding in known):
        write_findings(run.folder / FINDINGS, [finding for finding in known if finding.code not in VERDICT_CODES])
    for finding in judged.findings:
        if finding.code in VERDICT_CODES:  # another camera (K30) is about an input alone
            append_finding(run.folder / FINDINGS, finding)
    about = training.judged(has_trained_frames=has_trained_frames)
    run.update_facts(lambda facts: replace(facts, predictions=str(judged.verdict), judged=about))


def find_unusable_codes(folder: Path) -> tuple[str, ...]:
    """Return the codes of the verdict at a training's end where it is unusable; none for another verdict, or no run.

    None either where frames that trained were judged too: that verdict is not one on others.
    """
    facts = find_run_facts(folder)
    if facts is None or facts.predictions != Verdict.UNUSABLE or (facts.judged and facts.judged.has_trained_frames):
        return ()
    of_validation = [
        finding for finding in _read_findings(folder) if finding.code in VERDICT_CODES and not finding.where
    ]
    return tuple(dict.fromkeys(finding.code for finding in of_validation if finding.code != OF_TRAINING))


def find_recorded_verdict(folder: Path) -> tuple[Verdict, tuple[str, ...]] | None:
    """Return the worst verdict on record of a run and the codes of findings that make it so; None without a record."""
    facts, findings = find_run_facts(folder), _read_findings(folder)
    verdict = read_verdict(facts, findings) if facts else None
    if verdict is None:
        return None
    judged = [finding for finding in findings if finding.code in VERDICT_CODES]
    return verdict, tuple(dict.fromkeys(finding.code for finding in judged if finding.severity is not Severity.NOTE))


def record_worse_verdict(folder: Path, judged: PredictionVerdict, name: str) -> str:
    """Add the verdict on an input to the findings of the checkpoint's run where it is worse than that on record.

    folder: of the run; nothing is written where it is none.  name: of the input.

    Another camera (K30) is about the input alone, and is not recorded. Returns why the run cannot be written; "" where
    it is.
    """
    recorded = [finding for finding in judged.findings if finding.code in VERDICT_CODES]
    found = [finding if finding.code == OF_TRAINING else replace(finding, where=(name,)) for finding in recorded]
    if not found or not (folder / "run.json").is_file():
        return ""
    try:
        run = Run.open(folder)
        with run.held():
            known = _read_findings(folder)
            on_record = read_verdict(run.facts, known)
            if on_record is None or WORST_FIRST.index(find_verdict(found)) < WORST_FIRST.index(on_record):
                is_known = any(finding.code == OF_TRAINING for finding in known)
                for finding in found:
                    if not (is_known and finding.code == OF_TRAINING):
                        append_finding(folder / FINDINGS, finding)
    except (StadiaError, OSError) as error:
        return f"the verdict was not added to the findings of {folder}: {error}"
    return ""


def read_verdict(facts: RunFacts, findings: Sequence[Finding]) -> Verdict | None:
    """Return the worst verdict on record, of a training's end or of a later prediction; None without any.

    facts, findings: of run.json and of findings.jsonl.
    """
    recorded = [finding for finding in findings if finding.code in VERDICT_CODES]
    verdicts = [find_verdict(recorded)] if recorded else []
    verdicts += [verdict for verdict in Verdict if verdict == facts.predictions]
    return min(verdicts, key=WORST_FIRST.index, default=None)
