"""Processor time of the depth network's forward and backward, compiled by torch.compile and not, interleaved.

    python benchmarks/compiled_networks.py [--batch 8] [--height 96] [--width 320] [--repeats 4] [--bf16]

First the decoder alone is compiled, then the encoder too; one thread, ResNet-18, random weights. Processor time depends
little on what other programs do.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import argparse
import statistics
import time

import torch

from stadia.networks.config import UnetConfig
from stadia.networks.depth.unet import Unet
from stadia.training.loop.recipe import keep_compiled_code_private


def make_network() -> Unet:
    torch.manual_seed(0)
    return Unet(UnetConfig(), pretrained=False)


def measure_step(network: Unet, image: torch.Tensor, *, bf16: bool) -> float:
    """Return the processor time of a forward and backward pass in seconds."""
    network.zero_grad()
    started = time.process_time()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        maps = network(image).inverse_depth
    torch.stack([one.square().mean() for one in maps]).sum().backward()
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--height", type=int, default=96)
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--bf16", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_compiled_code_private()
    image = torch.rand(arguments.batch, 3, arguments.height, arguments.width)
    plain, compiled = make_network(), make_network()
    for name, part in (("decoder", compiled.decoder), ("decoder and encoder", compiled.encoder)):
        part.compile(dynamic=False)
        first_s = [measure_step(network, image, bf16=arguments.bf16) for network in (plain, compiled)][1]
        pairs = [
            [measure_step(network, image, bf16=arguments.bf16) for network in (plain, compiled)]
            for _ in range(arguments.repeats)
        ]
        ratios = [one / other for one, other in pairs]
        seconds = [statistics.median(ones) for ones in zip(*pairs, strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"{name:20} {seconds[0]:.3f} over {seconds[1]:.3f} s: {spread}; first step {first_s:.0f} s", flush=True)


if __name__ == "__main__":
    main()
