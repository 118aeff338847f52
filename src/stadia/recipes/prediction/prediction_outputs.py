"""Files beside predictions, and lines about them for people."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np

from stadia.core.types import DepthScale
from stadia.diagnostics.prediction_checks import Verdict
from stadia.evaluation.frame_preparation import Listener
from stadia.evaluation.io.predictions_folder import PredictionChecker, Predictions
from stadia.evaluation.plots.videos import (
    VERDICT_COLORS,
    open_side_by_side_video,
    side_by_side_image_writer,
    write_image_verdict,
    write_video_verdict,
)
from stadia.recipes.prediction.prediction_inputs import PredictionInput
from stadia.recipes.prediction.verdict import describe_trust, verdict_lines

VIDEO = "side_by_side.mp4"
IMAGE = "side_by_side.png"
CLOUD = "cloud.ply"
DEPTH_COLOR = "depth_color"


def side_by_side_writer(given: PredictionInput, out: Path) -> AbstractContextManager[Listener]:
    """Return a listener that writes side_by_side.mp4 into `out`, or side_by_side.png for one image."""
    if given.count == 1:
        return nullcontext(side_by_side_image_writer(out / IMAGE))
    return open_side_by_side_video(out / VIDEO, given.rate_hz)


def mark_verdict(folder: Path, checker: PredictionChecker | None) -> None:
    """Write the verdict into the header of the point cloud, and into the video or the image unless it is usable."""
    verdict = "" if checker is None else str(checker.to_json().get("verdict", ""))
    if not verdict:
        return
    if (folder / CLOUD).is_file():
        from stadia.evaluation.io.point_clouds import write_cloud_verdict  # needs torch, which made the cloud

        write_cloud_verdict(folder / CLOUD, verdict)
    if verdict in VERDICT_COLORS and (folder / VIDEO).is_file():
        write_video_verdict(folder / VIDEO, verdict)
    elif verdict in VERDICT_COLORS and (folder / IMAGE).is_file():
        write_image_verdict(folder / IMAGE, verdict)


def list_files(folder: Path) -> Iterator[str]:
    """Yield one line for each file and folder in it."""
    yield from (f"  {path.name}{'/' if path.is_dir() else ''}" for path in sorted(folder.iterdir()))


def prediction_lines(folder: Path, predictions: Predictions) -> Iterator[str]:
    """Yield how many frames were predicted, and a note if the trajectory ends early."""
    posed = len(predictions.record.path) if predictions.record else 0
    frames = len(predictions.files)
    checks = (predictions.record.checks if predictions.record else None) or {}
    if frames == 1 and checks.get("verdict") == Verdict.NOT_JUDGED:
        yield f"{folder}: {describe_range(predictions)}; not judged: one image shows no motion to compare depth with"
        return
    yield f"{folder}: {frames} frames, {posed or 'none'} of them with a pose (`path` of predictions.json)"
    if predictions.record and predictions.record.path_ends:
        yield f"note: {predictions.record.path_ends}"
    if predictions.record and (count := predictions.record.not_aligned):
        advice = "; do not rely on the path" if 2 * count > posed - 1 else ""
        part = f"{count} of {posed - 1} motions of the path are the pose network's"
        yield f"note: {part}: no alignment of the images confirms them{advice}"
    if predictions.record and predictions.record.checks:
        yield from verdict_lines(predictions.record.checks)


def describe_range(predictions: Predictions) -> str:
    """Return between which values nine tenths of the depth of the first map lie."""
    depth = predictions.read(next(iter(predictions.files)))
    known = depth[np.isfinite(depth) & (depth > 0)]
    if predictions.depth_scale.is_affine or not known.size:
        return "one map of near and far"
    near, far = np.percentile(known, (5, 95)).tolist()
    unit = " m" if predictions.depth_scale is DepthScale.METRES else ", up to scale"
    return f"depth {near:.3g} to {far:.3g}{unit}"


def trust_line(predictions: Predictions) -> str:
    """Return what users may rely on: by the depth scale, and by the verdict on these predictions."""
    checks = predictions.record.checks if predictions.record else None
    return f"depth scale: {describe_trust(predictions.depth_scale, checks)}"
