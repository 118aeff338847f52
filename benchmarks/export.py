r"""Measure an exported network: onnxruntime against torch eager, and the time of the export.

    python benchmarks/export.py [--networks unet "dpt tiny"] [--height 192] [--width 640] [--threads 1] \
        [--repeats 15] [--json FILE]

Each network is built at random, exported as by `stadia export` (which compares it with torch at two sizes), and run on
one image of noise: torch eager and onnxruntime alternate, with the same number of threads. `speed` is the median of
torch's time divided by onnxruntime's: above 1 onnxruntime is faster. Alternation makes other programs on the machine
slow both alike. Networks are those of `stadia list networks`, with their size where
they have several.

An untrained network predicts nearly the same value everywhere, so an error of the export would hardly show. Therefore
the weights of the last convolution are doubled until the map's spread, its largest minus its smallest, is at least its
mean.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stadia.core.types import DepthScale
from stadia.evaluation.predictions_folder import Provenance
from stadia.predict.exported_network import ExportDescription, ExportedNetwork
from stadia.training.prediction.network_export import export_onnx


class Finest(nn.Module):
    """Return the finest of a network's maps."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return self.network(image).inverse_depth[0]


def network_of(name: str) -> tuple[nn.Module, nn.Conv2d, int]:
    """Return it at random, in evaluation mode, with its last convolution and its stride."""
    torch.manual_seed(0)
    from stadia.networks.config import DepthModelConfig
    from stadia.networks.depth.depth_network import build_depth_network
    from stadia.networks.depth.unet import Unet

    chosen, _, size = name.partition(" ")
    keys = {"name": chosen, "size": size} if size else {"name": chosen}
    network = build_depth_network(DepthModelConfig.model_validate({"network": keys, "pretrained": False})).eval()
    last: Any = network.decoder.heads["1"] if isinstance(network, Unet) else network.last_layer
    return Finest(network), last, 32


@torch.inference_mode()
def spread_out(network: nn.Module, last: nn.Conv2d, image: Tensor) -> float:
    """Double the weights of the last convolution until the map's spread is at least its mean; return spread / mean."""
    for _ in range(30):
        inverse_depth = network(image)
        of_mean = float((inverse_depth.max() - inverse_depth.min()) / inverse_depth.mean())
        if of_mean >= 1:
            return of_mean
        last.weight.mul_(2)
    raise SystemExit("no weights of the last convolution make the output vary")


def seconds(run: Callable[[], object]) -> float:
    """Return the wall-clock time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def measure(name: str, height: int, width: int, threads: int, repeats: int) -> dict[str, object]:
    """Return times in seconds, the speed of onnxruntime relative to torch, and the largest differences."""
    network, last, stride = network_of(name)
    image = torch.rand(1, 3, height, width)
    spread_of_mean = spread_out(network, last, image)
    made_by = Provenance(recipe=name, config_hash="", checkpoint="at random")
    about = ExportDescription.from_provenance(
        made_by, DepthScale.METRES, height=height, width=width, crop="none", stride=stride, focal=0.6
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        start = time.perf_counter()
        compared = export_onnx(network, path, about)
        exporting, megabytes = time.perf_counter() - start, path.stat().st_size / 1e6
        exported = ExportedNetwork(path, threads=threads)
    runs = (lambda: network(image), lambda: exported.inverse_depth(image.numpy()))
    with torch.inference_mode():
        for run in (*runs, *runs):  # kernels are chosen and memory is taken the first time
            run()
        turns = [(seconds(runs[0]), seconds(runs[1])) for _ in range(repeats)]
    torch_s, onnx_s = (statistics.median(side) for side in zip(*turns, strict=True))
    return {
        "network": name,
        "size": f"{width}x{height}",
        "threads": threads,
        "torch_s": torch_s,
        "onnxruntime_s": onnx_s,
        "speed": statistics.median(a / b for a, b in turns),
        "spread_of_mean": spread_of_mean,
        "largest_relative_difference": max(each.relative for each in compared),
        "largest_difference_of_spread": max(each.of_spread for each in compared),
        "exporting_s": exporting,
        "megabytes": megabytes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["unet", "dpt tiny"])
    parser.add_argument("--height", type=int, default=192)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", type=Path, help="write the results there as well")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results = []
    for name in args.networks:
        found = measure(name, args.height, args.width, args.threads, args.repeats)
        results.append(found)
        print(
            f"{name} {found['size']}, {args.threads} thread(s): torch {found['torch_s']:.3f} s, onnxruntime"
            f" {found['onnxruntime_s']:.3f} s, speed {found['speed']:.2f}; {found['largest_relative_difference']:.1e}"
            f" off, {found['largest_difference_of_spread']:.1e} of the spread (which is {found['spread_of_mean']:.2f}"
            f" of the mean); exported in {found['exporting_s']:.0f} s, {found['megabytes']:.1f} MB",
            flush=True,
        )
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
