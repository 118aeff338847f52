"""Pictures of the recipes `objectpose` and `overlay`: objects, drawn and listed; depth and mask of a composite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.evaluation.frame_preparation import Frame
from stadia.predict.network import Network
from stadia.predict.tasks import find_task
from stadia.web.photo import FOV_SOURCES, PhotoCamera, PhotoPrediction, predict_photo

if TYPE_CHECKING:
    from torch import Tensor

    from stadia.core.types import Camera, DepthScale

OBJECTS, OVERLAY = "objectpose", "overlay"
"""Recipes with their own kind of prediction, which `stadia.predict.TASKS` finds."""

TRUST = (
    "Poses are in metres for the given field of view. A wrong one scales every distance. Images unlike those of the"
    " training give wrong objects, and no check detects that."
)


@dataclass(frozen=True)
class ObjectPhoto:
    """The objects of one picture.

    drawn: (H, W, 3) RGB, with masks, boxes and axes.
    lines: one for each object, nearest first.
    network: its label.  licence: of its weights, "" where none is known.
    camera: that was used.
    """

    drawn: NDArray[np.uint8]
    lines: Sequence[str]
    network: str
    licence: str
    camera: PhotoCamera

    def describe(self) -> dict[str, Any]:
        """Return what the page shows, as JSON."""
        height, width = self.drawn.shape[:2]
        return {
            "kind": "objects",
            "width": width,
            "height": height,
            "network": self.network,
            "licence": self.licence,
            "depth_scale": "metres",
            "has_depth": False,
            "fov_deg": round(self.camera.fov_deg, 1),
            "fov_source": self.camera.source,
            "fov_from": FOV_SOURCES[self.camera.source],
            "verdict": "not judged",
            "verdict_lines": list(self.lines) or ["no object was found"],
            "trust": TRUST,
            "receipt": [],
            "files": [],
        }


def find_photo_objects(network: Network, image: NDArray[np.uint8], camera: PhotoCamera) -> ObjectPhoto:
    """Find the objects of one picture.

    Args:
        network: of `objectpose`.
        image: (H, W, 3) RGB.
        camera: of it.
    """
    task: Any = find_task(network.loaded)
    found = task.find_objects(Frame("picture", image, camera.make_K(*image.shape[:2])))
    objects, classes = found.objects, task.recipe.classes
    distances_m = objects.T_camera_object[:, :3, 3].norm(dim=1).tolist()
    lines = []
    for row in np.argsort(distances_m).tolist():
        size = " x ".join(f"{side:.2g}" for side in objects.size_m[row].tolist())
        name, score = classes[int(objects.class_id[row])], float(objects.score[row])
        lines.append(f"{name}, score {score:.2f}: {distances_m[row]:.2f} m away, {size} m")
    return ObjectPhoto(found.drawn(classes), lines, network.loaded.label, network.licence, camera)


class PairPredictor:
    """Depth (h, w) of one picture and its background, as a `Predictor` of that picture."""

    crop = "none"

    def __init__(self, depth_scale: DepthScale, depth: NDArray[np.float32]) -> None:
        self.depth_scale, self.depth = depth_scale, depth
        self.height, self.width = depth.shape

    def inverse_depth(self, image: Tensor, camera: Camera) -> Tensor:
        """Return 1 / depth (1, 1, h, w)."""
        import torch

        return torch.from_numpy(1 / self.depth)[None, None]

    def T_next_now(self, now: Tensor, camera: Camera, following: Tensor, next_camera: Camera) -> Tensor | None:
        """Return None: a pair has no motion."""


def predict_composite(
    network: Network,
    image: NDArray[np.uint8],
    background: NDArray[np.uint8],
    camera: PhotoCamera,
    scale_from: Sequence[str] = (),
) -> PhotoPrediction:
    """Predict depth and mask of a composite picture.

    Args:
        network: of `overlay`.
        image, background: (H, W, 3) RGB, of one camera that did not move.
        camera: of both.
        scale_from: known lengths that set the scale.

    Raises DataError for a background of another size.
    """
    if image.shape != background.shape:
        found, expected = (f"{shape[1]}x{shape[0]} pixels" for shape in (background.shape, image.shape))
        fix = "give the picture that the same camera took without the object"
        raise DataError("the background", found=found, expected=expected, fix=fix)
    task: Any = find_task(network.loaded)
    depth, logits = task.predict_pair(background, image)
    height, width = image.shape[:2]
    mask = np.asarray(cv2.resize(logits, (width, height), interpolation=cv2.INTER_LINEAR) > 0)
    predictor = PairPredictor(task.recipe.depth_scale, depth)
    return predict_photo(network, image, camera, scale_from, predictor=predictor, mask=mask)
