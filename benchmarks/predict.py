"""Compare `stadia predict` with a plain PyTorch loop over the same network that reads and writes the same files.

    python benchmarks/predict.py CHECKPOINT VIDEO [--focal-px F] [--repeats 3] [--frames 51] [--json FILE]
        [--choices torch:bf16 openvino:float32 ...]

The loop decodes, resizes, runs the depth network, and writes depth as npz and 16-bit PNG and in colors as JPEG, frame
after frame, with the same libraries. It has no checks, no path, no record, and does not sync its files. Ours:

    maps      the same files, by the same functions that `stadia predict` calls, without a path
    network   also the path by the pose network (--motion network --no-video --no-cloud)
    all       all outputs: video, point cloud, and the path by image alignment

With --choices the last three also run by other backends, and in other precisions, of the same network.

Rounds are interleaved. Printed are frames a second (median) and ratios to the loop (median, smallest, largest). Imports
and the first round, which prepares the operators, are not counted.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from stadia.core.types import Camera, Predictor
from stadia.data.frame_preparation import Frame
from stadia.evaluation.plots.videos import depth_color_writer
from stadia.evaluation.predictions_folder import Provenance
from stadia.geometry.cameras import resize_K
from stadia.io.video_decoding import stream_video
from stadia.predict.backends import BackendChoice
from stadia.predict.inputs import PredictionInput
from stadia.predict.network import Network
from stadia.predict.options import PredictOptions
from stadia.predict.predict_frames import predict_to_folder
from stadia.predict.run import Session
from stadia.training.loop.checkpoint import Checkpoint, open_checkpoint
from stadia.training.prediction.backend_predictor import open_backend
from stadia.training.recipes.base.build_recipe import load_predictor


def read(video: Path, K: np.ndarray, count: int) -> Iterable[Frame]:
    """Yield the frames of a video."""
    for decoded in itertools.islice(stream_video(video), count):
        yield Frame(f"{decoded.index:06d}", decoded.image, K, decoded.time_s)


def run_plain_loop(predictor: Predictor, frames: Iterable[Frame], out: Path) -> None:
    """Predict as one would without a library."""
    (out / "depth").mkdir(parents=True)
    (out / "depth_color").mkdir()
    for frame in frames:
        small = cv2.resize(frame.image, (predictor.width, predictor.height), interpolation=cv2.INTER_AREA)
        image = small.transpose(2, 0, 1)[None].astype(np.float32) / 255
        K = resize_K(frame.K, frame.image.shape[:2], predictor.height, predictor.width)
        inverse_depth = predictor.inverse_depth(image, Camera(K, predictor.height, predictor.width))[0, 0]
        np.savez(out / "depth" / f"{frame.name}.npz", depth=1 / inverse_depth, K=frame.K)
        size = frame.image.shape[1::-1]
        full = cv2.resize(inverse_depth, size, interpolation=cv2.INTER_LINEAR)
        png = np.clip(np.rint(256 / full), 1, 65535).astype(np.uint16)
        cv2.imwrite(str(out / "depth" / f"{frame.name}.png"), png)
        gray = (np.clip(full / np.percentile(inverse_depth, 95), 0, 1) * 255).astype(np.uint8)
        colors = cv2.applyColorMap(gray, cv2.COLORMAP_MAGMA)
        cv2.imwrite(str(out / "depth_color" / f"{frame.name}.jpg"), colors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("video", type=Path)
    parser.add_argument("--focal-px", type=float, default=707.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--frames", type=int, default=51)
    parser.add_argument("--choices", nargs="*", default=[])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    predictor = load_predictor(arguments.checkpoint)
    first = next(iter(stream_video(arguments.video)))
    height, width = first.image.shape[:2]
    focal = arguments.focal_px
    K = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
    made_by = Provenance.from_checkpoint(open_checkpoint(arguments.checkpoint), "network")
    network = Network(str(arguments.checkpoint), Checkpoint.open(arguments.checkpoint))

    def frames() -> Iterable[Frame]:
        return read(arguments.video, K, arguments.frames)

    def given() -> PredictionInput:
        return PredictionInput("video", frames(), arguments.frames, 10.0)

    def write_maps(own: Predictor, out: Path) -> None:
        off_path = (replace(frame, on_path=False) for frame in frames())
        listeners = [depth_color_writer(out / "depth_color")]
        predict_to_folder(own, off_path, out, made_by, source="video", listeners=listeners)

    def write_path(own: Predictor, out: Path) -> None:
        Session(network, given(), PredictOptions(motion="network", video=False, cloud=False), own).write(out)

    def write_all(own: Predictor, out: Path) -> None:
        Session(network, given(), PredictOptions(motion="aligned"), own).write(out)

    runs: dict[str, Callable[[Path], object]] = {"loop": lambda out: run_plain_loop(predictor, frames(), out)}
    predictors: dict[str, Predictor] = {"": predictor}
    for name in arguments.choices:
        checkpoint = Checkpoint.open(arguments.checkpoint)
        loaded = load_predictor(checkpoint)
        choice = BackendChoice(*name.split(":"))
        predictors[f" {name}"] = open_backend(checkpoint, loaded, choice, lambda: [given()])
    for name, own in predictors.items():
        for what, write in (("maps", write_maps), ("network", write_path), ("all", write_all)):
            runs[what + name] = partial(write, own)
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(arguments.repeats + 1):
        for name, run in runs.items():
            folder = Path(tempfile.mkdtemp())
            start = time.perf_counter()
            run(folder / "out")
            if number:  # the first round prepares
                rates[name].append(arguments.frames / (time.perf_counter() - start))
            shutil.rmtree(folder)
    for name, found in rates.items():
        ratios = [own / loop for own, loop in zip(found, rates["loop"], strict=True)]
        spread = f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"{name:18} {statistics.median(found):6.1f} frames/s  {spread}")
    if arguments.json:
        arguments.json.write_text(json.dumps(rates, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
