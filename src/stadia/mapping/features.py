"""Keep the features of key frames, and match them in COLMAP's database."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import StadiaError
from stadia.files.array_files import read_npz
from stadia.files.atomic_files import atomic_write
from stadia.geometry.image_features import FrameFeatures

OVERLAP = 7
"""Key frames that each one is matched with: of 5 to 10, 7 lost no frame of the measured clips."""


def write_features(path: Path, features: FrameFeatures) -> None:
    """Write the features of a frame as .npz."""
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, xy=features.xy, descriptors=features.descriptors, colors=features.colors)


def read_features(path: Path) -> FrameFeatures:
    """Read what `write_features` wrote. Raises DataError for any other file."""
    arrays: dict[str, Any] = read_npz(path, only=("xy", "descriptors", "colors"))
    return FrameFeatures(arrays["xy"], arrays["descriptors"], arrays["colors"])


def import_pycolmap() -> Any:
    """Return the module pycolmap, which prints no log. Raises StadiaError where it is not installed."""
    is_first = "pycolmap" not in sys.modules
    try:
        import pycolmap
    except ImportError as error:
        expected, fix = "the package that matches features and adjusts bundles", "pip install 'stadia[map]'"
        raise StadiaError("stadia map", found="no pycolmap", expected=expected, fix=fix) from error
    pycolmap.logging.minloglevel = 3
    if is_first and threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):  # its handlers print where the program was, and end it
            if (handler := signal.getsignal(number)) is not None:
                signal.signal(number, handler)
    return pycolmap


def match_key_frames(
    database: Path, files: Mapping[int, Path], camera: Any, mask: NDArray[np.bool_] | None, *, threads: int
) -> dict[int, int]:
    """Write features and matches of key frames, in the order of the video, into a new database.

    files: of `write_features`, by the index of each key frame.
    camera: a pycolmap.Camera.
    mask: (h, w), true where nothing of the scene is seen.

    Returns the image id of each key frame.
    """
    pycolmap = import_pycolmap()
    database.unlink(missing_ok=True)
    image_ids: dict[int, int] = {}
    with pycolmap.Database.open(str(database)) as store:
        camera_id = store.write_camera(camera)
        for index, file in sorted(files.items()):
            features = read_features(file)
            if mask is not None:
                features = features.outside(mask)
            image_id = store.write_image(pycolmap.Image(name=f"{index:08d}", camera_id=camera_id))
            rows = np.zeros((len(features.xy), 4), np.float32)
            rows[:, :2], rows[:, 2] = features.xy + 0.5, 1  # COLMAP's first pixel has its center at one half
            store.write_keypoints(image_id, rows)
            descriptors = pycolmap.FeatureDescriptors()
            descriptors.type, descriptors.data = pycolmap.FeatureExtractorType.SIFT, features.descriptors
            store.write_descriptors(image_id, descriptors)
            image_ids[index] = image_id
    matching, pairing = pycolmap.FeatureMatchingOptions(), pycolmap.SequentialPairingOptions()
    matching.use_gpu, matching.num_threads = False, threads
    pairing.overlap, pairing.quadratic_overlap = OVERLAP, False
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = 0
    pycolmap.match_sequential(str(database), matching, pairing, verification)
    return image_ids


def count_features(files: Sequence[Path]) -> int:
    """Return the median number of features of these files."""
    return int(np.median([len(read_features(file).xy) for file in files])) if files else 0
