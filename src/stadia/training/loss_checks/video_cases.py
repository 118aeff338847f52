"""Loss cases of video on a textured slanted plane with relief, whose images, depth and motion are known."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from stadia.core.types import Camera
from stadia.differentiable import images
from stadia.differentiable.batch import Prediction, Targets, is_temporal
from stadia.geometry.poses import invert_pose, mirror_x, se3_exp, se3_log
from stadia.training.loss_checks.loss_case import (
    COLORS,
    DEPTH_FACTORS,
    IMAGE,
    ErrorAxis,
    LossCase,
    Outputs,
    map_tensors,
)

VideoLoss = Callable[[Targets, Prediction, Sequence[str]], Any]

MOTION_FACTORS = (0.0, 0.5, 0.8, 1.0, 1.25, 1.6)  # factors on the true motion: the loss is least at 1
GAIN_FACTORS = (0.5, 0.8, 1.0, 1.25, 2.0)  # factors on the true gain of an exposure
OFFSETS = (-0.2, -0.05, 0.0, 0.05, 0.2)  # added to the true offset of an exposure
LOG_UNCERTAINTY = -2.0  # log Sigma of the true outputs
SIGMA_OFFSET = 0.5  # log Sigma that is added in one half, and subtracted in the other
UNIT = 2.0  # factor of all lengths in the scene of another unit
OFF_ROWS = (0.0, 0.01, 0.0, 0.002, 0.0, 0.0)  # a twist off the whole rows of pairs, the same when mirrored
MASKED_EXPOSURE = 0.25  # tolerance of the gradient of exposures, since auto-masked pixels have no gradient: up to .16
MOTION_ALONE = 0.25  # the same of depth if temporal sources only train motion: .10 to .15
MIN_HEIGHT = 64  # rows of the images
MAX_HEIGHT = 128  # more if the smallest scale would have fewer rows than MIN_SMALLEST_ROWS

ENOUGH_SMALLEST_ROWS = 8  # rows of the smallest scale for which images grow up to MAX_HEIGHT
MIN_SMALLEST_ROWS = 2  # rows of the smallest scale: fewer blur the finest texture
NORMAL = (0.25, -0.15, 1.0)  # direction of the plane's normal: no axis of the camera
DISTANCE_M = 8.0  # distance of the plane normal . p = distance, in the target's frame
RELIEF_M = 0.1  # height of bumps, for terms of second differences
RELIEF_ROUNDS = 20  # rounds that find the bumps on a ray

MOTIONS = {  # p_source = exp(v, w) p_target
    "-1": (0.05, 0.02, 0.5, 0.002, -0.01, 0.001),
    "+1": (-0.04, 0.01, -0.5, -0.001, 0.012, 0.002),
    "stereo": (-0.5, 0.0, 0.0, 0.0, 0.0, 0.0),
}
FURTHEST = 3  # steps beyond which motion stops growing, since the camera would reach the plane
EXPOSURES = {"-1": (0.8, 0.05), "+1": (1.05, -0.05), "stereo": (0.9, 0.02)}  # gain and offset; within [0, 1]
Part = tuple[int | slice | list[int], ...]  # indices into (B, N, 3, H, W): sources, colors, rows, columns
ALL = slice(None)


@dataclass(frozen=True)
class PlaneScene:
    """Hold the inputs of a video loss for rendered images of a plane, with the true depth and camera motion.

    targets: target images, source images and cameras.
    inverse_depth: (B, 1, H, W) true inverse depth of the target images in 1/m.
    twist: (B, N, 6) true motions, T_source_target = se3_exp(twist), from target to source camera coordinates.
    source_names: names of the N sources: "-1" and "+1" for the previous and the next video frame, "stereo" for a
        second camera.
    inverse_depth_of_sources: true inverse depth of the source images in 1/m.
    """

    targets: Targets
    inverse_depth: Tensor
    twist: Tensor
    source_names: tuple[str, ...]
    inverse_depth_of_sources: Tensor

    @property
    def brightness(self) -> Tensor:
        """Return gain and offset of brightness, (B, N, 2), that `apply_exposures` applies to each source image."""
        exposures = [EXPOSURES[_find_motion_key(name)] for name in self.source_names]
        return torch.tensor(exposures, dtype=self.targets.image.dtype).expand(len(self.targets.image), -1, 2)


@dataclass(frozen=True)
class OutputSpec:
    """Outputs of the networks besides depth and motion.

    scales, sizes: number of outputs, and of image sizes that the loss compares; each one has half the size of the one
        before.
    motion_alone: whether temporal sources train no depth (`SelfSupervisedLossConfig.temporal_from_step`).
    left_out: names of loss terms whose weight is 0.
    """

    scales: int = 1
    sizes: int = 1
    brightness: bool = False
    uncertainty: bool = False
    right_view: bool = False
    motion_alone: bool = False
    left_out: tuple[str, ...] = ()


def make_video_case(
    loss: VideoLoss, source_names: Sequence[str] = ("-1", "+1"), outputs: OutputSpec | None = None
) -> LossCase:
    """Return the case of a video loss on the plane, with the sources of a training.

    loss: called with targets, a prediction and source names, in float64, on the CPU.
    source_names: "-1", "+1", "stereo". A loss of depth only is checked with ("stereo",).
    """
    outputs = outputs or OutputSpec()
    halved = outputs.sizes - 1
    height = max(MIN_HEIGHT, min(ENOUGH_SMALLEST_ROWS << halved, MAX_HEIGHT), MIN_SMALLEST_ROWS << halved)
    return _build_case(loss, _render_scene(height, source_names, outputs), outputs)


def _render_scene(height: int, source_names: Sequence[str], outputs: OutputSpec, finer: float = 1.0) -> PlaneScene:
    names, width = source_names, 2 * height
    scene = render_plane(height=height, width=width, names=names, batch=2, finer=finer, relief_m=RELIEF_M)
    return apply_exposures(scene) if outputs.brightness else scene


def _build_case(loss: VideoLoss, scene: PlaneScene, outputs: OutputSpec, *, plain: bool = False) -> LossCase:

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
    shown = {IMAGE: targets.image, "targets.sources": targets.sources}
    shown |= {"targets.camera.K": targets.camera.K, "targets.depth_m": targets.depth_m}
    if plain:
        return LossCase(evaluate, right, off, (), shown)

    variants = _list_variants(scene, outputs)
    forms, static, hostile = ({name: cache(make) for name, make in scenes.items()} for scenes in variants)

    def case_of(form: Callable[[], PlaneScene]) -> LossCase:
        return _build_case(loss, form(), outputs, plain=True)

    def flat_case_of(form: Callable[[], PlaneScene]) -> LossCase:
        """Return a case with flat depth as its wrong output."""
        case = case_of(form)
        depth = case.right["inverse_depth"]
        flat = depth.mean(dim=(2, 3), keepdim=True).expand_as(depth).clone()
        return replace(case, off={**case.right, "inverse_depth": flat})

    def uncertain_case() -> LossCase:
        """Return the case of sources inverted on the left, with a wrong output that is uncertain on the right."""
        case = case_of(lambda: invert_parts(scene, (ALL, ALL, ALL, slice(None, scene.targets.camera.width // 2))))
        sure, unsure = (raise_left_half(case.right["log_uncertainty"], by) for by in (-SIGMA_OFFSET, SIGMA_OFFSET))
        right = {**case.right, "log_uncertainty": unsure}
        return replace(case, right=right, off={**case.right, "log_uncertainty": sure})

    cases: dict[str, Callable[[], LossCase]] = {name: cache(partial(case_of, form)) for name, form in forms.items()}
    cases |= {name: cache(partial(flat_case_of, form)) for name, form in static.items()}
    if outputs.uncertainty:
        cases["left half wrong"] = uncertain_case
    return LossCase(
        evaluate,
        right,
        off,
        _make_axes(scene, outputs, right),
        shown,
        cases,
        {name: partial(case_of, form) for name, form in hostile.items()},
        loose={"brightness": MASKED_EXPOSURE, **({"inverse_depth": MOTION_ALONE} if outputs.motion_alone else {})},
        left_out=outputs.left_out,
    )


Variants = dict[str, Callable[[], PlaneScene]]


def _list_variants(scene: PlaneScene, outputs: OutputSpec) -> tuple[Variants, Variants, Variants]:
    """Return variants with moderately wrong outputs, with a static camera, and hostile ones, by name."""

    @cache
    def render_double() -> PlaneScene:
        return _render_scene(2 * scene.targets.camera.height, scene.source_names, outputs, finer=2.0)

    forms: Variants = {
        "twice the batch": lambda: repeat_batch(scene),
        "twice the size": render_double,
        "mirrored": lambda: mirror_scene(scene),
        "sources in another order": lambda: reverse_sources(scene),
        "first tenth changed": lambda: flip_first_tenth(scene),
        **invert_sources(scene),
        "noise": lambda: add_noise(scene, 1.0),
        "half of it noise": lambda: add_noise(scene, 0.5),
    }
    if len(scene.source_names) == 1:
        del forms["sources in another order"]
    if outputs.right_view:
        del forms["mirrored"]  # right becomes left then
    static: Variants = {
        "a camera that has not moved": lambda: stop_camera(scene),
        "one that has not moved, twice the size": lambda: stop_camera(render_double()),
        "one that has not moved, in another unit": lambda: scale_lengths(stop_camera(scene), UNIT),
    }
    hostile: Variants = {
        "black images": lambda: fill_images(scene, 0.0),
        "white images": lambda: fill_images(scene, 1.0),
        "a camera that stands still": lambda: stop_camera(scene),
    }
    return forms, static, hostile


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

    inverse_depth, right, uncertainty = map(maps, ("inverse_depth", "inverse_depth_right", "log_uncertainty"))
    assert inverse_depth is not None
    return Prediction(inverse_depth, se3_exp(values["motion"]), right, uncertainty, values.get("brightness"))


def _make_axes(scene: PlaneScene, outputs: OutputSpec, right: Outputs) -> tuple[ErrorAxis, ...]:

    def axis(name: str, code: str, output: str, change: Callable[[float, Tensor], Tensor], at: Sequence[float]) -> None:
        true, values = (0.0 if at is OFFSETS else 1.0), {x: {**right, output: change(x, right[output])} for x in at}
        axes.append(ErrorAxis(name, code, true, {**values, true: right}))

    axes: list[ErrorAxis] = []
    axis("depth, times the true one", "L01", "inverse_depth", lambda x, value: value / x, DEPTH_FACTORS)
    if all(map(is_temporal, scene.source_names)):
        axis("motion, times the true one", "P01", "motion", lambda x, value: value * x, MOTION_FACTORS)
    if outputs.brightness:
        gain, offset = right["brightness"].unbind(-1)
        stack = torch.stack
        axis("gain, times the true one", "B01", "brightness", lambda x, _: stack((gain * x, offset), -1), GAIN_FACTORS)
        axis("offset from the true one", "B01", "brightness", lambda x, _: stack((gain, offset + x), -1), OFFSETS)
    if outputs.right_view:
        name = "depth of the right view, times the true one"
        axis(name, "L01", "inverse_depth_right", lambda x, value: value / x, DEPTH_FACTORS)
    return tuple(axes)


def render_plane(
    *,
    height: int = 24,
    width: int = 40,
    names: Sequence[str] = ("-1", "+1", "stereo"),
    batch: int = 1,
    finer: float = 1.0,
    relief_m: float = 0.0,
    dtype: torch.dtype = torch.float64,
) -> PlaneScene:
    """Render images of the plane with another texture for each sample; sources are "stereo" and temporal.

    finer: factor of a finer texture and smaller motion.
    relief_m: height of the bumps.
    """
    K = torch.tensor([[0.9 * width, 0, 0.48 * width], [0, 1.5 * height, 0.53 * height], [0, 0, 1]], dtype=torch.float64)
    phase = torch.arange(batch, dtype=torch.float64).view(-1, 1, 1)
    twist = torch.tensor([_motion(name) for name in names], dtype=torch.float64).expand(batch, -1, 6) / finer
    T_source_target = se3_exp(twist)
    here = torch.eye(4, dtype=torch.float64).expand(batch, 4, 4)
    poses = (here, *T_source_target.unbind(1))
    (target, z), *images = (_render_image(K, T, height, width, phase, finer, relief_m) for T in poses)
    sources, z_of_sources = (torch.stack(one_each, dim=1) for one_each in zip(*images, strict=True))
    targets = Targets(
        target,
        sources,
        Camera(K.expand(batch, 3, 3), height, width),
        Camera(K.expand(batch, len(names), 3, 3), height, width),
        T_source_target,
        depth_m=z * _labeled(height, width),
    )
    return PlaneScene(targets.to(dtype), (1 / z).to(dtype), twist.to(dtype), tuple(names), (1 / z_of_sources).to(dtype))


def apply_exposures(scene: PlaneScene) -> PlaneScene:
    """Return the scene with the brightness of its source images changed by gain and offset, as by another exposure.

    scene: scene whose sources have the exposure of the target.
    """
    gain, offset = scene.brightness[..., None, None, None].unbind(2)
    return replace(scene, targets=replace(scene.targets, sources=gain * scene.targets.sources + offset))


def mirror_scene(scene: PlaneScene) -> PlaneScene:
    """Return the mirrored scene: images, principal points, and motion."""
    targets = scene.targets
    image, camera = images.mirror(targets.image, targets.camera)
    sources, source_camera = images.mirror(targets.sources, targets.source_camera)
    T_source_target = mirror_x(targets.T_source_target_true)
    assert targets.depth_m is not None
    return replace(
        scene,
        targets=Targets(image, sources, camera, source_camera, T_source_target, depth_m=targets.depth_m.flip(-1)),
        inverse_depth=scene.inverse_depth.flip(-1),
        twist=se3_log(T_source_target),
        inverse_depth_of_sources=scene.inverse_depth_of_sources.flip(-1),
    )


def replace_images(scene: PlaneScene, image: Tensor, sources: Tensor) -> PlaneScene:
    """Return a scene with the same cameras and other images.

    image: (B, 3, H, W).
    sources: (B, N, 3, H, W).
    """
    return replace(scene, targets=replace(scene.targets, image=image, sources=sources))


def fill_images(scene: PlaneScene, value: float) -> PlaneScene:
    """Return the scene with the same cameras, but with images of one color.

    scene: the scene.
    value: value of red, green and blue in [0, 1].
    """
    targets = scene.targets
    return replace_images(scene, torch.full_like(targets.image, value), torch.full_like(targets.sources, value))


def repeat_batch(scene: PlaneScene) -> PlaneScene:
    """Return the scene with every sample twice."""
    twice: PlaneScene = map_tensors(scene, lambda tensor: torch.cat((tensor, tensor)))
    return twice


def reverse_sources(scene: PlaneScene) -> PlaneScene:
    """Return the scene with its sources in reverse order."""
    targets = scene.targets
    camera = replace(targets.source_camera, K=targets.source_camera.K.flip(1))
    T_true, sources = targets.T_source_target_true.flip(1), targets.sources.flip(1)
    return replace(
        scene,
        targets=replace(targets, sources=sources, source_camera=camera, T_source_target_true=T_true),
        twist=scene.twist.flip(1),
        source_names=scene.source_names[::-1],
        inverse_depth_of_sources=scene.inverse_depth_of_sources.flip(1),
    )


def flip_first_tenth(scene: PlaneScene) -> PlaneScene:
    """Return the scene with the first tenth of the target image's columns turned upside down.

    scene: the scene.
    """
    image = scene.targets.image.clone()
    columns = image.shape[-1] // 10
    image[..., :columns] = image[..., :columns].flip(-2)
    return replace_images(scene, image, scene.targets.sources)


def invert_parts(scene: PlaneScene, *parts: Part) -> PlaneScene:
    """Invert the colors of the source images in some parts, so that they match the target nowhere there.

    scene: the scene.
    parts: indices of the parts into the source images (N, 3, H, W) of each sample.
    """
    sources = scene.targets.sources.clone()
    for part in parts:
        sources[(ALL, *part)] = 1 - sources[(ALL, *part)]
    return replace_images(scene, scene.targets.image, sources)


def invert_sources(scene: PlaneScene) -> Mapping[str, Callable[[], PlaneScene]]:
    """Return scenes by name in which source images are negatives, 1 - color.

    These are all sources, two color channels of all sources, only the first or only the other sources, or each source
    in another half of the image.
    """
    half, rest = scene.targets.camera.width // 2, slice(1, None)
    parts: dict[str, tuple[Part, ...]] = {"every source wrong": ((ALL,),)}
    for index, name in enumerate(COLORS):
        parts[f"every source wrong but for {name}"] = ((ALL, [color for color in range(3) if color != index]),)
    if len(scene.source_names) > 1:
        parts["the first source wrong"] = ((0,),)
        parts["the other sources wrong"] = ((rest,),)
        parts["each wrong in another half"] = (0, ALL, ALL, slice(half, None)), (rest, ALL, ALL, slice(None, half))
    return {name: partial(invert_parts, scene, *inverted) for name, inverted in parts.items()}


def stop_camera(scene: PlaneScene) -> PlaneScene:
    """Return the scene as a camera that does not move sees it: every source image equals the target.

    scene: the scene.
    """
    sources = scene.targets.image[:, None].expand_as(scene.targets.sources).clone()
    return replace(replace_images(scene, scene.targets.image, sources), twist=torch.zeros_like(scene.twist))


def scale_lengths(scene: PlaneScene, metres: float) -> PlaneScene:
    """Return the scene with every length multiplied by a factor: depths and translations change, images do not.

    scene: the scene.
    metres: the factor.
    """
    targets = scene.targets
    assert targets.depth_m is not None
    T_source_target = targets.T_source_target_true.clone()
    T_source_target[..., :3, 3] *= metres
    return replace(
        scene,
        targets=replace(targets, T_source_target_true=T_source_target, depth_m=metres * targets.depth_m),
        inverse_depth=scene.inverse_depth / metres,
        twist=torch.cat((metres * scene.twist[..., :3], scene.twist[..., 3:]), -1),
        inverse_depth_of_sources=scene.inverse_depth_of_sources / metres,
    )


def add_noise(scene: PlaneScene, share: float) -> PlaneScene:
    """Return the scene with source images that are partly replaced by noise.

    scene: the scene.
    share: weight of the noise, from 0 for none to 1 for noise alone.
    """
    sources = scene.targets.sources
    noise = torch.rand(sources.shape, generator=torch.Generator().manual_seed(0), dtype=sources.dtype)
    return replace_images(scene, scene.targets.image, (1 - share) * sources + share * noise)


def raise_left_half(log_uncertainty: Tensor, by: float) -> Tensor:
    """Raise a log uncertainty in the left half of the image, and lower it by the same amount in the right half.

    log_uncertainty: (B, 1, H, W) natural logarithm of Sigma.
    by: the amount.
    """
    half = log_uncertainty.shape[-1] // 2
    return torch.cat((log_uncertainty[..., :half] + by, log_uncertainty[..., half:] - by), -1)


def _labeled(height: int, width: int) -> Tensor:
    """Return (H, W) 1 where depth is labeled, sparsely."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return ((x + y) % 3 == 0).double()


def _find_motion_key(name: str) -> str:
    """Return the nearest key of MOTIONS: "-3" moves like "-1", only further."""
    return f"{name[0]}1" if is_temporal(name) else "stereo"


def _motion(name: str) -> tuple[float, ...]:
    steps = min(abs(int(name)), FURTHEST) if is_temporal(name) else 1
    return tuple(steps * value for value in MOTIONS[_find_motion_key(name)])


def _texture(points: Tensor, phase: Tensor) -> Tensor:
    """Map (B, H, W, 3) points to (B, 3, H, W) colors: sine waves, with other weights for each color and sample."""
    x, y = points[..., 0], points[..., 1]
    waves = [
        torch.sin(a * x + b * y + c + phase)
        for a, b, c in ((3.1, 0.7, 0.0), (1.3, 2.9, 1.0), (4.7, -2.1, 2.0), (-2.3, 4.3, 0.5))
    ]
    mixture = ((0.2, 0.1, 0.1, 0.05), (0.1, 0.2, 0.05, 0.1), (0.05, 0.1, 0.2, 0.1))
    colors = [torch.stack([m * wave for m, wave in zip(row, waves, strict=True)]).sum(0) for row in mixture]
    return torch.stack([0.5 + color for color in colors], dim=1)


def _render_image(
    K: Tensor, T_camera_target: Tensor, height: int, width: int, phase: Tensor, finer: float, relief_m: float
) -> tuple[Tensor, Tensor]:
    """Intersect the ray of each pixel with plane and relief. Return the image (B, 3, H, W) and z (B, 1, H, W)."""
    y, x = torch.meshgrid(torch.arange(height, dtype=K.dtype), torch.arange(width, dtype=K.dtype), indexing="ij")
    rays = torch.stack([x, y, torch.ones_like(x)], -1) @ torch.linalg.inv(K).T  # (H, W, 3), z = 1
    T_target_camera = invert_pose(T_camera_target)
    directions = torch.einsum("bij,hwj->bhwi", T_target_camera[:, :3, :3], rays)
    origin = T_target_camera[:, None, None, :3, 3]
    normal = torch.tensor(NORMAL, dtype=K.dtype)
    depth = z = (DISTANCE_M - (origin * normal).sum(-1)) / (directions * normal).sum(-1)
    for _ in range(RELIEF_ROUNDS if relief_m else 0):
        z = depth - relief_m * _bumps(origin + z[..., None] * directions) / (directions * normal).sum(-1)
    return _texture(finer * (origin + z[..., None] * directions), phase), z[:, None]


def _bumps(points: Tensor) -> Tensor:
    """Map (B, H, W, 3) points to relief (B, H, W), -1 to 1."""
    return (1.1 * points[..., 0] + 0.4).sin() * (1.3 * points[..., 1] - 0.7).sin()
