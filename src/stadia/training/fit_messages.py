"""Describe a training at its start and at its end."""

from collections.abc import Iterator

import stadia.core.torchvision_operators  # noqa: F401

# isort: split
import torch
from lightning.fabric import Fabric

from stadia.training import batches
from stadia.training.batches import TrainingPlan
from stadia.training.config import TrainingConfig
from stadia.training.loop import TrainingLoop
from stadia.training.phase_clock import describe_times
from stadia.training.recipe import AnyRecipe
from stadia.training.run_folder import Run

FEW_STEPS = 300
_DRY_RUN = "check the losses alone with --dry-run (launch.dry_run in Python)"
_FEW = f"note: {{}} steps are few: a network needs thousands. Fix: train longer (training.max_steps), or {_DRY_RUN}"
_FEW_MORE = f"note: the losses are not checked in trainings of less than {FEW_STEPS} steps. Fix: {_DRY_RUN}"
_WARM = "note: {} of {} steps warm up, with a low learning rate. Fix: set schedule.warmup_steps={}"
_TIME_OVER = "the time is over (training.max_minutes={:.3g}): step {} of at most {} was the last"
LONGEST_WARMUP = 0.25
"""A longer warm-up, as a share of the steps, prints a note."""

USUAL_WARMUP = 0.05
"""The note proposes this share of the steps."""


def start_lines(
    recipe: AnyRecipe, fabric: Fabric, config: TrainingConfig, run: Run, plan: TrainingPlan, step: int
) -> Iterator[str]:
    """Yield the network, device, length and folder of a training; its stages; and notes on its length."""
    steps, warmup = plan.total_steps, recipe.config.schedule.warmup_steps
    parts = _describe_weights(recipe, step), _describe_place(fabric), _describe_length(fabric, config, plan, step)
    yield "{} on {}, {}".format(*parts) + f", in {run.folder}"
    yield from (batches.describe_stages(config.stages, plan.phases, recipe.config.optimizer.lr) if plan.phases else ())
    if step == 0 and steps < FEW_STEPS:
        if steps + recipe.start_steps < FEW_STEPS:
            yield _FEW.format(steps)
        elif config.check_seconds:
            yield _FEW_MORE
    if step == 0 and warmup > LONGEST_WARMUP * steps:
        yield _WARM.format(min(warmup, steps), steps, round(USUAL_WARMUP * steps))


def end_lines(loop: TrainingLoop, first_step: int) -> Iterator[str]:
    """Yield how the training ended: by time, phases, and the best checkpoint."""
    if first_step < loop.step < loop.plan.total_steps:
        yield _TIME_OVER.format(loop.config.max_minutes, loop.step, loop.plan.total_steps)
    if loop.times is not None:
        yield describe_times(loop.times)
    is_kept = loop.best_score is not None and loop.best_score.step == 0  # the start
    if loop.is_worse_than_start and loop.start_score is not None and loop.best is not None:
        yield _describe_better_start(loop.start_score, loop.best, is_kept=is_kept)


def describe_start_again(run: Run) -> str:
    """Return that a resumed run starts at step 0."""
    return f"note: {run.folder} starts again at step 0: it was stopped before its first checkpoint"


def describe_no_step(
    recipe: str, config: TrainingConfig, run: Run, plan: TrainingPlan, step: int, spent_s: float | None
) -> str:
    """Return why a resumed run makes no step. spent_s: seconds of all its steps, or None."""
    new_run = f"train a new run from its weights: start_from={run.folder}"
    if step >= plan.total_steps:
        return f"{recipe}: all {step} steps are done already, in {run.folder}. Fix: {new_run}"
    spent = "" if spent_s is None else f" (the steps took {spent_s / 60:.3g})"
    used_up = f"training.max_minutes={config.max_minutes:g} are used up{spent} at step {step} of {plan.total_steps}"
    more = "resume it with more (training.max_minutes=MINUTES, or null for no limit)"
    return f"{recipe}: {used_up}, in {run.folder}. Fix: {more}, or {new_run}"


def name_weights(recipe: AnyRecipe) -> dict[str, str]:
    """Return the start of each network by name."""
    return {"weights of": recipe.started_from} if recipe.started_from else dict(recipe.weights)


def _describe_weights(recipe: AnyRecipe, step: int) -> str:
    trained, frozen = (sum(p.numel() for p in recipe.parameters() if p.requires_grad is kind) for kind in (True, False))
    line = f"{recipe.recipe}: {trained / 1e6:.1f} M parameters" + f" and {frozen / 1e6:.1f} M frozen" * bool(frozen)
    starts = ", ".join(f"{name.replace('_', ' ')} {weights}" for name, weights in name_weights(recipe).items())
    return line + (f" ({starts})" if starts and not step else "")


def _describe_place(fabric: Fabric) -> str:
    device, threads = fabric.device.type, torch.get_num_threads()
    if device == "cpu":
        return f"{threads} thread{'s' * (threads > 1)}"
    return torch.cuda.get_device_name() if device == "cuda" else device


def _describe_length(fabric: Fabric, config: TrainingConfig, plan: TrainingPlan, step: int) -> str:
    sizes = batches.batch_sizes(config) or [config.batch_size]
    of_step = config.grad_accumulation_steps * fabric.world_size
    samples = " to ".join(str(size * of_step) for size in dict.fromkeys((sizes[0], sizes[-1])))
    last = f"at most {plan.total_steps}" if config.max_minutes is not None else str(plan.total_steps)
    steps = f"steps {step + 1} to {last}" if step else f"{last} steps"
    return f"{steps} of {samples} samples"


def _describe_better_start(start_score: tuple[str, float], best: float, *, is_kept: bool) -> str:
    name, score = start_score
    if is_kept:
        fix = "train longer, with a lower optimizer.lr, or on more images"
        return f"note: no validation beats the start ({name} {score:.4g}), which is kept as best. Fix: {fix}"
    fix = "use the weights of the start, or train with a lower optimizer.lr or on more images"
    return f"note: the start was better: {name} {score:.4g} on these frames, after the training {best:.4g}. Fix: {fix}"
