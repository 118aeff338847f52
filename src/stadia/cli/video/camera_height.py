"""`stadia camera-height`: the height of the camera above the road."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from stadia.cli.arguments import EveryOption, ForceOption, argument, option
from stadia.cli.output import print_lines, show_progress


def camera_height(
    source: Annotated[Path, argument("A video, images or a dataset, with masks or KITTI boxes.", metavar="INPUT")],
    overrides: Annotated[
        list[str] | None,
        argument("masks=FOLDER, priors=mixed, horizon=edges: docs/how-to/camera-height.md", metavar="KEY=VALUE"),
    ] = None,
    out: Annotated[Path | None, option("A folder for the result and its images.")] = None,
    every: EveryOption = 1,
    checkpoint: Annotated[str | None, option("A run or network whose depth gives height and scale.")] = None,
    depth: Annotated[Path | None, option("Depth maps of any program, up to a factor.")] = None,
    depth_factor: Annotated[float | None, option("Integers a metre of --depth.")] = None,
    labels: Annotated[Path | None, option("A new folder for this depth in metres, to train on.")] = None,
    force: ForceOption = False,
) -> None:
    """Measure the camera's height from cars and people. By the horizon, or by a depth."""
    from stadia.apps.camera_height.config import CameraHeightRequest, parse_camera_height_config

    config = parse_camera_height_config(overrides or [])
    if out is not None:
        from stadia.files.output_files import check_output_folder
        from stadia.recipes.base.config import list_paths

        inputs = [source, *list_paths(config), *([] if depth is None else [depth])]
        out = check_output_folder(out, "camera_height.json", "camera height", inputs=inputs, force=force)

    from stadia.apps.camera_height.run_camera_height import run_camera_height

    with show_progress() as bars:
        request = CameraHeightRequest(
            source=source,
            config=config,
            every=every,
            out=out,
            checkpoint=checkpoint,
            depth=depth,
            depth_factor=depth_factor,
            labels=labels,
        )
        print_lines(run_camera_height(request, bars.track))
