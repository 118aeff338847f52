"""Files beside predictions, also in 3D, and lines about them for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stadia.core.errors import ConfigError, StadiaError
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
from stadia.files.paths import check_writable, expand_home
from stadia.geometry.sky import find_far_sky
from stadia.predict.prediction_inputs import PredictionInput
from stadia.predict.requests import PredictRequest
from stadia.predict.verdict import describe_trust, verdict_lines

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
    record = predictions.record
    return f"depth scale: {record.trust if record else describe_trust(predictions.depth_scale, None)}"


# -- `stadia predict --glb FILE --rerun FILE`


@dataclass(frozen=True)
class SceneOutputs:
    """Files in 3D beside a prediction. None writes none."""

    glb: Path | None = None
    rerun: Path | None = None


def check_scenes(request: PredictRequest, inputs: Sequence[PredictionInput], scale: DepthScale) -> SceneOutputs:
    """Return the files in 3D that a request names.

    Raises StadiaError, before the work, where one of them cannot be written, there are no points, or several inputs.
    """
    if request.rerun is not None:
        from stadia.evaluation.io.scene_files import check_rerun

        check_rerun()
    paths = {"--glb": request.glb, "--rerun": request.rerun}
    return SceneOutputs(*(_check_scene(option, path, request, inputs, scale) for option, path in paths.items()))


def _check_scene(
    option: str, path: Path | None, request: PredictRequest, inputs: Sequence[PredictionInput], scale: DepthScale
) -> Path | None:
    if path is None:
        return None
    path = expand_home(path)
    if len(inputs) != 1:
        found, fix = f"{len(inputs)} recordings", "choose one by data.recordings=NAME"
        raise ConfigError(option, found=found, expected="one", fix=fix)
    if scale.is_affine and not request.scale_from:
        found, fix = "a network whose depth has an unknown shift", "pass --scale-from reference=DEPTHS"
        raise ConfigError(option, found=found, expected="one whose depth gives points", fix=fix)
    if path.exists() or path.is_symlink():
        raise StadiaError(path, found="something there already", expected="a new file", fix="choose another name")
    check_writable(path.parent)
    return path


def open_scenes(
    scenes: SceneOutputs | None, scale: DepthScale, frames: int | None
) -> Iterator[AbstractContextManager[Listener]]:
    """Yield the listeners of the files in 3D, which are written when their blocks end."""
    if scenes is None:
        return
    from stadia.evaluation.io.scene_files import open_glb_file, open_rerun_file

    if scenes.glb is not None:
        yield open_glb_file(scenes.glb, frames, find_far_sky)
    if scenes.rerun is not None:
        yield open_rerun_file(scenes.rerun, scale, frames, find_far_sky)
