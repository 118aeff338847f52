"""Compare `stadia predict` with a plain PyTorch loop over the same network that reads and writes the same files.

    python benchmarks/predict.py CHECKPOINT VIDEO [--focal-px F] [--repeats 3] [--frames 51] [--json FILE]
        [--choices torch:bf16 openvino:float32 ...] [--shares]

The loop decodes, resizes, runs the depth network, and writes depth as npz and 16-bit PNG and in colors as JPEG, frame
after frame, with the same libraries. It has no checks, no path, no record, and does not sync its files. A second loop
also encodes the video of image and depth, writes a point cloud, and estimates the path by tracked corners and their
depth (Lucas-Kanade, PnP with RANSAC), as one would with OpenCV. Ours:

    maps      the same files, by the same functions that `stadia predict` calls, without a path
    network   also the path by the pose network (--motion network --no-video --no-cloud)
    all       all outputs: video, point cloud, and the path by image alignment

With --choices the last three also run by other backends, and in other precisions, of the same network. With --shares,
`all` also runs without the video, without the cloud and with the path of the pose network, which shows what each costs.

Rounds are interleaved. Printed are frames a second (median) and ratios to the loop and to the loop that writes all
(median, smallest, largest). Imports and the first round, which prepares the operators, are not counted.
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
from typing import Any

import av
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
        write_maps_plainly(predictor, frame, out)


def write_maps_plainly(predictor: Predictor, frame: Frame, out: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predict and write one frame; return its image and depth at the network's size, and the depth in colors (BGR)."""
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
    return small, 1 / inverse_depth, colors


class PlainPath:
    """Estimates a path by tracked corners and their predicted depth."""

    def __init__(self, K: np.ndarray) -> None:
        self.K, self.T_world_camera = K, np.eye(4)
        self.last: tuple[np.ndarray, np.ndarray] | None = None

    def move(self, image: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Return T_world_camera of the next image, (4, 4), which has the same size as its depth (H, W)."""
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        if self.last is not None:
            before, depth_before = self.last
            corners = cv2.goodFeaturesToTrack(before, 1000, 0.01, 7)
            moved, is_found, _ = cv2.calcOpticalFlowPyrLK(before, gray, corners, None)
            is_found = is_found[:, 0] == 1
            pixels, moved = corners[is_found, 0], moved[is_found, 0]
            columns, rows = pixels.astype(int).T
            rays = np.c_[pixels, np.ones(len(pixels))] @ np.linalg.inv(self.K).T
            points = rays * depth_before[rows, columns, None]
            done, turn, shift, _ = cv2.solvePnPRansac(points, moved, self.K, None)
            if done:
                T_camera_before = np.eye(4)
                T_camera_before[:3, :3], T_camera_before[:3, 3] = cv2.Rodrigues(turn)[0], shift[:, 0]
                self.T_world_camera = self.T_world_camera @ np.linalg.inv(T_camera_before)
        self.last = gray, depth
        return self.T_world_camera


def run_plain_loop_with_all(predictor: Predictor, frames: Iterable[Frame], out: Path, rate_hz: int) -> None:
    """Predict as one would without a library, and write video, point cloud and path too."""
    (out / "depth").mkdir(parents=True)
    (out / "depth_color").mkdir()
    path: PlainPath | None = None
    poses, vertices = list[np.ndarray](), list[bytes]()
    with av.open(str(out / "video.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=rate_hz, options={"crf": "20", "preset": "ultrafast"})
        for frame in frames:
            small, depth, shown = write_maps_plainly(predictor, frame, out)
            half = shown.shape[1] // 2 * 2, shown.shape[0] // 2 * 2
            if not poses:
                stream.width, stream.height = 2 * half[0], half[1]
            pair = np.hstack([cv2.resize(frame.image, half), cv2.resize(shown, half)[..., ::-1]])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pair), "rgb24")))
            K = resize_K(frame.K, frame.image.shape[:2], *depth.shape)
            path = path or PlainPath(K)
            T_world_camera = path.move(small, depth)
            poses.append(T_world_camera[:3].ravel())
            rows, columns = np.indices(depth.shape)
            rays = np.stack([columns, rows, np.ones(depth.shape)], -1).reshape(-1, 3) @ np.linalg.inv(K).T
            points = (rays * depth.reshape(-1, 1)) @ T_world_camera[:3, :3].T + T_world_camera[:3, 3]
            written = np.empty(len(points), [("position", "<f4", 3), ("color", "u1", 3)])
            written["position"], written["color"] = points, small.reshape(-1, 3)
            vertices.append(written[::20].tobytes())
        container.mux(stream.encode())
    np.savetxt(out / "trajectory.txt", poses)
    names = "".join(f"property float {name}\n" for name in "xyz")
    names += "".join(f"property uchar {name}\n" for name in ("red", "green", "blue"))
    count = sum(map(len, vertices)) // 15
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {count}\n{names}end_header\n"
    (out / "cloud.ply").write_bytes(header.encode() + b"".join(vertices))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("video", type=Path)
    parser.add_argument("--focal-px", type=float, default=707.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--frames", type=int, default=51)
    parser.add_argument("--choices", nargs="*", default=[])
    parser.add_argument("--shares", action="store_true")
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

    def write_all(own: Predictor, out: Path, **left_out: Any) -> None:
        options = replace(PredictOptions(motion="aligned"), **left_out)
        Session(network, given(), options, own).write(out)

    runs: dict[str, Callable[[Path], object]] = {
        "loop": lambda out: run_plain_loop(predictor, frames(), out),
        "loop, all": lambda out: run_plain_loop_with_all(predictor, frames(), out, 10),
    }
    predictors: dict[str, Predictor] = {"": predictor}
    for name in arguments.choices:
        checkpoint = Checkpoint.open(arguments.checkpoint)
        loaded = load_predictor(checkpoint)
        choice = BackendChoice(*name.split(":"))
        predictors[f" {name}"] = open_backend(checkpoint, loaded, choice, lambda: [given()])
    for name, own in predictors.items():
        for what, write in (("maps", write_maps), ("network", write_path), ("all", write_all)):
            runs[what + name] = partial(write, own)
    if arguments.shares:
        for without in ({"video": False}, {"cloud": False}, {"motion": "network"}):
            runs[f"all, {next(iter(without))}"] = partial(write_all, predictor, **without)
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
        line = f"{name:18} {statistics.median(found):6.1f} frames/s"
        for loop in ("loop", "loop, all"):
            ratios = [own / of_loop for own, of_loop in zip(found, rates[loop], strict=True)]
            line += f"  to {loop}: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(line)
    if arguments.json:
        arguments.json.write_text(json.dumps(rates, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
