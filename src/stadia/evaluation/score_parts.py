"""Divide the scored pixels of an image by distance, region or class, and score each part."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stadia.core.errors import ConfigError, DataError
from stadia.core.registry import find_nearest_name
from stadia.files.image_io import MAX_IMAGE_BYTES, PNG_SIGNATURE, decode_image
from stadia.files.input_files import read_bytes
from stadia.metrics import METRICS

DISTANCES_M = (5.0, 10.0, 20.0, 40.0, 80.0)  # limits between the parts of true depth
ROWS, COLUMNS = ("upper", "middle", "lower"), ("left", "center", "right")  # thirds of the image
MIN_PART_PIXELS = 20  # scored pixels of a part in an image
MAX_CLASSES = 64  # more are instances or depth

Labels = tuple[NDArray[np.int64], Sequence[str]]  # part of each of N pixels, and the names of the parts


def split_by_distance(true_m: NDArray[np.float64], mask: NDArray[np.bool_], classes: NDArray | None) -> Labels:
    """Return the number of the part of each scored pixel by its true depth, and the names of the parts.

    true_m: (N,) true depth in metres at the scored pixels.

    Examples:
        >>> labels, names = split_by_distance(np.array([3.0, 90.0]), np.ones((1, 2), bool), None)
        >>> [names[label] for label in labels]
        ['distance 0 to 5 m', 'distance above 80 m']
    """
    ends = (0.0, *DISTANCES_M)
    names = [f"distance {low:g} to {high:g} m" for low, high in zip(ends, DISTANCES_M, strict=False)]
    return np.digitize(true_m, DISTANCES_M), [*names, f"distance above {DISTANCES_M[-1]:g} m"]


def split_by_region(true_m: NDArray[np.float64], mask: NDArray[np.bool_], classes: NDArray | None) -> Labels:
    """Return the number of the part of each scored pixel by its ninth of the image, and the names of the parts.

    mask: (H, W) bool, true for the N scored pixels.

    Examples:
        >>> labels, names = split_by_region(np.ones(9), np.ones((3, 3), bool), None)
        >>> names[labels[4]], names[labels[8]]
        ('region middle center', 'region lower right')
    """
    rows, columns = np.nonzero(mask)
    thirds = 3 * rows // mask.shape[0], 3 * columns // mask.shape[1]
    return 3 * thirds[0] + thirds[1], [f"region {row} {column}" for row in ROWS for column in COLUMNS]


def split_by_class(true_m: NDArray[np.float64], mask: NDArray[np.bool_], classes: NDArray | None) -> Labels:
    """Return the number of the part of each scored pixel by its class, and the names of the parts.

    mask: (H, W) bool, true for the N scored pixels.
    classes: (H, W) integers.

    Raises ConfigError without classes.

    Examples:
        >>> labels, names = split_by_class(np.ones(2), np.ones((1, 2), bool), np.array([[7, 3]]))
        >>> [names[label] for label in labels]
        ['class 7', 'class 3']
    """
    if classes is None:
        fix = "pass --classes DIR, a folder of PNG with a class a pixel"
        raise ConfigError("--by class", found="no classes", expected="a class of each pixel", fix=fix)
    numbers, labels = np.unique(classes[mask], return_inverse=True)
    return labels.reshape(-1), [f"class {number}" for number in numbers]


PARTS: Mapping[str, Callable[[NDArray[np.float64], NDArray[np.bool_], NDArray | None], Labels]] = {
    "distance": split_by_distance,
    "region": split_by_region,
    "class": split_by_class,
}
"""Functions that divide an image into parts, by the name that `--by` accepts."""


def parse_parts(text: str | None) -> tuple[str, ...]:
    """Return the names in the text of `--by`, such as "distance,region".

    Raises ConfigError, with the nearest name, for an unknown one.
    """
    names = tuple(filter(None, (text or "").replace(" ", "").split(",")))
    for name in names:
        if name not in PARTS:
            near = find_nearest_name(name, list(PARTS))
            fix = f"did you mean '{near}'?" if near else "name one or more of them, with commas"
            raise ConfigError("--by", found=f"'{name}'", expected=f"some of {', '.join(PARTS)}", fix=fix)
    return tuple(dict.fromkeys(names))


def score_parts(
    depth_m: Tensor,
    true_m: Tensor,
    mask: Tensor,
    *,
    by: Iterable[str],
    metrics: Sequence[str],
    classes: NDArray | None = None,
) -> dict[str, dict[str, float]]:
    """Return the metrics and the number of pixels of each part with at least MIN_PART_PIXELS, by the name of the part.

    depth_m, true_m: (1, N) aligned prediction and truth in metres at the scored pixels, row by row.
    mask: (H, W) bool, true for the N scored pixels.
    by: names of PARTS.
    metrics: rows of `stadia.metrics.METRICS`.
    classes: (H, W) integers, for the part "class".
    """
    parts: dict[str, dict[str, float]] = {}
    for name in by:
        labels, names = PARTS[name](true_m[0].double().numpy(), mask.numpy(), classes)
        for label, part in enumerate(names):
            chosen = torch.from_numpy(labels == label)
            if (count := int(chosen.sum())) < MIN_PART_PIXELS:
                continue
            values, every = (depth_m[:, chosen], true_m[:, chosen]), torch.ones(1, count, dtype=torch.bool)
            scores = {metric: float(METRICS.load(metric)(*values, every)) for metric in metrics}
            parts[part] = {**scores, "pixels": float(count)}
    return parts


def average_parts(images: Iterable[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Return the mean score of each part over the images that show it, with the numbers of pixels and images."""
    found: dict[str, list[Mapping[str, float]]] = {}
    for image in images:
        for part, scores in image.items():
            found.setdefault(part, []).append(scores)
    means = {}
    for part, scored in sorted(found.items(), key=lambda entry: _sort_key(entry[0])):
        mean = {name: float(np.mean([scores[name] for scores in scored])) for name in scored[0] if name != "pixels"}
        pixels = float(sum(scores["pixels"] for scores in scored))
        means[part] = {**mean, "pixels": pixels, "images": float(len(scored))}
    return means


def _sort_key(part: str) -> tuple[str, float, str]:
    """Return a key that sorts by kind, and by the first number of the name: "5 to 10 m" before "10 to 20 m"."""
    kind, _, rest = part.partition(" ")
    words = [word for word in rest.split() if word.replace(".", "").isdecimal()]
    if kind == "region":
        row, _, column = rest.partition(" ")
        return kind, 3 * ROWS.index(row) + COLUMNS.index(column), rest
    return kind, float(words[0]) if words else 0.0, rest


def read_classes(folder: Path, name: str, shape: tuple[int, int]) -> NDArray:
    """Return the classes (H, W) of FOLDER/NAME.png. Raises DataError if the file is missing or has another size."""
    path, expected = folder / f"{name}.png", "a PNG of one channel with a class a pixel"
    data = read_bytes(path, expected=expected, max_bytes=MAX_IMAGE_BYTES)
    fix = "write the numbers themselves, as 8 or 16 bits"
    if not data.startswith(PNG_SIGNATURE):
        raise DataError(path, found="a file without a PNG's signature", expected=expected, fix=fix)
    classes = decode_image(path, data, cv2.IMREAD_UNCHANGED, expected="a whole file", fix="write or copy it again")
    if classes.ndim != 2:
        raise DataError(path, found=f"{classes.shape[2]} channels", expected=expected, fix=fix)
    if classes.shape != shape:
        found, expected = f"{classes.shape[1]}x{classes.shape[0]}", f"{shape[1]}x{shape[0]}, as the ground truth"
        raise DataError(path, found=found, expected=expected, fix="write one class for each pixel of the ground truth")
    if (count := len(np.unique(classes))) > MAX_CLASSES:
        fix = "pass a folder of class numbers, not of instances or depth"
        raise DataError(path, found=f"{count} classes", expected=f"at most {MAX_CLASSES}", fix=fix)
    return classes
