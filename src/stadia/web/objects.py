"""Find the objects of one picture by a run of `objectpose`: masks, boxes and axes, drawn, and a line for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.web.networks import OpenNetwork
from stadia.web.photo import FOV_SOURCES, PhotoCamera

RECIPE = "objectpose"

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


def find_photo_objects(network: OpenNetwork, image: NDArray[np.uint8], camera: PhotoCamera) -> ObjectPhoto:
    """Find the objects of one picture.

    Args:
        network: of `objectpose`.
        image: (H, W, 3) RGB.
        camera: of it.
    """
    from stadia.evaluation.frame_preparation import Frame
    from stadia.objectpose.task import find_objects_in_frame

    frame = Frame("picture", image, camera.make_K(*image.shape[:2]))
    found, classes = find_objects_in_frame(network.recipe, frame), network.recipe.classes
    distances = found.objects.T_camera_object[:, :3, 3].norm(dim=1).tolist()
    lines = []
    for row in np.argsort(distances).tolist():
        size = " x ".join(f"{side:.2g}" for side in found.objects.size_m[row].tolist())
        name, score = classes[int(found.objects.class_id[row])], float(found.objects.score[row])
        lines.append(f"{name}, score {score:.2f}: {distances[row]:.2f} m away, {size} m")
    return ObjectPhoto(found.drawn(classes), lines, network.label, network.licence, camera)
