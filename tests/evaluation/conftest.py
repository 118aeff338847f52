"""Folders of depth maps, as other programs write them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

Maps = Mapping[str, NDArray]


@pytest.fixture
def truth_m() -> dict[str, NDArray[np.float64]]:
    """Three sparse ground truths, 40x120, in steps of 1/256 m so that a uint16 PNG holds them exactly; some beyond 80 m."""
    rng = np.random.default_rng(0)
    maps = {}
    for name in ("000000", "000001", "000002"):
        depth = np.rint(rng.uniform(2, 90, (40, 120)) * 256) / 256
        depth[rng.random(depth.shape) > 0.3] = 0
        maps[name] = depth
    return maps


@pytest.fixture
def write_maps(tmp_path: Path) -> Callable[..., Path]:
    """Writes {stem: map} into a folder, with cv2 and numpy alone, and returns the folder."""

    def write(maps: Maps, folder: str, suffix: str = ".npy") -> Path:
        out = tmp_path / folder
        out.mkdir(parents=True, exist_ok=True)
        for name, values in maps.items():
            if suffix == ".png":
                cv2.imwrite(str(out / f"{name}.png"), np.rint(values * 256).astype(np.uint16))
            elif suffix == ".npz":
                np.savez(out / f"{name}.npz", anything=values)
            else:
                np.save(out / f"{name}.npy", values)
        return out

    return write
