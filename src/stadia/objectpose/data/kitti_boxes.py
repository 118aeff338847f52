"""KITTI's object data set as images of objects: boxes without masks."""

from __future__ import annotations

from pathlib import Path

from stadia.core.errors import DataError
from stadia.datasets.formats.kitti_objects import KITTI_CLASSES, KittiBox, KittiBoxImages, read_boxes
from stadia.files.paths import expand_home
from stadia.objectpose.data.object_labels import (
    BACKGROUND,
    EstimatedBox,
    ObjectBox,
    ObjectImages,
    ObjectLabels,
    make_no_masks_error,
)


class KittiObjectImages(KittiBoxImages, ObjectImages):
    """The labeled images of a split's left color camera, with their boxes in space."""

    classes = (BACKGROUND, *KITTI_CLASSES)

    def boxes(self, index: int) -> list[ObjectBox]:
        return [box for box, _ in self._in_camera(index, self.written(index))]

    def labels(self, index: int) -> ObjectLabels:
        raise make_no_masks_error(self.label_path(index))

    def results(self, folder: Path) -> list[list[EstimatedBox]]:
        """Return boxes with scores from a folder of result files, one for each image. Raises DataError."""
        folder, stems = expand_home(folder), [path.stem for path in self._files]
        if odd := sorted({path.stem for path in folder.glob("*.txt")} - set(stems)):
            fix = "check both folders"
            raise DataError(folder / f"{odd[0]}.txt", found="no such image", expected=f"those of {self.name}", fix=fix)
        files = [folder / f"{stem}.txt" for stem in stems]
        return [self._in_camera(index, read_boxes(file, scored=True)) for index, file in enumerate(files)]

    def _in_camera(self, index: int, boxes: list[KittiBox]) -> list[EstimatedBox]:
        _, T_camera_rectified = self.projection(index)
        found = []
        for box in boxes:
            T_camera_object = T_camera_rectified @ box.T_rectified_object
            found.append((ObjectBox(self.classes.index(box.kind), T_camera_object, box.size_m, "none"), box.score))
        return found
