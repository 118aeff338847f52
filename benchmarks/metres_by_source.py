"""Find the metres of METER, a published network of unknown unit, by each source of `--scale-from`.

    python benchmarks/metres_by_source.py [--worlds 6] [--json FILE]

METER's output, and .3 and 4 times as much, on KITTI 06, KITTI raw, RoadWorld (rendered here, seed 0) and the kitchen
of 7-Scenes (METER for NYU), by each source that they have, at most 40 frames of each. Prints Markdown: the factor over
that of the reference, its stated deviation and verdict. Then windows of 6 frames: how often two sources agree within
one standard deviation of their difference. Needs the real samples (STADIA_REAL_DATA, or shared/data beside the
repository).

`point` is one pixel of one frame, whose distance is that of the reference; it is judged by 40 pixels of random frames.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from published_networks import Multiplied, open_meter

from stadia.core.errors import StadiaError
from stadia.core.recording import RIGHT, Recording
from stadia.evaluation.frame_preparation import frame_name
from stadia.geometry.scale_fit import ScaleFit
from stadia.recipes.prediction.prediction_inputs import make_recording_input, open_inputs
from stadia.recipes.prediction.scale_receipt import ScaleReceipt, measure_scale
from stadia.recipes.prediction.scale_sources import match_pair_depth
from stadia.synthetic.config import RoadWorldConfig
from stadia.synthetic.roadworld.roadworld_writer import write_roadworld

FACTORS = (0.3, 4.0)
"""Unknown factors of the output, besides 1."""

WINDOW = 6
"""Frames of a case."""

POINTS = 40
"""Measured pixels of a recording, each a case of its own."""

POINT_RANGE_M = 1.0, 40.0
"""Distances that a tape or a laser measures."""

SEED = 0


@dataclass(frozen=True)
class Case:
    """Recordings of one kind. network: of METER.  sources: the reference first."""

    title: str
    network: str
    recordings: tuple[Recording, ...]
    sources: tuple[str, ...]


def list_cases(data: Path, worlds: int, out: Path) -> Iterator[Case]:
    def open_recordings(folder: Path) -> tuple[Recording, ...]:
        return tuple(given.recording for given in open_inputs(folder) if given.recording is not None)

    yield Case("KITTI 06", "kitti", open_recordings(data / "kitti_odometry"), ("baseline", "gps", "height=1.65"))
    yield Case("KITTI raw", "kitti", open_recordings(data / "kitti_raw"), ("lidar", "height=1.65"))
    config = RoadWorldConfig(train=worlds, val=0, test=0, frames=24, height=192, width=640)
    write_roadworld(config, out, seed=SEED, workers=1)
    sources = ("lidar", "baseline", "gps", "height=1.65", "object=car:1.5")
    yield Case("RoadWorld", "kitti", open_recordings(out), sources)
    yield Case("7-Scenes kitchen", "nyu", open_recordings(data / "sevenscenes"), ("lidar", "gps"))


def measure(predictor: Any, recording: Recording, indices: Sequence[int], sources: Sequence[str]) -> ScaleReceipt:
    return measure_scale(predictor, lambda: make_recording_input(recording, indices), sources)


def measure_recording(case: Case, predictor: Any, recording: Recording, rows: dict[str, list[dict[str, Any]]]) -> None:
    """Add the rows of a recording: all of it by each source, windows by each pair of sources, other units, points."""
    about = {"data": case.title, "recording": recording.name}
    whole = measure(predictor, recording, range(len(recording)), case.sources)
    reference = next(whole.fits[source] for source in case.sources if source in whole.fits)
    for source, fit in whole.fits.items():
        values = {"factor": fit.factor, "deviation": fit.deviation, "verdict": fit.verdict}
        rows["whole"].append({**about, "source": source, "over_reference": fit.factor / reference.factor, **values})
    for start in range(0, len(recording) - WINDOW + 1, WINDOW):
        try:
            receipt = measure(predictor, recording, range(start, start + WINDOW), case.sources)
        except StadiaError:
            continue  # no source measures these frames
        for one, two in itertools.combinations(receipt.fits, 2):
            fits = receipt.fits[one], receipt.fits[two]
            difference = math.log(fits[0].factor / fits[1].factor)
            deviation = math.hypot(fits[0].deviation, fits[1].deviation)
            rows["windows"].append({**about, "sources": [one, two], "difference": difference, "deviation": deviation})
        if start == 0:
            rows["units"] += measure_units(case, predictor, recording, receipt)
    rows["points"] += measure_points(case, predictor, recording, reference)


def measure_units(case: Case, predictor: Any, recording: Recording, plain: ScaleReceipt) -> Iterator[dict[str, Any]]:
    """Yield by source and unknown factor how the found factor differs from the one that it should be."""
    for factor in FACTORS:
        receipt = measure(Multiplied(predictor, factor), recording, range(WINDOW), case.sources)
        for source, fit in receipt.fits.items():
            error = fit.factor * factor / plain.fits[source].factor - 1
            yield {"data": case.title, "source": source, "times": factor, "error": error}


def measure_points(case: Case, predictor: Any, recording: Recording, reference: ScaleFit) -> Iterator[dict[str, Any]]:
    """Yield a row for each measured pixel: its factor over that of all of the recording by the reference."""
    random = np.random.default_rng(SEED)
    for index in random.integers(0, len(recording), max(POINTS // len(case.recordings), 1)).tolist():
        true_m = read_depth(recording, index)
        known = np.argwhere((true_m > POINT_RANGE_M[0]) & (true_m < POINT_RANGE_M[1]))
        y, x = known[random.integers(len(known))].tolist()
        source = f"point={x},{y}:{true_m[y, x]:.2f}@{frame_name(recording, index)}"
        fit = measure(predictor, recording, [index], [source]).fits[source]
        deviation = math.hypot(fit.deviation, reference.deviation)
        yield {"data": case.title, "over_reference": fit.factor / reference.factor, "deviation": deviation}


def read_depth(recording: Recording, index: int) -> Any:
    """Return z (H, W) in metres, 0 = none: the data's own, else by semi-global matching."""
    true_m = recording.depth_m(index)
    if true_m is None:
        assert recording.T_right_left is not None
        pair = recording.image(index), recording.image(index, RIGHT)
        return match_pair_depth(*pair, recording.K(index), recording.T_right_left)
    return np.where(true_m < 80, true_m, 0)


def print_table(rows: Sequence[dict[str, Any]], units: Sequence[dict[str, Any]]) -> None:
    """Print the sources of each data set: medians over its recordings, and the errors with other units."""
    print("| data | source | metres a unit | over the reference | worst | deviation | verdict | other units |")
    print("|---|---|---|---|---|---|---|---|")
    for data, source in dict.fromkeys((row["data"], row["source"]) for row in rows):
        own = [row for row in rows if (row["data"], row["source"]) == (data, source)]
        ratios = np.array([row["over_reference"] for row in own])
        errors = [abs(row["error"]) for row in units if (row["data"], row["source"]) == (data, source)]
        worst = ratios[np.abs(np.log(ratios)).argmax()]
        verdicts = [row["verdict"] for row in own]
        words = ", ".join(f"{verdicts.count(word)} {word}" for word in dict.fromkeys(verdicts))
        factor, deviation = (float(np.median([row[name] for row in own])) for name in ("factor", "deviation"))
        cells = [data, source, f"{factor:.4f}", f"{np.median(ratios):.3f}", f"{worst:.3f}", f"{deviation:.1%}", words]
        print(f"| {' | '.join(cells)} | within {max(errors, default=math.nan):.0e} |")


def print_coverage(windows: Sequence[dict[str, Any]], points: Sequence[dict[str, Any]]) -> None:
    """Print how many cases lie inside one stated deviation."""
    print("\n| cases | number | inside one deviation |\n|---|---|---|")
    groups = {"all pairs of sources": windows}
    for row in windows:
        groups.setdefault(f"{row['data']}: {' and '.join(row['sources'])}", []).append(row)  # type: ignore[attr-defined]
    for name, rows in groups.items():
        inside = [abs(row["difference"]) < row["deviation"] for row in rows]
        print(f"| {name} | {len(rows)} | {np.mean(inside):.0%} |")
    for data in dict.fromkeys(row["data"] for row in points):
        own = [row for row in points if row["data"] == data]
        errors = np.log([row["over_reference"] for row in own])
        inside = np.mean(np.abs(errors) < [row["deviation"] for row in own])
        print(f"| {data}: points, median error {np.median(np.abs(errors)):.1%} | {len(own)} | {inside:.0%} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    real = os.environ.get("STADIA_REAL_DATA", Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--data", type=Path, default=real, help="folder of the real samples (STADIA_REAL_DATA)")
    parser.add_argument("--worlds", type=int, default=6, help="of RoadWorld, 24 frames each")
    parser.add_argument("--json", type=Path, help="file for all rows")
    arguments = parser.parse_args()
    rows: dict[str, list[dict[str, Any]]] = {"whole": [], "windows": [], "units": [], "points": []}
    with tempfile.TemporaryDirectory() as folder:
        for case in list_cases(Path(arguments.data), arguments.worlds, Path(folder) / "roadworld"):
            predictor = open_meter(Path(arguments.data), case.network)
            for recording in case.recordings:
                measure_recording(case, predictor, recording, rows)
            print(f"{case.title} measured", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows), encoding="utf-8")
    print_table(rows["whole"], rows["units"])
    print_coverage(rows["windows"], rows["points"])


if __name__ == "__main__":
    main()
