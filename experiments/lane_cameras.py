"""Measure camera height and focal length of drives by lane markings, and compare them with the truth.

    stadia data roadworld --preset full --seed 1 --worlds 0,0,12 --out WORLDS frames=40 height=256 width=832
    python experiments/lane_cameras.py WORLDS
    python experiments/lane_cameras.py clip.mp4 --lane-width 3.66 --dash-period 14.63

Worlds state height, focal length, lane and dashes, and are measured with the true lane and dashes. Other videos print
what was measured. Rows without a claim count as right.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.apps.lane_camera import SAMPLES, judge_lanes
from stadia.core.errors import GeometryError
from stadia.core.seeds import make_generator
from stadia.datasets.video.static_parts import find_static_content, sample_frames
from stadia.geometry.ground.lane_lines import LaneMeasurement, measure_lanes
from stadia.synthetic.roadworld.road_textures import make_asphalt
from stadia.synthetic.roadworld.road_world import make_section

MAX_ERROR = 0.08


def find_markings(seed: int) -> tuple[float | None, float | None]:
    """Return a world's lane from line to line, None without an edge line, and its dashes' period, None if solid.

    They are read from the paint on its road, of which a tile is 16 m long.
    """
    section = make_section(seed)
    road = make_asphalt(make_generator(seed, "textures", "asphalt"), section.half_width_m, section.lane_m)
    gray, (length_m, width_m) = road.image.mean(axis=2), road.size_m
    across_m = (np.arange(gray.shape[1]) + 0.5) / gray.shape[1] * width_m - section.half_width_m

    def rate_paint(side_m: float) -> NDArray[np.float64]:
        line, near = (np.abs(across_m - side_m) < half_m for half_m in (0.05, 0.3))
        return np.asarray(gray[:, line].mean(1) - np.median(gray[:, near & ~line], axis=1), np.float64)

    edges_m = [section.half_width_m - 0.35, section.lane_m + 0.05]
    paint = [float(np.median(rate_paint(edge_m))) for edge_m in edges_m]
    waves = np.abs(np.fft.rfft(rate_paint(0.0)))
    best = max((2, 4), key=lambda count: float(waves[count]))
    edge_m = edges_m[int(np.argmax(paint))] if max(paint) > MIN_PAINT else None
    return edge_m, length_m / best if waves[best] > 0.4 * waves[0] else None


MIN_PAINT = 0.1
"""Paint is brighter than the road by this reflectance."""


def measure(source: Path) -> LaneMeasurement | str:
    """Return the lane of a video or folder of images, or why there is none."""
    static = find_static_content(source)
    images = list(sample_frames(source, SAMPLES))
    if static.crop is not None:
        images = [static.crop.cut(image) for image in images]
    try:
        return measure_lanes(images, static.mask)
    except GeometryError as error:
        return error.found


def main() -> None:
    """Print one row for each drive."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", type=Path)
    parser.add_argument("--lane-width", type=float)
    parser.add_argument("--dash-period", type=float)
    given = parser.parse_args()
    claimed, wrong, errors = 0, 0, list[float]()
    for source in given.sources:
        worlds = sorted(file.parent for file in source.glob("*/recording.json")) if source.is_dir() else []
        for drive in worlds or [source]:
            lanes = measure(drive / "left" if worlds else drive)
            if isinstance(lanes, str):
                print(f"{drive.name:24} no lanes: {lanes}")
                continue
            lane_m, period_m = given.lane_width, given.dash_period
            record = json.loads((drive / "recording.json").read_text()) if worlds else None
            if record is not None:
                lane_m, period_m = find_markings(record["roadworld"]["seed"])
                if lane_m is None:
                    print(f"{drive.name:24} {lanes.frames:3} of {lanes.seen:3} frames, wrong: no line is painted there")
                    continue
            found = judge_lanes(lanes, lane_m=lane_m, period_m=period_m)
            focal = "not claimed" if found.claimed_px is None else f"{found.claimed_px:7.1f} px"
            raw = "" if found.focal_px is None else f" ({found.focal_px:.1f} px +- {found.focal_deviation:.1%})"
            print(f"{drive.name:24} {lanes.frames:3} of {lanes.seen:3} frames, height {found.height_m:.3f} m"
                  f" +- {found.height_deviation:.1%}, focal length {focal}{raw}", end="")  # fmt: skip
            if record is not None:
                true_px, true_m = record["cameras"]["left"]["K"][0][0], record["camera_height_m"]
                errors.append(found.height_m / true_m - 1)
                print(f"; truth {true_m:.3f} m, {true_px:.1f} px; height {errors[-1]:+.1%}", end="")
                if found.claimed_px is not None:
                    error = found.claimed_px / true_px - 1
                    claimed, wrong = claimed + 1, wrong + (abs(error) > MAX_ERROR)
                    print(f", focal length {error:+.1%}", end="")
            print(flush=True)
    if errors:
        print(f"{len(errors)} drives with truth: median height error {np.median(np.abs(errors)):.1%},"
              f" worst {np.abs(errors).max():.1%}; {claimed} focal lengths claimed, {wrong} wrong")  # fmt: skip


if __name__ == "__main__":
    main()
