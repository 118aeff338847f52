"""Read one image of a recording at the network's size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.recording import Recording
from stadia.data.resize import resize_image


def resized_frame(recording: Recording, index: int, side: str, height: int, width: int) -> NDArray[np.uint8]:
    """Return (height, width, 3) RGB. Raises DataError where image and camera differ in size: K would be wrong."""
    image, camera = recording.image(index, side), recording.camera(index, side)
    if image.shape[:2] != (camera.height, camera.width):
        raise DataError(
            recording.file(index, side) or f"{recording.name}, frame {index}, {side}",
            found=f"an image of {image.shape[1]}x{image.shape[0]}",
            expected=f"{camera.width}x{camera.height}, the size that its camera is of",
            fix="give the camera of this image (geometry.camera.resized and cropped make it of the other)",
        )
    return resize_image(image, height, width)
