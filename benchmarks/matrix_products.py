"""Time of networks with matrix products by oneDNN and by torch's own choice, interleaved in one run.

    python benchmarks/matrix_products.py [--threads 1] [--repeats 7] [--encoders vit_small_patch16_224 resnet18]

Float32, random weights, forward with and without backward. The difference of both outputs is relative to their norm.
What oneDNN needs is in `stadia.differentiable.matrix_products`; if it is not used, this prints so and measures nothing.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import stadia.core.torchvision_operators  # noqa: F401

# isort: split
import timm
import torch
from torch import Tensor, nn

from stadia.differentiable.matrix_products import choose_matrix_products

ENCODERS = ("vit_small_patch16_224", "vit_base_patch16_224", "convnext_tiny", "resnet50", "resnet18")
PRECISION_OF = {"torch's choice": "highest", "oneDNN": "medium"}


def make_work(network: nn.Module, image: Tensor, *, train: bool) -> Callable[[], Tensor]:
    """Return a function that runs the network forward, and backward to train, and returns its last output."""

    def run() -> Tensor:
        with torch.set_grad_enabled(train):
            output: Tensor = network(image)
            if train:
                output.square().mean().backward()
                network.zero_grad()
        return output.detach()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--encoders", nargs="+", default=ENCODERS)
    arguments = parser.parse_args()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    if not choose_matrix_products():
        print("oneDNN is not used for products here: no AMD processor, a GPU, or products that round")
        return
    image = torch.randn(arguments.batch, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    print(f"{'encoder':24}{'':10}{'ms, one':>9}{'other':>9}{'ratio (quartiles)':>26}{'difference':>12}")
    for name in arguments.encoders:
        torch.manual_seed(0)
        network = timm.create_model(name, pretrained=False, num_classes=0).eval()
        with torch.no_grad():
            for weight in network.parameters():  # some start at 0, and hide what is before them
                weight += 0.02 * torch.randn_like(weight)
        for train in (True, False):
            work, seconds, outputs = make_work(network, image, train=train), [], {}
            for _ in range(arguments.repeats + 1):
                row = []
                for label, precision in PRECISION_OF.items():
                    torch.set_float32_matmul_precision(precision)
                    started = time.perf_counter()
                    outputs[label] = work()
                    row.append(time.perf_counter() - started)
                seconds.append(row)
            ratios = [one / other for one, other in seconds[1:]]
            low, middle, high = statistics.quantiles(ratios, n=4)
            times = [f"{1e3 * statistics.median(column):9.0f}" for column in zip(*seconds[1:], strict=True)]
            one, other = outputs.values()
            difference = float((one - other).norm() / one.norm())
            kind = "training" if train else "inference"
            spread = f"{middle:.2f} ({low:.2f} to {high:.2f})"
            print(f"{name:24}{kind:10}{''.join(times)}{spread:>26}{difference:12.1e}", flush=True)


if __name__ == "__main__":
    main()
