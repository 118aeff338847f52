"""Umeyama among wrong correspondences: exact, repeatable, and an error where there is no fit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from stadia.core.errors import GeometryError
from stadia.geometry.align import umeyama, umeyama_ransac
from stadia.geometry.se3 import so3_exp

F64 = torch.float64
R, T, SCALE = so3_exp(torch.tensor([0.4, -1.9, 0.7], dtype=F64)), torch.tensor([0.1, -0.2, 1.3], dtype=F64), 0.23


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def correspondences(n: int = 500, *, wrong: float = 0.0, noise_m: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """A normalized object, its points in metres before the camera, and which of them are right."""
    source = torch.rand(n, 3, dtype=F64) - 0.5
    right = torch.rand(n) >= wrong
    target = SCALE * source @ R.T + T + noise_m * torch.randn(n, 3, dtype=F64)
    return source, torch.where(right[:, None], target, T + 0.3 * torch.randn(n, 3, dtype=F64)), right


def test_without_noise_the_transform_is_exact_whatever_share_is_wrong():
    for wrong in (0.0, 0.3, 0.5):
        source, target, right = correspondences(wrong=wrong)
        found = umeyama_ransac(source, target, "sim3", inlier_distance=1e-4, generator=seeded(), iterations=512)
        assert found.inlier.tolist() == right.tolist()
        assert_close(found.similarity.R, R, atol=1e-12, rtol=0)
        assert_close(found.similarity.t, T, atol=1e-12, rtol=0)
        assert float(found.similarity.scale) == pytest.approx(SCALE, abs=1e-12)


def test_it_is_the_fit_of_exactly_its_inliers():
    source, target, _ = correspondences(wrong=0.4, noise_m=0.002)
    found = umeyama_ransac(source.float(), target.float(), "sim3", inlier_distance=0.008, generator=seeded())
    assert found.similarity.R.dtype == F64
    by_hand = umeyama(source[found.inlier].float().double(), target[found.inlier].float().double(), "sim3")
    assert_close(found.similarity.R, by_hand.R, atol=0, rtol=0)
    near = (found.similarity.apply(source.float().double()) - target.float().double()).norm(dim=-1) <= 0.008
    assert near.tolist() == found.inlier.tolist()
    assert_close(found.similarity.R, R, atol=5e-3, rtol=0)
    plain = umeyama(source, target, "sim3")
    assert (plain.R - R).abs().max() > 10 * (found.similarity.R - R).abs().max()


def test_chance_comes_from_the_generator_alone():
    source, target, _ = correspondences(wrong=0.2, noise_m=0.003)
    first, again, other = (
        umeyama_ransac(source, target, "sim3", inlier_distance=0.004, generator=seeded(s), iterations=8)
        for s in (1, 1, 2)
    )
    assert_close(first.similarity.R, again.similarity.R, atol=0, rtol=0)
    assert (first.similarity.R - other.similarity.R).abs().max() > 0


def test_se3_keeps_the_scale():
    source, _, _ = correspondences()
    found = umeyama_ransac(source, source @ R.T + T, inlier_distance=1e-4, generator=seeded())
    assert float(found.similarity.scale) == 1
    assert_close(found.similarity.R, R)


def test_failed_alignment_is_refused():
    source, target, _ = correspondences()
    mirrored = source * torch.tensor([1.0, 1.0, -1.0], dtype=F64)
    for of, to in ((mirrored, target), (source, torch.randn(500, 3, dtype=F64))):
        with pytest.raises(GeometryError, match="of 500 points within"):
            umeyama_ransac(of, to, "sim3", inlier_distance=0.002, generator=seeded())
    with pytest.raises(GeometryError, match="of 500 points within"):  # millimetres where metres are due
        umeyama_ransac(SCALE * source, 1000 * target, inlier_distance=0.002, generator=seeded())
    for of, to, found in (
        (source[:4], target[:4], r"\(4, 3\)"),
        (source, target[:9], r"\(9, 3\)"),
        (source.where(source > 0.4, torch.nan), target, "NaN"),
        (torch.ones(9, 3), target[:9], "a source of one point"),
    ):
        with pytest.raises(GeometryError, match=found):
            umeyama_ransac(of, to, "sim3", inlier_distance=0.002, generator=seeded())
