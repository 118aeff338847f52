"""`stadia odometry`: track the camera."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stadia.cli.options import (
    DefaultNetwork,
    InputSettings,
    OptionalInput,
    StrictOption,
    VerboseOption,
    add_options,
    option,
)
from stadia.cli.output import print_lines, show_progress
from stadia.predict.options import PredictOptions, check_scale_sources, split_settings, take_default_network

if TYPE_CHECKING:
    from stadia.predict.odometry import EstimatedPath


@add_options(PredictOptions, "size", "flip", "backend", "precision", "scale_from")
def odometry(
    checkpoint: DefaultNetwork,
    source: OptionalInput = None,
    overrides: InputSettings = None,
    out: Annotated[Path | None, option("A new folder; in CHECKPOINT's run by default.")] = None,
    method: Annotated[str, typer.Option(help="Method; `stadia list odometry-methods` lists them.")] = "refined",
    *,
    strict: StrictOption = False,
    verbose: VerboseOption = False,
    **options: Any,
) -> None:
    """Track the camera: its path, a plot and a point map.

    With INPUT alone, the network of the package gives depth: `stadia odometry drive.mp4 --out path`.
    """
    from stadia.data.config import parse_source_options

    checkpoint, source, overrides = take_default_network(checkpoint, source, overrides)
    given, settings = split_settings(overrides)
    options["scale_from"] = check_scale_sources(options["scale_from"])
    chosen = PredictOptions(data=parse_source_options(given), **options)
    chosen.check_backend()
    from stadia.predict.describe import describe_network, describe_session
    from stadia.predict.network import open_network
    from stadia.predict.odometry import open_odometry
    from stadia.predict.verdict import refuse_unusable

    checks = {}
    with show_progress() as bars:
        network = open_network(checkpoint, settings)
        if network.has_own_size:
            print_lines(describe_network(network), err=True)
        run = open_odometry(network, source, chosen, method=method, out=out)
        if not network.has_own_size:
            print_lines(describe_network(run.network), err=True)
        print_lines(f"note: {note}" for note in run.notes)
        for session, folder in run.sessions:
            print_lines(describe_session(session))
            estimated = run.estimate_path(session, folder, bars.track)
            print_lines(describe_path(estimated, verbose=verbose))
            checks[session.name] = estimated.checks
    if strict:
        refuse_unusable(checks)


def describe_path(estimated: EstimatedPath, *, verbose: bool = True) -> list[str]:
    """Return lines of text about an estimated camera trajectory.

    estimated: the trajectory.
    verbose: whether every finding of the verdict is listed, instead of the main one.
    """
    from stadia.core.types import DepthScale
    from stadia.predict.describe import summarize_verdict, verdict_lines
    from stadia.predict.trust import describe_trust

    path, depth_scale = estimated.path, estimated.depth_scale
    keyframes = f"{path.keyframes or 'no'} keyframe{'s' * (path.keyframes != 1)}"
    unit = "m" if depth_scale is DepthScale.METRES else "units of the depth"
    length = f"{len(path.names)} poses, {estimated.length:.4g} {unit} in all"
    lines = [f"{estimated.folder}: {length}, {keyframes}, {1e3 / path.frame_ms.mean():.1f} frames/s"]
    if estimated.left_out:
        lines.append(f"note: left out {estimated.left_out} frames that hardly move (data.stride=1 keeps all)")
    if (score := estimated.score) is not None:
        others = {name: value for name, value in score.metrics.items() if name != "ate_rmse_m" and value is not None}
        lines.append(f"  {score.headline}: {', '.join(f'{name} {value:.4g}' for name, value in others.items())}")
    verdict = verdict_lines if verbose else summarize_verdict
    lines += [*verdict(estimated.checks), *(f"note: {note}" for note in estimated.notes)]
    lines.append(f"trust: {describe_trust(depth_scale, estimated.checks).text}")
    return [*lines, f"files: {', '.join(sorted(file.name for file in estimated.folder.iterdir()))}"]
