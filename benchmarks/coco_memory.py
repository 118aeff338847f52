"""Time and memory of opening a COCO file as large as instances_train2017.json (450 MB).

    PYTHONPATH=src python benchmarks/coco_memory.py [--megabytes 450]

Polygons of 40 numbers with two decimals, seven for each image, as long as those of the official file.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import tempfile
import time
from pathlib import Path

from stadia.datasets.masks.mask_files import CocoMasks

GOAL_MIB = 2048


def write_coco(path: Path, megabytes: int) -> tuple[int, int]:
    """Write a file of this size; return how many images and annotations it has."""
    draw = random.Random(0)
    polygons = [json.dumps([round(draw.uniform(0, 640), 2) for _ in range(40)]) for _ in range(1000)]
    count = 0
    with path.open("w") as stream:
        stream.write('{"categories": [{"id": 1, "name": "car"}], "annotations": [')
        while stream.tell() < megabytes * 10**6:
            for _ in range(1000):
                stream.write(", " if count else "")
                stream.write(f'{{"segmentation": [{polygons[count % 1000]}], "area": 702.1, "iscrowd": 0, ')
                stream.write(
                    f'"image_id": {count // 7}, "bbox": [1.0, 2.0, 3.0, 4.0], "category_id": 1, "id": {count}}}'
                )
                count += 1
        images = count // 7 + 1
        rows = (f'{{"id": {n}, "file_name": "{n:012d}.jpg", "height": 480, "width": 640}}' for n in range(images))
        stream.write('], "images": [' + ", ".join(rows) + "]}")
    return images, count


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=450)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "instances.json"
        images, annotations = write_coco(path, arguments.megabytes)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        start = time.process_time()
        CocoMasks(path).read("000000000003", "left", height=480, width=640)
        seconds, peak = time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        size = path.stat().st_size // 10**6
    counts = f"{size} MB, {images} images, {annotations} annotations"
    print(f"{counts}: {seconds:.0f} s of one core, {peak} MiB ({before} before)")
    return 0 if peak < GOAL_MIB else 1


if __name__ == "__main__":
    raise SystemExit(main())
