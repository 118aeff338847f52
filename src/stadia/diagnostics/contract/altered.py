"""Variants of the synthetic plane with altered or noisy images, for one property of a photometric loss each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from stadia.core.types import Targets
from stadia.diagnostics.contract.exact import COLORS
from stadia.diagnostics.contract.wall import Wall, with_images

Part = tuple[int | slice | list[int], ...]
"""Index into (B, N, 3, H, W): sources, colors, rows and columns."""

ALL = slice(None)


def invert_parts(scene: Wall, *parts: Part) -> Wall:
    """Invert the sources in these parts, so that they match nothing there."""
    sources = scene.targets.sources.clone()
    for part in parts:
        sources[(ALL, *part)] = 1 - sources[(ALL, *part)]
    return with_images(scene, scene.targets.image, sources)


def invert_sources(scene: Wall) -> Mapping[str, Callable[[], Wall]]:
    """Return scenes by their names in FORMS, with sources inverted everywhere, in all colors but one, as a whole, or
    in one half each.
    """
    half = scene.targets.camera.width // 2
    left, right = slice(None, half), slice(half, None)
    forms: dict[str, Callable[[], Wall]] = {"every source wrong": lambda: invert_parts(scene, (ALL,))}
    for index, name in enumerate(COLORS):
        others = [other for other in range(len(COLORS)) if other != index]
        forms[f"every source wrong but for {name}"] = lambda others=others: invert_parts(scene, (ALL, others))  # type: ignore[misc]
    if len(scene.source_names) > 1:
        forms["the first source wrong"] = lambda: invert_parts(scene, (0,))
        forms["the other sources wrong"] = lambda: invert_parts(scene, (slice(1, None),))
        forms["each wrong in another half"] = lambda: invert_parts(
            scene, (0, ALL, ALL, right), (slice(1, None), ALL, ALL, left)
        )
    return forms


def stop_camera(scene: Wall) -> Wall:
    """Return the scene of a static camera: its images equal the target whatever the depth."""
    sources = scene.targets.image[:, None].expand_as(scene.targets.sources).clone()
    return replace(with_images(scene, scene.targets.image, sources), twist=torch.zeros_like(scene.twist))


def scale_lengths(scene: Wall, metres: float) -> Wall:
    """Return the scene with every length multiplied: the same images."""
    targets = scene.targets
    assert targets.depth_m is not None
    T_source_target = targets.T_source_target_true.clone()
    T_source_target[..., :3, 3] *= metres
    scaled: Targets = replace(targets, T_source_target_true=T_source_target, depth_m=metres * targets.depth_m)
    twist = torch.cat((metres * scene.twist[..., :3], scene.twist[..., 3:]), -1)
    return Wall(
        scaled, scene.inverse_depth / metres, twist, scene.source_names, scene.inverse_depth_of_sources / metres
    )


def add_noise(scene: Wall, share: float) -> Wall:
    """Blend the sources with this share of noise."""
    sources = scene.targets.sources
    noise = torch.rand(sources.shape, generator=torch.Generator().manual_seed(0), dtype=sources.dtype)
    return with_images(scene, scene.targets.image, (1 - share) * sources + share * noise)


def invert_left_half(scene: Wall) -> Wall:
    """Invert every source in its left half."""
    return invert_parts(scene, (ALL, ALL, ALL, slice(None, scene.targets.camera.width // 2)))


def raise_left_half(log_uncertainty: Tensor, by: float) -> Tensor:
    """Raise (B, 1, H, W) log Sigma in the left half by this much, and lower it in the right half."""
    half = log_uncertainty.shape[-1] // 2
    return torch.cat((log_uncertainty[..., :half] + by, log_uncertainty[..., half:] - by), -1)
