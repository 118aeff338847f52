"""`stadia live`: depth and path of a camera or a stream while it plays."""

from __future__ import annotations

import math
import sys
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stadia.cli.options import InputSettings, add_options, argument, flag, number, option
from stadia.cli.output import echo, print_lines
from stadia.core.errors import ConfigError
from stadia.predict.options import PredictOptions, split_settings

if TYPE_CHECKING:
    from stadia.predict.live.live import LiveStatus

LINE_S, LOG_S = 0.5, 5.0
"""Seconds between two status lines in a log file (LINE_S: on a terminal)."""


@add_options(PredictOptions, "size", "backend", "precision")
def live(
    source: Annotated[
        str, argument("0 or /dev/video0, rtsp://..., http://..., a video at its own pace, or a bag.", metavar="SOURCE")
    ],
    overrides: InputSettings = None,
    network: Annotated[str, typer.Option("--network", help="A run, a checkpoint, or a published network.")] = "base",
    *,
    path: Annotated[bool, flag("--path/--no-path", "Follow the camera (default: yes).")] = True,
    record: Annotated[Path | None, option("Write depth, camera, path and verdict: a new .mcap, .db3 or .bag.")] = None,
    page: Annotated[bool, flag("--page", "Show images and depth on a page of this machine.")] = False,
    seconds: Annotated[float | None, number("Stop after this time.", min=0.1)] = None,
    **options: Any,
) -> None:
    """Predict depth and path of a live source at the rate of this machine.

    Each image is the newest one: older ones are dropped, never queued. A source that ends is opened again. Ctrl-C ends.
    """
    from stadia.data.config import CameraConfig, parse_source_options
    from stadia.predict.live.live import LivePrediction
    from stadia.predict.live.live_page import serve_live_page
    from stadia.predict.network import open_network

    given, settings = split_settings(overrides)
    chosen = PredictOptions(**options)
    chosen.check_backend()
    options_of_source = parse_source_options(given)
    camera = CameraConfig(**options_of_source.pop("camera", {}))
    if options_of_source:
        expected = "the camera of SOURCE, data.camera.KEY"
        found = "no effect on a live source"
        raise ConfigError(f"data.{next(iter(options_of_source))}", found=found, expected=expected, fix="leave it out")
    opened = open_network(network, settings)
    prediction = LivePrediction(opened, source, camera, chosen, record, with_path=path)
    is_terminal = sys.stderr.isatty()
    shown_s, problem, status = 0.0, "", None
    serving = serve_live_page() if page else nullcontext()
    with suppress(KeyboardInterrupt), serving as shown:
        if shown is not None:
            echo(f"page: {shown.address}", err=True)
        for result in prediction.run(seconds):
            status, now = result.status, time.monotonic()
            if shown is not None:
                shown.show(describe_status(status), result.predicted)
            if status.problem != problem:
                problem = status.problem
                text = f"{source}: {problem}" if problem else f"{source}: images come again"
                echo(f"{chr(10) * is_terminal}note: {text}", err=True)
            if now - shown_s >= (LINE_S if is_terminal else LOG_S):
                shown_s = now
                if is_terminal:
                    sys.stderr.write(f"\r{describe_status(status)}\x1b[K")
                    sys.stderr.flush()
                else:
                    echo(describe_status(status), err=True)
    if status is not None:
        print_lines([describe_status(status)])
    if record is not None:
        echo(f"recorded: {record}")


def describe_status(status: LiveStatus) -> str:
    """Return the status line of a live prediction."""
    if not math.isfinite(status.latency_ms):
        return status.problem or "waiting for the first depth"
    parts = [f"depth {status.depth_hz:.1f}/s", f"path {status.path_hz:.1f}/s", f"latency {status.latency_ms:.0f} ms"]
    parts += [f"dropped {status.dropped:.0%}", f"length {status.length:.1f}", status.verdict]
    return ", ".join([*parts, *([status.problem] if status.problem else [])])
