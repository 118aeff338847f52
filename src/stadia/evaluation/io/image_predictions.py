"""Write predictions of single images: posed objects with their masks, or depth and mask of composites."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from stadia.core.errors import StadiaError
from stadia.core.types import DepthScale
from stadia.evaluation.io.depth_files import DEPTH_KEYS, read_depth_map, write_depth_map, write_depth_png
from stadia.evaluation.io.predictions_folder import SCALE_DESCRIPTIONS, Predictions
from stadia.evaluation.io.predictions_record import PredictionsRecord, Provenance
from stadia.evaluation.plots.image_overlays import draw_masks, draw_objects
from stadia.files.atomic_files import hold_folder, is_empty, sync_later, write_json
from stadia.files.image_io import write_image
from stadia.files.paths import safe_join
from stadia.geometry.se3 import quaternion_wxyz_from_matrix
from stadia.metrics.object_metrics import PosedObjects
from stadia.training.loggers import compose_image_sheet

OBJECTS_FILE, MASKS, DRAWN = "objects.json", "masks", "drawn"
LOGITS_KEY = "mask_logits"


@contextmanager
def _open_new_folder(out: Path) -> Iterator[Path]:
    """Hold the lock of a new or empty folder, and sync its files at the end of the block.

    Raises StadiaError for a folder with files, and where another process writes it.
    """
    with hold_folder(out):
        if not is_empty(out):
            fix = "choose another --out: nothing is overwritten"
            raise StadiaError(out, found="something there already", expected="a new or an empty folder", fix=fix)
        with sync_later(out):
            yield out


def _check_not_empty(out: Path, images: Sequence[Any]) -> None:
    """Raise StadiaError where no image was written."""
    if not images:
        raise StadiaError(out, found="no image", expected="at least one", fix="check the input")


@dataclass(frozen=True)
class ObjectPredictions:
    """An image (H, W, 3) RGB and its predicted objects.

    name: of its files, unique in a folder.
    instance: (H, W), n = the n-th row of `objects`, from 1.
    true: labeled objects, if known; drawn below.
    center_known: (M,) bool, whether the pixels of each object agree on a center; None where this was not checked.
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
        """Class of each pixel, (H, W), 0 = none."""
        return np.concatenate(([0], self.objects.class_id.cpu().numpy()))[self.instance]

    def drawn(self, classes: Sequence[str], *, scores: bool = True) -> NDArray[np.uint8]:
        """Draw masks, boxes and axes with classes and scores; below them the labeled boxes, if known."""
        masks = draw_masks(self.image, self.instance, self.class_map, opacity=0.35)
        found = draw_objects(masks, self.K, self.objects, classes, scores=scores)
        return found if self.true is None else np.vstack((found, draw_objects(self.image, self.K, self.true, classes)))

    def entry(self, classes: Sequence[str]) -> dict[str, Any]:
        """Return the image's entry in objects.json."""
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
    """Write masks and drawings of images into a new folder one by one, and objects.json at the end.

    After an error objects.json holds the images before it. Returns the entries of objects.json. Raises StadiaError
    where the folder is not empty, two images have one name, or there is no image.
    """
    made_by = provenance.model_dump(mode="json", include={"recipe", "config_hash", "checkpoint"})
    head = {"format": "stadia-found-objects", "version": 1, **made_by, "classes": tuple(classes)}
    entries: dict[str, dict[str, Any]] = {}
    with _open_new_folder(Path(out)) as folder:
        try:
            for image in predicted:
                if image.name in entries:
                    found = f"two images called '{image.name}'"
                    raise StadiaError(out, found=found, expected="names of their own", fix="rename one")
                write_image(safe_join(folder, f"{MASKS}/{image.name}.png"), image.instance.astype(np.uint16))
                write_image(safe_join(folder, f"{DRAWN}/{image.name}.png"), image.drawn(classes)[..., ::-1])
                entries[image.name] = image.entry(classes)
        finally:
            if entries:
                write_json(folder / OBJECTS_FILE, {**head, "images": [*entries.values()]})
        _check_not_empty(folder, [*entries])
    return [*entries.values()]


def resize_instances(instance: torch.Tensor, height: int, width: int) -> NDArray[np.int32]:
    """Resize (h, w) to (height, width) by the nearest pixel center."""
    numbers = instance.cpu().numpy().astype(np.uint16)
    return cv2.resize(numbers, (width, height), interpolation=cv2.INTER_NEAREST_EXACT).astype(np.int32)


@dataclass(frozen=True)
class OverlayPrediction:
    """Depth and mask logits (h, w) of a composite image, as predicted.

    name: of its files, unique in a folder.
    size: (height, width) of the image.
    sheet: labeled (H, W, 3) RGB images to draw side by side; None draws nothing.
    """

    name: str
    depth: NDArray[np.float32]
    logits: NDArray[np.float32]
    size: tuple[int, int]
    sheet: Mapping[str, NDArray[np.uint8]] | None = None


def write_overlay_predictions(
    out: Path, depth_scale: DepthScale, provenance: Provenance, source: str, predicted: Iterable[OverlayPrediction]
) -> Predictions:
    """Write depth, masks and sheets into a new folder one by one, and predictions.json before the first and at the end.

    Raises StadiaError where the folder is not empty, or there is no image.
    """
    record = PredictionsRecord(
        depth_scale=depth_scale,
        trust=SCALE_DESCRIPTIONS[depth_scale],
        source=source,
        network_size=None,
        **provenance.model_dump(),
    )
    names = list[str]()
    sizes = set[tuple[int, int]]()
    network_sizes = set[tuple[int, int]]()
    with _open_new_folder(Path(out)) as folder:
        record.write(folder)
        for image in predicted:
            stem = safe_join(folder, f"depth/{image.name}")
            maps = {DEPTH_KEYS[depth_scale]: image.depth, LOGITS_KEY: image.logits}
            write_depth_map(stem.with_name(f"{image.name}.npz"), **maps)
            depth = 1 / _resize(np.float32(1) / image.depth, image.size)
            write_depth_png(stem.with_name(f"{image.name}.png"), depth)
            mask = np.where(_resize(image.logits, image.size) > 0, 255, 0).astype(np.uint8)
            write_image(safe_join(folder, f"mask/{image.name}.png"), mask)
            if image.sheet is not None:
                write_image(safe_join(folder, f"drawn/{image.name}.png"), compose_image_sheet(image.sheet)[..., ::-1])
            names.append(image.name)
            sizes.add(image.size)
            network_sizes.add((image.depth.shape[0], image.depth.shape[1]))
        _check_not_empty(folder, names)
    ended = {
        "entries": tuple(names),
        "image_size": sizes.pop() if len(sizes) == 1 else None,
        "network_size": network_sizes.pop() if len(network_sizes) == 1 else None,
        "finished": True,
    }
    record.model_copy(update=ended).write(out)
    return Predictions.open(out)


def read_mask_logits(predictions: Predictions, name: str) -> NDArray[np.floating]:
    """Read mask logits (h, w) of an entry."""
    return read_depth_map(predictions.files[name], key=LOGITS_KEY)


def _resize(values: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Resize to (height, width), bilinearly, outer edges on outer edges."""
    if values.shape == size:
        return values
    return np.asarray(cv2.resize(values, size[::-1], interpolation=cv2.INTER_LINEAR))
