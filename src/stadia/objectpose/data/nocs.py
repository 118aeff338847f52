"""Read NOCS datasets in their official layout: CAMERA and REAL (Wang et al., CVPR 2019).

The files contain no poses. A RANSAC similarity between object coordinates and depth points gives them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError, GeometryError
from stadia.core.seeds import derive_seed
from stadia.core.types import Camera
from stadia.geometry.align import umeyama_ransac
from stadia.io.image_files import read_raw_depth_png, read_rgb
from stadia.io.input_files import expand_home, name_parser_errors, natural_sort_key, read_text, safe_join
from stadia.objectpose.data import object_labels

FOLDER = "obj_models"  # folder of the models next to the images, with parts such as real_test and val

MAX_BYTES = 128 << 20  # largest file that is read
RIM_SHARE = 0.1  # upper share of a mug's height, where its body has no handle
# Distance of the rim's middle from the box's middle, over the box's diagonal, if there is a handle.
MIN_HANDLE_OFFSET = 0.02
MIN_BEYOND_BODY = 1.05  # distance from the axis, over the body's radius, from which a point is of the handle
MIN_HANDLE_PX = 4  # visible pixels of a handle that break the symmetry of a mug, as in TableWorld


@dataclass(frozen=True)
class NocsModel:
    """Describe a NOCS model in normalized coordinates: its box is centered at 0 and has the diagonal 1.

    extent: (3,) edge lengths of its box, in these coordinates.
    axis_x: x of the axis of a mug's body.
    radius: radius of a mug's body.
    handle_side: side of a mug's handle along the axis, 1 for +x or -1 for -x; 0 without a handle.
    """

    extent: object_labels.Points
    axis_x: float
    radius: float
    handle_side: int

    @classmethod
    def from_vertices(cls, vertices: object_labels.Points) -> "NocsModel":
        """Return the model with the vertices (V, 3), in any unit."""
        low, high = vertices.min(0), vertices.max(0)
        diagonal = float(np.linalg.norm(high - low))
        own = (vertices - (low + high) / 2) / diagonal
        extent = (high - low) / diagonal
        rim = own[own[:, 1] > own[:, 1].max() - RIM_SHARE * extent[1]]
        axis_x = float(rim[:, 0].max() + rim[:, 0].min()) / 2
        side = int(-np.sign(axis_x)) if abs(axis_x) > MIN_HANDLE_OFFSET else 0
        return cls(extent, axis_x, float(np.abs(own[:, 2]).max()), side)

    def shows_handle(self, coordinates: object_labels.Points) -> bool:
        """Return whether the visible points (N, 3), in normalized coordinates around 0, include the handle."""
        beyond = self.handle_side * (coordinates[:, 0] - self.axis_x) > MIN_BEYOND_BODY * self.radius
        return bool(self.handle_side) and int(beyond.sum()) >= MIN_HANDLE_PX


def find_models_folder(images: Path) -> Path | None:
    """Return the folder of models in a folder of images, or in one of the two folders above it, or None."""
    return next((path / FOLDER for path in (images, *images.resolve().parents[:2]) if (path / FOLDER).is_dir()), None)


def read_nocs_model(folder: Path, names: Sequence[str]) -> NocsModel | None:
    """Return the model that a line of _meta.txt names (SYNSET/NAME in CAMERA), or None if its file is missing."""
    inside = Path(f"{names[0]}.obj") if len(names) == 1 else Path(*names, "model.obj")
    for part in sorted(path for path in folder.iterdir() if path.is_dir()):
        path = safe_join(part, str(inside))
        if path.is_file():
            return NocsModel.from_vertices(read_vertices(path))
    return None


def read_vertices(path: Path) -> NDArray[np.float64]:
    """Return the vertices (V, 3) of a Wavefront file. Raises DataError if there are fewer than four."""
    expected = "a Wavefront file with vertices"
    text = read_text(path, expected=expected, max_bytes=MAX_BYTES)
    lines = [line.split()[1:4] for line in text.splitlines() if line.startswith("v ")]
    with name_parser_errors(path, expected=expected):
        vertices = np.array(lines, np.float64).reshape(len(lines), 3)
    if len(vertices) < 4 or not np.isfinite(vertices).all() or not (np.ptp(vertices, axis=0) > 0).all():
        found = f"{len(vertices)} vertices of a flat or infinite shape"
        raise DataError(path, found=found, expected=expected, fix="copy the scene of the dataset again")
    return vertices


CLASSES = (object_labels.BACKGROUND, "bottle", "bowl", "camera", "can", "laptop", "mug")
_REVOLUTION_CLASSES = {"bottle", "bowl", "can"}  # A mug with a hidden handle is one, too, if the dataset has its model.

# Intrinsics of the synthetic (CAMERA) and of the real images, as published with the data set.
K_CAMERA = np.array([[577.5, 0.0, 319.5], [0.0, 577.5, 239.5], [0.0, 0.0, 1.0]])
K_REAL = np.array([[591.0125, 0.0, 322.525], [0.0, 590.16775, 244.11084], [0.0, 0.0, 1.0]])

_LABEL_FILES = ("_coord.png", "_depth.png", "_mask.png", "_meta.txt")
_BACKGROUND_NUMBER = 255  # of the background in a mask
_INLIER_M = 0.01  # distance of a point from its place by the fitted pose, up to which it supports the pose
_MAX_POINTS = 600  # points that a pose is fitted to
_MIN_PX = 20  # fewest pixels of an object whose pose is fitted


def read_coordinates(path: Path) -> object_labels.Points:
    """Return the object coordinates (H, W, 3) of a _coord.png, in [0, 1] around 0.5.

    x points to the object's right, y up, and z to its front.
    """
    coordinates = read_rgb(path).astype(np.float64) / 255
    coordinates[..., 2] = 1 - coordinates[..., 2]
    return coordinates


def read_depth(path: Path) -> NDArray[np.float32]:
    """Return z (H, W) in metres of a _depth.png, 0 for unknown.

    The file contains millimetres, in 16 bits or in the green and red channels.
    """
    codes = read_raw_depth_png(path)
    if codes.ndim == 3:
        codes = codes[..., 1].astype(np.uint16) * np.uint16(256) + codes[..., 2]  # OpenCV's order: blue, green, red
    return codes.astype(np.float32) / np.float32(1000)


def recover_pose(
    coordinates: object_labels.Points, depth_m: NDArray, mask: NDArray[np.bool_], K: object_labels.Points, seed: int
) -> tuple[object_labels.Points, float]:
    """Return the pose T_camera_object (4, 4) and the diagonal of the box, estimated from coordinates and depth.

    coordinates: (H, W, 3) object coordinates.
    depth_m: (H, W) z in metres.
    mask: (H, W) bool mask of the object.
    K: (3, 3) intrinsics.
    seed: seed of the RANSAC samples.

    Raises GeometryError if no pose fits.
    """
    rows, columns = np.nonzero(mask & (depth_m > 0))
    if len(rows) < _MIN_PX:
        expected = f"at least {_MIN_PX}"
        raise GeometryError(
            "object",
            found=f"{len(rows)} pixels with depth",
            expected=expected,
            fix="leave the object out of the labels",
        )
    if len(rows) > _MAX_POINTS:
        chosen = np.linspace(0, len(rows) - 1, _MAX_POINTS).astype(int)
        rows, columns = rows[chosen], columns[chosen]
    z = depth_m[rows, columns].astype(np.float64)
    points = np.stack([(columns - K[0, 2]) / K[0, 0] * z, (rows - K[1, 2]) / K[1, 1] * z, z], 1)
    found = umeyama_ransac(
        coordinates[rows, columns] - 0.5,
        points,
        "sim3",
        inlier_distance=_INLIER_M,
        generator=np.random.default_rng(seed),
    )
    T, diagonal_m = np.eye(4), float(found.similarity.scale)
    T[:3, :3], T[:3, 3] = found.similarity.R, found.similarity.t
    if not T[2, 3] > 0 or not diagonal_m > 0:
        expected = "in front of the camera"
        raise GeometryError(
            "object",
            found=f"its center at z = {T[2, 3]:.3g} m",
            expected=expected,
            fix="leave the object out of the labels",
        )
    return T, diagonal_m


def read_meta(path: Path) -> tuple[dict[int, int], bool]:
    """Return the class of each object number (0 for a distractor), and whether the _meta.txt belongs to CAMERA."""
    text = read_text(path, expected="a line for each object", fix="copy it from the dataset")
    try:
        lines = [line.split() for line in text.splitlines() if line.strip()]
        found = {int(words[0]): int(words[1]) for words in lines}
    except (ValueError, IndexError) as error:
        expected = "lines of number, class, model"
        raise DataError(
            path, found=f"a damaged file ({error})", expected=expected, fix="copy the file of the dataset again"
        ) from error
    columns = {len(words) for words in lines}
    wrong = [n for n, kind in found.items() if not (0 <= kind < len(CLASSES) and 0 <= n < _BACKGROUND_NUMBER)]
    if wrong or len(found) != len(lines) or not columns <= {3, 4} or len(columns) > 1:
        counted = f"{len(lines)} lines of {sorted(columns)} columns"
        what = f"object {wrong[0]} of class {found[wrong[0]]}" if wrong else counted
        expected = "numbers once each below 255, classes 0 to 6, and 3 (REAL) or 4 (CAMERA) columns"
        raise DataError(path, found=what, expected=expected, fix="copy the scene of the dataset again")
    return found, columns == {4}


def read_model_names(path: Path) -> dict[int, tuple[str, ...]]:
    """Return the names of each object's model in a _meta.txt, by object number."""
    lines = [line.split() for line in read_text(path, expected="a line for each object").splitlines() if line.strip()]
    return {int(words[0]): tuple(words[2:]) for words in lines}


class NocsImages(object_labels.ObjectImages):
    """The images of a folder and its subfolders.

    Without obj_models, `size_m` covers only the visible part of objects.
    """

    classes = CLASSES

    def __init__(self, name: str, stems: list[Path], models: Path | None = None) -> None:
        self.name, self._stems, self._models = name, stems, models
        self._known: dict[tuple[str, ...], NocsModel | None] = {}
        self._cache: dict[int, tuple[dict[int, object_labels.ObjectLabel], list[object_labels.UnlabeledObject]]] = {}

    @classmethod
    def open(cls, dataset: Path, split: str = ".") -> "NocsImages":
        """Open DATASET/SPLIT. Raises DataError without images, or if one of an image's five files is absent."""
        folder = expand_home(dataset) / split
        images = sorted(folder.rglob("*_color.png"), key=lambda path: (path.parent.parts, natural_sort_key(path)))
        if not images:
            raise DataError(folder, found="no *_color.png", expected="NOCS's layout", fix="check the path")
        stems = [path.with_name(path.name.removesuffix("_color.png")) for path in images]
        for stem in stems:
            for path in (stem.with_name(stem.name + ending) for ending in _LABEL_FILES):
                if not path.exists():
                    fix = "copy it, or remove the others"
                    raise DataError(path, found="no such file", expected="five files an image", fix=fix)
        return cls(folder.name, stems, find_models_folder(folder))

    def __len__(self) -> int:
        return len(self._stems)

    def _path(self, index: int, ending: str) -> Path:
        stem = self._stems[index]
        return stem.with_name(stem.name + ending)

    def file(self, index: int) -> Path:
        return self._path(index, "_color.png")

    def scene(self, index: int) -> str:
        folder = self._stems[index].parent
        return f"{folder.parent.name}/{folder.name}"

    def label_files(self, index: int) -> list[Path]:
        return [self._path(index, ending) for ending in _LABEL_FILES]

    def camera(self, index: int) -> Camera:
        _, rendered = read_meta(self._path(index, "_meta.txt"))
        height, width = self.image(index).shape[:2]
        return Camera(K_CAMERA if rendered else K_REAL, height, width)

    def labels(self, index: int) -> object_labels.ObjectLabels:
        found, left_out = self._recover(index)
        mask = self._mask(index)
        instance = np.zeros(mask.shape, np.int32)
        for place, number in enumerate(found, start=1):
            instance[mask == number] = place
        for unlabeled in left_out:
            instance[mask == unlabeled.number] = object_labels.UNLABELED
        return object_labels.ObjectLabels(instance, tuple(found.values()))

    def left_out(self, index: int) -> list[object_labels.UnlabeledObject]:
        """Return the objects of known classes that have no pose, by their number in _mask.png."""
        return self._recover(index)[1]

    def _model(self, names: tuple[str, ...]) -> NocsModel | None:
        if self._models is None or not names:
            return None
        if names not in self._known:
            self._known[names] = read_nocs_model(self._models, names)
        return self._known[names]

    def _mask(self, index: int) -> NDArray[np.int32]:
        return read_rgb(self._path(index, "_mask.png"))[..., 0].astype(np.int32)

    def _recover(self, index: int) -> tuple[dict[int, object_labels.ObjectLabel], list[object_labels.UnlabeledObject]]:
        if index in self._cache:
            return self._cache[index]
        kinds, rendered = read_meta(self._path(index, "_meta.txt"))
        names = read_model_names(self._path(index, "_meta.txt"))
        mask = self._mask(index)
        coordinates = read_coordinates(self._path(index, "_coord.png"))
        depth, K = read_depth(self._path(index, "_depth.png")), K_CAMERA if rendered else K_REAL
        if not mask.shape == coordinates.shape[:2] == depth.shape:
            found = f"mask {mask.shape}, coordinates {coordinates.shape[:2]}, depth {depth.shape}"
            raise DataError(self._stems[index], found=found, expected="one size", fix="copy the image again")
        unknown = set(np.unique(mask).tolist()) - set(kinds) - {_BACKGROUND_NUMBER}
        if unknown:
            path = self._path(index, "_mask.png")
            raise DataError(
                path,
                found=f"object {min(unknown)}",
                expected="those of _meta.txt",
                fix="copy the scene of the dataset again",
            )
        labels: dict[int, object_labels.ObjectLabel] = {}
        left_out: list[object_labels.UnlabeledObject] = []
        for number, kind in kinds.items():
            own = mask == number
            if kind == 0:
                continue
            if not own.any():
                left_out.append(object_labels.UnlabeledObject(number, "no pixel shows it", 0))
                continue
            try:
                T_camera_object, diagonal_m = recover_pose(
                    coordinates, depth, own, K, derive_seed(0, "nocs", index, number)
                )
            except GeometryError as error:
                left_out.append(object_labels.UnlabeledObject(number, str(error), int(own.sum())))
                continue
            symmetry: object_labels.SymmetryLabel = "revolution" if CLASSES[kind] in _REVOLUTION_CLASSES else "none"
            size = 2 * np.abs(coordinates[own] - 0.5).max(0) * diagonal_m
            if (model := self._model(names[number])) is not None:
                size = model.extent * diagonal_m
                if CLASSES[kind] == "mug" and not model.shows_handle(coordinates[own] - 0.5):
                    symmetry = "revolution"
            labels[number] = object_labels.ObjectLabel(kind, T_camera_object, size, symmetry, int(own.sum()))
        self._cache[index] = labels, left_out
        return self._cache[index]
