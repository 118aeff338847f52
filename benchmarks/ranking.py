"""Prove that `stadia compare` ranks depth as ground truth does: Kendall's tau on real recordings with truth.

    python benchmarks/ranking.py --folder FOLDER [--only kitti06 walk1]

Nineteen candidates, made of `base` and both METER: constant, blurred, shifted, mirrored, leaning and so on. Each
recording is mapped with its camera (`stadia map`, a minute each) and predicted into FOLDER once. Printed, a line each:
Kendall's tau between the error at the map and AbsRel by medians, the winner, how much its AbsRel is above the best one,
and the candidates that noise does not tell apart. Real samples are in STADIA_REAL_DATA (../shared/data).
"""

# mypy: disable-error-code="arg-type"

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from harness import REAL_DATA, make_parser
from scipy.stats import kendalltau

from stadia.core.errors import StadiaError
from stadia.core.types import RIGHT, Camera
from stadia.data.config import CacheConfig, CameraConfig
from stadia.data.frame_preparation import Frame, PreparedFrame
from stadia.data.open_dataset import open_recordings
from stadia.data.video.video_map import find_map
from stadia.geometry.cameras import resize_K
from stadia.predict.inputs import open_inputs
from stadia.predict.predict_frames import predict_maps
from stadia.predict.ranking import Candidate, View, rank_candidates
from stadia.scale.sources import match_pair_depth
from stadia.sfm.map_video import map_video
from stadia.training.recipes import load_predictor
from stadia.training.recipes.base.build_recipe import open_network_checkpoint

SETS = {
    "kitti06": ("kitti_odometry", "kitti_odometry"),
    "raw": ("kitti_raw", "kitti_raw"),
    "kitchen": ("sevenscenes/kitchen", "sevenscenes"),
}
PARTS = {"kitti06": 1, "raw": 1, "kitchen": 2, "walk1": 2, "walk2": 1}
"""Recordings, and the parts into which their frames are divided: each is ranked alone."""

EVERY = {"kitti06": 3, "raw": 3}  # other recordings: 4, as the walk's depth
START = {"walk2": 3}  # its first frame with depth
FARTHEST_M = 80.0
MIN_TRUTHS = 100


def list_sources(folder: Path) -> Iterator[tuple[str, Path, np.ndarray, Callable[[str, int], Any]]]:
    """Yield name, folder of images, K, and what reads the true depth of a frame by name and number."""
    for name, (place, format) in SETS.items():
        (recording,) = open_recordings(REAL_DATA / place, format)

        def read(stem: str, index: int, recording: Any = recording, is_stereo: bool = name == "kitti06") -> Any:
            if not is_stereo:
                return recording.depth_m(index)
            pair = recording.image(index), recording.image(index, RIGHT)
            return match_pair_depth(*pair, recording.K(index), recording.T_right_left)

        yield name, link(folder / name, [recording.file(i) for i in range(len(recording))]), recording.K(0), read
    images, K = sorted((REAL_DATA / "walk" / "images").iterdir()), np.loadtxt(REAL_DATA / "walk" / "K.txt")

    def read_walk(stem: str, index: int) -> Any:
        file = REAL_DATA / "walk" / "depth" / f"{stem}.png"
        return np.asarray(cv2.imread(str(file), cv2.IMREAD_UNCHANGED)) / 1000.0 if file.exists() else None

    for name, part in (("walk1", images[:93]), ("walk2", images[93:])):
        yield name, link(folder / name, part), K, read_walk


def link(folder: Path, files: list[Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        if not (folder / file.name).exists():
            (folder / file.name).symlink_to(Path(file).resolve())
    return folder


def predict(cache: Path, frames: list[Frame]) -> Mapping[str, np.ndarray]:
    """Return depth (h, w) by "NETWORK/FRAME": of `base`, of `base` for the mirrored image, and of both METER."""
    if not cache.exists():
        size, maps = frames[0].image.shape[:2], dict[str, np.ndarray]()
        weights = {
            name: f"network.weights={REAL_DATA}/published_depth/meter_{name}_xxs.pt" for name in ("kitti", "nyu")
        }
        settings = {"base": ("base", []), "meter-kitti": ("meter_network:Meter", [weights["kitti"]])}
        settings["meter-nyu"] = ("meter_network:Meter", [weights["nyu"], "network.size=[192,256]"])
        for name, (network, given) in settings.items():
            predictor = load_predictor(open_network_checkpoint(network, lambda: size, given))
            for frame in frames:
                shown = PreparedFrame.prepare(predictor, frame)
                camera = Camera(torch.from_numpy(shown.K)[None], predictor.height, predictor.width)
                image = torch.from_numpy(shown.image)[None]
                views = {name: image} | ({"mirrored-input": image.flip(-1)} if name == "base" else {})
                for key, view in views.items():
                    with torch.inference_mode():
                        inverse = predict_maps(predictor, view, camera).inverse_depth[0, 0].numpy()
                    maps[f"{key}/{frame.name}"] = (1 / inverse).astype(np.float32)
        np.savez(cache, **maps)
    with np.load(cache) as stored:
        return {key: stored[key] for key in stored.files}


def make_candidates(maps: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """Return depth of a frame by candidate."""
    base = maps[f"base/{name}"]
    height, width = base.shape
    rows = np.linspace(0, 1, height)[:, None]
    noise = np.exp(np.random.default_rng(0).normal(0, 0.25, base.shape))
    made = {
        "base": base,
        **{key: maps[f"{key}/{name}"] for key in ("mirrored-input", "meter-kitti", "meter-nyu")},
        "constant": np.full_like(base, 10),
        "mirrored": base[:, ::-1],
        "blurred": 1 / cv2.GaussianBlur(1 / base, (0, 0), width / 20),
        "little blurred": 1 / cv2.GaussianBlur(1 / base, (0, 0), width / 80),
        "shifted right": np.roll(base, width // 10, 1),
        "shifted down": np.roll(base, height // 8, 0),
        "power .6": base**0.6,
        "power 1.5": base**1.5,
        "inverse": 1 / base,
        "noise": base * noise,
        "ramp": np.broadcast_to(1 / (0.03 + rows * 0.3), base.shape),
        "upside down": base[::-1],
        "row medians": np.broadcast_to(np.median(base, 1, keepdims=True), base.shape),
        "half flat": np.sqrt(base * np.median(base)),
        "leaning": base * (1 + 0.8 * rows),
    }
    return {key: np.ascontiguousarray(depth, np.float32) for key, depth in made.items()}


def score_truth(depth: np.ndarray, truth: np.ndarray) -> float:
    """Return AbsRel after median scaling over all pixels with truth; NaN for too few."""
    known = (truth > 0.1) & (truth < FARTHEST_M)
    if known.sum() < MIN_TRUTHS:
        return float("nan")
    at_truth = 1 / cv2.resize(1 / depth, truth.shape[::-1])[known]
    return float(np.mean(np.abs(at_truth * np.median(truth[known]) / np.median(at_truth) / truth[known] - 1)))


def measure(name: str, folder: Path, K: np.ndarray, read: Callable[[str, int], Any], work: Path) -> Iterator[dict]:
    """Yield the row of each part of a recording."""
    camera = CameraConfig(K=K.tolist())
    if find_map(folder) is None:
        map_video(folder, camera=camera, cache=CacheConfig(folder=str(work / "cache")))
    mapped = find_map(folder)
    if mapped is None or not mapped.is_usable or mapped.geometry is None:
        yield {"recording": name, "cannot tell": "no usable map"}
        return
    own = CameraConfig(K=mapped.camera.undistorted.K.tolist())
    (given,) = open_inputs(folder, camera=own)
    frames = list(given.frames)
    chosen = list(enumerate(frames))[START.get(name, 0) :: EVERY.get(name, 4)]
    maps = predict(work / f"{name}.npz", [frame for _, frame in chosen])
    names = list(make_candidates(maps, chosen[0][1].name))

    def view(key: str) -> Callable[[Frame], View]:
        def show(frame: Frame) -> View:
            depth = make_candidates(maps, frame.name)[key]
            return View(1 / depth, resize_K(frame.K, frame.image.shape[:2], *depth.shape))

        return show

    for part in range(PARTS[name]):
        some = chosen[part * len(chosen) // PARTS[name] : (part + 1) * len(chosen) // PARTS[name]]
        errors: dict[str, list[float]] = {key: [] for key in names}
        for index, frame in some:
            if (truth := read(frame.name, index)) is not None:
                for key, depth in make_candidates(maps, frame.name).items():
                    errors[key].append(score_truth(depth, truth))
        truths = {key: float(np.nanmean(values)) for key, values in errors.items()}
        ranking = rank_candidates(
            [Candidate(key, view(key)) for key in names], (one for _, one in some), mapped.geometry
        )
        by_map = {row.name: row.estimates["error"].value for row in ranking.rows}
        best = ranking.rows[0].name
        yield {
            "recording": name if PARTS[name] == 1 else f"{name} {part + 1}/{PARTS[name]}",
            "frames": ranking.frames,
            "tau": round(
                float(kendalltau([truths[key] for key in names], [by_map[key] for key in names]).statistic), 3
            ),
            "winner": best,
            "above_best": round(truths[best] / min(truths.values()) - 1, 3),
            "tied": ranking.tied,
            "map and truth": {key: (round(by_map[key], 3), round(truths[key], 3)) for key in by_map},
        }


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=list(PARTS))
    options = parser.parse_args()
    for name, folder, K, read in list_sources(options.folder):
        if name in options.only:
            try:
                for row in measure(name, folder, K, read, options.folder):
                    print(json.dumps(row), flush=True)
            except StadiaError as error:
                print(json.dumps({"recording": name, "cannot tell": str(error)}), flush=True)


if __name__ == "__main__":
    main()
