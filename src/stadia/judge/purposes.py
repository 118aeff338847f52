"""What a measured error is good for: one row for each purpose, each limit with its source."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from stadia.core.errors import ConfigError
from stadia.core.verdict import Verdict
from stadia.judge.error import Measured, MeasuredError


@dataclass(frozen=True, slots=True)
class PurposeLimit:
    """The largest error with which a result is good for a purpose.

    field: a measurement: a field of `MeasuredError`, or one of `find_measured`.
    most: the largest value.
    source: where it comes from.
    is_optional: whether a result without this measurement, such as depth, is judged by the other limits alone.
    """

    field: str
    most: float
    source: str
    is_optional: bool = False


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a result is to be good for.

    name: its name, such as "splats".
    limits: all of them must hold.
    asked: the name with the number that the user gave, such as "measuring=1%".
    """

    name: str
    limits: tuple[PurposeLimit, ...]
    asked: str = ""

    @property
    def key(self) -> str:
        """Return the name with its number."""
        return self.asked or self.name


@dataclass(frozen=True, slots=True)
class PurposeVerdict:
    """Whether a result is good for a purpose.

    purpose: the purpose.
    holds: whether all limits hold; None if the images leave one open.
    reason: the measurement that decides, and its limit.
    """

    purpose: Purpose
    holds: bool | None
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"name": self.purpose.key, "holds": self.holds, "reason": self.reason}


UNITS: Mapping[str, tuple[str, float, str]] = {
    "rotation_deg": ("rotation", 1.0, "degrees"),
    "neighbor_rotation_deg": ("rotation from image to image", 1.0, "degrees"),
    "position_share": ("position", 100.0, "% of the extent"),
    "length_share": ("lengths", 100.0, "%"),
    "inconsistent_px": ("points in the images", 1.0, "px of 640"),
    "wrong_share": ("images with a wrong pose", 100.0, "%"),
    "position_m": ("position", 1.0, "m"),
    "depth_share": ("depth", 100.0, "%"),
    "gyroscope_deg": ("rotation of camera and gyroscope", 1.0, "degrees"),
    "clock_s": ("offset of the clocks", 1000.0, "ms"),
    "epipolar_px": ("matches off their epipolar lines", 1.0, "px"),
    "shift_px": ("displacement of the image", 1.0, "px"),
    "edge_px": ("points off their place in the image", 1.0, "px"),
    "point_m": ("a point half a metre away", 1000.0, "mm"),
    "residual_m": ("the camera by robot and images", 1000.0, "mm"),
}
"""Words, factor and unit of each field that purposes limit."""

MAX_DEPTH_SHARE = 0.25
"""Largest relative error of depth, and standard deviation of metres, with which a robot or a car can navigate: chosen,
a quarter of the distance. Depth and metres with a larger one are good for nothing.
"""

MAX_UNMEASURED = 0.2
"""Largest share of the images with a pose that match too little to be measured; chosen."""

_WRONG = PurposeLimit("wrong_share", 0.02, "chosen: one of fifty images")

PURPOSES: Mapping[str, Purpose] = {
    purpose.name: purpose
    for purpose in (
        Purpose(
            "splats",
            (
                PurposeLimit("inconsistent_px", 0.5, "chosen: half a pixel of images of 640 blurs what they resolve"),
                _WRONG,
            ),
        ),
        Purpose(
            "mesh",
            (
                PurposeLimit("inconsistent_px", 1.0, "chosen: one pixel of images of 640"),
                PurposeLimit("length_share", 0.02, "chosen: a hundredth of the size on each side"),
                PurposeLimit("depth_share", 0.02, "as the lengths", is_optional=True),
                replace(_WRONG, most=0.05, source="chosen: one of twenty images"),
            ),
        ),
        Purpose(
            "measuring",
            (
                PurposeLimit("length_share", 0.01, "the given share of a length"),
                PurposeLimit("depth_share", 0.01, "the given share of a length", is_optional=True),
                _WRONG,
            ),
            "measuring=1%",
        ),
        Purpose(
            "navigation",
            (
                PurposeLimit("neighbor_rotation_deg", 1.0, "chosen: a degree a step"),
                PurposeLimit(
                    "position_share",
                    0.02,
                    "visual odometry in vehicles errs by 1 to 2 % of the way (KITTI odometry, Geiger et al. 2012)",
                ),
                PurposeLimit("depth_share", MAX_DEPTH_SHARE, "chosen: a quarter of the distance", is_optional=True),
                _WRONG,
            ),
        ),
    )
}
"""Purposes that every result is judged for, by name."""

LOCALIZATION = Purpose(
    "localization", (PurposeLimit("position_m", 0.05, "the given length"), _WRONG), "localization=5cm"
)
"""A purpose that needs metres: the unit of the file is taken as metres."""

RIG_PURPOSES: Mapping[str, Purpose] = {
    purpose.name: purpose
    for purpose in (
        Purpose(
            "grasping",
            (PurposeLimit("point_m", 0.005, "the given length"), PurposeLimit("residual_m", 0.005, "the given length")),
            "grasping=5mm",
        ),
        Purpose(
            "reaching",
            (PurposeLimit("point_m", 0.02, "the given length"), PurposeLimit("residual_m", 0.02, "the given length")),
            "reaching=20mm",
        ),
    )
}
"""Purposes that every calibration of hand and eye is judged for, by name."""

FIXED_PURPOSES: Mapping[str, Purpose] = {
    "points": Purpose("points", (PurposeLimit("shift_px", 2.0, "the given number of pixels"),), "points=2px"),
    "regions": Purpose("regions", (PurposeLimit("shift_px", 15.0, "the given number of pixels"),), "regions=15px"),
}
"""Purposes that the view of a fixed camera is judged for: single points, and regions of the image."""

PAIR_PURPOSES: Mapping[str, Purpose] = {
    "stereo": Purpose(
        "stereo", (PurposeLimit("epipolar_px", 1.0, "stereo matching searches a row of pixels"),), "stereo=1px"
    )
}
"""Purposes that the calibration of two cameras that see the same is judged for."""

LIDAR_PURPOSES: Mapping[str, Purpose] = {
    "fusion": Purpose(
        "fusion", (PurposeLimit("edge_px", 3.0, "chosen: the distance of two columns of a scan"),), "fusion=3px"
    )
}
"""Purposes that the calibration of LiDAR and camera is judged for."""

GYROSCOPE_PURPOSES: Mapping[str, Purpose] = {
    "odometry": Purpose(
        "odometry",
        (
            PurposeLimit("gyroscope_deg", 1.0, "chosen: visual-inertial programs refine a calibration from a degree"),
            PurposeLimit("clock_s", 0.005, "chosen: a sixth of the time between two images of a video"),
        ),
        "odometry=5ms",
    )
}
"""Purposes that a gyroscope and a camera are judged for."""

_GIVEN = frozenset(
    {
        "length_share",
        "depth_share",
        "position_m",
        "point_m",
        "residual_m",
        "shift_px",
        "epipolar_px",
        "edge_px",
        "clock_s",
    }
)
"""Fields whose limit is the number that a user gives."""

_LENGTHS_M = {"mm": 1e-3, "cm": 1e-2, "m": 1.0}


def parse_purpose(text: str, known: Mapping[str, Purpose] | None = None) -> Purpose:
    """Return the purpose that a user names, such as "splats", "measuring=1%" or "localization=5cm".

    text: the name, with a number if the purpose has one.
    known: the purposes by name; None takes those of reconstructions.

    Raises ConfigError for an unknown name or number.

    Examples:
        >>> parse_purpose("measuring=2%").limits[0].most
        0.02
        >>> parse_purpose("localization=20cm").limits[0].most
        0.2
    """
    name, _, number = text.strip().partition("=")
    known = {**PURPOSES, LOCALIZATION.name: LOCALIZATION} if known is None else known
    purpose = known.get(name)
    example = purpose.asked if purpose is not None else ""
    ending = next((ending for ending in ("%", "px", "ms") if example.endswith(ending)), "(?:mm|cm|m)")
    unit = ending if example else ""
    parsed = re.fullmatch(rf"([0-9]*\.?[0-9]+)\s*({unit})", number) if unit else None
    if purpose is None or (number and parsed is None):
        listed = ", ".join(one.key for one in known.values())
        raise ConfigError("--for", found=text, expected=f"one of {listed}", fix="choose a purpose")
    if parsed is None:
        return purpose
    value = float(parsed[1]) * {"%": 0.01, "px": 1.0, "ms": 1e-3, **_LENGTHS_M}[parsed[2]]
    limits = tuple(replace(limit, most=value) if limit.field in _GIVEN else limit for limit in purpose.limits)
    return replace(purpose, limits=limits, asked=text.strip())


def judge_purpose(purpose: Purpose, error: MeasuredError) -> PurposeVerdict:
    """Compare a measured error with the limits of a purpose.

    A limit holds if the error and its deviation are at most the limit. If more than MAX_UNMEASURED of the images match
    too little, no purpose holds.
    """
    open_reason = ""
    if error.unmeasured_share > MAX_UNMEASURED:
        open_reason = f"{error.unmeasured_share:.0%} of the images match too little to be measured"
    return judge_limits(purpose, lambda field: find_measured(field, error), open_reason=open_reason)


def judge_limits(purpose: Purpose, find: Callable[[str], Measured | None], *, open_reason: str = "") -> PurposeVerdict:
    """Compare measurements with the limits of a purpose; a limit holds if value and deviation are at most the limit.

    purpose: the purpose.
    find: returns the measurement of a field; None if it is not measured.
    open_reason: why the measurements can confirm no purpose; "" if they can.
    """
    passed = ""
    for limit in purpose.limits:
        measured = find(limit.field)
        words, factor, unit = UNITS[limit.field]
        if measured is None and limit.is_optional:
            continue
        if measured is None:
            open_reason = open_reason or f"{words} cannot be measured"
            continue
        deviation = factor * measured.deviation
        shown = f"{deviation:.1g}" if deviation < 9.5 else f"{deviation:.0f}"
        amounts = f"{words} {factor * measured.value:.2g} ± {shown}"
        if measured.is_above(limit.most):
            return PurposeVerdict(purpose, False, f"{amounts} {unit}, at most {factor * limit.most:.2g}")
        if not measured.value + measured.deviation <= limit.most:
            open_reason = open_reason or f"{amounts} {unit} leave {factor * limit.most:.2g} open"
        passed = passed or f"{amounts} {unit}"
    return PurposeVerdict(purpose, None if open_reason else True, open_reason or passed)


def find_measured(field: str, error: MeasuredError) -> Measured | None:
    """Return the measurement that a limit is about; None if it is not measured."""
    if field == "wrong_share":
        if not error.is_measured:
            return None
        return Measured(len(error.wrong_images) / max(len(error.images), 1), 0.0)
    if field == "position_m":
        share = error.position_share
        return None if share is None else Measured(share.value * error.extent, share.deviation * error.extent)
    found: Measured | None = getattr(error, field)
    return found


def grade_purposes(purposes: Sequence[PurposeVerdict], *, are_asked: bool) -> Verdict:
    """Return the grade that the purposes give.

    purposes: the verdicts.
    are_asked: whether the user asked for these purposes. Then all of them must hold; else the result is doubtful if one
        fails, and unusable if none holds.

    Examples:
        >>> good, bad = (PurposeVerdict(PURPOSES["mesh"], holds, "") for holds in (True, False))
        >>> str(grade_purposes([good, bad], are_asked=True)), str(grade_purposes([good, bad], are_asked=False))
        ('unusable', 'doubtful')
    """
    holds = [purpose.holds for purpose in purposes]
    if False in holds and (are_asked or True not in holds):
        return Verdict.UNUSABLE
    if True not in holds:
        return Verdict.NOT_JUDGED
    return Verdict.DOUBTFUL if False in holds or (are_asked and None in holds) else Verdict.USABLE


def list_good_for(depth_share: Measured) -> str:
    """Return the purposes that depth or metres with this relative error are good for, as text.

    Examples:
        >>> list_good_for(Measured(0.15, 0.01)), list_good_for(Measured(0.4, 0.01))
        ('good for navigation', 'not good enough for navigation')
    """
    fitting = [
        purpose.key
        for purpose in PURPOSES.values()
        for limit in purpose.limits
        if limit.field == "depth_share" and max(depth_share) <= limit.most
    ]
    if fitting:
        return f"good for {', '.join(fitting)}"
    return f"not good enough for {_find_easiest('depth_share')}"


def _find_easiest(field: str) -> str:
    """Return the purpose with the largest limit of a field."""
    limits = ((limit, purpose.key) for purpose in PURPOSES.values() for limit in purpose.limits if limit.field == field)
    return max(limits, key=lambda pair: pair[0].most)[1]
