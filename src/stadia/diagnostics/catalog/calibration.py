"""Where the thresholds come from: what each instrument reads on clean data, and on data that was broken on purpose.

Measured by `python benchmarks/preflight.py`: nine RoadWorld worlds of three seeds (six stereo pairs of 320 x 96), KITTI
odometry 06 (51 gray stereo pairs), KITTI raw (78 frames, projected LiDAR, LiDAR odometry), 7-Scenes kitchen (80 RGB-D
frames).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reading:
    """instrument: what is read.  codes: whose it is.  roadworld, real, broken: ranges.  warns, stops: from where on it
    speaks.
    """

    instrument: str
    codes: str
    roadworld: str
    real: str
    broken: str
    warns: str
    stops: str


READINGS = (
    Reading("frames that repeat an earlier one", "D02", "0 %", "0 %", "49 to 99 %", "2 %", "10 %"),
    Reading(
        "neighbors with a flow below 0.1 px",
        "D03",
        "0 %",
        "0 %; 26 % (KITTI raw stops at a light)",
        "100 %",
        "33 %",
        "90 %",
    ),
    Reading(
        "cx / W and cy / H",
        "K03",
        "0.495 to 0.498",
        "0.461 to 0.500",
        "0.14 and 1.6",
        "0.35 to 0.65",
        "0.1 outside the image",
    ),
    Reading(
        "(2 cx + 1) / W and (2 cy + 1) / H",
        "K04",
        "1.00",
        "0.92 to 1.00",
        "0.46 to 0.51, 1.85 to 2.0",
        "1.12 alike, 1.3 apart",
        "",
    ),
    Reading(
        "lines of the poses, over another K",
        "K03 K04",
        "0.06 to 0.11 (crops)",
        "0.03 to 0.78 (crops)",
        "2.0 to 28",
        "0.9",
        "2",
    ),
    Reading("fx / W", "K05", "0.58", "0.58, 0.91", "0.003", "0.3 to 1.6", "0.15 to 6"),
    Reading(
        "fx by the turns",
        "K06",
        "0.99 to 1.01",
        "1.23 (7-Scenes: K is of the depth camera)",
        "2.1 to 2.2",
        "1.4",
        "1.7",
    ),
    Reading("matches with x_left > x_right", "E01 E02", "0.98 to 0.99", "0.98", "0.01 to 0.02", "", "0.8"),
    Reading(
        "distance to the epipolar line, of W", "E04", "0.007 to 0.013 %", "0.023 %", "0.8 to 1.2 %", "0.1 %", "0.2 %"
    ),
    Reading(
        "direction of motion, degrees", "E06 E07 E09", "0.1 to 0.5", "0.3, 0.5, 8 (7-Scenes)", "88 to 180", "30", "60"
    ),
    Reading("poses / rig", "E03 E08", "0.996 to 1.016", "0.994", "1.13 (baseline times 0.883)", "5 %", "8 %"),
    Reading(
        "rig / ground truth", "E03 D06", "0.998 to 1.003", "none at hand", "0.88 (baseline times 0.883)", "5 %", "8 %"
    ),
    Reading("poses / ground truth", "E08 D06", "0.997 to 1.009", "0.975, 1.052", "0.36 (times 0.37)", "15 %", "30 %"),
    Reading("rank correlation with the rig's depth", "D07", "0.95 to 0.99", "none at hand", "-0.90 to 0.75", "", "0.8"),
    Reading("spread against the rig's depth", "D07", "2.0 to 2.7 %", "none at hand", "13 to 72 %", "", "10 %"),
    Reading("near less far against the rig's depth", "D07", "below 1 %", "none at hand", "11 to 103 %", "", "10 %"),
    Reading(
        "agreeing matches that one motion explains",
        "D07",
        "0.95 to 0.99",
        "0.61, 0.84",
        "0 to 0.3 (inverse depth)",
        "0.45",
        "0.35",
    ),
    Reading(
        "WIR over that of a flat plane",
        "D07",
        "0.20 to 0.43",
        "0.82, 0.84",
        "1.2 to 1.5 (inverse depth)",
        "1.05",
        "1.15",
    ),
)
