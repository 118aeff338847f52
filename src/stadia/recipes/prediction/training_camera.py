"""Stride and camera of a training, for predictions of your own video."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stadia.core.config import resolve_config
from stadia.datasets.config import CameraConfig
from stadia.datasets.recordings import check_K
from stadia.datasets.video.video_files import find_camera_file
from stadia.files.atomic_files import expand_home
from stadia.files.json_files import read_json
from stadia.recipes.prediction.prediction_inputs import describe_assumed_camera, is_own_video
from stadia.training.checkpoint import Checkpoint

log = logging.getLogger(__name__)


def add_training_options(checkpoint: Path, path: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return `options` completed by the training options of your own video: its stride, and its camera if no camera
    is given and none lies beside it.
    """
    if not is_own_video(path, options.get("format", "auto")):
        return dict(options)
    trained = Checkpoint.open(checkpoint).header.config.get("data", {})
    stride = {"stride": trained.get("stride", "auto")}
    if _is_same_source(trained, path) and "camera" in trained:
        return {**stride, "camera": trained["camera"], **options}
    camera = find_assumed_camera(checkpoint, path, options)
    if camera is None:
        return {**stride, **options}
    log.warning("%s: %s", path, describe_assumed_camera(camera))
    return {**stride, "camera": camera.model_dump(), **options}


def find_assumed_camera(checkpoint: Path, path: Path, options: Mapping[str, Any]) -> CameraConfig | None:
    """Return the training's camera for a video of which none is known; None where one is known, or the training's not.

    A camera is known where `options` give it, a file beside the video holds it, or the same video trained.
    """
    own = is_own_video(path, options.get("format", "auto"))
    if not own or "camera" in options or find_camera_file(expand_home(path)) is not None:
        return None
    trained = Checkpoint.open(checkpoint).header.config.get("data", {})
    return None if _is_same_source(trained, path) and "camera" in trained else find_training_camera(checkpoint)


def find_training_camera(checkpoint: Path) -> CameraConfig | None:
    """Return the one camera of a training, K and size, from its run.json; None where it had several or is not known.

    Raises DataError for a K that cannot be intrinsics.
    """
    facts = Checkpoint.open(checkpoint).path.parent.parent / "run.json"
    stored = read_json(facts) if facts.is_file() else {}
    camera = stored.get("camera") if isinstance(stored, dict) else None
    known = None if camera is None else resolve_config(CameraConfig, camera, fix=f"correct {facts}")
    if known is None or known.K is None or known.size is None:
        return None
    check_K(facts, np.array(known.K, dtype=np.float64))
    return known


def _is_same_source(trained: Mapping[str, Any], path: Path) -> bool:
    return "path" in trained and expand_home(trained["path"]).resolve() == expand_home(path).resolve()
