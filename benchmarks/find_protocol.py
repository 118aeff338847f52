"""Hide evaluation protocols, and count how many `stadia evaluate --find-protocol` names from two or three figures.

    python benchmarks/find_protocol.py --seed 0 [--hidden 30] [--every 3] [--data FOLDER_OF_REAL_SAMPLES]

The predictions are those of `base` on KITTI raw (single LiDAR scans) and on a rendered RoadWorld (dense depth). Each
hidden protocol is a random combination of crop, limits, clamp, resize, alignment and average. `score_by_script` scores
it as a paper's script does, with OpenCV and NumPy alone, and its figures are rounded to three decimals.

A protocol is named if it, or one with identical figures, is in a list of at most MAX_LISTED results. Printed are a line
for each hidden protocol, and the share that was named with the length of the lists.
"""

# mypy: disable-error-code="arg-type"

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from harness import REAL_DATA, make_parser
from numpy.typing import NDArray

from stadia.core.types import DepthScale
from stadia.data.open_dataset import open_recordings
from stadia.evaluation.predictions_folder import Predictions
from stadia.evaluation.protocol_search import (
    ALIGNMENTS,
    AVERAGES,
    RANGES,
    RESIZES,
    SET_MEDIAN,
    WINDOWS,
    LabeledMap,
    ProtocolSearch,
    PublishedFigure,
    Resize,
    Scheme,
    find_clamp,
    parse_published,
    search_protocols,
)
from stadia.evaluation.protocols import Alignment
from stadia.predict.options import EvaluateOptions
from stadia.predict.tasks import evaluate
from stadia.synthetic.config import RoadWorldConfig
from stadia.synthetic.roadworld.roadworld_writer import write_roadworld

METRICS = ("abs_rel", "sq_rel", "rmse", "rmse_log", "silog", "d1")
MAX_LISTED = 10
WORLD = RoadWorldConfig(train=0, val=0, test=2, frames=6, height=96, width=320, stereo=False)
Array = NDArray[np.float64]


def resize_by_script(values: Array, shape: tuple[int, int], resize: Resize) -> Array:
    """Resize depth (h, w) as OpenCV does, or with aligned corners by hand."""
    height, width = shape
    given = 1 / values if resize.is_inverse else values
    if resize.mode == "bilinear, corners aligned":
        rows, columns = np.linspace(0, given.shape[0] - 1, height), np.linspace(0, given.shape[1] - 1, width)
        across = np.stack([np.interp(columns, np.arange(given.shape[1]), row) for row in given])
        resized = np.stack([np.interp(rows, np.arange(given.shape[0]), column) for column in across.T], 1)
    else:
        kinds = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC, "nearest": cv2.INTER_NEAREST}
        resized = np.asarray(cv2.resize(given, (width, height), interpolation=kinds[resize.mode]), np.float64)
    return 1 / resized if resize.is_inverse else resized


def mask_by_script(true_m: Array, scheme: Scheme) -> NDArray[np.bool_]:
    """Return the scored pixels, (H, W) bool."""
    mask = (true_m > scheme.scored_m[0]) & (true_m < scheme.scored_m[1])
    height, width = true_m.shape
    top, left = 0, 0
    name = scheme.crop.removesuffix(" of kb")
    if "kb" in scheme.crop:
        top, left, height, width = height - 352, (width - 1216) // 2, 352, 1216
        name = "none" if scheme.crop == "kb" else name
    edges = {
        "none": (0, 1, 0, 1),
        "garg": (0.40810811, 0.99189189, 0.03594771, 0.96405229),
        "eigen": (0.3324324, 0.91351351, 0.0359477, 0.96405229),
    }[name]
    inside = np.zeros_like(mask)
    rows = slice(top + int(edges[0] * height), top + int(edges[1] * height))
    inside[rows, left + int(edges[2] * width) : left + int(edges[3] * width)] = True
    return mask & inside


def align_by_script(predicted: Array, true: Array, alignment: str, set_ratio: float, scheme: Scheme) -> Array:
    """Return aligned and clamped depth (N,)."""
    near, far = scheme.clamp_m or (0.0, np.inf)
    if alignment == Alignment.SCALE_SHIFT:
        scale, shift = np.polyfit(1 / predicted, 1 / true, 1)
        return 1 / np.clip(scale / predicted + shift, 1 / far, 1 / near)
    if alignment == Alignment.SCALE_SHIFT_DEPTH:
        return np.clip(np.polyval(np.polyfit(predicted, true, 1), predicted), near, far)
    factor = {
        Alignment.NONE: 1.0,
        Alignment.MEDIAN: np.median(true) / np.median(predicted),
        Alignment.SCALE: np.dot(predicted, true) / np.dot(predicted, predicted),
        Alignment.LOG_SCALE: np.exp(np.mean(np.log(true) - np.log(predicted))),
        SET_MEDIAN: set_ratio,
    }[alignment]
    return np.clip(predicted * factor, near, far)


def score_by_script(maps: Sequence[LabeledMap], scheme: Scheme) -> dict[str, float]:
    """Return the metrics of predictions under one scheme."""
    pairs = []
    for labeled in maps:
        true_m, depth = labeled.true_m.astype(np.float64), labeled.predicted.astype(np.float64)
        if scheme.resize.mode == "truth":
            size = depth.shape[::-1]
            mask = (
                cv2.resize(mask_by_script(true_m, scheme).astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
            )
            true_m = np.asarray(cv2.resize(true_m, size, interpolation=cv2.INTER_NEAREST), np.float64)
        else:
            mask = mask_by_script(true_m, scheme)
            if depth.shape != true_m.shape:
                depth = resize_by_script(depth, true_m.shape, scheme.resize)
        if mask.any():
            pairs.append((depth[mask], true_m[mask]))
    ratio = float(np.median([np.median(true) / np.median(predicted) for predicted, true in pairs]))
    aligned = [(align_by_script(p, g, scheme.alignment, ratio, scheme), g) for p, g in pairs]
    if scheme.average == "pixels":
        aligned = [(np.concatenate([p for p, _ in aligned]), np.concatenate([g for _, g in aligned]))]
    scores = []
    for p, g in aligned:
        log = np.log(p) - np.log(g)
        scores.append(
            {
                "abs_rel": np.mean(np.abs(p - g) / g),
                "sq_rel": np.mean((p - g) ** 2 / g),
                "rmse": np.sqrt(np.mean((p - g) ** 2)),
                "rmse_log": np.sqrt(np.mean(log**2)),
                "silog": 100 * np.std(log),
                "d1": np.mean(np.maximum(p / g, g / p) < 1.25),
            }
        )
    return {metric: float(np.mean([score[metric] for score in scores])) for metric in METRICS}


def draw_scheme(chance: random.Random, windows: Sequence[str]) -> Scheme:
    """Return a random scheme for predictions in metres."""
    alignment = str(chance.choice(ALIGNMENTS[DepthScale.METRES]))
    limits = chance.choice(RANGES)
    is_affine = alignment in (Alignment.SCALE_SHIFT, Alignment.SCALE_SHIFT_DEPTH)
    clamp_m = find_clamp(limits) if is_affine or chance.random() < 0.7 else None
    average = chance.choice(AVERAGES)
    return Scheme(chance.choice(windows), limits, clamp_m, chance.choice(RESIZES), alignment, average)


def predict_maps(data: Path, every: int) -> list[LabeledMap]:
    """Return the predictions of `base` with their truth."""
    recordings = open_recordings(data)
    with tempfile.TemporaryDirectory() as folder:
        options = EvaluateOptions(protocol="relative", every=every)
        evaluate("base", data, out=Path(folder) / "out", options=options)
        maps = []
        for recording in recordings:
            predictions = Predictions.open(Path(folder) / "out" / recording.name)
            for name, index in zip(predictions.files, range(0, len(recording), every), strict=True):
                if (true_m := recording.depth_m(index)) is not None:
                    maps.append(LabeledMap(name, predictions.read(name), true_m, predictions.crop))
    return maps


def main() -> None:
    """Hide protocols and search them."""
    parser = make_parser(__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hidden", type=int, default=30)
    parser.add_argument("--every", type=int, default=3)
    parser.add_argument("--data", type=Path, default=REAL_DATA)
    parser.add_argument("--cache", type=Path, help="folder that keeps the predictions")
    given = parser.parse_args()
    chance, named, total, lengths = random.Random(given.seed), 0, 0, []
    with tempfile.TemporaryDirectory() as folder:
        sources = {"KITTI raw": (given.data / "kitti_raw", given.every)}
        sources["RoadWorld"] = (Path(folder) / "world", 1)
        write_roadworld(WORLD, Path(folder) / "world", seed=given.seed)
        for source, (data, every) in sources.items():
            maps = load_maps(source, data, every, given.cache)
            started = time.perf_counter()
            scale = DepthScale.METRES
            asked = tuple(PublishedFigure(metric, "0", 0.0, 1.0) for metric in METRICS)
            every_figure = search_protocols(asked, lambda maps=maps: maps, scale)  # type: ignore[misc]
            seconds = time.perf_counter() - started
            print(f"{source}: {len(maps)} images, {len(every_figure.schemes)} protocols in {seconds:.1f} s", flush=True)
            windows = [name for name in WINDOWS if name in {scheme.crop for scheme in every_figure.schemes}]
            for _ in range(given.hidden // 2):
                hidden = draw_scheme(chance, windows)
                scores = score_by_script(maps, hidden)
                chosen = chance.sample(METRICS, chance.choice((2, 3)))
                text = ",".join(f"{metric}={scores[metric]:.3f}" for metric in chosen)
                columns = [METRICS.index(metric) for metric in chosen]
                found = ProtocolSearch(
                    parse_published(text), every_figure.schemes, every_figure.figures[:, columns], scale, len(maps)
                )
                rank = find_rank(found, hidden)
                is_named = rank is not None and len(found.matches) <= MAX_LISTED
                total, named = total + 1, named + is_named
                lengths.append(len(found.matches))
                print(
                    f"{'named' if is_named else 'MISSED'} rank {rank} of {len(found.matches)}, "
                    f"chance {found.chance:.2g}: {text}: {hidden.describe()}",
                    flush=True,
                )
    print(f"{named} of {total} named; lists of {np.median(lengths):.0f} results (median), at most {max(lengths)}")


def load_maps(source: str, data: Path, every: int, cache: Path | None) -> list[LabeledMap]:
    """Return predictions with truth, from a file of an earlier call if there is one."""
    file = None if cache is None else cache / f"{source.replace(' ', '-')}-{every}.npz"
    if file is not None and file.exists():
        kept = np.load(file)
        count = len(kept.files) // 2
        return [LabeledMap(f"{n:06d}", kept[f"p{n}"], kept[f"t{n}"]) for n in range(count)]
    maps = predict_maps(data, every)
    if file is not None:
        arrays = {f"p{n}": one.predicted for n, one in enumerate(maps)}
        np.savez(file, **arrays, **{f"t{n}": one.true_m for n, one in enumerate(maps)})
    return maps


def find_rank(found: ProtocolSearch, hidden: Scheme) -> int | None:
    """Return the place of a scheme, or of its equivalent, in the list; None if it is not there."""
    for rank, match in enumerate(found.matches, 1):
        if hidden in (match.scheme, *match.equivalent):
            return rank
    return None


if __name__ == "__main__":
    main()
