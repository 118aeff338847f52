"""Resize dense maps, such as predicted depth, with the interpolations of `torch.nn.functional.interpolate`."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Interpolation = Literal["nearest", "bilinear", "bicubic"]

_CUBIC = -0.75  # slope of the cubic convolution kernel that PyTorch uses


def resize_dense_map(
    values: NDArray[np.float64],
    height: int,
    width: int,
    interpolation: Interpolation = "bilinear",
    *,
    align_corners: bool = False,
) -> NDArray[np.float64]:
    """Resize a dense map (h, w) to (height, width).

    A pixel whose neighborhood contains NaN or infinity becomes NaN or infinite. Do not resize sparse depth this way,
    because zeros for unknown depth would be mixed in.

    values: (h, w) map.
    height, width: the new size in pixels.
    interpolation: "nearest", "bilinear" or "bicubic".
    align_corners: whether the centers of the corner pixels of both sizes coincide, instead of the outer edges.

    Examples:
        >>> resize_dense_map(np.array([[1.0, 3.0]]), 1, 4).tolist()
        [[1.0, 1.5, 2.5, 3.0]]
    """
    if interpolation == "nearest":
        rows, columns = (_nearest_places(*sizes) for sizes in zip(values.shape, (height, width), strict=True))
        return values[rows[:, None], columns]
    for axis, size in ((1, width), (0, height)):  # columns first, as in PyTorch, which keeps equal values equal
        values = np.moveaxis(values, axis, 0)
        places, weights = _find_neighbors(values.shape[0], size, interpolation, align_corners=align_corners)
        with np.errstate(invalid="ignore"):  # a weight of 0 times infinity
            parts = [weight[:, None] * values[place] for place, weight in zip(places, weights, strict=True)]
            values = np.sum(parts, axis=0)
        values = np.moveaxis(values, 0, axis)
    return values


def _nearest_places(size: int, new_size: int) -> NDArray[np.intp]:
    """Return the pixel, (new_size,), from which each new pixel takes its value; float32, as in PyTorch."""
    places = np.arange(new_size, dtype=np.float32) * np.float32(size / new_size)
    return np.minimum(np.floor(places).astype(np.intp), size - 1)


def _find_neighbors(
    size: int, new_size: int, interpolation: Interpolation, *, align_corners: bool
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the pixels that each new pixel is interpolated from and their weights, (2 or 4, new_size) each."""
    if align_corners:
        at = np.arange(new_size) * ((size - 1) / (new_size - 1) if new_size > 1 else 0.0)
    else:
        at = (np.arange(new_size) + 0.5) * (size / new_size) - 0.5
    if interpolation == "bilinear":
        at = at.clip(min=0)
    first = np.floor(at).astype(np.intp)
    share = at - first
    if interpolation == "bilinear":
        places, weights = [first, first + 1], [1 - share, share]
    else:
        places = [first - 1, first, first + 1, first + 2]
        weights = [_cubic_outer(1 + share), _cubic_inner(share), _cubic_inner(1 - share), _cubic_outer(2 - share)]
    return np.stack(places).clip(0, size - 1), np.stack(weights)


def _cubic_inner(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return ((_CUBIC + 2) * x - (_CUBIC + 3)) * x * x + 1


def _cubic_outer(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return ((_CUBIC * x - 5 * _CUBIC) * x + 8 * _CUBIC) * x - 4 * _CUBIC
