"""Errors of single objects: known angles and shifts, units, symmetry, and distances of models against plain loops."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import scipy.spatial
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.testing import assert_close

from stadia.geometry.se3 import from_rotation_translation, se3_exp, so3_exp, transform
from stadia.objectpose import OBJECT_METRICS
from stadia.objectpose.boxes import Symmetry
from stadia.objectpose.metrics import PosedObjects, add_m, add_s_m

F64 = torch.float64
METRICS = {name: OBJECT_METRICS.load(name) for name in OBJECT_METRICS}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def objects(
    T: Tensor, size_m: Tensor | None = None, symmetry: Sequence[str | list[tuple[float, ...]]] | None = None
) -> PosedObjects:
    n = len(T)
    size_m = torch.tensor([[0.1, 0.2, 0.3]]).expand(n, 3) if size_m is None else size_m
    return PosedObjects(
        torch.ones(n, dtype=torch.long), T, size_m, Symmetry.parse(symmetry or ["none"] * n), torch.rand(n)
    )


def turned(T: Tensor, axis: tuple[float, float, float], degrees: float) -> Tensor:
    """The objects turned in their own frames."""
    turn = from_rotation_translation(
        so3_exp(math.radians(degrees) * torch.tensor(axis, dtype=F64)), torch.zeros(3, dtype=F64)
    )
    return T @ turn


def poses(n: int) -> Tensor:
    return se3_exp(torch.randn(n, 6, dtype=F64))


@pytest.mark.parametrize("degrees", [0.0, 1e-3, 5.0, 12.0, 90.0, 179.9, 180.0])
def test_five_degrees_are_five_degrees(degrees: float):
    T = poses(20)
    axis = (0.6, 0.0, 0.8)
    for dtype in (F64, torch.float32):
        found = METRICS["rotation_error_deg"](objects(turned(T, axis, degrees).to(dtype)), objects(T.to(dtype)))
        assert_close(found, torch.full((20,), degrees, dtype=F64), atol=1e-4, rtol=0)


def test_five_centimetres_are_five_centimetres():
    T = poses(10)
    moved = T.clone()
    moved[:, :3, 3] += torch.tensor([0.03, 0.0, -0.04], dtype=F64)
    assert_close(METRICS["translation_error_cm"](objects(moved), objects(T)), torch.full((10,), 5.0, dtype=F64))
    assert_close(
        METRICS["rotation_error_deg"](objects(moved), objects(T)), torch.zeros(10, dtype=F64), atol=1e-6, rtol=0
    )


def test_the_symmetry_of_truth_counts():
    T = poses(3)
    spun = turned(T, (0.0, 1.0, 0.0), 180.0)
    true = objects(T, symmetry=["none", "revolution", [(0.0, 0.0, 1.0, 0.0)]])
    assert METRICS["rotation_error_deg"](objects(spun), true).tolist() == pytest.approx([180, 0, 0], abs=1e-5)
    assert METRICS["rotation_error_deg"](true, objects(spun)).tolist() == pytest.approx([180, 180, 180], abs=1e-5)
    quarter = METRICS["iou_3d"](objects(turned(T, (0.0, 1.0, 0.0), 90.0)), true)
    assert quarter.tolist() == pytest.approx([0.01 / (0.03 + 0.03 - 0.01), 1, 0.01 / (0.03 + 0.03 - 0.01)])


def test_the_exact_overlap_of_a_perfect_bottle_is_1_whatever_its_yaw():
    T = poses(40)
    for degrees in (9.0, 27.0, 45.0, 63.0):
        bottle = objects(T, torch.tensor([0.1, 0.3, 0.1]).expand(40, 3), symmetry=["revolution"] * 40)
        spun = METRICS["iou_3d"](objects(turned(T, (0.0, 1.0, 0.0), degrees), bottle.size_m), bottle)
        assert_close(spun, torch.ones(40, dtype=F64), atol=1e-6, rtol=0)


def test_exact_iou_includes_finite_symmetries():
    T, cube = poses(2), torch.full((2, 3), 0.1)
    true = objects(T, cube, symmetry=["none", [(math.cos(0.4), 0.0, math.sin(0.4), 0.0)]])
    found = METRICS["iou_3d"](objects(turned(T, (0.0, 1.0, 0.0), math.degrees(0.8)), cube), true)
    assert float(found[0]) < 0.8
    assert float(found[1]) == pytest.approx(1, abs=1e-6)


def test_the_hull_is_another_measure():
    T = poses(50)
    moved = T.clone()
    moved[:, :3, 3] += 0.08 * torch.randn(50, 3, dtype=F64)
    exact, hull = (METRICS[name](objects(moved), objects(T)) for name in ("iou_3d", "iou_3d_hull"))
    assert (hull > exact).sum() > 40
    assert ((exact >= 0) & (exact <= 1) & (hull >= 0) & (hull <= 1)).all()


def test_no_object_is_no_value():
    nothing = objects(poses(0), torch.zeros(0, 3))
    assert [part(nothing, nothing).shape for part in METRICS.values()] == [(0,)] * len(METRICS)


def test_add_and_add_s_against_plain_loops():
    model, T, T_true = 0.1 * torch.randn(40, 3, dtype=F64), poses(1)[0], poses(1)[0]
    moved, true = ([(T_ @ torch.cat((p, torch.ones(1, dtype=F64))))[:3] for p in model] for T_ in (T, T_true))
    add = sum(math.dist(a, b) for a, b in zip(moved, true, strict=True)) / 40
    add_s = sum(min(math.dist(a, b) for a in moved) for b in true) / 40
    assert float(add_m(T, T_true, model)) == pytest.approx(add)
    assert add_s_m(T, T_true, model) == pytest.approx(add_s)
    assert add_s < add
    assert add_m(poses(5), poses(5), model).shape == (5,)


def test_points_that_coincide_count_each_and_are_searched_once(monkeypatch: pytest.MonkeyPatch):
    searched: list[int] = []

    class CountedTree(scipy.spatial.KDTree):
        def __init__(self, data: NDArray[np.float64]) -> None:
            searched.append(len(data))
            super().__init__(data)

    monkeypatch.setattr(scipy.spatial, "KDTree", CountedTree)
    model, (T, T_true) = 0.1 * torch.randn(10, 3, dtype=F64), poses(2)
    model = model.repeat_interleave(torch.tensor([1, 9, *[2] * 8]), dim=0)
    moved, true = (transform(T_, model).tolist() for T_ in (T, T_true))
    nearest = [min(math.dist(a, b) for a in moved) for b in true]
    assert add_s_m(T, T_true, model) == pytest.approx(sum(nearest) / len(model))
    assert searched == [10]


def test_a_shift_is_its_own_length_and_a_turn_of_a_symmetric_model_is_none():
    angle = torch.arange(360, dtype=F64).deg2rad()
    ring = torch.stack((angle.cos(), 0 * angle, angle.sin()), -1)
    T = poses(1)[0]
    shifted = T.clone()
    shifted[1, 3] += 0.05
    assert float(add_m(shifted, T, ring)) == pytest.approx(0.05)
    spun = turned(T[None], (0.0, 1.0, 0.0), 90.0)[0]
    assert float(add_m(spun, T, ring)) == pytest.approx(math.sqrt(2))
    assert add_s_m(spun, T, ring) == pytest.approx(0, abs=1e-9)
