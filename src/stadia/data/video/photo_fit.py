"""Turn and scale photos of one lens to one size for mapping, and convert positions back to the original photo."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Size = tuple[int, int]

MAX_ROUNDING_PX = 1.0
"""A photo has the camera's aspect ratio if its sides differ by at most this many pixels from the sides of the scaled
camera.
"""


@dataclass(frozen=True, slots=True)
class PhotoFit:
    """How a photo is turned and scaled to the image size of a map's camera.

    height, width: size of the photo.
    turns: number of counterclockwise turns by 90 degrees before scaling, as `numpy.rot90` counts: 0, 1 or -1.
    """

    height: int
    width: int
    turns: int = 0

    @classmethod
    def find(cls, photo: Size, camera: Size) -> "PhotoFit | None":
        """Find how a photo is turned and scaled to the camera's image size; None if its aspect ratio differs.

        A portrait photo is turned counterclockwise for a landscape camera. Phones turn their pictures the other way.

        photo: (height, width) of the photo.
        camera: (height, width) of the camera's images.

        Examples:
            >>> PhotoFit.find((40, 30), (60, 80)), PhotoFit.find((40, 30), (90, 160))
            (PhotoFit(height=40, width=30, turns=1), None)
        """
        height, width = photo
        for shape, turns in (((height, width), 0), ((width, height), 1 if height > width else -1)):
            if abs(shape[0] * camera[1] / camera[0] - shape[1]) <= MAX_ROUNDING_PX * max(1.0, camera[1] / camera[0]):
                return cls(height, width, turns)
        return None

    @property
    def T(self) -> Array:
        """Return T_photo_camera (4, 4): the rotation from the axes of the turned photo to the axes of the original."""
        T = np.eye(4)
        T[:2, :2] = [[0, -self.turns], [self.turns, 0]] if self.turns else np.eye(2)
        return T

    def apply(self, image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
        """Turn and scale a photo, (H, W) or (H, W, 3), to the orientation and image size of the camera.

        height, width: image size of the camera.
        """
        turned = np.ascontiguousarray(np.rot90(image, self.turns)) if self.turns else image
        if turned.shape[:2] == (height, width):
            return turned
        return np.asarray(cv2.resize(turned, (width, height), interpolation=cv2.INTER_AREA), np.uint8)

    def find_scale(self, height: int, width: int) -> tuple[float, float]:
        """Return how many photo pixels one camera pixel covers along the camera's x and y.

        height, width: image size of the camera.
        """
        across, down = (self.height, self.width) if self.turns else (self.width, self.height)
        return across / width, down / height

    def restore_xy(self, xy: Array, height: int, width: int) -> Array:
        """Convert positions in an image of the camera to positions (N, 2) in the original photo.

        In both images the outer corner of the first pixel is (0, 0).

        xy: (N, 2) positions x, y in the camera's image.
        height, width: image size of the camera.
        """
        x, y = (xy * self.find_scale(height, width)).T
        if not self.turns:
            return np.column_stack((x, y))
        return np.column_stack((self.width - y, x) if self.turns > 0 else (y, self.height - x))


@dataclass(frozen=True)
class PhotoFits:
    """Photos grouped by aspect ratio; each group shares one camera.

    sizes: (height, width) of each camera, the one with most photos first.
    cameras: index in `sizes` of the camera of each photo.
    fits: how each photo is turned and scaled to the size of its camera.
    """

    sizes: Sequence[Size]
    cameras: Sequence[int]
    fits: Sequence[PhotoFit]


def fit_photos(sizes: Sequence[Size]) -> PhotoFits:
    """Group photos by aspect ratio, and choose the camera size of each group; its photos are turned and scaled to this
    size.

    In each group the majority of the photos decides about the orientation first, then about the size.

    sizes: (height, width) of each photo.

    Examples:
        >>> found = fit_photos([(30, 40), (40, 30), (60, 80), (60, 80), (90, 160)])
        >>> found.sizes, found.cameras, [fit.turns for fit in found.fits]
        ([(60, 80), (90, 160)], [0, 0, 0, 0, 1], [0, 1, 0, 0, 0])
    """
    counts, chosen, found = Counter(sizes), list[Size](), dict[Size, tuple[int, PhotoFit]]()
    shape = {size: round(12 * max(size) / min(size)) for size in counts}  # twelfths distinguish 4:3, 3:2, 16:9 and 20:9
    of_shape = Counter(shape[size] for size in sizes)
    upright = Counter((shape[size], size[0] > size[1]) for size in sizes)

    def rank(size: Size) -> tuple[int, int, int, int]:
        return of_shape[shape[size]], upright[shape[size], size[0] > size[1]], counts[size], min(size)

    for size in sorted(counts, key=rank, reverse=True):
        fits = ((row, PhotoFit.find(size, camera)) for row, camera in enumerate((*chosen, size)))
        found[size] = next((row, fit) for row, fit in fits if fit is not None)
        if found[size][0] == len(chosen):
            chosen.append(size)
    return PhotoFits(chosen, [found[size][0] for size in sizes], [found[size][1] for size in sizes])
