"""The recipe `objectpose`: class, mask, rotation, translation and size of objects (FastPoseCNN, arXiv 2406.11063)."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor
from torch.nn import functional as F

from stadia.core.errors import ConfigError
from stadia.core.types import Camera
from stadia.evaluation.plots.colormaps import to_uint8
from stadia.evaluation.plots.image_sheets import draw_masks
from stadia.geometry.cameras import inverse_intrinsics
from stadia.geometry.poses import quaternion_conjugate, quaternion_from_ray, quaternion_multiply
from stadia.geometry.segments import Segments, segments_from_instances, subsample_segments
from stadia.losses.class_masks import IGNORE_INDEX
from stadia.losses.config import load_loss
from stadia.losses.loss_report import LossReport
from stadia.networks.encoders import check_encoder
from stadia.objectpose import metrics
from stadia.objectpose.boxes import Symmetry
from stadia.objectpose.config import DetectionConfig, ObjectPoseConfig, ObjectPoseLossConfig
from stadia.objectpose.data.object_data import ObjectBatch, ObjectData, open_objects
from stadia.objectpose.data.object_samples import ObjectInputs, ObjectTargets
from stadia.objectpose.instances import (
    center_from_translation,
    group_instances,
    unit_directions,
    vote_center,
    vote_center_ransac,
)
from stadia.objectpose.losses import ObjectPoseLabels, ObjectPoseLoss, ObjectPosePrediction, RotationLoss
from stadia.objectpose.network import (
    ObjectMaps,
    ObjectPoseNet,
    aggregate_objects,
    average_object_pixels,
    predict_object_class,
    score_classes,
)
from stadia.objectpose.predictions import draw_objects
from stadia.training.loop.batches import gather_from_processes
from stadia.training.loop.recipe import Recipe
from stadia.training.loss_checks.loss_case import ErrorAxis, LossCase, Outputs
from stadia.training.loss_checks.training_start import take_samples

CERTAIN_LOGIT = 20.0  # logit of the true class in the maps of a perfect network

# Errors of the loss case: factors of depth and size, turns, and factors of the logits.
TIMES = (0.5, 0.8, 1.0, 1.25, 2.0)
TURNS_DEG = (0.0, 10.0, 30.0, 60.0, 90.0)
LOGITS = (-1.0, -0.2, 0.0, 0.2, 1.0)

CASE_OBJECTS = 16
"""Number of objects in the case of a rotation loss."""

CASE_AXIS = (0.6, 0.8)
"""x and z of the axis about which this case turns objects; y is 0."""


def ground_truth_objects(targets: ObjectTargets, segments: Segments) -> metrics.PosedObjects:
    """Return class, pose and size of the M labeled objects that pixels of the batch show, in the order of the segments.

    targets: labels of a batch of images.
    segments: pixels of the objects, grouped from `targets.instance`.
    """
    return _objects_at(targets, (segments.image, segments.instance - 1))


def image_objects(targets: ObjectTargets, index: int) -> metrics.PosedObjects:
    """Return class, pose and size of all labeled objects of one image, also of those without a visible pixel.

    targets: labels of a batch of images.
    index: index of the image in the batch.
    """
    places = targets.known[index].nonzero()[:, 0]
    return _objects_at(targets, (torch.full_like(places, index), places))


def _objects_at(targets: ObjectTargets, at: tuple[Tensor, Tensor]) -> metrics.PosedObjects:
    size_m, symmetry = targets.size_m[at], Symmetry(targets.symmetry.revolution[at], targets.symmetry.turns[at])
    return metrics.PosedObjects(
        targets.class_id[at], targets.T_camera_object[at], size_m, symmetry, torch.ones_like(size_m[:, 0])
    )


def label_object_poses(targets: ObjectTargets) -> tuple[metrics.PosedObjects, ObjectPoseLabels]:
    """Return the M labeled objects that pixels of the batch show, and their labels in the form that the loss takes.

    targets: labels of a batch of images.
    """
    segments = segments_from_instances(targets.instance)
    true, camera = ground_truth_objects(targets, segments), targets.camera
    t_m = true.T_camera_object[:, :3, 3]
    center = center_from_translation(t_m, Camera(camera.K[segments.image], camera.height, camera.width))
    quaternion = targets.quaternion_wxyz[segments.image, segments.instance - 1]
    labels = ObjectPoseLabels(targets.class_map, segments, quaternion, center, t_m[:, 2], true.size_m, true.symmetry)
    return true, labels


def ground_truth_maps(targets: ObjectTargets, classes: int) -> ObjectMaps:
    """Return the maps that a perfect network would predict, the same for each class.

    classes: number of classes, including the background.
    """
    images, height, width = targets.instance.shape
    K = targets.camera.K
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    place = torch.stack((x, y), -1).to(K).expand(images, -1, -1, -1)
    rays = (
        torch.cat((place, torch.ones_like(place[..., :1])), -1)[..., None, :]
        .mul(inverse_intrinsics(K)[:, None, None])
        .sum(-1)
    )

    def per_pixel(values: Tensor) -> Tensor:
        """(B, N, k) to (B, H, W, k)."""
        at = (targets.instance - 1).clamp(min=0).flatten(1)[..., None].expand(-1, -1, values.shape[-1])
        return values.gather(1, at).reshape(images, height, width, -1)

    t = targets.T_camera_object[..., :3, 3]
    center = center_from_translation(t, Camera(K[:, None], height, width))
    quaternion = quaternion_multiply(
        quaternion_conjugate(quaternion_from_ray(rays)), per_pixel(targets.quaternion_wxyz)
    )
    pixel_m = per_pixel(t[..., 2:]) / K[:, 0, 0, None, None, None]
    outputs = (quaternion, unit_directions(per_pixel(center), place), pixel_m.log(), per_pixel(targets.size_m).log())
    expanded = (x.movedim(-1, 1)[:, None].expand(-1, classes - 1, -1, -1, -1).contiguous() for x in outputs)
    logits = CERTAIN_LOGIT * F.one_hot(targets.class_map.clamp(0, classes - 1), classes).movedim(-1, 1).to(K)
    return ObjectMaps(logits, *expanded)


def make_object_pose_case(
    compute_loss: Callable[[ObjectMaps, ObjectTargets], LossReport],
    config: ObjectPoseLossConfig,
    targets: ObjectTargets,
    classes: int,
) -> LossCase:
    """Return the loss case in float64 on the CPU: the ground truth, and wrong classes, rotations, depths and sizes.

    classes: number of classes, including the background.
    """
    true = ground_truth_maps(replace(targets, camera=targets.camera.to(torch.float64)), classes)
    right = {name: getattr(true, name).double() for name in true.__dataclass_fields__}

    def evaluate(maps: Outputs) -> LossReport:
        return compute_loss(ObjectMaps(**maps), targets)

    def turned(degrees: float) -> Tensor:
        """Return the quaternions turned about the object's x axis, which is a wrong rotation for every symmetry."""
        half = math.radians(degrees) / 2
        turn = torch.tensor([math.cos(half), math.sin(half), 0, 0], dtype=torch.float64)
        return quaternion_multiply(right["quaternion"].movedim(2, -1), turn).movedim(-1, 2)

    def scaled(name: str) -> dict[float, Outputs]:
        return {x: {**right, name: right[name] + math.log(x)} for x in TIMES}

    axes = [
        ErrorAxis(
            "class logits, times the right ones",
            "L17",
            1.0,
            {x: {**right, "class_logits": right["class_logits"] * x} for x in LOGITS},
        )
    ]
    if config.rotation_weight:
        axes.append(
            ErrorAxis(
                "degrees from the true rotation", "L17", 0.0, {x: {**right, "quaternion": turned(x)} for x in TURNS_DEG}
            )
        )
    if config.depth:
        axes.append(ErrorAxis("depth, times the true one", "L01", 1.0, scaled("log_pixel_m")))
    if config.size:
        axes.append(ErrorAxis("size, times the true one", "L17", 1.0, scaled("log_size")))
    off = {
        "class_logits": right["class_logits"] / 10,
        "quaternion": turned(20.0),
        "to_center": right["to_center"] + 0.3,
        "log_pixel_m": right["log_pixel_m"] + 0.1,
        "log_size": right["log_size"] - 0.1,
    }
    switched_off = (name.removesuffix("_weight") for name, value in config if value == 0)
    return LossCase(
        evaluate,
        right,
        off,
        tuple(axes),
        {"targets.quaternion_wxyz": targets.quaternion_wxyz, "targets.size_m": targets.size_m},
        left_out=("norm", *switched_off),  # the quaternions of the case are normalized
    )


def make_rotation_case(loss: RotationLoss) -> LossCase:
    """Return the case of a rotation loss, which needs no data: quaternions turned away from random true rotations.

    Quaternions of the opposite sign are the same rotations, so that the loss must be smallest there too.

    loss: function of quaternions w, x, y, z (M, 4), true ones (M, 4) of length 1, and a Symmetry or None, to (M,).
    """

    def build(repeats: int) -> LossCase:
        normal = torch.randn(CASE_OBJECTS, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        true = F.normalize(normal, dim=-1).repeat(repeats, 1)

        def evaluate(outputs: Outputs) -> LossReport:
            values = loss(outputs["quaternion"], true, None)
            if values.shape != (len(true),):
                raise ValueError(f"it returns the shape {tuple(values.shape)} for {len(true)} objects")
            total = values.mean()
            return LossReport(total, {"rotation": total.detach()}, {})

        def turned(degrees: float, sign: int = 1) -> Outputs:
            half = math.radians(degrees) / 2
            x, z = (share * math.sin(half) for share in CASE_AXIS)
            turn = torch.tensor([math.cos(half), x, 0, z], dtype=torch.float64)
            return {"quaternion": sign * quaternion_multiply(true, turn)}

        right = {"quaternion": true}
        name = "degrees from the true rotation"
        turns_deg = (*TURNS_DEG, 180.0)
        axes = (
            ErrorAxis(name, "L17", 0.0, {x: turned(x) if x else right for x in turns_deg}),
            ErrorAxis(
                f"{name}, by quaternions of the opposite sign", "L17", 0.0, {x: turned(x, -1) for x in turns_deg}
            ),
        )
        off = {"quaternion": turned(20.0)["quaternion"] + 0.05}
        return LossCase(evaluate, right, off, axes, {"the true quaternions": true})

    return replace(build(1), forms={"twice the batch": lambda: build(2)})


class ObjectPoseRecipe(Recipe[ObjectPoseConfig, ObjectData, ObjectInputs, ObjectTargets]):
    """Class, mask, rotation, translation and size of objects, trained with labels.

    config: configuration with every "auto" resolved.
    """

    recipe = "objectpose"
    best_metrics = ("val/rotation_error_deg_of_all",)

    def __init__(self, config: ObjectPoseConfig) -> None:
        super().__init__(config)
        if config.data.classes is None:
            fix = "call ObjectPoseRecipe.prepare first"
            raise ConfigError("data.classes", found="none", expected="the dataset's classes", fix=fix)
        self.classes = config.data.classes
        self.network = ObjectPoseNet(config.model, len(self.classes))
        self.loss = load_loss(config.loss.name, ObjectPoseLoss)(config.loss)
        self._comparisons: dict[object, metrics.ImageComparison] = {}  # comparisons of the current validation

    @classmethod
    def prepare(cls, config: ObjectPoseConfig, console: Console) -> tuple[ObjectPoseConfig, ObjectData]:
        """Open the data, by default TableWorld. Raises DataError or ConfigError."""
        check_encoder(config.model.encoder, height=config.data.height, width=config.data.width)
        data = open_objects(config.data, config.training, seed=config.seed, console=console)
        return config.model_copy(update={"data": data.config}), data

    @property
    def weights(self) -> Mapping[str, str]:
        return {"encoder": self.network.net.encoder.weights}

    def find(self, image: Tensor, camera: Camera) -> "FoundObjects":
        """Return the objects that are found in images (B, 3, H, W) with K (B, 3, 3)."""
        return group_pixels(self.network, self.network(image), camera, self.config.detection)

    def training_step(self, batch: ObjectBatch) -> LossReport:
        return self.compute_loss(self.network(batch.inputs.image), batch.targets)

    def compute_loss(self, maps: ObjectMaps, targets: ObjectTargets) -> LossReport:
        """Compare predictions with labels at the pixels of the true objects."""
        true, labels = label_object_poses(targets)
        pixels = self.network.pixels(maps, labels.segments, true.class_id, targets.camera)
        found = average_object_pixels(pixels, labels.segments)
        prediction = ObjectPosePrediction(
            class_logits=maps.class_logits,
            place=pixels.place,
            pixel_quaternion=pixels.quaternion,
            pixel_to_center=pixels.to_center,
            quaternion=found.quaternion_wxyz,
            log_depth=found.log_depth,
            size_m=found.size_m,
        )
        return self.loss(prediction, labels)

    def loss_cases(self, batch: ObjectBatch) -> Mapping[str, LossCase]:
        """Return the case of the rotation loss, and that of the true objects of the first images, if these show any."""
        shown = take_samples(batch, 2).targets.to("cpu")
        cases = {"rotation loss": make_rotation_case(self.loss.rotation)} if self.config.loss.rotation_weight else {}
        if shown.instance.any():
            cases["loss"] = make_object_pose_case(self.compute_loss, self.config.loss, shown, len(self.classes))
        return cases

    def on_validation_start(self) -> None:
        self._comparisons = {}

    def validation_step(self, batch: ObjectBatch) -> Mapping[str, Tensor | float]:
        """Return `mask_iou` (B,). `validation_summary` computes the other scores."""
        comparisons = compare_images(self.find(batch.inputs.image, batch.inputs.camera), batch.targets)
        self._comparisons |= dict(zip(batch.meta, comparisons, strict=True))
        return {"mask_iou": torch.tensor([mean_mask_iou(one) for one in comparisons])}

    def validation_summary(self) -> Mapping[str, float]:
        """Return median errors, recalls and average precisions over all objects."""
        images = metrics.merge_comparisons(gather_from_processes(self._comparisons))
        return metrics.matched_scores(images) | metrics.mean_average_precisions(images, range(1, len(self.classes)))

    @torch.no_grad()
    def images(self, batch: ObjectBatch, report: LossReport) -> Mapping[str, NDArray[np.uint8]]:
        """Return drawings (H, W, 3) of the first sample: input, true boxes, found boxes and masks."""
        was_training = self.training
        first = Camera(batch.inputs.camera.K[:1], batch.inputs.camera.height, batch.inputs.camera.width)
        found = self.eval().find(batch.inputs.image[:1], first)
        self.train(was_training)
        segments = segments_from_instances(batch.targets.instance[:1])
        image, K = to_uint8(batch.inputs.image[0].cpu()), first.K[0].double().cpu().numpy()
        return {
            "input": image,
            "true": draw_objects(image, K, ground_truth_objects(batch.targets, segments)),
            "found": draw_objects(image, K, found.objects),
            "masks": draw_masks(image, found.instance[0].cpu().numpy(), found.class_map[0].cpu().numpy()),
        }


@dataclass(frozen=True, slots=True)
class FoundObjects:
    """Hold the M objects that the network found in a batch of B images.

    instance: (B, H, W) number of the object at each pixel, counted from 1 in each image; 0 means no object.
    class_map: (B, H, W) class number of the object at each pixel; 0 is the background.
    image: (M,) index of the image that shows the object. Objects of one image are contiguous, in the order of their
        numbers.
    objects: class, pose, size and score of the M objects.
    center_known: (M,) bool, false if the directions from an object's pixels do not cross, so that their mean position
        is used as the object's center.
    """

    instance: Tensor
    class_map: Tensor
    image: Tensor
    objects: metrics.PosedObjects
    center_known: Tensor

    def of_image(self, index: int) -> metrics.PosedObjects:
        """Return the objects of one image of the batch."""
        return self.objects[self.image == index]


def group_pixels(network: ObjectPoseNet, maps: ObjectMaps, camera: Camera, config: DetectionConfig) -> FoundObjects:
    """Group the pixels whose directions lead to one center into an object, and average class and pose over its pixels.

    network: network that predicted the maps.
    maps: its output for B images.
    camera: camera of these images, with K (B, 3, 3).
    config: smallest number of pixels of an object, and how its pixels vote for the center.
    """
    instance = group_instances(maps.class_logits, maps.direction, min_px=config.min_px)
    segments = subsample_segments(segments_from_instances(instance), config.pixels)
    class_id = predict_object_class(maps.class_logits, segments)
    vote = vote_center
    if config.hypotheses:
        vote = partial(vote_center_ransac, generator=torch.Generator().manual_seed(0), hypotheses=config.hypotheses)
    poses = aggregate_objects(network.pixels(maps, segments, class_id, camera), segments, camera, vote)
    score = score_classes(maps.class_logits, segments, class_id)
    nothing = Symmetry.parse(["none"] * segments.count)
    symmetry = Symmetry(nothing.revolution.to(score.device), nothing.turns.to(score))
    objects = metrics.PosedObjects(class_id, poses.T_camera_object, poses.size_m, symmetry, score)
    return FoundObjects(
        instance, _paint_classes(class_id, instance, segments), segments.image, objects, poses.center_known
    )


def _paint_classes(class_id: Tensor, instance: Tensor, segments: Segments) -> Tensor:
    of_number = instance.new_zeros(len(instance), segments.count + 1)
    of_number[segments.image, segments.instance] = class_id
    return of_number.gather(1, instance.flatten(1)).view_as(instance)


def compare_images(found: FoundObjects, targets: ObjectTargets) -> list[metrics.ImageComparison]:
    """Compare the found objects in each image with all labeled objects in it; return one comparison per image.

    Found objects that mostly cover objects without a label are left out, because they cannot be scored.

    found: objects found in B images.
    targets: labels of the same images.
    """
    comparisons = []
    labeled = found.instance.where(targets.class_map != IGNORE_INDEX, 0)
    for index, known in enumerate(targets.known.cpu().numpy()):
        predicted = found.of_image(index)
        whole, left = (
            torch.bincount(of[index].flatten(), minlength=len(predicted) + 1)[1:] for of in (found.instance, labeled)
        )
        kept = 2 * left >= whole
        overlap = metrics.instance_mask_iou(labeled[index], targets.instance[index], len(predicted), len(known))[
            kept.cpu().numpy()
        ][:, known]
        comparisons.append(metrics.compare_objects(predicted[kept], image_objects(targets, index), overlap))
    return comparisons


def mean_mask_iou(comparison: metrics.ImageComparison) -> float:
    """Return the mean mask IoU over the true objects of an image; a missed object counts as 0.

    comparison: comparison of the found with the true objects of the image.

    The result is NaN for an image without true objects.
    """
    pairs = metrics.match_hungarian(comparison.mask_iou, comparison.same_class)
    objects = len(comparison.true_class_id)
    return float(comparison.mask_iou[pairs.predicted, pairs.true].sum()) / objects if objects else math.nan
