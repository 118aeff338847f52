"""What programs of benchmarks/ and experiments/ share: arguments, worlds, commands, timing, tables, results.

A program of experiments/ adds benchmarks/ to `sys.path` before it imports this file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.types import LEFT, RIGHT, Recording
from stadia.geometry.conventions import OPENGL

ROOT = Path(__file__).parents[1]
REAL_DATA = Path(os.environ.get("STADIA_REAL_DATA", ROOT.parent / "shared" / "data"))
"""Folder of the real samples."""

Row = Mapping[str, object]


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser that prints the docstring of a program as it is written."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


# -- Networks -----------------------------------------------------------------------------------------

TINY_NETWORK = (
    "model.network.encoder=mobilenetv3_small_100",
    "model.pose_net=resnet",
    "model.pretrained=false",
    "model.network.init_depth_m=12",
    "model.network.decoder_channels=8,16,24,32,64",
    "model.network.scales=1",
)
"""Settings of a small network at random weights, which learns RoadWorld in a few hundred steps."""


def make_selfsup(encoder: str, height: int, width: int, *settings: str) -> Any:
    """Return the recipe `selfsup` for stereo pairs at random weights, the same for every call."""
    import torch

    from stadia.training import recipes
    from stadia.training.recipes.selfsup.config import SelfsupConfig
    from stadia.training.recipes.selfsup.recipe import SelfsupRecipe

    torch.manual_seed(0)
    words = [f"model.network.encoder={encoder}", "model.pose_net=resnet", f"model.pose_encoder={encoder}"]
    words += ["model.pretrained=false", f"data.height={height}", f"data.width={width}", "data.stereo=true", *settings]
    config = recipes.configure("selfsup", words, data={"path": "made-up"})
    assert isinstance(config, SelfsupConfig)
    return SelfsupRecipe(config)


# -- Worlds ---------------------------------------------------------------------------------------


def make_roadworld(folder: Path, *, frames: int = 5) -> Path:
    """Render a small RoadWorld in a folder, and return the folder of its recordings."""
    from stadia.synthetic.config import ROADWORLD_TINY
    from stadia.synthetic.roadworld.roadworld_writer import write_roadworld

    config = ROADWORLD_TINY.model_copy(update={"frames": frames})
    return write_roadworld(config, folder / "world", workers=1).parent


class TexturedRoom:
    """A back wall 12 m ahead, a wall on the left and a floor, filmed on an arc by a camera that turns.

    height, width: size of the images in pixels.  seed: draws the textures.
    """

    def __init__(self, height: int, width: int, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        focal_px = 0.94 * width
        self.size = (width, height)
        self.K = np.array([[focal_px, 0, (width - 1) / 2], [0, focal_px, (height - 1) / 2], [0, 0, 1]])
        self.walls = []
        for corner, across, down in (
            ((-6, -3, 12), (12, 0, 0), (0, 6, 0)),
            ((-6, -3, 0), (0, 0, 12), (0, 6, 0)),
            ((-6, 3, 0), (12, 0, 0), (0, 0, 12)),
        ):
            noise = random.integers(0, 255, (30, 60), np.uint8)
            texture = cv2.resize(noise, (960, 480), interpolation=cv2.INTER_CUBIC)
            self.walls.append((np.array([corner, across, down], float), texture))

    def find_pose(self, share: float) -> NDArray[np.float64]:
        """Return T_camera_world (4, 4) after a share of the arc, from 0 to 1."""
        angle = np.radians(40 * share - 20)
        T = np.eye(4)
        T[:3, :3] = cv2.Rodrigues(np.array([0, angle / 2, 0]))[0]
        T[:3, 3] = -T[:3, :3] @ [2.5 * np.sin(angle), 0.3 * np.sin(3 * angle), 3.0 + 1.2 * share]
        return T

    def draw(self, T: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Return the image (height, width) of a camera at T = T_camera_world (4, 4)."""
        width, height = self.size
        image = np.zeros((height, width), np.uint8)
        y, x = np.mgrid[:height, :width]
        for (corner, across, down), texture in self.walls:
            H = self.K @ np.column_stack(
                (T[:3, :3] @ across / 960, T[:3, :3] @ down / 480, T[:3, :3] @ corner + T[:3, 3])
            )
            shown = cv2.warpPerspective(texture, H, (width, height), flags=cv2.INTER_AREA)
            rays = np.stack((x, y, np.ones_like(x)), -1).reshape(-1, 3) @ np.linalg.inv(H).T
            inside = (rays[:, 2] > 0) & (rays[:, 0] > 0) & (rays[:, 1] > 0)
            inside &= (rays[:, 0] < 960 * rays[:, 2]) & (rays[:, 1] < 480 * rays[:, 2])
            image[inside.reshape(height, width)] = shown[inside.reshape(height, width)]
        return image


def write_transforms(
    path: Path,
    names: Sequence[str],
    T: NDArray[np.float64],
    K: NDArray[np.float64],
    size: tuple[int, int],
    lens: Sequence[float] = (0, 0, 0, 0),
) -> None:
    """Write a transforms.json of nerfstudio.

    Args:
        path: The file.
        names: Path of each image.
        T: T_camera_world (N, 4, 4).
        K: (3, 3) in pixels.
        size: Width and height of the images.
        lens: k1, k2, p1, p2 of OpenCV.

    """
    content: dict[str, object] = {"camera_model": "OPENCV", "w": size[0], "h": size[1]}
    content |= {"fl_x": K[0, 0], "fl_y": K[1, 1], "cx": K[0, 2] + 0.5, "cy": K[1, 2] + 0.5}
    content |= dict(zip(("k1", "k2", "p1", "p2"), map(float, lens), strict=True))
    poses = np.linalg.inv(T) @ OPENGL.T_axes_camera
    frames = [{"file_path": name, "transform_matrix": pose.tolist()} for name, pose in zip(names, poses, strict=True)]
    path.write_text(json.dumps({**content, "frames": frames}))


# -- Depth of real pairs --------------------------------------------------------------------------

NEARER_THAN_M = 50.0
"""Depth of a matcher is compared up to here: farther, a quarter of a pixel changes it by more than 5 % on KITTI."""


def match_semi_globally(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the disparity (H, W) in pixels of an RGB pair, 0 where OpenCV's matcher is not confident."""
    matcher = cv2.StereoSGBM.create(
        minDisparity=0,
        numDisparities=128,
        blockSize=5,
        P1=8 * 25,
        P2=32 * 25,
        disp12MaxDiff=1,
        uniquenessRatio=15,
        speckleWindowSize=100,
        speckleRange=2,
        mode=cv2.STEREO_SGBM_MODE_HH,
    )
    gray = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (left, right)]
    disparity_px = matcher.compute(*gray).astype(np.float64) / 16
    return np.where(disparity_px > 0.5, disparity_px, 0)


def find_depth(recording: Recording, index: int) -> NDArray[np.floating]:
    """Return the true depth (H, W) in metres where there is one, else that of the matcher; 0 where unknown or far."""
    depth_m: NDArray[np.floating] | None = recording.depth_m(index)
    if depth_m is None:
        assert recording.T_right_left is not None
        disparity_px = match_semi_globally(recording.image(index, LEFT), recording.image(index, RIGHT))
        baseline_m = -float(recording.T_right_left[0, 3])
        matched_m = float(recording.camera(index).fx) * baseline_m / np.maximum(disparity_px, 1e-6)
        depth_m = np.where(disparity_px > 0, matched_m, 0)
    return np.where(depth_m < NEARER_THAN_M, depth_m, 0)


# -- Commands and timing --------------------------------------------------------------------------


@dataclass(frozen=True)
class CommandRun:
    """What a command took, and what it printed."""

    seconds: float
    cpu_s: float
    """Seconds of all its processes on a core, which other load hardly changes."""
    peak_gb: float
    """Largest memory of one process of the command."""
    output: str
    errors: str = ""
    """What it wrote to standard error."""
    exit_code: int = 0
    """Its exit code, or the negative number of the signal that ended it."""


def measure_command(*words: object, limit_s: float | None = None, environment: Mapping[str, str] = {}) -> CommandRun:
    """Run a command to its end, whatever its exit code, and measure it.

    Args:
        words: The command and its arguments.
        limit_s: Seconds after which the command is killed; None for no limit.
        environment: Variables that are added to the environment.

    """
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [str(word) for word in words],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, **environment},
        )
        assert process.stdout is not None
        timer = None if limit_s is None else threading.Timer(limit_s, process.kill)
        if timer is not None:
            timer.start()
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if timer is not None:
            timer.cancel()
        errors.seek(0)
        return CommandRun(
            seconds=time.perf_counter() - start,
            cpu_s=usage.ru_utime + usage.ru_stime,
            peak_gb=usage.ru_maxrss * 1024 / 1e9,
            output=output,
            errors=errors.read(),
            exit_code=process.returncode,
        )


def run_command(*words: object, **environment: str) -> CommandRun:
    """Run a command, and measure it.

    Raises:
        RuntimeError: The command fails. The message has its output.

    """
    run = measure_command(*words, environment=environment)
    if run.exit_code:
        line = " ".join(str(word) for word in words)
        raise RuntimeError(f"{line} ended with {run.exit_code}:\n{run.output}{run.errors}")
    return run


def time_calls(*calls: Callable[[], object], rounds: int = 5) -> list[float]:
    """Return the median seconds of each call. The calls take turns, so that other load meets all of them."""
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for taken, call in zip(seconds, calls, strict=True):
            start = time.perf_counter()
            call()
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in seconds]


# -- Results --------------------------------------------------------------------------------------


def print_table(rows: Sequence[Row]) -> None:
    """Print rows with the same fields in columns."""
    if not rows:
        return
    lines = [list(rows[0]), *([_format(row[name]) for name in rows[0]] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _format(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def write_results(path: Path, rows: Sequence[Row], **about: Any) -> None:
    """Write rows as JSON, with the command line and the machine that made them."""
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
    machine = {"cores": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()}
    content = {"command": command, "machine": machine, **about, "rows": [dict(row) for row in rows]}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
