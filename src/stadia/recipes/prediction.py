"""Predict opened inputs with a depth recipe: depth, trajectory, side-by-side video and point cloud."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from stadia.core.types import Claim, Predictor
from stadia.evaluation.drawings import draw_paths
from stadia.evaluation.frames import Listener
from stadia.evaluation.point_cloud import point_cloud_file
from stadia.evaluation.predict import predict
from stadia.evaluation.predictions import Predictions, Provenance
from stadia.evaluation.to_disk import TRAJECTORY
from stadia.evaluation.trajectory_files import read_kitti
from stadia.evaluation.watch import Watch, unwatched
from stadia.recipes.asked import PredictionAsked
from stadia.recipes.inputs import Input, is_own, open_input, side_by_side, write_inputs
from stadia.recipes.network_size import Size, note_of_size, other_size
from stadia.training.checkpoints import Checkpoint

CLOUD = "cloud.ply"
PATH_DRAWING = "trajectory.png"


def as_trained(checkpoint: Path, path: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return `options` completed by the training options of your own video: its stride, and its camera if it is the
    same video.
    """
    if not is_own(path, options.get("format", "auto")):
        return dict(options)
    trained = Checkpoint.open(checkpoint).header.config.get("data", {})
    same = "path" in trained and Path(trained["path"]).expanduser().resolve() == path.expanduser().resolve()
    camera = {"camera": trained["camera"]} if same and "camera" in trained else {}
    return {"stride": trained.get("stride", "auto"), **camera, **options}


def predict_asked(
    predictor_at: Callable[[Size | None], Predictor], request: PredictionAsked, watch: Watch
) -> Iterator[str]:
    """Run `stadia predict` for a depth recipe; yield lines for people.

    predictor_at: returns the predictor at a size, None = the training size (`DepthRecipe.predictor`).
    """
    config = Checkpoint.open(request.checkpoint).header.config
    size = other_size(request.size, config)
    provenance, predictor = Provenance.of(request.checkpoint, request.motion, size), predictor_at(size)
    yield from (f"note: {note}" for note in note_of_size(size, config))
    inputs = open_input(
        request.source, every=request.every, **as_trained(request.checkpoint, request.source, request.options)
    )
    predict_to = partial(
        predict_input, predictor, provenance=provenance, video=request.video, cloud=request.cloud, watch=watch
    )
    yield from write_inputs(inputs, request.out, predict_to, predictor.claim)


def predict_input(
    predictor: Predictor,
    given: Input,
    out: Path,
    provenance: Provenance,
    *,
    video: bool = True,
    cloud: bool = True,
    watch: Watch = unwatched,
) -> Predictions:
    """Predict into a new folder, with video, point cloud and drawing of the trajectory.

    Args:
        predictor: from `stadia.recipes.load_predictor`.
        given: from `open_input`; it is consumed.
        out: a new or empty folder, or one with the same prediction unfinished, which starts again.
        provenance: `Provenance.of(checkpoint)`.
        video: write side_by_side.mp4 (side_by_side.png for one image).
        cloud: write cloud.ply; not for inverse depth up to scale and shift, which defines no points.
        watch: shows progress.

    Writes and raises what `stadia.evaluation.predict.predict` does, and trajectory.png if there is a trajectory.
    """
    listeners: list[Listener] = []
    with ExitStack() as files:
        if video:
            listeners.append(files.enter_context(side_by_side(given, out)))
        if cloud and predictor.claim is not Claim.AFFINE_INVERSE:
            listeners.append(files.enter_context(point_cloud_file(out / CLOUD, predictor.claim, given.count)))
        frames = watch(given.frames, given.count, f"predicting {given.name}")
        predictions = predict(predictor, frames, out, provenance, source=given.name, listeners=listeners)
    if predictions.record is not None and predictions.record.path:
        draw_paths(out / PATH_DRAWING, {given.name: read_kitti(out / TRAJECTORY).T_world_camera}, predictor.claim)
    return predictions
