"""Predict what `recipes.inputs.open_input` opens, by a trained recipe: numbers, and things to look at beside them."""

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

CLOUD, PATH_DRAWING = "cloud.ply", "trajectory.png"


def as_trained(checkpoint: Path, path: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """`options`, with what the checkpoint's training had of your own video: its stride; and of the same video its
    camera.
    """
    if not is_own(path, options.get("format", "auto")):
        return dict(options)
    trained = Checkpoint.open(checkpoint).header.config.get("data", {})
    same = "path" in trained and Path(trained["path"]).expanduser().resolve() == path.expanduser().resolve()
    camera = {"camera": trained["camera"]} if same and "camera" in trained else {}
    return {"stride": trained.get("stride", "auto"), **camera, **options}


def predict_asked(
    predictor_at: Callable[[Size | None], Predictor], asked: PredictionAsked, watch: Watch
) -> Iterator[str]:
    """What `stadia predict` does with a recipe of depth; gives the lines to say.

    predictor_at: the predictor at a size, None = the training's (`DepthRecipe.predictor`).
    """
    config = Checkpoint.open(asked.checkpoint).header.config
    size = other_size(asked.size, config)
    provenance, predictor = Provenance.of(asked.checkpoint, asked.motion, size), predictor_at(size)
    yield from (f"note: {note}" for note in note_of_size(size, config))
    inputs = open_input(asked.source, every=asked.every, **as_trained(asked.checkpoint, asked.source, asked.options))
    predict_to = partial(
        predict_input, predictor, provenance=provenance, video=asked.video, cloud=asked.cloud, watch=watch
    )
    yield from write_inputs(inputs, asked.out, predict_to, predictor.claim)


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
    """Predict into a new folder, with things to look at beside the numbers.

    Args:
        predictor: from `stadia.recipes.load_predictor`.
        given: from `open_input`; used up.
        out: a folder that does not exist yet, is empty, or holds the same prediction unfinished, which is begun again.
        provenance: `Provenance.of(checkpoint)`.
        video: write side_by_side.mp4 (side_by_side.png for one image).
        cloud: write cloud.ply; not for inverse depth up to scale and shift, which has no points.
        watch: shows progress.

    Beside what `stadia.evaluation.predict.predict` writes and raises: trajectory.png, where there is a path.
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
