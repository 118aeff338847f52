"""A loss on a scene with known outputs, and the cases of losses with depth labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor

from stadia.core.errors import summarize_exception
from stadia.core.types import Camera
from stadia.geometry.segments import segments_from_instances
from stadia.losses.loss_report import LossReport
from stadia.losses.metric_scale import KnownHeights, MetricScaleLoss

Outputs = Mapping[str, Tensor]  # outputs of networks by name, float64, batch first
DepthLoss = Callable[[Tensor, Tensor], Any]

DEPTH_FACTORS = (0.5, 0.8, 0.9, 1.0, 1.1, 1.25, 2.0)  # factors on the true depth: the loss is least at 1

CONFIDENT = 8.0  # a correct logit at which sigmoids are not yet saturated
IMAGE = "targets.image"  # name of the image (B, 3, H, W) among the inputs of a loss

COLORS = ("red", "green", "blue")


class LossRaised(Exception):
    """A loss, or its gradient, raised an exception: the message is one line."""


@dataclass(frozen=True)
class ErrorAxis:
    """Describe how the outputs of a network can be wrong by a varying amount, such as depth by a factor.

    name: name of the amount, such as "depth, times the true one".
    code: code of the finding if the loss is not smallest at the right amount.
    right: amount at which the outputs are right, such as the factor 1.
    outputs: outputs by name, for each amount.
    """

    name: str
    code: str
    right: float
    outputs: Mapping[float, Outputs]


@dataclass(frozen=True)
class LossCase:
    """Hold a loss and a scene with known right outputs, so that properties of the loss can be checked.

    loss: function from outputs by name to a report of the loss.
    right: the right outputs, at which the loss must be smallest.
    off: moderately wrong outputs, at which gradients are checked.
    axes: ways to make outputs wrong; the loss must rise along each of them.
    shown: further inputs of the loss by name, such as images, which it must not modify.
    forms: functions that make variants of the scene, such as "mirrored", by name.
    hostile: functions that make scenes with extreme inputs, by name; the loss must stay finite on them.
    unlabeled: bool masks of the pixels without a label, for some outputs; the gradient must be 0 there.
    loose: for some outputs, relative tolerance of the gradient, because some pixels have no gradient by design.
    added: case of the term alone that `change_loss` adds to a loss; None for an unchanged loss.
    added_by_image: function that returns, for given outputs, the added term as a function of the image (B, 3, H, W).
    added_at: function that returns the added term for outputs of any size.
    left_out: names of terms that are 0 on this scene by design.
    """

    loss: Callable[[Outputs], Any]
    right: Outputs
    off: Outputs
    axes: tuple[ErrorAxis, ...]
    shown: Mapping[str, Tensor]
    forms: Mapping[str, Callable[[], LossCase]] = field(default_factory=dict)
    hostile: Mapping[str, Callable[[], LossCase]] = field(default_factory=dict)
    unlabeled: Mapping[str, Tensor] = field(default_factory=dict)
    loose: Mapping[str, float] = field(default_factory=dict)
    added: LossCase | None = None
    added_by_image: Callable[[Outputs], Callable[[Tensor], float]] | None = None
    added_at: Callable[[Outputs], float] | None = None
    left_out: tuple[str, ...] = ()

    def report(self, outputs: Outputs) -> Any:
        """Return the report of the loss. Raises LossRaised for any exception in it."""
        return _call(self.loss, outputs)

    def change_loss(self, change: Callable[[Any, Outputs], Any]) -> LossCase:
        """Return the case of a loss that changes this one's report, in every form and hostile scene.

        change: returns the changed report from the report and the outputs, for example with a term of
        `outputs["inverse_depth"]`, (B, 1, H, W) in float64. Video scenes also have `outputs["image"]` (B, 3, H, W).
        """

        def change_zero(report: Any, outputs: Outputs) -> LossReport:
            return LossReport(change(report, outputs).total, {}, {})

        def add_to(outputs: Outputs) -> Callable[[Tensor], float]:
            zero = _call(_find_zero_report, self.loss, outputs)
            return lambda image: total_of(_call(change, zero, {**outputs, "image": image}))

        def add_at(outputs: Outputs) -> float:
            return total_of(_call(change, _call(_find_zero_report, self.loss, self.right), outputs))

        changed = self._change_all(change, lambda loss, outputs: loss(outputs))
        added = self._change_all(change_zero, _find_zero_report)
        by_image = add_to if IMAGE in self.shown else None
        return replace(changed, added=added, added_by_image=by_image, added_at=add_at)

    def _change_all(
        self, change: Callable[[Any, Outputs], Any], report: Callable[[Callable[[Outputs], Any], Outputs], Any]
    ) -> LossCase:
        image = {"image": self.shown[IMAGE]} if IMAGE in self.shown else {}

        def loss(outputs: Outputs) -> Any:
            return change(report(self.loss, outputs), {**outputs, **image})

        def change_each(cases: Mapping[str, Callable[[], LossCase]]) -> dict[str, Callable[[], LossCase]]:
            return {name: cache(lambda make=make: make()._change_all(change, report)) for name, make in cases.items()}

        return replace(self, loss=loss, forms=change_each(self.forms), hostile=change_each(self.hostile))

    @cached_property
    def report_at_truth(self) -> Any:
        """Return the report of the loss at the right outputs."""
        return self.report(self.right)

    @cached_property
    def report_at_wrong(self) -> Any:
        """Return the report of the loss at the moderately wrong outputs `off`."""
        return self.report(self.off)

    @cached_property
    def gradients(self) -> dict[str, Tensor]:
        """Return the gradients of the total at the wrong outputs, by output name. Each has the shape of its output."""
        return self.total_and_gradients_at_wrong[1]

    @cached_property
    def total_and_gradients_at_wrong(self) -> tuple[float, dict[str, Tensor]]:
        """Return the total at the wrong outputs, and its gradients, which have the same shapes as the outputs."""
        return self.total_and_gradients_at(self.off)

    def gradients_at(self, outputs: Outputs) -> dict[str, Tensor]:
        """Return the gradients of the total by output name, with the same shapes as the outputs.

        The gradient is 0 for an output that the loss does not use. Raises LossRaised if the loss or its gradient fails.
        """
        return self.total_and_gradients_at(outputs)[1]

    def total_and_gradients_at(self, outputs: Outputs) -> tuple[float, dict[str, Tensor]]:
        """Return the total and its gradients by output name, with the same shapes as the outputs.

        Raises LossRaised if the loss or its gradient fails.
        """
        given = {name: value.detach().clone().requires_grad_() for name, value in outputs.items()}
        report = self.report(given)
        try:
            gradients = torch.autograd.grad(
                report.total, list(given.values()), allow_unused=True, materialize_grads=True
            )
        except Exception as error:
            raise LossRaised(f"its gradient, {summarize_exception(error)}") from error
        return total_of(report), dict(zip(given, gradients, strict=True))

    @cached_property
    def along(self) -> dict[str, dict[float, float]]:
        """Return the total of the loss for each amount of error along each axis, by the name of the axis."""

        def find_total(outputs: Outputs) -> float:
            is_true = all(value is self.right.get(name) for name, value in outputs.items())
            return total_of(self.report_at_truth if is_true else self.report(outputs))

        with torch.no_grad():
            return {axis.name: {x: find_total(axis.outputs[x]) for x in sorted(axis.outputs)} for axis in self.axes}


def _call(loss: Callable[..., Any], *given: Any) -> Any:
    try:
        return loss(*given)
    except Exception as error:
        raise LossRaised(summarize_exception(error)) from error


def _find_zero_report(loss: Callable[[Outputs], Any], outputs: Outputs) -> Any:
    """Return the report of a loss of 0: what `change` makes of it is what it adds, at any weight."""
    with torch.no_grad():
        report = loss(outputs)
    zero = torch.zeros_like(report.total) + sum(value[:0].sum() for value in outputs.values())
    return replace(report, total=zero, terms={name: 0 * value for name, value in report.terms.items()})


def total_of(report: Any) -> float:
    """Return the total of a report as a number."""
    return float(report.total.detach())


def map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return a copy of a dataclass after applying a function to every tensor, also in nested dataclasses.

    value: dataclass, tensor, or any other value, which is returned unchanged.
    change: function from tensor to tensor.
    """
    if isinstance(value, Tensor):
        return change(value)
    if is_dataclass(value) and not isinstance(value, type):
        names = [item.name for item in fields(value)]
        return replace(value, **{name: map_tensors(getattr(value, name), change) for name in names})
    return value


def depth_labels(height: int = 33, width: int = 65, batch: int = 2, unit: float = 1.0) -> Tensor:
    """Return depth labels (B, 1, H, W), float64, of a wavy slanted plane 3 to 16 units away; every third column is 0.

    height: height H in pixels.
    width: width W in pixels.
    batch: number B of samples.
    unit: length of a unit, in the unit of the labels.
    """
    x = torch.linspace(0, 1, width, dtype=torch.float64)
    y = torch.linspace(0, 1, height, dtype=torch.float64)[:, None]
    phase = torch.rand(batch, 1, 1, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 6
    depth_m = 4 + 8 * x + 3 * y + (6 * x + 4 * y + phase).sin()
    return torch.where(torch.arange(width) % 3 == 2, 0.0, unit * depth_m)


def make_depth_case(loss: DepthLoss, *, forgives_scale: bool = False, unit: float = 1.0) -> LossCase:
    """Return the case of a loss of inverse depth (B, 1, H, W) 1/m with labels (B, 1, H, W) metres, 0 = unknown.

    forgives_scale: whether it compares up to scale (and shift): then the axis is the slant of the plane.
    unit: depths are 3 to 16 units.
    """

    def build(true_m: Tensor) -> LossCase:
        filled = torch.where(true_m > 0, true_m, true_m[true_m > 0].median() if (true_m > 0).any() else 8.0 * unit)
        right = {"inverse_depth": 1 / filled}
        off = {"inverse_depth": right["inverse_depth"] * (1.1 + 0.1 * (20 * filled / unit).sin())}
        middle = filled.log().mean(dim=(2, 3), keepdim=True)

        def wrong(x: float) -> dict[str, Tensor]:
            log_depth = middle + (filled.log() - middle) * x if forgives_scale else filled.log() + torch.tensor(x).log()
            return {"inverse_depth": (-log_depth).exp()}

        name = "relief of log depth, times the true one" if forgives_scale else "depth, times the true one"
        axis = ErrorAxis(name, "L01", 1.0, {x: right if x == 1 else wrong(x) for x in DEPTH_FACTORS})

        def evaluate(values: Outputs) -> Any:
            return loss(values["inverse_depth"], true_m)

        unlabeled = {"inverse_depth": true_m == 0}
        return LossCase(evaluate, right, off, (axis,), {"labels": true_m}, unlabeled=unlabeled)

    case = add_label_forms(build, unit)
    return replace(case, forms={**case.forms, "mirrored": lambda: build(depth_labels(unit=unit).flip(-1))})


def add_label_forms(build: Callable[[Tensor], LossCase], unit: float) -> LossCase:
    """Return the inputs on which a loss is tested, for the labels of `depth_labels` and for altered labels.

    build: makes the case from labels (B, 1, H, W).
    unit: unit of the labels.
    """
    true = depth_labels(unit=unit)
    height, width = true.shape[-2:]
    forms = {
        "twice the batch": lambda: build(torch.cat((true, true))),
        "twice the size": lambda: build(depth_labels(2 * height - 1, 2 * width - 1, len(true), unit)),
    }
    hostile = {"an image without labels": lambda: build(torch.cat((true[:1], torch.zeros_like(true[:1]))))}
    return replace(build(true), forms=forms, hostile=hostile)


# -- a flat road below a camera of known height

HEIGHT_M = 1.65  # height of KITTI's cameras
FARTHEST_M = 60.0  # farthest point of the road: beyond, a row of pixels covers metres


def make_flat_road() -> tuple[Tensor, Tensor, Camera]:
    """Return inverse depth (1, 1, H, W), road mask (1, 1, H, W) and a level camera HEIGHT_M above the road."""
    height, width = 48, 96
    fy, cy = 0.9 * width, 0.4 * height
    K = torch.tensor([[[0.9 * width, 0, width / 2 - 0.5], [0, fy, cy], [0, 0, 1]]], dtype=torch.float64)
    rows = torch.arange(height, dtype=torch.float64)[:, None].expand(height, width)
    inverse_depth = ((rows - cy) / (fy * HEIGHT_M)).clamp(min=1 / FARTHEST_M)
    road = inverse_depth > 1.2 / FARTHEST_M
    return inverse_depth[None, None], road[None, None], Camera(K, height, width)


def make_camera_height_case(loss: MetricScaleLoss) -> LossCase:
    """Return the case of a known camera height over a flat road, without objects."""
    inverse_depth, road, camera = make_flat_road()
    objects = segments_from_instances(torch.zeros_like(road[:, 0], dtype=torch.int64))
    nothing = torch.zeros(0, dtype=torch.float64)
    known = KnownHeights(objects, nothing, nothing, torch.tensor([HEIGHT_M], dtype=torch.float64))

    def evaluate(maps: Outputs) -> Any:
        return loss((maps["inverse_depth"],), camera, road, known)

    right = {"inverse_depth": inverse_depth}
    wrong = {x: right if x == 1 else {"inverse_depth": inverse_depth / x} for x in DEPTH_FACTORS}
    waves = 1 + 0.05 * torch.linspace(0, 9, inverse_depth.shape[-1], dtype=torch.float64).sin()
    axis = ErrorAxis("depth, times the true one", "L01", 1.0, wrong)
    return LossCase(
        evaluate,
        right,
        {"inverse_depth": inverse_depth * waves / 1.1},
        (axis,),
        {"road": road},
        left_out=("object_height",),
    )
