"""The checks of a recording keep the images that they read, up to a number of bytes."""

from __future__ import annotations

import numpy as np

from stadia.diagnostics.preflight.recording_survey import MAX_KEPT, _keep_latest


def test_images_are_kept_up_to_a_number_and_to_their_bytes() -> None:
    """Six images of 8192x8192 and a stack of them took 2.3 GB."""
    read = list[int]()

    def read_image(index: int) -> np.ndarray:
        read.append(index)
        return np.zeros(100, np.uint8)

    for max_bytes, kept in ((1 << 20, MAX_KEPT), (350, 3), (10, 1)):
        reader = _keep_latest(read_image, max_bytes)
        for index in range(20):
            reader(index)
        read.clear()
        for index in range(19, 19 - kept, -1):
            reader(index)
        assert read == []
        reader(19 - kept)
        assert read == [19 - kept]
