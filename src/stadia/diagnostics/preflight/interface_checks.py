"""Check that a recording returns the types and shapes of the Recording interface."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real

import numpy as np

from stadia.core.errors import StadiaError, summarize_exception
from stadia.core.types import Camera
from stadia.diagnostics.catalog import make_finding
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.preflight.recording_survey import RecordingSurvey

SAME_SHAPE = 0.02
"""Relative difference of aspect ratios of one image at two sizes, whose sides are whole pixels."""


@dataclass(frozen=True, slots=True)
class InterfaceCheck:
    """A value that a Recording must return. read: it for a frame and a side.  is_valid: whether it has the expected
    form.
    """

    name: str
    read: Callable[[RecordingSurvey, int, str], object]
    is_valid: Callable[[object], bool]
    expected: str
    fix: str


def _is_image(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 3 and value.shape[2] == 3


def _is_camera(value: object) -> bool:
    return not isinstance(value, Camera) or value.K.ndim == 2  # another type is K01


def _is_map(value: object) -> bool:
    return value is None or (
        isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.floating) and value.ndim == 2
    )


def _is_pose(value: object) -> bool:
    return value is None or (
        isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.floating) and value.shape == (4, 4)
    )


def _is_time(value: object) -> bool:
    return value is None or (isinstance(value, Real) and math.isfinite(value))


INTERFACE = (
    InterfaceCheck(
        "image", lambda s, i, side: s.image(i, side), _is_image, "(H, W, 3) uint8, RGB", "convert it in Recording.image"
    ),
    InterfaceCheck(
        "camera",
        lambda s, i, side: s.recording.camera(i, side),
        _is_camera,
        "a Camera with K of shape (3, 3)",
        "give a K without further axes in Recording.camera",
    ),
    InterfaceCheck(
        "depth_m",
        lambda s, i, side: s.recording.depth_m(i, side),
        _is_map,
        "(H, W) float32 in metres, or None",
        "convert it in Recording.depth_m, without an axis for the channel",
    ),
    InterfaceCheck(
        "T_world_camera",
        lambda s, i, side: s.recording.T_world_camera(i, side),
        _is_pose,
        "(4, 4) float64, or None",
        "give all of the matrix in Recording.T_world_camera: of [R | t] add the row (0, 0, 0, 1)",
    ),
    InterfaceCheck(
        "timestamp_s",
        lambda s, i, _: s.recording.timestamp_s(i),
        _is_time,
        "a finite number of seconds, or None",
        "give None in Recording.timestamp_s where no time is known",
    ),
)
"""Checked for each sampled frame and side."""

RIG = InterfaceCheck(
    "T_right_left",
    lambda s, *_: s.recording.T_right_left,
    _is_pose,
    "(4, 4) float64, or None",
    "set self.T_right_left in the Recording's __init__: it is no method",
)
"""Checked once per recording."""


def check_interface(survey: RecordingSurvey) -> Finding | None:
    """Return the first invalid value at the sampled frames (D01), else the first image of another size than its camera
    (K04); None where all are valid.

    StadiaError and OSError are ignored here: the checks that read the value report them.
    """
    frames = [(index, side) for index in survey.anchors for side in survey.recording.sides]
    checks = [(RIG, "T_right_left", frames[0])]
    checks += [
        (check, f"{check.name} of frame {frame[0]}, {frame[1]}", frame) for check in INTERFACE for frame in frames
    ]
    for check, what, frame in checks:
        try:
            value = check.read(survey, *frame)
        except (StadiaError, OSError):
            continue
        except Exception as error:
            return _report_invalid(check, f"it raised {summarize_exception(error)}", what, survey.name)
        if not check.is_valid(value):
            return _report_invalid(check, _describe(value), what, survey.name)
    return next((found for frame in frames if (found := _check_size(survey, *frame)) is not None), None)


def _report_invalid(check: InterfaceCheck, value: str, what: str, where: str) -> Finding:
    cause = f"Recording.{check.name} returns another type or shape than the Recording interface"
    return make_finding("D01", Severity.STOP, f"{what}: {value}", check.expected, cause=cause, fix=check.fix)


def _describe(value: object) -> str:
    if isinstance(value, Camera):
        return f"K of shape {tuple(value.K.shape)}"
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    return str(value) if isinstance(value, Real) else type(value).__name__


def _check_size(survey: RecordingSurvey, index: int, side: str) -> Finding | None:
    """Return K04 of one frame; None where there is no image or no camera to compare."""
    try:
        (height, width), camera = survey.image(index, side).shape[:2], survey.recording.camera(index, side)
    except Exception:
        return None
    if not isinstance(camera, Camera) or (height, width) == (camera.height, camera.width):
        return None
    x, y = width / camera.width, height / camera.height
    resized = abs(math.log(x / y)) < SAME_SHAPE
    measured = f"the image of frame {index}, {side}, is {width}x{height}, and its camera is for "
    measured += f"{camera.width}x{camera.height}"
    expected = "one size: K counts the pixels of its own image"
    cause = f"images were {'resized' if resized else 'cropped or stretched'}, and their camera was not"
    fix = (
        f"resize the camera with its image, by {x:.4f} (stadia.geometry.camera.resize_camera)"
        if resized
        else (
            "crop the camera with its image (stadia.geometry.camera.crop_camera): cx and cy less what is cut off at the"
            " left and at the top"
        )
    )
    evidence = {"side": side, "frame": index, "image": f"{width}x{height}", "size_of_K": [camera.width, camera.height]}
    return make_finding("K04", Severity.STOP, measured, expected, cause=cause, fix=fix, evidence=evidence)
