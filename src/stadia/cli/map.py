"""`stadia map`: recover the camera, its path and sparse points of a video."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from stadia.cli.arguments import InputSettings, argument, flag, option
from stadia.cli.output import print_lines, show_progress
from stadia.core.errors import ConfigError


def map_source(
    source: Annotated[Path, argument("A video, or a folder of its frames.", metavar="INPUT")],
    overrides: InputSettings = None,
    out: Annotated[Path | None, option("The map's folder; by default drive.map for drive.mp4.")] = None,
    views: Annotated[bool, flag("--views", "Also write undistorted key frames, for nerfstudio and gsplat.")] = False,
    masks: Annotated[Path | None, option("Masks of `stadia prepare`, to leave out cars and people.")] = None,
) -> None:
    """Recover camera, path and sparse points of a video. The same command resumes."""
    from stadia.datasets.config import CacheConfig, CameraConfig
    from stadia.mapping.map_video import describe_map, map_video
    from stadia.predict.options import parse_source_options

    options = parse_source_options(overrides or [])
    if others := sorted(options.keys() - {"camera", "cache"}):
        keys = ", ".join(f"data.{key}" for key in others)
        raise ConfigError(keys, found="a value", expected="data.camera or data.cache", fix="remove it")
    try:
        with show_progress() as bars:
            mapped = map_video(
                source,
                camera=CameraConfig(**options.get("camera", {})),
                out=out,
                masks=masks,
                has_views=views,
                cache=CacheConfig(**options.get("cache", {})),
                track=bars.track,
            )
            print_lines(describe_map(mapped))
    except KeyboardInterrupt:
        print_lines(["note: stopped. The same command resumes"])
        raise
