"""`stadia map`: recover the camera, its path and sparse points of a video."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from stadia.cli.arguments import InputSettings, argument, flag, option
from stadia.cli.output import print_lines, show_progress

PAUSE_S = 5.0
"""A log gets a line at least every this many seconds: a map takes minutes."""


def map_source(
    source: Annotated[Path, argument("A video, photos, a folder of videos, a bag, or a data set.", metavar="INPUT")],
    overrides: InputSettings = None,
    out: Annotated[Path | None, option("The map's folder; by default drive.map for drive.mp4.")] = None,
    views: Annotated[bool, flag("--views", "Also write undistorted key frames, for nerfstudio and gsplat.")] = False,
    depth: Annotated[str | None, option("Also write --views with their depth by this network, such as base.")] = None,
    masks: Annotated[Path | None, option("Masks of `stadia prepare`, to leave out cars and people.")] = None,
) -> None:
    """Recover camera, path and sparse points of a video, photos, or a data set. The same command resumes.

    `data.frames=[100,400]` takes some of the frames, `data.recordings=[06]` a recording of a data set.
    """
    try:
        with show_progress(PAUSE_S) as bars:
            for _ in bars.track(range(1), 1, "loading"):
                from stadia.core.config import resolve_config
                from stadia.datasets.config import CacheConfig, CameraConfig
                from stadia.mapping.map_video import describe_map, map_video
                from stadia.predict.network import open_network
                from stadia.predict.options import parse_source_options

                options = parse_source_options(overrides or [])
                network = None if depth is None else open_network(depth)
            mapped = map_video(
                source,
                camera=resolve_config(CameraConfig, options.pop("camera", {})),
                format=options.pop("format", "auto"),
                cache=resolve_config(CacheConfig, options.pop("cache", {})),
                options=options,
                out=out,
                masks=masks,
                has_views=views or depth is not None,
                predict_depth=None if network is None else lambda image, K: network.predict(image, K=K).depth,
                track=bars.track,
            )
            print_lines(describe_map(mapped))
    except KeyboardInterrupt:
        print_lines(["note: stopped. The same command resumes"])
        raise
