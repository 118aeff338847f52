"""Compare odometry: chained network poses, pairwise alignment and the windowed refinement, on real and rendered
frames.

    python experiments/odometry_refined.py --kitti runs/KITTI06 --demo runs/DEMO

KITTI: a run of `experiments/real_stereo.py "data.offsets=[-1,1]"`, so that it has a pose network. Its 51 frames are 60
m, too short for t_err. DEMO: a run of `stadia demo`, on an unseen road of 150 frames, rendered here. Prints one JSON
object per sequence: t_err, r_err and ATE (SE(3)-aligned) by method, the reduction of ATE against the chained one,
milliseconds per frame, and the memory after each third.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from harness import REAL_DATA, make_parser

from stadia.core.types import Predictor, Recording
from stadia.data.frame_preparation import Frame, read_frames
from stadia.data.open_dataset import open_recordings
from stadia.evaluation.recording_scores import score_trajectory
from stadia.io.records.trajectory import Trajectory
from stadia.metrics.trajectory_metrics import PathAlignment
from stadia.predict.track_camera import track_camera
from stadia.sfm.odometry import ODOMETRY_METHODS
from stadia.synthetic.config import RoadWorldConfig
from stadia.synthetic.roadworld.roadworld_writer import write_roadworld
from stadia.training import recipes

WORLD = RoadWorldConfig(train=0, val=0, test=1, frames=150, height=96, width=320, stereo=False)
SEED = 61
"""No demo has it."""


def truth(recording: Recording, count: int) -> Trajectory:
    poses = [recording.T_world_camera(index) for index in range(count)]
    return Trajectory(np.stack([pose for pose in poses if pose is not None]))


def watched(recording: Recording, held_mb: list[int]) -> Iterator[Frame]:
    """Yield the frames, and record the peak of memory at each third of them."""
    for index, frame in enumerate(read_frames(recording)):
        if (index + 1) % (len(recording) // 3) == 0:
            held_mb.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
        yield frame


def compare(predictor: Predictor, recording: Recording) -> dict[str, object]:
    """Compare every odometry method with the measured path."""
    found: dict[str, dict[str, object]] = {}
    for method in reversed(list(ODOMETRY_METHODS)):
        held_mb: list[int] = []
        used = time.process_time()
        path = track_camera(predictor, watched(recording, held_mb), method, source=recording.name)
        used = (time.process_time() - used) / len(path.names)
        score = score_trajectory(Trajectory(path.T_world_camera), truth(recording, len(path.names)), PathAlignment.SE3)
        figures = {name: value and round(value, 4) for name, value in score.metrics.items()}
        speed = {
            "frame_ms": round(float(path.frame_ms.mean())),
            "processor_ms": round(1e3 * used),
            "keyframes": path.keyframes,
        }
        found[method] = {**figures, **speed, "held_mb": held_mb, "ends": path.ends}
        length_m = score.path_m
    chained = found["network"]["ate_rmse_m"]
    for method in ("aligned", "refined"):
        ratio = found[method]["ate_rmse_m"] / chained  # type: ignore[operator]
        found[method]["ate_less_percent"] = round(100 * (1 - ratio), 1)
    return {"recording": recording.name, "frames": len(recording), "path_m": round(length_m, 1), **found}


def rendered(config: RoadWorldConfig, folder: Path) -> Recording:
    if not folder.exists():
        write_roadworld(config, folder, seed=SEED)
    return open_recordings(folder, split="test")[0]


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, default=REAL_DATA, help="folder of the real samples (STADIA_REAL_DATA)")
    parser.add_argument("--kitti", type=Path, help="a run on KITTI 06 with a pose network")
    parser.add_argument("--demo", type=Path, help="a run of the demo")
    parser.add_argument("--worlds", type=Path, default=Path("worlds"), help="where the roads are rendered to")
    parser.add_argument("--speed", action="store_true", help="KITTI at 512x256, for its milliseconds alone")
    arguments = parser.parse_args()
    if arguments.kitti:
        (recording,) = open_recordings(arguments.data / "kitti_odometry")
        size = (256, 512) if arguments.speed else None
        print(json.dumps(compare(recipes.load_predictor(arguments.kitti, size), recording)), flush=True)
    if arguments.demo:
        road = rendered(WORLD, arguments.worlds / "odometry-road")
        print(json.dumps(compare(recipes.load_predictor(arguments.demo), road)), flush=True)


if __name__ == "__main__":
    main()
