"""Write PNG files and count cores for rendered datasets."""

from __future__ import annotations

import os
from pathlib import Path

from numpy.typing import NDArray

from stadia.core.errors import DataError


def write_png(path: Path, image: NDArray) -> None:
    """Write an image losslessly; three channels are BGR as in OpenCV."""
    import cv2

    done, data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise DataError(path, found=f"{image.dtype} {image.shape}", expected="an image", fix="report this")
    path.write_bytes(data.tobytes())


def cores() -> int:
    """Return how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
