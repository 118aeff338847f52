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
from typing import Any

import numpy as np

from stadia.apps.lane_camera import SAMPLES, judge_lanes
from stadia.core.errors import GeometryError
from stadia.core.seeds import make_generator
from stadia.datasets.video.static_parts import find_static_content, sample_frames
from stadia.geometry.ground.lane_lines import LaneMeasurement, measure_lanes
from stadia.synthetic.roadworld.road_textures import make_asphalt
from stadia.synthetic.roadworld.road_world import make_section

MAX_ERROR = 0.08


class Recorder:
    """A generator that keeps what it chose."""

    def __init__(self, random: np.random.Generator) -> None:
        self._random, self.chosen, self.drawn = random, list[Any](), list[float]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._random, name)

    def choice(self, values: Any) -> Any:
        """Return one of the values."""
        self.chosen.append(self._random.choice(values))
        return self.chosen[-1]

    def random(self) -> float:
        """Return a number in [0, 1)."""
        self.drawn.append(float(self._random.random()))
        return self.drawn[-1]


def find_markings(seed: int) -> tuple[float | None, float | None]:
    """Return a world's lane from line to line, None without an edge line, and its dashes' period, None if solid."""
    section = make_section(seed)
    recorder = Recorder(make_generator(seed, "textures", "asphalt"))
    make_asphalt(recorder, section.half_width_m, section.lane_m)  # type: ignore[arg-type]
    (dash, gap), edge = recorder.chosen[-2:]
    has_edge_line = recorder.drawn[-2] < 0.8  # the last one is of the color
    return float(edge) if has_edge_line else None, float(dash + gap) if gap else None


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
            focal = "not claimed" if found.claimed is None else f"{found.claimed.factor:7.1f} px"
            raw = "" if found.focal is None else f" ({found.focal.factor:.1f} px +- {found.focal.deviation:.1%})"
            print(f"{drive.name:24} {lanes.frames:3} of {lanes.seen:3} frames, height {found.height_m:.3f} m"
                  f" +- {found.height_deviation:.1%}, focal length {focal}{raw}", end="")  # fmt: skip
            if record is not None:
                true_px, true_m = record["cameras"]["left"]["K"][0][0], record["camera_height_m"]
                errors.append(found.height_m / true_m - 1)
                print(f"; truth {true_m:.3f} m, {true_px:.1f} px; height {errors[-1]:+.1%}", end="")
                if found.claimed is not None:
                    error = found.claimed.factor / true_px - 1
                    claimed, wrong = claimed + 1, wrong + (abs(error) > MAX_ERROR)
                    print(f", focal length {error:+.1%}", end="")
            print(flush=True)
    if errors:
        print(f"{len(errors)} drives with truth: median height error {np.median(np.abs(errors)):.1%},"
              f" worst {np.abs(errors).max():.1%}; {claimed} focal lengths claimed, {wrong} wrong")  # fmt: skip


if __name__ == "__main__":
    main()
