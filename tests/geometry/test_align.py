"""Alignment: against evo, SciPy and NumPy, and by what aligned values have in common."""

import numpy as np
import pytest
import torch
from evo.core.geometry import umeyama_alignment
from tests.refusals import refuses
from torch.testing import assert_close

from stadia.core.errors import GeometryError
from stadia.geometry import align
from stadia.geometry import poses as se3
from stadia.geometry.align import umeyama_ransac
from stadia.geometry.poses import so3_exp

F64 = torch.float64


def fit_scale_shift(images):
    fit = align.ScaleShiftEstimator()
    for prediction, target, known in images:
        fit.add(prediction, target, known)
    return fit.result()


@pytest.fixture
def noisy(poses) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A source (4, 30, 3), target (4, 30, 3) = scale T source + noise, scale (4,), T (4, 4, 4)."""
    source, scale, T = (
        5 * torch.randn(4, 30, 3, dtype=F64),
        0.2 + 3 * torch.rand(4, dtype=F64),
        poses(4, reach=9, turn=3),
    )
    target = se3.transform(T, source) - T[:, None, :3, 3]
    return source, scale[:, None, None] * target + T[:, None, :3, 3] + 0.05 * torch.randn(4, 30, 3, dtype=F64), scale, T


@pytest.mark.parametrize("kind", ["se3", "sim3"])
def test_umeyama_is_evos(noisy, kind):
    source, target, _, _ = noisy
    found = align.umeyama(source, target, kind)
    for i in range(4):
        R, t, scale = umeyama_alignment(source[i].numpy().T, target[i].numpy().T, with_scale=kind == "sim3")
        assert_close(found.R[i], torch.from_numpy(R))
        assert_close(found.t[i], torch.from_numpy(t))
        assert_close(found.scale[i].item(), float(scale))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (F64, 1e-11)])
def test_umeyama_finds_what_was_done(noisy, dtype, tolerance):
    source, _, scale, T = noisy
    done = align.SimilarityTransform(scale.to(dtype), T[:, :3, :3].to(dtype), T[:, :3, 3].to(dtype))
    target = done.apply(source.to(dtype))
    found = align.umeyama(source.to(dtype), target, "sim3")
    for name in ("scale", "R", "t"):
        assert_close(getattr(found, name), getattr(done, name), atol=tolerance, rtol=tolerance)
    assert_close(found.apply(source.to(dtype)), target, atol=10 * tolerance, rtol=0)
    rigid = align.umeyama(source.to(dtype), target)
    assert (rigid.scale == 1).all()
    assert_close(rigid.R, done.R, atol=tolerance, rtol=0)


def test_never_a_reflection(noisy):
    source = noisy[0]
    mirrored = source * torch.tensor([-1.0, 1, 1], dtype=F64)
    found = align.umeyama(source, mirrored, "sim3")
    assert_close(torch.linalg.det(found.R), torch.ones(4, dtype=F64))
    for i in range(4):
        assert_close(
            found.scale[i].item(),
            float(umeyama_alignment(source[i].numpy().T, mirrored[i].numpy().T, with_scale=True)[2]),
        )


def test_poses_move_with_their_centers(poses):
    trajectory = poses(12, reach=20, turn=1).view(2, 6, 4, 4)
    similarity = align.SimilarityTransform(
        torch.tensor([2.0, 0.5], dtype=F64), poses(2, turn=2)[:, :3, :3], torch.randn(2, 3, dtype=F64)
    )
    moved = similarity.transform_poses(trajectory)
    assert_close(moved[..., :3, 3], similarity.apply(trajectory[..., :3, 3]))
    assert_close(moved[..., :3, :3] @ moved[..., :3, :3].mT, torch.eye(3, dtype=F64).expand(2, 6, 3, 3))
    first, last = (similarity.R[0] @ trajectory[0, i, :3, :3] for i in (0, -1))
    assert_close(moved[0, 0, :3, :3], first)
    assert_close(moved[0, -1, :3, :3], last)


@pytest.mark.parametrize("count", [1, 2, 7, 8])
def test_masked_median_is_numpys(count):
    values, known = torch.randn(5, 12, dtype=F64), torch.zeros(5, 12, dtype=torch.bool)
    for row in known:
        row[torch.randperm(12)[:count]] = True
    expected = [np.median(v[k].numpy()) for v, k in zip(values, known, strict=True)]
    assert_close(align.masked_median(values, known), torch.tensor(expected, dtype=F64))
    assert_close(align.masked_median(values), torch.from_numpy(np.median(values.numpy(), -1)))
    assert align.masked_median(values, known & False).isnan().all()


def test_scales_are_numpys():
    prediction, target = 1 + torch.rand(3, 40, dtype=F64), 1 + torch.rand(3, 40, dtype=F64)
    known = torch.rand(3, 40) < 0.7
    for i in range(3):
        p, t = prediction[i][known[i]].numpy(), target[i][known[i]].numpy()
        assert_close(align.fit_scale_median(prediction, target, known)[i].item(), np.median(t) / np.median(p))
        assert_close(
            align.fit_scale_least_squares(prediction, target, known)[i].item(),
            np.linalg.lstsq(p[:, None], t, rcond=None)[0][0],
        )
        scale, shift = align.fit_scale_and_shift(prediction, target, known)
        assert_close([scale[i].item(), shift[i].item()], np.polyfit(p, t, 1).tolist())


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (F64, 1e-10)])
@pytest.mark.parametrize("scale", [0.01, 3.0, -2.0])
def test_every_alignment_finds_an_exact_relation(dtype, tolerance, scale):
    prediction = 0.5 + torch.rand(2, 500, dtype=dtype)
    target = scale * prediction + 0.7
    found_scale, found_shift = align.fit_scale_and_shift(prediction, target)
    assert_close(found_scale, torch.full_like(found_scale, scale), atol=tolerance, rtol=tolerance)
    assert_close(found_shift, torch.full_like(found_shift, 0.7), atol=tolerance, rtol=tolerance)
    for single in (align.fit_scale_median, align.fit_scale_least_squares):
        assert_close(single(prediction, scale * prediction), torch.full((2,), scale, dtype=dtype))


def test_unknown_values_do_not_matter():
    prediction, target, known = torch.rand(2, 50, dtype=F64), torch.rand(2, 50, dtype=F64), torch.rand(2, 50) < 0.6
    for anything in (
        1e6 * torch.rand(2, 50, dtype=F64),
        torch.full((2, 50), torch.inf),
        torch.full((2, 50), torch.nan),
    ):
        other_p, other_t = (torch.where(known, v, anything.double()) for v in (prediction, target))
        for method in (align.fit_scale_median, align.fit_scale_least_squares, align.fit_scale_and_shift):
            assert_close(method(other_p, other_t, known), method(prediction, target, known))


@pytest.mark.slow
def test_gradients(noisy):
    source, target = noisy[0][:2, :6].clone().requires_grad_(), noisy[1][:2, :6].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: align.umeyama(a, b, "sim3").apply(a), (source, target))
    prediction, truth = (torch.rand(2, 9, dtype=F64, requires_grad=True) for _ in range(2))
    for method in (align.fit_scale_median, align.fit_scale_least_squares, align.fit_scale_and_shift):
        assert torch.autograd.gradcheck(method, (prediction, truth))


@pytest.mark.parametrize("count", [1, 2, 7])
def test_median_and_deviation_are_numpys(count):
    values, known = torch.randn(5, 12, dtype=F64), torch.zeros(5, 12, dtype=torch.bool)
    for row in known:
        row[torch.randperm(12)[:count]] = True
    found = align.median_and_deviation(values.where(known, torch.nan), known)
    for v, k, median, deviation in zip(values, known, *found, strict=True):
        expected = np.median(v[k].numpy())
        assert [median.item(), deviation.item()] == pytest.approx([expected, np.mean(np.abs(v[k].numpy() - expected))])
    assert all(value.isnan().all() for value in align.median_and_deviation(values, known & False))


def images(count: int = 6, pixels: int = 200) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Predictions, and truths that are another scale and shift of them in each image; half is known."""
    prediction = torch.rand(count, pixels, dtype=F64)
    scale, shift = (
        torch.linspace(1.5, 2.5, count, dtype=F64)[:, None],
        torch.linspace(0.2, 0.1, count, dtype=F64)[:, None],
    )
    return prediction, scale * prediction + shift, torch.rand(count, pixels) < 0.5


def test_the_scale_and_shift_of_a_set_are_the_means_of_its_images():
    prediction, target, known = images()
    found = fit_scale_shift([(prediction.float(), target.float(), known)])
    assert [found.scale, found.shift] == pytest.approx([2.0, 0.15], rel=1e-5)
    each = [fit_scale_shift([(prediction[i : i + 1], target[i : i + 1], known[i : i + 1])]) for i in range(6)]
    assert [found.scale_spread, found.shift_spread] == pytest.approx(
        [np.std([one.scale for one in each]), np.std([one.shift for one in each])], rel=1e-5
    )
    assert (found.images, found.unlabeled, found.falling) == (6, 0, 0)


def test_depth_instead_of_inverse_depth_is_refused():
    prediction, target, known = images()
    with refuses(GeometryError, where="scale and shift"):
        fit_scale_shift([(1 / prediction.clamp(min=0.1), target, known)])
    prediction[:4] *= -1
    with refuses(GeometryError, where="scale and shift"):
        fit_scale_shift([(prediction, target, known)])


@pytest.mark.parametrize(
    ("source", "target", "kind", "part"),
    [
        (torch.zeros(5, 3), torch.zeros(4, 3), "se3", "(5, 3) and (4, 3)"),
        (torch.zeros(2, 3), torch.zeros(2, 3), "se3", "at least 3"),
        (torch.zeros(5, 3), torch.zeros(5, 3), "sim3", "never moves"),
        (torch.rand(5, 3), torch.rand(5, 3), "scale", "'scale'"),
    ],
)
def test_mistakes_are_named(source, target, kind, part):
    with pytest.raises(GeometryError) as caught:
        align.umeyama(source, target, kind)
    assert part in str(caught.value)


# -- umeyama among wrong correspondences: exact, repeatable, and an error where there is no fit


R, T, SCALE = so3_exp(np.array([0.4, -1.9, 0.7])), np.array([0.1, -0.2, 1.3]), 0.23


def seeded() -> np.random.Generator:
    return np.random.default_rng(0)


def correspondences(
    n: int = 500, *, wrong: float = 0.0, noise_m: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A normalized object, its points in metres before the camera, and which of them are right."""
    random = np.random.default_rng(1)
    source = random.random((n, 3)) - 0.5
    right = random.random(n) >= wrong
    target = SCALE * source @ R.T + T + noise_m * random.normal(size=(n, 3))
    return source, np.where(right[:, None], target, T + 0.3 * random.normal(size=(n, 3))), right


@pytest.mark.slow
def test_without_noise_the_transform_is_exact_whatever_share_is_wrong():
    for wrong in (0.0, 0.3, 0.5):
        source, target, right = correspondences(wrong=wrong)
        found = umeyama_ransac(source, target, "sim3", inlier_distance=1e-4, generator=seeded(), iterations=512)
        assert found.inlier.tolist() == right.tolist()
        np.testing.assert_allclose(found.similarity.R, R, atol=1e-12)
        np.testing.assert_allclose(found.similarity.t, T, atol=1e-12)
        assert float(found.similarity.scale) == pytest.approx(SCALE, abs=1e-12)


def test_failed_alignment_is_refused():
    source, target, _ = correspondences()
    mirrored = source * np.array([1.0, 1.0, -1.0])
    for of, to in ((mirrored, target), (source, np.random.default_rng(2).normal(size=(500, 3)))):
        with refuses(GeometryError, found="500"):
            umeyama_ransac(of, to, "sim3", inlier_distance=0.002, generator=seeded())
    with refuses(GeometryError, found="500"):  # millimetres where metres are due
        umeyama_ransac(SCALE * source, 1000 * target, inlier_distance=0.002, generator=seeded())
    for of, to, found in (
        (source[:4], target[:4], "(4, 3)"),
        (source, target[:9], "(9, 3)"),
        (np.where(source > 0.4, source, np.nan), target, "NaN"),
        (np.ones((9, 3)), target[:9], ()),
    ):
        with refuses(GeometryError, found=found):
            umeyama_ransac(of, to, "sim3", inlier_distance=0.002, generator=seeded())
