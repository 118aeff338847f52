"""Estimate how many minutes `stadia adapt` needs. The web page uses the estimate too, so PyTorch is not imported."""

import math

from stadia.core.errors import ConfigError

RECORD = "adapted.json"
"""File of the run with the errors before and after."""

MIN_STEPS = 10
"""A training with fewer steps changes nothing that can be measured."""

STEP_PREDICTIONS = 10.0
"""A step of two samples takes the time of this many predictions; `base` on one thread takes 9.5."""

MEASURED_FRAMES = 20
"""Depth is measured on at least this many frames, before the training and after it."""

UNIT_PREDICTIONS = 20
"""The metres of one unit of the map are measured by this many predictions."""

LOADING_S = 8.0
"""Starting the command and opening the network take these seconds on two cores."""

SETUP_LOADS = 1.0
"""Reading the video and building the training take this share of the time of loading."""

MAP_FRAME_S = 0.1
"""Mapping takes these seconds for each frame."""

END_S = 4.0
"""Writing the run and the record takes these seconds after the training."""


def estimate_step_s(prediction_s: float) -> float:
    """Return the estimated seconds of a training step. prediction_s: seconds of one prediction."""
    return STEP_PREDICTIONS * prediction_s


def estimate_least_minutes(prediction_s: float, *, loaded_s: float = LOADING_S, mapped_frames: int = 0) -> int:
    """Return the fewest whole minutes that suffice to adapt a network.

    prediction_s: seconds of one prediction.
    loaded_s: seconds until the network was open.
    mapped_frames: number of frames to map first; 0 if a map exists or cannot be made.

    Examples:
        >>> estimate_least_minutes(0.1), estimate_least_minutes(0.1, mapped_frames=300)
        (1, 2)
    """
    setup_s = loaded_s * (1 + SETUP_LOADS) + (2 * MEASURED_FRAMES + UNIT_PREDICTIONS) * prediction_s + END_S
    steps_s = MIN_STEPS * estimate_step_s(prediction_s)
    return math.ceil((setup_s + steps_s + mapped_frames * MAP_FRAME_S) / 60)


def choose_measured_frames(prediction_s: float, minutes: float, most: int) -> int:
    """Return on how many frames depth is measured, so that each measurement takes at most 5 % of the minutes.

    prediction_s: seconds of one prediction.
    minutes: time limit of the whole command, minutes.
    most: largest number of frames.
    """
    return min(max(int(0.05 * 60 * minutes / prediction_s), MEASURED_FRAMES), most)


def check_minutes(minutes: float, least: int) -> None:
    """Raise ConfigError if a network cannot be adapted to a video in so many minutes.

    minutes: time limit of the whole command, minutes.
    least: from `estimate_least_minutes`.
    """
    if minutes < least:
        expected = f"at least {least} for this video on this machine"
        raise ConfigError("--minutes", found=f"{minutes:g}", expected=expected, fix=f"--minutes {least}")
