"""Keep one scored frame as points for the report: image, depth and camera.

```
FOLDER/camera.json    frame, claim, K of the kept pixels, and the depth of one count of depth.png
FOLDER/image.png      RGB
FOLDER/depth.png      uint16, 0 = none; pixels beyond FAR times the median depth are left out
```
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.files import replacing, write_json
from stadia.core.types import Claim
from stadia.evaluation.depth_files import write_depth_png
from stadia.evaluation.point_cloud import FAR

MOST_PIXELS = 40_000
"""Largest number of pixels, of 5 bytes each in the report. More would hardly add detail."""

_COUNTS = 65535


def write_cloud_sample(
    folder: Path, name: str, claim: Claim, image: NDArray[np.uint8], depth: NDArray[np.floating], K: NDArray[np.float64]
) -> None:
    """Write a frame's points to a folder, which is made.

    Args:
        folder: of the files; those of another frame are overwritten.
        name: of the frame, for people.
        claim: scale of the depth. Inverse depth up to scale and shift has no points.
        image: (h, w, 3) RGB, at the depth's size.
        depth: (h, w) z, positive, in metres or up to scale.
        K: (3, 3) of that size.

    Above MOST_PIXELS only every n-th row and column is kept.
    """
    every = int(np.ceil(np.sqrt(depth.size / MOST_PIXELS)))
    kept, shown = depth[::every, ::every], image[::every, ::every]
    near = kept < FAR * np.median(kept)
    per_count = float(kept[near].max()) / _COUNTS
    of_kept = K.copy()
    of_kept[:2] /= every  # the first pixel kept is the first of all
    folder.mkdir(parents=True, exist_ok=True)
    write_depth_png(folder / "depth.png", np.where(near, kept, 0), 1 / per_count)
    with replacing(folder / "image.png") as temporary:
        if not cv2.imwrite(str(temporary), np.ascontiguousarray(shown[..., ::-1])):
            raise OSError(f"{folder / 'image.png'} could not be written")
    write_json(
        folder / "camera.json",
        {"frame": name, "claim": str(claim), "K": of_kept.tolist(), "depth_per_count": per_count},
    )
