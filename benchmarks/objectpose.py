"""Measure the aggregation of a network's output into objects, beside the network itself.

    python benchmarks/objectpose.py
    python benchmarks/objectpose.py --threads 2 --out objectpose.json

Images of TableWorld (its preset `tiny`, rendered into the cache), with true masks, since an untrained network finds
nothing, and the other outputs of an untrained network. The default network at its size and both references, the larger
one at the published 640x480. Medians of --repeats, both sides alternating. `share` is (instances + aggregation) over
the forward pass; at most 15 % at batch 8.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch.nn import functional as F

from stadia.core.types import Camera
from stadia.data.config import CacheConfig
from stadia.objectpose.config import DetectionConfig, ObjectPoseNetConfig
from stadia.objectpose.data.object_data import render_tables
from stadia.objectpose.data.object_labels import ObjectImages
from stadia.objectpose.data.object_samples import ObjectSamples
from stadia.objectpose.data.open_objects import open_object_images
from stadia.objectpose.network import ObjectPoseNet
from stadia.objectpose.recipe import group_pixels

REFERENCE = {"pyramid_channels": 256, "segmentation_channels": 128, "pretrained": False}
NETWORKS: dict[str, tuple[dict[str, Any], int, int]] = {
    "default, 160x128": ({"pretrained": False}, 128, 160),
    "resnet18, 320x256": ({"encoder": "resnet18", **REFERENCE}, 256, 320),
    "resnext50_32x4d, 640x480": ({"encoder": "resnext50_32x4d", **REFERENCE}, 480, 640),
}
"""Configuration, height, width."""


def seconds(calls: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Return the median of each over so many rounds of all, after one that is not counted."""
    rounds = []
    for _ in range(repeats + 1):
        times = []
        for call in calls:
            started = time.perf_counter()
            call()
            times.append(time.perf_counter() - started)
        rounds.append(times)
    return [statistics.median(times) for times in zip(*rounds[1:], strict=True)]


@torch.inference_mode()
def measure(
    images: ObjectImages, config: dict[str, Any], height: int, width: int, batch: int, repeats: int
) -> dict[str, float]:
    """Measure one network at one size."""
    samples = ObjectSamples([images], height=height, width=width)
    given = samples.unpack(samples.stack([samples[index % len(samples)] for index in range(batch)]), "cpu")
    network = ObjectPoseNet(ObjectPoseNetConfig(**config), len(samples.classes)).eval()
    image, camera = given.inputs.image, Camera(given.inputs.camera.K, height, width)
    right = F.one_hot(given.targets.class_map, len(samples.classes)).movedim(-1, 1).float() * 10
    maps = replace(network(image), class_logits=right.contiguous())
    found = group_pixels(network, maps, camera, DetectionConfig())
    forward, aggregation = seconds(
        [lambda: network(image), lambda: group_pixels(network, maps, camera, DetectionConfig())], repeats
    )
    return {
        "objects": len(found.image),
        "forward_ms": 1e3 * forward,
        "aggregation_ms": 1e3 * aggregation,
        "share": aggregation / forward,
    }


def main() -> None:
    """Print a row per network, and write all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a TableWorld data set of your own")
    parser.add_argument("--out", type=Path, help="a JSON file")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    data = arguments.data or render_tables("tiny", CacheConfig(), Console(stderr=True))
    images = open_object_images(data, "train")
    rows = {}
    for name in arguments.networks:
        rows[name] = measure(images, *NETWORKS[name], arguments.batch, arguments.repeats)
        print(name, json.dumps({key: round(value, 3) for key, value in rows[name].items()}), flush=True)
    if arguments.out is not None:
        arguments.out.write_text(
            json.dumps({"batch": arguments.batch, "threads": arguments.threads, "rows": rows}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
