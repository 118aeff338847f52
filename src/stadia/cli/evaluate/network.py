"""`stadia evaluate CHECKPOINT DATA`: predict with a network, and score its depth and its path."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stadia.cli.evaluate.depth import DEPTH
from stadia.cli.output import echo, show_progress
from stadia.core.errors import ConfigError

if TYPE_CHECKING:
    from stadia.predict.requests import EvaluateRequest

NETWORK = "CHECKPOINT DATA"


def parse_parts_of_frames(by: str | None) -> tuple[str, ...]:
    """Return the parts that frames of recordings are scored by. Raises ConfigError for classes, which they lack."""
    from stadia.evaluation.score_parts import parse_parts

    parts = parse_parts(by)
    if "class" in parts:
        expected, fix = "distance and region", f"score the maps by class from files: {DEPTH}"
        raise ConfigError("--by", found=f"class with {NETWORK}", expected=expected, fix=fix)
    return parts


def score_network(checkpoint: Path, request: EvaluateRequest, settings: list[str]) -> dict[str, Any]:
    """Score a checkpoint with its recipe. Options are checked before heavy imports."""
    from stadia.evaluation.protocols import find_protocol

    if request.frames is not None and request.every != 1:
        fix = "leave it out: the list names the frames"
        raise ConfigError("--every", found="used together with --frames", expected="one of the two", fix=fix)
    find_protocol(request.protocol)

    from stadia.predict.prediction_inputs import open_network_for
    from stadia.predict.task import run_evaluate
    from stadia.recipes.base.network_checkpoint import describe_network

    opened = open_network_for(checkpoint, request.data, request.options, settings)
    if line := describe_network(opened):
        echo(line, err=True)
    with show_progress() as bars:
        summary, written = run_evaluate(opened, request, bars.track, bars.progress)
    for path in written:
        echo(f"note: wrote {path}", err=True)
    return summary
