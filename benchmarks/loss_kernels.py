"""Time of the compiled loops of the photometric loss, by kernel, forward and backward.

    python benchmarks/loss_kernels.py [--batch 8] [--height 96] [--width 320] [--repeats 4] [--threads 1]

Depth is nearly constant, at four scales, with sources -1, +1 and stereo. On one thread this is
processor time, which depends little on what other programs do; on several it is elapsed time.
"""

# mypy: disable-error-code="assignment, attr-defined, no-untyped-call"

from __future__ import annotations

import argparse
import collections
import time
from typing import Any

import torch
from step import SOURCES, made_up_batch

from stadia.core.types import Prediction
from stadia.losses.config import SelfSupervisedLossConfig
from stadia.losses.cpu import fused_reprojector, reprojection_kernels
from stadia.losses.selfsup_loss import SelfSupervisedLoss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--height", type=int, default=96)
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    read_clock = time.process_time if arguments.threads == 1 else time.perf_counter
    spent, run = collections.Counter[str](), reprojection_kernels.run_in_bands

    def timed(kernel: Any, *others: Any, **options: Any) -> None:
        started = read_clock()
        run(kernel, *others, **options)
        spent[kernel.__name__] += read_clock() - started

    fused_reprojector.run_in_bands = timed
    batch = made_up_batch(arguments.batch, arguments.height, arguments.width)
    loss, T_source_target = SelfSupervisedLoss(SelfSupervisedLossConfig()), batch.targets.T_source_target_true
    size = arguments.batch, 1, arguments.height, arguments.width
    maps = [(0.08 + 0.01 * torch.rand(*size[:2], size[2] >> s, size[3] >> s)).requires_grad_() for s in range(4)]
    for repeat in range(arguments.repeats + 1):
        if repeat == 1:  # the first compiles
            spent.clear()
            begun = read_clock()
        prediction = Prediction(tuple(maps), T_source_target.clone().requires_grad_())
        loss(batch.targets, prediction, SOURCES).total.backward()
    whole = read_clock() - begun
    for name, seconds in (*spent.most_common(), ("whole loss", whole)):
        print(f"{name:16}{1e3 * seconds / arguments.repeats:8.1f} ms")


if __name__ == "__main__":
    main()
