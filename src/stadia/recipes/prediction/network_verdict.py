"""Judge what a network predicts for data, without writing predictions: `stadia check --network`."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from stadia.core.types import Predictor
from stadia.diagnostics.finding import Finding
from stadia.recipes.base.build_recipe import load_recipe
from stadia.recipes.prediction.depth_task import find_network_focals, observe_frames
from stadia.recipes.prediction.network_checkpoint import describe_network, open_network_for
from stadia.recipes.prediction.prediction_inputs import open_inputs
from stadia.recipes.prediction.verdict import PredictionGate, read_training_record

MAX_INPUTS, MAX_FRAMES = 4, 60
"""Inputs, and frames of each, that are judged."""


def judge_network(
    network: Path | str, data: Path, options: Mapping[str, Any], settings: Sequence[str] = ()
) -> tuple[list[Finding], list[str]]:
    """Return the findings of a network's predictions for data, and a line for each recording.

    Args:
        network: as of `open_network`.
        data: an image, a folder, a video or a data set.
        options: how to open it, from `parse_source_options`.
        settings: keys of a network without a run, `network.KEY=VALUE`.

    Raises the errors of opening the network and the data.
    """
    opened = open_network_for(network, data, options, settings)
    recipe = load_recipe(opened)
    predictor: Predictor | None = recipe.predictor()
    lines = [line] if (line := describe_network(opened)) else []
    findings: list[Finding] = []
    for given in open_inputs(data, **options)[:MAX_INPUTS] if predictor is not None else ():
        assert predictor is not None
        lines += [f"{given.name}: {line}" for line in given.camera_lines()]
        assumed = given.camera_is_assumed
        gate = PredictionGate(predictor.depth_scale, read_training_record(opened), camera_is_assumed=assumed)
        frames = list(islice(given.frames, MAX_FRAMES))
        gate.beliefs += find_network_focals(recipe, predictor, frames)
        deque(observe_frames(gate, predictor, frames), maxlen=0)
        judged = gate.judge()
        lines.append(f"{given.name}: predictions of {opened.title} ({predictor.depth_scale}) are {judged.verdict}")
        findings += [replace(finding, where=(given.name,)) for finding in judged.findings]
    return findings, lines
