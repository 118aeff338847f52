"""Metric scale from objects of known height and the constant height of the camera (FUMET, arXiv 2312.04530)."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from stadia.core.types import Camera
from stadia.differentiable.images import resize_map
from stadia.differentiable.segments import segment_means
from stadia.geometry.align import masked_median
from stadia.geometry.cameras import depth_from_inverse
from stadia.geometry.ground.object_scale import count_mask_rows
from stadia.geometry.ground.road_plane import RoadPixelHeights, erode_mask, height_from_box, road_pixel_heights
from stadia.geometry.segments import Segments
from stadia.losses.config import MetricScaleConfig
from stadia.losses.loss_report import LossReport

OBJECT_SPREAD = 0.1
"""Relative standard deviation of an object's height, for the form "gaussian"."""

CAMERA_SPREAD = 0.02
"""Relative standard deviation of the camera height, for the form "gaussian"."""

# -- the loss


def object_height_error(depth_m: Tensor, camera: Camera, objects: Segments, height_m: Tensor) -> Tensor:
    """Return |H - h D / f_y| in metres at each object pixel, (P,): the height error of a box at the pixel's depth.

    h is the height of the object's mask from edge to edge. The minimum is a plane that faces the camera. Therefore
    lower the weight of this error over time.

    depth_m: (B, 1, H, W) z in metres.
    objects: the P pixels of M objects.
    height_m: (M,) known heights in metres, without gradient; NaN gives 0.
    """
    fy = camera.fy.to(height_m).expand(len(depth_m))[objects.image]
    px_over_fy = height_from_box(count_mask_rows(objects, *depth_m.shape[-2:]), torch.ones_like(height_m), fy)
    known = height_m.isfinite()
    predicted_m = px_over_fy[objects.segment] * objects.gather(depth_m)[:, 0]
    error = (height_m.detach().where(known, 0.0)[objects.segment] - predicted_m).abs()
    return error.where(known[objects.segment], 0.0)


def object_height_loss(error: Tensor, objects: Segments, weight: Tensor) -> Tensor:
    """Average the pixel errors (P,) of each object, then average the objects by their weights. Returns a scalar.

    weight: (M,) weights of the objects; if all are 0, the loss is 0.
    """
    weight = weight.detach().to(error.dtype)
    of_object = segment_means(error, objects.segment, objects.count)
    return (weight * of_object).sum() / weight.sum().clamp(min=torch.finfo(error.dtype).tiny)


def camera_height_error(road: RoadPixelHeights, camera_height_m: Tensor) -> Tensor:
    """Return |camera height - known height| in metres at each road pixel, (B, 1, H, W); 0 if unknown.

    camera_height_m: (B,) known camera heights, NaN if unknown.
    """
    known = camera_height_m.isfinite()[:, None, None, None] & road.valid
    target_m = camera_height_m.detach().nan_to_num()[:, None, None, None]
    return (target_m - road.camera_height).abs().where(known, 0.0)


def camera_height_loss(error: Tensor, counted: Tensor) -> Tensor:
    """Average the error over the counted pixels of each image, then over images that have any. Returns a scalar.

    error: (B, 1, H, W).
    counted: (B, 1, H, W) bool. Without a counted pixel the loss is 0.
    """
    pixels = counted.flatten(1).sum(1)
    image_means = error.where(counted, 0.0).flatten(1).sum(1) / pixels.clamp(min=1)
    return image_means.sum() / (pixels > 0).sum().clamp(min=1)


FINAL_OBJECT_SHARE = 0.005
"""Share of the weight of object heights that remains at the end of the schedule."""


def negative_log_likelihood(error: Tensor, deviation: Tensor) -> Tensor:
    """Return error^2 / (2 deviation^2) + ln deviation, elementwise for tensors of the same shape.

    This is a Gaussian's negative log-likelihood without its constant.
    """
    return 0.5 * (error / deviation).square() + deviation.log()


class ScaleLossShares(NamedTuple):
    """Shares of the weights that apply to object heights and to the camera height."""

    objects: float
    camera: float


def compute_scale_loss_shares(epoch: int, *, epochs: int) -> ScaleLossShares:
    """Return the factors of the two loss weights in an epoch, counted from 0.

    The weight of the camera height grows from 0, because the road's depth is poor at first. The weight of object
    heights falls, because their loss makes objects flat. Both are constant from the epoch `epochs` on: FUMET takes 20
    for 60 epochs of training on KITTI, and 12 for 35 on Cityscapes.
    """
    if epoch >= epochs:
        return ScaleLossShares(FINAL_OBJECT_SHARE, 1.0)
    camera = math.log(epoch + 1) / math.log(epochs + 1)
    return ScaleLossShares(1 - camera, camera)


@dataclass(frozen=True, slots=True)
class KnownHeights:
    """Known heights of the M objects and of the camera in a batch, in metres.

    objects: pixels of the objects.
    object_m: (M,) heights of the objects, NaN if unknown.
    weight: (M,) bool or float; 0 excludes an object (`weight_objects`).
    camera_m: (B,) camera heights, NaN if unknown.
    """

    objects: Segments
    object_m: Tensor
    weight: Tensor
    camera_m: Tensor


class MetricScaleLoss:
    """Compute both height losses over all scales of inverse depth, each resized to the image, in float32 at least."""

    def __init__(self, config: MetricScaleConfig | None = None) -> None:
        self.config = config or MetricScaleConfig()

    def __call__(
        self,
        inverse_depth: Sequence[Tensor],
        camera: Camera,
        road: Tensor,
        known: KnownHeights,
        *,
        object_share: float = 1.0,
        camera_share: float = 1.0,
        balance: Callable[[Mapping[str, Tensor]], Mapping[str, float]] | None = None,
    ) -> LossReport:
        """Compute the loss of a batch, with maps of object and camera height errors (B, 1, H, W) in metres.

        inverse_depth: one map per scale, finest first, (B, 1, H / 2^s, W / 2^s) in 1/m.
        camera: camera of the image, K (B, 3, 3).
        road: (B, 1, H, W) bool; its border pixels are excluded.
        object_share, camera_share: factors of the weights in this epoch (`compute_scale_loss_shares`).
        balance: returns further factors by term from the unweighted terms.

        `logged` has "camera_height_m", the median over the images, NaN without road.
        """
        with torch.autocast(road.device.type, enabled=False):
            dtype = torch.promote_types(inverse_depth[0].dtype, torch.float32)
            road = erode_mask(road)
            maps = [resize_map(scale.to(dtype), *road.shape[-2:]) for scale in inverse_depth]
            scales = [self._compare_scale(map_, camera.to(dtype), road, known) for map_ in maps]
            of_objects, of_cameras, finest, errors = zip(*scales, strict=True)
            means = {"object_height": torch.stack(of_objects).mean(), "camera_height": torch.stack(of_cameras).mean()}
            factors = {} if balance is None else balance(means)
            weights = {
                "object_height": object_share * self.config.object_height,
                "camera_height": camera_share * self.config.camera_height,
            }
            terms = {name: weights[name] * factors.get(name, 1.0) * mean for name, mean in means.items()}
        heights = finest[0].median_height.detach()
        logged = {"camera_height_m": masked_median(heights, ~heights.isnan())}
        least = {} if self.config.form == "gaussian" else dict.fromkeys(terms, 0.0)  # a logarithm has no bound
        return LossReport.from_terms(terms, errors[0], least=least, logged=logged)

    def _compare_scale(
        self, inverse_depth: Tensor, camera: Camera, road: Tensor, known: KnownHeights
    ) -> tuple[Tensor, Tensor, RoadPixelHeights, dict[str, Tensor]]:
        depth_m = depth_from_inverse(inverse_depth)
        weight = known.weight.to(depth_m.dtype) * known.object_m.isfinite()
        object_error = object_height_error(depth_m, camera, known.objects, known.object_m.to(depth_m.dtype))
        road_points = road_pixel_heights(depth_m, camera, road)
        road_error = camera_height_error(road_points, known.camera_m.to(depth_m.dtype))
        counted = road_points.valid & known.camera_m.isfinite()[:, None, None, None]
        if self.config.form == "gaussian":
            object_loss, camera_loss = self._compute_likelihoods(known, object_error, weight, road_error, counted)
        else:
            object_loss = object_height_loss(object_error, known.objects, weight)
            camera_loss = camera_height_loss(road_error, counted)
        object_map = torch.zeros_like(depth_m).flatten().index_put((known.objects.pixel,), object_error.detach())
        maps = {"object_height_error": object_map.view_as(depth_m), "camera_height_error": road_error.detach()}
        return object_loss, camera_loss, road_points, maps

    def _compute_likelihoods(
        self, known: KnownHeights, object_error: Tensor, weight: Tensor, road_error: Tensor, counted: Tensor
    ) -> tuple[Tensor, Tensor]:
        object_m, camera_m = known.object_m.to(object_error.dtype), known.camera_m.to(road_error.dtype)
        errors = segment_means(object_error, known.objects.segment, known.objects.count)
        of_objects = negative_log_likelihood(errors, OBJECT_SPREAD * object_m)
        total = weight.sum().clamp(min=torch.finfo(weight.dtype).tiny)
        object_loss = (weight * of_objects.where(weight > 0, 0.0)).sum() / total
        pixels = counted.flatten(1).sum(1)
        means = road_error.where(counted, 0.0).flatten(1).sum(1) / pixels.clamp(min=1)
        of_images = negative_log_likelihood(means, CAMERA_SPREAD * camera_m)
        seen = pixels > 0
        return object_loss, of_images.where(seen, 0.0).sum() / seen.sum().clamp(min=1)
