"""The object pose loss and its parts: rotation (ROTATION_LOSSES), center direction, log depth, size, class masks.

Rotation losses take `quaternion` (..., 4) w, x, y, z of any length, `true` (..., 4) of length 1, and the objects'
`Symmetry` or None, and return (...). Each is minimal at the true rotation and at rotations that the symmetry makes
equivalent. Their gradients are finite.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from stadia.core.errors import GeometryError
from stadia.core.types import TensorDataclass
from stadia.differentiable.segments import segment_means, segment_sums
from stadia.geometry.segments import Segments
from stadia.losses.class_masks import cross_entropy, dice_loss, focal_loss, labeled_pixels
from stadia.losses.loss_report import LossReport, average_count_over_processes, divide_sum
from stadia.objectpose import ROTATION_LOSSES
from stadia.objectpose.boxes import Symmetry, half_angle_sin_cos
from stadia.objectpose.config import ObjectPoseLossConfig, RotationLossConfig
from stadia.objectpose.instances import unit_directions

EPS = 0.1  # the slope of `bounded_log` in 1 - a^2 is 1 / EPS at the truth and 1 / (1 + EPS) at 180 degrees


MIN_QUATERNION_NORM = 1e-18  # shorter quaternions have no angle, since their squares underflow in float32


def _some_angle(quaternion: Tensor, true: Tensor, symmetry: Symmetry | None) -> tuple[Tensor, Tensor]:
    sine, cosine = half_angle_sin_cos(quaternion, true, symmetry)
    return sine.where(torch.maximum(sine, cosine) > MIN_QUATERNION_NORM, 1.0), cosine


def geodesic(quaternion: Tensor, true: Tensor, symmetry: Symmetry | None = None) -> Tensor:
    """Return the angle in radians, (...), between predicted and true rotations; its gradient has constant size.

    quaternion: (..., 4) predicted quaternions w, x, y, z of any length.
    true: (..., 4) true unit quaternions.
    symmetry: rotations that leave the objects unchanged; the angle is the smallest over them. None for no symmetry.

    Examples:
        >>> upright, turned = torch.tensor([1.0, 0, 0, 0]), torch.tensor([0.6, 0, 0.8, 0])
        >>> round(torch.rad2deg(geodesic(turned, upright)).item(), 2)
        106.26
    """
    return 2 * torch.atan2(*_some_angle(quaternion, true, symmetry))


def bounded_log(quaternion: Tensor, true: Tensor, symmetry: Symmetry | None = None, *, eps: float = EPS) -> Tensor:
    """Return the rotation loss log((1 - a^2 + eps) / eps), (...), with a = |q . q_true|, the cosine of half the angle.

    It goes from 0 at the true rotation to log(1 + 1 / eps) at 180 degrees, and is steepest near the true rotation.

    quaternion: (..., 4) predicted quaternions w, x, y, z; their length does not matter.
    true: (..., 4) true unit quaternions.
    symmetry: rotations that leave the objects unchanged; the loss is the smallest over them. None for no symmetry.
    eps: positive constant that bounds the loss and keeps its slope finite.

    Examples:
        >>> upright, turned = torch.tensor([1.0, 0, 0, 0]), torch.tensor([0.6, 0, 0.8, 0])
        >>> round(bounded_log(turned, upright).item(), 3), bounded_log(-upright, upright).item()
        (2.001, 0.0)
    """
    return torch.log1p(one_minus_dot_squared(quaternion, true, symmetry) / eps)


def log_dot(quaternion: Tensor, true: Tensor, symmetry: Symmetry | None = None, *, eps: float = EPS) -> Tensor:
    """Return the rotation loss log((1 - a + eps) / eps), (...), with a = |q . q_true|, the cosine of half the angle.

    It goes from 0 at the true rotation to log(1 + 1 / eps) at 180 degrees.

    quaternion: (..., 4) predicted quaternions w, x, y, z; their length does not matter.
    true: (..., 4) true unit quaternions.
    symmetry: rotations that leave the objects unchanged; the loss is the smallest over them. None for no symmetry.
    eps: positive constant that bounds the loss and keeps its slope finite.

    Examples:
        >>> upright, turned = torch.tensor([1.0, 0, 0, 0]), torch.tensor([0.6, 0, 0.8, 0])
        >>> round(log_dot(turned, upright).item(), 3)
        1.609
    """
    return torch.log1p(_one_minus_dot(quaternion, true, symmetry) / eps)


def minus_log_dot(quaternion: Tensor, true: Tensor, symmetry: Symmetry | None = None, *, eps: float = EPS) -> Tensor:
    """Return the rotation loss -log((a + eps) / (1 + eps)), (...), with a = |q . q_true|, the cosine of half the angle.

    It goes from 0 at the true rotation to log(1 + 1 / eps) at 180 degrees, its steepest point.

    quaternion: (..., 4) predicted quaternions w, x, y, z; their length does not matter.
    true: (..., 4) true unit quaternions.
    symmetry: rotations that leave the objects unchanged; the loss is the smallest over them. None for no symmetry.
    eps: positive constant that bounds the loss and keeps its slope finite.

    Examples:
        >>> upright, turned = torch.tensor([1.0, 0, 0, 0]), torch.tensor([0.6, 0, 0.8, 0])
        >>> round(minus_log_dot(turned, upright).item(), 3)
        0.452
    """
    return -torch.log1p(-_one_minus_dot(quaternion, true, symmetry) / (1 + eps))


def _one_minus_dot(quaternion: Tensor, true: Tensor, symmetry: Symmetry | None) -> Tensor:
    sine, cosine = _some_angle(quaternion, true, symmetry)
    length = (sine.square() + cosine.square()).sqrt()
    return sine.square() / (length * (length + cosine))


def one_minus_dot_squared(quaternion: Tensor, true: Tensor, symmetry: Symmetry | None = None) -> Tensor:
    """Return 1 - a^2, (...), with a = |q . q_true|: the squared sine of half the angle between the rotations.

    quaternion: (..., 4) predicted quaternions w, x, y, z; their length does not matter.
    true: (..., 4) true unit quaternions.
    symmetry: rotations that leave the objects unchanged; the loss is the smallest over them. None for no symmetry.

    Examples:
        >>> upright, turned = torch.tensor([1.0, 0, 0, 0]), torch.tensor([0.6, 0, 0.8, 0])
        >>> round(one_minus_dot_squared(turned, upright).item(), 3)
        0.64
    """
    sine, cosine = _some_angle(quaternion, true, symmetry)
    return sine.square() / (sine.square() + cosine.square())


def squared_error(quaternion: Tensor, true: Tensor, symmetry: Symmetry | None = None) -> Tensor:
    """Return |q - q_true|^2, (...), with the nearest of the quaternions that represent an equivalent true rotation.

    In contrast to the losses that ignore the length of q, it also trains the length to be 1.

    quaternion: (..., 4) predicted quaternions q, w, x, y, z of any length.
    true: (..., 4) true unit quaternions.
    symmetry: rotations that leave the objects unchanged. None for no symmetry, where still -q_true equals q_true.

    Examples:
        >>> upright, turned = torch.tensor([1.0, 0, 0, 0]), torch.tensor([0.6, 0, 0.8, 0])
        >>> round(squared_error(turned, upright).item(), 3)
        0.8
    """
    sine, cosine = half_angle_sin_cos(quaternion, true, symmetry)
    return sine.square() + (cosine - 1).square()


def norm_penalty(quaternion: Tensor) -> Tensor:
    """Return the penalty (|q| - 1)^2, (...), on the length of predicted quaternions.

    Without it, losses that ignore the length let it grow during training, which makes the steps of the rotation
    smaller.

    quaternion: (..., 4) predicted quaternions of any length.

    Examples:
        >>> norm_penalty(torch.tensor([2.0, 0.0, 0.0, 0.0])).item()
        1.0
    """
    dtype = torch.promote_types(quaternion.dtype, torch.float32)
    return (torch.linalg.vector_norm(quaternion.to(dtype), dim=-1) - 1).square()


def center_error(predicted: Tensor, true: Tensor) -> Tensor:
    """Return the smooth L1 error, (...), of predicted directions from pixels to object centers, summed over x and y.

    predicted: (..., 2) predicted directions. They are not normalized, so that their length is trained to be 1.
    true: (..., 2) true unit vectors from the pixels to the center (`unit_directions`).

    Source: Peng et al., "PVNet", CVPR 2019.

    Examples:
        >>> center_error(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])).item()
        1.0
    """
    dtype = torch.promote_types(predicted.dtype, torch.float32)
    return F.smooth_l1_loss(predicted.to(dtype), true.to(dtype), reduction="none").sum(-1)


def log_depth_error(log_depth: Tensor, true_m: Tensor) -> Tensor:
    """Return |ln z_predicted - ln z_true|, (...); 0 at pixels with true depth 0, which means unknown.

    log_depth: (...) predicted natural logarithms of z in metres.
    true_m: (...) true z in metres, or 0.

    Examples:
        >>> round(log_depth_error(torch.tensor(0.0), torch.tensor(torch.e)).item(), 4)
        1.0
    """
    known = true_m > 0
    return (log_depth - true_m.where(known, 1.0).log()).abs().where(known, 0.0)


def size_error(size_m: Tensor, true_m: Tensor) -> Tensor:
    """Return the mean absolute error of the box's three edge lengths, divided by its true space diagonal, (...).

    size_m: (..., 3) predicted edge lengths in metres.
    true_m: (..., 3) true edge lengths in metres.

    Examples:
        >>> round(size_error(torch.tensor([1.0, 1.0, 2.0]), torch.tensor([1.0, 1.0, 1.0])).item(), 4)
        0.1925
    """
    return (size_m - true_m).abs().mean(-1) / torch.linalg.vector_norm(true_m, dim=-1)


@dataclass(frozen=True, slots=True)
class ObjectPosePrediction(TensorDataclass):
    """Hold predictions for B images that show M labeled objects, which cover P pixels together.

    class_logits: (B, C, H, W) logits of C classes, including the background, at every pixel of the images.
    place: (P, 2) x and y of the P object pixels.
    pixel_quaternion: (P, 4) rotation predicted at each object pixel: quaternion w, x, y, z of any length, object to
        camera.
    pixel_to_center: (P, 2) predicted direction from each object pixel to its object's center, of any length.
    quaternion: (M, 4) rotation of each object, the mean over its pixels, as a unit quaternion.
    log_depth: (M,) natural logarithm of z of each object's center in metres.
    size_m: (M, 3) edge lengths of each object's box in metres.
    """

    class_logits: Tensor
    place: Tensor
    pixel_quaternion: Tensor
    pixel_to_center: Tensor
    quaternion: Tensor
    log_depth: Tensor
    size_m: Tensor


@dataclass(frozen=True, slots=True)
class ObjectPoseLabels:
    """Hold the labels of B images that show M objects.

    class_map: (B, H, W) class number of each pixel, from 0 for the background to C - 1; or IGNORE_INDEX for a pixel
        that is not trained.
    segments: the P pixels that show the M objects, grouped by object.
    quaternion: (M, 4) true rotation from object to camera coordinates, as a unit quaternion w, x, y, z.
    center_px: (M, 2) x and y at which the object's center is projected into the image.
    depth_m: (M,) z of the object's center in metres.
    size_m: (M, 3) edge lengths of the object's box in metres.
    symmetry: rotations that leave each of the M objects unchanged.
    """

    class_map: Tensor
    segments: Segments
    quaternion: Tensor
    center_px: Tensor
    depth_m: Tensor
    size_m: Tensor
    symmetry: Symmetry


RotationLoss = Callable[[Tensor, Tensor, Symmetry | None], Tensor]
"""A function of quaternions w, x, y, z (..., 4), true ones (..., 4) and a Symmetry or None to values (...)."""


def build_rotation_loss(config: RotationLossConfig) -> RotationLoss:
    """Build the weighted sum of the rotation losses that a configuration names.

    Return a function of predicted quaternions (..., 4), true unit quaternions (..., 4), and symmetry or None, to the
    loss (...).

    config: names and weights of the losses, and the constant eps of those that have one.

    Examples:
        >>> loss = build_rotation_loss(RotationLossConfig(name="geodesic", also={"squared_error": 0.5}))
        >>> upright, turned = torch.tensor([1.0, 0, 0, 0]), torch.tensor([0.6, 0, 0.8, 0])
        >>> round(loss(turned, upright, None).item(), 3)
        2.255
    """
    losses = []
    for name, weight in config.weights.items():
        loss = ROTATION_LOSSES.load(name)
        takes_eps = "eps" in inspect.signature(loss).parameters
        losses.append((weight, partial(loss, eps=config.eps) if takes_eps else loss))
    if len(losses) == 1:
        return losses[0][1]

    def add_losses(quaternion: Tensor, true: Tensor, symmetry: Symmetry | None = None) -> Tensor:
        return torch.stack([weight * loss(quaternion, true, symmetry) for weight, loss in losses]).sum(0)

    return add_losses


class ObjectPoseLoss:
    """Compute the weighted terms by name, as means over all processes. All processes must call it."""

    def __init__(self, config: ObjectPoseLossConfig | None = None) -> None:
        self.config = config or ObjectPoseLossConfig()
        self.rotation = build_rotation_loss(self.config.rotation)

    def __call__(self, predicted: ObjectPosePrediction, labels: ObjectPoseLabels) -> LossReport:
        _check_counts(predicted, labels)
        known, shown = labeled_pixels(labels.class_map), (labels.class_map > 0).flatten(1).any(1)
        count = known.new_full((), labels.segments.count, dtype=torch.float32)
        pixels, images, objects = average_count_over_processes(
            torch.stack((known.sum().float(), shown.sum().float(), count))
        )
        terms = self._mask_terms(predicted.class_logits, labels.class_map, pixels, images)
        terms |= {name: divide_sum(values, objects) for name, values in self._object_terms(predicted, labels).items()}
        weighted = {name: self._weight(name) * value for name, value in terms.items()}
        total = torch.stack([*weighted.values(), _zero_term(predicted)]).sum()
        terms = {name: value.detach() for name, value in weighted.items()}
        return LossReport(total, terms, {}, least=dict.fromkeys(terms, 0.0))

    def _weight(self, term: str) -> float:
        of_rotation = {"rotation": self.config.rotation_weight, "norm": self.config.rotation.norm_penalty}
        return of_rotation[term] if term in of_rotation else float(getattr(self.config, term))

    def _mask_terms(self, logits: Tensor, classes: Tensor, pixels: Tensor, images: Tensor) -> dict[str, Tensor]:
        config, terms = self.config, {}
        if config.cross_entropy:
            terms["cross_entropy"] = divide_sum(cross_entropy(logits, classes), pixels)
        if config.focal:
            terms["focal"] = divide_sum(focal_loss(logits, classes, config.focal_gamma), pixels)
        if config.dice:
            terms["dice"] = divide_sum(dice_loss(logits, classes), images)  # 0 of an image without an object
        return terms

    def _object_terms(self, predicted: ObjectPosePrediction, labels: ObjectPoseLabels) -> dict[str, Tensor]:
        segment, count = labels.segments.segment, labels.segments.count
        average = partial(segment_means, segment=segment, count=count, weights=self._weigh_pixels(predicted, labels))
        if self.config.rotation_of == "object":
            rotation = self.rotation(predicted.quaternion, labels.quaternion, labels.symmetry)
        else:
            true, symmetry = labels.quaternion[segment], labels.symmetry[segment]
            rotation = average(self.rotation(predicted.pixel_quaternion, true, symmetry))
        direction = unit_directions(labels.center_px[segment], predicted.place)
        return {
            "rotation": rotation,
            "norm": average(norm_penalty(predicted.pixel_quaternion)),
            "center": average(center_error(predicted.pixel_to_center, direction)),
            "depth": log_depth_error(predicted.log_depth, labels.depth_m),
            "size": size_error(predicted.size_m, labels.size_m),
        }

    def _weigh_pixels(self, predicted: ObjectPosePrediction, labels: ObjectPoseLabels) -> Tensor | None:
        """Return (P,) 1 if the predicted class is right, and all 1 for an object whose class is never right."""
        if self.config.pixels == "all":
            return None
        segments, logits = labels.segments, predicted.class_logits.detach()
        true = segments.gather(labels.class_map[:, None])[:, 0]
        agrees = (segments.gather(logits).argmax(1) == true).to(logits.dtype)
        found = segment_sums(agrees, segments.segment, segments.count) > 0
        return agrees.where(found[segments.segment], 1.0)


def _check_counts(predicted: ObjectPosePrediction, labels: ObjectPoseLabels) -> None:
    pixels, objects = len(labels.segments.segment), labels.segments.count
    found = [len(x) for x in (predicted.place, predicted.pixel_quaternion, predicted.pixel_to_center)]
    found += [len(x) for x in (predicted.quaternion, predicted.log_depth, predicted.size_m)]
    found += [len(x) for x in (labels.quaternion, labels.center_px, labels.depth_m, labels.size_m)]
    if found != [pixels] * 3 + [objects] * 7:
        given = f"{', '.join(map(str, found))} rows (3 tensors of pixels, 7 of objects)"
        expected = f"{pixels} of pixels and {objects} of objects"
        raise GeometryError("object pose loss", found=given, expected=expected)


def _zero_term(predicted: ObjectPosePrediction) -> Tensor:
    of_pixels = (predicted.class_logits, predicted.pixel_quaternion, predicted.pixel_to_center)
    outputs = (*of_pixels, predicted.quaternion, predicted.log_depth, predicted.size_m)
    return torch.stack([output[:0].sum() for output in outputs]).sum()
