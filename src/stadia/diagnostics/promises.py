"""Are the answers of a recording what a Recording promises? Asked before all checks: one of the user's own may give
anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real

import numpy as np

from stadia.core.errors import StadiaError, in_one_line
from stadia.core.types import Camera
from stadia.diagnostics.catalog import finding
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.survey import Survey

SAME_SHAPE = 0.02
"""Aspects that differ by less are those of one image at two sizes, whose sides are whole pixels."""


@dataclass(frozen=True, slots=True)
class Promise:
    """What a method of a Recording must answer. asked: of a frame and a side.  kept: whether an answer is what is
    expected.
    """

    name: str
    asked: Callable[[Survey, int, str], object]
    kept: Callable[[object], bool]
    expected: str
    fix: str


def _is_image(answer: object) -> bool:
    return isinstance(answer, np.ndarray) and answer.dtype == np.uint8 and answer.ndim == 3 and answer.shape[2] == 3


def _is_camera(answer: object) -> bool:
    return not isinstance(answer, Camera) or answer.K.ndim == 2  # what is no camera at all is K01


def _is_map(answer: object) -> bool:
    return answer is None or (
        isinstance(answer, np.ndarray) and np.issubdtype(answer.dtype, np.floating) and answer.ndim == 2
    )


def _is_pose(answer: object) -> bool:
    return answer is None or (
        isinstance(answer, np.ndarray) and np.issubdtype(answer.dtype, np.floating) and answer.shape == (4, 4)
    )


def _is_time(answer: object) -> bool:
    return answer is None or (isinstance(answer, Real) and math.isfinite(answer))


PROMISES = (
    Promise(
        "image", lambda s, i, side: s.image(i, side), _is_image, "(H, W, 3) uint8, RGB", "convert it in Recording.image"
    ),
    Promise(
        "camera",
        lambda s, i, side: s.recording.camera(i, side),
        _is_camera,
        "a Camera with K of shape (3, 3)",
        "give a K without further axes in Recording.camera",
    ),
    Promise(
        "depth_m",
        lambda s, i, side: s.recording.depth_m(i, side),
        _is_map,
        "(H, W) float32 in metres, or None",
        "convert it in Recording.depth_m, without an axis for the channel",
    ),
    Promise(
        "T_world_camera",
        lambda s, i, side: s.recording.T_world_camera(i, side),
        _is_pose,
        "(4, 4) float64, or None",
        "give all of the matrix in Recording.T_world_camera: of [R | t] add the row (0, 0, 0, 1)",
    ),
    Promise(
        "timestamp_s",
        lambda s, i, _: s.recording.timestamp_s(i),
        _is_time,
        "a finite number of seconds, or None",
        "give None in Recording.timestamp_s where no time is known",
    ),
)
"""What is asked of each sampled frame and side."""

RIG = Promise(
    "T_right_left",
    lambda s, *_: s.recording.T_right_left,
    _is_pose,
    "(4, 4) float64, or None",
    "set self.T_right_left in the Recording's __init__: it is no method",
)
"""What is asked of a recording once."""


def broken_promise(survey: Survey) -> Finding | None:
    """The first answer at the sampled frames that is no image, camera, depth, pose or time, or no answer at all (D01);
    else the first image of another size than its camera's (K04).

    What refuses in stadia's own words, or the system's, is let be: the checks that ask for it pass them on.
    """
    frames = [(index, side) for index in survey.anchors for side in survey.recording.sides]
    asked = [(RIG, "T_right_left", frames[0])]
    asked += [
        (promise, f"{promise.name} of frame {frame[0]}, {frame[1]}", frame) for promise in PROMISES for frame in frames
    ]
    for promise, what, frame in asked:
        try:
            answer = promise.asked(survey, *frame)
        except (StadiaError, OSError):
            continue
        except Exception as error:
            return _not_kept(promise, f"it raised {in_one_line(error)}", what, survey.name)
        if not promise.kept(answer):
            return _not_kept(promise, _in_words(answer), what, survey.name)
    return next((found for frame in frames if (found := _of_another_size(survey, *frame)) is not None), None)


def _not_kept(promise: Promise, answer: str, what: str, where: str) -> Finding:
    return finding(
        "D01",
        Severity.STOP,
        measured=f"{what}: {answer}",
        expected=promise.expected,
        cause=f"Recording.{promise.name} answers something else than every Recording does",
        fix=promise.fix,
        where=[where],
    )


def _in_words(answer: object) -> str:
    if isinstance(answer, Camera):
        return f"K of shape {tuple(answer.K.shape)}"
    if isinstance(answer, np.ndarray):
        return f"{answer.dtype} of shape {answer.shape}"
    return str(answer) if isinstance(answer, Real) else type(answer).__name__


def _of_another_size(survey: Survey, index: int, side: str) -> Finding | None:
    """K04 of one frame; None where there is no image or no camera to compare."""
    try:
        (height, width), camera = survey.image(index, side).shape[:2], survey.recording.camera(index, side)
    except Exception:
        return None
    if not isinstance(camera, Camera) or (height, width) == (camera.height, camera.width):
        return None
    x, y = width / camera.width, height / camera.height
    resized = abs(math.log(x / y)) < SAME_SHAPE
    return finding(
        "K04",
        Severity.STOP,
        measured=(
            f"the image of frame {index}, {side}, is {width}x{height}, and its camera that of one of"
            f" {camera.width}x{camera.height}"
        ),
        expected="one size: K counts the pixels of its own image",
        cause=f"images were {'resized' if resized else 'cropped or stretched'}, and their camera was not",
        fix=(
            f"resize the camera with its image, by {x:.4f} (stadia.geometry.camera.resized)"
            if resized
            else (
                "crop the camera with its image (stadia.geometry.camera.cropped): cx and cy less what is cut off at the"
                " left and at the top"
            )
        ),
        evidence={
            "side": side,
            "frame": index,
            "image": f"{width}x{height}",
            "size_of_K": [camera.width, camera.height],
        },
        where=[survey.name],
    )
