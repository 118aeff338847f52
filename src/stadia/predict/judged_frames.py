"""Predict some frames only to judge them."""

import bisect
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from stadia.checks.prediction_checks import TrainingRecord
from stadia.core.types import Predictor
from stadia.data.splits import frame_indices, unique_recordings
from stadia.data.video.video_map import find_map_geometry
from stadia.evaluation.frame_preparation import Frame, PreparedFrame, read_frames
from stadia.evaluation.predict_frames import predict_inverse_depth
from stadia.io.paths import expand_home
from stadia.predict.verdict import PredictionGate
from stadia.training.recipes.base.video_data import VideoData

MIN_CHECKED_FRAMES = 30
"""With fewer validation frames, training frames are judged too, because pairs with motion need frames in a row."""

MAX_CHECKED_RECORDINGS = 4
"""This many recordings are judged at a training's end; each takes seconds."""

MAX_CHECKED_FRAMES = 60
"""This many frames are judged in each recording."""


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
