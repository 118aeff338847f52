"""Judge depths of known truth on videos with a map: python benchmarks/verdicts.py FOLDER [--worlds WORLDS].

FOLDER keeps links to the real samples (STADIA_REAL_DATA, ../shared/data) and their maps (`stadia map`), which are made
where they are missing. WORLDS is a folder of `stadia data roadworld`: each world is a scene. Each scene has its true
depth, and that depth broken in one way: a ramp that is the same for all images, inverted, tilted from left to right,
near objects as far as the sky, sky as near as the foreground, flat. Right depth must be usable, and no other.
"""

# mypy: disable-error-code="misc, var-annotated"

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from harness import REAL_DATA
from map import Clip, from_recording

from stadia.core.types import DepthScale, Recording
from stadia.data.config import CameraConfig
from stadia.data.frame_preparation import Frame
from stadia.data.open_dataset import open_recordings
from stadia.data.video.video_map import find_map_folder, find_map_geometry
from stadia.judge.depth import TrainingRecord
from stadia.predict.verdict import PredictionGate
from stadia.scale.sources import match_pair_depth
from stadia.sfm.map_video import map_video

FRAMES = 10
FAR = 80.0
WIDTH = 320  # of the maps that are judged
RECORD = TrainingRecord(steps=5000, warped_over_unwarped=0.4, auto_masked=0.2)
Break = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass
class SceneFrame:
    """A frame with true depth (h, w) and the images after it."""

    name: str
    image: np.ndarray
    K: np.ndarray
    depth: np.ndarray
    following: Sequence[np.ndarray]

    def skipped(self) -> list[Frame]:
        return [Frame(f"{self.name}+{n}", image, self.K) for n, image in enumerate(self.following)]


@dataclass
class Scene:
    """source: the images with a map beside them."""

    name: str
    source: Path
    frames: Sequence[SceneFrame]


def fill(depth: np.ndarray, *, far_above: bool) -> np.ndarray:
    """Return depth without gaps: the nearest known value of the column, or far above the highest one."""
    small = cv2.resize(depth, (WIDTH, round(WIDTH * depth.shape[0] / depth.shape[1])), interpolation=cv2.INTER_NEAREST)
    known = (small > 0.3) & (small < FAR)
    holes = (~known).astype(np.uint8)
    _, labels = cv2.distanceTransformWithLabels(holes, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    value_of = np.zeros(labels.max() + 1, np.float32)
    value_of[labels[known]] = small[known]
    filled = value_of[labels]
    if far_above:
        top = np.argmax(known, axis=0)
        top = cv2.blur(top.astype(np.float32)[None], (9, 1))[0]
        filled[np.arange(len(filled))[:, None] < top[None] - 8] = FAR
    return np.maximum(filled, 0.3)


def ramp(depth: np.ndarray, sky: np.ndarray) -> np.ndarray:
    rows = np.linspace(np.log(np.quantile(depth, 0.98)), np.log(np.quantile(depth, 0.02)), len(depth))
    return np.repeat(np.exp(rows)[:, None], depth.shape[1], 1)


def tilt(depth: np.ndarray, sky: np.ndarray) -> np.ndarray:
    return depth * np.exp(np.linspace(0, np.log(4), depth.shape[1]))[None]


def put_near_far(depth: np.ndarray, sky: np.ndarray) -> np.ndarray:
    """Put a car's part of the foreground, a sixth of the width, as far as anything."""
    broken, (rows, columns) = depth.copy(), depth.shape
    broken[int(0.62 * rows) : int(0.8 * rows), int(0.42 * columns) : int(0.58 * columns)] = depth.max()
    return broken


def pull_sky(depth: np.ndarray, sky: np.ndarray) -> np.ndarray:
    return np.where(sky, np.quantile(depth[-len(depth) // 5 :], 0.3), depth)


KINDS: dict[str, Break] = {
    "right": lambda depth, sky: depth,
    "right, other unit": lambda depth, sky: 0.07 * depth,
    "ramp": ramp,
    "inverted": lambda depth, sky: depth.min() * depth.max() / depth,
    "tilted": tilt,
    "near objects at infinity": put_near_far,
    "near sky": pull_sky,
    "flat": lambda depth, sky: np.full_like(depth, 8.0),
}


def real_scenes(folder: Path) -> Iterator[Scene]:
    (kitti06,) = open_recordings(REAL_DATA / "kitti_odometry", "kitti_odometry")
    yield make_scene("kitti06", kitti06, folder, by_stereo)
    (raw,) = open_recordings(REAL_DATA / "kitti_raw", "kitti_raw")
    yield make_scene("kitti raw", raw, folder, by_file)
    (kitchen,) = open_recordings(REAL_DATA / "sevenscenes" / "kitchen", "sevenscenes")
    yield make_scene("kitchen", kitchen, folder, by_file, is_inside=True)


def by_stereo(recording: Recording, index: int) -> np.ndarray | None:
    assert recording.T_right_left is not None
    images = recording.image(index), recording.image(index, "right")
    return match_pair_depth(*images, recording.K(index), recording.T_right_left).astype(np.float32)


def by_file(recording: Recording, index: int) -> np.ndarray | None:
    depth_m = recording.depth_m(index)
    return None if depth_m is None or not (depth_m > 0).any() else depth_m


def make_scene(
    name: str,
    recording: Recording,
    folder: Path,
    read_depth: Callable[[Recording, int], np.ndarray | None],
    *,
    is_inside: bool = False,
) -> Scene:
    source = folder / name.replace(" ", "-")
    if not source.exists():
        clip: Clip = from_recording(source.name, recording)
        clip.source.rename(source)
    if not find_map_folder(source).exists():
        map_video(source, camera=CameraConfig(K=recording.K(0).tolist()))
    frames = []
    for index in np.unique(np.linspace(0, len(recording) - 1, 2 * FRAMES).astype(int)).tolist():
        depth = read_depth(recording, index)
        if depth is not None and len(frames) < FRAMES:
            following = tuple(recording.image(later) for later in range(index + 1, min(index + 4, len(recording))))
            filled = fill(depth, far_above=not is_inside)
            frames.append(SceneFrame(f"{index:06d}", recording.image(index), recording.K(index), filled, following))
    return Scene(name, source, frames)


def judge(scene: Scene, kind: str) -> dict[str, object]:
    gate = PredictionGate(DepthScale.UP_TO_SCALE, RECORD, mapped=find_map_geometry(scene.source, skip_damaged=True))
    for shown in scene.frames:
        broken = KINDS[kind](shown.depth, shown.depth >= FAR - 1).astype(np.float32)
        frame = Frame(shown.name, shown.image, shown.K, frames_since=None, skipped=shown.skipped)
        gate.take(frame, lambda broken=broken: 1 / broken)
    judged = gate.judge()
    is_right = kind.startswith("right")
    row: dict[str, object] = {"scene": scene.name, "kind": kind, "verdict": str(judged.verdict)}
    row["codes"] = [f"{finding.severity} {finding.code}" for finding in judged.findings]
    row["judged_right"] = (judged.verdict == "usable") == is_right
    measured = judged.measured.mapped if judged.measured else None
    if measured is not None:
        names = ("error", "correlation", "row_error", "side_ratio", "range_ratio", "road_error", "behind_road")
        row |= {key: None if (value := getattr(measured, key)) is None else round(value, 3) for key in names}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--worlds", type=Path)
    parser.add_argument("--count", type=int, default=6, help="worlds")
    parser.add_argument("--only", nargs="*")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    scenes = list(real_scenes(options.folder))
    if options.worlds is not None:
        for recording in open_recordings(options.worlds, "stadia")[: options.count]:
            scenes.append(make_scene(recording.name.replace("/", "-"), recording, options.folder, by_file))
    rows = []
    for scene in scenes:
        for kind in KINDS:
            has_sky = np.mean([(frame.depth >= FAR - 1).mean() for frame in scene.frames]) > 0.04
            if (kind == "near sky" and not has_sky) or (options.only and scene.name not in options.only):
                continue
            rows.append(judge(scene, kind))
            print(json.dumps(rows[-1]), flush=True)
    print(f"{sum(bool(row['judged_right']) for row in rows)} of {len(rows)} judged right")


if __name__ == "__main__":
    main()
