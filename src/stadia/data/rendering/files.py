"""What every rendered data set needs to write itself."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
from numpy.typing import NDArray

from stadia.core.errors import DataError


def write_png(path: Path, image: NDArray) -> None:
    """Without loss; three channels are BGR, as OpenCV has them."""
    done, data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise DataError(path, found=f"{image.dtype} {image.shape}", expected="an image", fix="report this")
    path.write_bytes(data.tobytes())


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
