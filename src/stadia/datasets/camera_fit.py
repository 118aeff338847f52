"""Explain a camera whose shape differs from the images': turned, cropped or stretched, with the numbers of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from stadia.core.errors import DataError
from stadia.datasets.recordings import Intrinsics

SHAPE_TOLERANCE = 0.01  # relative difference of width / height between two sizes of one camera
CROPPED, STRETCHED, TURNED_RIGHT, TURNED_LEFT = "cropped", "stretched", "turned-right", "turned-left"
FITS = (TURNED_RIGHT, TURNED_LEFT, CROPPED, STRETCHED)


def has_shape(known: Intrinsics, height: int, width: int) -> bool:
    """Return whether images of this size have the camera's shape."""
    return abs(width / height * known.height / known.width - 1) <= SHAPE_TOLERANCE


def turn_right(known: Intrinsics) -> Intrinsics:
    """Return the camera of images turned by 90 degrees to the right."""
    K = known.K.copy()
    K[..., 0, 0], K[..., 1, 1] = known.K[..., 1, 1], known.K[..., 0, 0]
    K[..., 0, 2], K[..., 1, 2] = known.height - 1 - known.K[..., 1, 2], known.K[..., 0, 2]
    return Intrinsics(K, known.width, known.height)


def turn_left(known: Intrinsics) -> Intrinsics:
    """Return the camera of images turned by 90 degrees to the left."""
    return turn_right(turn_right(turn_right(known)))


def crop(known: Intrinsics, height: int, width: int) -> Intrinsics:
    """Return the camera of images cut from the middle to another shape, and resized: as video modes do."""
    scale = max(width / known.width, height / known.height)
    whole = known.resized(round(known.height * scale), round(known.width * scale))
    K = whole.K.copy()
    K[..., 0, 2] -= (whole.width - width) / 2
    K[..., 1, 2] -= (whole.height - height) / 2
    return Intrinsics(K, height, width)


def fit_camera(known: Intrinsics, how: str, height: int, width: int) -> Intrinsics:
    """Return the camera of images of this size under one of `FITS`."""
    if how == STRETCHED:
        return known.resized(height, width)
    turns: dict[str, Callable[[Intrinsics], Intrinsics]] = {TURNED_RIGHT: turn_right, TURNED_LEFT: turn_left}
    return crop(turns[how](known) if how in turns else known, height, width)


def turn_lens(coefficients: tuple[float, ...], how: str | None) -> tuple[float, ...]:
    """Return radial-tangential coefficients of turned images: (p2, p1) turns with the image, the rest stays."""
    if how not in (TURNED_RIGHT, TURNED_LEFT) or len(coefficients) < 4:
        return coefficients
    k1, k2, p1, p2, *rest = coefficients
    sign = 1 if how == TURNED_RIGHT else -1
    return (k1, k2, sign * p2, -sign * p1, *rest)


def make_shape_error(known: Intrinsics, source: Path, height: int, width: int, calibration: Path | None) -> DataError:
    """Return the error for images of another shape: what they may be, and the camera that each would mean."""
    command = f"stadia camera {source} --calibration {calibration or 'FILE'} --fit"
    turned = Intrinsics(np.swapaxes(known.K, -1, -2), known.width, known.height)
    is_turned = (known.width > known.height) != (width > height) and width != height
    if is_turned:
        what, ways = "turned by 90 degrees", (TURNED_RIGHT, TURNED_LEFT)
        what += "" if has_shape(turned, height, width) else " and cropped"
    else:
        what, ways = "cropped, as video modes crop photos", (CROPPED, STRETCHED)
    cases = "; ".join(f"{way}: {describe_K(fit_camera(known, way, height, width))}" for way in ways)
    fix = f"run `{command} {ways[0]}`"
    fix += f", or `{ways[1]}` in its place" if is_turned else ". A video mode may crop more: compare with `stadia map`"
    found = f"images of {width}x{height}, which may be {what} ({cases})"
    expected = f"the shape of {known.width}x{known.height}, which the camera has"
    return DataError(source, found=found, expected=expected, fix=fix)


def describe_K(known: Intrinsics) -> str:
    """Return the numbers of a camera for people.

    Examples:
        >>> describe_K(Intrinsics(np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]]), 480, 640))
        'fx 500, cx 320, cy 240'
    """
    K = known.select_K(0)
    numbers = {"fx": K[0, 0], "fy": K[1, 1], "cx": K[0, 2], "cy": K[1, 2]}
    if abs(K[0, 0] / K[1, 1] - 1) < 1e-3:
        del numbers["fy"]
    return ", ".join(f"{name} {round(float(value), 1):g}" for name, value in numbers.items())


def order_frames(known: Intrinsics, K_of_frames: dict[str, np.ndarray], stems: list[str], where: Path) -> Intrinsics:
    """Return the intrinsics with the K of each frame, by the images' names or in the same order."""
    if all(stem in K_of_frames for stem in stems):
        K = np.stack([K_of_frames[stem] for stem in stems])
    elif len(stems) == len(K_of_frames):
        K = np.stack(list(K_of_frames.values()))
    else:
        found = f"K of {len(K_of_frames)} frames, which names {len(stems)} images differently"
        raise DataError(where, found=found, expected="a K for each image", fix="keep the images that the file names")
    return replace(known, K=K)
