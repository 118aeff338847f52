"""Render a textured slanted plane whose images, depth and motion are known in closed form, and variants of it.

Each variant with altered or noisy images is for one property of a photometric loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from stadia.core.types import Camera, Targets, is_temporal
from stadia.diagnostics.loss_checks.loss_case import COLORS, map_tensors
from stadia.geometry import camera as cameras
from stadia.geometry.se3 import inverse, mirror_x, se3_exp, se3_log

NORMAL, DISTANCE_M = (0.25, -0.15, 1.0), 8.0  # the plane: normal . p = distance, in the target's frame
MOTIONS = {  # p_source = exp(v, w) p_target
    "-1": (0.05, 0.02, 0.5, 0.002, -0.01, 0.001),
    "+1": (-0.04, 0.01, -0.5, -0.001, 0.012, 0.002),
    "stereo": (-0.5, 0.0, 0.0, 0.0, 0.0, 0.0),
}
FURTHEST = 3
"""Steps beyond which motion stops growing: further on the camera would reach the plane."""

EXPOSURES = {"-1": (0.8, 0.05), "+1": (1.05, -0.05), "stereo": (0.9, 0.02)}
"""Gain and offset by source; images stay within [0, 1]."""

Part = tuple[int | slice | list[int], ...]
"""Index into (B, N, 3, H, W): sources, colors, rows and columns."""

ALL = slice(None)


@dataclass(frozen=True)
class PlaneScene:
    """Inputs of a video loss, with true depth and motion.

    inverse_depth: (B, 1, H, W), 1/m.  twist: (B, N, 6), T_source_target = se3_exp(twist).
    inverse_depth_of_sources: (B, N, 1, H, W), each in its own camera.
    """

    targets: Targets
    inverse_depth: Tensor
    twist: Tensor
    source_names: tuple[str, ...]
    inverse_depth_of_sources: Tensor

    @property
    def brightness(self) -> Tensor:
        """(B, N, 2) gain and offset of the sources, as `apply_exposures` applies them."""
        gains = [EXPOSURES[_kind_of(name)] for name in self.source_names]
        exposures = torch.tensor(gains, dtype=self.targets.image.dtype)
        return exposures.expand(len(self.targets.image), -1, 2)


def render_plane(
    *,
    height: int = 24,
    width: int = 40,
    names: Sequence[str] = ("-1", "+1", "stereo"),
    batch: int = 1,
    finer: float = 1.0,
    dtype: torch.dtype = torch.float64,
) -> PlaneScene:
    """Render images of the plane with another texture for each sample; sources are "stereo" and temporal.

    finer: factor by which the texture is finer and each motion smaller. Images larger by it are the same per pixel.
    """
    K = torch.tensor([[0.9 * width, 0, 0.48 * width], [0, 1.5 * height, 0.53 * height], [0, 0, 1]], dtype=torch.float64)
    phase = torch.arange(batch, dtype=torch.float64).view(-1, 1, 1)
    twist = torch.tensor([_motion(name) for name in names], dtype=torch.float64).expand(batch, -1, 6) / finer
    T_source_target = se3_exp(twist)
    here = torch.eye(4, dtype=torch.float64).expand(batch, 4, 4)
    target, z = _image(K, here, height, width, phase, finer)
    images = [_image(K, T_source_target[:, i], height, width, phase, finer) for i in range(len(names))]
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
    """Return the scene with sources of other exposures than the target."""
    gain, offset = scene.brightness[..., None, None, None].unbind(2)
    return replace(scene, targets=replace(scene.targets, sources=gain * scene.targets.sources + offset))


def mirror_scene(scene: PlaneScene) -> PlaneScene:
    """Return the mirrored scene: images, principal points, and motion."""
    targets = scene.targets
    image, camera = cameras.mirror(targets.image, targets.camera)
    sources, source_camera = cameras.mirror(targets.sources, targets.source_camera)
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
    """Return the same cameras with other images."""
    return replace(scene, targets=replace(scene.targets, image=image, sources=sources))


def repeat_batch(scene: PlaneScene) -> PlaneScene:
    """Return the scene with every sample twice."""
    twice: PlaneScene = map_tensors(scene, lambda tensor: torch.cat((tensor, tensor)))
    return twice


def reverse_sources(scene: PlaneScene) -> PlaneScene:
    """Return the scene with its sources in reverse order."""
    targets = scene.targets
    camera = replace(targets.source_camera, K=targets.source_camera.K.flip(1))
    T_source_target_true = targets.T_source_target_true.flip(1)
    return replace(
        scene,
        targets=replace(
            targets, sources=targets.sources.flip(1), source_camera=camera, T_source_target_true=T_source_target_true
        ),
        twist=scene.twist.flip(1),
        source_names=scene.source_names[::-1],
        inverse_depth_of_sources=scene.inverse_depth_of_sources.flip(1),
    )


def flip_first_tenth(scene: PlaneScene) -> PlaneScene:
    """Return the scene with the first columns of the target upside down."""
    image = scene.targets.image.clone()
    columns = image.shape[-1] // 10
    image[..., :columns] = image[..., :columns].flip(-2)
    return replace_images(scene, image, scene.targets.sources)


def invert_parts(scene: PlaneScene, *parts: Part) -> PlaneScene:
    """Invert the sources in these parts, so that they match nothing there."""
    sources = scene.targets.sources.clone()
    for part in parts:
        sources[(ALL, *part)] = 1 - sources[(ALL, *part)]
    return replace_images(scene, scene.targets.image, sources)


def invert_sources(scene: PlaneScene) -> Mapping[str, Callable[[], PlaneScene]]:
    """Return scenes by their names in FORMS, with sources inverted everywhere, in all colors but one, as a whole, or
    in one half each.
    """
    half = scene.targets.camera.width // 2
    left, right = slice(None, half), slice(half, None)
    forms: dict[str, Callable[[], PlaneScene]] = {"every source wrong": lambda: invert_parts(scene, (ALL,))}
    for index, name in enumerate(COLORS):
        others = [other for other in range(len(COLORS)) if other != index]
        forms[f"every source wrong but for {name}"] = partial(invert_parts, scene, (ALL, others))
    if len(scene.source_names) > 1:
        forms["the first source wrong"] = lambda: invert_parts(scene, (0,))
        forms["the other sources wrong"] = lambda: invert_parts(scene, (slice(1, None),))
        forms["each wrong in another half"] = lambda: invert_parts(
            scene, (0, ALL, ALL, right), (slice(1, None), ALL, ALL, left)
        )
    return forms


def stop_camera(scene: PlaneScene) -> PlaneScene:
    """Return the scene of a static camera: its images equal the target whatever the depth."""
    sources = scene.targets.image[:, None].expand_as(scene.targets.sources).clone()
    return replace(replace_images(scene, scene.targets.image, sources), twist=torch.zeros_like(scene.twist))


def scale_lengths(scene: PlaneScene, metres: float) -> PlaneScene:
    """Return the scene with every length multiplied: the same images."""
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
    """Blend the sources with this share of noise."""
    sources = scene.targets.sources
    noise = torch.rand(sources.shape, generator=torch.Generator().manual_seed(0), dtype=sources.dtype)
    return replace_images(scene, scene.targets.image, (1 - share) * sources + share * noise)


def invert_left_half(scene: PlaneScene) -> PlaneScene:
    """Invert every source in its left half."""
    return invert_parts(scene, (ALL, ALL, ALL, slice(None, scene.targets.camera.width // 2)))


def raise_left_half(log_uncertainty: Tensor, by: float) -> Tensor:
    """Raise (B, 1, H, W) log Sigma in the left half by this much, and lower it in the right half."""
    half = log_uncertainty.shape[-1] // 2
    return torch.cat((log_uncertainty[..., :half] + by, log_uncertainty[..., half:] - by), -1)


def _labeled(height: int, width: int) -> Tensor:
    """Return (H, W) 1 where depth is labeled, sparsely: a loss that reads unlabeled pixels then has a wrong minimum."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return ((x + y) % 3 == 0).double()


def _kind_of(name: str) -> str:
    """Return the nearest key of MOTIONS: "-3" moves like "-1", only further."""
    return f"{name[0]}1" if is_temporal(name) else "stereo"


def _motion(name: str) -> tuple[float, ...]:
    steps = min(abs(int(name)), FURTHEST) if is_temporal(name) else 1
    return tuple(steps * value for value in MOTIONS[_kind_of(name)])


def _texture(points: Tensor, phase: Tensor) -> Tensor:
    """Map (B, H, W, 3) points to (B, 3, H, W) colors: sine waves, with other weights for each color and sample."""
    x, y = points[..., 0], points[..., 1]
    waves = [
        torch.sin(a * x + b * y + c + phase)
        for a, b, c in ((3.1, 0.7, 0.0), (1.3, 2.9, 1.0), (4.7, -2.1, 2.0), (-2.3, 4.3, 0.5))
    ]
    mixture = ((0.2, 0.1, 0.1, 0.05), (0.1, 0.2, 0.05, 0.1), (0.05, 0.1, 0.2, 0.1))
    return torch.stack(
        [0.5 + torch.stack([m * wave for m, wave in zip(row, waves, strict=True)]).sum(0) for row in mixture], dim=1
    )


def _image(
    K: Tensor, T_camera_target: Tensor, height: int, width: int, phase: Tensor, finer: float
) -> tuple[Tensor, Tensor]:
    """Intersect the ray of each pixel with the plane. Return the image (B, 3, H, W) and z (B, 1, H, W)."""
    y, x = torch.meshgrid(torch.arange(height, dtype=K.dtype), torch.arange(width, dtype=K.dtype), indexing="ij")
    rays = torch.stack([x, y, torch.ones_like(x)], -1) @ torch.linalg.inv(K).T  # (H, W, 3), z = 1
    T_target_camera = inverse(T_camera_target)
    directions = torch.einsum("bij,hwj->bhwi", T_target_camera[:, :3, :3], rays)
    origin = T_target_camera[:, None, None, :3, 3]
    normal = torch.tensor(NORMAL, dtype=K.dtype)
    z = (DISTANCE_M - (origin * normal).sum(-1)) / (directions * normal).sum(-1)
    return _texture(finer * (origin + z[..., None] * directions), phase), z[:, None]
