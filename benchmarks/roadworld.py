"""Measure how fast RoadWorld is rendered and written with all ground truth, without the time of compilation.

python benchmarks/roadworld.py [--height 192] [--width 640] [--worlds 5] [--workers 2]
"""

from __future__ import annotations

import json
import resource
import tempfile
import time
from pathlib import Path

from harness import make_parser

from stadia.synthetic.config import ROADWORLD_FULL
from stadia.synthetic.rendering.dataset_files import count_cores
from stadia.synthetic.roadworld.roadworld_writer import write_roadworld

FRAMES = 12


def main() -> None:
    """Print images per second, seconds of processor per image, and the largest memory, as JSON."""
    parser = make_parser(__doc__)
    parser.add_argument("--height", type=int, default=192)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--worlds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=count_cores())
    given = parser.parse_args()
    sizes = {"height": given.height, "width": given.width, "val": 0, "test": 0}
    config = ROADWORLD_FULL.model_copy(update={**sizes, "train": given.worlds, "frames": FRAMES})
    with tempfile.TemporaryDirectory() as folder:
        write_roadworld(config.model_copy(update={"train": 1, "frames": 1}), Path(folder) / "compiled", workers=1)
        started, used = time.perf_counter(), time.process_time()
        write_roadworld(config, Path(folder) / "worlds", workers=given.workers)
        wall_s, processor_s = time.perf_counter() - started, time.process_time() - used
    images = 2 * FRAMES * given.worlds
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    row = {"workers": given.workers, "images_per_s": images / wall_s, "processor_s_per_image": processor_s / images}
    print(json.dumps({**row, "peak_mb": peak_mb}, indent=1))


if __name__ == "__main__":
    main()
