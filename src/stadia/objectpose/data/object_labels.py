"""Labels of objects in images, and the interface of their readers.

The origin of an object's frame is the center of its box, as in NOCS: y points up, and an axis of symmetry is along y.
Class 0 is the background.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from stadia.core.errors import DataError
from stadia.core.types import Camera
from stadia.geometry import poses as se3
from stadia.io.image_files import read_rgb

BACKGROUND = "background"
UNLABELED = -1  # value of pixels of an `UnlabeledObject`, which is neither background nor trained on
Points = NDArray[np.float64]
Quaternion = tuple[float, float, float, float]
SymmetryLabel = Literal["none", "revolution"] | tuple[Literal["revolution"] | Quaternion, ...]
"""Rotations that leave an object unchanged: "none", "revolution" (any rotation about y), or single rotations.

A single rotation is a unit quaternion w, x, y, z; the identity is not listed. The tuple may also contain the word
"revolution".
"""

_LENGTH_TOLERANCE = 1e-3  # Quaternions written with four digits differ from length 1 by this much.
# Largest error of R R^T; Linemod-Occluded's matrices are up to half a percent too long, .0095 here.
_ROTATION_TOLERANCE = 0.02


@dataclass(frozen=True, slots=True)
class ObjectBox:
    """Describe an object as an oriented box with a class.

    class_id: class number, counted from 1; 0 is the background.
    T_camera_object: (4, 4) pose, from the box's to camera coordinates in metres. The box's origin is its center.
    size_m: (3,) edge lengths of the box along its x, y and z axes, in metres.
    symmetry: rotations that leave the object unchanged.
    """

    class_id: int
    T_camera_object: Points
    size_m: Points
    symmetry: SymmetryLabel


EstimatedBox = tuple[ObjectBox, float]  # an estimated object and its score: higher is more certain


@dataclass(frozen=True, slots=True)
class ObjectLabel(ObjectBox):
    """Describe an object in an image, as a box and by its number of pixels.

    visible_px: number of pixels that show the object.
    full_px: number of pixels that would show it without occlusion and without the image's border; 0 if unknown.
    """

    visible_px: int
    full_px: int = 0


@dataclass(frozen=True, slots=True)
class ObjectLabels:
    """Hold the labels of one image.

    instance: (H, W) int32 number of the object at each pixel: 0 means no object, n is the n-th entry of `objects`
        counted from 1, and UNLABELED (-1) is an object without a label.
    objects: class, pose and size of each labeled object.
    """

    instance: NDArray[np.int32]
    objects: tuple[ObjectLabel, ...]


@dataclass(frozen=True, slots=True)
class UnlabeledObject:
    """Describe an object that the dataset shows but has no valid label for. Its pixels are neither trained nor scored.

    number: number of the object in the files of the dataset.
    reason: why it has no label, as text for messages.
    visible_px: number of pixels that show it.
    """

    number: int
    reason: str
    visible_px: int


class ObjectImages(ABC):
    """Single images with objects in known poses.

    name: unique and stable name.
    classes: names of the classes; the first is the background.
    """

    name: str
    classes: tuple[str, ...]

    @abstractmethod
    def __len__(self) -> int: ...

    def image(self, index: int) -> NDArray[np.uint8]:
        """Return an image (H, W, 3) RGB. Raises DataError for a missing or damaged file."""
        return read_rgb(self.file(index))

    def image_size(self, index: int) -> tuple[int, int]:
        """Return the height and width of an image from its file; they are cached."""
        sizes: dict[int, tuple[int, int]] = self.__dict__.setdefault("_sizes", {})
        if index not in sizes:
            height, width = self.image(index).shape[:2]
            sizes[index] = height, width
        return sizes[index]

    @abstractmethod
    def camera(self, index: int) -> Camera:
        """Return the camera of an image: K (3, 3) float64 in pixels of `image(index)`, and its size."""

    @abstractmethod
    def labels(self, index: int) -> ObjectLabels:
        """Return the labels of an image: the object at each pixel, and class, pose and size of each object.

        index: index of the image.

        Raises DataError for an invalid pose, size or mask.
        """

    def boxes(self, index: int) -> Sequence[ObjectBox]:
        """Return the visible objects of an image as boxes with pose and size, without masks.

        index: index of the image.

        Raises DataError for an invalid pose, size or mask.
        """
        return [label for label in self.labels(index).objects if label.visible_px]

    def left_out(self, index: int) -> Sequence[UnlabeledObject]:
        """Return the objects of an image that belong to a known class but have no valid label.

        index: index of the image.

        Raises DataError for an invalid pose, size or mask.
        """
        return ()

    def label_files(self, index: int) -> Sequence[Path]:
        """Return the files of `labels` and `camera`; fingerprints include them."""
        return ()

    def scene(self, index: int) -> str:
        """Return the name of the scene of an image. Images of one scene are similar."""
        return self.name

    @abstractmethod
    def file(self, index: int) -> Path:
        """Return the file of an image, for messages and fingerprints."""


class ObjectSubset(ObjectImages):
    """Some of the images of a set, in the given order."""

    def __init__(self, whole: ObjectImages, indices: Sequence[int]) -> None:
        self.whole, self.name, self.classes, self.indices = whole, whole.name, whole.classes, list(indices)

    def __len__(self) -> int:
        return len(self.indices)

    def image(self, index: int) -> NDArray[np.uint8]:
        """Return an image (H, W, 3) RGB."""
        return self.whole.image(self.indices[index])

    def camera(self, index: int) -> Camera:
        return self.whole.camera(self.indices[index])

    def labels(self, index: int) -> ObjectLabels:
        return self.whole.labels(self.indices[index])

    def boxes(self, index: int) -> Sequence[ObjectBox]:
        return self.whole.boxes(self.indices[index])

    def left_out(self, index: int) -> Sequence[UnlabeledObject]:
        return self.whole.left_out(self.indices[index])

    def label_files(self, index: int) -> Sequence[Path]:
        return self.whole.label_files(self.indices[index])

    def scene(self, index: int) -> str:
        return self.whole.scene(self.indices[index])

    def file(self, index: int) -> Path:
        return self.whole.file(self.indices[index])


class CachedLabels(ObjectSubset):
    """All images of a set, with a cache of up to `most` labels, because rendering or fitting them is slow."""

    def __init__(self, whole: ObjectImages, most: int = 500) -> None:
        super().__init__(whole, range(len(whole)))
        self.most = most
        self._cached: dict[int, ObjectLabels] = {}

    boxes = ObjectImages.boxes  # The method reads the cached labels.

    def labels(self, index: int) -> ObjectLabels:
        if index in self._cached:
            return self._cached[index]
        labels = self.whole.labels(index)
        if len(self._cached) < self.most:
            self._cached[index] = labels
        return labels


def merge_masks(what: object, masks: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Merge masks (N, H, W) of visible pixels to a map (H, W): 0 means no object, n is the n-th.

    what: name of the image, for messages.

    Raises DataError if two masks overlap.
    """
    covered = masks.sum(0)
    if (covered > 1).any():
        row, column = np.argwhere(covered > 1)[0]
        first, second = np.flatnonzero(masks[:, row, column])[:2] + 1
        count, fix = int((covered > 1).sum()), "use masks of visible pixels only"
        found = f"masks {first} and {second} overlap ({count} pixels, the first at row {row}, column {column})"
        raise DataError(what, found=found, expected="at most one object a pixel", fix=fix)
    return np.where(covered > 0, masks.argmax(0) + 1, 0).astype(np.int32) if len(masks) else covered.astype(np.int32)


def _measure_skew(matrix: Points) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.abs(matrix @ matrix.T - np.eye(3)).max())


MAX_SCALE = 1e6  # entry of a matrix from which it is no rotation times a scale


def check_rotation(what: object, R: ArrayLike) -> Points:
    """Return the rotation (3, 3) float64 nearest to the matrix R. Raises DataError if R is not a rotation.

    what: name of the object, for messages.
    """
    matrix = np.asarray(R, np.float64)
    fault, fix = None, "check axes, order and scale of the matrix"
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all():
        fault = f"{matrix.tolist()}"
    elif not (off := _measure_skew(matrix)) <= _ROTATION_TOLERANCE:  # The comparison also catches an overflow to NaN.
        fault = f"rows that are not of length 1 and at right angles (R R^T is off by {off:.2g})"
        scale = float(np.linalg.norm(matrix) / math.sqrt(3)) if np.abs(matrix).max() < MAX_SCALE else 0.0
        if scale > 0 and _measure_skew(matrix / scale) <= _ROTATION_TOLERANCE:
            fault, fix = f"a rotation times {scale:.4g}", f"divide the matrix by {scale:.4g}, the object's scale"
    elif np.linalg.det(matrix) < 0:
        fault = "a mirrored rotation (determinant -1)"
    if fault:
        expected = "a rotation: orthonormal, determinant +1"
        raise DataError(what, found=fault, expected=expected, fix=fix)
    U, _, Vh = np.linalg.svd(matrix)
    return U @ Vh


def check_quaternion(what: object, quaternion_wxyz: ArrayLike) -> Points:
    """Return the rotation (3, 3) of a unit quaternion w, x, y, z. Raises DataError if its length is not 1."""
    quaternion = np.asarray(quaternion_wxyz, np.float64)
    if quaternion.shape != (4,) or not np.isfinite(quaternion).all():
        numbers = quaternion.tolist() if quaternion.shape == (4,) else f"{quaternion.size} numbers"
        expected = "a quaternion of four finite numbers w, x, y, z"
        raise DataError(what, found=numbers, expected=expected)
    length = float(np.linalg.norm(quaternion))
    if not abs(length - 1) <= _LENGTH_TOLERANCE:
        found = f"{quaternion.tolist()} of length {length:.4g}" if length else "the zero quaternion, no rotation"
        expected = "a quaternion w, x, y, z of length 1"
        raise DataError(what, found=found, expected=expected, fix="normalize it, or leave the object out")
    return se3.matrix_from_quaternion_wxyz(torch.from_numpy(quaternion)).numpy()


def check_pose(what: object, R: Points, t_m: ArrayLike) -> Points:
    """Return the pose (4, 4) of a checked rotation (3, 3) and a translation (3,).

    Raises DataError if the object is behind the camera.
    """
    t = np.asarray(t_m, np.float64)
    if t.shape != (3,) or not np.isfinite(t).all() or t[2] <= 0:
        found = f"the object's center at {t.tolist()} m"
        fix = "check axes and unit"
        if t.shape == (3,) and t[2] < 0:
            fix = "for OpenGL's camera axes multiply each pose from the left by diag(1, -1, -1, 1); for camera-to-model"
            fix += " poses invert them"
        raise DataError(what, found=found, expected="in front of the camera (z > 0)", fix=fix)
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R, t
    return T


def check_size(what: object, size_m: ArrayLike) -> Points:
    """Return the size (3,) in metres. Raises DataError unless each extent is above 0 and below 100."""
    size = np.asarray(size_m, np.float64)
    if size.shape != (3,) or not ((size > 0) & (size < 100)).all():
        raise DataError(what, found=f"size {size.tolist()}", expected="three extents in metres", fix="check the unit")
    return size


def check_visible_size(what: object, T_camera_object: Points, size_m: Points, K: Points, visible_px: int = 0) -> None:
    """Raise DataError if the camera would be inside the box, or if more pixels show the object than it can cover.

    what: name of the object, for messages.
    T_camera_object: (4, 4) pose.
    size_m: (3,) extents in metres.
    K: (3, 3) intrinsics.
    visible_px: number of pixels that show the object.
    """
    t, half_diagonal = T_camera_object[:3, 3], float(np.linalg.norm(size_m)) / 2
    box = f"a box of {np.round(size_m, 3).tolist()} m, its center {np.linalg.norm(t):.3g} m away"
    if (np.abs(T_camera_object[:3, :3].T @ t) < size_m / 2).all():
        found = f"{box}: the camera would be in it"
        raise DataError(what, found=found, expected="both in metres", fix="check their units")
    if (nearest := t[2] - half_diagonal) <= 0:
        return
    stretched = (np.linalg.norm(t) / t[2]) ** 3  # objects far from the optical axis cover more pixels
    most_px = 4 * stretched * K[0, 0] * K[1, 1] * (2 * half_diagonal / nearest) ** 2 + 4
    if visible_px > most_px:
        found = f"{visible_px} pixels of {box}, which covers {most_px:.0f} at most"
        fix = "check their units, and whether the mask belongs to the object"
        raise DataError(what, found=found, expected="both in metres, and its own mask", fix=fix)


def make_no_masks_error(what: object) -> DataError:
    """Return the error for labels that have no masks."""
    expected = "a mask of every object"
    fix = "add masks (docs/reference/tableworld.md); `stadia data show` and `stadia evaluate --objects` need none"
    return DataError(what, found="boxes without masks", expected=expected, fix=fix)


def count_pixels(instance: NDArray[np.int32], objects: int) -> NDArray[np.int64]:
    """Return the number of pixels of each of N objects in a map (H, W), (N,)."""
    return np.bincount(instance.clip(0).ravel(), minlength=objects + 1)[1 : objects + 1]


def check_labels(what: object, labels: ObjectLabels) -> ObjectLabels:
    """Return the labels unchanged. Raises DataError if the map has numbers without an object."""
    highest, objects = int(labels.instance.max(initial=0)), len(labels.objects)
    if highest > objects:
        found = f"instance {highest}"
        raise DataError(what, found=found, expected=f"at most {objects}, one for each object", fix="write it again")
    return labels
