"""Files in 3D beside a prediction: `stadia predict --glb FILE --rerun FILE`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from stadia.core.errors import ConfigError, StadiaError
from stadia.core.types import DepthScale
from stadia.evaluation.frame_preparation import Listener
from stadia.evaluation.io.scene_files import check_rerun, open_glb_file, open_rerun_file
from stadia.files.paths import check_writable, expand_home
from stadia.geometry.sky import find_far_sky
from stadia.recipes.prediction.prediction_inputs import PredictionInput
from stadia.recipes.prediction.requests import PredictRequest


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
    if scenes is not None and scenes.glb is not None:
        yield open_glb_file(scenes.glb, frames, find_far_sky)
    if scenes is not None and scenes.rerun is not None:
        yield open_rerun_file(scenes.rerun, scale, frames, find_far_sky)
