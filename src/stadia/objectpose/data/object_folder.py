"""Read objects in stadia's own layout (TableWorld, docs/reference/tableworld.md), and KITTI's boxes."""

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stadia.core.errors import DataError
from stadia.core.types import Camera
from stadia.data.config import Matrix
from stadia.data.formats.kitti_objects import KITTI_CLASSES, KittiBox, KittiBoxImages, read_boxes
from stadia.geometry.cameras import check_K
from stadia.io.array_files import read_npy
from stadia.io.image_files import check_depth_map, check_image_size, read_label_png, read_rgb
from stadia.io.input_files import expand_home, safe_join
from stadia.io.typed_json import FileEntry, read_typed_json
from stadia.objectpose.data import object_labels
from stadia.objectpose.data.object_labels import (
    BACKGROUND,
    EstimatedBox,
    ObjectBox,
    ObjectImages,
    ObjectLabels,
    make_no_masks_error,
)

_FIX = "see docs/reference/tableworld.md for the layout"

_Row = Annotated[list[float], Field(min_length=4, max_length=4)]


class _ObjectDatasetFile(FileEntry):  # dataset.json
    format: Literal["stadia-objects"]
    version: int = Field(ge=1, le=1)
    classes: tuple[str, ...]
    splits: dict[str, list[str]]


class _ObjectEntry(FileEntry):
    class_: str = Field(alias="class")
    quaternion_wxyz: object_labels.Quaternion
    t_camera_object_m: tuple[float, float, float]
    size_m: tuple[float, float, float]
    symmetry: object_labels.SymmetryLabel = "none"
    full_px: int = Field(default=0, ge=0)


class _ImageEntry(FileEntry):
    K: Matrix
    T_world_camera: Annotated[list[_Row], Field(min_length=4, max_length=4)] | None = None
    height: int = Field(ge=1, le=1 << 16)
    width: int = Field(ge=1, le=1 << 16)
    objects: tuple[_ObjectEntry, ...]


class _SceneFile(FileEntry):  # scene.json
    images: tuple[_ImageEntry, ...]


def _parse(kind: type[FileEntry], path: Path) -> Any:
    return read_typed_json(path, kind, expected="the layout of images with objects", fix=_FIX)


def read_object_dataset(dataset: Path) -> _ObjectDatasetFile:
    """Read DATASET/dataset.json. Raises DataError if it is missing or damaged."""
    path = expand_home(dataset) / "dataset.json"
    found: _ObjectDatasetFile = _parse(_ObjectDatasetFile, path)
    if found.classes[:1] != (object_labels.BACKGROUND,) or len(set(found.classes)) != len(found.classes):
        expected = f"'{object_labels.BACKGROUND}' first, then every class name once"
        raise DataError(path, found=f"classes {', '.join(found.classes)}", expected=expected, fix=_FIX)
    return found


class ObjectFolder(object_labels.ObjectImages):
    """One split of objects in stadia's own layout, which TableWorld has."""

    def __init__(self, name: str, classes: tuple[str, ...], entries: list[tuple[Path, int, _ImageEntry]]) -> None:
        self.name, self.classes, self._entries = name, classes, entries

    @classmethod
    def open(cls, dataset: Path, split: str) -> "ObjectFolder":
        """Open a split, which is empty if the dataset has no such split. Raises DataError for damaged files."""
        dataset = expand_home(dataset)
        description = read_object_dataset(dataset)
        entries = []
        for name in description.splits.get(split, []):
            folder = safe_join(dataset, name)
            path = folder / "scene.json"
            scene: _SceneFile = _parse(_SceneFile, path)
            for number, entry in enumerate(scene.images):
                if entry.T_world_camera is not None:
                    object_labels.check_rotation(
                        f"{path}: image {number}, T_world_camera", np.array(entry.T_world_camera)[:3, :3]
                    )
                entries.append((folder, number, entry))
        return cls(f"{dataset.name}/{split}", description.classes, entries)

    def __len__(self) -> int:
        return len(self._entries)

    def _path(self, index: int, kind: str, suffix: str = ".png") -> Path:
        folder, number, _ = self._entries[index]
        return folder / kind / f"{number:03d}{suffix}"

    def file(self, index: int) -> Path:
        return self._path(index, "image")

    def scene(self, index: int) -> str:
        folder = self._entries[index][0]
        return f"{folder.parent.name}/{folder.name}"

    def label_files(self, index: int) -> list[Path]:
        return [self._entries[index][0] / "scene.json", self._path(index, "instance")]

    def image(self, index: int) -> NDArray[np.uint8]:
        """Return an image (H, W, 3) RGB."""
        return self._check_size(index, self.file(index), read_rgb(self.file(index)))

    def _check_size(self, index: int, path: Path, image: NDArray) -> NDArray:
        entry = self._entries[index][2]
        check_image_size(path, image, entry.height, entry.width, like=" as in scene.json")
        return image

    def camera(self, index: int) -> Camera:
        folder, number, entry = self._entries[index]
        K = check_K(f"{folder / 'scene.json'}: image {number}", np.array(entry.K))
        return Camera(K, entry.height, entry.width)

    def depth_m(self, index: int) -> NDArray[np.float32] | None:
        """Return z (H, W) in metres, 0 for unknown; None if the dataset has no depth."""
        path, entry = self._path(index, "depth", ".npy"), self._entries[index][2]
        if not path.exists():
            return None
        depth = read_npy(path, shape=(entry.height, entry.width)).astype(np.float32)
        return check_depth_map(path, depth, entry.height, entry.width)

    def labels(self, index: int) -> object_labels.ObjectLabels:
        folder, number, entry = self._entries[index]
        path = self._path(index, "instance")
        instance = self._check_size(index, path, read_label_png(path))
        visible = object_labels.count_pixels(instance, len(entry.objects))
        what, K = f"{folder / 'scene.json'}: image {number}, object", np.array(entry.K)
        objects = tuple(
            self._check_object(f"{what} {place}", entry_of_object, K, int(count))
            for place, (entry_of_object, count) in enumerate(zip(entry.objects, visible, strict=True), start=1)
        )
        return object_labels.check_labels(path, object_labels.ObjectLabels(instance, objects))

    def _check_object(
        self, what: str, one: _ObjectEntry, K: object_labels.Points, visible_px: int
    ) -> object_labels.ObjectLabel:
        if one.class_ not in self.classes[1:]:
            expected = f"one of {', '.join(self.classes[1:])}"
            raise DataError(what, found=f"class '{one.class_}'", expected=expected)
        for turn in [one.symmetry] if isinstance(one.symmetry, str) else one.symmetry:
            if not isinstance(turn, str):
                object_labels.check_quaternion(f"{what}, symmetry", turn)
        T = object_labels.check_pose(
            what, object_labels.check_quaternion(what, one.quaternion_wxyz), one.t_camera_object_m
        )
        size_m = object_labels.check_size(what, one.size_m)
        object_labels.check_visible_size(what, T, size_m, K, visible_px)
        return object_labels.ObjectLabel(
            self.classes.index(one.class_), T, size_m, one.symmetry, visible_px, one.full_px
        )


class KittiObjectImages(KittiBoxImages, ObjectImages):
    """The labeled images of a split's left color camera, with their 3D boxes."""

    classes = (BACKGROUND, *KITTI_CLASSES)

    def boxes(self, index: int) -> list[ObjectBox]:
        return [box for box, _ in self._in_camera(index, self.written(index))]

    def labels(self, index: int) -> ObjectLabels:
        raise make_no_masks_error(self.label_path(index))

    def results(self, folder: Path) -> list[list[EstimatedBox]]:
        """Return the boxes of each image, with scores, from a folder of result files.

        Raises DataError for a wrong file.
        """
        folder, stems = expand_home(folder), [path.stem for path in self._files]
        if odd := sorted({path.stem for path in folder.glob("*.txt")} - set(stems)):
            fix = "check both folders"
            raise DataError(
                folder / f"{odd[0]}.txt", found="no such image", expected=f"an image of {self.name}", fix=fix
            )
        files = [folder / f"{stem}.txt" for stem in stems]
        return [self._in_camera(index, read_boxes(file, scored=True)) for index, file in enumerate(files)]

    def _in_camera(self, index: int, boxes: list[KittiBox]) -> list[EstimatedBox]:
        _, T_camera_rectified = self.projection(index)
        found = []
        for box in boxes:
            T_camera_object = T_camera_rectified @ box.T_rectified_object
            found.append((ObjectBox(self.classes.index(box.kind), T_camera_object, box.size_m, "none"), box.score))
        return found
