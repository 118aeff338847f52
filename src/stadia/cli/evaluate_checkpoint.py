"""`stadia evaluate CHECKPOINT DATA`: score a checkpoint with its recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from stadia.recipes.asked import EvaluationAsked


def evaluate_checkpoint(request: EvaluationAsked) -> dict[str, Any]:
    """Return the summary to print. Options are checked before heavy imports."""
    from stadia.core.errors import ConfigError
    from stadia.evaluation.protocols import protocol_named

    if request.frames is not None and request.every != 1:
        raise ConfigError(
            "--every",
            found="given with --frames",
            expected="one of the two",
            fix="leave it out: the list names the frames",
        )
    protocol_named(request.protocol)

    from stadia.cli.watch import on_stderr
    from stadia.recipes.workflow import load_task
    from stadia.training.checkpoints import Checkpoint

    run = Checkpoint.open(request.checkpoint).path.parent.parent
    task = load_task(request.checkpoint)
    with on_stderr() as bars:
        summary, written = task.evaluate(request, run, bars.watch, bars.progress)
    for path in written:
        typer.echo(f"note: wrote {path}", err=True)
    return summary
