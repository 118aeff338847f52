"""Keep the depth that a training of one camera started from, if no measurement shows that the training improved it.

Depth of one camera has no truth to score, and its residual falls also if depth gets worse. So depth before and after is
compared at the points of the map beside the video and with matches, by the rule of `stadia adapt`.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from rich.console import Console

from stadia.diagnostics.prediction_checks import TrainingRecord
from stadia.launch.depth_errors import measure_samples
from stadia.launch.keep import MEASURES, DepthErrors, choose_network
from stadia.models.depth.depth_network import build_depth_network
from stadia.predict.judged_frames import observe_training_data
from stadia.process.terminal import announce_step
from stadia.recipes.base.build_recipe import load_recipe
from stadia.recipes.base.depth_recipe import DepthRecipe
from stadia.recipes.base.video_data import VideoData
from stadia.training.checkpoint import Checkpoint, write_checkpoint
from stadia.training.recipe import AnyRecipe
from stadia.training.run_folder import Run


def keep_better_start(config: Any, recipe: AnyRecipe, data: Any, run: Run, console: Console) -> bool:
    """Write the weights of the start as the best checkpoint if no measurement finds the trained ones better.

    Applies to depth of one camera without truth that started from published weights in metres. The motion stays that of
    the training. If the residual of the start is the smallest, the last weights are measured in place of the best.
    Prints a line. Returns whether the best checkpoint was replaced.

    Args:
        config: of the training.
        recipe: with the weights of the run's best checkpoint, in evaluation mode.
        data: of the training.
        run: that trained.
    """
    best = Checkpoint.open(run.folder)
    is_scored = "val/abs_rel" in best.header.metrics  # by truth
    if is_scored or not isinstance(recipe, DepthRecipe) or not _starts_from_depth(config) or not run.writes:
        return False
    trained = find_trained(run)
    if trained is None:
        return False
    if trained.path != best.path:
        recipe = load_recipe(trained, type(recipe))
        assert isinstance(recipe, DepthRecipe)
    before = copy.deepcopy(recipe)
    assert before.depth_network is not None
    before.depth_network.load_state_dict(build_depth_network(config.model).state_dict())
    with announce_step(console, "comparing depth before and after the training"):
        decision = choose_network(_measure_errors(before, data), _measure_errors(recipe, data))
    change = next(iter(decision.changes), None)
    why = "nothing in the video measures its depth: neither points of a map nor matches"
    if change is not None:
        why = f"{MEASURES[change.name][0]}: {change.before:.3g} before the training, {change.after:.3g} after"
        why += "".join(f"; {MEASURES[other.name][0]} rises" for other in decision.changes[1:] if other.is_worse)
    if change is None or decision.kept == "before":
        run.update_facts(lambda facts: replace(facts, depth_gain=None))
        header = trained.header.model_copy(update={"step": 0, "epoch": 0, "kind": "weights", "metrics": {}})
        write_checkpoint(run.checkpoints / "best.safetensors", header, {"state_dict": before.state_dict()})
        line = (
            f"note: the depth that the training started from is kept as best: {why}. Fix: film more motion, or map it"
        )
    else:
        gain = 1 - change.after / change.before
        run.update_facts(lambda facts: replace(facts, depth_gain=gain))
        line = why
        if trained.path != best.path:
            keep_as_best(run, trained)
            line += "; so the last weights are kept as best, though the residual of the start is smaller"
    console.print(line, markup=False, highlight=False, soft_wrap=True)
    return decision.kept == "before" or trained.path != best.path


def find_trained(run: Run) -> Checkpoint | None:
    """Return the best checkpoint of a run, or its last one if the best is the start; None without a trained one."""
    best, last = Checkpoint.open(run.folder), run.checkpoints / "last.safetensors"
    if best.header.step > 0:
        return best
    trained = Checkpoint.open(last) if last.is_file() else best
    return trained if trained.header.step > 0 else None


def keep_as_best(run: Run, checkpoint: Checkpoint) -> None:
    """Write the weights of a checkpoint of a run as its best checkpoint."""
    header = checkpoint.header.model_copy(update={"kind": "weights"})
    write_checkpoint(run.checkpoints / "best.safetensors", header, {"state_dict": checkpoint.weights()})


def _starts_from_depth(config: Any) -> bool:
    """Return whether depth of one camera, up to scale, starts from published weights in metres."""
    if config.recipe != "selfsup" or config.start_from is not None or not config.model.pretrained:
        return False
    return bool(config.model.network.starts_in_metres) and len(config.data.mono) == len(config.data.sets)


def _measure_errors(recipe: AnyRecipe, data: VideoData) -> DepthErrors:
    """Return the errors at the points of the map, and of matches."""
    predictor = recipe.predictor()
    assert predictor is not None
    gate = observe_training_data(predictor, data, TrainingRecord(is_published=True))
    points, matches = measure_samples(gate.samples, predictor.depth_scale)
    return DepthErrors(point_error=points, match_error=matches)
