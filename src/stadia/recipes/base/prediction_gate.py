"""Sample frames while they are predicted, and judge the predictions. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.types import DepthScale
from stadia.diagnostics.catalog import CATALOG
from stadia.diagnostics.prediction_checks import (
    PredictionVerdict,
    SampledFrame,
    TrainingRecord,
    Verdict,
    judge_predictions,
    reduce_image,
)
from stadia.diagnostics.preflight.two_view_geometry import FLOW_WIDTH, median_flow_px, shrink_to_gray
from stadia.evaluation.frame_preparation import Frame, PredictedFrame
from stadia.evaluation.io.predictions_folder import SCALE_DESCRIPTIONS

MAX_SAMPLES = 16
"""Frames that are judged. At twice as many, every second one is dropped and later ones are taken half as often."""

MIN_FLOW_PX, MAX_WAIT = FLOW_WIDTH / 50, 10
"""A sample is compared with the first frame that has moved so far, or with the one after so many frames."""


class PredictionGate:
    """Judges predictions of one input, frame by frame, with a bounded number of frames in memory.

    Args:
        depth_scale: of the predictions.
        training: what is known of the training.
    """

    def __init__(self, depth_scale: DepthScale, training: TrainingRecord) -> None:
        self.depth_scale, self.training = depth_scale, training
        self.samples: list[SampledFrame] = []
        self._stride, self._seen, self._waited = 1, 0, MAX_WAIT
        self._gray: NDArray[np.uint8] | None = None
        self._focal: float | None = None

    def __call__(self, predicted: PredictedFrame) -> None:
        """Take a predicted frame, as a listener of `write_predictions`."""
        self.take(predicted.frame, lambda: predicted.inverse_depth)

    def take(self, frame: Frame, predict: Callable[[], NDArray[np.float32]]) -> None:
        """Take a frame, cropped as for the network. predict: called for a sample; returns its inverse depth (h, w)."""
        if not frame.on_path:
            return
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

    def _follow(self, frame: Frame) -> bool:
        """Compare the last sample with this frame. Return whether to wait for one that has moved farther."""
        assert self._gray is not None
        if not frame.is_neighbor:
            self._waited = MAX_WAIT
            return False
        image, K = reduce_image(frame.image, frame.K)
        moved = median_flow_px(self._gray, shrink_to_gray(image))
        self.samples[-1] = replace(self.samples[-1], following=image, following_K=K)
        self._waited = MAX_WAIT if moved is None or moved >= MIN_FLOW_PX else self._waited + 1
        return self._waited < MAX_WAIT

    def judge(self) -> PredictionVerdict:
        """Return the verdict on all frames so far."""
        sizes = {one.inverse_depth.shape for one in self.samples}
        frames = self.samples if len(sizes) == 1 else []
        has_ratios = self.depth_scale is not DepthScale.AFFINE_INVERSE
        return judge_predictions(frames, self.training, has_ratios=has_ratios, focal=self._focal)

    def to_json(self) -> Mapping[str, Any]:
        """Return the verdict as predictions.json holds it."""
        return self.judge().to_json()


def describe_trust(depth_scale: DepthScale, verdict: str) -> str:
    """Return what users may rely on, after the verdict on the predictions."""
    text = SCALE_DESCRIPTIONS[depth_scale]
    if verdict == Verdict.USABLE:
        return text
    limits = text.partition(":" if depth_scale is DepthScale.METRES else ";")[0]
    return f"{limits}; these predictions are {verdict}: rely on no depth, ratio or path of them"


def verdict_lines(checks: Mapping[str, Any]) -> Iterator[str]:
    """Yield the verdict of predictions.json, and a line for each finding."""
    yield f"predictions: {checks['verdict']}"
    for one in checks["findings"]:
        title = CATALOG[one["code"]].title if one["code"] in CATALOG else "of another version's catalog"
        yield f"  {one['severity']} {one['code']} {title}: {one['measured']}; expected {one['expected']}"
        yield f"    fix: {one['fix']}"
