"""Loss cases of video: depth, motion and exposure of the synthetic plane."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from stadia.core.types import Prediction, Targets, is_temporal
from stadia.diagnostics.loss_checks import synthetic_plane
from stadia.diagnostics.loss_checks.loss_case import DEPTH_FACTORS, ErrorAxis, LossCase, Outputs
from stadia.diagnostics.loss_checks.synthetic_plane import PlaneScene
from stadia.geometry.se3 import se3_exp

VideoLoss = Callable[[Targets, Prediction, Sequence[str]], Any]

MOTION_FACTORS = (0.0, 0.5, 0.8, 1.0, 1.25, 1.6)
GAIN_FACTORS = (0.5, 0.8, 1.0, 1.25, 2.0)
OFFSETS = (-0.2, -0.05, 0.0, 0.05, 0.2)
LOG_UNCERTAINTY, SIGMA_OFFSET = -2.0, 0.5
UNIT = 2.0
OFF_ROWS = (0.0, 0.01, 0.0, 0.002, 0.0, 0.0)
"""A twist that is the same when mirrored. Pixels of a rectified pair project onto whole rows, where interpolation has
two one-sided gradients.
"""

MASKED_EXPOSURE = 0.25
"""Auto-masked pixels depend on the exposure without a gradient: 16 % of it in the losses of this package with two
temporal sources and four scales, at most 4 % in the others.
"""

MIN_HEIGHT, MAX_HEIGHT = 64, 128
"""Pixels of the images; more where the smallest scale would have fewer rows than MIN_SMALLEST_ROWS."""

ENOUGH_SMALLEST_ROWS, MIN_SMALLEST_ROWS = 8, 2
"""Rows of the smallest scale: with fewer the finest texture is one pixel long, and interpolation blurs it."""

MOTION_ALONE = 0.25
"""Tolerance where temporal sources train motion only: 10 to 15 % of their cost depends on depth without a gradient."""


@dataclass(frozen=True)
class OutputSpec:
    """Outputs of the networks beside depth and motion: their scales, and the image scales that the loss compares, each
    half the one before.

    motion_alone: whether temporal sources train no depth, `SelfSupervisedLossConfig.temporal_from_step`.
    """

    scales: int = 1
    sizes: int = 1
    brightness: bool = False
    uncertainty: bool = False
    right_view: bool = False
    motion_alone: bool = False


def make_video_case(
    loss: VideoLoss, source_names: Sequence[str] = ("-1", "+1"), outputs: OutputSpec | None = None
) -> LossCase:
    """Return the case of a video loss on the plane, with the sources of a training.

    loss: called with targets, a prediction and the names of the sources, in float64, on the CPU.
    source_names: of the batch: "-1", "+1", "stereo". With a stereo pair motion is no axis, since the pair hides it. A
        loss of depth only (such as measured depth) is checked with ("stereo",).
    """
    outputs = outputs or OutputSpec()
    halved = outputs.sizes - 1
    height = max(MIN_HEIGHT, min(ENOUGH_SMALLEST_ROWS << halved, MAX_HEIGHT), MIN_SMALLEST_ROWS << halved)
    return _build_case(loss, _render_scene(height, source_names, outputs), outputs)


def _render_scene(height: int, source_names: Sequence[str], outputs: OutputSpec, finer: float = 1.0) -> PlaneScene:
    """Render two samples of the plane, with exposures where the networks predict them."""
    scene = synthetic_plane.render_plane(height=height, width=2 * height, names=source_names, batch=2, finer=finer)
    return synthetic_plane.apply_exposures(scene) if outputs.brightness else scene


def _render_double(scene: PlaneScene, outputs: OutputSpec) -> PlaneScene:
    """Render the scene at twice the height and width."""
    return _render_scene(2 * scene.targets.camera.height, scene.source_names, outputs, finer=2.0)


def _build_case(loss: VideoLoss, scene: PlaneScene, outputs: OutputSpec, *, plain: bool = False) -> LossCase:
    """Build the case. plain: without axes and variants, which would recurse."""

    def evaluate(values: Outputs) -> Any:
        return loss(scene.targets, _prediction(scene, outputs, values), scene.source_names)

    right = _true_outputs(scene, outputs)
    off = {**right, "inverse_depth": right["inverse_depth"] / 1.1}
    temporal = torch.tensor([is_temporal(name) for name in scene.source_names])[:, None]
    off["motion"] = torch.where(temporal, 0.9 * right["motion"], right["motion"] + right["motion"].new_tensor(OFF_ROWS))
    if outputs.brightness:
        off["brightness"] = right["brightness"] * 1.05
    targets = scene.targets
    assert targets.depth_m is not None
    shown = {
        "targets.image": targets.image,
        "targets.sources": targets.sources,
        "targets.camera.K": targets.camera.K,
        "targets.depth_m": targets.depth_m,
    }
    if plain:
        return LossCase(evaluate, right, off, (), shown)
    forms: dict[str, Callable[[], PlaneScene]] = {
        "twice the batch": lambda: synthetic_plane.repeat_batch(scene),
        "twice the size": lambda: _render_double(scene, outputs),
        "mirrored": lambda: synthetic_plane.mirror_scene(scene),
        "sources in another order": lambda: synthetic_plane.reverse_sources(scene),
        "first tenth changed": lambda: synthetic_plane.flip_first_tenth(scene),
        **synthetic_plane.invert_sources(scene),
        "noise": lambda: synthetic_plane.add_noise(scene, 1.0),
        "half of it noise": lambda: synthetic_plane.add_noise(scene, 0.5),
    }
    if len(scene.source_names) == 1:
        del forms["sources in another order"]
    if outputs.right_view:
        del forms["mirrored"]  # right becomes left then
    dark, white = torch.zeros_like(scene.targets.image), torch.ones_like(scene.targets.image)
    hostile = {
        "black images": lambda: synthetic_plane.replace_images(scene, dark, torch.zeros_like(scene.targets.sources)),
        "white images": lambda: synthetic_plane.replace_images(scene, white, torch.ones_like(scene.targets.sources)),
        "a camera that stands still": lambda: synthetic_plane.stop_camera(scene),
    }

    def case_of(form: Callable[[], PlaneScene]) -> Callable[[], LossCase]:
        return lambda: _build_case(loss, form(), outputs, plain=True)

    return LossCase(
        evaluate,
        right,
        off,
        _axes(scene, outputs, right),
        shown,
        {name: case_of(form) for name, form in forms.items()} | _build_paired_forms(loss, scene, outputs),
        {name: case_of(form) for name, form in hostile.items()},
        loose={"brightness": MASKED_EXPOSURE, **({"inverse_depth": MOTION_ALONE} if outputs.motion_alone else {})},
    )


def _build_paired_forms(loss: VideoLoss, scene: PlaneScene, outputs: OutputSpec) -> dict[str, Callable[[], LossCase]]:
    """Return variants with their own wrong outputs: flat depth with a static camera, uncertainty on the wrong side."""

    def flat(static: PlaneScene) -> LossCase:
        case = _build_case(loss, static, outputs, plain=True)
        depth = case.right["inverse_depth"]
        return replace(
            case, off={**case.right, "inverse_depth": depth.mean(dim=(2, 3), keepdim=True).expand_as(depth).clone()}
        )

    def uncertain() -> LossCase:
        case = _build_case(loss, synthetic_plane.invert_left_half(scene), outputs, plain=True)
        right, wrong = (
            synthetic_plane.raise_left_half(case.right["log_uncertainty"], by) for by in (SIGMA_OFFSET, -SIGMA_OFFSET)
        )
        return replace(
            case, right={**case.right, "log_uncertainty": right}, off={**case.right, "log_uncertainty": wrong}
        )

    forms = {
        "a camera that has not moved": lambda: flat(synthetic_plane.stop_camera(scene)),
        "one that has not moved, twice the size": lambda: flat(
            synthetic_plane.stop_camera(_render_double(scene, outputs))
        ),
        "one that has not moved, in another unit": lambda: flat(
            synthetic_plane.scale_lengths(synthetic_plane.stop_camera(scene), UNIT)
        ),
    }
    return {**forms, "left half wrong": uncertain} if outputs.uncertainty else forms


def _true_outputs(scene: PlaneScene, outputs: OutputSpec) -> dict[str, Tensor]:
    values = {"inverse_depth": scene.inverse_depth, "motion": scene.twist}
    if outputs.brightness:
        values["brightness"] = scene.brightness
    if outputs.uncertainty:
        values["log_uncertainty"] = torch.full_like(scene.inverse_depth, LOG_UNCERTAINTY)
    if outputs.right_view:
        values["inverse_depth_right"] = scene.inverse_depth_of_sources[:, scene.source_names.index("stereo")]
    return values


def _prediction(scene: PlaneScene, outputs: OutputSpec, values: Outputs) -> Prediction:
    def maps(name: str) -> tuple[Tensor, ...] | None:
        if name not in values:
            return None
        return tuple(functional.avg_pool2d(values[name], 2**s) if s else values[name] for s in range(outputs.scales))

    inverse_depth = maps("inverse_depth")
    assert inverse_depth is not None
    return Prediction(
        inverse_depth,
        se3_exp(values["motion"]),
        maps("inverse_depth_right"),
        maps("log_uncertainty"),
        values.get("brightness"),
    )


def _axes(scene: PlaneScene, outputs: OutputSpec, right: Outputs) -> tuple[ErrorAxis, ...]:
    """Return the axes of depth, motion, exposure and the right view, as far as networks predict them."""

    def axis(name: str, code: str, output: str, change: Callable[[float, Tensor], Tensor], at: Sequence[float]) -> None:
        values = {x: {**right, output: change(x, right[output])} for x in at}
        axes.append(ErrorAxis(name, code, 0.0 if at is OFFSETS else 1.0, values))

    axes: list[ErrorAxis] = []
    axis("depth, times the true one", "L01", "inverse_depth", lambda x, value: value / x, DEPTH_FACTORS)
    if all(map(is_temporal, scene.source_names)):
        axis("motion, times the true one", "P01", "motion", lambda x, value: value * x, MOTION_FACTORS)
    if outputs.brightness:
        gain, offset = right["brightness"].unbind(-1)
        stack = torch.stack
        axis("gain, times the true one", "B01", "brightness", lambda x, _: stack((gain * x, offset), -1), GAIN_FACTORS)
        axis("offset, beside the true one", "B01", "brightness", lambda x, _: stack((gain, offset + x), -1), OFFSETS)
    if outputs.right_view:
        name = "depth of the right view, times the true one"
        axis(name, "L01", "inverse_depth_right", lambda x, value: value / x, DEPTH_FACTORS)
    return tuple(axes)
