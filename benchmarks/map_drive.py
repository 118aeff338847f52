"""Map a rendered drive of a minute, and measure its path, time and memory.

    python benchmarks/map_drive.py --seconds 60 --folder FOLDER [--render]

One world of RoadWorld at 30 Hz, rendered at 640x360, enlarged to 1280x720, and written as H.264 with the true path
beside it. A later call maps the same video; `--render` ends there. Printed are a JSON line and the lines of
`stadia map`: frames placed, ATE after Sim(3) alignment, steps that reverse, the focal length over the true one,
seconds, those of the processor by stage, and the largest memory.
"""

# mypy: disable-error-code="arg-type"

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from map import score_path

from stadia.data.config import CacheConfig
from stadia.data.video.video_map import read_map
from stadia.evaluation.plots.videos import open_video_file
from stadia.sfm.describe_map import describe_map
from stadia.sfm.map_video import map_video
from stadia.synthetic.config import RoadWorldConfig
from stadia.synthetic.roadworld.road_world import RoadRenderer, make_world

RATE_HZ, SEED = 30.0, 7
HEIGHT, WIDTH = 360, 640
SCALE = 2

Item = TypeVar("Item")


def render_drive(video: Path, seconds: float) -> None:
    """Write the video, and beside it K (3, 3) of its frames and T_world_camera (N, 4, 4)."""
    config = RoadWorldConfig(
        train=1, val=0, test=0, frames=round(RATE_HZ * seconds), height=HEIGHT, width=WIDTH, stereo=False,
        frame_rate_hz=RATE_HZ, speed_m_per_frame=(0.3, 0.35), supersampling=1,
    )  # fmt: skip
    world = make_world(SEED, config)
    renderer = RoadRenderer(world, config)
    K = world.K.copy()
    K[:2, 2] += 0.5
    K[:2] *= SCALE
    K[:2, 2] -= 0.5
    np.savez(video.with_suffix(".npz"), K=K, T_world_camera=world.drive.T_world_camera)
    with open_video_file(video, RATE_HZ) as write, ThreadPoolExecutor(2) as threads:
        for start in range(0, config.frames, 30):
            frames = range(start, min(start + 30, config.frames))
            for view in threads.map(lambda frame: renderer.render(frame)["left"].image, frames):
                write(cv2.resize(view, (SCALE * WIDTH, SCALE * HEIGHT), interpolation=cv2.INTER_CUBIC))


class StageTimes:
    """Measure the seconds of the processor that each stage of a map takes."""

    def __init__(self) -> None:
        self.seconds = dict[str, float]()

    def track(self, items: Iterable[Item], total: int | None, text: str) -> Iterator[Item]:
        """Yield the items; `total` is not used."""
        before = time.process_time()
        yield from items
        self.seconds[text] = round(time.process_time() - before, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--render", action="store_true")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    video = folder / f"drive-{options.seconds:g}.mp4"
    if not video.is_file():
        render_drive(video, options.seconds)
    if options.render:
        return
    times, out = StageTimes(), folder / "drive.map"
    started, spent = time.perf_counter(), time.process_time()
    mapped = map_video(video, out=out, cache=CacheConfig(folder=str(folder / "cache")), track=times.track)
    print("\n".join(describe_map(mapped)))
    row: dict[str, object] = {"s": round(time.perf_counter() - started, 1), "cores": os.cpu_count()}
    row |= {"processor_s": round(time.process_time() - spent, 1), "stages_s": times.seconds}
    row["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    with np.load(video.with_suffix(".npz")) as truth:
        row["focal"] = round(read_map(out).camera.focal_px / truth["K"][0, 0], 4)
        row |= score_path(read_map(out).poses, truth["T_world_camera"])
    print(json.dumps(row))


if __name__ == "__main__":
    main()
