"""Files next to predictions: video, point cloud, path, 3D scenes."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
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


def side_by_side_writer(given: PredictionInput, out: Path) -> AbstractContextManager[Listener]:
    """Return a listener that writes side_by_side.mp4 into `out`, or side_by_side.png for one image."""
    if given.count == 1:
        return nullcontext(side_by_side_image_writer(out / IMAGE))
    return open_side_by_side_video(out / VIDEO, given.rate_hz)


def mark_verdict(folder: Path, checker: PredictionChecker | None) -> None:
    """Write the verdict into the point cloud's header and, unless it is usable, into the video or image."""
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


def check_scenes(options: PredictOptions, inputs: Sequence[PredictionInput], scale: DepthScale) -> None:
    """Raise StadiaError if --glb or --rerun cannot be written: a used name, depth without points, or several inputs."""
    if options.rerun is not None:
        from stadia.evaluation.io.point_clouds import check_rerun

        check_rerun()
    for option, path in (("--glb", options.glb), ("--rerun", options.rerun)):
        if path is None:
            continue
        path = expand_home(path)
        if len(inputs) != 1:
            found, fix = f"{len(inputs)} recordings", "choose one with data.recordings=NAME"
            raise ConfigError(option, found=found, expected="one", fix=fix)
        if scale.is_affine and not options.scale_from:
            found, fix = "depth with an unknown shift", "pass --scale-from reference=DEPTHS"
            raise ConfigError(option, found=found, expected="depth that gives points", fix=fix)
        if path.exists() or path.is_symlink():
            raise StadiaError(path, found="an existing file", expected="a new name")
        check_writable(path.parent)


def open_scenes(
    options: PredictOptions, scale: DepthScale, frames: int | None
) -> Iterator[AbstractContextManager[Listener]]:
    """Yield the listeners that write --glb and --rerun when their blocks end."""
    if options.glb is None and options.rerun is None:
        return
    from stadia.evaluation.io.point_clouds import open_glb_file, open_rerun_file

    if options.glb is not None:
        yield open_glb_file(expand_home(options.glb), frames, find_far_sky)
    if options.rerun is not None:
        yield open_rerun_file(expand_home(options.rerun), scale, frames, find_far_sky)
