"""Sample frames while they are predicted, and judge the predictions. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import StadiaError, VerdictError
from stadia.core.types import DepthScale
from stadia.datasets.video.frame_selection import FLOW_WIDTH, shrink_to_gray
from stadia.diagnostics.catalog import CATALOG
from stadia.diagnostics.finding import Severity
from stadia.diagnostics.prediction_checks import (
    PredictionVerdict,
    SampledFrame,
    TrainingRecord,
    Verdict,
    judge_predictions,
    reduce_image,
)
from stadia.diagnostics.prediction_checks.prediction_verdict import MAX_FRAMES_APART, MIN_PAIRS
from stadia.diagnostics.preflight.two_view_geometry import median_flow_px
from stadia.evaluation.frame_preparation import Frame, PredictedFrame
from stadia.evaluation.io.predictions_folder import SCALE_DESCRIPTIONS

MAX_SAMPLES = 16
"""Frames that are judged. At twice as many, every second one is dropped and later ones are taken half as often."""

UNRELIABLE_PARTS = {"M32": "the depth of the sky", "K30": "lengths, angles or points of them"}
"""What is unreliable where one finding is the only one that is no note."""

MIN_FLOW_PX, MAX_WAIT = FLOW_WIDTH / 50, MAX_FRAMES_APART
"""A sample is compared with the first frame that has moved so far, or with the last one within so many frames."""


class PredictionGate:
    """Judges predictions of one input, frame by frame, with a bounded number of frames in memory.

    Args:
        depth_scale: of the predictions.
        training: what is known of the training.
        camera_is_assumed: the frames have the training's camera, because none was given.
        is_of_training: frames of the input, or others of its recording or session, trained the network.
        has_trained_frames: frames of the input trained the network.
    """

    def __init__(
        self,
        depth_scale: DepthScale,
        training: TrainingRecord,
        *,
        camera_is_assumed: bool = False,
        is_of_training: bool = False,
        has_trained_frames: bool = False,
    ) -> None:
        self.depth_scale, self.training, self.camera_is_assumed = depth_scale, training, camera_is_assumed
        self.is_of_training, self.has_trained_frames = is_of_training, has_trained_frames
        self.samples: list[SampledFrame] = []
        self._stride, self._seen, self._waited = 1, 0, MAX_WAIT
        self._gray: NDArray[np.uint8] | None = None
        self._focal: float | None = None
        self._judged: PredictionVerdict | None = None

    def __call__(self, predicted: PredictedFrame) -> None:
        """Take a predicted frame, as a listener of `write_predictions`."""
        self.take(predicted.frame, lambda: predicted.inverse_depth)

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
            self.samples.append(SampledFrame(image, K, np.asarray(predict(), np.float32)))
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
            for number, one in enumerate(frame.skipped() if waited < MAX_WAIT else (), 1):
                self._compare(one, waited + number)
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
        has_ratios = self.depth_scale is not DepthScale.AFFINE_INVERSE
        about: dict[str, Any] = {"focal": self._focal, "camera_is_assumed": self.camera_is_assumed}
        about |= {"is_of_training": self.is_of_training, "has_trained_frames": self.has_trained_frames}
        self._judged = judge_predictions(self.samples, self.training, has_ratios=has_ratios, **about)
        return self._judged

    def to_json(self) -> Mapping[str, Any]:
        """Return the verdict as predictions.json holds it."""
        return self.judge().to_json()

    def describe_trust(self) -> str:
        """Return what users may rely on after the verdict, as predictions.json holds it."""
        return describe_trust(self.depth_scale, self.to_json())


def describe_trust(depth_scale: DepthScale, checks: Mapping[str, Any] | None) -> str:
    """Return what users may rely on, after the verdict on the predictions.

    checks: of predictions.json; None where predictions were not checked.
    """
    text = SCALE_DESCRIPTIONS[depth_scale]
    if checks is None:
        return text
    limits = _describe_limits(depth_scale, checks, text)
    has_sky = (checks.get("measured") or {}).get("sky_nearer") is not None
    if has_sky and all(one["code"] != "M32" for one in checks["findings"]):  # no mask leaves sky out of the maps
        return f"{limits}; the depth of sky is arbitrary"
    return limits


def _describe_limits(depth_scale: DepthScale, checks: Mapping[str, Any], text: str) -> str:
    """Return the description of a depth scale, as far as the verdict leaves it."""
    codes = [one["code"] for one in checks["findings"] if one["severity"] != Severity.NOTE]
    if checks["verdict"] == Verdict.USABLE:
        has_other_lens = depth_scale is DepthScale.METRES and any(one["code"] == "K30" for one in checks["findings"])
        return f"{text}; metres are as right as the focal length of this camera (K30)" if has_other_lens else text
    limits = text.partition(":" if depth_scale is DepthScale.METRES else ";")[0]
    if checks["verdict"] == Verdict.NOT_JUDGED:
        return f"{limits}; these predictions are not judged: no check had the images or the motion that it needs"
    affected = UNRELIABLE_PARTS.get(codes[0]) if len(set(codes)) == 1 else None
    affected = affected or "any depth, ratio or path of them"
    return f"{limits}; these predictions are {checks['verdict']}: do not rely on {affected} ({', '.join(codes)})"


def verdict_lines(checks: Mapping[str, Any]) -> Iterator[str]:
    """Yield the verdict of predictions.json, and a line for each finding and for each check that was not made."""
    yield f"predictions: {checks['verdict']}{_describe_basis(checks)}"
    for one in checks["findings"]:
        yield f"  {one['severity']} {_describe_code(one['code'])}: {one['measured']}; expected {one['expected']}"
        yield f"    fix: {one['fix']}"
    for code, reason in checks.get("not_checked", {}).items():  # files of earlier versions have no such entry
        yield f"  not checked: {_describe_code(code)}: {reason}"


def _describe_basis(checks: Mapping[str, Any]) -> str:
    """Return what "usable" rests on, as measured; "" for other verdicts, which have findings."""
    measured = checks.get("measured") or {}
    error, pairs = measured.get("match_error"), measured.get("match_pairs")
    if checks["verdict"] != Verdict.USABLE or not isinstance(error, float) or not isinstance(pairs, int):
        return ""
    if pairs < MIN_PAIRS:  # too few for S30, which is listed as not checked
        return ""
    basis = f"in {pairs} pairs of frames, matches are {error:.2f} times as far from this depth as from constant depth"
    own = measured.get("own_correlation")  # files of earlier versions have none
    if isinstance(own, float):
        basis += f"; what the maps add to their mean map has a rank correlation of {own:.2f} with that of matches"
    return f" ({basis})"


def refuse_unusable(checks: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise VerdictError, which names each input with unusable predictions and its findings.

    checks: of predictions.json, by input.
    """
    unusable = {name: one for name, one in checks.items() if one["verdict"] == Verdict.UNUSABLE}
    if unusable:
        codes = dict.fromkeys(found["code"] for one in unusable.values() for found in one["findings"])
        found = f"unusable ({', '.join(codes)})"
        fix = f"`stadia explain {next(iter(codes))}`, or leave --strict out"
        what, expected = f"predictions of {', '.join(unusable)}", "another verdict with --strict"
        raise VerdictError(what, found=found, expected=expected, fix=fix)


def _describe_code(code: str) -> str:
    return f"{code} {CATALOG[code].title if code in CATALOG else 'of another version of the catalog'}"
