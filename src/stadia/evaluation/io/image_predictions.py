"""Write predictions of single images: posed objects with their masks, or depth and mask of composites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

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
from stadia.files.atomic_files import sync_later, write_json
from stadia.files.image_io import write_image
from stadia.files.locks import hold_folder, is_empty
from stadia.files.paths import safe_join
from stadia.geometry.se3 import quaternion_wxyz_from_matrix
from stadia.metrics.object_metrics import PosedObjects
from stadia.training.loggers import compose_image_sheet

OBJECTS_FILE, MASKS, DRAWN = "objects.json", "masks", "drawn"
LOGITS_KEY = "mask_logits"


def _hold_empty(out: Path) -> ExitStack:
    """Hold the lock of a new or empty folder. Raise StadiaError for another, or where another process writes it."""
    with ExitStack() as held:
        held.enter_context(hold_folder(out))
        if not is_empty(out):
            fix = "choose another --out: nothing is overwritten"
            raise StadiaError(out, found="something there already", expected="a new or an empty folder", fix=fix)
        return held.pop_all()


def _hold_unsynced(out: Path) -> ExitStack:
    """Sync the files of a folder when this is closed, before the file that states that they are complete."""
    held = ExitStack()
    held.enter_context(sync_later(out))
    return held


def _check_not_empty(out: Path, images: Sequence[Any]) -> None:
    """Raise StadiaError where no image was added."""
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


class ObjectPredictionsWriter:
    """Write images into a folder one by one, and objects.json at the end.

    As a context manager it also finishes after an error: earlier images are in objects.json, and no empty folder stays.
    Raises StadiaError where the folder is not empty, two images have one name, or there is no image.
    """

    def __init__(self, out: Path, classes: Sequence[str], provenance: Provenance, *, drawn: bool = True) -> None:
        self.out, self.classes, self.provenance, self.drawn = Path(out), tuple(classes), provenance, drawn
        self._made = not self.out.exists()
        self._held = _hold_empty(self.out)
        self._unsynced = _hold_unsynced(self.out)
        self.entries: list[dict[str, Any]] = []
        self._names: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._held:
            if kind is not None:
                self._keep_earlier()

    def _keep_earlier(self) -> None:
        if self.entries:
            self.finish()
            return
        self._unsynced.close()
        for folder in (self.out / MASKS, self.out / DRAWN, *([self.out] if self._made else [])):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    def add(self, predicted: ObjectPredictions) -> None:
        """Write the mask and the drawing of an image."""
        name = predicted.name
        if name in self._names:
            found = f"two images called '{name}'"
            raise StadiaError(self.out, found=found, expected="names of their own", fix="rename one")
        self._names.add(name)
        write_image(safe_join(self.out, f"{MASKS}/{name}.png"), predicted.instance.astype(np.uint16))
        if self.drawn:
            write_image(safe_join(self.out, f"{DRAWN}/{name}.png"), predicted.drawn(self.classes)[..., ::-1])
        self.entries.append(predicted.entry(self.classes))

    def finish(self) -> Path:
        """Write objects.json. Return its path."""
        self._unsynced.close()
        _check_not_empty(self.out, self.entries)
        made_by = self.provenance.model_dump(mode="json", include={"recipe", "config_hash", "checkpoint"})
        path, head = self.out / OBJECTS_FILE, {"format": "stadia-found-objects", "version": 1, **made_by}
        write_json(path, {**head, "classes": self.classes, "images": self.entries})
        self._held.close()
        return path


def resize_instances(instance: torch.Tensor, height: int, width: int) -> NDArray[np.int32]:
    """Resize (h, w) to (height, width) by the nearest pixel center."""
    numbers = instance.cpu().numpy().astype(np.uint16)
    return cv2.resize(numbers, (width, height), interpolation=cv2.INTER_NEAREST_EXACT).astype(np.int32)


class OverlayPredictionsWriter:
    """Write predictions into a new folder one by one, and predictions.json before the first and after the last."""

    def __init__(self, out: Path, depth_scale: DepthScale, provenance: Provenance, *, source: str) -> None:
        self.out, self.depth_scale, self.names = Path(out), depth_scale, list[str]()
        self._held = _hold_empty(self.out)
        self.record = PredictionsRecord(
            depth_scale=depth_scale,
            trust=SCALE_DESCRIPTIONS[depth_scale],
            source=source,
            network_size=None,
            **provenance.model_dump(),
        )
        self.sizes: set[tuple[int, int]] = set()
        self.network_sizes: set[tuple[int, int]] = set()
        self.record.write(self.out)
        self._unsynced = _hold_unsynced(self.out)

    def add(self, name: str, depth: NDArray[np.float32], logits: NDArray[np.float32], size: tuple[int, int]) -> None:
        """Write depth and logits (h, w) as predicted, for an image of `size` (height, width)."""
        stem = safe_join(self.out, f"depth/{name}")
        write_depth_map(stem.with_name(f"{name}.npz"), **{DEPTH_KEYS[self.depth_scale]: depth, LOGITS_KEY: logits})
        write_depth_png(stem.with_name(f"{name}.png"), 1 / _resize(np.float32(1) / depth, size))
        mask = np.where(_resize(logits, size) > 0, 255, 0).astype(np.uint8)
        write_image(safe_join(self.out, f"mask/{name}.png"), mask)
        self.names.append(name)
        self.sizes.add(size)
        self.network_sizes.add((depth.shape[0], depth.shape[1]))

    def draw(self, name: str, images: Mapping[str, NDArray[np.uint8]]) -> None:
        """Write a sheet of labeled (H, W, 3) RGB images."""
        write_image(safe_join(self.out, f"drawn/{name}.png"), compose_image_sheet(images)[..., ::-1])

    def finish(self) -> Predictions:
        """Write the final record. Raise StadiaError where no image was added."""
        self._unsynced.close()
        _check_not_empty(self.out, self.names)
        sizes = {"image_size": self.sizes, "network_size": self.network_sizes}
        one_size = {name: next(iter(found)) if len(found) == 1 else None for name, found in sizes.items()}
        self.record.model_copy(update={"entries": tuple(self.names), "finished": True, **one_size}).write(self.out)
        self._held.close()
        return Predictions.open(self.out)


def read_mask_logits(predictions: Predictions, name: str) -> NDArray[np.floating]:
    """Read mask logits (h, w) of an entry."""
    return read_depth_map(predictions.files[name], key=LOGITS_KEY)


def _resize(values: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Resize to (height, width), bilinearly, outer edges on outer edges."""
    if values.shape == size:
        return values
    return np.asarray(cv2.resize(values, size[::-1], interpolation=cv2.INTER_LINEAR))
