"""Sparse depth loss: values by hand, valid labels, images without labels, independence of images."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.refusals import refuses
from torch import Tensor

from stadia.core.config import resolve_config
from stadia.core.errors import ConfigError
from stadia.core.types import Camera
from stadia.differentiable.batch import Prediction, Targets
from stadia.losses import SPARSE_DEPTH_LOSSES
from stadia.losses.config import SelfSupervisedLossConfig, SparseDepthConfig
from stadia.losses.selfsup_loss import SelfSupervisedLoss
from stadia.losses.sparse_depth import (
    FAR_INVERSE_DEPTH,
    MeasuredTerms,
    SparseDepthLoss,
    affine_invariant_residual,
    compute_speed_error,
    gradient_matching_error,
    log_ratio,
    normalize_median_deviation,
    point_depth_loss,
    silog_root,
    silog_variance,
    trimmed_mean,
)

F64 = torch.float64


def only(part: str, **settings: object) -> SparseDepthLoss:
    weights = {name: float(name == part) for name in SPARSE_DEPTH_LOSSES}
    return SparseDepthLoss(SparseDepthConfig(**weights, **settings))


def scene(batch: int = 2, share: float = 0.5, seed: int = 0, dtype: torch.dtype = F64) -> tuple[Tensor, Tensor]:
    """A prediction (B, 1, 8, 10) in 1/m and a truth in metres of which `share` is labeled."""
    generator = torch.Generator().manual_seed(seed)
    inverse_depth = 0.02 + 0.3 * torch.rand(batch, 1, 8, 10, generator=generator, dtype=F64)
    true_m = 2 + 70 * torch.rand(batch, 1, 8, 10, generator=generator, dtype=F64)
    hidden = torch.rand(batch, 1, 8, 10, generator=generator) >= share
    return inverse_depth.to(dtype), true_m.masked_fill(hidden, 0).to(dtype)


def test_by_hand() -> None:
    inverse_depth = torch.tensor([0.05, 0.1, 7.0], dtype=F64).view(1, 1, 1, 3)  # 20 m, 10 m
    true_m = torch.tensor([10.0, 10.0, 0.0], dtype=F64).view(1, 1, 1, 3)
    ln2 = math.log(2)
    assert only("log_l1")(inverse_depth, true_m).total.item() == pytest.approx(ln2 / 2)
    variance = ln2**2 / 2 - 0.5 * (ln2 / 2) ** 2
    assert only("silog_per_image", silog_form="variance")(inverse_depth, true_m).total.item() == pytest.approx(variance)
    root = 10 * math.sqrt(ln2**2 / 2 - 0.85 * (ln2 / 2) ** 2)
    report = SparseDepthLoss()(inverse_depth, true_m)
    assert report.total.item() == pytest.approx(root, abs=0.011)  # 10 sqrt(1e-6) is taken off
    assert report.maps["log_error"].flatten().tolist() == pytest.approx([ln2, 0, 0])


def test_terms_are_weighted_and_add_up() -> None:
    weights = {
        "silog_per_image": 0.5,
        "silog_pooled": 2.0,
        "affine_invariant": 3.0,
        "gradient_matching": 0.25,
        "log_l1": 7.0,
    }
    given = scene()
    report = SparseDepthLoss(SparseDepthConfig(**weights))(*given)
    assert list(report.terms) == list(weights)
    for name, weight in weights.items():
        torch.testing.assert_close(report.terms[name], weight * only(name)(*given).total)
    torch.testing.assert_close(sum(report.terms.values()), report.total)


@pytest.mark.parametrize("part", SPARSE_DEPTH_LOSSES)
def test_where_there_is_no_label_the_gradient_is_exactly_zero(part: str) -> None:
    inverse_depth, true_m = scene()
    for nonsense in (0.1, 0.0, -3.0, torch.inf, torch.nan):
        leaf = inverse_depth.where(true_m > 0, nonsense).requires_grad_()
        report = only(part)(leaf, true_m)
        report.total.backward()
        assert report.total.isfinite()
        assert (leaf.grad[true_m == 0] == 0).all()
        assert leaf.grad.isfinite().all()
        assert leaf.grad[true_m > 0].count_nonzero() > 0.7 * (true_m > 0).sum()


@pytest.mark.parametrize("part", SPARSE_DEPTH_LOSSES)
@pytest.mark.parametrize("form", ["root", "variance"])
def test_the_truth_costs_nothing_and_has_a_finite_gradient(part: str, form: str) -> None:
    _, true_m = scene(dtype=torch.float32)
    leaf = torch.where(true_m > 0, 1 / true_m, 0.3).requires_grad_()
    report = only(part, silog_form=form)(leaf, true_m)
    report.total.backward()
    assert 0 <= float(report.total.detach()) < 1e-5
    assert leaf.grad.isfinite().all()


@pytest.mark.parametrize("part", SPARSE_DEPTH_LOSSES)
def test_an_image_without_labels_is_as_if_it_were_not_there(part: str) -> None:
    inverse_depth, true_m = scene(3)
    true_m[1] = 0
    leaf = inverse_depth.clone().requires_grad_()
    total = only(part)(leaf, true_m).total
    total.backward()
    torch.testing.assert_close(total, only(part)(inverse_depth[[0, 2]], true_m[[0, 2]]).total)
    assert (leaf.grad[1] == 0).all()


@pytest.mark.parametrize("part", SPARSE_DEPTH_LOSSES)
def test_a_batch_without_labels_is_zero_with_zero_gradient(part: str) -> None:
    inverse_depth, true_m = scene(2)
    leaf = inverse_depth.clone().requires_grad_()
    total = only(part)(leaf, 0 * true_m).total
    total.backward()
    assert total == 0
    assert (leaf.grad == 0).all()


def test_the_pooled_one_is_that_of_a_single_image_and_sees_others() -> None:
    inverse_depth, true_m = scene(2)
    torch.testing.assert_close(
        only("silog_pooled")(inverse_depth[:1], true_m[:1]).total,
        only("silog_per_image")(inverse_depth[:1], true_m[:1]).total,
    )
    tall = inverse_depth.reshape(1, 1, 16, 10), true_m.reshape(1, 1, 16, 10)
    torch.testing.assert_close(only("silog_pooled")(inverse_depth, true_m).total, only("silog_per_image")(*tall).total)


def test_only_depth_within_the_range_is_a_label() -> None:
    truth = torch.tensor([-5.0, 0.0, 0.9, 1.1, 79.0, 80.0, 300.0, torch.inf, torch.nan], dtype=F64).view(1, 1, 1, 9)
    leaf = torch.full_like(truth, 0.1).requires_grad_()
    report = only("log_l1", min_depth_m=1.0)(leaf, truth)
    report.total.backward()
    assert report.total.isfinite()
    assert (leaf.grad != 0).flatten().tolist() == [False, False, False, True, True, False, False, False, False]


@pytest.mark.parametrize("inverse_depth", [0.0, -0.5, 1e-9, 1e-4, 1 / 500])
def test_a_prediction_at_infinity_is_pulled_back(inverse_depth: float) -> None:
    truth = torch.tensor([10.0, 10.0], dtype=F64).view(1, 1, 1, 2)
    leaf = torch.tensor([inverse_depth, 0.1], dtype=F64).view(1, 1, 1, 2).requires_grad_()
    SparseDepthLoss()(leaf, truth).total.backward()
    assert leaf.grad.isfinite().all()
    assert leaf.grad[0, 0, 0, 0] < 0


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("part", SPARSE_DEPTH_LOSSES)
def test_a_prediction_that_is_not_finite_shows(part: str, bad: float) -> None:
    inverse_depth, true_m = scene(share=1.1)
    inverse_depth[0, 0, 3, 3] = bad
    assert not only(part)(inverse_depth, true_m).total.isfinite()


def test_a_configuration_that_cannot_train_is_refused() -> None:
    with refuses(ConfigError, found="0"):
        resolve_config(SparseDepthConfig, {"silog_per_image": 0})
    with pytest.raises(ConfigError):
        resolve_config(SparseDepthConfig, {"min_depth_m": 90})
    with refuses(ConfigError, where="silog_lam"):
        resolve_config(SparseDepthConfig, {"silog_lam": 1.5})


# -- sILog: never negative, and what it forgives


def pool_batch(d: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """The pixels of a batch as those of one image."""
    return d.reshape(1, -1), known.reshape(1, -1)


def errors(batch: int, spread: float, bias: float, seed: int, dtype: torch.dtype = F64) -> tuple[Tensor, Tensor]:
    """Return log errors (B, 1, 6, 7) and their mask; the last of several images has no labels."""
    generator = torch.Generator().manual_seed(seed)
    d = bias + spread * torch.randn(batch, 1, 6, 7, generator=generator, dtype=F64)
    known = torch.rand(batch, 1, 6, 7, generator=generator) < 0.4
    if batch > 2:
        known[-1] = False
    return d.to(dtype), known


@pytest.mark.parametrize("lam", [0.0, 0.5, 0.85, 1.0])
def test_it_equals_numpy(lam):
    d, known = errors(3, 0.3, 0.2, 0)
    expected = [np.mean(x**2) - lam * np.mean(x) ** 2 for x in (d[i][known[i]].numpy() for i in (0, 1))]
    assert silog_variance(d, known, lam=lam).tolist() == pytest.approx([*expected, 0.0])
    every = d[known].numpy()
    assert silog_variance(*pool_batch(d, known), lam=lam).item() == pytest.approx(
        np.mean(every**2) - lam * np.mean(every) ** 2
    )
    assert silog_root(d, known, lam=lam)[:2].tolist() == pytest.approx(10 * np.sqrt(expected), abs=0.0101)


def test_the_logarithm_goes_on_as_its_tangent():
    x = (
        torch.tensor([1 - 1e-6, 1 + 1e-6, 0.0, -2.0], dtype=F64)
        .mul(FAR_INVERSE_DEPTH)
        .view(1, 1, 1, 4)
        .requires_grad_()
    )
    true_m, known = torch.ones_like(x.detach()), torch.ones(1, 1, 1, 4, dtype=torch.bool)
    d = log_ratio(x, true_m, known)
    d.sum().backward()
    assert d.flatten().tolist() == pytest.approx(
        [math.log(1000), math.log(1000), math.log(1000) + 1, math.log(1000) + 3], abs=1e-5
    )
    assert x.grad.flatten().tolist() == pytest.approx([-1000] * 4, rel=1e-5)


# -- labels of a map in the self-supervised loss: what moves trains nothing, and points pull depth towards them


NAMES = ("-1", "+1")
CONFIG = SelfSupervisedLossConfig(smoothness=0.0, auto_mask=False, points=0.5)


def test_pixels_that_move_have_no_gradient(make_scene):
    scene = make_scene(names=NAMES)
    height, width = scene.targets.image.shape[-2:]
    static = torch.ones(1, 1, height, width, dtype=torch.bool)
    static[..., : height // 2, :] = False
    inverse_depth = (scene.inverse_depth * 1.05).requires_grad_()
    prediction = scene.prediction(inverse_depth=inverse_depth)
    loss = SelfSupervisedLoss(CONFIG)
    report = loss(replace(scene.targets, static=static), prediction, NAMES)
    slope = torch.autograd.grad(report.total, inverse_depth)[0]
    assert not slope[..., : height // 2 - 2, :].any()
    assert slope[..., height // 2 + 2 :, :].any()
    everything = loss(replace(scene.targets, static=torch.ones_like(static)), prediction, NAMES)
    torch.testing.assert_close(everything.total, loss(scene.targets, prediction, NAMES).total)


def test_points_add_a_term_that_is_least_at_their_depth(make_scene):
    scene = make_scene(names=NAMES)
    point_depth = torch.zeros_like(scene.inverse_depth)
    point_depth[..., 5, 7] = 1 / scene.inverse_depth[..., 5, 7]
    targets, loss = replace(scene.targets, point_depth=point_depth), SelfSupervisedLoss(CONFIG)
    terms = {times: loss(targets, scene.prediction(depth_times=times), NAMES).terms for times in (0.8, 1.0, 1.25)}
    assert terms[1.0]["points"].item() == pytest.approx(0, abs=1e-9)
    assert terms[0.8]["points"].item() == pytest.approx(0.5 * 0.5 * torch.tensor(1.25).log().item() ** 2, rel=1e-4)
    assert terms[0.8]["points"].item() == pytest.approx(terms[1.25]["points"].item(), rel=1e-4)
    assert "points" not in loss(scene.targets, scene.prediction(), NAMES).terms


def test_a_wrong_point_has_a_bounded_gradient_and_no_points_none():
    inverse_depth = torch.full((1, 1, 2, 2), 0.1, dtype=torch.float64, requires_grad=True)
    point_depth = torch.zeros(1, 1, 2, 2, dtype=torch.float64)
    assert point_depth_loss(inverse_depth, point_depth).item() == 0
    slopes = []
    for z in (100.0, 1e6):
        point_depth[0, 0, 0, 0] = z
        slopes.append(torch.autograd.grad(point_depth_loss(inverse_depth, point_depth), inverse_depth)[0])
    torch.testing.assert_close(*slopes)


# -- measured depth and speed beside view synthesis


def measured_scene() -> tuple[Targets, Prediction]:
    image, K = torch.zeros(2, 3, 4, 6), torch.eye(3).expand(2, 3, 3)
    true = torch.eye(4).expand(2, 3, 4, 4).clone()
    true[:, 0, 2, 3], true[:, 1, 2, 3], true[:, 2, 0, 3] = -1.0, 2.0, 9.0
    depth_m = torch.zeros(2, 1, 4, 6)
    depth_m[0, 0, 1, 2] = 10.0
    camera = Camera(K, 4, 6)
    sources = Camera(K[:, None].expand(2, 3, 3, 3), 4, 6)
    targets = Targets(image, image[:, None].expand(2, 3, 3, 4, 6), camera, sources, true, depth_m)
    inverse_depth = torch.full((2, 1, 4, 6), 0.2).requires_grad_()
    return targets, Prediction((inverse_depth,), true.clone().requires_grad_())


SOURCES = ("-1", "+1", "stereo")


def test_right_motion_costs_nothing_whatever_its_direction() -> None:
    targets, _ = measured_scene()
    T = targets.T_source_target_true.clone()
    T[:, 0, :3, 3] = torch.tensor([1.0, 0.0, 0.0])
    assert compute_speed_error(T, targets.T_source_target_true, SOURCES).item() == pytest.approx(0)
    T[:, 2, 0, 3] = 100.0
    assert compute_speed_error(T, targets.T_source_target_true, SOURCES).item() == pytest.approx(0), "no rig"
    T[:, 1, :3, 3] *= 1.5
    assert compute_speed_error(T, targets.T_source_target_true, SOURCES).item() == pytest.approx(0.5)


def test_depth_is_compared_where_it_is_measured() -> None:
    targets, prediction = measured_scene()
    report = MeasuredTerms(SelfSupervisedLossConfig(sparse_depth=0.5, speed=2.0))(targets, prediction, SOURCES)
    assert report.terms["sparse_depth"].item() == pytest.approx(0.5 * torch.tensor(2.0).log().item())
    assert report.terms["speed"].item() == pytest.approx(0)
    report.total.backward()
    gradient = prediction.inverse_depth[0].grad
    assert gradient is not None
    assert (gradient != 0).sum() == 1
    none = MeasuredTerms(SelfSupervisedLossConfig(sparse_depth=1.0))
    assert none(replace(targets, depth_m=None), prediction, SOURCES).total.item() == 0


# -- what scale and shift cannot change, what a fifth of wrong labels can, and which neighbors have a slope


def maps(seed: int = 0, share: float = 0.6) -> tuple[Tensor, Tensor, Tensor]:
    """Prediction, truth and where it is known, (2, 1, 9, 12)."""
    generator = torch.Generator().manual_seed(seed)
    prediction, truth = torch.rand(2, 2, 1, 9, 12, generator=generator, dtype=F64)
    return prediction, truth, torch.rand(2, 1, 9, 12, generator=generator) < share


def test_affine_by_hand():
    x = torch.tensor([1.0, 2, 3, 6, 99], dtype=F64).view(1, 1, 1, 5)
    known = torch.tensor([True, True, True, True, False]).view(1, 1, 1, 5)
    assert normalize_median_deviation(x, known).flatten().tolist() == pytest.approx([-1, -1 / 3, 1 / 3, 7 / 3, 0])
    difference = torch.tensor([3.0, -1, 2, -5, 99], dtype=F64).view(1, 1, 1, 5)
    assert trimmed_mean(difference, known, 0.25).item() == pytest.approx((3 + 1 + 2) / 8)
    assert trimmed_mean(difference, known, 0.0).item() == pytest.approx(11 / 8)
    assert gradient_matching_error(difference, known, 1).item() == pytest.approx((4 + 3 + 7) / 4)
    assert gradient_matching_error(difference, known, 2).item() == pytest.approx(
        (4 + 3 + 7 + 1) / 4
    )  # pixels 0 and 2 of size two


@pytest.mark.parametrize("scale", [1e-4, 1.0, 800.0])
@pytest.mark.parametrize("shift", [-0.3, 0.0, 40.0])
def test_scale_and_shift_of_prediction_do_not_matter(scale, shift):
    prediction, truth, known = maps()
    expected = affine_invariant_residual(prediction, truth, known)
    torch.testing.assert_close(
        affine_invariant_residual(scale * (prediction + shift), truth, known), expected, atol=1e-5, rtol=0
    )
    single = affine_invariant_residual((scale * (prediction + shift)).float(), truth.float(), known)
    torch.testing.assert_close(
        single.double(), expected, atol=2e-4 if shift == 40 else 1e-5, rtol=0
    )  # float32 has 7 digits


def test_only_neighbors_that_are_both_known_have_a_slope():
    generator = torch.Generator().manual_seed(4)
    difference = torch.rand(1, 1, 8, 8, generator=generator, dtype=F64)
    y, x = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    checkers = ((x + y) % 2 == 0)[None, None]
    assert gradient_matching_error(difference, checkers, 1) == 0
    assert gradient_matching_error(difference, checkers, 2) > 0
    pair = torch.zeros_like(checkers)
    pair[..., 3, 4:6] = True
    leaf = difference.clone().requires_grad_()
    value = gradient_matching_error(leaf, pair, 4)
    value.sum().backward()
    assert value.item() == pytest.approx((difference[0, 0, 3, 5] - difference[0, 0, 3, 4]).abs().item() / 2)
    assert leaf.grad.nonzero()[:, 2:].tolist() == [[3, 4], [3, 5]]
