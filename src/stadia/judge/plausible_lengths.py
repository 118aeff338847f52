"""Baselines, speeds and depths that are plausible in metres, and units that make a baseline plausible."""

PLAUSIBLE_BASELINES_M = (0.02, 3.0)  # outside, the unit is mostly another one

MAX_SPEED_M_PER_S = 80.0  # median speed of a camera

PLAUSIBLE_DEPTHS_M = (0.1, 300.0)  # median of ground-truth depth

MIN_BASELINE_M = 0.001  # shortest baseline, of endoscopes

UNITS_PER_METRE = (("millimetres", 1000.0), ("centimetres", 100.0))  # units in which files give baselines


def suggest_baseline_units(baseline: float) -> list[tuple[str, float]]:
    """Return (unit, metres) of each unit that makes a too long baseline plausible."""
    high = PLAUSIBLE_BASELINES_M[1]
    return [
        (unit, baseline / count)
        for unit, count in UNITS_PER_METRE
        if baseline > high and MIN_BASELINE_M <= baseline / count <= high
    ]
