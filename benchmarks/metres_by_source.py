"""Find the metres of METER, a published network of unknown unit, by each source of `--scale-from`.

    python benchmarks/metres_by_source.py [--worlds 4] [--frames 24] [--json FILE]
    python benchmarks/metres_by_source.py --exact --worlds 2 --frames 12

METER's output, and .3 and 4 times as much, on KITTI 06, KITTI raw, RoadWorld (rendered here, seed 0) and the kitchen
of 7-Scenes (METER for NYU), by each source that they have, at most 40 frames of each. The object is one car of each
world, of its own height. Prints Markdown: the factor over that of the reference, its stated deviation and verdict. Then
windows of 6 frames: how often two sources agree within one standard deviation of their difference. Needs the real
samples (STADIA_REAL_DATA, or shared/data beside the repository).

--exact: the sources on RoadWorld with its exact depth in place of METER's, so that the network has no part in it.

`point` is one pixel of one frame, whose distance is that of the reference; it is judged by 40 pixels of random frames.
"""

# mypy: disable-error-code="assignment, misc"

from __future__ import annotations

import itertools
import json
import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import REAL_DATA, make_parser
from numpy.typing import NDArray
from published_networks import open_meter

from stadia.core.errors import StadiaError
from stadia.core.types import RIGHT, Camera, DepthScale, Recording
from stadia.data.frame_preparation import PreparedFrame, frame_name, read_frames
from stadia.geometry.scale_fit import ScaleFit
from stadia.judge.scale_verdict import judge_scale
from stadia.predict.inputs import make_recording_input, open_inputs
from stadia.predict.receipt import measure_scale
from stadia.scale.scale_receipt import ScaleReceipt
from stadia.scale.sources import MIN_BOX_PX, match_pair_depth
from stadia.synthetic.config import RoadWorldConfig
from stadia.synthetic.roadworld.roadworld_writer import write_roadworld
from stadia.training.recipes.base.depth_predictor import accept_arrays

FACTORS = (0.3, 4.0)
"""Unknown factors of the output, besides 1."""

WINDOW = 6
"""Frames of a case."""

POINTS, WORLD_POINTS = 40, 10
"""Measured pixels of a recording, each a case of its own; of a world of RoadWorld."""

POINT_RANGE_M = 1.0, 40.0
"""Distances that a tape or a laser measures."""

SEED = 0

WHOLE = 0.1
"""Relative difference of a car's height in pixels from the expected one, up to which it is seen whole."""


@dataclass(frozen=True)
class Case:
    """Recordings of one kind. network: of METER.  sources: the reference first.  points: measured pixels of each."""

    title: str
    network: str
    recordings: tuple[Recording, ...]
    sources: tuple[str, ...]
    points: int = POINTS


def list_cases(data: Path, worlds: int, frames: int, out: Path) -> Iterator[Case]:
    def open_recordings(folder: Path) -> tuple[Recording, ...]:
        return tuple(given.recording for given in open_inputs(folder) if given.recording is not None)

    yield Case("KITTI 06", "kitti", open_recordings(data / "kitti_odometry"), ("baseline", "gps", "height=1.65"))
    yield Case("KITTI raw", "kitti", open_recordings(data / "kitti_raw"), ("lidar", "height=1.65"))
    config = RoadWorldConfig(train=worlds, val=0, test=0, frames=frames, height=192, width=640)
    write_roadworld(config, out, seed=SEED, workers=1)
    for recording in open_recordings(out):
        sources = ("lidar", "baseline", "gps", "height=1.65", *find_car(recording, out))
        yield Case("RoadWorld", "kitti", (recording,), sources, WORLD_POINTS)
    yield Case("7-Scenes kitchen", "nyu", open_recordings(data / "sevenscenes"), ("lidar", "gps"))


class Multiplied:
    """A predictor whose depth is multiplied by a factor."""

    def __init__(self, predictor: Any, factor: float) -> None:
        self.predictor, self.factor = predictor, factor
        self.depth_scale, self.crop = predictor.depth_scale, predictor.crop
        self.height, self.width = predictor.height, predictor.width

    def inverse_depth(self, image: NDArray[np.float32], camera: Camera) -> Any:
        return self.predictor.inverse_depth(image, camera) / self.factor

    def T_next_now(self, *given: Any) -> None:
        return None


class ExactDepth:
    """A predictor of the true depth of a recording, which it finds by the image."""

    depth_scale, crop = DepthScale.UP_TO_SCALE, "none"

    def __init__(self, recording: Recording) -> None:
        camera = recording.camera(0)
        self.height, self.width = camera.height, camera.width
        images = [PreparedFrame.prepare(self, frame).image for frame in read_frames(recording)]
        self.images = torch.from_numpy(np.stack(images))
        self.depth_m = torch.from_numpy(np.stack([recording.depth_m(index) for index in range(len(recording))]))

    @accept_arrays
    def inverse_depth(self, image: torch.Tensor, camera: Camera) -> torch.Tensor:
        numbers = [int((self.images - one).abs().flatten(1).sum(1).argmin()) for one in image]
        depth = self.depth_m[numbers][:, None]
        return 1 / depth.where(depth > 0, 100.0).clamp(max=200).float()

    def T_next_now(self, *given: Any) -> None:
        return None


def find_car(recording: Recording, folder: Path) -> tuple[str, ...]:
    """Write the boxes of the car that is whole in most frames, and return its source; none where no car is.

    A car is whole where its box has the height that follows from its own and its depth, to 10 %.
    """
    name = recording.name.rpartition("/")[2]
    instances = json.loads((folder / name / "instances.json").read_text(encoding="utf-8"))["instances"]
    heights = {row["id"]: row["size_hwl_m"][0] for row in instances if row["class"] == "car"}
    boxes: dict[int, list[str]] = {}
    for index in range(len(recording)):
        masks, true_m = recording.masks(index), recording.depth_m(index)
        assert masks is not None
        assert true_m is not None
        for number in set(np.unique(masks.instance).tolist()) & heights.keys():
            rows, columns = np.nonzero(masks.instance == number)
            top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
            expected = recording.K(index)[1, 1] * heights[number] / np.median(true_m[rows, columns])
            is_inside = top > 0 and bottom < len(true_m) and left > 0 and right < true_m.shape[1]
            if is_inside and bottom - top >= MIN_BOX_PX and abs((bottom - top) / expected - 1) < WHOLE:
                edges = f"{left - 0.5},{top - 0.5},{right - 0.5},{bottom - 0.5}"
                boxes.setdefault(number, []).append(f"{frame_name(recording, index)},{edges}")
    if not boxes:
        return ()
    car = max(boxes, key=lambda number: len(boxes[number]))
    path = folder.with_name(f"{name}-car.csv")
    path.write_text("\n".join(boxes[car]), encoding="utf-8")
    return (f"object=car:{heights[car]:.3f}@{path}",)


def shorten(source: str) -> str:
    """Return a source without the length and the boxes of a car."""
    return "object" if source.startswith("object") else source


def measure(predictor: Any, recording: Recording, indices: Sequence[int], sources: Sequence[str]) -> ScaleReceipt:
    return measure_scale(predictor, lambda: make_recording_input(recording, indices), sources)


def measure_recording(case: Case, predictor: Any, recording: Recording, rows: dict[str, list[dict[str, Any]]]) -> None:
    """Add the rows of a recording: all of it by each source, windows by each pair of sources, other units, points."""
    about = {"data": case.title, "recording": recording.name}
    whole = measure(predictor, recording, range(len(recording)), case.sources)
    reference = next(whole.fits[source] for source in case.sources if source in whole.fits)
    for text, fit in whole.fits.items():
        source = shorten(text)
        values = {"factor": fit.factor, "deviation": fit.deviation, "verdict": judge_scale(fit)}
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
            rows["windows"].append(
                {**about, "sources": [shorten(one), shorten(two)], "difference": difference, "deviation": deviation}
            )
        if start == 0:
            rows["units"] += measure_units(case, predictor, recording, receipt)
    rows["points"] += measure_points(case, predictor, recording, reference)


def measure_units(case: Case, predictor: Any, recording: Recording, plain: ScaleReceipt) -> Iterator[dict[str, Any]]:
    """Yield by source and unknown factor how the found factor differs from the one that it should be."""
    for factor in FACTORS:
        receipt = measure(Multiplied(predictor, factor), recording, range(WINDOW), case.sources)
        for source, fit in receipt.fits.items():
            error = fit.factor * factor / plain.fits[source].factor - 1
            yield {"data": case.title, "source": shorten(source), "times": factor, "error": error}


def measure_points(case: Case, predictor: Any, recording: Recording, reference: ScaleFit) -> Iterator[dict[str, Any]]:
    """Yield a row for each measured pixel: its factor over that of all of the recording by the reference."""
    random = np.random.default_rng(SEED)
    for index in random.integers(0, len(recording), case.points).tolist():
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
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, default=REAL_DATA, help="folder of the real samples (STADIA_REAL_DATA)")
    parser.add_argument("--worlds", type=int, default=4, help="of RoadWorld, 24 frames each")
    parser.add_argument("--frames", type=int, default=24, help="of each world")
    parser.add_argument("--exact", action="store_true", help="RoadWorld alone, with its exact depth")
    parser.add_argument("--json", type=Path, help="file for all rows")
    arguments = parser.parse_args()
    rows: dict[str, list[dict[str, Any]]] = {"whole": [], "windows": [], "units": [], "points": []}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "roadworld"
        for case in list_cases(Path(arguments.data), arguments.worlds, arguments.frames, out):
            if arguments.exact and case.title != "RoadWorld":
                continue
            meter = open_meter(Path(arguments.data), case.network)
            for recording in case.recordings:
                measure_recording(case, ExactDepth(recording) if arguments.exact else meter, recording, rows)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows), encoding="utf-8")
    print_table(rows["whole"], rows["units"])
    print_coverage(rows["windows"], rows["points"])


if __name__ == "__main__":
    main()
