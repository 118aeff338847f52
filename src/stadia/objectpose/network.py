"""Predict dense class, rotation, center, depth and size of objects, and combine them to poses (FastPoseCNN, section 3).

The decoder is the semantic branch of Panoptic FPN (Kirillov et al., arXiv 1901.02446).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stadia.core.types import Camera, TensorDataclass
from stadia.differentiable.segments import interpolate_at, quaternion_mean_by_segment, segment_means, segment_sums
from stadia.geometry import poses as se3
from stadia.geometry.cameras import inverse_intrinsics
from stadia.geometry.poses import quaternion_from_ray, quaternion_multiply
from stadia.geometry.segments import Segments
from stadia.networks.encoders import Encoder
from stadia.objectpose.config import ObjectPoseNetConfig
from stadia.objectpose.instances import VotedCenters, translation_from_center, vote_center

MIN_STRIDE = 4  # encoder levels of a finer stride are not used


def _level(inputs: int, outputs: int, doublings: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for number in range(max(doublings, 1)):
        layers.append(nn.Conv2d(outputs if number else inputs, outputs, 3, padding=1, bias=False))
        layers += [nn.GroupNorm(outputs // 4, outputs), nn.ReLU()]
        if doublings:
            layers.append(nn.Upsample(scale_factor=2.0, mode="bilinear", align_corners=False))
    return nn.Sequential(*layers)


class PyramidDecoder(nn.Module):
    """Map the features of an encoder (channels and strides, finest first) to one map at the finest of the strides.

    pyramid, segmentation: number of channels before and after the first convolution of each level.
    dropout: share of whole channels that are dropped.
    """

    def __init__(
        self, channels: Sequence[int], strides: Sequence[int], *, pyramid: int, segmentation: int, dropout: float
    ) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, pyramid, 1) for c in channels)
        doublings = [(stride // strides[0]).bit_length() - 1 for stride in strides]
        self.levels = nn.ModuleList(_level(pyramid, segmentation, n) for n in doublings)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map features (B, C, H / stride, W / stride), finest first, to (B, segmentation, H / finest, W / finest)."""
        pyramid: list[Tensor] = []
        for lateral, feature in zip(reversed(self.lateral), reversed(features), strict=True):
            level = lateral(feature)
            coarser = F.interpolate(pyramid[-1], level.shape[-2:], mode="nearest") if pyramid else 0.0
            pyramid.append(level + coarser)
        first, *others = (blocks(level) for level, blocks in zip(reversed(pyramid), self.levels, strict=True))
        result: Tensor = self.dropout(sum(others, start=first))
        return result


class PyramidNet(nn.Module):
    """An encoder, and for each of `outputs` (channels by name) a decoder and a 1x1 convolution."""

    def __init__(
        self,
        encoder: str,
        outputs: Mapping[str, int],
        *,
        pretrained: bool = True,
        pyramid: int = 256,
        segmentation: int = 128,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(encoder, pretrained=pretrained)
        strides = self.encoder.strides
        self._first = next(i for i, s in enumerate(strides) if s >= MIN_STRIDE or s == strides[-1])
        channels, strides = self.encoder.channels[self._first :], strides[self._first :]
        sizes = {"pyramid": pyramid, "segmentation": segmentation}
        decoders = {name: PyramidDecoder(channels, strides, dropout=dropout, **sizes) for name in outputs}
        self.decoders = nn.ModuleDict(decoders)
        self.heads = nn.ModuleDict({name: nn.Conv2d(segmentation, count, 1) for name, count in outputs.items()})

    @property
    def stride(self) -> int:
        """Return the stride of the output maps."""
        return self.encoder.strides[self._first]

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Map images (B, 3, H, W), RGB in [0, 1], to float32 maps (B, channels, H / stride, W / stride) by name."""
        features = self.encoder(image)[self._first :]
        return {name: self.heads[name](decoder(features)).float() for name, decoder in self.decoders.items()}


INIT_PIXEL_SIZE_M = 0.005  # initial size of a pixel at the object: an image 160 pixels wide at a distance of 0.8 m

INIT_SIZE_M = 0.1  # initial size of an object along each axis

POSE_CHANNELS = {"quaternion": 4, "translation": 3, "size": 3}
"""Number of output channels per object class of each head; translation has two for the center's direction, one for
depth.
"""


@dataclass(frozen=True, slots=True)
class ObjectMaps(TensorDataclass):
    """Hold the output maps of the object pose network for B images and C classes, including the background.

    The maps of poses are predicted for each of the C - 1 object classes, at the network's stride, and each map is h x
    w.

    class_logits: (B, C, H, W) class logits of each image pixel.
    quaternion: (B, C - 1, 4, h, w) rotation as a quaternion w, x, y, z of any length: from object coordinates to
        coordinates along the pixel's viewing ray (`rotation_frame="ray"` in the configuration) or to camera coordinates
        ("camera").
    to_center: (B, C - 1, 2, h, w) x and y of the direction from the pixel towards its object's center, of any length.
    log_pixel_m: (B, C - 1, 1, h, w) ln(z / fx): logarithm of the metres that one pixel covers at the object.
    log_size: (B, C - 1, 3, h, w) natural logarithms of the edge lengths of the object's box in metres.
    """

    class_logits: Tensor
    quaternion: Tensor
    to_center: Tensor
    log_pixel_m: Tensor
    log_size: Tensor

    @property
    def class_map(self) -> Tensor:
        """Return the most probable class of each pixel, (B, H, W); 0 is the background."""
        return self.class_logits.max(1).indices  # five times as fast as argmax, on a CPU

    @property
    def direction(self) -> Tensor:
        """Return the direction from each map cell to its object's center of any class, (B, 2, h, w).

        It is the sum of the unit vectors predicted for the classes, weighted by the probabilities of the classes.
        """
        stride = self.class_logits.shape[-2] // self.to_center.shape[-2]
        probability = F.avg_pool2d(self.class_logits, stride).softmax(1)[:, 1:, None]
        # F.normalize takes seventy times as long along this axis on a CPU.
        length = self.to_center.square().sum(2, keepdim=True).sqrt()
        return (probability * self.to_center / length.clamp(min=1e-12)).sum(1)


@dataclass(frozen=True, slots=True)
class ObjectPixels:
    """Hold predictions at the P pixels that show objects.

    place: (P, 2) x and y of the pixels.
    quaternion: (P, 4) rotation from object to camera coordinates, as a quaternion w, x, y, z of any length.
    to_center: (P, 2) direction from the pixel to its object's center, of any length.
    log_depth: (P,) natural logarithm of z of the object's center in metres.
    log_size: (P, 3) natural logarithms of the edge lengths of the object's box in metres.
    """

    place: Tensor
    quaternion: Tensor
    to_center: Tensor
    log_depth: Tensor
    log_size: Tensor


class ObjectPoseNet(nn.Module):
    """A PyramidNet with four outputs.

    classes: number of classes, including the background.
    """

    def __init__(self, config: ObjectPoseNetConfig, classes: int = 7) -> None:
        super().__init__()
        self.config, self.classes = config, classes
        self.net = PyramidNet(
            config.encoder,
            {"mask": classes, **{name: channels * (classes - 1) for name, channels in POSE_CHANNELS.items()}},
            pretrained=config.pretrained,
            pyramid=config.pyramid_channels,
            segmentation=config.segmentation_channels,
            dropout=config.dropout,
        )

    @property
    def stride(self) -> int:
        """Return the divisor of both sides of an image."""
        return self.net.encoder.strides[-1]

    def forward(self, image: Tensor) -> ObjectMaps:
        """Map images (B, 3, H, W), RGB in [0, 1], to maps. H and W are multiples of `stride`."""
        output = self.net(image)
        kinds = self.classes - 1  # each class has its own channels for all outputs but the mask
        class_maps = {name: output[name].unflatten(1, (kinds, count)) for name, count in POSE_CHANNELS.items()}
        return ObjectMaps(
            F.interpolate(output["mask"], image.shape[-2:], mode="bilinear", align_corners=False),
            class_maps["quaternion"],
            class_maps["translation"][:, :, :2],
            class_maps["translation"][:, :, 2:] + math.log(INIT_PIXEL_SIZE_M),
            class_maps["size"] + math.log(INIT_SIZE_M),
        )

    def pixels(self, maps: ObjectMaps, segments: Segments, class_id: Tensor, camera: Camera) -> ObjectPixels:
        """Interpolate the output maps at the pixels of M objects, for each object in the maps of its class.

        maps: output of the network for B images.
        segments: the P pixels that show the M objects, grouped by object.
        class_id: (M,) class number of each object, above 0.
        camera: camera of the B images, with K (B, 3, 3).
        """
        height, width = maps.class_logits.shape[-2:]
        image_index, kind = segments.image[segments.segment], class_id[segments.segment] - 1
        within = segments.pixel % (height * width)
        place = torch.stack((within % width, within // width), -1).to(maps.quaternion.dtype)
        class_maps = torch.cat((maps.quaternion, maps.to_center, maps.log_pixel_m, maps.log_size), 2).flatten(0, 1)
        stride = height // maps.quaternion.shape[-2]
        values = interpolate_at(class_maps, image_index * (self.classes - 1) + kind, place, stride)
        quaternion, to_center, log_pixel_m, log_size = torch.split(values, [4, 2, 1, 3], -1)
        if self.config.rotation_frame == "ray":
            homogeneous = torch.cat((place, torch.ones_like(place[:, :1])), -1)
            rays = (inverse_intrinsics(camera.K)[image_index].to(place) * homogeneous[:, None, :]).sum(-1)
            quaternion = quaternion_multiply(quaternion_from_ray(rays), quaternion)
        log_depth = log_pixel_m[:, 0] + camera.fx[image_index].log().to(place)
        return ObjectPixels(place, quaternion, to_center, log_depth, log_size)


CenterVote = Callable[[Tensor, Tensor, Tensor, int], VotedCenters]
"""Type of a function that finds object centers from votes of pixels, such as `vote_center`.

Its arguments are pixels (P, 2), directions to the center (P, 2), the number of each pixel's object (P,), and the
number of objects.
"""


@dataclass(frozen=True, slots=True)
class ObjectPoses(TensorDataclass):
    """Hold the predicted poses of M objects.

    quaternion_wxyz: (M, 4) rotation from object to camera coordinates, as a unit quaternion w, x, y, z.
    T_camera_object: (M, 4, 4) poses, from object to camera coordinates in metres.
    size_m: (M, 3) edge lengths of the objects' boxes in metres.
    center_known: (M,) bool, false if the directions from the object's pixels do not cross, so that their mean
        position was used as the center.
    log_depth: (M,) natural logarithm of z of the object's center in metres.
    """

    quaternion_wxyz: Tensor
    T_camera_object: Tensor
    size_m: Tensor
    center_known: Tensor
    log_depth: Tensor


@dataclass(frozen=True, slots=True)
class ObjectMeans(TensorDataclass):
    """Hold means of the predictions over the pixels of each of M objects.

    quaternion_wxyz: (M, 4) mean rotation from object to camera coordinates, as a unit quaternion with w >= 0.
    log_depth: (M,) mean natural logarithm of z of the object's center in metres.
    size_m: (M, 3) geometric means of the edge lengths of the object's box in metres.
    """

    quaternion_wxyz: Tensor
    log_depth: Tensor
    size_m: Tensor


def average_object_pixels(pixels: ObjectPixels, segments: Segments) -> ObjectMeans:
    """Average the predictions over the pixels of each object; the result is differentiable.

    The mean quaternion is the leading eigenvector of the mean outer product, so that q and -q are the same. Depths
    and sizes are averaged as logarithms.

    pixels: predictions at the P pixels.
    segments: which object each of these pixels shows.
    """
    segment, count = segments.segment, segments.count
    quaternion = quaternion_mean_by_segment(F.normalize(pixels.quaternion, dim=-1), segment, count)
    mean = segment_means(torch.cat((pixels.log_depth[:, None], pixels.log_size), -1), segment, count)
    return ObjectMeans(quaternion, mean[:, 0], mean[:, 1:].exp())


def aggregate_objects(
    pixels: ObjectPixels, segments: Segments, camera: Camera, vote: CenterVote = vote_center
) -> ObjectPoses:
    """Compute the pose of each object: mean rotation, depth and size of its pixels, and the center that they vote for.

    pixels: predictions at the P pixels that show objects.
    segments: which object and which image each of these pixels belongs to.
    camera: camera of the B images, with K (B, 3, 3).
    vote: function that finds the centers from the pixels' directions, such as `vote_center`.
    """
    means = average_object_pixels(pixels, segments)
    centers = vote(pixels.place, pixels.to_center, segments.segment, segments.count)
    object_camera = Camera(camera.K[segments.image], camera.height, camera.width)
    t = translation_from_center(centers.pixel, means.log_depth.exp(), object_camera)
    T = se3.from_rotation_translation(se3.matrix_from_quaternion_wxyz(means.quaternion_wxyz), t)
    return ObjectPoses(means.quaternion_wxyz, T, means.size_m, centers.known, means.log_depth)


def score_classes(class_logits: Tensor, segments: Segments, class_id: Tensor) -> Tensor:
    """Return the score of each object, (M,): the mean probability of the object's class over its pixels.

    class_logits: (B, C, H, W) class logits of B images.
    segments: the pixels of the M objects.
    class_id: (M,) class number of each object.
    """
    probability = segments.gather(class_logits).softmax(-1)
    own = probability.gather(1, class_id[segments.segment][:, None])
    return segment_means(own, segments.segment, segments.count)[:, 0]


def predict_object_class(class_logits: Tensor, segments: Segments) -> Tensor:
    """Return each object's class number, (M,): the foreground class with the largest product of probabilities.

    The product is over the pixels of the object.

    class_logits: (B, C, H, W) class logits of B images.
    segments: the pixels of the M objects.
    """
    log_p = segments.gather(class_logits)[:, 1:].log_softmax(-1)
    return segment_sums(log_p, segments.segment, segments.count).argmax(1) + 1
