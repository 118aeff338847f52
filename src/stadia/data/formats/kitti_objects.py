"""Read boxes of KITTI's object dataset (Geiger et al., CVPR 2012), and results in its format.

The files contain the center of a box's bottom face in the coordinate frame of the rectified camera 0, and the box's
rotation about y, which points down. stadia's object frame has its origin at the center of the box, y up, z to the
object's front, and x to the right of a viewer who faces the object.
"""

import functools
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.types import Camera
from stadia.io.image_files import list_images, read_rgb
from stadia.io.input_files import expand_home, read_text
from stadia.io.records.kitti_calibration import KittiCalibration

log = logging.getLogger(__name__)

Points = NDArray[np.float64]
KITTI_CLASSES = ("Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc")
DONT_CARE = "DontCare"  # unlabeled regions
LABEL_COLUMNS = 15
MAX_SIDE_M = 100  # longer sides are in another unit
_ROUNDED = 0.01  # angles are written with two digits
# From stadia's object axes to KITTI's: x front, y down.
_R_KITTI_OBJECT = np.array([[0.0, 0, 1], [0, -1, 0], [1, 0, 0]])


@dataclass(frozen=True, slots=True)
class KittiBox:
    """One object of a label or result file, as written.

    kind: class name, such as Car.
    truncated: share of the object outside the image, 0 to 1.
    occluded: 0 (fully visible) to 2 (largely occluded); 3 is unknown.
    alpha: rotation relative to the viewing ray in radians. In result files, truncated, occluded and alpha are -1, -1
        and -10.
    box_px: left, top, right and bottom of the 2-D box in pixels.
    size_hwl_m: (3,) height, width and length in metres.
    bottom_m: (3,) center of the bottom face in the coordinate frame of the rectified camera 0, in metres.
    rotation_y: rotation about that frame's y axis in radians.
    score: confidence of a result; higher is more certain. It is 1 in labels.
    """

    kind: str
    truncated: float
    occluded: float
    alpha: float
    box_px: tuple[float, float, float, float]
    size_hwl_m: Points
    bottom_m: Points
    rotation_y: float
    score: float = 1.0

    @property
    def T_rectified_object(self) -> Points:
        """Return the motion (4, 4) from stadia's object frame to the coordinate frame of the rectified camera 0, in
        metres.
        """
        c, s = math.cos(self.rotation_y), math.sin(self.rotation_y)
        T = np.eye(4)
        T[:3, :3] = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]) @ _R_KITTI_OBJECT
        T[:3, 3] = self.bottom_m - (0, self.size_hwl_m[0] / 2, 0)
        return T

    @property
    def size_m(self) -> Points:
        """Return the size (3,) along x, y and z of stadia's object frame in metres: width, height, length."""
        return self.size_hwl_m[[1, 0, 2]]


def read_boxes(path: Path, *, scored: bool = False) -> list[KittiBox]:
    """Read the objects of a label file or a result file. Regions marked DontCare and boxes with NaN are left out.

    path: the file.
    scored: whether it is a result file, whose lines end with a confidence.

    Raises DataError for a damaged file.
    """
    path = Path(path)
    fix = "write an empty file if nothing was found" if scored else "copy it from the dataset"
    lines = read_text(path, expected="a file of boxes for each image", fix=fix).splitlines()
    numbered = [(f"{path}: line {number}", line.split()) for number, line in enumerate(lines, start=1) if line.strip()]
    boxes = [_parse_box(what, words, scored) for what, words in numbered if words[0] != DONT_CARE]
    if without := boxes.count(None):
        _warn_once(path, without)
    return [box for box in boxes if box is not None]


@functools.cache
def _warn_once(path: Path, without: int) -> None:
    log.warning("%s: %d boxes with NaN are left out", path, without)


def _parse_box(what: str, words: list[str], scored: bool) -> KittiBox | None:
    """Return the box of a line; None if one of its numbers is NaN."""
    kind, columns = words[0], LABEL_COLUMNS + scored
    if kind not in KITTI_CLASSES:
        raise DataError(what, found=f"class '{kind}'", expected=f"one of {', '.join((*KITTI_CLASSES, DONT_CARE))}")
    try:
        numbers = [float(word) for word in words[1:]]
    except ValueError as error:
        expected = f"a class and {columns - 1} numbers"
        raise DataError(what, found=f"{error}", expected=expected, fix="copy the file again") from error
    if len(words) != columns or np.isinf(numbers).any():
        found = f"{len(words)} columns" if len(words) != columns else "a number that is not finite"
        hint = {15: "this file has labels: a result needs a score", 16: "this file has results: a label has no score"}
        expected = f"{columns}: a class, 14 numbers{', a score' if scored else ''}"
        raise DataError(what, found=found, expected=expected, fix=hint.get(len(words), "copy the file again"))
    if np.isnan(numbers).any():
        return None
    truncated, occluded, alpha, left, top, right, bottom = numbers[:7]
    size_hwl_m, rotation_y = np.array(numbers[7:10]), numbers[13]
    if not ((size_hwl_m > 0) & (size_hwl_m < MAX_SIDE_M)).all():
        found, expected = f"size {size_hwl_m.tolist()}", "three extents in metres"
        raise DataError(f"{what}, height width length", found=found, expected=expected, fix="check the unit")
    if abs(rotation_y) > math.pi + _ROUNDED:
        degrees = " (degrees?)" if abs(rotation_y) > 2 * math.pi else ""
        found, fix = f"rotation_y {rotation_y:g}{degrees}", "convert it, and add or take 2 pi"
        raise DataError(what, found=found, expected="radians from -pi to pi", fix=fix)
    if numbers[12] + math.hypot(*size_hwl_m[1:]) / 2 <= 0:  # The middle of a tram may be behind the camera.
        found = f"a bottom at z = {numbers[12]:g} m, entirely behind the camera"
        raise DataError(what, found=found, expected="x, y, z with z forward, metres", fix="check axes and unit")
    score = numbers[14] if scored else 1.0
    box_px, bottom_m = (left, top, right, bottom), np.array(numbers[10:13])
    return KittiBox(kind, truncated, occluded, alpha, box_px, size_hwl_m, bottom_m, rotation_y, score)


def list_box_splits(dataset: Path) -> list[str]:
    """Return the sorted names of the splits of KITTI's object dataset that have labels, such as "training".

    dataset: folder of the dataset.
    """
    return sorted(labels.parent.name for labels in dataset.glob("*/label_2")) if dataset.is_dir() else []


class KittiBoxImages:
    """The labeled images of one split of KITTI's object dataset, from the left color camera, in the order of their
    numbers.
    """

    def __init__(self, name: str, files: list[Path]) -> None:
        self.name, self._files = name, files
        self._sizes: dict[int, tuple[int, int]] = {}

    @classmethod
    def open(cls, dataset: Path, split: str = "training") -> Self:
        """Open the labeled images in the folder of a split.

        dataset: folder of the dataset.
        split: name of the folder in it with image_2, label_2 and calib.

        Raises DataError if the split has no labels, or an image lacks its label file or the reverse.
        """
        dataset = expand_home(dataset)
        folder = dataset / split
        if not (folder / "label_2").is_dir():
            available = ", ".join(list_box_splits(dataset)) or "none"
            expected = f"a split with labels; available: {available}"
            raise DataError(
                dataset, found=f"no {split}/label_2", expected=expected, fix="pass a split whose folder has label_2"
            )
        files = list_images(folder / "image_2")
        images, labels = {path.stem for path in files}, {path.stem for path in (folder / "label_2").glob("*.txt")}
        if odd := sorted(images ^ labels):
            found = f"{len(images)} images and {len(labels)} label files; {odd[0]} is not in both"
            expected = "one label file for each image"
            raise DataError(folder, found=found, expected=expected, fix="copy what is missing, or remove the rest")
        return cls(f"{dataset.name}/{split}", files)

    def __len__(self) -> int:
        return len(self._files)

    def file(self, index: int) -> Path:
        """Return the image file with this index."""
        return self._files[index]

    def image(self, index: int) -> NDArray[np.uint8]:
        """Read the image (H, W, 3) uint8 RGB with this index."""
        return read_rgb(self.file(index))

    def camera(self, index: int) -> Camera:
        """Return the camera (K and image size) of the image with this index."""
        if index not in self._sizes:
            height, width = self.image(index).shape[:2]
            self._sizes[index] = height, width
        return Camera(self.projection(index)[0], *self._sizes[index])

    def projection(self, index: int) -> tuple[Points, Points]:
        """Return K (3, 3) of the left color camera, and its motion T_camera_rectified (4, 4) from the rectified camera
        0.

        index: index of the image, whose calibration file is read.
        """
        return KittiCalibration(self.label_path(index, "calib")).projection("P2")

    def label_path(self, index: int, kind: str = "label_2") -> Path:
        """Return the text file that belongs to an image.

        index: index of the image.
        kind: folder of the text file: "label_2" or "calib".
        """
        file = self.file(index)
        return file.parent.parent / kind / f"{file.stem}.txt"

    def written(self, index: int) -> list[KittiBox]:
        """Read the labeled objects of the image with this index, as written in the file."""
        return read_boxes(self.label_path(index))
