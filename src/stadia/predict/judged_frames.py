"""Predict some frames only to judge them."""

import bisect
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice

import numpy as np
import torch

from stadia.core.types import Predictor
from stadia.datasets.splits import frame_indices, unique_recordings
from stadia.datasets.video.video_map import find_map_geometry
from stadia.diagnostics.prediction_checks import TrainingRecord
from stadia.diagnostics.prediction_checks.prediction_verdict import FocalBelief
from stadia.evaluation.frame_preparation import Frame, PreparedFrame, read_frames
from stadia.evaluation.predict_frames import predict_inverse_depth
from stadia.files.paths import expand_home
from stadia.models.depth.base_network import BaseNetwork, pool_features
from stadia.models.depth.depth_network import DepthNetwork
from stadia.predict.verdict import PredictionGate
from stadia.recipes.base.video_data import VideoData

MIN_CHECKED_FRAMES = 30
"""With fewer validation frames, training frames are judged too, because pairs with motion need frames in a row."""

MAX_CHECKED_RECORDINGS = 4
"""This many recordings are judged at a training's end; each takes seconds."""

MAX_CHECKED_FRAMES = 60
"""This many frames are judged in each recording."""

MAX_FAMILIAR_FRAMES, FAMILIAR_STEP = 5, 10
"""So many frames, each so far from the one before, show whether a network's metres hold."""

MAX_FOCAL_FRAMES = 8
"""A network predicts the field of view of this many first frames."""


def observe_training_data(predictor: Predictor, data: VideoData, training: TrainingRecord) -> PredictionGate:
    """Return the gate after predictions of validation frames, and of training frames if these are few."""
    split = next(iter(data.data_sets.values())).split
    validated = frame_indices(split.val)
    has_few = sum(map(len, validated.values())) < MIN_CHECKED_FRAMES
    frames = [*split.val, *split.train] if has_few else split.val
    indices = frame_indices(frames)
    named = {recording.name: recording for recording in unique_recordings(frames)}
    named = dict([*named.items()][:MAX_CHECKED_RECORDINGS])
    trained = {part.recording.session for dataset in data.data_sets.values() for part in dataset.split.train}
    is_of_training = any(recording.session in trained for recording in named.values())
    is_single = len(data.data_sets) == 1
    mapped = find_map_geometry(expand_home(data.config.path), skip_damaged=True) if is_single else None
    gate = PredictionGate(predictor.depth_scale, training, is_of_training=is_of_training, mapped=mapped)
    for name, recording in named.items():
        chosen = choose_window(indices[name], validated.get(name, ()), MAX_CHECKED_FRAMES)
        deque(observe_frames(gate, predictor, read_frames(recording, chosen)), maxlen=0)
    return gate


def observe_frames(gate: PredictionGate, predictor: Predictor, frames: Iterable[Frame]) -> Iterator[Frame]:
    """Yield the frames unchanged, and let the gate judge some of them."""
    for frame in frames:
        prepared = PreparedFrame.prepare(predictor, frame)
        gate.take(prepared.frame, partial(predict_inverse_depth, predictor, prepared))
        yield frame


@torch.no_grad()
def find_network_focals(recipe: object, predictor: Predictor, frames: Iterable[Frame]) -> list[FocalBelief]:
    """Return the median focal length that a network predicts; [] if it predicts none."""
    network = getattr(recipe, "depth_network", None)
    if not isinstance(network, DepthNetwork) or type(network).predict_focal is DepthNetwork.predict_focal:
        return []
    focals = []
    for frame in islice(frames, MAX_FOCAL_FRAMES):
        image = torch.from_numpy(PreparedFrame.prepare(predictor, frame).image)[None]
        focal = network.predict_focal(image.to(next(network.parameters()).device))
        if focal is None:
            return []
        focals.append(float(focal[0]))
    return [FocalBelief(float(np.median(focals)), "the network")] if focals else []


@torch.no_grad()
def are_unfamiliar(recipe: object, predictor: Predictor, frames: Iterable[Frame]) -> bool:
    """Return whether most of the first frames are unlike the photos that the metres of `base` were measured on."""
    network = getattr(recipe, "depth_network", None)
    if not isinstance(network, BaseNetwork):
        return False
    device = next(network.parameters()).device
    scores = []
    for frame in islice(frames, 0, MAX_FAMILIAR_FRAMES * FAMILIAR_STEP, FAMILIAR_STEP):
        image = torch.from_numpy(PreparedFrame.prepare(predictor, frame).image)[None]
        scores.append(float(network.measure_strangeness(pool_features(network.encoder(image.to(device))))))
    return bool(scores) and float(np.median(scores)) > 0


def choose_window(indices: Sequence[int], middle: Sequence[int], most: int) -> Sequence[int]:
    """Return at most `most` neighboring ascending indices, around the first ones in `middle`.

    middle: part of `indices`, ascending; if empty, the first indices are returned.
    """
    if not middle:
        return indices[:most]
    first = bisect.bisect_left(indices, middle[0])
    before = max(0, (most - len(middle)) // 2)
    start = max(0, min(first - before, len(indices) - most))
    return indices[start : start + most]
