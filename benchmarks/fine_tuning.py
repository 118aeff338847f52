"""Measure memory and time of a step that trains all of a network, or a part of it.

    python benchmarks/fine_tuning.py [--size small] [--height 378] [--width 378] [--batch 1] [--steps 3]

Depth Anything V2 in its real size, with random weights: image, inverse depth, its mean logarithm, backward pass, AdamW.
Each row is measured in a process of its own.

Prints a line of JSON for each part:
trained_M: millions of trainable parameters.
peak_MiB: largest resident memory of the process, without what it had before the network was built.
step_cpu_s: median seconds of CPU time of a step, after one that is not counted: other programs do not change it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

PARTS: dict[str, dict[str, str | bool | int]] = {
    "all": {},
    "all, checkpoint_gradients": {"checkpoint_gradients": True},
    "adapters of rank 8": {"trained": "adapters"},
    "adapters of rank 8, checkpoint_gradients": {"trained": "adapters", "checkpoint_gradients": True},
    "adapters of rank 8, backbone in bf16": {"trained": "adapters", "backbone_precision": "bf16"},
    "decoder": {"trained": "decoder"},
    "decoder, backbone in bf16": {"trained": "decoder", "backbone_precision": "bf16"},
    "head": {"trained": "head"},
}
"""Keys of `model` by the name of a row."""


def measure(part: str, arguments: argparse.Namespace) -> dict[str, object]:
    """Return the row of a part; this process measures nothing else."""
    import resource

    import stadia.differentiable.torchvision_operators  # noqa: F401

    # isort: split

    import torch

    from stadia.networks.config import DepthModelConfig
    from stadia.networks.depth.depth_network import build_depth_network

    if PARTS[part].get("trained") == "adapters":
        from stadia.networks.depth.depth_network import import_peft

        import_peft()  # its memory is no memory of a step
    from stadia.networks.depth.dpt import import_transformers

    import_transformers()
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    network_values = {"name": "depth_anything", "size": arguments.size}
    config = DepthModelConfig.model_validate({"network": network_values, "pretrained": False, **PARTS[part]})
    network = build_depth_network(config)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=True)
    image = torch.rand(arguments.batch, 3, arguments.height, arguments.width)
    times = []
    for _ in range(arguments.steps + 1):
        start = time.process_time()
        optimizer.zero_grad()
        network(image).inverse_depth[0].log().mean().backward()
        optimizer.step()
        times.append(time.process_time() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "trained": part,
        "trained_M": round(sum(parameter.numel() for parameter in trained) / 1e6, 2),
        "peak_MiB": round(peak - before),
        "step_cpu_s": round(statistics.median(times[1:]), 2),
        "threads": arguments.threads,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="small", choices=("small", "base", "large"))
    parser.add_argument("--height", type=int, default=378)
    parser.add_argument("--width", type=int, default=378)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--part", choices=PARTS, help="measure this row in this process")
    arguments = parser.parse_args()
    if arguments.part is not None:
        print(json.dumps(measure(arguments.part, arguments)))
        return
    for part in PARTS:
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--part", part], check=True, env=os.environ)


if __name__ == "__main__":
    main()
