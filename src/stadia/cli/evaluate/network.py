"""`stadia evaluate CHECKPOINT DATA`: predict with a network, and score its depth and its path."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stadia.cli.evaluate.depth import DEPTH
from stadia.cli.output import echo, show_progress
from stadia.core.errors import ConfigError

if TYPE_CHECKING:
    from stadia.predict.options import EvaluateOptions

NETWORK = "CHECKPOINT DATA"


def parse_parts_of_frames(by: str | None) -> tuple[str, ...]:
    """Return the parts that frames are scored by. Raises ConfigError for classes, which they lack."""
    from stadia.evaluation.score_parts import parse_parts

    parts = parse_parts(by)
    if "class" in parts:
        expected, fix = "distance and region", f"score files instead: {DEPTH}"
        raise ConfigError("--by", found=f"class with {NETWORK}", expected=expected, fix=fix)
    return parts


def score_network(
    checkpoint: Path, data: Path, options: EvaluateOptions, settings: list[str], out: Path | None
) -> dict[str, Any]:
    """Score a network with its recipe. Options are checked before heavy imports."""
    from stadia.evaluation.protocols import find_protocol

    if options.frames is not None and options.every != 1:
        fix = "remove --every"
        raise ConfigError("--every", found="used together with --frames", expected="one of the two", fix=fix)
    find_protocol(options.protocol)

    from stadia.models.published_networks import describe_licence
    from stadia.predict.network import open_network
    from stadia.predict.tasks import evaluate_network

    network = open_network(checkpoint, settings).loaded
    if not network.has_own_size and (line := describe_licence(network.licence)):
        echo(line, err=True)
    with show_progress() as bars:
        done = evaluate_network(network, data, options, out=out, track=bars.track, progress=bars.progress)
    for path in done.files:
        echo(f"note: wrote {path}", err=True)
    return dict(done.summary)
