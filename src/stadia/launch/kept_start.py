"""Keep the depth that a training of one camera started from, where no measurement shows that the training improved it.

Depth of one camera has no truth to score, and its residual falls also where depth gets worse. So depth before and after
is compared at the points of the map beside the video, else with matches, as in the verdict and in `stadia adapt`.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from rich.console import Console

from stadia.diagnostics.prediction_checks import TrainingRecord
from stadia.diagnostics.prediction_checks.prediction_verdict import MIN_DEPTH_GAIN
from stadia.models.depth.depth_network import build_depth_network
from stadia.predict.checked_frames import observe_training_data
from stadia.process.terminal import announce_step
from stadia.recipes.base.build_recipe import load_recipe
from stadia.recipes.base.depth_recipe import DepthRecipe
from stadia.recipes.base.video_data import VideoData
from stadia.training.checkpoint import Checkpoint, write_checkpoint
from stadia.training.recipe import AnyRecipe
from stadia.training.run_folder import Run


def keep_better_start(config: Any, recipe: AnyRecipe, data: Any, run: Run, console: Console) -> bool:
    """Write the weights of the start as the best checkpoint where no measurement finds the trained ones better.

    Applies to depth of one camera without truth that started from published weights in metres. The motion stays that of
    the training. Where the residual of the start is the smallest, the last weights are measured in place of the best.
    Prints a line. Returns whether the best checkpoint was written anew.

    Args:
        config: of the training.
        recipe: with the weights of the run's best checkpoint, in evaluation mode.
        data: of the training.
        run: that trained.
    """
    checkpoint = Checkpoint.open(run.folder)
    is_scored = "val/abs_rel" in checkpoint.header.metrics  # by truth
    if is_scored or not isinstance(recipe, DepthRecipe) or not _starts_from_depth(config) or not run.writes:
        return False
    is_start, last = checkpoint.header.step == 0, run.checkpoints / "last.safetensors"
    if is_start:
        if not last.is_file() or (checkpoint := Checkpoint.open(last)).header.step == 0:
            return False
        recipe = load_recipe(checkpoint, type(recipe))
        assert isinstance(recipe, DepthRecipe)
    before = copy.deepcopy(recipe)
    assert before.depth_network is not None
    before.depth_network.load_state_dict(build_depth_network(config.model).state_dict())
    record = TrainingRecord(is_published=True)
    with announce_step(console, "comparing depth before and after the training"):
        start, trained = (_measure_error(network, data, record) for network in (before, recipe))
    if start is None or trained is None:
        why = "nothing in the video measures its depth: neither points of a map nor matches"
    elif trained > start * (1 - MIN_DEPTH_GAIN):
        why = f"points or matches are {start:.3g} times as far from it as from constant depth, and {trained:.3g} after"
    else:
        run.update_facts(lambda facts: replace(facts, depth_gain=1 - trained / start))
        line = f"points or matches: {start:.3g} times as far as from constant depth, after the training {trained:.3g}"
        if is_start:
            header = checkpoint.header.model_copy(update={"kind": "weights"})
            write_checkpoint(run.checkpoints / "best.safetensors", header, {"state_dict": recipe.state_dict()})
            line += "; so the last weights are kept as best, though the residual of the start is smaller"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
        return is_start
    run.update_facts(lambda facts: replace(facts, depth_gain=None))
    header = checkpoint.header.model_copy(update={"step": 0, "epoch": 0, "kind": "weights", "metrics": {}})
    write_checkpoint(run.checkpoints / "best.safetensors", header, {"state_dict": before.state_dict()})
    line = f"note: the depth that the training started from is kept as best: {why}. Fix: film more motion, or map it"
    console.print(line, markup=False, highlight=False, soft_wrap=True)
    return True


def _starts_from_depth(config: Any) -> bool:
    """Return whether depth of one camera, up to scale, starts from published weights in metres."""
    if config.recipe != "selfsup" or config.start_from is not None or not config.model.pretrained:
        return False
    return bool(config.model.network.starts_in_metres) and len(config.data.mono) == len(config.data.sets)


def _measure_error(recipe: AnyRecipe, data: VideoData, record: TrainingRecord) -> float | None:
    """Return the error at the points of the map, else that of matches, over that of constant depth; None without."""
    predictor = recipe.predictor()
    assert predictor is not None
    measured = observe_training_data(predictor, data, record).judge().measured
    if measured is None:
        return None
    if measured.mapped is not None and measured.mapped.error is not None:
        return measured.mapped.error
    return measured.match_error
