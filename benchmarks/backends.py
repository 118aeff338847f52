"""Compare the backends and precisions of `stadia predict` on one network: frames a second, difference, AbsRel.

    python benchmarks/backends.py NETWORK INPUT [--focal-px F] [--size WxH] [--repeats 5] [--frames 48]
        [--choices openvino:float32 ...] [--data DATA --protocol metric --every 1] [--json FILE]

NETWORK is what `stadia predict` takes: a run, a checkpoint, or a name such as `base`. INPUT is a video or a folder of
images. Rows are `torch float32`, then each installed backend in each precision. Two
figures each, interleaved in rounds:

    network   the depth network on four images at once
    maps      depth as npz, 16-bit PNG and colors, as `stadia predict` writes them, without a path

Printed are frames a second (median) with the ratio to `torch float32` of the same round (median, smallest, largest),
and the median relative difference of inverse depth from torch. With
--data, the score of each row on recordings with ground truth.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from stadia.core.errors import ConfigError
from stadia.core.types import Camera, Predictor
from stadia.data.frame_preparation import PreparedFrame
from stadia.data.open_dataset import open_recordings
from stadia.evaluation.plots.videos import depth_color_writer
from stadia.evaluation.predictions_folder import Provenance
from stadia.evaluation.protocols import find_protocol
from stadia.predict.backends import BACKENDS, BackendChoice, check_backend, median_relative_difference
from stadia.predict.evaluate_recordings import evaluate_recordings
from stadia.predict.inputs import open_inputs
from stadia.predict.options import parse_size
from stadia.predict.predict_frames import predict_to_folder
from stadia.training.prediction.backend_predictor import open_backend
from stadia.training.recipes.base.build_recipe import load_predictor, open_network_checkpoint

BATCH, PASSES = 4, 12


def list_choices() -> list[BackendChoice]:
    """Return every backend in every precision that runs here."""
    choices = []
    for backend in BACKENDS:
        for precision in BACKENDS.load(backend).precisions:
            try:
                check_backend(choice := BackendChoice(backend, precision))
            except ConfigError as error:
                print(f"left out: {error}")
            else:
                choices.append(choice)
    return choices


def measure_rate(work: Callable[[], object], frames: int) -> float:
    start = time.perf_counter()
    work()
    return frames / (time.perf_counter() - start)


def describe_ratios(rates: list[float], others: list[float]) -> str:
    ratios = [one / other for one, other in zip(rates, others, strict=True)]
    return f"{statistics.median(ratios):5.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("network")
    parser.add_argument("input", type=Path)
    parser.add_argument("--focal-px", type=float, default=707.0)
    parser.add_argument("--size")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--choices", nargs="+", help="of backend:precision beside torch:float32; all by default")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--protocol", default="metric")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    size = None if arguments.size is None else parse_size(arguments.size)
    open_frames = partial(open_inputs, arguments.input, camera={"focal_px": arguments.focal_px}, stride=1)
    checkpoint = open_network_checkpoint(
        arguments.network, lambda: size or next(iter(open_frames()[0].frames)).image.shape[:2]
    )
    provenance = Provenance(recipe=checkpoint.header.recipe, config_hash=arguments.network)
    frames = [replace(frame, on_path=False) for frame in islice(open_frames()[0].frames, arguments.frames)]
    rows: dict[str, Predictor] = {}
    wanted = arguments.choices and {"torch:float32", *arguments.choices}
    for choice in list_choices():
        if wanted and f"{choice.backend}:{choice.precision}" not in wanted:
            continue
        predictor, start = load_predictor(checkpoint, size), time.perf_counter()
        if not choice.is_default:
            predictor = open_backend(checkpoint, predictor, choice, open_frames)
            print(f"{choice.backend} {choice.precision}: opened in {time.perf_counter() - start:.1f} s")
        rows[f"{choice.backend} {choice.precision}"] = predictor
    prepared = [PreparedFrame.prepare(predictor, frame) for frame in frames]
    images = np.stack([shown.image for shown in prepared[:BATCH]])
    K = np.stack([shown.K for shown in prepared[:BATCH]])

    def run_network(predictor: Predictor) -> None:
        for _ in range(PASSES):
            predictor.inverse_depth(images, Camera(K, predictor.height, predictor.width))

    def write_maps(predictor: Predictor) -> None:
        folder = Path(tempfile.mkdtemp())
        listeners = [depth_color_writer(folder / "out" / "depth_color")]
        predict_to_folder(predictor, iter(frames), folder / "out", provenance, source="frames", listeners=listeners)
        shutil.rmtree(folder)

    rates: dict[str, dict[str, list[float]]] = {"network": {}, "maps": {}}
    for number in range(arguments.repeats + 1):
        for name, predictor in rows.items():
            of_round = measure_rate(partial(run_network, predictor), BATCH * PASSES)
            of_maps = measure_rate(partial(write_maps, predictor), len(frames))
            if number:  # the first round prepares
                rates["network"].setdefault(name, []).append(of_round)
                rates["maps"].setdefault(name, []).append(of_maps)
    expected = rows["torch float32"].inverse_depth(images, Camera(K, predictor.height, predictor.width))
    result: dict[str, Any] = {"rates": rates, "difference": {}, "scores": {}}
    for name, predictor in rows.items():
        found = predictor.inverse_depth(images, Camera(K, predictor.height, predictor.width))
        result["difference"][name] = median_relative_difference(found, expected)
        line = f"{name:20} differs by {result['difference'][name]:.2e}"
        for what, of_rows in rates.items():
            line += f" | {what} {statistics.median(of_rows[name]):6.1f}/s,"
            line += f" over torch {describe_ratios(of_rows[name], of_rows['torch float32'])}"
        if arguments.data is not None:
            recordings = open_recordings(arguments.data)
            indices = {one.name: range(0, len(one), arguments.every) for one in recordings}
            with tempfile.TemporaryDirectory() as folder:
                protocol, out = find_protocol(arguments.protocol), Path(folder) / "out"
                scores = evaluate_recordings(predictor, recordings, protocol, out, provenance, indices=indices)
            assert scores.depth is not None
            result["scores"][name] = scores.depth.metrics
            over = scores.depth.metrics["abs_rel"] / result["scores"]["torch float32"]["abs_rel"] - 1
            line += f" | AbsRel {scores.depth.metrics['abs_rel']:.4f} ({over:+.2%})"
        print(line, flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
