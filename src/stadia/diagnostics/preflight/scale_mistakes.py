"""Known mistakes in the length of a source of metres, by the factor by which it is too long."""

from __future__ import annotations

from enum import StrEnum

import numpy as np


class ScaleSource(StrEnum):
    """A source of metric lengths."""

    RIG = "rig"
    POSES = "poses"
    DEPTH = "ground-truth depth"


Mistake = tuple[float, str, str]
"""Factor by which the source is too long, cause, fix."""

BASELINE_MISTAKES: tuple[Mistake, ...] = (
    (1000.0, "the baseline is in millimetres", "divide it by 1000"),
    (100.0, "the baseline is in centimetres", "divide it by 100"),
    (0.8833, "the baseline is P3[0,3] / f alone, without KITTI's P2[0,3]", "use (P2[0,3] - P3[0,3]) / f"),
    (1 / 5.4, "the baseline is the nominal 0.1 m of a reference code", "use the rig's true baseline in metres"),
)
"""Of the baseline itself."""

INTRINSICS_MISTAKES: tuple[Mistake, ...] = (
    (1.3302, "K_02 of the unrectified image is used in place of P_rect", "take fx from P_rect"),
    (2.4258, "K of the 1242 px wide image is used at 512 px", "resize K with the image"),
    (1.9406, "K of the 1242 px wide image is used at 640 px", "resize K with the image"),
    (
        2.0,
        "undecided: the baseline is twice the true one, or fx is that of an image twice as wide",
        "resize K with the image",
    ),
    (
        0.5,
        "undecided: the baseline is half the true one, or fx is that of an image half as wide",
        "resize K with the image",
    ),
)
"""Of fx, which resemble a wrong baseline: fx times baseline is measured."""

PLAUSIBLE_BASELINES_M = (0.02, 3.0)
UNITS = (("millimetres", 1000.0), ("centimetres", 100.0))

MAX_FOCAL_RATIO = 1.25
"""Between fx and fy, which differ where images were stretched, or where one of them is wrong."""

FINGERPRINTS: dict[ScaleSource, tuple[Mistake, ...]] = {
    ScaleSource.POSES: (
        (1000.0, "the poses are in millimetres", "divide their translations by 1000"),
        (100.0, "the poses are in centimetres", "divide their translations by 100"),
        (0.001, "the poses are in kilometres", "multiply their translations by 1000"),
    ),
    ScaleSource.DEPTH: (
        (1000.0, "the ground truth is in millimetres", "divide it by 1000"),
        (256.0, "the uint16 PNG was read without its factor of 256", "divide it by 256"),
        (100.0, "the ground truth is in centimetres", "divide it by 100"),
        (
            1000 / 256,
            "millimetres were read as KITTI's uint16, of 1/256 m",
            "divide it by 3.906, or the stored values by 1000",
        ),
        (
            256 / 1000,
            "KITTI's uint16, of 1/256 m, was read as millimetres",
            "multiply it by 3.906, or divide the stored values by 256",
        ),
        (1 / 256, "the ground truth was divided by 256 twice", "multiply it by 256"),
        (0.001, "the ground truth is in kilometres, or was divided by 1000 twice", "multiply it by 1000"),
        (1 / 80, "the ground truth was normalized by its cap of 80 m", "multiply it by 80"),
        (1 / 100, "the ground truth was normalized by 100 m, or is in hectometres", "multiply it by 100"),
        (1 / 5.4, "the factor 5.4 of a nominal baseline of 0.1 m was not undone", "multiply it by 5.4"),
        (
            5.4,
            "the factor 5.4 of a nominal baseline of 0.1 m was applied to depth that was already in metres",
            "divide it by 5.4",
        ),
    ),
    ScaleSource.RIG: (*BASELINE_MISTAKES, *INTRINSICS_MISTAKES),
}

FINGERPRINT_TOLERANCE, FINGERPRINT_TOLERANCE_LOOSE = 0.03, 0.10
"""Difference of log factor from a known mistake, and the same for large factors, whose neighbors are far away."""


def find_known_mistake(
    source: ScaleSource, factor: float | None, *, is_focal_right: bool = False
) -> tuple[str | None, str | None]:
    """Return (cause, fix) of the known mistake with this factor; (None, None) without one.

    is_focal_right: leave out mistakes of fx, which resemble a wrong baseline.
    """
    if factor is None:
        return None, None
    mistakes = BASELINE_MISTAKES if is_focal_right and source is ScaleSource.RIG else FINGERPRINTS[source]
    known, cause, fix = min(mistakes, key=lambda entry: abs(np.log(factor / entry[0])))
    tolerance = FINGERPRINT_TOLERANCE if 0.2 < known < 5 else FINGERPRINT_TOLERANCE_LOOSE
    return (cause, fix) if abs(np.log(factor / known)) <= tolerance else (None, None)


def suggest_baseline_units(baseline: float) -> list[tuple[str, float]]:
    """Return (unit, metres) of each unit in which a baseline that is too long for metres is plausible."""
    low, high = PLAUSIBLE_BASELINES_M
    return [(unit, baseline / count) for unit, count in UNITS if baseline > high and low <= baseline / count <= high]


def find_baseline_unit(baseline: float) -> tuple[str | None, str | None]:
    """Return (cause, fix) of a baseline that resembles another unit by its value alone; (None, None) else."""
    found = suggest_baseline_units(baseline)
    if not found:
        return None, None
    steps = [f"divide it by {baseline / metres:g} ({metres:.4g} m)" for _, metres in found]
    if len(found) > 1:
        steps = [f"{step} where it is in {unit}" for step, (unit, _) in zip(steps, found, strict=True)]
    return f"the baseline looks like {' or '.join(unit for unit, _ in found)}", ", ".join(steps)


def describe_unequal_focals(K: np.ndarray) -> str:
    """Return a note where fx and fy differ more than pixels of one lens do; empty where they agree."""
    ratio = float(K[0, 0] / K[1, 1])
    if 1 / MAX_FOCAL_RATIO <= ratio <= MAX_FOCAL_RATIO:
        return ""
    return f"fx ({K[0, 0]:.1f}) and fy ({K[1, 1]:.1f}) differ: one is wrong, or the images were stretched"
