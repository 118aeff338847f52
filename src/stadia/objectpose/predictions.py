"""Write the predicted objects of images: poses, masks and drawings."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from stadia.core.errors import StadiaError
from stadia.evaluation.plots.colormaps import color_categories
from stadia.evaluation.plots.image_sheets import NEAR_PLANE_M, Array, Image, draw_masks, project_points
from stadia.evaluation.predictions_folder import Provenance
from stadia.geometry.poses import quaternion_wxyz_from_matrix
from stadia.io.atomic_files import write_json
from stadia.io.image_io import write_image
from stadia.io.input_files import safe_join
from stadia.io.output_files import hold_new_folder
from stadia.objectpose.boxes import EDGES, compute_box_corners
from stadia.objectpose.metrics import PosedObjects

AXIS_COLORS = ((230, 60, 50), (60, 190, 60), (70, 110, 250))  # RGB of the object's x, y and z
_SUBPIXEL_BITS = 4  # fractional bits of drawn coordinates
_FARTHEST_PX = 2**26  # with these bits, OpenCV's coordinates stay below 2^31


def draw_objects(
    image: Image, K: NDArray[np.float64], objects: PosedObjects, names: Sequence[str] = (), *, scores: bool = False
) -> Image:
    """Return a copy of an image with the boxes and axes of objects drawn in, and optionally their names and scores.

    A box has the color of the object's class.

    image: (H, W, 3) RGB.
    K: (3, 3) intrinsics in pixels.
    objects: class, pose and size of the objects.
    names: names of the classes by class number; empty draws no names.
    scores: whether scores are drawn after the names.
    """
    drawn = image.copy()
    thickness = max(1, round(image.shape[1] / 480))
    box_corners = compute_box_corners(objects.T_camera_object.double(), objects.size_m.double()).cpu().numpy()
    for row in torch.argsort(objects.T_camera_object[:, 2, 3], descending=True).tolist():  # Near objects come last.
        class_id = int(objects.class_id[row])
        color = tuple(int(c) for c in color_categories(np.array([[class_id - 1]]), 7)[0, 0])
        corners_m = box_corners[row]
        if corners_m[:, 2].max() < NEAR_PLANE_M:
            continue
        for a, b in EDGES:
            _draw_segment(drawn, corners_m[a], corners_m[b], K, color, thickness)
        T, half = objects.T_camera_object[row].double().cpu().numpy(), objects.size_m[row].double().cpu().numpy() / 2
        for axis, axis_color in enumerate(AXIS_COLORS):
            _draw_segment(drawn, T[:3, 3], T[:3, 3] + T[:3, axis] * half[axis], K, axis_color, thickness + 1)
        if names:
            corner = project_points(corners_m[corners_m[:, 2] >= NEAR_PLANE_M], K).min(0)
            x, y = np.clip(corner, 0, (image.shape[1] - 1, image.shape[0] - 1)).astype(int).tolist()
            scale = max(0.3, image.shape[1] / 1400)
            text = f"{names[class_id]} {float(objects.score[row]):.2f}" if scores else names[class_id]
            cv2.putText(drawn, text, (x, max(y - 2, 8)), cv2.FONT_HERSHEY_SIMPLEX, scale, color, 1, cv2.LINE_AA)
    return drawn


def _draw_segment(image: Image, start: Array, end: Array, K: Array, color: tuple[int, ...], thickness: int) -> None:
    near, far = sorted((start, end), key=lambda point: float(point[2]))
    if far[2] < NEAR_PLANE_M:
        return
    if near[2] < NEAR_PLANE_M:
        near = far + (near - far) * (far[2] - NEAR_PLANE_M) / (far[2] - near[2])
    a, b = np.clip(project_points(np.stack((near, far)), K), -_FARTHEST_PX, _FARTHEST_PX)
    _draw_clipped(image, a, b, color, thickness)


def _draw_clipped(image: Image, start: Array, end: Array, color: tuple[int, ...], thickness: int) -> None:
    a, b = ((point * 2**_SUBPIXEL_BITS).round().astype(int).tolist() for point in (start, end))
    height, width = (side << _SUBPIXEL_BITS for side in image.shape[:2])
    is_visible, a, b = cv2.clipLine((-width, -height, 3 * width, 3 * height), a, b)
    if is_visible:
        cv2.line(image, a, b, color, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)


OBJECTS_FILE, MASKS, DRAWN = "objects.json", "masks", "drawn"


@dataclass(frozen=True)
class ObjectPredictions:
    """Hold an image with the objects that were predicted in it.

    name: name of the files that are written for the image, unique in their folder.
    image: (H, W, 3) uint8 RGB.
    K: (3, 3) intrinsics in pixels.
    instance: (H, W) number of the object at each pixel: n is the n-th of `objects`, counted from 1, and 0 means no
        object.
    objects: class, pose, size and score of the M predicted objects.
    true: labeled objects, which are drawn in a second image below; None if unknown.
    center_known: (M,) bool, whether the directions from the pixels of each object cross at one center; None if this
        was not checked.
    """

    name: str
    image: NDArray[np.uint8]
    K: NDArray[np.float64]
    instance: NDArray[np.integer]
    objects: PosedObjects
    true: PosedObjects | None = None
    center_known: NDArray[np.bool_] | None = None

    @property
    def class_map(self) -> NDArray[np.integer]:
        """Return the class of each pixel, (H, W); 0 means no object."""
        return np.concatenate(([0], self.objects.class_id.cpu().numpy()))[self.instance]

    def drawn(self, classes: Sequence[str], *, scores: bool = True) -> NDArray[np.uint8]:
        """Return a drawing (H, W, 3) of masks, boxes and axes with classes and scores.

        Labeled boxes are drawn below it.
        """
        masks = draw_masks(self.image, self.instance, self.class_map, opacity=0.35)
        found = draw_objects(masks, self.K, self.objects, classes, scores=scores)
        return found if self.true is None else np.vstack((found, draw_objects(self.image, self.K, self.true, classes)))

    def entry(self, classes: Sequence[str]) -> dict[str, Any]:
        """Return the description of the image and its objects that is written to objects.json.

        classes: names of the classes by class number.
        """
        objects, area = self.objects, np.bincount(self.instance.ravel(), minlength=len(self.objects) + 1)
        quaternion = quaternion_wxyz_from_matrix(objects.T_camera_object[:, :3, :3].double())
        return {
            "name": self.name,
            "height": self.image.shape[0],
            "width": self.image.shape[1],
            "K": self.K.tolist(),
            "mask": f"{MASKS}/{self.name}.png",
            "objects": [
                {
                    "class": classes[int(objects.class_id[row])],
                    "score": float(objects.score[row]),
                    "quaternion_wxyz": quaternion[row].tolist(),
                    "t_camera_object_m": objects.T_camera_object[row, :3, 3].double().tolist(),
                    "size_m": objects.size_m[row].double().tolist(),
                    "mask_px": int(area[row + 1]),
                    "center_known": None if self.center_known is None else bool(self.center_known[row]),
                }
                for row in range(len(objects))
            ],
        }


def write_object_predictions(
    out: Path, classes: Sequence[str], provenance: Provenance, predicted: Iterable[ObjectPredictions]
) -> list[dict[str, Any]]:
    """Write masks and drawings into a new folder, and objects.json last. Returns the entries of objects.json.

    Raises StadiaError if the folder is not empty.
    """
    made_by = provenance.model_dump(mode="json", include={"recipe", "config_hash", "checkpoint"})
    head = {"format": "stadia-found-objects", "version": 1, **made_by, "classes": tuple(classes)}
    entries: dict[str, dict[str, Any]] = {}
    with hold_new_folder(Path(out)) as folder:
        try:
            for image in predicted:
                if image.name in entries:
                    found = f"two images called '{image.name}'"
                    raise StadiaError(
                        out, found=found, expected="different names", fix="rename one of the images with the same name"
                    )
                write_image(safe_join(folder, f"{MASKS}/{image.name}.png"), image.instance.astype(np.uint16))
                write_image(safe_join(folder, f"{DRAWN}/{image.name}.png"), image.drawn(classes)[..., ::-1])
                entries[image.name] = image.entry(classes)
        finally:
            if entries:
                write_json(folder / OBJECTS_FILE, {**head, "images": [*entries.values()]})
        if not entries:
            raise StadiaError(out, found="no image", expected="at least one")
    return [*entries.values()]


def resize_instances(instance: torch.Tensor, height: int, width: int) -> NDArray[np.int32]:
    """Resize an instance map (object number of each pixel) by taking the number at the nearest pixel center.

    instance: (H, W) object numbers.
    height: new height in pixels.
    width: new width in pixels.
    """
    numbers = instance.cpu().numpy().astype(np.uint16)
    return cv2.resize(numbers, (width, height), interpolation=cv2.INTER_NEAREST_EXACT).astype(np.int32)
