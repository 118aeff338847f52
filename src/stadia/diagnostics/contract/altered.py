"""The wall with something wrong in its images, or without any, so that one rule of a photometric loss shows alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from stadia.core.types import Targets
from stadia.diagnostics.contract.exact import COLORS
from stadia.diagnostics.contract.wall import Wall, with_images

Part = tuple[int | slice | list[int], ...]
"""Of (B, N, 3, H, W): which sources, colors, rows and columns."""

ALL = slice(None)


def wrong(scene: Wall, *parts: Part) -> Wall:
    """The same wall, its sources the negative of themselves in these parts: nothing that is compared looks alike there."""
    sources = scene.targets.sources.clone()
    for part in parts:
        sources[(ALL, *part)] = 1 - sources[(ALL, *part)]
    return with_images(scene, scene.targets.image, sources)


def wrong_sources(scene: Wall) -> Mapping[str, Callable[[], Wall]]:
    """By their names in FORMS, walls whose sources are wrong all over, in all colors but one, as a whole, or in one
    half each.
    """
    half = scene.targets.camera.width // 2
    left, right = slice(None, half), slice(half, None)
    forms: dict[str, Callable[[], Wall]] = {"every source wrong": lambda: wrong(scene, (ALL,))}
    for index, name in enumerate(COLORS):
        others = [other for other in range(len(COLORS)) if other != index]
        forms[f"every source wrong but for {name}"] = lambda others=others: wrong(scene, (ALL, others))  # type: ignore[misc]
    if len(scene.source_names) > 1:
        forms["the first source wrong"] = lambda: wrong(scene, (0,))
        forms["the other sources wrong"] = lambda: wrong(scene, (slice(1, None),))
        forms["each wrong in another half"] = lambda: wrong(
            scene, (0, ALL, ALL, right), (slice(1, None), ALL, ALL, left)
        )
    return forms


def still(scene: Wall) -> Wall:
    """A camera that has not moved: whatever the depth, its images are the target."""
    sources = scene.targets.image[:, None].expand_as(scene.targets.sources).clone()
    return replace(with_images(scene, scene.targets.image, sources), twist=torch.zeros_like(scene.twist))


def in_another_unit(scene: Wall, metres: float) -> Wall:
    """The same images of a wall that is so many times as far and as large, by a camera that moves as many times as far."""
    targets = scene.targets
    assert targets.depth_m is not None
    T_source_target = targets.T_source_target_true.clone()
    T_source_target[..., :3, 3] *= metres
    scaled: Targets = replace(targets, T_source_target_true=T_source_target, depth_m=metres * targets.depth_m)
    twist = torch.cat((metres * scene.twist[..., :3], scene.twist[..., 3:]), -1)
    return Wall(
        scaled, scene.inverse_depth / metres, twist, scene.source_names, scene.inverse_depth_of_sources / metres
    )


def noisy(scene: Wall, share: float) -> Wall:
    """Sources that hold so much of noise, the rest the wall."""
    sources = scene.targets.sources
    noise = torch.rand(sources.shape, generator=torch.Generator().manual_seed(0), dtype=sources.dtype)
    return with_images(scene, scene.targets.image, (1 - share) * sources + share * noise)


def left_wrong(scene: Wall) -> Wall:
    """Every source wrong in its left half."""
    return wrong(scene, (ALL, ALL, ALL, slice(None, scene.targets.camera.width // 2)))


def higher_on_the_left(log_uncertainty: Tensor, by: float) -> Tensor:
    """(B, 1, H, W) log Sigma that is so much higher in the left half, and as much lower in the right one."""
    half = log_uncertainty.shape[-1] // 2
    return torch.cat((log_uncertainty[..., :half] + by, log_uncertainty[..., half:] - by), -1)
