"""Files beside predictions: video, point cloud, path, scenes in 3D."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from stadia.core.errors import ConfigError, StadiaError
from stadia.core.types import DepthScale
from stadia.evaluation.frame_preparation import Listener
from stadia.evaluation.io.predictions_folder import PredictionChecker
from stadia.evaluation.plots.videos import (
    VERDICT_COLORS,
    open_side_by_side_video,
    side_by_side_image_writer,
    write_image_verdict,
    write_video_verdict,
)
from stadia.files.paths import check_writable, expand_home
from stadia.geometry.sky import find_far_sky
from stadia.predict.inputs import PredictionInput
from stadia.predict.options import PredictOptions

VIDEO = "side_by_side.mp4"
IMAGE = "side_by_side.png"
CLOUD = "cloud.ply"
DEPTH_COLOR = "depth_color"

PATH_DRAWING = "trajectory.png"
"""Drawing of the path of a prediction."""


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


# -- `stadia predict --glb FILE --rerun FILE`


@dataclass(frozen=True)
class SceneOutputs:
    """Files in 3D beside a prediction. None writes none."""

    glb: Path | None = None
    rerun: Path | None = None


def check_scenes(options: PredictOptions, inputs: Sequence[PredictionInput], scale: DepthScale) -> SceneOutputs:
    """Return the files in 3D that the options name.

    Raises StadiaError, before the work, where one of them cannot be written, there are no points, or several inputs.
    """
    if options.rerun is not None:
        from stadia.evaluation.io.scene_files import check_rerun

        check_rerun()
    paths = {"--glb": options.glb, "--rerun": options.rerun}
    return SceneOutputs(*(_check_scene(option, path, options, inputs, scale) for option, path in paths.items()))


def _check_scene(
    option: str, path: Path | None, options: PredictOptions, inputs: Sequence[PredictionInput], scale: DepthScale
) -> Path | None:
    if path is None:
        return None
    path = expand_home(path)
    if len(inputs) != 1:
        found, fix = f"{len(inputs)} recordings", "choose one by data.recordings=NAME"
        raise ConfigError(option, found=found, expected="one", fix=fix)
    if scale.is_affine and not options.scale_from:
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
    if scenes is None or (scenes.glb is None and scenes.rerun is None):
        return
    from stadia.evaluation.io.scene_files import open_glb_file, open_rerun_file

    if scenes.glb is not None:
        yield open_glb_file(scenes.glb, frames, find_far_sky)
    if scenes.rerun is not None:
        yield open_rerun_file(scenes.rerun, scale, frames, find_far_sky)
