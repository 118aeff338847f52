"""Measure TableWorld's speed.

    python benchmarks/tableworld.py [--height 128] [--width 160] [--tables 60] [--workers 2] [--json FILE]

Images per second, written to disk with all ground truth, the making of tables and the preview, without compilation.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

from stadia.objectpose.config import TABLEWORLD_DEMO
from stadia.objectpose.table_world import write_tableworld
from stadia.synthetic.rendering.dataset_files import count_cores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--height", type=int, default=TABLEWORLD_DEMO.height)
    parser.add_argument("--width", type=int, default=TABLEWORLD_DEMO.width)
    parser.add_argument("--tables", type=int, default=60)
    parser.add_argument("--workers", type=int, default=count_cores())
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    size = {"height": arguments.height, "width": arguments.width}
    config = TABLEWORLD_DEMO.model_copy(update={"train": arguments.tables, "val": 0, "test": 0, **size})
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        write_tableworld(
            config.model_copy(update={"train": 1, "views": 1, "height": 32, "width": 32}), Path(folder) / "first"
        )
        first_image_s = time.perf_counter() - started
        started, used = time.perf_counter(), time.process_time()
        write_tableworld(config, Path(folder) / "tables", workers=arguments.workers)
        wall, cpu = time.perf_counter() - started, time.process_time() - used
    images = arguments.tables * config.views
    result = {
        "size": [arguments.height, arguments.width],
        "workers": arguments.workers,
        "first_image_s": round(first_image_s, 1),
        "images_per_s": round(images / wall, 1),
        "cpu_s_per_image": round(cpu / images, 4),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    print(json.dumps(result, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
