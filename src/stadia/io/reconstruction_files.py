"""Hold the cameras and poses that another program estimated, and match them to images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
ReadDepth = Callable[[int], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """Cameras and poses of N images, as another program wrote them, with OpenCV's camera axes.

    names: N image names as the file has them; "" for each if the format has no names. Then pose k belongs to the k-th
        image in natural order, or to the image of its time.
    T_camera_world: (N, 4, 4) world-to-camera poses, camera axes x right, y down, z forward.
    K: (N, 3, 3) intrinsics in pixels, pixel centers at integers; NaN if the format has no intrinsics.
    distortion: (N, 4) OpenCV's coefficients k1, k2, p1, p2.
    sizes: (N, 2) width and height of the images that K belongs to, pixels; 0 if unknown.
    times_s: (N,) times in seconds; None if poses have no times.
    depth: function from a row to its depth map (h, w) as written, NaN where invalid; None without depth.
    format: name of the row in `reconstruction_formats.READERS`.
    path: the file or folder.
    notes: sentences for the user about what the reader converted or left out.
    """

    names: tuple[str, ...]
    T_camera_world: Array
    K: Array
    distortion: Array
    sizes: NDArray[np.int64]
    times_s: Array | None = None
    depth: ReadDepth | None = None
    format: str = "transforms"
    path: Path = Path()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.T_camera_world)

    def rows(self, indices: Sequence[int] | NDArray[np.intp]) -> Reconstruction:
        """Return the reconstruction with only the images at these indices (M,), in this order."""
        kept = np.asarray(indices, np.intp)
        read = self.depth
        return replace(
            self,
            names=tuple(self.names[row] for row in kept),
            T_camera_world=self.T_camera_world[kept],
            K=self.K[kept],
            distortion=self.distortion[kept],
            sizes=self.sizes[kept],
            times_s=None if self.times_s is None else self.times_s[kept],
            depth=None if read is None else lambda row: read(int(kept[row])),
        )

    def with_camera(self, K: Array, distortion: Sequence[float], size: tuple[int, int]) -> Reconstruction:
        """Return the reconstruction with one camera for all images.

        K: (3, 3) intrinsics in pixels, pixel centers at integers.
        distortion: OpenCV's coefficients k1, k2, p1, p2.
        size: width and height of the images that K belongs to, pixels.
        """
        count = len(self)
        return replace(
            self,
            K=np.tile(np.asarray(K, np.float64), (count, 1, 1)),
            distortion=np.tile(np.asarray(distortion, np.float64), (count, 1)),
            sizes=np.tile(np.asarray(size, np.int64), (count, 1)),
        )


@dataclass(frozen=True, eq=False)
class ImageMatching:
    """Which pose belongs to which image.

    rows: (M,) rows of the reconstruction.
    images: (M,) index of the image of each row.
    how: "name", "stem", "time", "number" or "order".
    notes: sentences for the user.
    """

    rows: NDArray[np.intp]
    images: NDArray[np.intp]
    how: str
    notes: tuple[str, ...] = ()


def match_images_to_poses(names: Sequence[str], image_names: Sequence[str]) -> ImageMatching:
    """Match poses to images by name, by name without suffix and folders, or by order if poses have no names.

    names: N names of poses, or "" for each.
    image_names: M names of images.

    Raises DataError if fewer than 3 pairs are found.
    """
    raise NotImplementedError
