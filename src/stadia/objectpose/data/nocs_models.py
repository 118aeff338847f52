"""Read the models of NOCS: true sizes of objects, and whether the handle of a mug is visible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.files.input_files import name_parser_errors, read_text
from stadia.files.paths import safe_join
from stadia.objectpose.data.object_labels import Points

FOLDER = "obj_models"
"""Folder of the models beside the images, with parts such as real_test and val in it."""

MAX_BYTES = 128 << 20
RIM_SHARE = 0.1  # of a mug's height, from above, where its body is without its handle
MIN_HANDLE_OFFSET = 0.02  # of the box's diagonal, between the middle of the rim and that of the box, with a handle
MIN_BEYOND_BODY = 1.05  # distance from the axis, over the body's radius, from which a point is of the handle
MIN_HANDLE_PX = 4
"""Visible pixels of a handle from which it breaks the symmetry of a mug, as in TableWorld."""


@dataclass(frozen=True)
class NocsModel:
    """A model in normalized coordinates: its box has the diagonal 1, and its middle is the origin.

    extent: (3,) of its box.
    axis_x, radius: x of the axis of a mug's body, and the body's radius.
    handle_side: 1 or -1, the side of the axis where a mug has its handle along x; 0 without one.
    """

    extent: Points
    axis_x: float
    radius: float
    handle_side: int

    @classmethod
    def from_vertices(cls, vertices: Points) -> NocsModel:
        """Return the model of vertices (V, 3), in any unit.

        Examples:
            >>> corners = np.array([[x, y, z] for x in (0, 3) for y in (0, 4) for z in (0, 12)], float)
            >>> NocsModel.from_vertices(corners).extent.round(3).tolist()
            [0.231, 0.308, 0.923]
        """
        low, high = vertices.min(0), vertices.max(0)
        diagonal = float(np.linalg.norm(high - low))
        own = (vertices - (low + high) / 2) / diagonal
        extent = (high - low) / diagonal
        rim = own[own[:, 1] > own[:, 1].max() - RIM_SHARE * extent[1]]
        axis_x = float(rim[:, 0].max() + rim[:, 0].min()) / 2
        side = int(-np.sign(axis_x)) if abs(axis_x) > MIN_HANDLE_OFFSET else 0
        return cls(extent, axis_x, float(np.abs(own[:, 2]).max()), side)

    def shows_handle(self, coordinates: Points) -> bool:
        """Return whether visible points (N, 3), in normalized coordinates about 0, are of the handle of a mug."""
        beyond = self.handle_side * (coordinates[:, 0] - self.axis_x) > MIN_BEYOND_BODY * self.radius
        return bool(self.handle_side) and int(beyond.sum()) >= MIN_HANDLE_PX


def find_models_folder(images: Path) -> Path | None:
    """Return the folder of models in a folder of images or in one of the two above it; None without one."""
    return next((path / FOLDER for path in (images, *images.resolve().parents[:2]) if (path / FOLDER).is_dir()), None)


def read_nocs_model(folder: Path, names: Sequence[str]) -> NocsModel | None:
    """Return the model that a line of _meta.txt names; None where its file is not there.

    names: NAME of REAL, PART/NAME.obj; or SYNSET and NAME of CAMERA, PART/SYNSET/NAME/model.obj.
    """
    inside = Path(f"{names[0]}.obj") if len(names) == 1 else Path(*names, "model.obj")
    for part in sorted(path for path in folder.iterdir() if path.is_dir()):
        path = safe_join(part, str(inside))
        if path.is_file():
            return NocsModel.from_vertices(read_vertices(path))
    return None


def read_vertices(path: Path) -> NDArray[np.float64]:
    """Return the vertices (V, 3) of a Wavefront file, lines "v x y z". Raises DataError without four of them."""
    expected = "a Wavefront file with vertices"
    text = read_text(path, expected=expected, max_bytes=MAX_BYTES)
    lines = [line.split()[1:4] for line in text.splitlines() if line.startswith("v ")]
    with name_parser_errors(path, expected=expected):
        vertices = np.array(lines, np.float64).reshape(len(lines), 3)
    if len(vertices) < 4 or not np.isfinite(vertices).all() or not (np.ptp(vertices, axis=0) > 0).all():
        found = f"{len(vertices)} vertices of a flat or infinite shape"
        raise DataError(path, found=found, expected=expected, fix="copy it again")
    return vertices
