"""Tracking keeps a name and two numbers of each frame in memory, and nothing else."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from stadia.core.types import DepthScale
from stadia.evaluation.frame_preparation import Frame
from stadia.geometry.se3 import se3_exp
from stadia.odometry.visual_odometry import track_camera

HEIGHT, WIDTH = 8, 12
K = np.array([[10.0, 0, 5.5], [0, 10, 3.5], [0, 0, 1]])
IMAGE = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
GOAL_BYTES = 40
BLOCK = 512
"""Frames whose poses are kept together."""


class Forward:
    """A pose network that knows one motion."""

    depth_scale, height, width, crop = DepthScale.METRES, HEIGHT, WIDTH, "none"

    def T_next_now(self, now: Tensor, camera: object, following: Tensor, next_camera: object) -> Tensor:
        return se3_exp(torch.tensor([[0, 0, -1.0, 0, 0, 0]]))


def make_frame(name: str) -> Frame:
    return Frame(name, IMAGE, K, 0.1)


@pytest.mark.slow
def test_less_than_40_bytes_are_kept_of_a_frame() -> None:
    """The least of windows: what is kept of each frame lies in all, what else the process allocates in some."""
    bounds = range(BLOCK, 5 * BLOCK, BLOCK)
    held = list[int]()

    def frames() -> Iterator[Frame]:
        for index in range(bounds[-1] + 1):
            if index in bounds:
                gc.collect()
                held.append(tracemalloc.get_traced_memory()[0])
            yield make_frame(f"{index:06d}")

    tracemalloc.start(1)
    try:
        path = track_camera(Forward(), frames(), "network", source="frames")  # type: ignore[arg-type]
    finally:
        tracemalloc.stop()
    assert len(path.names) == bounds[-1] + 1
    assert min(np.diff(held)) / BLOCK < GOAL_BYTES


def test_names_come_back_where_they_are_no_unicode() -> None:
    names = ("caf\udce9", "a b", "\N{SNOWMAN}")
    path = track_camera(Forward(), map(make_frame, names), "network", source="frames")  # type: ignore[arg-type]
    assert path.names == names
    assert path.frame_ms.shape == (3,)
