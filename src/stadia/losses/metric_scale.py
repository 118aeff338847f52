"""What gives monocular depth its metres: objects of known height, and the one height of the camera above its road.

Each object says little. All objects of all frames together say one number, the camera's height, which then teaches
every frame that shows a road (FUMET, arXiv 2312.04530). Both errors are absolute and per pixel: a Gaussian likelihood
with the spread of the mean over thousands of frames, millimetres, explodes, and the mean depth of a mask is satisfied
by its window panes alone, at infinity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from stadia.core.errors import GeometryError
from stadia.geometry.align import masked_median
from stadia.geometry.camera import Camera
from stadia.geometry.depth_maps import depth_from_inverse, resize_map
from stadia.geometry.ground import RoadPixels, road_pixels
from stadia.geometry.segments import Segments, segment_means
from stadia.geometry.silhouette import box_height
from stadia.losses.metric_scale_config import MetricScaleConfig
from stadia.losses.report import LossReport


def object_height_error(depth_m: Tensor, camera: Camera, objects: Segments, height_m: Tensor) -> Tensor:
    """|H - h D / f_y| in metres at each pixel of the objects, (P,): how far a box at this depth is from the object's
    height.

    Args:
        depth_m: (B, 1, H, W) z in metres.
        camera: K (3, 3) or (B, 3, 3).
        objects: of (B, H, W), `segments_of`.
        height_m: (M,) known heights, constants; 0 is written where one is not finite.

    h is the mask's height, from the upper edge of its first row to the lower edge of its last. Per pixel, so that no
    part of an object can
    make up for another. Least for a plane that faces the camera: take its weight back as the camera's height becomes
        known.
    """
    row = objects.pixel // depth_m.shape[-1] % depth_m.shape[-2]
    first = row.new_full((objects.count,), depth_m.shape[-2]).scatter_reduce(0, objects.segment, row, "amin")
    last = row.new_full((objects.count,), -1).scatter_reduce(0, objects.segment, row, "amax")
    px_over_fy = box_height(
        last - first + 1, torch.ones_like(height_m), camera.fy.to(height_m).expand(len(depth_m))[objects.image]
    )
    known = height_m.isfinite()
    said_m = px_over_fy[objects.segment] * objects.of(depth_m)[:, 0]
    error = (height_m.detach().where(known, 0.0)[objects.segment] - said_m).abs()
    return error.where(known[objects.segment], 0.0)


def object_height_loss(error: Tensor, objects: Segments, weight: Tensor) -> Tensor:
    """The mean, a scalar, over the pixels (P,) of each object, then over the objects by their weights (M,); 0 where all
    weigh 0.
    """
    weight = weight.detach().to(error.dtype)
    of_object = segment_means(error, objects.segment, objects.count)
    return (weight * of_object).sum() / weight.sum().clamp(min=torch.finfo(error.dtype).tiny)


def inner(road: Tensor) -> Tensor:
    """The pixels (B, 1, H, W) bool all of whose neighbors are road: the normal of one beside a car is neither the
    road's nor the car's.
    """
    return ~(functional.max_pool2d((~road).float(), kernel_size=3, stride=1, padding=1) > 0)


def camera_height_error(road: RoadPixels, camera_height_m: Tensor) -> Tensor:
    """How far each road pixel's camera height is from the known one, (B, 1, H, W) in metres; 0 off the road and where
    none is known.

    camera_height_m: (B,) constants, NaN where none is known. Each pixel has a normal of its own, with its gradient: a
        plane fitted to
    the road cannot correct a wrong normal when it is a constant, and explodes when it is not.
    """
    known = camera_height_m.isfinite()[:, None, None, None] & road.valid
    said = camera_height_m.detach().nan_to_num()[:, None, None, None]
    return (said - road.camera_height).abs().where(known, 0.0)


def camera_height_loss(error: Tensor, counted: Tensor) -> Tensor:
    """The mean, a scalar, over the counted pixels of each image, then over the images that have any; 0 where none has.

    error: (B, 1, H, W).  counted: (B, 1, H, W) bool.
    """
    pixels = counted.flatten(1).sum(1)
    of_image = error.where(counted, 0.0).flatten(1).sum(1) / pixels.clamp(min=1)
    return of_image.sum() / (pixels > 0).sum().clamp(min=1)


@dataclass(frozen=True, slots=True)
class KnownHeights:
    """What is known of a batch in metres.

    objects: of (B, H, W), `segments_of`.
    object_m: (M,) their heights, NaN where there is none.
    weight: (M,) bool, or how far each is believed; 0 leaves it out (`object_weights`).
    camera_m: (B,) the camera's height, NaN as long as none is known (`training.camera_heights`).
    """

    objects: Segments
    object_m: Tensor
    weight: Tensor
    camera_m: Tensor


class MetricScaleLoss:
    """Both losses over all scales of inverse depth, each brought to the image's size; runs in float32 at least."""

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
    ) -> LossReport:
        """The loss of a batch.

        Args:
            inverse_depth: a map a scale, finest first, (B, 1, H / 2^s, W / 2^s) in 1/m.
            camera: of the image, K (B, 3, 3).
            road: (B, 1, H, W) bool; its outermost pixels are left out (`inner`).
            known: heights in metres.
            object_share, camera_share: of their weights, in this epoch (`training.hand_over`).

        Returns: terms "object_height" and "camera_height"; the maps "object_height_error" and "camera_height_error" (B,
            1, H, W) in
        metres, of the finest scale; `seen` "camera_height_m", the median over the images, NaN without a road.
        Raises GeometryError where a map of heights has another size than its objects or images.
        """
        _check_known(known, len(road))
        with torch.autocast(road.device.type, enabled=False):
            dtype = torch.promote_types(inverse_depth[0].dtype, torch.float32)
            road = inner(road)
            at_scales = [
                self._at(resize_map(scale.to(dtype), *road.shape[-2:]), camera.to(dtype), road, known)
                for scale in inverse_depth
            ]
            of_objects, of_cameras, finest, errors = zip(*at_scales, strict=True)
            terms = {
                "object_height": object_share * self.config.object_height * torch.stack(of_objects).mean(),
                "camera_height": camera_share * self.config.camera_height * torch.stack(of_cameras).mean(),
            }
        heights = finest[0].median_height.detach()
        return LossReport(
            total=torch.stack(list(terms.values())).sum(),
            terms={name: value.detach() for name, value in terms.items()},
            maps=errors[0],
            least=dict.fromkeys(terms, 0.0),
            seen={"camera_height_m": masked_median(heights, ~heights.isnan())},
        )

    def _at(
        self, inverse_depth: Tensor, camera: Camera, road: Tensor, known: KnownHeights
    ) -> tuple[Tensor, Tensor, RoadPixels, dict[str, Tensor]]:
        """Of one scale: both means, the road's pixels, both maps."""
        depth_m = depth_from_inverse(inverse_depth)
        weight = known.weight.to(depth_m.dtype) * known.object_m.isfinite()
        of_pixel = object_height_error(depth_m, camera, known.objects, known.object_m.to(depth_m.dtype))
        on_road = road_pixels(depth_m, camera, road)
        of_road = camera_height_error(on_road, known.camera_m.to(depth_m.dtype))
        counted = on_road.valid & known.camera_m.isfinite()[:, None, None, None]
        of_objects = (
            torch.zeros_like(depth_m).flatten().index_put((known.objects.pixel,), of_pixel.detach()).view_as(depth_m)
        )
        maps = {"object_height_error": of_objects, "camera_height_error": of_road.detach()}
        return object_height_loss(of_pixel, known.objects, weight), camera_height_loss(of_road, counted), on_road, maps


def _check_known(known: KnownHeights, images: int) -> None:
    found = (*known.object_m.shape, *known.weight.shape, *known.camera_m.shape)
    expected = (known.objects.count, known.objects.count, images)
    if found != expected:
        raise GeometryError(
            "known heights",
            found="{} of objects, {} weights, {} of cameras".format(*found) if len(found) == 3 else f"shapes {found}",
            expected="{}, {} and {}".format(*expected),
            fix="pass a height and a weight each object, and a camera height each image",
        )
