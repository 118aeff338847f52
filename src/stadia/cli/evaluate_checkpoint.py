"""`stadia evaluate CHECKPOINT DATA`: what the checkpoint's recipe is scored by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from stadia.recipes.asked import EvaluationAsked


def evaluate_checkpoint(asked: EvaluationAsked) -> dict[str, Any]:
    """The summary to print. Raises what is wrong with the options before anything heavy is imported."""
    from stadia.core.errors import ConfigError
    from stadia.evaluation.protocols import protocol_named

    if asked.frames is not None and asked.every != 1:
        raise ConfigError(
            "--every",
            found="given with --frames",
            expected="one of the two",
            fix="leave it out: a list says which frames",
        )
    protocol_named(asked.protocol)

    from stadia.cli.watch import on_stderr
    from stadia.recipes.workflow import load_task
    from stadia.training.checkpoints import Checkpoint

    run = Checkpoint.open(asked.checkpoint).path.parent.parent
    task = load_task(asked.checkpoint)
    with on_stderr() as bars:
        summary, written = task.evaluate(asked, run, bars.watch, bars.progress)
    for path in written:
        typer.echo(f"note: wrote {path}", err=True)
    return summary
